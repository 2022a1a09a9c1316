//! A server of the real binary, on a tailnet of ours.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// Longer than anything takes, unless it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TAG: &str = "tag:internal-idp";
pub(crate) const ALICE: &str = "alice@example.com";

/// Exit codes, see `src/exit.rs`.
pub(crate) const FAILED: i32 = 1;
pub(crate) const REFUSED: i32 = 5;

const POLICY: &str = r#"{
    "tagOwners": {"tag:internal-idp": ["alice@example.com"], "tag:other": ["alice@example.com"]},
    "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]
}"#;

/// A tailnet, and a folder for state and files.
pub(crate) struct Place {
    pub(crate) tailnet: Tailnet,
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(TailnetConfig::default()).await
    }

    pub(crate) async fn with(config: TailnetConfig) -> Self {
        let config = TailnetConfig {
            policy: Some(POLICY.to_owned()),
            ..config
        };
        let place = Self {
            tailnet: Tailnet::start(config).await.unwrap(),
            folder: TempDir::new().unwrap(),
        };
        place.tailnet.write_ca(&place.path("ca.pem")).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes the file with the pre-auth key.
    pub(crate) fn key(&self, key: &str) -> PathBuf {
        let file = self.path("auth-key");
        fs::write(&file, key).unwrap();
        file
    }

    pub(crate) fn good_key(&self) -> PathBuf {
        self.key(&self.tailnet.auth_key(AuthKeySpec::tags(&[TAG]).reusable()).unwrap())
    }

    /// The flags of a server that would start.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            state_dir: self.state(),
            control_url: self.tailnet.control_url().to_owned(),
            auth_key_file: Some(self.good_key()),
            extra_ca_file: Some(self.path("ca.pem")),
            more: vec!["--hostname=idp".to_owned()],
        }
    }

    /// What of the state must not be lost, if there is any.
    pub(crate) fn keys(&self) -> Option<(String, String)> {
        let text = fs::read_to_string(self.state().join("node.json")).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        let field = |name: &str| json[name].as_str().map(str::to_owned);
        Some((field("machine_key")?, field("node_key")?))
    }

    /// Starts a server, waits until it is ready, and ends it: a state folder with a past.
    pub(crate) async fn run_once(&self) {
        let mut server = Server::start(&self.flags());
        server.line("ready: serving").await;
        server.stop().await;
    }
}

pub(crate) struct Flags {
    pub(crate) state_dir: PathBuf,
    pub(crate) control_url: String,
    pub(crate) auth_key_file: Option<PathBuf>,
    pub(crate) extra_ca_file: Option<PathBuf>,
    pub(crate) more: Vec<String>,
}

/// A running `countersign serve`, killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) errors: Lines<BufReader<ChildStderr>>,
    pub(crate) seen: Vec<String>,
}

impl Server {
    pub(crate) fn start(flags: &Flags) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(&flags.state_dir)
            .args(["--control-url", &flags.control_url])
            .args(&flags.more)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(file) = &flags.auth_key_file {
            command.arg("--auth-key-file").arg(file);
        }
        if let Some(file) = &flags.extra_ca_file {
            command.arg("--extra-ca-file").arg(file);
        }
        let mut child = command.spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            errors,
            seen: Vec::new(),
        }
    }

    /// Waits for a line with this text.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        let found = async {
            while let Some(line) = self.errors.next_line().await.unwrap() {
                self.seen.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
            panic!("it ended without {text:?}: {:#?}", self.seen);
        };
        match timeout(PATIENCE, found).await {
            Ok(line) => line,
            Err(_) => panic!("no line with {text:?}: {:#?}", self.seen),
        }
    }

    /// Reads on for some time.
    pub(crate) async fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(line) = timeout(until.saturating_duration_since(Instant::now()), self.errors.next_line()).await {
            match line.unwrap() {
                Some(line) => self.seen.push(line),
                None => return,
            }
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exit(&mut self) -> i32 {
        self.watch(PATIENCE).await;
        let status = timeout(PATIENCE, self.child.wait()).await;
        status.expect("it ends").unwrap().code().unwrap_or(-1)
    }

    /// Ends it as systemd would.
    pub(crate) async fn stop(&mut self) {
        let id = i32::try_from(self.child.id().expect("it runs")).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.exit().await, 0, "{:#?}", self.seen);
    }

    /// The lines that a person has to read.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        let lines = self.seen.iter().map(String::as_str);
        lines
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .collect()
    }
}

/// It ends with `code` and exactly one complaint, which has all of `words`; keys that were there are still there.
pub(crate) async fn gives_up(place: &Place, flags: &Flags, code: i32, words: &[&str]) {
    let before = place.keys();
    let mut server = Server::start(flags);
    let exit = server.exit().await;
    let complaints = server.complaints();
    println!("[{exit}] {}", complaints.join("\n    "));
    assert_eq!(exit, code, "{:#?}", server.seen);
    assert_eq!(complaints.len(), 1, "one line: {:#?}", server.seen);
    for word in words {
        assert!(complaints[0].contains(word), "no {word:?} in {:?}", complaints[0]);
    }
    assert!(before.is_none() || place.keys() == before, "keys were lost");
}

/// It goes on trying, and says so exactly once, in a line that has all of `words`.
pub(crate) async fn goes_on(place: &Place, flags: &Flags, words: &[&str]) -> Server {
    let mut server = Server::start(flags);
    server.line(words[0]).await;
    server.watch(Duration::from_secs(3)).await;
    let complaints = server.complaints();
    println!("[..] {}", complaints.join("\n    "));
    assert_eq!(complaints.len(), 1, "one line: {:#?}", server.seen);
    for word in words {
        assert!(complaints[0].contains(word), "no {word:?} in {:?}", complaints[0]);
    }
    assert!(server.child.try_wait().unwrap().is_none(), "it runs");
    assert!(place.keys().is_some(), "the keys it will join with are stored");
    server
}
