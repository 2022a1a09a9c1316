//! The Internet checksum (RFC 1071) and the pseudo headers of TCP, UDP and ICMPv6 (RFC 9293, 8200).

use super::{Addresses, IpProto};

/// A running one's complement sum of big-endian 16-bit words.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes` as big-endian words. An odd last byte counts as the high half of a word, so only the last call
    /// for one packet may bring an odd number of bytes.
    pub fn with(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_be_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_be_bytes(last));
        self
    }

    /// The checksum to write into a header whose checksum field was zero while it was summed. Over a packet that
    /// carries a right checksum the result is 0.
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

/// The sum over a TCP, UDP or ICMPv6 pseudo header; `len` is the length of transport header and payload in bytes.
pub fn pseudo_header(addresses: &Addresses, proto: IpProto, len: usize) -> Sum {
    let sum = match addresses {
        Addresses::V4(src, dst) => Sum::default().with(&src.octets()).with(&dst.octets()),
        Addresses::V6(src, dst) => Sum::default().with(&src.octets()).with(&dst.octets()),
    };
    Sum(sum.0 + u64::from(proto.0) + len as u64)
}
