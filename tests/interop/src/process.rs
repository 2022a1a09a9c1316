//! A child process with its log, killed by its id when dropped.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Result, reaper, wait_for};

/// Clock ticks per second in `/proc`: 100 on every Linux we run on.
const USER_HZ: f64 = 100.0;

/// One running child. Its standard output and error go to one log file; it has no standard input.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

/// What a process has used so far, from `/proc/PID`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in MiB.
    pub rss_mib: f64,
    /// The highest resident memory so far, in MiB.
    pub peak_rss_mib: f64,
}

impl Process {
    /// Starts `command`, appending its output to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let open = |path: &Path| -> Result<File> {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(Error::io(format!("opening {path:?}")))
        };
        command.stdin(Stdio::null()).stdout(open(log)?).stderr(open(log)?);
        Process::start(name, command, log)
    }

    /// Starts `command` with whatever output it was given; `log` is where that can be read.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Process> {
        let child = command.spawn().map_err(Error::io(format!("starting {name}")))?;
        reaper::register(child.id())?;
        Ok(Process {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        })
    }

    /// The process id. `nsenter` and `unshare` exec, so it is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far (of every process that shared the log).
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The error to report when it does not run.
    pub fn ended(&self) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n");
        Error::Ended {
            name: self.name.clone(),
            log: self.log.clone(),
            tail,
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result {
        let pid = Pid::from_raw(self.child.id() as i32).ok_or_else(|| Error::unexpected("pid", "0"))?;
        kill_process(pid, signal).map_err(|e| Error::Io {
            what: format!("signalling {}", self.name),
            source: e.into(),
        })
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result {
        if self.is_running() {
            self.child.kill().map_err(Error::io(format!("killing {}", self.name)))?;
        }
        self.child
            .wait()
            .map_err(Error::io(format!("waiting for {}", self.name)))?;
        reaper::forget(self.child.id())
    }

    /// SIGTERM, and waits for the end; returns the exit code, if it was not ended by a signal.
    pub fn terminate(&mut self, limit: Duration) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits for the end and returns the exit code, if it was not ended by a signal.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<i32>> {
        wait_for(&format!("{} ends", self.name), limit, || !self.is_running())?;
        let status = self
            .child
            .wait()
            .map_err(Error::io(format!("waiting for {}", self.name)))?;
        reaper::forget(self.child.id())?;
        Ok(status.code())
    }

    /// CPU time and memory so far.
    pub fn usage(&self) -> Result<Usage> {
        usage_of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Runs `command` to its end and returns its output, whatever its status.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let line = line_of(command);
    command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(format!("running `{line}`")))
}

/// Runs `command` to its end and returns its standard output; a failing status is an error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    Err(Error::Command {
        command: line_of(command),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(said).trim().to_owned(),
    })
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn usage_of(pid: u32) -> Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::read_to_string(&path).map_err(Error::io(format!("reading {path}")))
    };
    let (stat, status) = (read("stat")?, read("status")?);
    // The command in field 2 may hold spaces: count from its closing parenthesis. utime and stime are fields 14 and 15.
    let after = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let mib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<f64>().ok())
            .unwrap_or_default()
            / 1024.0
    };
    Ok(Usage {
        cpu_seconds: ticks as f64 / USER_HZ,
        rss_mib: mib("VmRSS:"),
        peak_rss_mib: mib("VmHWM:"),
    })
}
