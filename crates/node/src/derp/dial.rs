//! From a region's entry in the DERP map to a connection that carries frames: TCP, TLS, HTTP upgrade, handshake
//! (Go: `derp/derphttp/derphttp_client.go`, `derp/derp_client.go`).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use bytes::BytesMut;
use rand::RngCore;
use rustls_pki_types::ServerName;
use tailnet_wire::{
    control::{DerpNode, DerpRegion},
    derp::{ClientInfo, Decoder, Frame, FrameError, InfoError, ServerInfo},
    key::{NodePrivate, NodePublic},
    nacl::NONCE_LEN,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Context;
use crate::{clock, tls};

/// Budget for one relay's TCP connection.
const TCP_TIMEOUT: Duration = Duration::from_millis(1500);
/// Budget for TLS, HTTP and the DERP handshake with one relay.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Budget for all relays of a region.
const REGION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long IPv4 is tried alone.
const HEAD_START: Duration = Duration::from_millis(200);
/// The most bytes of HTTP response head that are read.
const MAX_HEAD: usize = 8 << 10;

/// Why there is no connection to a region.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The map lists no relay that could be dialled.
    #[error("the DERP map has no relay for this region")]
    NoRelay,
    /// A host name that is none.
    #[error("the DERP map names the relay {0:?}, which is no host name")]
    Name(String),
    /// DNS does not know the relay.
    #[error("relay {host} cannot be resolved: {source}")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the relay accepts a connection.
    #[error("relay {host} cannot be reached: {source}")]
    Connect {
        /// The relay's name.
        host: String,
        /// What the last address gave.
        source: io::Error,
    },
    /// TLS cannot even begin.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The connection or the relay's certificate failed.
    #[error("the connection to the relay failed: {0}")]
    Io(#[from] io::Error),
    /// What answers is no DERP relay.
    #[error("the relay refuses the upgrade to DERP with HTTP status {0}")]
    Status(u16),
    /// The answer is not HTTP.
    #[error("the relay does not answer in HTTP")]
    NotHttp,
    /// The frames make no sense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The relay's information does not open.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// The relay hangs up in the handshake.
    #[error("the relay hangs up in the handshake: perhaps it admits only nodes that its control server knows")]
    Refused,
    /// Time is over.
    #[error("the relay does not answer in time")]
    TimedOut,
}

/// A connection after its handshake.
pub(super) struct Link {
    pub(super) stream: TlsStream<TcpStream>,
    /// Holds bytes that came with the handshake.
    pub(super) decoder: Decoder,
    pub(super) info: ServerInfo,
    pub(super) node: DerpNode,
}

/// Tries the region's relays in order.
pub(super) async fn dial(context: &Context, region: &DerpRegion) -> Result<Link, DialError> {
    let all = async {
        let mut last = DialError::NoRelay;
        for node in region.nodes.iter().filter(|node| !node.stun_only) {
            match timeout(TCP_TIMEOUT + HANDSHAKE_TIMEOUT, dial_node(context, node)).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) => last = error,
                Err(_) => last = DialError::TimedOut,
            }
        }
        Err(last)
    };
    timeout(REGION_TIMEOUT, all).await.unwrap_or(Err(DialError::TimedOut))
}

async fn dial_node(context: &Context, node: &DerpNode) -> Result<Link, DialError> {
    let config = tls::derp_config(context.roots.clone(), node)?;
    let name = ServerName::try_from(node.host_name.clone()).map_err(|_| DialError::Name(node.host_name.clone()))?;
    let tcp = timeout(TCP_TIMEOUT, connect(node))
        .await
        .map_err(|_| DialError::TimedOut)??;
    tcp.set_nodelay(true)?;
    let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
    let leftover = upgrade(&mut stream, node).await?;
    let mut decoder = Decoder::new(&leftover);
    let info = handshake(&mut stream, &mut decoder, &context.key).await?;
    Ok(Link {
        stream,
        decoder,
        info,
        node: node.clone(),
    })
}

/// Connects to the relay's addresses, IPv4 first with a head start.
async fn connect(node: &DerpNode) -> Result<TcpStream, DialError> {
    let port = if node.derp_port == 0 { 443 } else { node.derp_port };
    let (v4, v6) = addresses(node, port).await?;
    let failed = |source| DialError::Connect {
        host: node.host_name.clone(),
        source,
    };
    let mut first = pin!(connect_any(&v4));
    let mut second = pin!(connect_any(&v6));
    match timeout(HEAD_START, &mut first).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) if v6.is_empty() => return Err(failed(error)),
        Ok(Err(_)) => return second.await.map_err(failed),
        Err(_) => {}
    }
    let winner = tokio::select! {
        result = &mut first => match result { Ok(stream) => Ok(stream), Err(_) => second.await },
        result = &mut second => match result { Ok(stream) => Ok(stream), Err(_) => first.await },
    };
    winner.map_err(failed)
}

async fn connect_any(addrs: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for addr in addrs {
        match TcpStream::connect(addr).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The relay's addresses by family: those of the map, or DNS where the map leaves them open.
async fn addresses(node: &DerpNode, port: u16) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), DialError> {
    let fixed4 = node.ipv4.parse::<Ipv4Addr>().map(IpAddr::from).ok();
    let fixed6 = node.ipv6.parse::<Ipv6Addr>().map(IpAddr::from).ok();
    let mut found: Vec<_> = fixed4
        .into_iter()
        .chain(fixed6)
        .map(|ip| SocketAddr::new(ip, port))
        .collect();
    // An address in the map is there because DNS may not work, so one is enough not to ask.
    if found.is_empty() {
        let host = node.host_name.as_str();
        let resolved = lookup_host((host, port)).await.map_err(|source| DialError::Resolve {
            host: host.to_owned(),
            source,
        })?;
        let open = |addr: &SocketAddr| {
            if addr.is_ipv4() {
                node.ipv4.is_empty()
            } else {
                node.ipv6.is_empty()
            }
        };
        found.extend(resolved.filter(open));
    }
    Ok(found.into_iter().partition(SocketAddr::is_ipv4))
}

/// Turns the HTTP connection into a DERP one; gives the bytes that came behind the response.
async fn upgrade(stream: &mut TlsStream<TcpStream>, node: &DerpNode) -> Result<BytesMut, DialError> {
    let host = &node.host_name;
    let request = format!("GET /derp HTTP/1.1\r\nHost: {host}\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut read = BytesMut::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(DialError::Refused);
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let head = response.parse(&read).map_err(|_| DialError::NotHttp)?;
        match (head, response.code) {
            (httparse::Status::Complete(length), Some(101)) => return Ok(read.split_off(length)),
            (httparse::Status::Complete(_), status) => return Err(DialError::Status(status.unwrap_or(0))),
            (httparse::Status::Partial, _) if read.len() > MAX_HEAD => return Err(DialError::NotHttp),
            (httparse::Status::Partial, _) => {}
        }
    }
}

/// Exchanges keys and information. The server's answer to ours shows that it admits us.
async fn handshake(
    stream: &mut TlsStream<TcpStream>,
    decoder: &mut Decoder,
    key: &NodePrivate,
) -> Result<ServerInfo, DialError> {
    let server = loop {
        if let Frame::ServerKey(key) = next_frame(stream, decoder).await? {
            break key;
        }
    };
    send_client_info(stream, key, &server).await?;
    loop {
        if let Frame::ServerInfo(sealed) = next_frame(stream, decoder).await? {
            return Ok(ServerInfo::open(&sealed, key, &server)?);
        }
    }
}

async fn send_client_info(
    stream: &mut TlsStream<TcpStream>,
    key: &NodePrivate,
    server: &NodePublic,
) -> Result<(), DialError> {
    let mut nonce = [0; NONCE_LEN];
    clock::rng().fill_bytes(&mut nonce);
    let info = Frame::ClientInfo {
        key: key.public(),
        sealed: ClientInfo::default().seal(key, server, &nonce),
    };
    let mut bytes = BytesMut::new();
    info.encode_into(&mut bytes);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

async fn next_frame(stream: &mut TlsStream<TcpStream>, decoder: &mut Decoder) -> Result<Frame, DialError> {
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(frame);
        }
        if stream.read_buf(decoder.buffer()).await? == 0 {
            return Err(DialError::Refused);
        }
    }
}
