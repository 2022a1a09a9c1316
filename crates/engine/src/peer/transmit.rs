//! Encrypted datagrams on their way out, packed for UDP segmentation offload.

use std::time::Instant;

use crate::{
    netstack::{Egress, MTU},
    path::{Hop, Route},
    tunnel::{MIN_BUFFER, OVERHEAD, Tunnel},
};

/// Bytes of one [`Transmits`]: enough for two full groups.
const CAPACITY: usize = 128 << 10;
/// What every Linux kernel with segmentation offload takes in one send (`UDP_MAX_SEGMENTS`; newer ones take 128).
const MAX_SEGMENTS: usize = 64;
/// What fits into one IP packet, with room for the outer headers.
const MAX_GROUP_BYTES: usize = 65_000;
/// Room that a full-sized packet needs.
const LARGEST: usize = if MTU + OVERHEAD > MIN_BUFFER {
    MTU + OVERHEAD
} else {
    MIN_BUFFER
};

/// A reusable buffer of datagrams, grouped by where they go and how long they are.
///
/// ```
/// # use tailnet_engine::peer::Transmits;
/// let mut transmits = Transmits::default();
/// // peer.poll_transmit(now, &mut transmits);
/// for group in transmits.groups() {
///     // One send with segment size `group.segment`, or one send per chunk.
///     for datagram in group.bytes.chunks(group.segment) {
///         println!("{} bytes to {:?}", datagram.len(), group.hop);
///     }
/// }
/// transmits.clear();
/// ```
#[derive(Debug)]
pub struct Transmits {
    buffer: Box<[u8]>,
    used: usize,
    groups: Vec<Span>,
}

/// Datagrams of one size for one hop.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// Where they go.
    pub hop: Hop,
    /// The datagrams, one after the other.
    pub bytes: &'a [u8],
    /// The length of each but the last, which may be shorter.
    pub segment: usize,
}

#[derive(Debug)]
struct Span {
    route: Route,
    start: usize,
    end: usize,
    segment: usize,
    /// A shorter datagram ends its group.
    closed: bool,
}

impl Default for Transmits {
    fn default() -> Self {
        Self {
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            used: 0,
            groups: Vec::new(),
        }
    }
}

impl Transmits {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether another packet may not fit: send, [`clear`](Self::clear) and poll again.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.buffer.len() - self.used < LARGEST
    }

    /// Everything to send, in order. A group that goes two ways (directly and over DERP, while the direct path is not
    /// yet trusted) comes twice.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.groups.iter().flat_map(|span| {
            let hops = [span.route.udp.map(Hop::Udp), span.route.derp.map(Hop::Derp)];
            hops.into_iter().flatten().map(|hop| Group {
                hop,
                bytes: &self.buffer[span.start..span.end],
                segment: span.segment,
            })
        })
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.used = 0;
        self.groups.clear();
    }

    /// Appends a datagram.
    pub(crate) fn push_copy(&mut self, route: Route, datagram: &[u8]) {
        self.push(route, |buffer| {
            buffer.get_mut(..datagram.len())?.copy_from_slice(datagram);
            Some(datagram.len())
        });
    }

    /// Appends the datagram that `write` puts into the buffer it is given; it returns the length, or `None` for
    /// nothing. Returns that length.
    #[inline]
    pub(crate) fn push(&mut self, route: Route, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<usize> {
        let start = self.used;
        let len = write(&mut self.buffer[start..])?;
        let end = start + len;
        self.used = end;
        if let Some(last) = self.groups.last_mut()
            && !last.closed
            && last.route == route
            && len <= last.segment
            && end - last.start <= MAX_GROUP_BYTES.min(last.segment * MAX_SEGMENTS)
        {
            last.end = end;
            last.closed = len < last.segment;
        } else {
            self.groups.push(Span {
                route,
                start,
                end,
                segment: len,
                closed: false,
            });
        }
        Some(len)
    }
}

/// The route that is just this hop.
pub(super) fn only(hop: Hop) -> Route {
    match hop {
        Hop::Udp(address) => Route {
            udp: Some(address),
            derp: None,
        },
        Hop::Derp(region) => Route {
            udp: None,
            derp: Some(region),
        },
    }
}

/// Seals packets into [`Transmits`].
pub(super) struct Sealer<'a> {
    pub(super) now: Instant,
    pub(super) route: Route,
    pub(super) tunnel: &'a mut Tunnel,
    pub(super) out: &'a mut Transmits,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Egress for Sealer<'_> {
    #[inline]
    fn is_ready(&self) -> bool {
        !self.out.is_full()
    }

    #[inline]
    fn send(&mut self, packet: &[u8]) {
        let (now, tunnel) = (self.now, &mut *self.tunnel);
        if self
            .out
            .push(self.route, |buffer| tunnel.encapsulate(now, packet, buffer))
            .is_some()
        {
            self.packets += 1;
            self.bytes += packet.len() as u64;
        }
    }
}
