//! A native application on a machine of the lab: it waits on loopback for the browser to come back (RFC 8252 7.3).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::{Error, Host, Result};

/// Longer than any redirect takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The listener and the answers that reach it.
#[derive(Debug)]
pub struct Loopback {
    port: u16,
    queries: Receiver<String>,
}

impl Loopback {
    /// Listens on a free port of `host`'s loopback.
    pub fn listen(host: &Host) -> Result<Loopback> {
        let listener = host.listen()?;
        let port = listener.local_addr().map_err(Error::io("a port"))?.port();
        let (sender, queries) = channel();
        // Ends with the process: it holds nothing but the listener.
        std::thread::spawn(move || serve(&listener, |query| sender.send(query).is_ok()));
        Ok(Loopback { port, queries })
    }

    /// Its redirect URI.
    pub fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}/callback", self.port)
    }

    /// The query of the next answer.
    pub fn answer(&self) -> Result<String> {
        self.queries.recv_timeout(PATIENCE).map_err(|_| Error::Timeout {
            what: "the browser comes back to the application".to_owned(),
            seconds: PATIENCE.as_secs_f32(),
            last: "no request".to_owned(),
        })
    }
}

fn serve(listener: &TcpListener, mut tell: impl FnMut(String) -> bool) {
    for stream in listener.incoming() {
        let Some(target) = stream.ok().and_then(|stream| answered(stream).ok()) else {
            continue;
        };
        if let Some(query) = target.strip_prefix("/callback?")
            && !tell(query.to_owned())
        {
            return;
        }
    }
}

/// Answers one request and returns its target.
fn answered(mut stream: TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 1 << 16 {
        match stream.read(&mut chunk)? {
            0 => break,
            n => head.extend(&chunk[..n]),
        }
    }
    let page = "<!doctype html><title>Back in the application</title>";
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )?;
    let head = String::from_utf8_lossy(&head);
    Ok(head.split(' ').nth(1).unwrap_or_default().to_owned())
}
