//! DERP: the relay protocol between a node and a relay server (Go: `derp/derp.go`).
//!
//! After TLS and an HTTP upgrade both sides exchange frames: `type u8 ‖ length u32 big-endian ‖ body`. The [`Decoder`]
//! takes bytes as they arrive and gives out [`Frame`]s; [`Frame::encode_into`] and [`put_send_packet`] write them. One
//! `Frame` type serves client and server. The JSON of the handshake is in [`ClientInfo`] and [`ServerInfo`].
//!
//! Source keys in [`Frame::RecvPacket`] are vouched for by the relay only: a hint where to route, never an identity.

mod info;

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};

pub use self::info::{ClientInfo, InfoError, PROTOCOL_VERSION, ServerInfo};
use crate::key::NodePublic;

/// The largest packet that DERP carries, in bytes.
pub const MAX_PACKET: usize = 64 << 10;
/// The largest frame body that is accepted, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// Length of type and length in front of each body.
pub const FRAME_HEADER_LEN: usize = 5;
/// A relay sends a keepalive about this often; twice this without any byte means that the connection is dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);

const KEY_LEN: usize = 32;
/// `DERP` and a key.
const MAGIC: [u8; 8] = [0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91];
/// The longest ServerKey body: later versions may append to the 40 bytes known now.
const MAX_SERVER_KEY: usize = 1024;

/// The type bytes of frames.
pub mod frame_type {
    #![allow(missing_docs, reason = "the names are those of the protocol")]
    pub const SERVER_KEY: u8 = 0x01;
    pub const CLIENT_INFO: u8 = 0x02;
    pub const SERVER_INFO: u8 = 0x03;
    pub const SEND_PACKET: u8 = 0x04;
    pub const RECV_PACKET: u8 = 0x05;
    pub const KEEP_ALIVE: u8 = 0x06;
    pub const NOTE_PREFERRED: u8 = 0x07;
    pub const PEER_GONE: u8 = 0x08;
    pub const PEER_PRESENT: u8 = 0x09;
    pub const FORWARD_PACKET: u8 = 0x0a;
    pub const WATCH_CONNS: u8 = 0x10;
    pub const CLOSE_PEER: u8 = 0x11;
    pub const PING: u8 = 0x12;
    pub const PONG: u8 = 0x13;
    pub const HEALTH: u8 = 0x14;
    pub const RESTARTING: u8 = 0x15;
}

/// Why a byte stream is not DERP. The connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame announces more than [`MAX_FRAME`] bytes.
    #[error("a DERP frame of type {kind:#04x} announces {len} bytes, more than {MAX_FRAME}")]
    TooLong {
        /// The type byte.
        kind: u8,
        /// The announced length in bytes.
        len: usize,
    },
    /// A packet frame holds more than [`MAX_PACKET`] bytes.
    #[error("a DERP packet of {0} bytes is longer than {MAX_PACKET}")]
    PacketTooLong(usize),
    /// A body is shorter than its type needs, or lacks the magic.
    #[error("a DERP frame of type {0:#04x} is malformed")]
    Malformed(u8),
}

/// Why a relay says that a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// The peer closed its connection to this relay.
    Disconnected,
    /// The peer is not connected here: a packet to it was dropped.
    NotHere,
    /// A reason that this node does not know.
    Other(u8),
}

/// One DERP frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Server: its public key; always the first frame.
    ServerKey(NodePublic),
    /// Client: who it is; `sealed` opens with [`ClientInfo::open`].
    ClientInfo {
        /// The client's node key, proven by `sealed`.
        key: NodePublic,
        /// The sealed [`ClientInfo`].
        sealed: BytesMut,
    },
    /// Server: its limits; the bytes open with [`ServerInfo::open`].
    ServerInfo(BytesMut),
    /// Client: carry `packet` to `dst`.
    SendPacket {
        /// The node that shall get it.
        dst: NodePublic,
        /// At most [`MAX_PACKET`] bytes.
        packet: BytesMut,
    },
    /// Server: a packet that `src` sent.
    RecvPacket {
        /// The node that the relay says it came from.
        src: NodePublic,
        /// At most [`MAX_PACKET`] bytes.
        packet: BytesMut,
    },
    /// Server: nothing to say, still there.
    KeepAlive,
    /// Client: whether this relay is its home.
    NotePreferred(bool),
    /// Server: packets to this peer are not delivered any more.
    PeerGone {
        /// The peer.
        key: NodePublic,
        /// Why.
        reason: GoneReason,
    },
    /// Either side: answer with the same bytes.
    Ping([u8; 8]),
    /// Answers a [`Frame::Ping`].
    Pong([u8; 8]),
    /// Server: a problem of this connection in words, such as a second one with the same key; empty when it is over.
    Health(String),
    /// Server: it is about to restart.
    Restarting {
        /// Wait this long before connecting again.
        reconnect_in: Duration,
        /// Keep trying for this long before turning to another relay.
        try_for: Duration,
    },
    /// A frame of the relays' own mesh, or of a later version: to be ignored.
    Other(u8),
}

impl Frame {
    /// Appends the frame with its header.
    ///
    /// A [`Frame::Other`] has no body; a packet longer than [`MAX_PACKET`] is written as it is and refused by the
    /// receiver, so callers check it first.
    pub fn encode_into(&self, out: &mut BytesMut) {
        use frame_type as t;
        match self {
            Frame::ServerKey(key) => put(out, t::SERVER_KEY, &[&MAGIC, key.as_bytes()]),
            Frame::ClientInfo { key, sealed } => put(out, t::CLIENT_INFO, &[key.as_bytes(), sealed]),
            Frame::ServerInfo(sealed) => put(out, t::SERVER_INFO, &[sealed]),
            Frame::SendPacket { dst, packet } => put_send_packet(out, dst, packet),
            Frame::RecvPacket { src, packet } => put_recv_packet(out, src, packet),
            Frame::KeepAlive => put(out, t::KEEP_ALIVE, &[]),
            Frame::NotePreferred(home) => put(out, t::NOTE_PREFERRED, &[&[u8::from(*home)]]),
            Frame::PeerGone { key, reason } => put(out, t::PEER_GONE, &[key.as_bytes(), &[reason.to_byte()]]),
            Frame::Ping(data) => put(out, t::PING, &[data]),
            Frame::Pong(data) => put(out, t::PONG, &[data]),
            Frame::Health(text) => put(out, t::HEALTH, &[text.as_bytes()]),
            Frame::Restarting { reconnect_in, try_for } => put(
                out,
                t::RESTARTING,
                &[&millis(*reconnect_in).to_be_bytes(), &millis(*try_for).to_be_bytes()],
            ),
            Frame::Other(kind) => put(out, *kind, &[]),
        }
    }

    fn parse(kind: u8, mut body: BytesMut) -> Result<Frame, FrameError> {
        use frame_type as t;
        let malformed = FrameError::Malformed(kind);
        Ok(match kind {
            t::SERVER_KEY => {
                let key = body.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<KEY_LEN>());
                match key {
                    Some(key) if body.len() <= MAX_SERVER_KEY => Frame::ServerKey(NodePublic::from_bytes(*key)),
                    _ => return Err(malformed),
                }
            }
            t::CLIENT_INFO => Frame::ClientInfo {
                key: take_key(&mut body).ok_or(malformed)?,
                sealed: body,
            },
            t::SERVER_INFO => Frame::ServerInfo(body),
            t::SEND_PACKET | t::RECV_PACKET => {
                let key = take_key(&mut body).ok_or(malformed)?;
                if body.len() > MAX_PACKET {
                    return Err(FrameError::PacketTooLong(body.len()));
                }
                if kind == t::SEND_PACKET {
                    Frame::SendPacket { dst: key, packet: body }
                } else {
                    Frame::RecvPacket { src: key, packet: body }
                }
            }
            t::KEEP_ALIVE => Frame::KeepAlive,
            t::NOTE_PREFERRED => Frame::NotePreferred(*body.first().ok_or(malformed)? != 0),
            t::PEER_GONE => Frame::PeerGone {
                key: take_key(&mut body).ok_or(malformed)?,
                reason: GoneReason::from_byte(body.first().copied()),
            },
            t::PING => Frame::Ping(*body.first_chunk().ok_or(malformed)?),
            t::PONG => Frame::Pong(*body.first_chunk().ok_or(malformed)?),
            t::HEALTH => Frame::Health(String::from_utf8_lossy(&body).into_owned()),
            t::RESTARTING => {
                let (reconnect_in, rest) = body.split_first_chunk().ok_or(malformed)?;
                Frame::Restarting {
                    reconnect_in: Duration::from_millis(u32::from_be_bytes(*reconnect_in).into()),
                    try_for: Duration::from_millis(u32::from_be_bytes(*rest.first_chunk().ok_or(malformed)?).into()),
                }
            }
            other => Frame::Other(other),
        })
    }
}

impl GoneReason {
    fn from_byte(raw: Option<u8>) -> Self {
        match raw {
            // Old servers send no reason and mean a closed connection.
            None | Some(0) => GoneReason::Disconnected,
            Some(1) => GoneReason::NotHere,
            Some(other) => GoneReason::Other(other),
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            GoneReason::Disconnected => 0,
            GoneReason::NotHere => 1,
            GoneReason::Other(raw) => raw,
        }
    }
}

/// Appends a SendPacket frame without an owned copy of the packet: the client's hot path.
pub fn put_send_packet(out: &mut BytesMut, dst: &NodePublic, packet: &[u8]) {
    put(out, frame_type::SEND_PACKET, &[dst.as_bytes(), packet]);
}

/// Appends a RecvPacket frame without an owned copy of the packet: the server's hot path.
pub fn put_recv_packet(out: &mut BytesMut, src: &NodePublic, packet: &[u8]) {
    put(out, frame_type::RECV_PACKET, &[src.as_bytes(), packet]);
}

fn put(out: &mut BytesMut, kind: u8, body: &[&[u8]]) {
    let len: usize = body.iter().map(|part| part.len()).sum();
    out.reserve(FRAME_HEADER_LEN + len);
    out.put_u8(kind);
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
    for part in body {
        out.extend_from_slice(part);
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn take_key(body: &mut BytesMut) -> Option<NodePublic> {
    let key = NodePublic::from_bytes(*body.first_chunk::<KEY_LEN>()?);
    body.advance(KEY_LEN);
    Some(key)
}

/// Cuts a byte stream into frames.
///
/// Read into [`Decoder::buffer`], then call [`Decoder::next_frame`] until it gives `None`. It holds at most one
/// incomplete frame, that is [`MAX_FRAME`] bytes, plus what one read brought.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder that begins with bytes already read, such as those that followed the HTTP upgrade.
    pub fn new(leftover: &[u8]) -> Self {
        Self {
            buffer: BytesMut::from(leftover),
        }
    }

    /// Where the reader appends. Packets are cut off this buffer without copying.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, or `None` until more bytes are there.
    ///
    /// # Errors
    /// [`FrameError`]; the stream cannot be trusted after it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(&[kind, a, b, c, d]) = self.buffer.first_chunk::<FRAME_HEADER_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLong { kind, len });
        }
        if self.buffer.len() < FRAME_HEADER_LEN + len {
            self.buffer.reserve(FRAME_HEADER_LEN + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_LEN);
        let body = self.buffer.split_to(len);
        Frame::parse(kind, body).map(Some)
    }
}

#[cfg(test)]
mod tests;
