//! A DERP relay: TLS, HTTP upgrade or fast start, frames (protocol.md 9; Go: `derp/derpserver`).
//!
//! It carries packets between node keys that the control server knows and refuses all others. Each client has a
//! bounded queue; a packet that finds it full is dropped, as on a real relay. What the relay tells clients of each
//! other (gone, not here, duplicate) is in [`table`].

mod table;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tailnet_wire::{
    derp::{ClientInfo, Decoder, Frame, GoneReason, MAX_PACKET, PROTOCOL_VERSION, ServerInfo, put_recv_packet},
    disco,
    key::{NodePrivate, NodePublic},
    nacl::NONCE_LEN,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    time::timeout,
};

use self::table::{Client, Table};
use crate::{
    fault::Faults,
    http::{self, Head},
    random,
    service::{Connection, Serve},
};

/// How many frames wait for one client, as at derper.
const QUEUE: usize = 32;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// At most this many bytes go into one write.
const WRITE_BATCH: usize = 64 << 10;

/// Decides whether a node key may use the relay.
pub(crate) type Admit = Box<dyn Fn(&NodePublic) -> bool + Send + Sync>;

/// The relay, to be served by a [`Service`](crate::service::Service).
pub(crate) struct Relay {
    key: NodePrivate,
    admit: Admit,
    keep_alive: Duration,
    faults: Arc<Faults>,
    /// Whether nodes are kept from telling each other addresses that the NAT does not know.
    natted: bool,
    table: Table,
}

impl Relay {
    pub(crate) fn new(key: NodePrivate, admit: Admit, keep_alive: Duration, faults: Arc<Faults>, natted: bool) -> Self {
        Self {
            key,
            admit,
            keep_alive,
            faults,
            natted,
            table: Table::default(),
        }
    }

    /// The table of who is connected, with its counters.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    async fn talk(&self, connection: Connection, head: &Head, leftover: &[u8]) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(connection);
        if head.header("Derp-Fast-Start") != Some("1") {
            let digits = self.key.public().to_string();
            let digits = digits.trim_start_matches(NodePublic::PREFIX);
            let response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
                 Derp-Version: {PROTOCOL_VERSION}\r\nDerp-Public-Key: {digits}\r\n\r\n"
            );
            writer.write_all(response.as_bytes()).await?;
        }
        let mut decoder = Decoder::new(leftover);
        let greet = self.greet(&mut reader, &mut writer, &mut decoder);
        let key = timeout(HANDSHAKE_TIMEOUT, greet)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let client = self.table.add(key, queue);
        let result = tokio::select! {
            result = self.read(&mut reader, &mut decoder, &client) => result,
            result = self.write(&mut writer, waiting) => result,
        };
        self.table.remove(&client);
        result
    }

    /// Exchanges keys; the client is known after it.
    async fn greet(
        &self,
        reader: &mut ReadHalf<Connection>,
        writer: &mut WriteHalf<Connection>,
        decoder: &mut Decoder,
    ) -> io::Result<NodePublic> {
        let mut out = BytesMut::new();
        Frame::ServerKey(self.key.public()).encode_into(&mut out);
        writer.write_all(&out).await?;
        writer.flush().await?;
        let Some(Frame::ClientInfo { key, sealed }) = next_frame(reader, decoder).await? else {
            return Err(io::Error::other("the first frame is not ClientInfo"));
        };
        let info = ClientInfo::open(&sealed, &self.key, &key).map_err(io::Error::other)?;
        if info.version != PROTOCOL_VERSION {
            return Err(io::Error::other(format!(
                "DERP version {} is not {PROTOCOL_VERSION}",
                info.version
            )));
        }
        if !(self.admit)(&key) {
            self.table.note_refused();
            return Err(io::Error::other(format!(
                "the node key {key:?} is not known to control"
            )));
        }
        out.clear();
        let info = ServerInfo {
            version: PROTOCOL_VERSION,
            ..ServerInfo::default()
        };
        let nonce: [u8; NONCE_LEN] = random::bytes();
        Frame::ServerInfo(info.seal(&self.key, &key, &nonce)).encode_into(&mut out);
        writer.write_all(&out).await?;
        writer.flush().await?;
        Ok(key)
    }

    async fn read(&self, reader: &mut ReadHalf<Connection>, decoder: &mut Decoder, me: &Client) -> io::Result<()> {
        while let Some(frame) = next_frame(reader, decoder).await? {
            match frame {
                Frame::SendPacket { dst, packet } => self.relay(me, &dst, &packet),
                Frame::Ping(data) => me.send(&Frame::Pong(data)),
                Frame::NotePreferred(home) => me.set_home(home),
                // Mesh frames need a mesh key, which nobody has here: derper closes the connection too.
                Frame::Other(0x10 | 0x11) | Frame::ServerKey(_) | Frame::ClientInfo { .. } => {
                    return Err(io::Error::other("a frame that no client may send"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn relay(&self, me: &Client, dst: &NodePublic, packet: &[u8]) {
        if packet.len() > MAX_PACKET || ((self.natted || self.faults.udp_blocked()) && is_call_me_maybe(packet)) {
            return;
        }
        let mut frame = BytesMut::new();
        put_recv_packet(&mut frame, me.key(), packet);
        let known = self.table.deliver(me, dst, frame.freeze());
        if !known && disco::looks_like_disco(packet) {
            me.send_gone(dst, GoneReason::NotHere);
        }
    }

    async fn write(&self, writer: &mut WriteHalf<Connection>, mut waiting: mpsc::Receiver<Bytes>) -> io::Result<()> {
        let mut keep_alive = BytesMut::new();
        Frame::KeepAlive.encode_into(&mut keep_alive);
        let mut batch = BytesMut::new();
        loop {
            match timeout(self.keep_alive, waiting.recv()).await {
                Err(_) => batch.extend_from_slice(&keep_alive),
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => {
                    batch.extend_from_slice(&frame);
                    while batch.len() < WRITE_BATCH {
                        let Ok(frame) = waiting.try_recv() else { break };
                        batch.extend_from_slice(&frame);
                    }
                }
            }
            writer.write_all(&batch).await?;
            writer.flush().await?;
            batch.clear();
        }
    }
}

impl Serve for Relay {
    async fn serve(self: Arc<Self>, mut connection: Connection, from: SocketAddr) {
        let Ok(Some((head, leftover))) = http::read_head(&mut connection).await else {
            return;
        };
        let probe = matches!(
            head.path.as_str(),
            "/derp/probe" | "/derp/latency-check" | "/generate_204"
        );
        let upgrade = head
            .header("Upgrade")
            .is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("derp"));
        let refusal = match head.path.as_str() {
            "/derp" if upgrade => {
                if let Err(error) = self.talk(connection, &head, &leftover).await {
                    tracing::debug!(%from, %error, "a relay connection ended");
                }
                return;
            }
            "/derp" => http::response("426 Upgrade Required", "text/plain", "DERP requires connection upgrade"),
            _ if probe => http::response("200 OK", "text/plain", ""),
            _ => http::response("404 Not Found", "text/plain", "not found"),
        };
        let _ = connection.write_all(&refusal).await;
        let _ = connection.shutdown().await;
    }
}

async fn next_frame(reader: &mut ReadHalf<Connection>, decoder: &mut Decoder) -> io::Result<Option<Frame>> {
    loop {
        if let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            return Ok(Some(frame));
        }
        if reader.read_buf(decoder.buffer()).await? == 0 {
            return Ok(None);
        }
    }
}

/// Whether a disco message is a CallMeMaybe, told by its length alone since a relay cannot open it: type, version and
/// a whole number of 18-byte addresses. A ping has 46 bytes or more than 62 bytes of padding, a pong 32.
fn is_call_me_maybe(packet: &[u8]) -> bool {
    const SEALED: usize = 6 + 32 + 24 + 16;
    let plain = packet.len().checked_sub(SEALED + 2);
    disco::looks_like_disco(packet) && plain.is_some_and(|body| body % 18 == 0 && body != 0)
}
