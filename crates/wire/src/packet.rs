//! IP packets as they leave and enter a WireGuard tunnel (Go: `net/packet`; RFC 791, 8200, 792, 4443, 9293).
//!
//! Decrypted bytes come in, a [`Packet`] that names addresses, ports and flags goes out: everything the packet filter
//! asks for, read in place without an allocation. [`build`] makes the few packets a node writes by itself: ICMP echo,
//! TCP resets and TSMP messages. [`checksum`] is the arithmetic both need.
//!
//! The reader is as strict as the filter needs it to be. A transport header that does not fit into the first fragment,
//! a later fragment that could overlap one (RFC 1858) and IPv6 extension headers are refused, so that no port can be
//! hidden from a rule. Stricter than Go in two places: an IPv4 header length below 20 bytes is malformed, and bytes
//! behind the packet's own length do not count as part of it.

pub mod build;
pub mod checksum;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Length in bytes of an IPv4 header without options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Length in bytes of the fixed IPv6 header.
pub const IPV6_HEADER_LEN: usize = 40;

/// Bits of [`Packet::tcp_flags`] (RFC 9293, section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number is significant.
    pub const ACK: u8 = 0x10;
}

/// An IP protocol number (IANA "Protocol Numbers").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpProto(pub u8);

impl IpProto {
    /// ICMP for IPv4.
    pub const ICMPV4: Self = Self(1);
    /// IGMP.
    pub const IGMP: Self = Self(2);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Tailscale's own messages between nodes ("any private encryption scheme" for IANA).
    pub const TSMP: Self = Self(99);
    /// SCTP.
    pub const SCTP: Self = Self(132);

    /// Bytes of the transport header that must be present before its fields may be believed. The numbers of ICMP and
    /// IGMP mean nothing on the other IP version.
    const fn header_len(self, version: u8) -> usize {
        match (self, version) {
            (Self::ICMPV4, 4) | (Self::ICMPV6, 6) => 4,
            (Self::IGMP, 4) => 8,
            (Self::TCP, _) => 20,
            (Self::UDP, _) => 8,
            (Self::SCTP, _) => 12,
            (Self::TSMP, _) => 7,
            _ => 0,
        }
    }
}

impl fmt::Display for IpProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMPV4 => f.write_str("ICMPv4"),
            Self::IGMP => f.write_str("IGMP"),
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::TSMP => f.write_str("TSMP"),
            Self::SCTP => f.write_str("SCTP"),
            Self(other) => write!(f, "protocol {other}"),
        }
    }
}

impl fmt::Debug for IpProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which part of a fragmented datagram a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented; always so on IPv6, whose fragment header is an unknown protocol here.
    None,
    /// The first fragment: it carries the transport header.
    First,
    /// A later fragment: it carries no ports, and `Packet` says nothing about its transport.
    Later,
}

/// Why bytes are not an IP packet that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than an IP header.
    #[error("the packet is shorter than an IP header")]
    TooShort,
    /// The version nibble is neither 4 nor 6.
    #[error("the packet is neither IPv4 nor IPv6")]
    Version,
    /// The length field does not fit the bytes at hand, or is shorter than the header.
    #[error("the IP length field contradicts the bytes that arrived")]
    Length,
    /// The IPv4 header length is less than 20 bytes.
    #[error("the IPv4 header length is less than 20 bytes")]
    HeaderLength,
    /// The transport header is incomplete, or a fragment could hide or overwrite it (RFC 1858).
    #[error("the transport header is incomplete or fragmented")]
    Transport,
    /// A protocol number no packet may carry: 0 (IPv6 hop-by-hop options) or 255 (reserved).
    #[error("the IP protocol number is 0 or 255")]
    Protocol,
}

/// The parts of an IP packet that a filter judges. The bytes stay with the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// 4 or 6.
    pub version: u8,
    /// The transport protocol; of a later fragment too.
    pub proto: IpProto,
    /// Source address; port 0 where the protocol has none.
    pub src: SocketAddr,
    /// Destination address; port 0 where the protocol has none.
    pub dst: SocketAddr,
    /// The TCP flag byte, see [`tcp_flags`]; 0 for other protocols.
    pub tcp_flags: u8,
    /// ICMP type; 0 for other protocols.
    pub icmp_type: u8,
    /// ICMP code; 0 for other protocols.
    pub icmp_code: u8,
    /// Whether ports and flags could be read at all.
    pub fragment: Fragment,
    /// Bytes of the IP header, options included: where the transport header begins.
    pub header_len: usize,
    /// Bytes of the whole packet by its own length field; what lies behind is padding.
    pub len: usize,
}

impl Packet {
    /// Reads the headers of one IP packet. Bytes behind the packet's own length are ignored.
    ///
    /// # Errors
    /// [`Malformed`] when the packet must not be believed; the answer to that is to drop it.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => parse_v4(bytes),
            Some(6) => parse_v6(bytes),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::TooShort),
        }
    }

    /// Whether this opens a TCP connection: SYN without ACK, whatever else is set.
    #[inline]
    pub fn is_tcp_syn(&self) -> bool {
        self.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN
    }

    /// Whether this is an ICMP echo request of the packet's own IP version.
    pub fn is_echo_request(&self) -> bool {
        self.is_icmp(8, 128)
    }

    /// Whether this is an ICMP echo reply of the packet's own IP version.
    pub fn is_echo_reply(&self) -> bool {
        self.is_icmp(0, 129)
    }

    /// Whether this is an ICMP error report of the packet's own IP version.
    ///
    /// Type 18 for "parameter problem" on IPv4 is Go's reading (0x12 where IANA has 12); the verdicts must agree.
    pub fn is_icmp_error(&self) -> bool {
        self.has_icmp_body()
            && match self.proto {
                IpProto::ICMPV4 => matches!(self.icmp_type, 3 | 11 | 18),
                IpProto::ICMPV6 => matches!(self.icmp_type, 1..=4),
                _ => false,
            }
    }

    /// The transport header and what follows it, out of the bytes that were parsed.
    pub fn transport<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.header_len..self.len).unwrap_or_default()
    }

    fn is_icmp(&self, v4: u8, v6: u8) -> bool {
        self.icmp_code == 0
            && self.has_icmp_body()
            && match self.proto {
                IpProto::ICMPV4 => self.icmp_type == v4,
                IpProto::ICMPV6 => self.icmp_type == v6,
                _ => false,
            }
    }

    /// Four bytes suffice to parse ICMP; to be an echo or an error it needs the second word as well.
    fn has_icmp_body(&self) -> bool {
        self.fragment != Fragment::Later && self.len >= self.header_len + 8
    }
}

/// The lowest fragment offset, in units of 8 bytes, that cannot touch a transport header (RFC 1858).
const MIN_FRAGMENT_OFFSET: u16 = (60 + 20) / 8;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline]
fn parse_v4(bytes: &[u8]) -> Result<Packet, Malformed> {
    let header: &[u8; IPV4_HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::TooShort)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header_len < IPV4_HEADER_LEN {
        return Err(Malformed::HeaderLength);
    }
    let body = bytes.get(header_len..len).ok_or(Malformed::Length)?;
    let src = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let mut packet = Packet {
        version: 4,
        proto: IpProto(header[9]),
        src: SocketAddr::V4(SocketAddrV4::new(src, 0)),
        dst: SocketAddr::V4(SocketAddrV4::new(dst, 0)),
        tcp_flags: 0,
        icmp_type: 0,
        icmp_code: 0,
        fragment: Fragment::None,
        header_len,
        len,
    };

    let word = u16::from_be_bytes([header[6], header[7]]);
    let offset = word & FRAGMENT_OFFSET;
    if offset != 0 {
        if offset < MIN_FRAGMENT_OFFSET {
            return Err(Malformed::Transport);
        }
        packet.fragment = Fragment::Later;
        return Ok(packet);
    }
    if word & MORE_FRAGMENTS != 0 {
        if packet.proto == IpProto::TSMP {
            return Err(Malformed::Transport);
        }
        packet.fragment = Fragment::First;
    }
    packet.read_transport(body)?;
    Ok(packet)
}

#[inline]
fn parse_v6(bytes: &[u8]) -> Result<Packet, Malformed> {
    let header: &[u8; IPV6_HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::TooShort)?;
    let len = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let body = bytes.get(IPV6_HEADER_LEN..len).ok_or(Malformed::Length)?;
    let address = |at: usize| {
        let mut raw = [0; 16];
        raw.copy_from_slice(&header[at..at + 16]);
        SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(raw), 0, 0, 0))
    };
    let mut packet = Packet {
        version: 6,
        proto: IpProto(header[6]),
        src: address(8),
        dst: address(24),
        tcp_flags: 0,
        icmp_type: 0,
        icmp_code: 0,
        fragment: Fragment::None,
        header_len: IPV6_HEADER_LEN,
        len,
    };
    packet.read_transport(body)?;
    Ok(packet)
}

impl Packet {
    /// Fills in what the transport header says. `body` is the packet's own, without padding.
    #[inline]
    fn read_transport(&mut self, body: &[u8]) -> Result<(), Malformed> {
        if body.len() < self.proto.header_len(self.version) {
            return Err(Malformed::Transport);
        }
        match (self.proto, body) {
            (IpProto::TCP | IpProto::UDP | IpProto::SCTP, &[s0, s1, d0, d1, ref rest @ ..]) => {
                self.src.set_port(u16::from_be_bytes([s0, s1]));
                self.dst.set_port(u16::from_be_bytes([d0, d1]));
                if self.proto == IpProto::TCP {
                    self.tcp_flags = rest.get(9).copied().unwrap_or_default();
                }
            }
            (IpProto::ICMPV4 | IpProto::ICMPV6, &[kind, code, ..]) => {
                self.icmp_type = kind;
                self.icmp_code = code;
            }
            (IpProto(0 | 255), _) => return Err(Malformed::Protocol),
            _ => {}
        }
        Ok(())
    }
}

/// Both addresses of a packet to be built, of one IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// Source, then destination.
    V4(Ipv4Addr, Ipv4Addr),
    /// Source, then destination.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    /// Pairs two addresses; `None` when they are of different IP versions.
    pub fn new(src: IpAddr, dst: IpAddr) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Some(Self::V4(src, dst)),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Some(Self::V6(src, dst)),
            _ => None,
        }
    }

    /// The pair for an answer to `packet`.
    pub fn reply_to(packet: &Packet) -> Option<Self> {
        Self::new(packet.dst.ip(), packet.src.ip())
    }
}
