//! Capabilities that the policy grants to peers (Go: `filter.CapsWithValues`, `tailcfg.PeerCapMap`).
//!
//! The `CapGrant` parts of filter rules come in and are compiled with the [`Filter`](crate::filter::Filter) that carries
//! them. A pair of addresses comes in later and the [`PeerCaps`] between them go out. Values are JSON texts that nobody
//! here looks into: their order is that of the rules, and duplicates are kept.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde_json::value::RawValue;
use tailnet_wire::control::{CapGrant, FilterRule};

use crate::filter::{AddressSet, Entry};

/// The capabilities that one peer has at one address, by name. A name may have no values; that it is there is what
/// counts then.
#[derive(Debug, Clone, Default)]
pub struct PeerCaps(BTreeMap<Arc<str>, Vec<Arc<RawValue>>>);

impl PeerCaps {
    /// Whether the capability was granted, with or without values.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values granted under a name, in the order of the rules.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &RawValue> {
        self.0.get(name).into_iter().flatten().map(AsRef::as_ref)
    }

    /// The names granted, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// Whether nothing was granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All grants of a netmap.
#[derive(Debug, Default)]
pub(crate) struct Grants(Box<[GrantRule]>);

#[derive(Debug)]
struct GrantRule {
    /// Only addresses count: a `cap:` source grants nothing.
    sources: AddressSet,
    grants: Vec<Grant>,
}

#[derive(Debug)]
struct Grant {
    dst: IpNet,
    name: Arc<str>,
    values: Vec<Arc<RawValue>>,
}

impl Grants {
    /// Collects the grants of `rules`.
    pub(crate) fn new(rules: &[FilterRule]) -> Self {
        let compiled = rules.iter().filter_map(|rule| {
            let grants: Vec<Grant> = rule.cap_grant.iter().flat_map(expand).collect();
            if grants.is_empty() {
                return None;
            }
            let entries: Vec<Entry> = rule.src_ips.iter().filter_map(|text| Entry::parse(text)).collect();
            let sources = AddressSet::new(&entries);
            Some(GrantRule { sources, grants })
        });
        Self(compiled.collect())
    }

    /// Every value that is granted to anybody under a name, in the order of the rules; one that stands for several of our
    /// addresses comes several times.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a RawValue> {
        let grants = self.0.iter().flat_map(|rule| &rule.grants);
        grants
            .filter(move |grant| &*grant.name == name)
            .flat_map(|grant| grant.values.iter().map(AsRef::as_ref))
    }

    /// What `src` may do at our address `dst`.
    pub(crate) fn between(&self, src: IpAddr, dst: IpAddr) -> PeerCaps {
        let mut caps = PeerCaps::default();
        for rule in self.0.iter().filter(|rule| rule.sources.contains(src)) {
            for grant in rule.grants.iter().filter(|grant| grant.dst.contains(&dst)) {
                let values = caps.0.entry(grant.name.clone()).or_default();
                values.extend(grant.values.iter().cloned());
            }
        }
        caps
    }
}

/// One [`Grant`] per destination and name. A name without values comes before the same name with values.
fn expand(grant: &CapGrant) -> impl Iterator<Item = Grant> {
    let bare = grant.caps.iter().map(|name| (Arc::from(name.as_str()), Vec::new()));
    let valued = grant.cap_map.iter().map(|(name, values)| {
        let values = values.iter().flatten().map(|value| Arc::from(value.clone()));
        (Arc::from(name.as_str()), values.collect())
    });
    let mut named: Vec<(Arc<str>, Vec<Arc<RawValue>>)> = bare.chain(valued).collect();
    named.retain(|(name, _)| !name.is_empty());
    grant.dsts.iter().flat_map(move |dst| {
        let grant = |(name, values)| Grant {
            dst: *dst,
            name,
            values,
        };
        named.clone().into_iter().map(grant).collect::<Vec<_>>()
    })
}
