//! Home routers (RFC 4787): which address a datagram gets on its way out, and which may come back in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::clock::Time;

/// How a router behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// One outside port for all destinations, and anybody may send to it.
    FullCone,
    /// One outside port for all destinations; only those that were sent to may answer, port by port. The usual router.
    PortRestricted,
    /// An outside port per destination: no hole can be punched from outside.
    Symmetric,
}

/// How long a mapping lives without traffic from inside (RFC 4787 asks for two minutes, many give half a minute).
const LIFETIME: Duration = Duration::from_secs(30);
const FIRST_PORT: u16 = 20_000;

#[derive(Debug)]
pub(super) struct Nat {
    kind: NatKind,
    public: IpAddr,
    next_port: u16,
    /// By destination on a symmetric router, else under `None`.
    mappings: BTreeMap<Option<SocketAddr>, Mapping>,
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    last_use: Time,
    /// Whom inside has sent to, and when last.
    contacts: BTreeMap<SocketAddr, Time>,
}

impl Nat {
    pub(super) fn new(kind: NatKind, public: IpAddr) -> Self {
        Self {
            kind,
            public,
            next_port: FIRST_PORT,
            mappings: BTreeMap::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.mappings.clear();
        self.next_port = self.next_port.wrapping_add(100).max(FIRST_PORT);
    }

    /// The address under which a datagram to `to` leaves.
    pub(super) fn outbound(&mut self, now: Time, to: SocketAddr) -> SocketAddr {
        let key = (self.kind == NatKind::Symmetric).then_some(to);
        self.mappings
            .retain(|_, mapping| now.saturating_sub(mapping.last_use) < LIFETIME);
        let next_port = &mut self.next_port;
        let mapping = self.mappings.entry(key).or_insert_with(|| {
            *next_port = next_port.wrapping_add(1).max(FIRST_PORT);
            Mapping {
                port: *next_port,
                last_use: now,
                contacts: BTreeMap::new(),
            }
        });
        mapping.last_use = now;
        mapping.contacts.insert(to, now);
        SocketAddr::new(self.public, mapping.port)
    }

    /// Whether a datagram from outside to `to` is let through.
    pub(super) fn inbound(&self, now: Time, from: SocketAddr, to: SocketAddr) -> bool {
        let fresh = |at: Time| now.saturating_sub(at) < LIFETIME;
        to.ip() == self.public
            && self.mappings.values().any(|mapping| {
                let known = || mapping.contacts.get(&from).is_some_and(|at| fresh(*at));
                mapping.port == to.port() && fresh(mapping.last_use) && (self.kind == NatKind::FullCone || known())
            })
    }
}
