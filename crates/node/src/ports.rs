//! The node's open TCP and UDP ports, and the bounded queues behind them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tailnet_engine::peer::Ports;
use tokio::sync::mpsc;

use crate::{listener::Conn, udp_socket::Arrived};

/// Connections that wait to be accepted on one port. When it is full a new one is reset and counted.
const BACKLOG: usize = 256;
/// Datagrams that wait on one UDP port. When it is full a new one is dropped and counted.
const DATAGRAMS: usize = 256;

/// Why a port cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Somebody in this process has it already.
    #[error("port {0} of this node is in use already")]
    InUse(u16),
    /// Port 0 names no port.
    #[error("a port between 1 and 65535 is needed")]
    NoPort,
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Who waits on which port.
#[derive(Debug, Default)]
pub(crate) struct OpenPorts {
    tables: Mutex<Tables>,
    announcing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Tables {
    tcp: HashMap<u16, mpsc::Sender<Conn>>,
    udp: HashMap<u16, mpsc::Sender<Arrived>>,
    closed: bool,
}

impl OpenPorts {
    /// Opens a TCP port.
    pub(crate) fn open_tcp(&self, port: u16) -> Result<mpsc::Receiver<Conn>, ListenError> {
        let mut tables = self.tables.lock();
        let closed = tables.closed;
        open(&mut tables.tcp, port, BACKLOG, closed)
    }

    /// Opens a UDP port.
    pub(crate) fn open_udp(&self, port: u16) -> Result<mpsc::Receiver<Arrived>, ListenError> {
        let mut tables = self.tables.lock();
        let closed = tables.closed;
        open(&mut tables.udp, port, DATAGRAMS, closed)
    }

    /// Closes a TCP port.
    pub(crate) fn close_tcp(&self, port: u16) {
        self.tables.lock().tcp.remove(&port);
    }

    /// Closes a UDP port.
    pub(crate) fn close_udp(&self, port: u16) {
        self.tables.lock().udp.remove(&port);
    }

    /// Closes everything for good: whoever waits learns it once their queue is empty.
    pub(crate) fn close_all(&self) {
        *self.tables.lock() = Tables {
            closed: true,
            ..Tables::default()
        };
    }

    /// Hands a connection to whoever listens; gives it back when nobody does or the backlog is full.
    pub(crate) fn offer(&self, conn: Conn) -> Result<(), Box<Conn>> {
        let sender = self.tables.lock().tcp.get(&conn.caller().local_addr().port()).cloned();
        match sender {
            Some(sender) => sender.try_send(conn).map_err(|error| Box::new(error.into_inner())),
            None => Err(Box::new(conn)),
        }
    }

    /// Hands a datagram to whoever has bound the port; false when it was dropped.
    pub(crate) fn deliver(&self, port: u16, datagram: Arrived) -> bool {
        let sender = self.tables.lock().udp.get(&port).cloned();
        sender.is_some_and(|sender| sender.try_send(datagram).is_ok())
    }

    /// Runs `announce` with what is open now; one at a time, so that the last one to run has the newest list.
    pub(crate) fn announcing(&self, announce: impl FnOnce(Arc<Ports>)) {
        let _one = self.announcing.lock();
        announce(self.snapshot());
    }

    /// What is open now, for the peers' engines.
    pub(crate) fn snapshot(&self) -> Arc<Ports> {
        let tables = self.tables.lock();
        Arc::new(Ports {
            tcp: tables.tcp.keys().copied().collect(),
            udp: tables.udp.keys().copied().collect(),
        })
    }
}

fn open<T>(
    table: &mut HashMap<u16, mpsc::Sender<T>>,
    port: u16,
    capacity: usize,
    closed: bool,
) -> Result<mpsc::Receiver<T>, ListenError> {
    match port {
        _ if closed => Err(ListenError::Closed),
        0 => Err(ListenError::NoPort),
        port if table.contains_key(&port) => Err(ListenError::InUse(port)),
        port => {
            let (sender, queue) = mpsc::channel(capacity);
            table.insert(port, sender);
            Ok(queue)
        }
    }
}

#[cfg(test)]
mod tests;
