//! From grants to what one node is told: its packet-filter rules, and whether it may know of a peer.

use std::collections::BTreeSet;

use super::{Grant, Member, Permits, Policy, Rule, Selector};

/// `*` as Headscale 0.29 compiles it: the tailnet's own ranges, not the whole Internet.
const EVERY_NODE: [&str; 2] = ["100.64.0.0/10", "fd7a:115c:a1e0::/48"];

impl Policy {
    /// The rules that `me` filters its inbound packets by, in the order of the grants.
    ///
    /// A grant with both `ip` and `app` becomes one rule for packets and one for capabilities, as on Headscale.
    pub(crate) fn rules<'a>(&self, me: &Member<'_>, all: impl Iterator<Item = Member<'a>> + Clone) -> Vec<Rule> {
        let mut rules = Vec::new();
        for grant in &self.grants {
            let src = self.sources(grant, me, all.clone());
            if src.is_empty() {
                continue;
            }
            let dst = || me.addresses.to_vec();
            for (protocols, ports) in &grant.ip {
                let what = Permits::Packets {
                    dst: dst(),
                    protocols: protocols.clone(),
                    ports: ports.clone(),
                };
                rules.push(Rule { src: src.clone(), what });
            }
            if !grant.app.is_empty() {
                let what = Permits::Capabilities {
                    dst: dst(),
                    caps: grant.app.clone(),
                };
                rules.push(Rule { src, what });
            }
        }
        rules
    }

    /// Whether some grant leads from one of the two nodes to the other, in either direction: without one, neither
    /// learns that the other exists.
    pub(crate) fn connects(&self, a: &Member<'_>, b: &Member<'_>) -> bool {
        self.grants
            .iter()
            .any(|grant| self.leads(grant, a, b) || self.leads(grant, b, a))
    }

    fn leads(&self, grant: &Grant, from: &Member<'_>, to: &Member<'_>) -> bool {
        grant.src.iter().any(|src| src.holds(self, from))
            && grant.dst.iter().any(|dst| match dst {
                Selector::Own => same_owner(from, to),
                plain => plain.holds(self, to),
            })
    }

    /// The sources that `grant` lets in to `me`, in text form and without repetition; empty when `me` is no
    /// destination of it.
    fn sources<'a>(&self, grant: &Grant, me: &Member<'_>, all: impl Iterator<Item = Member<'a>>) -> Vec<String> {
        let reached_by_all = grant.dst.iter().any(|dst| dst.holds(self, me));
        let reached_by_own = grant.dst.contains(&Selector::Own) && me.user.is_some();
        if !reached_by_all && !reached_by_own {
            return Vec::new();
        }
        let mut texts = Vec::new();
        let mut seen = BTreeSet::new();
        let mut add = |text: String| {
            if seen.insert(text.clone()) {
                texts.push(text);
            }
        };
        if reached_by_all {
            for src in &grant.src {
                match src {
                    Selector::Any => EVERY_NODE.iter().for_each(|net| add((*net).to_owned())),
                    Selector::Net(net) => add(net.to_string()),
                    _ => {}
                }
            }
        }
        let by_node = |src: &&Selector| !reached_by_all || !matches!(src, Selector::Any | Selector::Net(_));
        let by_node: Vec<&Selector> = grant.src.iter().filter(by_node).collect();
        if by_node.is_empty() {
            return texts;
        }
        for node in all.filter(|node| reached_by_all || same_owner(node, me)) {
            if by_node.iter().any(|src| src.holds(self, &node)) {
                node.addresses.iter().for_each(|address| add(address.to_string()));
            }
        }
        texts
    }
}

fn same_owner(a: &Member<'_>, b: &Member<'_>) -> bool {
    a.user.is_some() && a.user == b.user
}
