//! As much HTTP/1.1 as an upgrade needs: one request head per connection, one short answer.
//!
//! Own code since DERP's fast start wants no response at all, and since the bytes that follow the head must reach the
//! protocol that takes over.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The value of one query parameter, without percent-decoding.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.query, name)
    }
}

/// The value of one parameter of a query, without percent-decoding.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        pair.split_once('=')
            .filter(|(have, _)| *have == name)
            .map(|(_, value)| value)
    })
}

/// Reads one head; what was read beyond it is in the second value. `None` when the client closed before the first byte.
pub(crate) async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Head, BytesMut)>> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        if io.read_buf(&mut buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&buffer).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => {
                let head = own(&request);
                buffer.advance(length);
                return Ok(Some((head, buffer)));
            }
            httparse::Status::Partial if buffer.len() >= MAX_HEAD => {
                return Err(io::Error::other("the request head is too long"));
            }
            httparse::Status::Partial => {}
        }
    }
}

fn own(request: &httparse::Request<'_, '_>) -> Head {
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |header: &httparse::Header<'_>| {
        (
            header.name.to_owned(),
            String::from_utf8_lossy(header.value).into_owned(),
        )
    };
    Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: request.headers.iter().map(header).collect(),
    }
}

/// A whole response, after which the connection is closed.
pub(crate) fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
