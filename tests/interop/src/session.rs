//! One TLS connection that stays open between requests: `openssl s_client` on a machine of the lab, driven by hand.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::{Error, Host, Response, Result, reaper};

/// An HTTP/1.1 connection to one server.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    name: String,
}

impl Session {
    /// Connects from `host` to `name` (a MagicDNS name) on `port`, verified against `ca`.
    pub fn connect(host: &Host, name: &str, port: u16, ca: &Path) -> Result<Session> {
        let mut child = host
            .command("openssl")
            .args([
                "s_client",
                "-quiet",
                "-verify_quiet",
                "-verify_return_error",
                "-no_ign_eof",
                "-nocommands",
            ])
            .args(["-connect", &format!("{name}:{port}"), "-servername", name, "-CAfile"])
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting openssl s_client"))?;
        reaper::register(child.id())?;
        let (Some(input), Some(mut pipe)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::unexpected("openssl s_client", "no pipes"));
        };
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                if sender.send(chunk[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Session {
            child,
            input,
            output,
            name: name.to_owned(),
        })
    }

    /// Sends one request; `body` is JSON, empty for none. `Ok(None)` when no answer came within `limit`.
    pub fn request(&mut self, method: &str, path: &str, body: &str, limit: Duration) -> Result<Option<Response>> {
        let begun = Instant::now();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.name,
            body.len()
        );
        if self
            .input
            .write_all(head.as_bytes())
            .and_then(|()| self.input.flush())
            .is_err()
        {
            return Ok(None);
        }
        let mut received = Vec::new();
        while let Ok(chunk) = self.output.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            received.extend(chunk);
            if let Some(response) = parse(&received, begun.elapsed()) {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// How long it takes until the connection ends, if it does within `limit`.
    pub fn closed_within(&mut self, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        loop {
            match self.output.recv_timeout(limit.saturating_sub(begun.elapsed())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Some(begun.elapsed()),
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = reaper::forget(self.child.id());
    }
}

/// A whole answer with a content-length, or none yet.
fn parse(received: &[u8], time: Duration) -> Option<Response> {
    let text = String::from_utf8_lossy(received);
    let (headers, body) = text.split_once("\r\n\r\n")?;
    let length = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    if body.len() < length.unwrap_or_default() {
        return None;
    }
    let status = headers.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response {
        status,
        headers: headers.to_owned(),
        body: body.to_owned(),
        time,
        exit: 0,
        error: String::new(),
    })
}
