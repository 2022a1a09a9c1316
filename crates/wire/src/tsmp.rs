//! TSMP, the messages that nodes send each other inside the tunnel (Go: `net/packet/tsmp.go`).
//!
//! The body of an IP packet of protocol 99 comes in, a [`Message`] goes out, and back. The packet filter does not judge
//! these packets, so whoever acts on one must first have checked that its source address belongs to the peer whose key
//! decrypted it. `packet::build::tsmp` puts the IP header around a body.

#[cfg(test)]
mod tests;

use std::fmt;

use crate::{key::DiscoPublic, packet::IpProto};

/// One TSMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A packet of the receiver was not let in. Travels against the direction of the packet it speaks of.
    Reject(Reject),
    /// Asks for a [`Message::Pong`] with the same data.
    Ping([u8; 8]),
    /// The answer to a ping.
    Pong {
        /// What the ping carried.
        data: [u8; 8],
        /// Where the answering node serves its peerAPI; 0 when it has none.
        peer_api_port: u16,
    },
    /// The sender's disco key of this process. Believe it only of the peer whose tunnel it came through.
    DiscoKey(DiscoPublic),
}

/// Which packet was refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// Protocol of the refused packet.
    pub proto: IpProto,
    /// Why it was refused.
    pub reason: Reason,
    /// Source port of the refused packet.
    pub src_port: u16,
    /// Destination port of the refused packet.
    pub dst_port: u16,
    /// The refusing node may have caused this itself, for example because its routes are broken.
    pub maybe_broken: bool,
}

/// Why a packet was refused: one letter on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// The tailnet policy does not allow it.
    pub const POLICY: Self = Self(b'A');
    /// The node takes no incoming connections.
    pub const SHIELDS_UP: Self = Self(b'S');
    /// The node's operating system has forwarding switched off.
    pub const FORWARDING: Self = Self(b'F');
    /// A firewall of the node's operating system.
    pub const HOST_FIREWALL: Self = Self(b'W');
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reason({})", self.0.escape_ascii())
    }
}

const REJECT: u8 = b'!';
const PING: u8 = b'p';
const PONG: u8 = b'o';
const DISCO_KEY: u8 = b'a';
const MAYBE_BROKEN: u8 = 0x01;

impl Message {
    /// Reads the body of a TSMP packet. Bytes behind a known message are ignored, as newer nodes may append fields.
    /// `None` for an unknown kind or a body that is too short; the answer to that is to ignore it.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        match *kind {
            REJECT => {
                let [proto, reason, s0, s1, d0, d1] = *rest.first_chunk()?;
                Some(Self::Reject(Reject {
                    proto: IpProto(proto),
                    reason: Reason(reason),
                    src_port: u16::from_be_bytes([s0, s1]),
                    dst_port: u16::from_be_bytes([d0, d1]),
                    maybe_broken: rest.get(6).is_some_and(|flags| flags & MAYBE_BROKEN != 0),
                }))
            }
            PING => Some(Self::Ping(*rest.first_chunk()?)),
            PONG => {
                let data = *rest.first_chunk()?;
                // Nodes from before the peerAPI leave the port out.
                let port = rest.get(8..10).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
                Some(Self::Pong {
                    data,
                    peer_api_port: port,
                })
            }
            DISCO_KEY => Some(Self::DiscoKey(DiscoPublic::from_bytes(*rest.first_chunk()?))),
            _ => None,
        }
    }

    /// The body that says this.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(33);
        match self {
            Self::Reject(reject) => {
                out.extend_from_slice(&[REJECT, reject.proto.0, reject.reason.0]);
                out.extend_from_slice(&reject.src_port.to_be_bytes());
                out.extend_from_slice(&reject.dst_port.to_be_bytes());
                if reject.maybe_broken {
                    out.push(MAYBE_BROKEN);
                }
            }
            Self::Ping(data) => {
                out.push(PING);
                out.extend_from_slice(data);
            }
            Self::Pong { data, peer_api_port } => {
                out.push(PONG);
                out.extend_from_slice(data);
                out.extend_from_slice(&peer_api_port.to_be_bytes());
            }
            Self::DiscoKey(key) => {
                out.push(DISCO_KEY);
                out.extend_from_slice(key.as_bytes());
            }
        }
        out
    }
}
