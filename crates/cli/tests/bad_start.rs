//! What keeps `countersign serve` from starting or from going on: one line that says what is wrong and what to do, an
//! exit code where it cannot go on, quiet repetition where it can, and nothing lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
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
const PATIENCE: Duration = Duration::from_secs(30);
const TAG: &str = "tag:internal-idp";
const ALICE: &str = "alice@example.com";

/// Exit codes, see `src/exit.rs`.
const FAILED: i32 = 1;
const REFUSED: i32 = 5;

const POLICY: &str = r#"{
    "tagOwners": {"tag:internal-idp": ["alice@example.com"], "tag:other": ["alice@example.com"]},
    "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]
}"#;

/// A tailnet, and a folder for state and files.
struct Place {
    tailnet: Tailnet,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self::with(TailnetConfig::default()).await
    }

    async fn with(config: TailnetConfig) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes the file with the pre-auth key.
    fn key(&self, key: &str) -> PathBuf {
        let file = self.path("auth-key");
        fs::write(&file, key).unwrap();
        file
    }

    fn good_key(&self) -> PathBuf {
        self.key(&self.tailnet.auth_key(AuthKeySpec::tags(&[TAG]).reusable()).unwrap())
    }

    /// The flags of a server that would start.
    fn flags(&self) -> Flags {
        Flags {
            state_dir: self.state(),
            control_url: self.tailnet.control_url().to_owned(),
            auth_key_file: Some(self.good_key()),
            extra_ca_file: Some(self.path("ca.pem")),
            more: vec!["--hostname=idp".to_owned()],
        }
    }

    /// What of the state must not be lost, if there is any.
    fn keys(&self) -> Option<(String, String)> {
        let text = fs::read_to_string(self.state().join("node.json")).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        let field = |name: &str| json[name].as_str().map(str::to_owned);
        Some((field("machine_key")?, field("node_key")?))
    }

    /// Starts a server, waits until it is ready, and ends it: a state folder with a past.
    async fn run_once(&self) {
        let mut server = Server::start(&self.flags());
        server.line("ready: serving").await;
        server.stop().await;
    }
}

struct Flags {
    state_dir: PathBuf,
    control_url: String,
    auth_key_file: Option<PathBuf>,
    extra_ca_file: Option<PathBuf>,
    more: Vec<String>,
}

/// A running `countersign serve`, killed when dropped.
struct Server {
    child: Child,
    errors: Lines<BufReader<ChildStderr>>,
    seen: Vec<String>,
}

impl Server {
    fn start(flags: &Flags) -> Self {
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
    async fn line(&mut self, text: &str) -> String {
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
    async fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(line) = timeout(until.saturating_duration_since(Instant::now()), self.errors.next_line()).await {
            match line.unwrap() {
                Some(line) => self.seen.push(line),
                None => return,
            }
        }
    }

    /// Waits until it ends by itself.
    async fn exit(&mut self) -> i32 {
        self.watch(PATIENCE).await;
        let status = timeout(PATIENCE, self.child.wait()).await;
        status.expect("it ends").unwrap().code().unwrap_or(-1)
    }

    /// Ends it as systemd would.
    async fn stop(&mut self) {
        let id = i32::try_from(self.child.id().expect("it runs")).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.exit().await, 0, "{:#?}", self.seen);
    }

    /// The lines that a person has to read.
    fn complaints(&self) -> Vec<&str> {
        let lines = self.seen.iter().map(String::as_str);
        lines
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .collect()
    }
}

/// It ends with `code` and exactly one complaint, which has all of `words`; keys that were there are still there.
async fn gives_up(place: &Place, flags: &Flags, code: i32, words: &[&str]) {
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
async fn goes_on(place: &Place, flags: &Flags, words: &[&str]) -> Server {
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

#[tokio::test(flavor = "multi_thread")]
async fn auth_keys() {
    let place = Place::new().await;
    let with = |key: &str| Flags {
        auth_key_file: Some(place.key(key)),
        ..place.flags()
    };
    let mut flags = with("hskey-auth-no-such");
    flags.auth_key_file = Some(place.key("hskey-auth-no-such"));
    gives_up(&place, &flags, REFUSED, &["invalid pre auth key", "copied whole"]).await;
    let expired = AuthKeySpec::tags(&[TAG]).valid_for(-time::Duration::SECOND);
    flags.auth_key_file = Some(place.key(&place.tailnet.auth_key(expired).unwrap()));
    gives_up(&place, &flags, REFUSED, &["expired", "new auth key"]).await;
    let mut none = place.flags();
    none.auth_key_file = None;
    let mut server = goes_on(&place, &none, &["open", "/register/"]).await;
    server.stop().await;
    let mut missing = place.flags();
    missing.auth_key_file = Some(place.path("no-such-file"));
    let mut server = Server::start(&missing);
    assert_eq!(server.exit().await, 2);
    println!("[2] {}", server.seen.join("\n    "));
    assert!(
        server.seen.iter().any(|line| line.contains("no-such-file")),
        "{:#?}",
        server.seen
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used() {
    let place = Place::new().await;
    let mut flags = place.flags();
    let once = place.tailnet.auth_key(AuthKeySpec::tags(&[TAG])).unwrap();
    flags.auth_key_file = Some(place.key(&once));
    let mut first = Server::start(&flags);
    first.line("ready: serving").await;
    flags.state_dir = place.path("second");
    gives_up(&place, &flags, REFUSED, &["already used", "new auth key"]).await;
    first.stop().await;
    // The node itself comes back with it.
    flags.state_dir = place.state();
    let mut again = Server::start(&flags);
    again.line("ready: serving").await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags() {
    let place = Place::new().await;
    let mut flags = place.flags();
    let user = AuthKeySpec::user(ALICE).reusable();
    flags.auth_key_file = Some(place.key(&place.tailnet.auth_key(user).unwrap()));
    gives_up(&place, &flags, REFUSED, &[TAG, "no tags", "tagOwners"]).await;
    let other = AuthKeySpec::tags(&["tag:other"]).reusable();
    flags.auth_key_file = Some(place.key(&place.tailnet.auth_key(other).unwrap()));
    flags.state_dir = place.path("other");
    gives_up(&place, &flags, REFUSED, &[TAG, "tag:other"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_other_times() {
    let new = Place::with(TailnetConfig {
        min_version: 10_000,
        ..TailnetConfig::default()
    })
    .await;
    goes_on(&new, &new.flags(), &["version", "Headscale"])
        .await
        .stop()
        .await;
    let locked = Place::with(TailnetConfig {
        locked: true,
        ..TailnetConfig::default()
    })
    .await;
    gives_up(&locked, &locked.flags(), REFUSED, &["tailnet lock"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_that_is_not_there() {
    let place = Place::new().await;
    let mut flags = place.flags();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    flags.control_url = format!("https://127.0.0.1:{port}");
    goes_on(&place, &flags, &["cannot be reached", &port.to_string(), "control_url"])
        .await
        .stop()
        .await;
    flags.control_url = "https://no-such-host.invalid".to_owned();
    flags.state_dir = place.path("dns");
    goes_on(&place, &flags, &["no-such-host.invalid", "does not resolve", "DNS"])
        .await
        .stop()
        .await;
    flags.control_url = place.tailnet.derp_url();
    flags.state_dir = place.path("relay");
    goes_on(
        &place,
        &flags,
        &["does not answer like a control server", "control_url"],
    )
    .await
    .stop()
    .await;
    flags.control_url = format!("{}/path", place.tailnet.control_url());
    flags.state_dir = place.path("with-path");
    let mut server = Server::start(&flags);
    assert_eq!(server.exit().await, 2, "{:#?}", server.seen);
    println!("[2] {}", server.seen.join("\n    "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_not_trusted() {
    let place = Place::new().await;
    let mut flags = place.flags();
    flags.extra_ca_file = None;
    goes_on(&place, &flags, &["certificate", "extra_ca_file"])
        .await
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_off() {
    let expired = Place::with(TailnetConfig {
        expired_certificate: true,
        ..TailnetConfig::default()
    })
    .await;
    goes_on(
        &expired,
        &expired.flags(),
        &["certificate expired", "check both clocks"],
    )
    .await
    .stop()
    .await;
    let place = Place::new().await;
    place.tailnet.set_clock_skew(time::Duration::hours(3));
    let mut server = goes_on(&place, &place.flags(), &["clock is 10", "behind", "NTP"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_not_there() {
    let place = Place::new().await;
    place.tailnet.stop_derp().await;
    let mut server = Server::start(&place.flags());
    server.line("ready: serving").await;
    server.watch(Duration::from_secs(3)).await;
    let complaints = server.complaints();
    println!("[..] {}", complaints.join("\n    "));
    assert_eq!(complaints.len(), 1, "{:#?}", server.seen);
    assert!(complaints[0].contains("home DERP relay cannot be reached"));
    place.tailnet.resume_derp().await.unwrap();
    server.line("connected to DERP").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_folders() {
    let place = Place::new().await;
    place.run_once().await;
    let good = fs::read(place.state().join("node.json")).unwrap();
    let file = place.state().join("node.json");
    for damaged in [&good[..good.len() / 2], b"", b"{}", b"\0\0\0\0"] {
        fs::write(&file, damaged).unwrap();
        gives_up(&place, &place.flags(), FAILED, &["node.json", "damaged", "backup"]).await;
        assert_eq!(fs::read(&file).unwrap(), damaged, "it is left as it was");
    }
    fs::write(&file, &good).unwrap();

    let mut flags = place.flags();
    flags.control_url = "https://other.example".to_owned();
    gives_up(&place, &flags, FAILED, &["other.example", "belongs to a node of"]).await;

    let mut holder = Server::start(&place.flags());
    holder.line("ready: serving").await;
    gives_up(&place, &place.flags(), FAILED, &["in use", "pid"]).await;
    holder.stop().await;

    let mut flags = place.flags();
    flags.state_dir = PathBuf::from("/proc/countersign");
    gives_up(&place, &flags, FAILED, &["/proc/countersign", "state_dir"]).await;
    fs::write(place.path("file"), "").unwrap();
    flags.state_dir = place.path("file");
    gives_up(&place, &flags, FAILED, &["file", "not a folder", "state_dir"]).await;
    assert_eq!(fs::read(&file).unwrap().len(), good.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_node() {
    let place = Place::new().await;
    place.run_once().await;
    let mut flags = place.flags();
    flags.state_dir = place.path("other");
    let mut other = Server::start(&flags);
    other.line("ready: serving").await;
    other.stop().await;
    let (mine, theirs) = (place.state().join("store"), flags.state_dir.join("store"));
    fs::rename(&theirs, place.path("aside")).unwrap();
    copy(&mine, &theirs);
    gives_up(
        &place,
        &flags,
        FAILED,
        &[
            "store",
            "belongs to the node with machine key",
            "state folder of this node",
        ],
    )
    .await;
    fs::remove_dir_all(&theirs).unwrap();
    fs::rename(place.path("aside"), &theirs).unwrap();
    let mut again = Server::start(&flags);
    again.line("ready: serving").await;
    again.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_port_that_is_taken() {
    let place = Place::new().await;
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut flags = place.flags();
    flags.more.push(format!("--udp-port={port}"));
    gives_up(&place, &flags, FAILED, &[&port, "udp_port"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_that_talks_nonsense() {
    let place = Place::new().await;
    let mut server = Server::start(&place.flags());
    server.line("ready: serving").await;
    let node = place.tailnet.node("idp").unwrap();
    type Nonsense<'a> = (&'a str, &'a dyn Fn());
    let nonsense: [Nonsense; 4] = [
        ("a frame of random bytes", &|| {
            place.tailnet.inject_raw(node.id, &[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }),
        ("a frame without end", &|| {
            place.tailnet.inject_raw(node.id, &[0xff; 64]);
        }),
        ("no JSON", &|| {
            place.tailnet.inject(node.id, "{\"Peers\": [");
        }),
        ("JSON of other types", &|| {
            place.tailnet.inject(node.id, "{\"Peers\": \"all\"}");
        }),
    ];
    for (what, inject) in nonsense {
        let before = server.complaints().len();
        inject();
        let line = server.line("WARN").await;
        println!("{what}: {line}");
        server.line("connected to control").await;
        assert_eq!(server.complaints().len(), before + 1, "{:#?}", server.seen);
    }
    place.tailnet.stop_control().await;
    println!("control stops: {}", server.line("WARN").await);
    place.tailnet.resume_control().await.unwrap();
    server.line("connected to control").await;
    assert_eq!(place.tailnet.node("idp").unwrap().id, node.id);
    place.tailnet.delete_node(node.id).unwrap();
    server.stop().await;
}
