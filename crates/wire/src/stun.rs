//! The part of STUN (RFC 8489) by which a node learns its own address (Go: `net/stun`).
//!
//! A client encodes a binding request and parses the success response; a server does the reverse. Tailscale's and
//! Headscale's servers answer only a request that carries SOFTWARE `tailnode` and a FINGERPRINT, so that they are of no
//! use to strangers; [`parse_request`] asks for both too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The default UDP port of a STUN server.
pub const PORT: u16 = 3478;
/// Length of a binding request as this node sends it.
pub const REQUEST_LEN: usize = HEADER_LEN + 12 + FINGERPRINT_LEN;

const HEADER_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 8;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const SOFTWARE: &[u8; 8] = b"tailnode";
const ATTR_MAPPED_ADDRESS: u16 = 0x0001;
const ATTR_XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// What some servers send for XOR-MAPPED-ADDRESS, from a draft of the standard.
const ATTR_XOR_MAPPED_ADDRESS_ALT: u16 = 0x8020;
const ATTR_SOFTWARE: u16 = 0x8022;
const ATTR_FINGERPRINT: u16 = 0x8028;
/// RFC 8489 section 14.7: the CRC is xored with "STUN".
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Why a datagram is not the STUN message that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Header, length or type do not fit.
    #[error("not a STUN binding message of the expected kind")]
    NotStun,
    /// An attribute is cut short.
    #[error("a STUN attribute is malformed")]
    Attribute,
    /// The request lacks SOFTWARE `tailnode` or a right FINGERPRINT as its last attribute.
    #[error("the STUN request does not come from a tailnet node")]
    NotTailnode,
    /// The response names no address.
    #[error("the STUN response has no mapped address")]
    NoAddress,
}

/// The twelve bytes that tie a response to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxId(pub [u8; 12]);

/// A binding success response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// As in the request.
    pub tx_id: TxId,
    /// Where the server saw the request come from.
    pub mapped: SocketAddr,
}

/// Whether a datagram is STUN and not WireGuard or disco: magic cookie, two zero bits, whole header.
pub fn looks_like_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && datagram[0] & 0xc0 == 0 && datagram[4..8] == MAGIC_COOKIE
}

/// A binding request that tailnet STUN servers answer.
pub fn request(tx_id: TxId) -> [u8; REQUEST_LEN] {
    let mut out = Vec::with_capacity(REQUEST_LEN);
    put_header(&mut out, BINDING_REQUEST, REQUEST_LEN - HEADER_LEN, tx_id);
    put_attribute(&mut out, ATTR_SOFTWARE, SOFTWARE);
    let print = fingerprint(&out);
    put_attribute(&mut out, ATTR_FINGERPRINT, &print.to_be_bytes());
    let mut fixed = [0; REQUEST_LEN];
    fixed.copy_from_slice(&out);
    fixed
}

/// Reads a binding request: the server's side.
///
/// # Errors
/// [`StunError::NotTailnode`] for requests of other software, [`StunError::NotStun`] and [`StunError::Attribute`] for
/// anything else; none of them deserves an answer.
pub fn parse_request(datagram: &[u8]) -> Result<TxId, StunError> {
    let (tx_id, attributes) = parse_header(datagram, BINDING_REQUEST)?;
    let mut tailnode = false;
    let mut last = 0;
    for attribute in Attributes(attributes) {
        let (kind, value) = attribute?;
        tailnode |= kind == ATTR_SOFTWARE && value == SOFTWARE;
        last = kind;
    }
    let (covered, print) = datagram.split_at(datagram.len().saturating_sub(FINGERPRINT_LEN));
    let right = print.last_chunk::<4>() == Some(&fingerprint(covered).to_be_bytes());
    if tailnode && last == ATTR_FINGERPRINT && right {
        Ok(tx_id)
    } else {
        Err(StunError::NotTailnode)
    }
}

/// The success response for a request seen from `mapped`: the server's side.
pub fn response(tx_id: TxId, mapped: SocketAddr) -> Vec<u8> {
    let mut value = vec![0, 0];
    value.extend((mapped.port() ^ xor_port()).to_be_bytes());
    match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value.extend(xor(ip.octets(), tx_id));
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            value.extend(xor(ip.octets(), tx_id));
        }
    }
    let mut out = Vec::with_capacity(HEADER_LEN + 4 + value.len());
    put_header(&mut out, BINDING_SUCCESS, 4 + value.len(), tx_id);
    put_attribute(&mut out, ATTR_XOR_MAPPED_ADDRESS, &value);
    out
}

/// Reads a binding success response. The caller compares its [`TxId`] with those it has sent.
///
/// # Errors
/// [`StunError`] says what does not fit.
pub fn parse_response(datagram: &[u8]) -> Result<Response, StunError> {
    let (tx_id, attributes) = parse_header(datagram, BINDING_SUCCESS)?;
    let mut plain = None;
    for attribute in Attributes(attributes) {
        let (kind, value) = attribute?;
        match kind {
            ATTR_XOR_MAPPED_ADDRESS | ATTR_XOR_MAPPED_ADDRESS_ALT => {
                let mapped = address(value, Some(tx_id)).ok_or(StunError::Attribute)?;
                return Ok(Response { tx_id, mapped });
            }
            ATTR_MAPPED_ADDRESS => plain = address(value, None),
            _ => {}
        }
    }
    let mapped = plain.ok_or(StunError::NoAddress)?;
    Ok(Response { tx_id, mapped })
}

fn put_header(out: &mut Vec<u8>, kind: [u8; 2], len: usize, tx_id: TxId) {
    out.extend_from_slice(&kind);
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&MAGIC_COOKIE);
    out.extend_from_slice(&tx_id.0);
}

/// `value` must be a multiple of four long: none of ours needs padding.
fn put_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

fn fingerprint(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ FINGERPRINT_XOR
}

fn parse_header(datagram: &[u8], kind: [u8; 2]) -> Result<(TxId, &[u8]), StunError> {
    if !looks_like_stun(datagram) || datagram[..2] != kind {
        return Err(StunError::NotStun);
    }
    let (header, attributes) = datagram.split_at(HEADER_LEN);
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let attributes = attributes.get(..len).ok_or(StunError::NotStun)?;
    let tx_id = header.last_chunk::<12>().ok_or(StunError::NotStun)?;
    Ok((TxId(*tx_id), attributes))
}

/// Walks type-length-value attributes, each padded to four bytes.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), StunError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((head, rest)) = self.0.split_first_chunk::<4>() else {
            self.0 = &[];
            return Some(Err(StunError::Attribute));
        };
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some(value) = rest.get(..len) else {
            self.0 = &[];
            return Some(Err(StunError::Attribute));
        };
        self.0 = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((kind, value)))
    }
}

/// Reads an address attribute; with a transaction id it is the xored kind.
fn address(value: &[u8], xored_with: Option<TxId>) -> Option<SocketAddr> {
    let [_, family, port @ ..] = value else { return None };
    let (port, ip) = port.split_first_chunk::<2>()?;
    let mut port = u16::from_be_bytes(*port);
    if xored_with.is_some() {
        port ^= xor_port();
    }
    let ip = match family {
        1 => {
            let raw = *ip.first_chunk::<4>()?;
            IpAddr::from(Ipv4Addr::from(xored_with.map_or(raw, |tx_id| xor(raw, tx_id))))
        }
        2 => {
            let raw = *ip.first_chunk::<16>()?;
            IpAddr::from(Ipv6Addr::from(xored_with.map_or(raw, |tx_id| xor(raw, tx_id))))
        }
        _ => return None,
    };
    // A server that listens on a dual-stack socket sees IPv4 as mapped into IPv6 and says so.
    Some(SocketAddr::new(ip.to_canonical(), port))
}

fn xor_port() -> u16 {
    u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]])
}

/// RFC 8489 section 14.2: addresses are xored with the cookie followed by the transaction id.
fn xor<const N: usize>(mut raw: [u8; N], tx_id: TxId) -> [u8; N] {
    for (byte, mask) in raw.iter_mut().zip(MAGIC_COOKIE.iter().chain(&tx_id.0)) {
        *byte ^= mask;
    }
    raw
}

#[cfg(test)]
mod tests;
