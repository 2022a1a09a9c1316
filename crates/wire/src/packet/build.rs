//! The packets a node writes by itself: ICMP echo, TCP resets, and the IP header around a TSMP message.
//!
//! Each function returns one complete IP packet with all checksums set. They answer single packets, so each allocates
//! the one buffer it returns.

use super::{Addresses, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProto, Packet, checksum, tcp_flags};

const TTL: u8 = 64;
const TCP_HEADER_LEN: usize = 20;
const ECHO_HEADER_LEN: usize = 8;

/// Puts an IP header without options in front of `body`. The header claims at most 65,535 bytes, so a longer body is
/// cut to what fits.
pub fn ip(addresses: &Addresses, proto: IpProto, body: &[u8]) -> Vec<u8> {
    match addresses {
        Addresses::V4(src, dst) => {
            let body = &body[..body.len().min(usize::from(u16::MAX) - IPV4_HEADER_LEN)];
            let len = (IPV4_HEADER_LEN + body.len()) as u16;
            let mut out = Vec::with_capacity(usize::from(len));
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&len.to_be_bytes());
            // Identification 0 with "don't fragment" (RFC 6864): none of our packets may be fragmented.
            out.extend_from_slice(&[0, 0, 0x40, 0, TTL, proto.0, 0, 0]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            put_checksum(&mut out, 10, checksum::Sum::default());
            out.extend_from_slice(body);
            out
        }
        Addresses::V6(src, dst) => {
            let body = &body[..body.len().min(usize::from(u16::MAX))];
            let mut out = Vec::with_capacity(IPV6_HEADER_LEN + body.len());
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&(body.len() as u16).to_be_bytes());
            out.extend_from_slice(&[proto.0, TTL]);
            out.extend_from_slice(&src.octets());
            out.extend_from_slice(&dst.octets());
            out.extend_from_slice(body);
            out
        }
    }
}

/// An IP packet around a TSMP body, which has no checksum of its own.
pub fn tsmp(addresses: &Addresses, body: &[u8]) -> Vec<u8> {
    ip(addresses, IpProto::TSMP, body)
}

/// An ICMP or ICMPv6 echo request.
pub fn echo_request(addresses: &Addresses, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let kind = if matches!(addresses, Addresses::V4(..)) { 8 } else { 128 };
    let mut body = Vec::with_capacity(ECHO_HEADER_LEN + data.len());
    body.extend_from_slice(&[kind, 0, 0, 0]);
    body.extend_from_slice(&id.to_be_bytes());
    body.extend_from_slice(&sequence.to_be_bytes());
    body.extend_from_slice(data);
    icmp(addresses, body)
}

/// The answer to an echo request: the same identifier, sequence number and data, addresses swapped.
///
/// `bytes` are those that `request` was parsed from. `None` when it is no echo request.
pub fn echo_reply(request: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    if !request.is_echo_request() {
        return None;
    }
    let addresses = Addresses::reply_to(request)?;
    let mut body = request.transport(bytes).to_vec();
    let head: &mut [u8; 4] = body.first_chunk_mut()?;
    *head = [if request.version == 4 { 0 } else { 129 }, 0, 0, 0];
    Some(icmp(&addresses, body))
}

/// The reset that answers a TCP segment which belongs to no connection (RFC 9293, section 3.10.7.1).
///
/// `bytes` are those that `segment` was parsed from. `None` when it is no TCP segment or is a reset itself.
pub fn tcp_reset_for(segment: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    if segment.proto != IpProto::TCP || segment.tcp_flags & tcp_flags::RST != 0 {
        return None;
    }
    let addresses = Addresses::reply_to(segment)?;
    let body = segment.transport(bytes);
    let header: &[u8; TCP_HEADER_LEN] = body.first_chunk()?;
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let acknowledged = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let ports = (segment.dst.port(), segment.src.port());
    if segment.tcp_flags & tcp_flags::ACK != 0 {
        return Some(tcp_reset(&addresses, ports, acknowledged, None));
    }
    let data = body.len().saturating_sub(usize::from(header[12] >> 4) * 4);
    let flags = [tcp_flags::SYN, tcp_flags::FIN];
    let phantom = flags.iter().filter(|flag| segment.tcp_flags & **flag != 0).count();
    let next = sequence.wrapping_add((data + phantom) as u32);
    Some(tcp_reset(&addresses, ports, 0, Some(next)))
}

/// A bare TCP reset. `ports` are source and destination; with `acknowledge` the ACK flag is set.
pub fn tcp_reset(addresses: &Addresses, ports: (u16, u16), sequence: u32, acknowledge: Option<u32>) -> Vec<u8> {
    let flags = tcp_flags::RST | if acknowledge.is_some() { tcp_flags::ACK } else { 0 };
    let mut body = Vec::with_capacity(TCP_HEADER_LEN);
    body.extend_from_slice(&ports.0.to_be_bytes());
    body.extend_from_slice(&ports.1.to_be_bytes());
    body.extend_from_slice(&sequence.to_be_bytes());
    body.extend_from_slice(&acknowledge.unwrap_or_default().to_be_bytes());
    body.extend_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let sum = checksum::pseudo_header(addresses, IpProto::TCP, body.len());
    put_checksum(&mut body, 16, sum);
    ip(addresses, IpProto::TCP, &body)
}

fn icmp(addresses: &Addresses, mut body: Vec<u8>) -> Vec<u8> {
    let (proto, sum) = match addresses {
        Addresses::V4(..) => (IpProto::ICMPV4, checksum::Sum::default()),
        Addresses::V6(..) => {
            let sum = checksum::pseudo_header(addresses, IpProto::ICMPV6, body.len());
            (IpProto::ICMPV6, sum)
        }
    };
    put_checksum(&mut body, 2, sum);
    ip(addresses, proto, &body)
}

/// Sums all of `out`, whose checksum field at `at` is still zero, on top of `start` and writes the result there.
fn put_checksum(out: &mut [u8], at: usize, start: checksum::Sum) {
    let checksum = start.with(out).finish().to_be_bytes();
    out[at..at + 2].copy_from_slice(&checksum);
}
