//! Which connections have something to do: now, or at what time.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Instant,
};

use super::flow::ConnId;

/// So many timers beyond four for each connection are looked through.
const TIDY: usize = 256;

/// A connection's own part of the [`Schedule`].
#[derive(Debug, Default)]
pub(super) struct Appointment {
    /// Whether it stands in line for the next egress pass.
    ready: bool,
    /// The earliest entry of the heap that counts.
    timer: Option<Instant>,
}

impl Appointment {
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn timer(&self) -> Option<Instant> {
        self.timer
    }
}

/// A line of connections with packets to send, and a heap of timers. Timers are put off lazily: an entry that comes too
/// early is looked at and put back, so that a packet costs no heap operation.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    ready: VecDeque<ConnId>,
    timers: BinaryHeap<Reverse<(Instant, ConnId)>>,
}

impl Schedule {
    /// Whether a connection stands in line.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Puts a connection into the line, unless it stands there.
    #[inline]
    pub(super) fn touch(&mut self, id: ConnId, own: &mut Appointment) {
        if !own.ready {
            own.ready = true;
            self.ready.push_back(id);
        }
    }

    /// The first in line, which may be gone by now. Pass its part to [`leave`](Self::leave).
    pub(super) fn next(&mut self) -> Option<ConnId> {
        self.ready.pop_front()
    }

    /// Everyone in line, some of whom may be gone by now.
    pub(super) fn line(&self) -> Vec<ConnId> {
        self.ready.iter().copied().collect()
    }

    /// Notes that a connection left the line.
    pub(super) fn leave(own: &mut Appointment) {
        own.ready = false;
    }

    /// Wakes a connection at `at`, or before if that was asked for earlier.
    #[inline]
    pub(super) fn wake_at(&mut self, id: ConnId, own: &mut Appointment, at: Option<Instant>) {
        if let Some(at) = at
            && own.timer.is_none_or(|timer| at < timer)
        {
            own.timer = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Forgets timers of connections that are gone, once they are most of all: a peer that opens and closes connections
    /// as fast as it can leaves one behind each time. `timer` finds the [timer](Appointment::timer) that counts.
    pub(super) fn tidy(&mut self, connections: usize, mut timer: impl FnMut(ConnId) -> Option<Instant>) {
        if self.timers.len() > 4 * connections + TIDY {
            self.timers.retain(|Reverse((at, id))| timer(*id) == Some(*at));
        }
    }

    /// When the next timer is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The next timer that is due at `now`. Pass the connection's part to [`fires`](Self::fires).
    pub(super) fn expired(&mut self, now: Instant) -> Option<(Instant, ConnId)> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.timers.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the timer that expired is the one that counts.
    pub(super) fn fires(own: &mut Appointment, at: Instant) -> bool {
        let fires = own.timer == Some(at);
        if fires {
            own.timer = None;
        }
        fires
    }
}
