//! Names of STUN servers, asked from DNS and remembered.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tailnet_engine::netcheck::{StunServer, StunTarget};
use tokio::{net::lookup_host, time::timeout};

use crate::clock;

/// How long an answer is used.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cache of what DNS said of the servers in the DERP map.
#[derive(Debug, Default)]
pub(super) struct Resolver(HashMap<(String, u16), (Instant, Vec<SocketAddr>)>);

impl Resolver {
    /// The addresses of `servers`; one per server and family. Names that DNS does not know are left out.
    pub(super) async fn resolve(&mut self, servers: &[StunServer], ipv6: bool) -> Vec<StunTarget> {
        let now = clock::now();
        self.0.retain(|_, (at, _)| now.duration_since(*at) < LIFE);
        let mut missing: Vec<_> = servers.iter().filter_map(|server| server.name.clone()).collect();
        missing.sort();
        missing.dedup();
        missing.retain(|name| !self.0.contains_key(name));
        let asked = missing.into_iter().map(|(host, port)| async move {
            let found = timeout(PATIENCE, lookup_host((host.as_str(), port))).await.ok()?.ok()?;
            let addrs: Vec<_> = found.collect();
            Some(((host, port), (now, addrs)))
        });
        self.0.extend(join_all(asked).await.into_iter().flatten());
        let mut targets = Vec::new();
        for server in servers {
            let named = server.name.as_ref().and_then(|name| self.0.get(name));
            let addrs = named.map_or(&server.addrs, |(_, addrs)| addrs);
            let v4 = addrs.iter().find(|addr| addr.is_ipv4() && server.ipv4);
            let v6 = addrs.iter().find(|addr| addr.is_ipv6() && server.ipv6 && ipv6);
            let region = server.region;
            targets.extend(v4.into_iter().chain(v6).map(|addr| StunTarget { region, addr: *addr }));
        }
        targets
    }
}
