//! The conclusions that are drawn from what a socket became: a connection opened, ended, or was given up.

use std::time::{Duration, Instant};

use super::{ConnError, ConnId, Netstack, flow::Origin, socket::State};

/// How long a connection may linger after the application has let go of it.
const ORPHAN: Duration = Duration::from_secs(60);

impl Netstack {
    /// Draws the conclusions from the state that a socket is in after a packet or an egress pass.
    pub(super) fn settle(&mut self, now: Instant, id: ConnId) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let Some(socket) = &mut flow.socket else {
            return;
        };
        let unread = socket.receive_queue();
        match socket.state() {
            // A reset of a half-open connection puts smoltcp's socket back to where it came from.
            State::Listen => self.vacate(id, Some(ConnError::Reset)),
            State::SynSent | State::SynReceived => {}
            State::TimeWait if unread == 0 || flow.released => {
                let key = flow.key;
                self.vacate(id, None);
                self.time_wait.insert(now, key);
            }
            State::Closed if !socket.has_remote() => {
                let error = match (flow.open, flow.origin) {
                    // LAST-ACK is the only way to close without an error that does not end in TIME-WAIT.
                    _ if flow.shut && flow.finished => None,
                    (false, Origin::Us) => Some(ConnError::Refused),
                    _ => Some(ConnError::Reset),
                };
                self.vacate(id, error);
            }
            // The reset is still to be sent.
            State::Closed => {}
            state => {
                flow.finished |= matches!(
                    state,
                    State::CloseWait | State::LastAck | State::Closing | State::TimeWait
                );
                let unacknowledged = socket.send_queue();
                flow.waiting_since = (unacknowledged > 0).then_some(flow.waiting_since.unwrap_or(now));
                flow.recovery.handle_egress(now, unacknowledged);
                if flow.released && unread > 0 {
                    self.abort(id, ConnError::Closed);
                } else {
                    self.settle_open(now, id);
                }
            }
        }
    }

    fn settle_open(&mut self, now: Instant, id: ConnId) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if !flow.open {
            flow.open = true;
            flow.deadline = None;
            flow.recovery.set_round_trip(now.saturating_duration_since(flow.born));
            if flow.origin == Origin::Peer {
                self.half_open -= 1;
                self.counters.accepted += 1;
                let key = flow.key;
                self.accepted.push_back((id, key));
            }
        } else if flow.released && flow.deadline.is_none() {
            flow.deadline = Some(now + ORPHAN);
        }
    }

    /// TCP is done with the connection: gives back its socket and buffers.
    pub(super) fn vacate(&mut self, id: ConnId, error: Option<ConnError>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let Some(socket) = flow.socket.take() else {
            return;
        };
        let reservation = flow.reservation.take();
        flow.error = flow.error.or(error);
        flow.deadline = None;
        let unseen = flow.origin == Origin::Peer && !flow.open;
        let (key, forget) = (flow.key, flow.released || unseen);
        self.half_open -= usize::from(unseen);
        if let Some(reservation) = reservation {
            self.held -= reservation.bytes();
            self.spares.keep(socket, reservation);
        }
        self.flows.detach(id, &key);
        if forget {
            self.flows.remove(id);
        }
    }
}
