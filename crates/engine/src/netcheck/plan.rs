//! Whom to ask.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tailnet_wire::{
    control::{DerpMap, DerpNode, DerpRegion},
    stun,
};

/// The most servers of one region that are asked.
const SERVERS_PER_REGION: usize = 3;
/// How many of the fastest regions a short round asks, besides home.
const FASTEST: usize = 3;

/// A STUN server of the DERP map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunServer {
    /// Its region.
    pub region: u32,
    /// Its addresses, where the map gives them.
    pub addrs: Vec<SocketAddr>,
    /// Its name and port, when DNS has to be asked; with the families that are wanted.
    pub name: Option<(String, u16)>,
    /// Whether IPv4 may be used.
    pub ipv4: bool,
    /// Whether IPv6 may be used.
    pub ipv6: bool,
}

/// A resolved STUN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StunTarget {
    /// Its region.
    pub region: u32,
    /// Where to send.
    pub addr: SocketAddr,
}

/// The servers to ask in one round.
///
/// With `known` latencies of an earlier round it is a short one: `home` and the fastest regions. Regions that control
/// wants neither measured nor chosen are left out.
pub fn stun_servers(map: &DerpMap, home: Option<u32>, known: Option<&BTreeMap<u32, Duration>>) -> Vec<StunServer> {
    let fastest = known.filter(|known| !known.is_empty()).map(|known| {
        let mut by_latency: Vec<_> = known.iter().map(|(region, latency)| (latency, region)).collect();
        by_latency.sort();
        by_latency
            .into_iter()
            .take(FASTEST)
            .map(|(_, region)| *region)
            .collect::<Vec<_>>()
    });
    let wanted = |number: &u32, region: &DerpRegion| {
        let is_home = home == Some(*number);
        let near = fastest
            .as_ref()
            .is_none_or(|fastest| is_home || fastest.contains(number));
        near && !region.no_measure_no_home && (is_home || !region.avoid)
    };
    let regions = map.regions.iter().filter(|(number, region)| wanted(number, region));
    regions.flat_map(|(number, region)| servers(*number, region)).collect()
}

fn servers(number: u32, region: &DerpRegion) -> impl Iterator<Item = StunServer> {
    let servers = region.nodes.iter().filter_map(move |node| server(number, node));
    servers.take(SERVERS_PER_REGION)
}

fn server(region: u32, node: &DerpNode) -> Option<StunServer> {
    let port = match node.stun_port {
        0 => stun::PORT,
        port => u16::try_from(port).ok()?,
    };
    if let Ok(ip) = node.stun_test_ip.parse::<IpAddr>() {
        return Some(StunServer {
            region,
            addrs: vec![SocketAddr::new(ip, port)],
            name: None,
            ipv4: ip.is_ipv4(),
            ipv6: ip.is_ipv6(),
        });
    }
    let fixed4 = node.ipv4.parse::<Ipv4Addr>().ok();
    let fixed6 = node.ipv6.parse::<Ipv6Addr>().ok();
    let (ipv4, ipv6) = (
        fixed4.is_some() || node.ipv4.is_empty(),
        fixed6.is_some() || node.ipv6.is_empty(),
    );
    let fixed = fixed4.map(IpAddr::from).into_iter().chain(fixed6.map(IpAddr::from));
    let addrs: Vec<_> = fixed.map(|ip| SocketAddr::new(ip, port)).collect();
    // With one address given, DNS is not asked for the other family: it may not know the name at all.
    let name = (addrs.is_empty() && (ipv4 || ipv6)).then(|| (node.host_name.clone(), port));
    Some(StunServer {
        region,
        addrs,
        name,
        ipv4,
        ipv6,
    })
}
