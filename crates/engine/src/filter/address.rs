//! Address texts of a rule, and sets of addresses made from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What one entry of `SrcIPs` or `DstPorts` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `*`: every address of both IP versions.
    Everything,
    /// The addresses from the first to the last, both of one IP version.
    Range(IpAddr, IpAddr),
    /// `cap:NAME`: the addresses of nodes that have this node capability.
    NodeCap(Box<str>),
}

impl Entry {
    /// Reads one entry; `None` when Go would not (`wgengine/filter/tailcfg.go`, parseIPSet).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some(name) = text.strip_prefix("cap:") {
            return Some(Self::NodeCap(name.into()));
        }
        if text.contains('/') {
            return prefix(text);
        }
        if let Some((first, last)) = text.split_once('-')
            && !last.contains('-')
        {
            let (first, last) = (address(first)?, address(last)?);
            let valid = first.is_ipv4() == last.is_ipv4() && first <= last;
            return valid.then_some(Self::Range(first, last));
        }
        address(text).map(|ip| Self::Range(ip, ip))
    }
}

/// A CIDR prefix, whose host bits must be zero.
fn prefix(text: &str) -> Option<Entry> {
    let (ip, bits) = text.rsplit_once('/')?;
    // The number parser would also take a sign and leading zeros.
    if bits.starts_with(['+', '-']) || (bits.len() > 1 && bits.starts_with('0')) {
        return None;
    }
    let net = IpNet::new(ip.parse().ok()?, bits.parse().ok()?).ok()?;
    (net.network() == net.addr()).then(|| Entry::Range(net.network(), net.broadcast()))
}

/// An address; on IPv6 with an optional zone, which is ignored.
fn address(text: &str) -> Option<IpAddr> {
    match text.split_once('%') {
        Some((_, "")) => None,
        Some((ip, _)) => ip.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// The number behind an address; the IP version is known from where the number is kept.
#[inline]
pub(crate) fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// A set of addresses of both IP versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressSet {
    pub(crate) v4: RangeSet,
    pub(crate) v6: RangeSet,
}

impl AddressSet {
    /// Everything the address entries among `entries` stand for.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Everything => {
                    v4.push((0, bits(Ipv4Addr::BROADCAST.into())));
                    v6.push((0, u128::MAX));
                }
                Entry::Range(first, last) if first.is_ipv4() => v4.push((bits(*first), bits(*last))),
                Entry::Range(first, last) => v6.push((bits(*first), bits(*last))),
                Entry::NodeCap(_) => {}
            }
        }
        Self {
            v4: RangeSet::new(v4),
            v6: RangeSet::new(v6),
        }
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self.v4.contains(bits(ip)),
            IpAddr::V6(_) => self.v6.contains(bits(ip)),
        }
    }
}

/// Numbers as sorted, disjoint, inclusive ranges; membership is a binary search.
#[derive(Debug, Clone, Default)]
pub(crate) struct RangeSet(Box<[(u128, u128)]>);

impl RangeSet {
    fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    #[inline]
    pub(crate) fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && number <= self.0[after - 1].1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
