//! Sockets between two connections of one peer: fresh memory is the dearest part of a short connection.
//!
//! They never go to another peer, and they stay in the books of [`ConnectionMemory`](super::ConnectionMemory).

use super::{memory::Reservation, socket::TcpSocket};

/// How many sockets are kept.
const CAPACITY: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Spares(Vec<(Box<TcpSocket>, Reservation)>);

impl Spares {
    /// A socket that was used before.
    pub(super) fn take(&mut self) -> Option<(Box<TcpSocket>, Reservation)> {
        self.0.pop()
    }

    /// Keeps a socket for the next connection, unless memory is getting short.
    pub(super) fn keep(&mut self, mut socket: Box<TcpSocket>, reservation: Reservation) {
        if self.0.len() < CAPACITY && reservation.is_plentiful() {
            socket.renew();
            self.0.push((socket, reservation));
        }
    }

    /// Gives everything back when memory is getting short.
    pub(super) fn handle_timeout(&mut self) {
        self.0.retain(|(_, reservation)| reservation.is_plentiful());
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
