//! What one round found.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tailnet_wire::control::NetInfo;

use super::StunTarget;

/// What one round of probes found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    latency4: BTreeMap<u32, Duration>,
    latency6: BTreeMap<u32, Duration>,
    /// Each address that servers saw us under, with how many of them did.
    mapped4: Vec<(SocketAddr, u32)>,
    mapped6: Vec<(SocketAddr, u32)>,
}

impl Report {
    pub(super) fn note(&mut self, target: StunTarget, latency: Duration, mapped: SocketAddr) {
        let (latencies, seen) = if target.addr.is_ipv4() {
            (&mut self.latency4, &mut self.mapped4)
        } else {
            (&mut self.latency6, &mut self.mapped6)
        };
        let best = latencies.entry(target.region).or_insert(latency);
        *best = latency.min(*best);
        match seen.iter_mut().find(|(addr, _)| *addr == mapped) {
            Some((_, count)) => *count += 1,
            None => seen.push((mapped, 1)),
        }
    }

    /// The best latency of each region that answered.
    pub fn latencies(&self) -> BTreeMap<u32, Duration> {
        let mut all = self.latency4.clone();
        for (region, latency) in &self.latency6 {
            let best = all.entry(*region).or_insert(*latency);
            *best = (*best).min(*latency);
        }
        all
    }

    /// Whether any server answered.
    pub fn works(&self) -> bool {
        !self.mapped4.is_empty() || !self.mapped6.is_empty()
    }

    /// Whether the NAT shows us to different servers under different addresses; `None` when only one was seen.
    pub fn mapping_varies(&self) -> Option<bool> {
        let answers: u32 = self.mapped4.iter().map(|(_, count)| count).sum();
        (answers >= 2).then_some(self.mapped4.len() > 1)
    }

    /// The addresses under which others may reach us. Behind a NAT that varies, only those seen twice and the first.
    pub(super) fn mapped(&self) -> impl Iterator<Item = SocketAddr> {
        let of = |seen: &[(SocketAddr, u32)]| {
            let useful = seen
                .iter()
                .enumerate()
                .filter(|(index, (_, count))| *index == 0 || *count >= 2);
            useful.map(|(_, (addr, _))| *addr).collect::<Vec<_>>()
        };
        of(&self.mapped4).into_iter().chain(of(&self.mapped6))
    }

    /// The public IPv4 address, if any was seen.
    pub(super) fn public4(&self) -> Option<SocketAddr> {
        self.mapped4.first().map(|(addr, _)| *addr)
    }

    /// What control is told. `home` is the chosen region.
    pub fn net_info(&self, home: Option<u32>, os_has_ipv6: bool) -> NetInfo {
        let named = |latencies: &BTreeMap<u32, Duration>, family: &str| {
            let named = latencies
                .iter()
                .map(|(region, latency)| (format!("{region}-{family}"), latency.as_secs_f64()));
            named.collect::<Vec<_>>()
        };
        NetInfo {
            mapping_varies_by_dest_ip: self.mapping_varies(),
            working_ipv6: Some(!self.mapped6.is_empty()),
            os_has_ipv6: Some(os_has_ipv6),
            working_udp: Some(self.works()),
            preferred_derp: home.unwrap_or(0),
            derp_latency: named(&self.latency4, "v4")
                .into_iter()
                .chain(named(&self.latency6, "v6"))
                .collect(),
            ..NetInfo::default()
        }
    }
}
