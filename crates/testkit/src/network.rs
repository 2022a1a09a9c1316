//! Networks that nodes can live behind.
//!
//! Production nodes bind their own UDP sockets, so nothing in this process could come between two of them. What can is
//! the address by which they know each other: with [`Nat`], STUN tells each node the address of a socket of ours, maps
//! carry no other address, and every datagram between two nodes passes through here, seen by the receiver as coming
//! from the sender's address at the NAT. It can then be lost, be late, or come from somewhere else.
//!
//! The NAT is a full cone: what it answers once it answers to everybody.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{net::UdpSocket, task::JoinSet};

use crate::{fault::Faults, random};

/// More than any node sends over UDP.
const MAX_DATAGRAM: usize = 4096;

/// The NAT that all nodes are behind, each alone.
pub(crate) struct Nat {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

struct Inner {
    faults: Arc<Faults>,
    /// From a node's real address to its socket here.
    mappings: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
    /// From every address that was ever given out to the node behind it: nodes report old ones for a while.
    given: Mutex<HashMap<SocketAddr, SocketAddr>>,
}

impl Nat {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        let inner = Arc::new(Inner {
            faults,
            mappings: Mutex::default(),
            given: Mutex::default(),
        });
        Self {
            inner,
            tasks: Mutex::default(),
        }
    }

    /// The address by which the world knows `inside`; made on first use.
    pub(crate) async fn outside(&self, inside: SocketAddr) -> io::Result<SocketAddr> {
        if let Some(socket) = self.inner.mappings.lock().get(&inside) {
            return socket.local_addr();
        }
        self.map(inside).await
    }

    /// Whether `address` is one that the NAT listens on now.
    pub(crate) fn owns(&self, address: SocketAddr) -> bool {
        let mappings = self.inner.mappings.lock();
        mappings
            .values()
            .any(|socket| socket.local_addr().is_ok_and(|own| own == address))
    }

    /// Whether `address` is or was one of the NAT's own.
    pub(crate) fn knows(&self, address: SocketAddr) -> bool {
        self.inner.given.lock().contains_key(&address)
    }

    /// Gives the node behind `outside` another address; the old one is dead.
    pub(crate) async fn remap(&self, outside: SocketAddr) -> io::Result<SocketAddr> {
        let inside = self
            .inner
            .given
            .lock()
            .get(&outside)
            .copied()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.map(inside).await
    }

    async fn map(&self, inside: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let outside = socket.local_addr()?;
        self.inner.mappings.lock().insert(inside, socket.clone());
        self.inner.given.lock().insert(outside, inside);
        self.tasks.lock().spawn(carry(self.inner.clone(), inside, socket));
        Ok(outside)
    }
}

/// Carries what arrives at one socket to the node behind it, until the node has another.
async fn carry(inner: Arc<Inner>, inside: SocketAddr, socket: Arc<UdpSocket>) {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        // An error here is an ICMP answer to an earlier datagram: nobody listens inside any more.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let via = {
            let mappings = inner.mappings.lock();
            if !mappings
                .get(&inside)
                .is_some_and(|current| Arc::ptr_eq(current, &socket))
            {
                return;
            }
            mappings.get(&from).cloned()
        };
        // Who has no mapping has never asked STUN and could not be answered.
        let Some(via) = via else { continue };
        if inner.faults.udp_blocked() || inner.faults.loses(random::bytes()) {
            continue;
        }
        let late = inner.faults.udp_delay();
        if late == Duration::ZERO {
            let _ = via.send_to(&buffer[..length], inside).await;
        } else {
            let datagram = buffer[..length].to_vec();
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                let _ = via.send_to(&datagram, inside).await;
            });
        }
    }
}
