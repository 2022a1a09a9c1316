//! A real systemd-journald on one host of the lab, without systemd: the host's `/run` is its own.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{Error, Host, Process, Result, wait_for};

/// A running journald.
#[derive(Debug)]
pub(crate) struct Journal {
    _daemon: Process,
    stream: String,
}

impl Journal {
    /// Starts journald on `host`.
    pub(crate) fn start(host: &Host) -> Result<Journal> {
        host.run("mkdir", &["-p", "/run/systemd/journal", "/run/log/journal"])?;
        let daemon = host.spawn("journald", host.command("/lib/systemd/systemd-journald"))?;
        let stream = host.path("/run/systemd/journal/stdout");
        let opened = wait_for("journald opens its sockets", Duration::from_secs(10), || {
            std::path::Path::new(&stream).exists()
        });
        opened.map_err(|e| Error::CannotRun(format!("systemd-journald (package systemd): {e}")))?;
        Ok(Journal {
            _daemon: daemon,
            stream,
        })
    }

    /// Makes `command` log as a systemd service does: its standard error is a stream of the journal.
    pub(crate) fn attach(&self, command: &mut Command, identifier: &str) -> Result {
        let connect = || -> std::io::Result<(UnixStream, String)> {
            let mut stream = UnixStream::connect(&self.stream)?;
            // The header of a stream: identifier, unit, priority, level prefix, three ways to forward.
            stream.write_all(format!("{identifier}\n\n6\n0\n0\n0\n0\n").as_bytes())?;
            let socket = std::fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd()))?;
            let name = format!("{}:{}", socket.dev(), socket.ino());
            Ok((stream, name))
        };
        let (stream, name) = connect().map_err(Error::io("connecting to journald"))?;
        command
            .env("JOURNAL_STREAM", name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(OwnedFd::from(stream));
        Ok(())
    }

    /// The entries that match every `FIELD=value`, oldest first.
    pub(crate) fn entries(&self, host: &Host, matches: &[&str]) -> Result<Vec<Value>> {
        let mut args = vec!["--output=json", "--no-pager", "--quiet"];
        args.extend(matches);
        let output = host.output("journalctl", &args)?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Writes the whole journal as text into `host`'s folder, for whoever reads a failed run.
    pub(crate) fn keep(&self, host: &Host) -> Result {
        let output = host.output("journalctl", &["--output=short-precise", "--no-pager", "--quiet"])?;
        std::fs::write(host.dir().join("journal.txt"), output.stdout).map_err(Error::io("keeping the journal"))
    }
}
