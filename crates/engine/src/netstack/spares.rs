//! Sockets between two connections of one peer: fresh memory is the dearest part of a short connection.
//!
//! They never go to another peer, and they stay in the books of [`ConnectionMemory`](super::ConnectionMemory).

use std::sync::Arc;

use super::{
    memory::{ConnectionMemory, Reservation},
    shard::Idle,
};

/// How many sockets are kept.
const CAPACITY: usize = 2;

#[derive(Default)]
pub(super) struct Spares(Vec<(Idle, Reservation)>);

impl Spares {
    /// A socket that was used before, or else a new one out of the budget. `held` are the bytes that the peer's
    /// connections hold.
    pub(super) fn take(
        &mut self,
        memory: &Arc<ConnectionMemory>,
        held: usize,
        largest: usize,
    ) -> Option<(Idle, Reservation)> {
        if let Some(spare) = self.0.pop() {
            return Some(spare);
        }
        let reservation = memory.reserve(held, largest)?;
        Some((Idle::new(reservation.buffer()), reservation))
    }

    /// Keeps a socket for the next connection, unless memory is getting short.
    pub(super) fn keep(&mut self, idle: Idle, reservation: Reservation) {
        if self.0.len() < CAPACITY && reservation.is_plentiful() {
            self.0.push((idle.renewed(), reservation));
        }
    }

    /// Gives everything back when memory is getting short.
    pub(super) fn handle_timeout(&mut self) {
        self.0.retain(|(_, reservation)| reservation.is_plentiful());
    }
}
