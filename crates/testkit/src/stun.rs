//! A STUN server that answers tailnet nodes and nobody else, as Tailscale's and Headscale's do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tailnet_wire::stun;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::{fault::Faults, network::Nat};

/// Serves until it is dropped.
pub(crate) struct StunServer {
    address: SocketAddr,
    counts: Arc<Counts>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
}

impl StunServer {
    /// With a `nat`, nodes are told their address there.
    pub(crate) async fn start(address: SocketAddr, faults: Arc<Faults>, nat: Option<Arc<Nat>>) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(run(socket, counts.clone(), faults, nat));
        Ok(Self {
            address,
            counts,
            _task: AbortOnDropHandle::new(task),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Requests answered and requests refused since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.answered.load(Relaxed), self.counts.refused.load(Relaxed))
    }
}

async fn run(socket: UdpSocket, counts: Arc<Counts>, faults: Arc<Faults>, nat: Option<Arc<Nat>>) {
    let mut buffer = [0; 1500];
    loop {
        // An error here is an ICMP answer to an earlier response, of no interest to a server.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if faults.udp_blocked() {
            continue;
        }
        match stun::parse_request(&buffer[..length]) {
            Ok(tx_id) => {
                counts.answered.fetch_add(1, Relaxed);
                let seen = match &nat {
                    Some(nat) => nat.outside(from).await.unwrap_or(from),
                    None => from,
                };
                let _ = socket.send_to(&stun::response(tx_id, seen), from).await;
            }
            Err(error) => {
                counts.refused.fetch_add(1, Relaxed);
                tracing::debug!(%from, %error, "STUN request refused");
            }
        }
    }
}
