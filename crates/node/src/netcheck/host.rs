//! What netcheck needs of the node, taken from what its tasks share.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::{mpsc, watch};

use super::{Findings, Host, Inputs, run};
use crate::{clock, shared::Shared, udp::Sent};

impl Host for Shared {
    fn send_stun(&self, to: SocketAddr, request: &[u8]) -> bool {
        self.expect_stun(to.ip());
        !matches!(self.udp.try_send(to, request, None), Sent::Unreachable(_))
    }

    fn port(&self) -> u16 {
        self.udp.port()
    }

    fn has_ipv6(&self) -> bool {
        self.udp.has_ipv6()
    }

    fn is_active(&self) -> bool {
        let now = clock::now();
        self.peers.all().iter().any(|peer| peer.engine().path().is_active(now))
    }

    fn may_move_home(&self) -> bool {
        self.netmap.age().is_zero()
    }

    fn is_home_alive(&self) -> bool {
        self.derp.is_home_connected()
    }

    fn use_home(&self, home: Option<u32>) {
        self.derp.set_home(home);
    }
}

/// Runs netcheck among the node's tasks until the node stops. `answers` are datagrams that look like STUN.
pub(crate) fn spawn(shared: &Arc<Shared>, answers: mpsc::Receiver<(SocketAddr, Vec<u8>)>) -> watch::Receiver<Findings> {
    let (found, findings) = watch::channel(Findings::default());
    let inputs = Inputs {
        maps: shared.derp_map.subscribe(),
        answers,
        refresh: shared.stale_endpoints.clone(),
    };
    // The public key is random, and the same at every start.
    let seed = shared
        .key
        .public()
        .as_bytes()
        .first_chunk()
        .copied()
        .map_or(0, u64::from_le_bytes);
    let measure = run(shared.clone(), inputs, seed, found);
    shared
        .tasks
        .spawn(shared.stop.clone().run_until_cancelled_owned(measure));
    findings
}
