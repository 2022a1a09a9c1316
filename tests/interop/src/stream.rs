//! The two stream servers that are measured against each other: `examples/stream` and the same on Tailscale's tsnet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::peer;
use crate::server::program;
use crate::{Error, Host, Lab, Process, Result};

/// How often the log is looked at for the word that the server listens: fine enough to time a start of 200 ms.
const GLANCE: Duration = Duration::from_millis(2);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `examples/stream` on `tailnet-node`.
    Ours,
    /// `go/tsnet-stream` on tsnet.
    Tsnet,
}

/// A running stream server: `/hello`, `/stream?n=BYTES` and `PUT /upload` on port 80 of its tailnet addresses.
#[derive(Debug)]
pub struct StreamServer<'a> {
    lab: &'a Lab,
    host: &'a Host,
    kind: StreamKind,
    key: PathBuf,
    process: Process,
    ready_after: Duration,
}

impl StreamKind {
    /// The MagicDNS label of its node.
    pub fn label(self) -> &'static str {
        match self {
            StreamKind::Ours => "ours",
            StreamKind::Tsnet => "tsnet",
        }
    }

    fn program(self) -> Result<PathBuf> {
        match self {
            StreamKind::Ours => program("countersign-example-stream"),
            StreamKind::Tsnet => peer("tsnet-stream"),
        }
    }

    /// What its log says once it listens.
    fn ready_word(self) -> &'static str {
        match self {
            StreamKind::Ours => "ready ",
            StreamKind::Tsnet => "ready_after_ms=",
        }
    }
}

impl<'a> StreamServer<'a> {
    /// Starts it on `host` as a new `tag:bench` node and waits until it listens.
    pub fn start(lab: &'a Lab, host: &'a Host, kind: StreamKind) -> Result<StreamServer<'a>> {
        for old in lab
            .headscale
            .nodes()?
            .iter()
            .filter(|node| node.name.starts_with(kind.label()))
        {
            lab.headscale.delete(old)?;
        }
        let state = state_of(host);
        if state.exists() {
            std::fs::remove_dir_all(&state).map_err(Error::io(format!("removing {state:?}")))?;
        }
        let key = lab.key_file(kind.label(), &lab.headscale.tagged_key("tag:bench")?)?;
        let (process, ready_after) = launch(lab, host, kind, &key)?;
        Ok(StreamServer {
            lab,
            host,
            kind,
            key,
            process,
            ready_after,
        })
    }

    /// Kills it (SIGKILL), starts it again on the same state and waits until it listens.
    pub fn kill_and_restart(&mut self) -> Result {
        self.process.kill()?;
        (self.process, self.ready_after) = launch(self.lab, self.host, self.kind, &self.key)?;
        Ok(())
    }

    /// From exec to listening on the tailnet, as seen from outside.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A URL on it, by MagicDNS name.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.lab.headscale.fqdn(self.kind.label()))
    }
}

/// What a stream server needs to be told to join.
#[derive(Debug)]
pub struct JoinTo<'a> {
    /// The control server.
    pub control_url: &'a str,
    /// The root that control and DERP are to be verified with.
    pub ca: &'a Path,
    /// The file of a pre-auth key with the tag `tag:bench`.
    pub key: &'a Path,
    /// The folder for state.
    pub state: &'a Path,
}

impl StreamKind {
    /// The command that joins and serves; `wrap` makes a command of a program, e.g. on another host.
    pub fn command(self, join: &JoinTo, wrap: impl Fn(&Path) -> Command) -> Result<Command> {
        let mut command = wrap(&self.program()?);
        command
            .args(["--control-url", join.control_url, "--hostname", self.label()])
            .arg("--auth-key-file")
            .arg(join.key)
            .arg("--state-dir")
            .arg(join.state);
        match self {
            StreamKind::Ours => command.args(["--tags", "tag:bench", "--extra-ca-file"]).arg(join.ca),
            StreamKind::Tsnet => command
                .env("SSL_CERT_FILE", join.ca)
                .env("TS_NO_LOGS_NO_SUPPORT", "true"),
        };
        Ok(command)
    }

    /// Starts `command`, logging to `log`, and waits until it listens; says how long that took from exec.
    pub fn launch(self, command: Command, log: &Path) -> Result<(Process, Duration)> {
        let words = || {
            let text = std::fs::read(log).unwrap_or_default();
            String::from_utf8_lossy(&text).matches(self.ready_word()).count()
        };
        let before = words();
        let begun = Instant::now();
        let mut process = Process::spawn(self.label(), command, log)?;
        while words() == before {
            if !process.is_running() {
                return Err(process.ended());
            }
            if begun.elapsed() > PATIENCE {
                let what = format!("{} listens", self.label());
                return Err(Error::Timeout {
                    what,
                    seconds: PATIENCE.as_secs_f32(),
                    last: process.log(),
                });
            }
            std::thread::sleep(GLANCE);
        }
        Ok((process, begun.elapsed()))
    }
}

fn launch(lab: &Lab, host: &Host, kind: StreamKind, key: &Path) -> Result<(Process, Duration)> {
    let (url, ca, state) = (lab.headscale.url(), lab.authority.root(), state_of(host));
    let join = JoinTo {
        control_url: &url,
        ca: &ca,
        key,
        state: &state,
    };
    let mut command = kind.command(&join, |program| host.command(program))?;
    command.args(["--udp-port", "41641"]);
    kind.launch(command, &host.dir().join(format!("{}.log", kind.label())))
}

fn state_of(host: &Host) -> PathBuf {
    host.dir().join("state")
}
