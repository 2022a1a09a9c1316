//! Sending, and the timers that make it necessary.

use std::time::{Duration, Instant};

use tailnet_wire::packet::Addresses;

use super::{ConnError, ConnId, Egress, FlowKey, Netstack, PacketQueue, schedule::Schedule, socket::State};

/// A timer that was due and left nothing to do is looked at again after this.
const AGAIN: Duration = Duration::from_millis(1);

impl Netstack {
    /// Whether [`poll_egress`](Self::poll_egress) would do something now.
    pub(crate) fn wants_egress(&self) -> bool {
        self.schedule.is_ready()
    }

    /// One pass: the connections in line send, a quantum each, while `egress` is ready.
    pub(crate) fn poll_egress(&mut self, now: Instant, egress: &mut impl Egress) {
        while egress.is_ready()
            && let Some(id) = self.schedule.next()
        {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            Schedule::leave(&mut flow.appointment);
            let Some(socket) = &mut flow.socket else {
                continue;
            };
            flow.unreported = 0;
            if socket.egress(now, egress, &mut self.scratch) {
                self.schedule.touch(id, &mut flow.appointment);
            }
            self.settle(now, id);
            self.arm(now, id);
        }
    }

    /// Nothing can be sent now. Connections in line wait for a session, but not for ever; those that only have a reset
    /// to send are over.
    pub(crate) fn handle_silence(&mut self, now: Instant) {
        for id in self.schedule.line() {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            let Some(socket) = &flow.socket else {
                continue;
            };
            if socket.state() == State::Closed {
                self.vacate(id, None);
            } else {
                flow.waiting_since.get_or_insert(now);
                self.arm(now, id);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.schedule.poll_timeout(), self.time_wait.poll_timeout()];
        timers.into_iter().flatten().min()
    }

    /// Gives up what is overdue, repeats what seems lost, and puts those into the line whose TCP timers are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, replies: &mut PacketQueue) {
        self.time_wait.handle_timeout(now);
        self.spares.handle_timeout();
        while let Some((at, id)) = self.schedule.expired(now) {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            if !Schedule::fires(&mut flow.appointment, at) {
                continue;
            }
            let overdue = flow.deadline.take_if(|deadline| *deadline <= now).is_some()
                || flow.unheard_at().is_some_and(|unheard| unheard <= now);
            let lost = flow.recovery.handle_timeout(now);
            if flow
                .socket
                .as_ref()
                .and_then(|socket| socket.due())
                .is_some_and(|due| due <= now)
            {
                self.schedule.touch(id, &mut flow.appointment);
            }
            if overdue {
                self.abort(id, ConnError::TimedOut);
            } else if lost {
                self.repeat_first(now, id, replies);
            }
            self.arm(now, id);
        }
    }

    /// Sets the timer of a connection. TCP's own timers are known anew after the egress pass that it waits for.
    pub(super) fn arm(&mut self, now: Instant, id: ConnId) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let Some(socket) = &flow.socket else {
            return;
        };
        let due = socket.due().filter(|_| !flow.appointment.is_ready());
        let timers = [due, flow.deadline, flow.recovery.poll_timeout(), flow.unheard_at()];
        let next = timers.into_iter().flatten().min().map(|at| at.max(now + AGAIN));
        self.schedule.wake_at(id, &mut flow.appointment, next);
    }

    /// Makes a socket repeat its first unacknowledged segment with the next egress pass.
    pub(super) fn repeat_first(&mut self, now: Instant, id: ConnId, replies: &mut PacketQueue) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let FlowKey { local, remote } = flow.key;
        let (Some(socket), Some(addresses)) = (&mut flow.socket, Addresses::new(remote.ip(), local.ip())) else {
            return;
        };
        // Without data in the buffer smoltcp would forget to repeat a FIN.
        if socket.send_queue() == 0 {
            return;
        }
        self.counters.repeated += 1;
        for acknowledgment in flow.recovery.duplicates(&addresses, (remote.port(), local.port())) {
            socket.ingress(now, &acknowledgment, replies, &mut self.scratch);
        }
        self.schedule.touch(id, &mut flow.appointment);
    }
}
