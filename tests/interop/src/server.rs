//! Our own server under test: `countersign serve` on the lab's `idp` machine, logging to a real journald.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_store::{OpenOptions, Store};
use serde_json::Value;
use tailnet_node::state::State;

use crate::lab::target_dir;
use crate::{Client, Error, Host, Lab, Process, Result, process, skewed, until};

/// Until a node is up on Headscale, which batches changes.
const START_LIMIT: &str = "30";

/// How to start it.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// `--registration`.
    pub registration: &'static str,
    /// `--hostname`, also the MagicDNS label.
    pub hostname: &'static str,
    /// More flags.
    pub flags: Vec<String>,
    /// How far its clock is ahead of the true time.
    pub ahead: Duration,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            registration: "capability",
            hostname: "idp",
            flags: Vec::new(),
            ahead: Duration::ZERO,
        }
    }
}

/// A running server with its state folder.
#[derive(Debug)]
pub struct Server<'a> {
    lab: &'a Lab,
    options: ServerOptions,
    key: PathBuf,
    state: PathBuf,
    process: Process,
}

impl<'a> Server<'a> {
    /// Starts a server that never ran before, once its predecessors of the same name are gone from Headscale, and waits
    /// until it is ready.
    pub fn start(lab: &'a Lab, options: ServerOptions) -> Result<Server<'a>> {
        Server::start_with_key(lab, options, &lab.headscale.tagged_key("tag:internal-idp")?)
    }

    /// [`Server::start`] with this pre-auth key.
    pub fn start_with_key(lab: &'a Lab, options: ServerOptions, key: &str) -> Result<Server<'a>> {
        for old in lab
            .headscale
            .nodes()?
            .iter()
            .filter(|node| node.name.starts_with(options.hostname))
        {
            lab.headscale.delete(old)?;
        }
        let state = lab.idp.dir().join("state");
        if state.exists() {
            std::fs::remove_dir_all(&state).map_err(Error::io(format!("removing {state:?}")))?;
        }
        let key = lab.key_file("idp", key)?;
        let process = launch(lab, &options, &key, &state)?;
        let server = Server {
            lab,
            options,
            key,
            state,
            process,
        };
        server.await_ready()?;
        Ok(server)
    }

    /// Starts a server with this key, which cannot go on, and returns its exit code and what it said. It gets 30 s to end.
    pub fn refused(lab: &Lab, key: &str, flags: &[&str]) -> Result<(Option<i32>, String)> {
        let state = lab.idp.dir().join("refused-state");
        let _ = std::fs::remove_dir_all(&state);
        let key = lab.key_file("refused", key)?;
        let mut command = lab.idp.command(program("countersign")?);
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(&state)
            .arg("--auth-key-file")
            .arg(key)
            .arg("--extra-ca-file")
            .arg(lab.authority.root())
            .args(["--control-url", &lab.headscale.url()])
            .args(flags);
        let log = lab.idp.dir().join("refused.log");
        let _ = std::fs::remove_file(&log);
        let mut process = Process::spawn("countersign", command, &log)?;
        let code = process.wait(Duration::from_secs(30))?;
        Ok((code, process.log()))
    }

    /// Kills it (SIGKILL) and starts it again on the same state; does not wait until it is ready.
    pub fn kill_and_restart(&mut self) -> Result {
        self.process.kill()?;
        self.process = launch(self.lab, &self.options, &self.key, &self.state)?;
        Ok(())
    }

    /// Stops it and starts it again on the same state, its clock `ahead` of the true time; waits until it is ready.
    pub fn restart_ahead(&mut self, ahead: Duration) -> Result {
        self.process.terminate(Duration::from_secs(30))?;
        self.options.ahead = ahead;
        self.process = launch(self.lab, &self.options, &self.key, &self.state)?;
        self.await_ready()
    }

    /// How far its clock is ahead of the true time.
    pub(crate) fn ahead(&self) -> Duration {
        self.options.ahead
    }

    /// `status --wait`: until it is on the tailnet and listening.
    pub fn await_ready(&self) -> Result {
        let output = process::output(self.command("status")?.args(["--wait", START_LIMIT]))?;
        match output.status.code() {
            Some(0) => Ok(()),
            code => {
                let _ = self.lab.journal.keep(&self.lab.idp);
                Err(Error::Timeout {
                    what: format!("the server is ready (status exits {code:?})"),
                    seconds: 30.0,
                    last: format!(
                        "{}{}\n{}",
                        String::from_utf8_lossy(&output.stdout),
                        String::from_utf8_lossy(&output.stderr),
                        self.recent_log()
                    ),
                })
            }
        }
    }

    /// `status --json`.
    pub fn status(&self) -> Result<Value> {
        let said = process::run(self.command("status")?.arg("--json"))?;
        serde_json::from_str(&said).map_err(|_| Error::unexpected("countersign status", said))
    }

    /// The peer with the MagicDNS label `label` as the server's status shows it; null when it has no such peer.
    pub fn peer(&self, label: &str) -> Result<Value> {
        let status = self.status()?;
        let peers = status["peers"].as_array().into_iter().flatten();
        let named = |peer: &&Value| {
            peer["name"]
                .as_str()
                .is_some_and(|name| name.split('.').next() == Some(label))
        };
        Ok(peers.into_iter().find(named).cloned().unwrap_or_default())
    }

    /// Waits until this server and `client` have each other in their netmaps: this server, none that had its name before.
    ///
    /// Control tells the two at different times, and a handshake that comes before its receiver knows the sender is
    /// dropped and repeated only after 5 s: a test that asks right after a change waits for both first.
    pub fn await_client(&self, client: &Client) -> Result {
        let node = self.lab.headscale.node(self.options.hostname)?;
        client.await_node(&node.ok_or_else(|| Error::unexpected("Headscale", "it does not know the server"))?)?;
        let label = client.host().name();
        let what = format!("{} sees {label}", self.options.hostname);
        let look = || {
            Ok(match self.peer(label)? {
                Value::Null => Err("no such peer".to_owned()),
                _ => Ok(()),
            })
        };
        until(&what, Duration::from_secs(10), look).map(|_| ())
    }

    /// A counter of `status --json`; one that nothing has counted yet is 0.
    pub fn counter(&self, name: &str) -> Result<u64> {
        Ok(self.status()?["counters"][name].as_u64().unwrap_or_default())
    }

    /// Waits until `condition` holds for the server's status.
    pub fn await_status(&self, what: &str, limit: Duration, condition: impl Fn(&Value) -> bool) -> Result<Duration> {
        let look = || {
            let status = self.status()?;
            Ok(if condition(&status) {
                Ok(())
            } else {
                Err(status.to_string())
            })
        };
        until(what, limit, look).map(|((), took)| took)
    }

    /// Its base URL by MagicDNS name.
    pub fn url(&self) -> String {
        format!("https://{}", self.lab.headscale.fqdn(self.options.hostname))
    }

    /// The root certificate, from `countersign ca`, in a file.
    pub fn ca(&self) -> Result<PathBuf> {
        let pem = process::run(&mut self.command("ca")?)?;
        let path = self.lab.dir().join("idp-root.pem");
        std::fs::write(&path, pem).map_err(Error::io(format!("writing {path:?}")))?;
        Ok(path)
    }

    /// Journal entries of the server that match every `FIELD=value`, oldest first.
    pub fn journal(&self, matches: &[&str]) -> Result<Vec<Value>> {
        let mut all = vec!["SYSLOG_IDENTIFIER=countersign"];
        all.extend(matches);
        self.lab.journal.entries(&self.lab.idp, &all)
    }

    /// Waits for a journal entry that matches, of this process.
    pub fn await_journal(&self, matches: &[&str]) -> Result<Value> {
        let pid = format!("_PID={}", self.process.pid());
        let mut all = vec![pid.as_str()];
        all.extend(matches);
        let look = || {
            let found = self.journal(&all)?.pop();
            Ok(found.ok_or_else(|| "no such entry".to_owned()))
        };
        until(
            &format!("a journal entry with {matches:?}"),
            Duration::from_secs(5),
            look,
        )
        .map(|(entry, _)| entry)
    }

    /// Stops it and reads the audit records that it left, oldest first.
    pub fn stop_and_audit(mut self) -> Result<Vec<Value>> {
        self.process.terminate(Duration::from_secs(30))?;
        let unreadable = |what: &str| Error::unexpected("the store", what.to_owned());
        let state = State::open_existing(&self.state)
            .map_err(|e| unreadable(&e.to_string()))?
            .ok_or_else(|| unreadable("no state"))?;
        let options = OpenOptions {
            folder: self.state.join("store"),
            node: state.machine_key().public().to_string(),
            cache_bytes: 1 << 20,
            entropy: [0; 16],
        };
        let store = Store::open(&options).map_err(|e| unreadable(&e.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(Error::io("a runtime"))?;
        let lines = runtime.block_on(async {
            let lines = store.audit(None, 10_000).await;
            store.close().await;
            lines
        });
        let lines = lines.map_err(|e| unreadable(&e.to_string()))?;
        Ok(lines
            .iter()
            .filter_map(|(_, line)| serde_json::from_str(line).ok())
            .collect())
    }

    /// The last lines of the journal, for a failure's text.
    pub fn recent_log(&self) -> String {
        let output = self
            .host()
            .output("journalctl", &["--output=short-precise", "--no-pager", "--lines=40"]);
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default()
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process, to signal it or wait for its end.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The machine it runs on.
    pub fn host(&self) -> &Host {
        &self.lab.idp
    }

    /// Its state folder.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    fn command(&self, subcommand: &str) -> Result<Command> {
        let mut command = self.lab.idp.command(program("countersign")?);
        command.arg(subcommand).arg("--state-dir").arg(&self.state);
        Ok(command)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.lab.journal.keep(&self.lab.idp);
    }
}

fn launch(lab: &Lab, options: &ServerOptions, key: &Path, state: &Path) -> Result<Process> {
    let mut command = lab.idp.command(program("countersign")?);
    command
        .arg("serve")
        .arg("--state-dir")
        .arg(state)
        .arg("--auth-key-file")
        .arg(key)
        .arg("--extra-ca-file")
        .arg(lab.authority.root())
        .args(["--control-url", &lab.headscale.url()])
        .args(["--hostname", options.hostname])
        .args(["--registration", options.registration])
        .args(&options.flags);
    // For whoever hunts a failure: LAB_SERVER_LOG=debug.
    if let Ok(filter) = std::env::var("LAB_SERVER_LOG") {
        command.args(["--log", &filter]);
    }
    skewed::ahead(&mut command, options.ahead)?;
    lab.journal.attach(&mut command, "countersign")?;
    Process::start("countersign", command, &lab.idp.dir().join("journal.txt"))
}

/// A program of ours, from the folder that this test was built into.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = match std::env::var_os("COUNTERSIGN_BIN_DIR") {
        Some(dir) => PathBuf::from(dir).join(name),
        None => target_dir()?.join(name),
    };
    if path.exists() {
        return Ok(path);
    }
    Err(Error::CannotRun(format!(
        "{path:?} is missing: `cargo build --workspace --exclude countersign-sim`"
    )))
}
