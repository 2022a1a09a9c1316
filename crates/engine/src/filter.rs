//! The packet filter: which packets of a peer may reach us (Go: `wgengine/filter`).
//!
//! The rules of a map message come in once and are compiled into a [`Filter`], an immutable value that the netmap
//! carries. Each decrypted packet, parsed by [`tailnet_wire::packet`], comes in after that and a [`Verdict`] goes out.
//! The verdicts are Go's, proven by the differential test in `tests/oracle`. Capabilities that the same rules grant are
//! computed by [`crate::caps`].
//!
//! The only memory between packets is [`UdpFlows`]: what we sent decides which datagrams may come back. It belongs to
//! the caller and outlives a change of rules; [`UdpFlows::retain`] is for what must not. TCP needs none, because a segment without a pure SYN is always let
//! through to the stack, which knows its connections; the price is that withdrawing a rule cuts nothing by itself.
//! Whoever owns connections asks [`Filter::permits`] again after each change.

mod address;
mod flows;
mod rules;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::value::RawValue;
use tailnet_wire::{
    control::FilterRule,
    packet::{Fragment, IpProto, Packet},
};

pub(crate) use self::address::{AddressSet, Entry};
pub use self::flows::{UdpFlow, UdpFlows};
use self::rules::{Rules, Target};
use crate::caps::{Grants, PeerCaps};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Accept,
    /// It ends here.
    Drop(Reason),
}

/// Why a packet was dropped, for counters and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Sent to a multicast group.
    Multicast,
    /// Sent to a link-local address.
    LinkLocal,
    /// Sent to an address that is not ours.
    NotLocal,
    /// No rule allows it.
    NoRule,
}

/// The compiled rules of one netmap.
#[derive(Debug)]
pub struct Filter {
    local: Box<[IpAddr]>,
    v4: Rules,
    v6: Rules,
    grants: Grants,
}

impl Filter {
    /// Compiles `rules` for a node that has the addresses `local`.
    ///
    /// An entry that cannot be read is left out and the rest of its rule counts. A rule in the format of long ago, with
    /// prefix lengths beside the addresses, voids the whole list as in Go: nothing may come in, nothing is granted.
    pub fn new(rules: &[FilterRule], local: &[IpAddr]) -> Self {
        let rules = if rules.iter().any(is_legacy) { &[] } else { rules };
        let (v4, v6) = rules::compile(rules, local);
        Self {
            local: local.into(),
            v4,
            v6,
            grants: Grants::new(rules),
        }
    }

    /// A filter without addresses or rules, for the time before control has sent any: every packet is dropped.
    pub fn deny_all() -> Self {
        Self::new(&[], &[])
    }

    /// The filter for a jailed peer: it may answer what we open and may open nothing.
    pub fn jailed(local: &[IpAddr]) -> Self {
        Self::new(&[], local)
    }

    /// Judges a packet from a peer. Its source must already be known to be one of the peer's own addresses.
    ///
    /// `node_cap` says whether that peer's node has a node capability; rules may name one in place of an address.
    #[inline]
    pub fn check_in(&self, packet: &Packet, node_cap: &dyn Fn(&str) -> bool, flows: &mut UdpFlows) -> Verdict {
        if let Some(reason) = never_unicast(packet.dst.ip()) {
            return Verdict::Drop(reason);
        }
        if packet.fragment == Fragment::Later {
            return Verdict::Accept;
        }
        if !self.is_local(packet.dst.ip()) {
            return Verdict::Drop(Reason::NotLocal);
        }
        let accepted = match packet.proto {
            IpProto::TCP if !packet.is_tcp_syn() => true,
            IpProto::UDP | IpProto::SCTP if flows.contains(packet.proto, packet.src, packet.dst) => true,
            proto if is_icmp(proto, packet.version) && (packet.is_echo_reply() || packet.is_icmp_error()) => true,
            proto => self.rules_allow(proto, packet.src.ip(), packet.dst, node_cap),
        };
        if accepted {
            Verdict::Accept
        } else {
            Verdict::Drop(Reason::NoRule)
        }
    }

    /// Judges a packet of our own to a peer and remembers, for UDP and SCTP, that its answer may come in.
    ///
    /// `node_cap` is that peer's, as in [`check_in`](Self::check_in).
    #[inline]
    pub fn note_out(&self, packet: &Packet, node_cap: &dyn Fn(&str) -> bool, flows: &mut UdpFlows) -> Verdict {
        if let Some(reason) = never_unicast(packet.dst.ip()) {
            return Verdict::Drop(reason);
        }
        if packet.fragment != Fragment::Later && matches!(packet.proto, IpProto::UDP | IpProto::SCTP) {
            flows.insert(packet.proto, packet.dst, packet.src, || {
                self.permits(packet.proto, packet.dst.ip(), packet.src, node_cap)
            });
        }
        Verdict::Accept
    }

    /// Whether `src` may open a flow of `proto` to `dst` now: what [`check_in`](Self::check_in) says of a TCP SYN, or of
    /// a datagram that answers nothing. Ask it again for each live flow when rules have changed.
    pub fn permits(&self, proto: IpProto, src: IpAddr, dst: SocketAddr, node_cap: &dyn Fn(&str) -> bool) -> bool {
        src.is_ipv4() == dst.is_ipv4()
            && never_unicast(dst.ip()).is_none()
            && self.is_local(dst.ip())
            && self.rules_allow(proto, src, dst, node_cap)
    }

    /// The capabilities that `src` has when it talks to our address `dst`.
    pub fn caps(&self, src: IpAddr, dst: IpAddr) -> PeerCaps {
        self.grants.between(src, dst)
    }

    /// Every value that is granted to anybody under a name, as the rules have it: for what must be said of a rule
    /// whoever holds it. One that stands for several of our addresses comes several times.
    pub fn granted<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a RawValue> {
        self.grants.values(name)
    }

    /// The capabilities that stock WhoIs shows for a peer address: those for our first address of the same IP version
    /// (Go: `nodeBackend.PeerCaps`). A grant that names only another of our addresses is invisible here.
    pub fn whois_caps(&self, src: IpAddr) -> PeerCaps {
        let ours = self.local.iter().find(|ip| ip.is_ipv4() == src.is_ipv4());
        ours.map(|dst| self.caps(src, *dst)).unwrap_or_default()
    }

    #[inline]
    fn is_local(&self, ip: IpAddr) -> bool {
        self.local.contains(&ip)
    }

    fn rules_allow(&self, proto: IpProto, src: IpAddr, dst: SocketAddr, node_cap: &dyn Fn(&str) -> bool) -> bool {
        let (rules, version) = match dst {
            SocketAddr::V4(_) => (&self.v4, 4),
            SocketAddr::V6(_) => (&self.v6, 6),
        };
        let target = Target::new(src, dst.ip());
        match proto {
            IpProto::TSMP => true,
            IpProto::TCP | IpProto::UDP | IpProto::SCTP => rules.allow_port(proto, &target, dst.port(), node_cap),
            proto if is_icmp(proto, version) => rules.allow_any_port(&target, node_cap),
            proto => rules.allow_whole_protocol(proto, &target),
        }
    }
}

fn is_legacy(rule: &FilterRule) -> bool {
    !rule.src_bits.is_empty() || rule.dst_ports.iter().any(|dst| dst.bits.is_some())
}

/// ICMP of the other IP version is not ICMP but some protocol with that number.
fn is_icmp(proto: IpProto, version: u8) -> bool {
    matches!((proto, version), (IpProto::ICMPV4, 4) | (IpProto::ICMPV6, 6))
}

/// The metadata and DNS server of Google's cloud, the one link-local address that packets may name.
const CLOUD_METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// Whether no packet in either direction may have this destination, whatever the rules say.
#[inline]
fn never_unicast(dst: IpAddr) -> Option<Reason> {
    match dst.to_canonical() {
        ip if ip.is_multicast() => Some(Reason::Multicast),
        IpAddr::V4(ip) if ip.is_link_local() && dst != CLOUD_METADATA => Some(Reason::LinkLocal),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(Reason::LinkLocal),
        _ => None,
    }
}
