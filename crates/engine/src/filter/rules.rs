//! Rules of one IP version in the form in which packets are held against them.
//!
//! Only what can matter to this node is kept: a destination that names none of our addresses can never match. Of a rule
//! the cheap questions are asked first (protocol, destination, port); the sources, which can be thousands, come last
//! and are searched by halves.

use std::net::IpAddr;

use tailnet_wire::{
    control::{FilterRule, NetPortRange},
    packet::IpProto,
};

use super::address::{AddressSet, Entry, RangeSet, bits};

/// Who talks to which of our addresses.
pub(super) struct Target {
    src: u128,
    dst: u128,
}

impl Target {
    pub(super) fn new(src: IpAddr, dst: IpAddr) -> Self {
        Self {
            src: bits(src),
            dst: bits(dst),
        }
    }
}

/// The rules of one IP version.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Box<[Rule]>,
    /// Node capabilities that stand as a source in any rule with a destination of this IP version, ours or not. To ICMP
    /// they open every address (`match.go`, matchIPsOnly).
    node_caps: Box<[Box<str>]>,
}

impl Rules {
    /// Whether a rule allows this protocol at this port.
    pub(super) fn allow_port(
        &self,
        proto: IpProto,
        target: &Target,
        port: u16,
        node_cap: &dyn Fn(&str) -> bool,
    ) -> bool {
        self.rules.iter().any(|rule| {
            rule.protos.contains(proto)
                && rule
                    .dests
                    .iter()
                    .any(|dest| dest.contains(target) && dest.ports.contains(port))
                && (rule.sources.contains(target.src) || rule.node_caps.iter().any(|name| node_cap(name)))
        })
    }

    /// Whether a rule allows anything at all between these addresses, which is what ICMP needs.
    pub(super) fn allow_any_port(&self, target: &Target, node_cap: &dyn Fn(&str) -> bool) -> bool {
        let by_address =
            |rule: &Rule| rule.dests.iter().any(|dest| dest.contains(target)) && rule.sources.contains(target.src);
        self.rules.iter().any(by_address) || self.node_caps.iter().any(|name| node_cap(name))
    }

    /// Whether a rule names this protocol, which has no ports, and allows all ports. Node capabilities do not count.
    pub(super) fn allow_whole_protocol(&self, proto: IpProto, target: &Target) -> bool {
        self.rules.iter().any(|rule| {
            rule.protos.contains(proto)
                && rule
                    .dests
                    .iter()
                    .any(|dest| dest.ports == Ports::ALL && dest.contains(target))
                && rule.sources.contains(target.src)
        })
    }
}

#[derive(Debug)]
struct Rule {
    protos: ProtoSet,
    sources: RangeSet,
    node_caps: Box<[Box<str>]>,
    dests: Box<[Dest]>,
}

#[derive(Debug)]
struct Dest {
    addresses: (u128, u128),
    ports: Ports,
}

impl Dest {
    fn contains(&self, target: &Target) -> bool {
        (self.addresses.0..=self.addresses.1).contains(&target.dst)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// One bit per protocol number.
#[derive(Debug, Default)]
struct ProtoSet([u64; 4]);

impl ProtoSet {
    /// The protocols a rule names, or the four it means when it names none.
    fn new(numbers: &[i64]) -> Self {
        const DEFAULT: [i64; 4] = [1, 6, 17, 58];
        let numbers = if numbers.is_empty() { &DEFAULT } else { numbers };
        let mut set = Self::default();
        for number in numbers.iter().filter_map(|number| u8::try_from(*number).ok()) {
            set.0[usize::from(number >> 6)] |= 1 << (number & 63);
        }
        set
    }

    #[inline]
    fn contains(&self, proto: IpProto) -> bool {
        self.0[usize::from(proto.0 >> 6)] & (1 << (proto.0 & 63)) != 0
    }
}

/// Compiles rules for IPv4 and for IPv6.
pub(super) fn compile(rules: &[FilterRule], local: &[IpAddr]) -> (Rules, Rules) {
    let mut v4 = Builder::new(local, true);
    let mut v6 = Builder::new(local, false);
    for rule in rules {
        let sources: Vec<Entry> = rule.src_ips.iter().filter_map(|text| Entry::parse(text)).collect();
        let AddressSet { v4: from4, v6: from6 } = AddressSet::new(&sources);
        let node_caps: Vec<Box<str>> = sources.into_iter().filter_map(node_cap).collect();
        v4.add(rule, from4, &node_caps);
        v6.add(rule, from6, &node_caps);
    }
    (v4.finish(), v6.finish())
}

fn node_cap(entry: Entry) -> Option<Box<str>> {
    match entry {
        Entry::NodeCap(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

struct Builder {
    ipv4: bool,
    local: Vec<u128>,
    rules: Vec<Rule>,
    node_caps: Vec<Box<str>>,
}

impl Builder {
    fn new(local: &[IpAddr], ipv4: bool) -> Self {
        let ours = local.iter().filter(|ip| ip.is_ipv4() == ipv4);
        Self {
            ipv4,
            local: ours.map(|ip| bits(*ip)).collect(),
            rules: Vec::new(),
            node_caps: Vec::new(),
        }
    }

    fn add(&mut self, rule: &FilterRule, sources: RangeSet, node_caps: &[Box<str>]) {
        let mut dests: Vec<Dest> = rule.dst_ports.iter().filter_map(|dst| self.dest(dst)).collect();
        if dests.is_empty() || (sources.is_empty() && node_caps.is_empty()) {
            return;
        }
        self.node_caps.extend_from_slice(node_caps);
        dests.retain(|dest| {
            let (first, last) = dest.addresses;
            self.local.iter().any(|ip| (first..=last).contains(ip))
        });
        if !dests.is_empty() {
            self.rules.push(Rule {
                protos: ProtoSet::new(&rule.ip_proto),
                sources,
                node_caps: node_caps.into(),
                dests: dests.into(),
            });
        }
    }

    /// The part of a destination that is of this IP version.
    fn dest(&self, dst: &NetPortRange) -> Option<Dest> {
        let addresses = match Entry::parse(&dst.ip)? {
            Entry::Everything => (0, u128::MAX),
            Entry::Range(first, last) if first.is_ipv4() == self.ipv4 => (bits(first), bits(last)),
            Entry::Range(..) | Entry::NodeCap(_) => return None,
        };
        let ports = Ports {
            first: dst.ports.first,
            last: dst.ports.last,
        };
        Some(Dest { addresses, ports })
    }

    fn finish(mut self) -> Rules {
        self.node_caps.sort_unstable();
        self.node_caps.dedup();
        Rules {
            rules: self.rules.into(),
            node_caps: self.node_caps.into(),
        }
    }
}
