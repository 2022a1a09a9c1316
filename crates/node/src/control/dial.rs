//! From a name to an upgraded byte stream: TCP, TLS, `GET /key`, `POST /ts2021`.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tailnet_wire::{
    control::{CAPABILITY_VERSION, ServerKeys},
    key::MachinePublic,
    noise::INITIATION_LEN,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::{
    ControlError,
    target::{Target, Way},
};

/// For TCP and TLS, or for one request.
const LIMIT: Duration = Duration::from_secs(10);
/// Head start of one address of a name over the next (RFC 8305 section 5).
const ADDRESS_HEAD_START: Duration = Duration::from_millis(250);
const MAX_KEY_BODY: usize = 64 * 1024;
const MAX_RESPONSE_HEAD: usize = 16 * 1024;
const UPGRADE: &str = "tailscale-control-protocol";

/// A TCP or TLS connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Asks for the server's Noise key over a connection whose certificate is verified.
pub(super) async fn fetch_key(target: &Target, tls: &Arc<ClientConfig>) -> Result<MachinePublic, ControlError> {
    limited(target, "fetching its key", async {
        let io = connect(target, target.key_way(), tls).await?;
        let answer = get(target, io, &format!("/key?v={CAPABILITY_VERSION}")).await?;
        let keys: ServerKeys = serde_json::from_slice(&answer).map_err(|_| not_control(target, "/key is not JSON"))?;
        let too_old = || not_control(target, "/key names no Noise key; the server is too old");
        keys.public_key.ok_or_else(too_old)
    })
    .await
}

/// Opens a connection that has been upgraded to Noise, trying each way. Answers it with the bytes that arrived behind
/// the upgrade.
pub(super) async fn upgrade(
    target: &Target,
    tls: &Arc<ClientConfig>,
    initiation: &[u8; INITIATION_LEN],
) -> Result<(Box<dyn Io>, BytesMut), ControlError> {
    limited(target, "opening the control connection", async {
        let mut attempts = FuturesUnordered::new();
        let mut ways = target.ways().into_iter().peekable();
        let mut last = None;
        loop {
            if attempts.is_empty() && ways.peek().is_none() {
                return Err(last.unwrap_or_else(|| not_control(target, "there is no way to dial it")));
            }
            let delay = ways
                .peek()
                .map(|way| if attempts.is_empty() { Duration::ZERO } else { way.delay });
            tokio::select! {
                Some(attempt) = attempts.next(), if !attempts.is_empty() => match attempt {
                    Ok(upgraded) => return Ok(upgraded),
                    Err(e) => last = Some(e),
                },
                () = sleep(delay.unwrap_or_default()), if delay.is_some() => {
                    attempts.extend(ways.next().map(|way| try_upgrade(target, way, tls, initiation)));
                }
            }
        }
    })
    .await
}

async fn try_upgrade(
    target: &Target,
    way: Way,
    tls: &Arc<ClientConfig>,
    initiation: &[u8; INITIATION_LEN],
) -> Result<(Box<dyn Io>, BytesMut), ControlError> {
    let mut io = connect(target, way, tls).await?;
    let request = format!(
        "POST /ts2021 HTTP/1.1\r\nHost: {}\r\nUpgrade: {UPGRADE}\r\nConnection: upgrade\r\nX-Tailscale-Handshake: {}\r\n\
         Content-Length: 0\r\n\r\n",
        target.authority,
        STANDARD.encode(initiation),
    );
    let broken = |e: io::Error| ControlError::Broken(e.to_string());
    io.write_all(request.as_bytes()).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;
    let mut received = BytesMut::with_capacity(4096);
    loop {
        if io.read_buf(&mut received).await.map_err(broken)? == 0 {
            return Err(not_control(
                target,
                "it closed the connection before it answered /ts2021",
            ));
        }
        if let Some(head) = switched(target, &received)? {
            // What follows the head is Noise already: the server sends both in one segment.
            let leftover = received.split_off(head);
            return Ok((io, leftover));
        }
        if received.len() > MAX_RESPONSE_HEAD {
            return Err(not_control(target, "its answer to /ts2021 has no end"));
        }
    }
}

/// The length of a response head that switches protocols; `None` = it is not complete.
fn switched(target: &Target, received: &[u8]) -> Result<Option<usize>, ControlError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(not_control(target, "its answer to /ts2021 is not HTTP")),
    };
    let upgraded = response
        .headers
        .iter()
        .any(|h| h.name.eq_ignore_ascii_case("upgrade") && h.value.eq_ignore_ascii_case(UPGRADE.as_bytes()));
    match response.code {
        Some(101) if upgraded => Ok(Some(length)),
        code => Err(ControlError::NotControl {
            host: target.host.clone(),
            reason: format!("it answered {} to /ts2021", code.unwrap_or_default()),
        }),
    }
}

/// TCP, and TLS where the way asks for it.
pub(super) async fn connect(target: &Target, way: Way, tls: &Arc<ClientConfig>) -> Result<Box<dyn Io>, ControlError> {
    let tcp = connect_tcp(&target.host, way.port).await?;
    // Requests are small and answered: Nagle's delay would only add latency.
    tcp.set_nodelay(true).map_err(|e| ControlError::Broken(e.to_string()))?;
    if !way.tls {
        return Ok(Box::new(tcp));
    }
    let failed = |source| ControlError::Tls {
        host: target.host.clone(),
        port: way.port,
        source,
    };
    let name = ServerName::try_from(target.host.clone()).map_err(|e| failed(io::Error::other(e)))?;
    let stream = TlsConnector::from(tls.clone())
        .connect(name, tcp)
        .await
        .map_err(failed)?;
    Ok(Box::new(stream))
}

/// Tries the addresses of a name one after the other, each with a head start over the next.
async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, ControlError> {
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|source| ControlError::Resolve {
        host: host.into(),
        source,
    })?;
    let mut addresses = alternating(found).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    loop {
        let next = addresses.len() > 0;
        if attempts.is_empty() && !next {
            return Err(ControlError::Dial {
                host: host.into(),
                port,
                source: error,
            });
        }
        let delay = if attempts.is_empty() {
            Duration::ZERO
        } else {
            ADDRESS_HEAD_START
        };
        tokio::select! {
            Some(attempt) = attempts.next(), if !attempts.is_empty() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(e) => error = e,
            },
            () = sleep(delay), if next => attempts.extend(addresses.next().map(TcpStream::connect)),
        }
    }
}

/// IPv6 and IPv4 in turn, beginning with the resolver's first choice.
fn alternating(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = {
        let all: Vec<_> = addresses.collect();
        let first_is_v6 = all.first().is_none_or(SocketAddr::is_ipv6);
        all.into_iter().partition(|a| a.is_ipv6() == first_is_v6)
    };
    let (mut first, mut second) = (v6.into_iter(), v4.into_iter());
    let mut order = Vec::new();
    while first.len() + second.len() > 0 {
        order.extend(first.next());
        order.extend(second.next());
    }
    order
}

async fn get(target: &Target, io: Box<dyn Io>, path: &str) -> Result<Bytes, ControlError> {
    let broken = |e: hyper::Error| ControlError::Broken(e.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(broken)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get(path)
        .header(http::header::HOST, &target.authority)
        .body(Empty::<Bytes>::new())
        .map_err(|e| ControlError::Broken(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_KEY_BODY).collect().await;
    let body = body
        .map_err(|_| not_control(target, "its answer to /key cannot be read"))?
        .to_bytes();
    if !status.is_success() {
        let reason = format!("it answered {} to /key", status.as_u16());
        return Err(ControlError::NotControl {
            host: target.host.clone(),
            reason,
        });
    }
    Ok(body)
}

pub(super) async fn limited<T>(
    target: &Target,
    what: &'static str,
    work: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    let late = |_| {
        Err(ControlError::Timeout {
            host: target.host.clone(),
            what,
            limit: LIMIT,
        })
    };
    timeout(LIMIT, work).await.unwrap_or_else(late)
}

fn not_control(target: &Target, reason: &str) -> ControlError {
    ControlError::NotControl {
        host: target.host.clone(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
