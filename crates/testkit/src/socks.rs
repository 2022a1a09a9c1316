//! A SOCKS5 proxy (RFC 1928) on loopback, by which curl or a browser speaks as one of the demo's users.
//!
//! CONNECT only, without authentication: whoever can reach the port acts as that user. That is right for a tailnet
//! that lives and dies with this process, and for nothing else.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

/// Connections at a time; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 64;
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// The second byte of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Succeeded = 0,
    Failure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// A proxy that runs until it is dropped.
pub struct Socks5 {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Socks5 {
    /// Listens on loopback at `port` (0 = any) and connects by `dial`, which gets `host:port` as the client wrote it.
    ///
    /// # Errors
    /// When the port cannot be bound.
    pub async fn start<D, F, S>(port: u16, dial: D) -> io::Result<Self>
    where
        D: Fn(String) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, Arc::new(dial)));
        Ok(Self {
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept<D, F, S>(listener: TcpListener, dial: Arc<D>)
where
    D: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let dial = dial.clone();
        tasks.spawn(async move {
            if let Err(error) = serve(client, &*dial).await {
                tracing::debug!(%error, "a SOCKS connection ended");
            }
            drop(place);
        });
    }
}

async fn serve<F, S>(mut client: TcpStream, dial: &(impl Fn(String) -> F + Send + Sync)) -> io::Result<()>
where
    F: Future<Output = io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let target = match timeout(GREETING_TIMEOUT, greet(&mut client))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??
    {
        Ok(target) => target,
        Err(reply) => return answer(&mut client, reply).await,
    };
    match dial(target).await {
        Ok(mut server) => {
            answer(&mut client, Reply::Succeeded).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
        Err(error) => {
            answer(&mut client, explain(error.kind())).await?;
            Err(error)
        }
    }
}

/// Reads greeting and request; gives `host:port`, or what to refuse with.
async fn greet(client: &mut TcpStream) -> io::Result<Result<String, Reply>> {
    let [version, methods] = read(client).await?;
    if version != VERSION {
        return Err(io::Error::other("not SOCKS5"));
    }
    let mut offered = vec![0; usize::from(methods)];
    client.read_exact(&mut offered).await?;
    if !offered.contains(&NO_AUTHENTICATION) {
        client.write_all(&[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Err(io::Error::other("the client insists on authentication"));
    }
    client.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let [version, command, _, kind] = read(client).await?;
    if version != VERSION {
        return Err(io::Error::other("not a SOCKS5 request"));
    }
    let host = match kind {
        1 => std::net::Ipv4Addr::from(read::<4>(client).await?).to_string(),
        3 => {
            let [length] = read(client).await?;
            let mut name = vec![0; usize::from(length)];
            client.read_exact(&mut name).await?;
            String::from_utf8(name).map_err(io::Error::other)?
        }
        4 => format!("[{}]", std::net::Ipv6Addr::from(read::<16>(client).await?)),
        _ => return Ok(Err(Reply::AddressNotSupported)),
    };
    let port = u16::from_be_bytes(read(client).await?);
    Ok(if command == CONNECT {
        Ok(format!("{host}:{port}"))
    } else {
        Err(Reply::CommandNotSupported)
    })
}

async fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut raw = [0; N];
    client.read_exact(&mut raw).await?;
    Ok(raw)
}

/// The bound address in a reply is of no use to a client of CONNECT: zeros, as most proxies send.
async fn answer(client: &mut TcpStream, reply: Reply) -> io::Result<()> {
    client.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

fn explain(kind: io::ErrorKind) -> Reply {
    match kind {
        io::ErrorKind::ConnectionRefused => Reply::Refused,
        io::ErrorKind::PermissionDenied => Reply::NotAllowed,
        io::ErrorKind::NotFound | io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Reply::HostUnreachable,
        _ => Reply::Failure,
    }
}

#[cfg(test)]
mod tests;
