//! Finding out where we can be reached.
use std::{net::SocketAddr, sync::Arc};

use tailnet_wire::control::NetInfo;
use tokio::sync::{mpsc, watch};

use crate::shared::Shared;

/// Where peers can reach us.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) endpoints: Vec<(SocketAddr, u8)>,
    pub(crate) net_info: NetInfo,
}

pub(crate) fn interface_endpoints(port: u16) -> Vec<(SocketAddr, u8)> {
    let mut found = Vec::new();
    for target in ["192.0.2.1:9", "[2001:db8::1]:9"] {
        let bind = if target.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let local = std::net::UdpSocket::bind(bind).and_then(|s| s.connect(target).and_then(|()| s.local_addr()));
        if let Ok(local) = local {
            found.push((SocketAddr::new(local.ip(), port), 1));
        }
    }
    if found.is_empty() {
        found.push((SocketAddr::from(([127, 0, 0, 1], port)), 1));
    }
    found
}

pub(crate) fn spawn(
    shared: &Arc<Shared>,
    _answers: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
) -> watch::Receiver<Findings> {
    let (sender, receiver) = watch::channel(Findings::default());
    let shared = Arc::clone(shared);
    shared.tasks.clone().spawn(async move {
        let mut maps = shared.derp_map.subscribe();
        loop {
            let map = maps.borrow_and_update().clone();
            shared.derp.set_map(map.clone());
            let home = map.regions.keys().next().copied();
            shared.derp.set_home(home);
            sender.send_replace(Findings {
                endpoints: interface_endpoints(shared.udp.port()),
                net_info: NetInfo {
                    preferred_derp: home.unwrap_or(0),
                    working_udp: Some(true),
                    ..NetInfo::default()
                },
            });
            tokio::select! {
                _ = maps.changed() => {}
                () = shared.stale_endpoints.notified() => {}
                () = shared.stop.cancelled() => return,
            }
        }
    });
    receiver
}
