//! Our log in a real systemd-journald.
//!
//! The test runs itself again in a private mount namespace, where it starts a journald of its own on a tmpfs, and then
//! `countersign` the way systemd would: standard error is a stream of the journal, `JOURNAL_STREAM` names it, and
//! `NOTIFY_SOCKET` waits for the word. Needs root and systemd-journald.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at what it does not expect"
)]

use std::{
    fs,
    io::Write,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::MetadataExt,
            net::{UnixDatagram, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Set in the run inside the namespace.
const INSIDE: &str = "JOURNALD_TEST_INSIDE";

/// How long anything may take: journald answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn entries_carry_their_fields_into_the_journal() {
    match std::env::var_os(INSIDE) {
        None => run_inside_namespace("entries_carry_their_fields_into_the_journal"),
        Some(_) => {
            let journal = Journal::start();
            let folder = std::env::temp_dir().join(format!("journald-test-{}", std::process::id()));
            fs::create_dir(&folder).unwrap();
            serve_and_look(&journal, &folder);
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}

fn serve_and_look(journal: &Journal, folder: &Path) {
    let notifications = UnixDatagram::bind(folder.join("notify")).unwrap();
    notifications.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut server = Command::new(binary());
    // Nothing answers there: the server starts, says so, and keeps trying.
    server
        .args(["serve", "--control-url", "https://127.0.0.1:9", "--state-dir"])
        .arg(folder.join("state"));
    server.env("NOTIFY_SOCKET", folder.join("notify"));
    let mut server = Ended(journal.spawn(&mut server));

    let start = journal.wait_for("COUNTERSIGN_EVENT=start");
    assert_eq!(start["SYSLOG_IDENTIFIER"], "countersign");
    assert_eq!(start["PRIORITY"], "6", "INFO is `informational`: {start}");
    assert_eq!(
        start["_TRANSPORT"], "journal",
        "the native protocol, not lines of text: {start}"
    );
    assert_eq!(start["_PID"], server.0.id().to_string());
    assert!(start["COUNTERSIGN_VERSION"].is_string(), "{start}");

    let mut word = [0; 256];
    let length = notifications.recv(&mut word).unwrap();
    assert!(
        word[..length].starts_with(b"STATUS="),
        "{}",
        String::from_utf8_lossy(&word[..length])
    );

    // The number is still its own: the child has not been waited for.
    assert!(
        Command::new("kill")
            .arg(server.0.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert!(wait(&mut server.0).success(), "SIGTERM is an orderly end");
    journal.wait_for("COUNTERSIGN_EVENT=stop");
    assert_eq!(journal.find("COUNTERSIGN_EVENT=panic"), None);
}

/// Runs the named test again where /run is its own.
fn run_inside_namespace(test: &str) {
    let mut again = Command::new("unshare");
    again
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap());
    again
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1");
    let status = again.status().expect("unshare (util-linux) is installed");
    assert!(
        status.success(),
        "the run inside the mount namespace failed (is this root?)"
    );
}

/// The binary under test, beside this one in the target folder.
fn binary() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let profile = deps.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("countersign");
    if !binary.exists() {
        let build = Command::new(env!("CARGO"))
            .args(["build", "-p", "countersign"])
            .status()
            .unwrap();
        assert!(build.success());
    }
    binary
}

/// A journald of this namespace.
struct Journal {
    _daemon: Ended,
}

/// A child that does not outlive the test, whichever way that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Journal {
    fn start() -> Self {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs", "/run"])
            .status()
            .unwrap();
        assert!(mounted.success(), "cannot mount a tmpfs on /run: root is needed");
        fs::create_dir_all("/run/systemd/journal").unwrap();
        fs::create_dir_all("/run/log/journal").unwrap();
        let daemon = Command::new("/lib/systemd/systemd-journald")
            .stderr(Stdio::null())
            .spawn();
        let daemon = daemon
            .map(Ended)
            .expect("systemd-journald is installed (package systemd)");
        until("journald's sockets", || {
            Path::new("/run/systemd/journal/stdout").exists().then_some(())
        });
        Self { _daemon: daemon }
    }

    /// Starts a program with its standard error in the journal, as systemd does.
    fn spawn(&self, program: &mut Command) -> Child {
        let mut stream = UnixStream::connect("/run/systemd/journal/stdout").unwrap();
        // Identifier, unit, priority, level prefix, three ways to forward: the header of a stream.
        stream.write_all(b"countersign\n\n6\n0\n0\n0\n0\n").unwrap();
        let socket = fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap();
        program.env("JOURNAL_STREAM", format!("{}:{}", socket.dev(), socket.ino()));
        program
            .stdout(Stdio::null())
            .stderr(OwnedFd::from(stream))
            .spawn()
            .unwrap()
    }

    /// The newest entry that matches, as `journalctl -o json` shows it.
    fn find(&self, field: &str) -> Option<Value> {
        let found = Command::new("journalctl")
            .args(["-o", "json", "-n", "1", field])
            .output()
            .unwrap();
        serde_json::from_slice(&found.stdout).ok()
    }

    fn wait_for(&self, field: &str) -> Value {
        until(field, || self.find(field))
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    until("the end of the server", || child.try_wait().unwrap())
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
