//! The victim's process: what it says of itself, and what the kernel says of it.

use std::{
    io,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tailnet_testkit::AuthKeySpec;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::fleet::{Fleet, PATIENCE, SERVER};

/// Bytes of a page, on every machine this runs on.
const PAGE: usize = 4096;
/// How often its memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);

/// The `victim` binary, killed when dropped.
pub struct Victim {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    /// Starts `program` as the node "server" and waits until others can reach it.
    ///
    /// # Errors
    /// As the operating system has it.
    pub async fn start(program: &str, fleet: &Fleet, connection_memory: usize) -> io::Result<Self> {
        let ca = fleet.folder("ca.pem");
        fleet.tailnet.write_ca(&ca)?;
        let key = fleet
            .tailnet
            .auth_key(AuthKeySpec::tags(&[SERVER]))
            .map_err(io::Error::other)?;
        let mut child = Command::new(program)
            .args([
                path(&fleet.folder("server")),
                fleet.tailnet.control_url(),
                path(&ca),
                &connection_memory.to_string(),
                &key,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(io::Error::other("the victim has no pipes"));
        };
        let mut victim = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        };
        let ready = victim.line().await?;
        assert_eq!(ready, "ready", "the victim starts");
        fleet
            .tailnet
            .wait_online("server", PATIENCE)
            .await
            .map_err(io::Error::other)?;
        Ok(victim)
    }

    /// Its [`Status`](tailnet_node::Status).
    ///
    /// # Errors
    /// When it is dead, or does not answer in time.
    pub async fn status(&mut self) -> io::Result<Value> {
        self.input.write_all(b"status\n").await?;
        let line = self.line().await?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    /// One of its counters.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn counter(&mut self, name: &str) -> io::Result<u64> {
        let status = self.status().await?;
        status["counters"][name]
            .as_u64()
            .ok_or_else(|| io::Error::other(format!("no counter {name}")))
    }

    /// Waits until no connection holds memory any more.
    ///
    /// # Errors
    /// With what it holds, when that takes too long.
    pub async fn released(&mut self, patience: Duration) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let used = self.status().await?["connection_memory_used"].as_u64();
            if used == Some(0) {
                return Ok(());
            }
            if start.elapsed() > patience {
                return Err(io::Error::other(format!("{used:?} bytes are still held")));
            }
            tokio::time::sleep(SAMPLE).await;
        }
    }

    /// Watches its resident memory from now on.
    ///
    /// # Errors
    /// When it is dead.
    pub fn watch_memory(&self) -> io::Result<Memory> {
        let id = self.child.id().ok_or_else(|| io::Error::other("the victim has died"))?;
        let before = resident(id)?;
        let most = Arc::new(AtomicUsize::new(before));
        let seen = Arc::clone(&most);
        let sampler = tokio::spawn(async move {
            while let Ok(now) = resident(id) {
                seen.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(SAMPLE).await;
            }
        });
        Ok(Memory { before, most, sampler })
    }

    async fn line(&mut self) -> io::Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        line.map_err(|_| io::ErrorKind::TimedOut)??
            .ok_or_else(|| io::Error::other("the victim has died"))
    }
}

/// The resident memory of the victim over some time.
pub struct Memory {
    before: usize,
    most: Arc<AtomicUsize>,
    sampler: JoinHandle<()>,
}

impl Memory {
    /// By how many bytes it grew at most.
    pub fn growth(&self) -> usize {
        self.most.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

fn resident(process: u32) -> io::Result<usize> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: Option<usize> = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages
        .map(|pages| pages * PAGE)
        .ok_or_else(|| io::Error::other("statm cannot be read"))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}
