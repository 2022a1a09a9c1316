//! Which of two answering addresses is the better one (Go: `betterAddr` in `wgengine/magicsock/endpoint.go`).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// What is compared of an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quality {
    addr: SocketAddr,
    latency: Option<Duration>,
}

impl Quality {
    pub(super) fn new(addr: SocketAddr, latency: Option<Duration>) -> Self {
        Self { addr, latency }
    }

    /// Points are percents of latency saved, plus what the kind of address is worth. One percent is not worth a change.
    pub(super) fn is_better_than(&self, current: &Quality) -> bool {
        let (mine, theirs) = match (self.latency, current.latency) {
            (Some(mine), Some(theirs)) if mine > theirs => (0, percent_saved(theirs, mine)),
            (Some(mine), Some(theirs)) => (percent_saved(mine, theirs), 0),
            (Some(_), None) => return true,
            (None, _) => return false,
        };
        let (mine, theirs) = (
            mine + kind_points(self.addr.ip()),
            theirs + kind_points(current.addr.ip()),
        );
        let hysteresis = mine <= 1 && theirs == 0;
        mine > theirs && !hysteresis
    }
}

/// By how many percent `fast` undercuts `slow`.
fn percent_saved(fast: Duration, slow: Duration) -> u32 {
    let slow = slow.as_nanos();
    if slow == 0 {
        return 0;
    }
    u32::try_from(100 - fast.as_nanos() * 100 / slow).unwrap_or(0)
}

/// The nearer a kind of address is bound to be, and the fewer NATs in between, the more it is worth.
fn kind_points(ip: IpAddr) -> u32 {
    let near = match ip {
        _ if ip.is_loopback() => 50,
        IpAddr::V4(ip) if ip.is_link_local() => 30,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 30,
        IpAddr::V4(ip) if ip.is_private() => 20,
        IpAddr::V6(ip) if ip.is_unique_local() => 20,
        _ => 0,
    };
    near + if ip.is_ipv6() { 10 } else { 0 }
}
