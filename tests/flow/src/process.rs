//! The binary as a process: started as a supervisor would, heard through its log and its notifications.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    process::{Child, Command as AsyncCommand},
    time::timeout,
};

/// Longer than anything on loopback takes, unless it never happens.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A binary of the workspace, from the folder that this test was built into; built if it is not there.
///
/// # Panics
/// When it cannot be built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let binary = profile.join(name);
    if !binary.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "-p", name]).status();
        assert!(built.expect("cargo runs").success(), "{name} builds");
    }
    binary
}

/// Runs a command to its end. Nothing of the environment that could be a setting comes along.
pub async fn countersign<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    let run = command("countersign", args).stdin(Stdio::null()).output();
    timeout(PATIENCE, run).await.expect("it ends in time").expect("it runs")
}

fn command<S: AsRef<std::ffi::OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> AsyncCommand {
    let mut command = AsyncCommand::new(binary(program));
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command.env_remove("TS_AUTHKEY").args(args).kill_on_drop(true);
    command
}

/// What systemd would hear.
pub struct Notifications(UnixDatagram);

impl Notifications {
    /// Waits for a message that contains `word`, and returns it.
    pub fn wait_for(&self, word: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).expect("a notification in time");
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.contains(word) {
                return message;
            }
        }
    }
}

/// A running `countersign serve`.
pub struct Served {
    child: Child,
    state_dir: String,
    /// What it tells its supervisor.
    pub notifications: Notifications,
}

impl Served {
    /// Starts it with these flags, the state folder first among them.
    pub fn start(folder: &Path, flags: &[String]) -> Self {
        Self::start_logging(folder, flags, Stdio::piped())
    }

    /// The same, with its log going where a pipe could not hold it.
    pub fn start_logging(folder: &Path, flags: &[String], log: Stdio) -> Self {
        let socket = folder.join("notify");
        let _ = std::fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket).expect("a socket");
        notifications.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut serve = command("countersign", [&["serve".to_owned()], flags].concat());
        serve.env("NOTIFY_SOCKET", socket).stdin(Stdio::null()).stderr(log);
        Self {
            child: serve.spawn().expect("it starts"),
            state_dir: flags[1].clone(),
            notifications: Notifications(notifications),
        }
    }

    /// Runs another command on its state folder.
    pub async fn beside(&self, args: &[&str]) -> Output {
        let place = ["--state-dir", &self.state_dir];
        countersign(args.iter().chain(&place)).await
    }

    /// `status --json` once it is ready.
    pub async fn status(&self) -> serde_json::Value {
        let output = self.beside(&["status", "--json", "--wait", "30"]).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("status is JSON")
    }

    /// Sends a signal by its name, for example `TERM`.
    pub fn signal(&self, name: &str) {
        let process = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end: exit code and log.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("its log is read");
        let end = async {
            stderr.read_to_string(&mut log).await.expect("the log is text");
            self.child.wait().await.expect("it ends").code()
        };
        let code = timeout(PATIENCE, end).await.expect("it ends in time");
        (code, log)
    }

    /// Asks it to stop and waits for its end.
    pub async fn stop(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.ended().await
    }

    /// The same, of one whose log goes elsewhere: its exit code.
    pub async fn stop_quietly(mut self) -> Option<i32> {
        self.signal("TERM");
        let end = timeout(PATIENCE, self.child.wait()).await.expect("it ends in time");
        end.expect("it ends").code()
    }
}

/// A running example, which ends with this value.
pub struct Example(#[expect(dead_code, reason = "held for its drop")] Child);

impl Example {
    /// Starts the example of this package name.
    pub fn start(package: &str, flags: &[String]) -> Self {
        Self(command(package, flags).stdin(Stdio::null()).spawn().expect("it starts"))
    }
}
