//! `just bench`: our node and a tsnet server in the same run, through the same real tailscaled client.
//!
//! Prints the tables of `docs/benchmarks.md`. What counts is the server's CPU per unit of work beside tsnet's: wall-clock
//! figures share two cores with the client and the load generator. Give names of sections to run only those.

mod netmap;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use countersign_interop_tests::{
    Error, Host, Lab, PingKind, Result, Server, ServerOptions, StreamKind, StreamServer, Usage,
};
use serde_json::json;

const KINDS: [StreamKind; 2] = [StreamKind::Tsnet, StreamKind::Ours];
const MIB: u64 = 1 << 20;

/// A section of the report: its name on the command line and what it does.
type Section = (&'static str, fn(&Bench) -> Result);

const SECTIONS: [Section; 7] = [
    ("bulk", bulk),
    ("relay", relay),
    ("small", small),
    ("fresh", fresh),
    ("restart", restart),
    ("register", register),
    ("netmap", netmap::netmap),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !SECTIONS.iter().any(|(known, _)| known == name))
    {
        eprintln!(
            "bench: no section {unknown}; there are: {}",
            SECTIONS.map(|(name, _)| name).join(" ")
        );
        return ExitCode::from(2);
    }
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The lab and one machine for each of the two servers.
struct Bench {
    lab: Lab,
    hosts: [Host; 2],
}

fn run(wanted: &[String]) -> Result {
    let lab = Lab::start()?;
    lab.headscale.set_policy(&Lab::open_policy())?;
    let hosts = [lab.host("bench-tsnet")?, lab.host("bench-ours")?];
    let bench = Bench { lab, hosts };
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|given| given == name) {
            section(&bench)?;
        }
    }
    Ok(())
}

impl Bench {
    fn server(&self, kind: StreamKind) -> Result<StreamServer<'_>> {
        let server = StreamServer::start(&self.lab, self.host(kind), kind)?;
        self.lab.alice.await_peer(kind.label(), true)?;
        self.lab.bob.await_peer(kind.label(), true)?;
        Ok(server)
    }

    fn host(&self, kind: StreamKind) -> &Host {
        &self.hosts[KINDS.iter().position(|known| *known == kind).unwrap_or_default()]
    }
}

/// Bulk in both directions, one and eight streams, on the direct path.
fn bulk(bench: &Bench) -> Result {
    heading("Bulk through a real tailscaled, direct path");
    println!("| | Gbit/s | server CPU-s/GB | client CPU-s/GB | server RSS, MiB |\n|---|---|---|---|---|");
    for (name, up, streams) in [
        ("1 down", false, 1),
        ("8 down", false, 8),
        ("1 up", true, 1),
        ("8 up", true, 8),
    ] {
        for kind in KINDS {
            let server = bench.server(kind)?;
            bench
                .lab
                .alice
                .await_path(kind.label(), true, Duration::from_secs(15))?;
            transfer(bench, &server, up, streams, 32 * MIB)?;
            let mut rounds = Vec::new();
            for _ in 0..3 {
                rounds.push(transfer(bench, &server, up, streams, 768 * MIB)?);
            }
            let peak = server.process().usage()?.peak_rss_mib;
            print_transfer(&format!("{name}, {}", kind.label()), &rounds, peak);
        }
    }
    Ok(())
}

/// The same through Headscale's DERP.
fn relay(bench: &Bench) -> Result {
    heading("Bulk through Headscale's DERP (UDP blocked), one stream");
    println!("| | Gbit/s | server CPU-s/GB | client CPU-s/GB | server RSS, MiB |\n|---|---|---|---|---|");
    for (name, up) in [("down", false), ("up", true)] {
        for kind in KINDS {
            bench.lab.alice.host().block_udp(bench.host(kind))?;
            let measured = (|| {
                let server = bench.server(kind)?;
                bench
                    .lab
                    .alice
                    .await_path(kind.label(), false, Duration::from_secs(30))?;
                let rounds = [(); 2].map(|()| transfer(bench, &server, up, 1, 64 * MIB));
                let rounds = rounds.into_iter().collect::<Result<Vec<_>>>()?;
                Ok((rounds, server.process().usage()?.peak_rss_mib))
            })();
            bench.lab.alice.host().unblock_udp()?;
            let (rounds, peak) = measured?;
            print_transfer(&format!("{name}, {}", kind.label()), &rounds, peak);
        }
    }
    Ok(())
}

/// Small requests, kept-alive and with a connection each.
fn small(bench: &Bench) -> Result {
    heading("Small requests: `GET /hello` by wrk for 8 s");
    println!("| connections | node | req/s | p50 | p99 | server CPU per request, us |\n|---|---|---|---|---|---|");
    for (connections, close) in [(1, false), (16, false), (256, false), (16, true)] {
        for kind in KINDS {
            let server = bench.server(kind)?;
            bench
                .lab
                .alice
                .await_path(kind.label(), true, Duration::from_secs(15))?;
            bench.lab.alice.curl(&server.url("/hello")).send()?;
            let before = server.process().usage()?;
            let load = wrk(
                bench.lab.alice.host(),
                &server.url("/hello"),
                connections,
                8,
                close,
                None,
            )?;
            let cpu = server.process().usage()?.cpu_seconds - before.cpu_seconds;
            let name = if close {
                format!("{connections}, new one per request")
            } else {
                connections.to_string()
            };
            println!(
                "| {name} | {} | {:.0} | {} | {} | {:.0} |",
                kind.label(),
                load.requests as f64 / load.seconds,
                load.p50,
                load.p99,
                cpu / load.requests as f64 * 1e6,
            );
        }
    }
    Ok(())
}

/// From exec to listening for a new node on Headscale, which batches changes.
fn fresh(bench: &Bench) -> Result {
    heading("Start of a new node on Headscale, 3 rounds");
    println!("| | ready after, ms | RSS when ready, MiB | CPU until ready, s |\n|---|---|---|---|");
    for kind in KINDS {
        let (mut ready, mut usage) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let server = StreamServer::start(&bench.lab, bench.host(kind), kind)?;
            ready.push(server.ready_after());
            usage.push(server.process().usage()?);
        }
        print_start(kind, &ready, &usage, None);
    }
    Ok(())
}

/// Killed, restarted, and how long alice waits for the first answer.
fn restart(bench: &Bench) -> Result {
    heading("kill -9 and restart on Headscale, 10 rounds");
    println!(
        "| | ready after, ms | RSS when ready, MiB | CPU until ready, s | first request, ms |\n|---|---|---|---|---|"
    );
    for kind in KINDS {
        let mut server = bench.server(kind)?;
        bench
            .lab
            .alice
            .await_path(kind.label(), true, Duration::from_secs(15))?;
        bench.lab.alice.curl(&server.url("/hello")).send()?;
        let (mut ready, mut usage, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10 {
            server.kill_and_restart()?;
            ready.push(server.ready_after());
            usage.push(server.process().usage()?);
            let answer = bench.lab.alice.curl(&server.url("/hello")).send()?;
            if answer.status != 200 {
                return Err(Error::Unexpected {
                    what: "the first answer".to_owned(),
                    found: format!("{answer:?}"),
                });
            }
            answers.push(answer.time);
        }
        print_start(kind, &ready, &usage, Some(&answers));
    }
    Ok(())
}

/// Registrations over TLS, 16 connections, by the number of clients already stored.
fn register(bench: &Bench) -> Result {
    heading("Registration (TLS, 16 connections, durable)");
    println!("| clients stored | registrations/s | server CPU each, ms | RSS, MiB |\n|---|---|---|---|");
    let script = bench.lab.dir().join("register.lua");
    let body = json!({ "client_name": "bench", "redirect_uris": ["http://127.0.0.1:8976/callback"] });
    let lua = format!("wrk.method = 'POST'\nwrk.headers['content-type'] = 'application/json'\nwrk.body = [[{body}]]\n");
    std::fs::write(&script, lua).map_err(|source| Error::Io {
        what: "writing register.lua".to_owned(),
        source,
    })?;
    let flags = ["--dcr-max-clients-per-user", "0", "--rate-limit-per-peer", "0"]
        .map(str::to_owned)
        .to_vec();
    let options = ServerOptions {
        registration: "network",
        flags,
        ..ServerOptions::default()
    };
    let server = Server::start(&bench.lab, options)?;
    server.await_client(&bench.lab.alice)?;
    bench.lab.alice.ping("idp", PingKind::Disco, Duration::from_secs(10))?;
    let url = format!("{}/register", server.url());
    let mut stored = 0;
    for _ in 0..4 {
        let before = server.process().usage()?;
        let script = script.display().to_string();
        let load = wrk(bench.lab.alice.host(), &url, 16, 2, false, Some(&script))?;
        let after = server.process().usage()?;
        let each = (after.cpu_seconds - before.cpu_seconds) / load.requests.max(1) as f64 * 1e3;
        println!(
            "| {stored} | {:.0} | {each:.3} | {:.0} |",
            load.requests as f64 / load.seconds,
            after.rss_mib
        );
        if load.failed > 0 || load.requests == 0 {
            let found = format!("{} of {} failed\n{}", load.failed, load.requests, server.recent_log());
            return Err(Error::Unexpected {
                what: "registrations".to_owned(),
                found,
            });
        }
        stored += load.requests;
    }
    Ok(())
}

/// One bulk transfer of `streams` times `bytes` each.
struct Transfer {
    seconds: f64,
    gigabytes: f64,
    server: f64,
    client: f64,
}

fn transfer(bench: &Bench, server: &StreamServer, up: bool, streams: u64, bytes: u64) -> Result<Transfer> {
    let each = bytes / streams;
    let alice = bench.lab.alice.host();
    let file = bench.lab.dir().join("zeros");
    let sized = std::fs::File::create(&file).and_then(|file| file.set_len(each));
    sized.map_err(|source| Error::Io {
        what: format!("making {file:?}"),
        source,
    })?;
    let cpu = || {
        Ok((
            server.process().usage()?.cpu_seconds,
            bench.lab.alice.process().usage()?.cpu_seconds,
        ))
    };
    let before: (f64, f64) = cpu()?;
    let begun = Instant::now();
    let mut curls = Vec::new();
    for _ in 0..streams {
        let mut curl = quiet_curl(alice);
        if up {
            curl.arg("--upload-file").arg(&file).arg(server.url("/upload"));
        } else {
            curl.arg(server.url(&format!("/stream?n={each}")));
        }
        let started = curl.stdin(Stdio::null()).spawn();
        curls.push(started.map_err(|source| Error::Io {
            what: "starting curl".to_owned(),
            source,
        })?);
    }
    for mut curl in curls {
        let status = curl.wait().map_err(|source| Error::Io {
            what: "waiting for curl".to_owned(),
            source,
        })?;
        if !status.success() {
            return Err(Error::Unexpected {
                what: "a bulk transfer".to_owned(),
                found: status.to_string(),
            });
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = cpu()?;
    Ok(Transfer {
        seconds,
        gigabytes: (each * streams) as f64 / 1e9,
        server: after.0 - before.0,
        client: after.1 - before.1,
    })
}

fn quiet_curl(host: &Host) -> Command {
    let mut curl = host.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "120",
        "--output",
        "/dev/null",
    ]);
    curl
}

fn print_transfer(name: &str, rounds: &[Transfer], peak_rss_mib: f64) {
    let middle = |figure: fn(&Transfer) -> f64| median(rounds.iter().map(figure));
    println!(
        "| {name} | {:.2} | {:.2} | {:.2} | {peak_rss_mib:.0} |",
        middle(|round| round.gigabytes * 8.0 / round.seconds),
        middle(|round| round.server / round.gigabytes),
        middle(|round| round.client / round.gigabytes),
    );
}

fn print_start(kind: StreamKind, ready: &[Duration], usage: &[Usage], answers: Option<&[Duration]>) {
    let spread = |durations: &[Duration]| {
        let millis: Vec<f64> = durations.iter().map(|duration| duration.as_secs_f64() * 1e3).collect();
        let worst = millis.iter().copied().fold(0.0, f64::max);
        format!("{:.0} (worst {worst:.0})", median(millis.iter().copied()))
    };
    print!(
        "| {} | {} | {:.0} | {:.2} |",
        kind.label(),
        spread(ready),
        median(usage.iter().map(|usage| usage.rss_mib)),
        median(usage.iter().map(|usage| usage.cpu_seconds)),
    );
    match answers {
        Some(answers) => println!(" {} |", spread(answers)),
        None => println!(),
    }
}

/// What wrk reports.
struct Load {
    requests: u64,
    failed: u64,
    seconds: f64,
    p50: String,
    p99: String,
}

fn wrk(host: &Host, url: &str, connections: u32, seconds: u32, close: bool, script: Option<&str>) -> Result<Load> {
    let (connections, duration) = (connections.to_string(), format!("{seconds}s"));
    let mut args = vec![
        "--threads",
        "1",
        "--connections",
        &connections,
        "--duration",
        &duration,
        "--latency",
    ];
    if close {
        args.extend(["--header", "connection: close"]);
    }
    if let Some(script) = script {
        args.extend(["--script", script]);
    }
    args.push(url);
    let said = host.run("wrk", &args)?;
    let word = |marker: &str, place: usize| {
        let line = said.lines().find(|line| line.contains(marker))?;
        line.split_whitespace().nth(place).map(str::to_owned)
    };
    // "    50%  326.00us"; the column of deviations has percentages as well.
    let quantile = |share: &str| {
        let mut words = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = words.find(|words| words.first() == Some(&share) && words.len() == 2)?;
        line.get(1).map(|&time| time.to_owned())
    };
    let requests = word("requests in", 0)
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    // "Non-2xx or 3xx responses: 12"
    let failed = word("Non-2xx", 4)
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    Ok(Load {
        requests,
        failed,
        seconds: seconds.into(),
        p50: quantile("50%").unwrap_or_default(),
        p99: quantile("99%").unwrap_or_default(),
    })
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn heading(text: &str) {
    println!("\n### {text}\n");
}
