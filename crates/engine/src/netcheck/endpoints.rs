//! Where peers may reach us: what goes to control and into CallMeMaybe messages.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ipnet::{Ipv4Net, Ipv6Net};
use tailnet_wire::control::endpoint_type;

use super::Report;

/// How long an address that STUN showed stays in the list after it was last seen.
const SEEN_LIFE: Duration = Duration::from_secs(5 * 60 + 10);
/// The most such addresses with the same IP: ports of a NAT that gives out ever new ones.
const SEEN_PER_IP: usize = 6;
/// The most such addresses in all.
const MAX_SEEN: usize = 24;

/// One address of one network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name of the interface, such as `eth0`.
    pub name: String,
    /// The address.
    pub ip: IpAddr,
}

/// The addresses that STUN servers showed us lately.
#[derive(Debug, Default)]
pub struct SeenAddresses(Vec<(SocketAddr, Instant)>);

impl SeenAddresses {
    /// Takes the addresses of a report and forgets old ones.
    pub fn note(&mut self, report: &Report, now: Instant) {
        for addr in report.mapped() {
            self.0.retain(|(seen, _)| *seen != addr);
            self.0.insert(0, (addr, now));
        }
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) <= SEEN_LIFE);
        let mut kept: Vec<(SocketAddr, Instant)> = Vec::new();
        for entry in self.0.drain(..) {
            let same = kept.iter().filter(|(addr, _)| addr.ip() == entry.0.ip()).count();
            if same < SEEN_PER_IP && kept.len() < MAX_SEEN {
                kept.push(entry);
            }
        }
        self.0 = kept;
    }
}

/// Our endpoints, best first, each with its [kind](endpoint_type).
///
/// What STUN showed comes first, then the interfaces with our own `port`. Behind a NAT that varies, the public address
/// with our port is added: somebody may have forwarded it. Loopback counts only where there is nothing else; the
/// addresses of a tailnet never do, because a tunnel inside a tunnel leads nowhere.
pub fn own_endpoints(
    report: &Report,
    seen: &SeenAddresses,
    interfaces: &[Interface],
    port: u16,
) -> Vec<(SocketAddr, u8)> {
    let mut list: Vec<(SocketAddr, u8)> = Vec::new();
    let mut add = |addr: SocketAddr, kind: u8| {
        if list.iter().all(|(known, _)| *known != addr) {
            list.push((addr, kind));
        }
    };
    for addr in report.mapped() {
        add(addr, endpoint_type::STUN);
    }
    if let (Some(true), Some(public)) = (report.mapping_varies(), report.public4()) {
        add(SocketAddr::new(public.ip(), port), endpoint_type::STUN_LOCAL_PORT);
    }
    for (addr, _) in &seen.0 {
        add(*addr, endpoint_type::STUN);
    }
    let (loopback, real): (Vec<_>, Vec<_>) = interfaces
        .iter()
        .filter(|interface| is_usable(interface))
        .partition(|interface| interface.ip.is_loopback());
    for interface in if real.is_empty() { loopback } else { real } {
        add(SocketAddr::new(interface.ip, port), endpoint_type::LOCAL);
    }
    list
}

fn is_usable(interface: &Interface) -> bool {
    let shared = Ipv4Net::new_assert([100, 64, 0, 0].into(), 10);
    let tailnet6 = Ipv6Net::new_assert([0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0].into(), 48);
    let usable = match interface.ip {
        // Providers use the shared range too, so there only the interface's name tells.
        IpAddr::V4(ip) => {
            let of_tailnet = shared.contains(&ip) && interface.name.starts_with("tailscale");
            !ip.is_link_local() && !of_tailnet
        }
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && !tailnet6.contains(&ip),
    };
    usable && !interface.ip.is_unspecified() && !interface.ip.is_multicast()
}
