//! Accepting connections.

use std::{fmt, net::SocketAddr, sync::Arc};

use tokio::sync::mpsc;

use crate::{Caller, Stream, shared::Shared};

/// A TCP port of the node, open to every peer that the packet filter lets through.
///
/// Dropping it closes the port; connections that were accepted go on.
pub struct Listener {
    port: u16,
    queue: mpsc::Receiver<Conn>,
    shared: Arc<Shared>,
}

/// One accepted connection: its bytes, and who is at the other end.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    caller: Caller,
}

/// The node has shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has shut down")]
pub struct Closed;

impl Listener {
    pub(crate) fn new(port: u16, queue: mpsc::Receiver<Conn>, shared: Arc<Shared>) -> Self {
        Self { port, queue, shared }
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// [`Closed`] once the node has shut down.
    pub async fn accept(&mut self) -> Result<Conn, Closed> {
        self.queue.recv().await.ok_or(Closed)
    }

    /// The addresses that peers connect to: each tailnet address of this node with the port.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let addresses = self.shared.own_addresses();
        addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.ports.close_tcp(self.port);
        self.shared.announce_ports();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener(port {})", self.port)
    }
}

impl Conn {
    pub(crate) fn new(stream: Stream, caller: Caller) -> Self {
        Self { stream, caller }
    }

    /// Who is at the other end.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The bytes and the caller, each to go its way.
    pub fn into_parts(self) -> (Stream, Caller) {
        (self.stream, self.caller)
    }
}
