//! A real `tailscaled` in userspace mode, with its own state folder and socket.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tailnet_testkit::Tailnet;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Where `tests/interop/peers.sh` puts the pinned binaries, unless `COUNTERSIGN_LAB_BIN` names another folder.
const DEFAULT_BIN: &str = "/root/.cache/countersign-lab/bin";

/// The folder with `tailscaled` and `tailscale`.
///
/// # Panics
/// With a text that begins with `could-not-run:` when they are not there. A test that cannot run must not pass;
/// `tests/run` tells this text from a failure.
pub fn bin() -> PathBuf {
    let folder = std::env::var_os("COUNTERSIGN_LAB_BIN").map_or_else(|| PathBuf::from(DEFAULT_BIN), PathBuf::from);
    for name in ["tailscaled", "tailscale"] {
        let file = folder.join(name);
        assert!(
            file.is_file(),
            "could-not-run: {} is missing; tests/interop builds it",
            file.display()
        );
    }
    folder
}

/// A running `tailscaled`, killed when dropped.
pub struct Tailscaled {
    folder: TempDir,
    bin: PathBuf,
    ca: PathBuf,
    _daemon: Child,
}

impl Tailscaled {
    /// Starts the daemon; it does not join yet.
    ///
    /// # Errors
    /// As the operating system has it.
    pub fn start(tailnet: &Tailnet) -> io::Result<Self> {
        let bin = bin();
        let folder = TempDir::new()?;
        let ca = folder.path().join("ca.pem");
        tailnet.write_ca(&ca)?;
        let log = File::create(folder.path().join("log"))?;
        let daemon = Command::new(bin.join("tailscaled"))
            .arg("--tun=userspace-networking")
            .arg("--port=0")
            .arg("--no-logs-no-support")
            .arg(format!("--statedir={}", folder.path().display()))
            .arg(format!("--socket={}", socket(folder.path()).display()))
            .env("SSL_CERT_FILE", &ca)
            .env("HOME", folder.path())
            .env("TS_NO_LOGS_NO_SUPPORT", "true")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            folder,
            bin,
            ca,
            _daemon: daemon,
        })
    }

    /// `tailscale <args>` against this daemon.
    ///
    /// # Errors
    /// When it cannot be started, or takes longer than half a minute.
    pub async fn tailscale(&self, args: &[&str]) -> io::Result<Output> {
        let mut command = self.command(args);
        let run = command.stdin(Stdio::null()).output();
        tokio::time::timeout(Duration::from_secs(30), run)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// `tailscale <args>` against this daemon, not started yet; killed when dropped.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("tailscale"));
        command
            .arg(format!("--socket={}", socket(self.folder.path()).display()))
            .args(args)
            .env("SSL_CERT_FILE", &self.ca)
            .kill_on_drop(true);
        command
    }

    /// Joins the tailnet.
    ///
    /// # Errors
    /// With what `tailscale up` wrote, when it fails.
    pub async fn up(&self, tailnet: &Tailnet, hostname: &str, auth_key: &str) -> io::Result<()> {
        let output = self
            .tailscale(&[
                "up",
                &format!("--login-server={}", tailnet.control_url()),
                &format!("--auth-key={auth_key}"),
                &format!("--hostname={hostname}"),
                "--accept-dns=false",
                "--timeout=25s",
            ])
            .await?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "tailscale up: {}{}",
            String::from_utf8_lossy(&output.stderr),
            self.log()
        )))
    }

    /// What the daemon logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("tailscaled.sock")
}
