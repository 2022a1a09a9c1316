//! Pings of peers that control orders (Go: `doPingerPing` in `control/controlclient/direct.go`).
//!
//! The control client passes an order on, with a place for the answer; how many run at a time is bounded there.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tailnet_engine::{path::Hop, peer::PingKind};
use tailnet_wire::control::PingResponse;
use tokio::time::timeout;

use crate::{
    control::{PeerPing, PeerPingKind},
    shared::Shared,
};

/// How long a pong is waited for, as Go does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pings and answers, unless the node stops.
pub(crate) async fn run(shared: Arc<Shared>, order: PeerPing) {
    tokio::select! {
        response = ping(&shared, order.address, order.kind) => {
            // Whoever asked may be gone with its connection.
            let _ = order.answer.send(response);
        }
        () = shared.stop.cancelled() => {}
    }
}

async fn ping(shared: &Arc<Shared>, address: IpAddr, kind: PeerPingKind) -> PingResponse {
    let outcome = match kind {
        PeerPingKind::Disco => disco(shared, address).await,
        PeerPingKind::Tsmp => inside(shared, address, PingKind::Tsmp).await,
        PeerPingKind::Icmp => inside(shared, address, PingKind::Icmp).await,
    };
    let netmap = shared.netmap.current();
    let node = netmap.as_ref().and_then(|netmap| netmap.peer_by_ip(address));
    let named = PingResponse {
        node_ip: address.to_string(),
        node_name: node.map(|node| node.name.to_string()).unwrap_or_default(),
        ..PingResponse::default()
    };
    match outcome {
        Ok(Pong { latency, hop }) => {
            let mut response = PingResponse {
                latency_seconds: latency.as_secs_f64(),
                ..named
            };
            match hop {
                Some(Hop::Udp(to)) => response.endpoint = to.to_string(),
                Some(Hop::Derp(region)) => {
                    let regions = netmap
                        .iter()
                        .filter_map(|netmap| netmap.derp_map().regions.get(&region));
                    response.derp_region_code = regions.map(|region| region.region_code.clone()).collect();
                    response.derp_region_id = region;
                }
                None => {}
            }
            response
        }
        Err(err) => PingResponse { err, ..named },
    }
}

/// What came back.
struct Pong {
    latency: Duration,
    /// The path, when the ping went along one and not through the tunnel.
    hop: Option<Hop>,
}

async fn disco(shared: &Arc<Shared>, address: IpAddr) -> Result<Pong, String> {
    let peer = shared.peer_at(address).map_err(|error| error.to_string())?;
    let pong = peer.ping_path();
    peer.kick();
    let (hop, latency) = within(pong).await?;
    Ok(Pong {
        latency,
        hop: Some(hop),
    })
}

async fn inside(shared: &Arc<Shared>, address: IpAddr, kind: PingKind) -> Result<Pong, String> {
    let local = shared.own_address_like(address).map_err(|error| error.to_string())?;
    let peer = shared.peer_at(address).map_err(|error| error.to_string())?;
    let pong = peer.ping(kind, local, address).map_err(|error| error.to_string())?;
    peer.kick();
    let latency = within(pong).await?;
    Ok(Pong { latency, hop: None })
}

async fn within<T>(pong: impl Future<Output = Result<T, tokio::sync::oneshot::error::RecvError>>) -> Result<T, String> {
    let answered = timeout(PATIENCE, pong).await.ok().and_then(Result::ok);
    answered.ok_or_else(|| "no answer".to_owned())
}
