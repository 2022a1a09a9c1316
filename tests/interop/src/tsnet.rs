//! Tailscale's tsnet in the role of our server: the rival of `examples/stream`, and the proof that the lab itself works.

use std::time::Duration;

use crate::lab::peer;
use crate::{Host, Lab, Process, Result, until};

/// A running `tsnet-stream` (see `go/tsnet-stream`), on port 80 of its tailnet addresses.
#[derive(Debug)]
pub struct TsnetStream {
    /// The process.
    pub process: Process,
    /// Milliseconds from its start to listening, as it measured them.
    pub ready_after_ms: u64,
}

impl TsnetStream {
    /// Starts it on `host` as a `tag:bench` node called `hostname`, with its state in the host's folder, and waits for it.
    pub fn start(lab: &Lab, host: &Host, hostname: &str) -> Result<TsnetStream> {
        let key = lab.key_file(hostname, &lab.headscale.tagged_key("tag:bench")?)?;
        let mut command = host.command(peer("tsnet-stream")?);
        command
            .env("SSL_CERT_FILE", lab.authority.root())
            .env("TS_NO_LOGS_NO_SUPPORT", "true")
            .args([
                "--control-url",
                &lab.headscale.url(),
                "--hostname",
                hostname,
                "--udp-port",
                "41641",
            ])
            .arg("--auth-key-file")
            .arg(&key)
            .arg("--state-dir")
            .arg(host.dir().join("state"));
        let log_before = ready_lines(&host.dir().join(format!("{hostname}.log"))).len();
        let mut process = host.spawn(hostname, command)?;
        let (ready_after_ms, _) = until("tsnet-stream listens", Duration::from_secs(30), || {
            if !process.is_running() {
                return Err(process.ended());
            }
            let lines = ready_lines(&host.dir().join(format!("{hostname}.log")));
            Ok(lines.get(log_before).copied().ok_or_else(|| "not ready".to_owned()))
        })?;
        Ok(TsnetStream {
            process,
            ready_after_ms,
        })
    }
}

fn ready_lines(log: &std::path::Path) -> Vec<u64> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    text.lines()
        .filter_map(|line| line.strip_prefix("ready_after_ms=")?.parse().ok())
        .collect()
}
