//! A start on a control server without delays, among no, a thousand and ten thousand other nodes.

use std::path::Path;
use std::process::Command;

use countersign_interop_tests::{Error, JoinTo, Result, StreamKind};
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};

use crate::{Bench, KINDS, heading};

/// Who sees whom is left open; the tag needs an owner.
const POLICY: &str = r#"{
    "tagOwners": { "tag:bench": ["alice@example.com"] },
    "grants": [{ "src": ["*"], "dst": ["*"], "ip": ["*"] }]
}"#;

/// From exec to listening, memory and CPU by the size of the netmap, on the in-process tailnet.
pub(crate) fn netmap(bench: &Bench) -> Result {
    heading("Start on the demo tailnet (control without delays), by the number of other nodes; best of 3");
    println!("| nodes | | ready after, ms | RSS, MiB | CPU until ready, s | restart, ms |\n|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Runtime::new().map_err(io("starting tokio"))?;
    for peers in [0, 1_000, 10_000] {
        let config = TailnetConfig {
            policy: Some(POLICY.to_owned()),
            ..TailnetConfig::default()
        };
        let tailnet = runtime
            .block_on(Tailnet::start(config))
            .map_err(|e| unexpected("the test tailnet", &e))?;
        if peers > 0 {
            tailnet
                .add_fake_peers("alice@example.com", peers)
                .map_err(|e| unexpected("fake peers", &e))?;
        }
        for kind in KINDS {
            let dir = bench.lab.dir().join(format!("netmap-{peers}-{}", kind.label()));
            std::fs::create_dir_all(&dir).map_err(io("making a folder"))?;
            let (ca, key) = (dir.join("ca.pem"), dir.join("key"));
            tailnet.write_ca(&ca).map_err(io("writing the root"))?;
            let mut best: Option<Figures> = None;
            for round in 0..3 {
                let spec = AuthKeySpec::tags(&["tag:bench"]);
                let text = tailnet.auth_key(spec).map_err(|e| unexpected("an auth key", &e))?;
                std::fs::write(&key, text).map_err(io("writing a key"))?;
                let join = JoinTo {
                    control_url: tailnet.control_url(),
                    ca: &ca,
                    key: &key,
                    state: &dir.join(format!("state-{round}")),
                };
                let figures = start_twice(kind, &join, &dir.join("log"))?;
                if best.is_none_or(|best| figures.0 < best.0) {
                    best = Some(figures);
                }
            }
            if let Some((ready, rss, cpu, restarted)) = best {
                println!(
                    "| {peers} | {} | {ready:.0} | {rss:.0} | {cpu:.2} | {restarted:.0} |",
                    kind.label()
                );
            }
        }
        runtime.block_on(tailnet.shutdown());
    }
    Ok(())
}

/// Milliseconds to listening, MiB, CPU seconds, and milliseconds of a restart.
type Figures = (f64, f64, f64, f64);

/// A first start and a restart with the same state.
fn start_twice(kind: StreamKind, join: &JoinTo<'_>, log: &Path) -> Result<Figures> {
    let start = || {
        let command = kind.command(join, |program: &Path| Command::new(program))?;
        kind.launch(command, log)
    };
    let (process, ready) = start()?;
    let usage = process.usage()?;
    drop(process);
    let (_again, restarted) = start()?;
    Ok((
        ready.as_secs_f64() * 1e3,
        usage.peak_rss_mib,
        usage.cpu_seconds,
        restarted.as_secs_f64() * 1e3,
    ))
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io {
        what: what.to_owned(),
        source,
    }
}

fn unexpected(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Unexpected {
        what: what.to_owned(),
        found: error.to_string(),
    }
}
