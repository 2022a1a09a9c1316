//! Disco: the messages by which two nodes find a direct path (Go: `disco/disco.go`).
//!
//! On the wire a message is `magic ‖ sender's disco key ‖ nonce ‖ box`, over UDP or as a DERP packet. A datagram comes
//! in; [`sender`] tells whose key to look up, without any cryptography; a [`DiscoBox`] opens it into a [`Message`] and
//! seals one the other way. Relay messages (types 4 to 9) are refused as [`DiscoError::Unsupported`] and may be
//! ignored.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::{
    key::{DiscoPrivate, DiscoPublic, NodePublic},
    nacl::{self, NONCE_LEN, NaclBox},
};

/// What every disco datagram begins with: `TS` and a speech balloon.
pub const MAGIC: [u8; 6] = [0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
/// Length of magic, sender key and nonce.
pub const HEADER_LEN: usize = MAGIC.len() + 32 + NONCE_LEN;
/// The most addresses that one [`Message::CallMeMaybe`] is read to hold; the rest is cut off.
pub const MAX_CALL_ENDPOINTS: usize = 100;

const VERSION: u8 = 0;
const ENDPOINT_LEN: usize = 18;
const PING: u8 = 1;
const PONG: u8 = 2;
const CALL_ME_MAYBE: u8 = 3;

/// Why a disco datagram was not understood. All of these mean: drop it silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscoError {
    /// It does not begin as a disco datagram does.
    #[error("not a disco datagram")]
    NotDisco,
    /// The sealed part does not open.
    #[error(transparent)]
    Sealed(#[from] nacl::NotForUs),
    /// It opened, but its content is too short for its type.
    #[error("a disco message of type {0} is cut short")]
    Truncated(u8),
    /// A type or version that this node does not speak, such as the peer-relay messages.
    #[error("disco message type {kind} version {version} is not supported")]
    Unsupported {
        /// The type byte.
        kind: u8,
        /// The version byte.
        version: u8,
    },
}

/// Twelve random bytes that tie a pong to its ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxId(pub [u8; 12]);

/// One disco message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks for a [`Pong`](Message::Pong) on the path it came by.
    Ping {
        /// To be repeated in the pong.
        tx_id: TxId,
        /// The sender's node key: a hint, absent in old clients, and not proven by the box.
        node_key: Option<NodePublic>,
        /// Zero bytes that follow, by which a sender probes the path's MTU.
        padding: usize,
    },
    /// Answers a [`Ping`](Message::Ping).
    Pong {
        /// As in the ping.
        tx_id: TxId,
        /// Where the answering node saw the ping come from; over DERP the magic `127.3.3.40:region`.
        source: SocketAddr,
    },
    /// Sent over DERP only: "ping me at these addresses, my firewall is open towards you".
    CallMeMaybe {
        /// The sender's own addresses, at most [`MAX_CALL_ENDPOINTS`].
        endpoints: Vec<SocketAddr>,
    },
}

/// Whether a datagram claims to be disco: long enough and with the magic.
pub fn looks_like_disco(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && datagram.starts_with(&MAGIC)
}

/// The disco key that a datagram claims to come from; [`DiscoBox::open`] proves it.
pub fn sender(datagram: &[u8]) -> Option<DiscoPublic> {
    if !looks_like_disco(datagram) {
        return None;
    }
    let key = datagram.get(MAGIC.len()..)?.first_chunk::<32>()?;
    Some(DiscoPublic::from_bytes(*key))
}

impl Message {
    /// Appends the plain form: type, version, body.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Message::Ping {
                tx_id,
                node_key,
                padding,
            } => {
                out.extend_from_slice(&[PING, VERSION]);
                out.extend_from_slice(&tx_id.0);
                if let Some(key) = node_key {
                    out.extend_from_slice(key.as_bytes());
                    out.resize(out.len() + padding, 0);
                }
            }
            Message::Pong { tx_id, source } => {
                out.extend_from_slice(&[PONG, VERSION]);
                out.extend_from_slice(&tx_id.0);
                put_endpoint(out, *source);
            }
            Message::CallMeMaybe { endpoints } => {
                out.extend_from_slice(&[CALL_ME_MAYBE, VERSION]);
                for endpoint in endpoints.iter().take(MAX_CALL_ENDPOINTS) {
                    put_endpoint(out, *endpoint);
                }
            }
        }
    }

    /// Reads the plain form.
    ///
    /// # Errors
    /// [`DiscoError::Truncated`] or [`DiscoError::Unsupported`].
    pub fn parse(plain: &[u8]) -> Result<Self, DiscoError> {
        let [kind, version, body @ ..] = plain else {
            return Err(DiscoError::Truncated(plain.first().copied().unwrap_or(0)));
        };
        if *version != VERSION {
            return Err(DiscoError::Unsupported {
                kind: *kind,
                version: *version,
            });
        }
        let truncated = DiscoError::Truncated(*kind);
        match *kind {
            PING => {
                let (tx_id, rest) = body.split_first_chunk::<12>().ok_or(truncated)?;
                let (node_key, padding) = match rest.split_first_chunk::<32>() {
                    Some((key, padding)) => (Some(NodePublic::from_bytes(*key)), padding.len()),
                    None => (None, 0),
                };
                Ok(Message::Ping {
                    tx_id: TxId(*tx_id),
                    node_key,
                    padding,
                })
            }
            PONG => {
                let (tx_id, rest) = body.split_first_chunk::<12>().ok_or(truncated)?;
                let source = rest.first_chunk::<ENDPOINT_LEN>().ok_or(truncated)?;
                Ok(Message::Pong {
                    tx_id: TxId(*tx_id),
                    source: endpoint(source),
                })
            }
            CALL_ME_MAYBE => {
                let (whole, _) = body.as_chunks::<ENDPOINT_LEN>();
                Ok(Message::CallMeMaybe {
                    endpoints: whole.iter().take(MAX_CALL_ENDPOINTS).map(endpoint).collect(),
                })
            }
            kind => Err(DiscoError::Unsupported {
                kind,
                version: *version,
            }),
        }
    }
}

/// An address as 16 bytes of (v4-mapped) IPv6 and a big-endian port.
fn put_endpoint(out: &mut Vec<u8>, addr: SocketAddr) {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&addr.port().to_be_bytes());
}

fn endpoint(raw: &[u8; ENDPOINT_LEN]) -> SocketAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&raw[..16]);
    let port = u16::from_be_bytes([raw[16], raw[17]]);
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port)
}

/// Seals and opens disco datagrams between our disco key and one peer's.
///
/// The shared key is computed once, in [`DiscoBox::new`].
#[derive(Debug)]
pub struct DiscoBox {
    ours: DiscoPublic,
    theirs: DiscoPublic,
    shared: NaclBox,
}

impl DiscoBox {
    /// Computes the shared key (one X25519).
    pub fn new(ours: &DiscoPrivate, theirs: &DiscoPublic) -> Self {
        Self {
            ours: ours.public(),
            theirs: *theirs,
            shared: NaclBox::for_disco(ours, theirs),
        }
    }

    /// The peer's disco key.
    pub fn peer(&self) -> &DiscoPublic {
        &self.theirs
    }

    /// The whole datagram for `message`. `nonce` must be fresh random bytes.
    pub fn seal(&self, message: &Message, nonce: &[u8; NONCE_LEN]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(64);
        message.encode_into(&mut plain);
        let mut out = Vec::with_capacity(HEADER_LEN + plain.len() + nacl::OVERHEAD - NONCE_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(self.ours.as_bytes());
        self.shared.seal_into(nonce, &plain, &mut out);
        out
    }

    /// Opens a whole datagram that [`sender`] attributes to this peer.
    ///
    /// # Errors
    /// [`DiscoError`]; the datagram is then to be dropped.
    pub fn open(&self, datagram: &[u8]) -> Result<Message, DiscoError> {
        if sender(datagram) != Some(self.theirs) {
            return Err(DiscoError::NotDisco);
        }
        let plain = self.shared.open(&datagram[HEADER_LEN - NONCE_LEN..])?;
        Message::parse(&plain)
    }
}

#[cfg(test)]
mod tests;
