//! Virtual time: one number for our engine, for boringtun's hidden clock and for the wall.

use std::time::{Duration, Instant};

use mock_instant::MockClock;
use time::{OffsetDateTime, macros::datetime};

/// Time since the run began.
pub type Time = Duration;

/// The wall when a run begins. Any fixed day will do.
const DAY_ONE: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// The clock of one run. boringtun's clock belongs to the thread, so a thread has one run at a time.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    now: Time,
}

impl Clock {
    /// A clock that stands at zero. `start` is any real instant: only differences are ever used.
    pub fn new(start: Instant) -> Self {
        MockClock::set_time(Time::ZERO);
        Self { start, now: Time::ZERO }
    }

    /// The present.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The present, as the engine wants it.
    pub fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// Makes something as if the run had just begun.
    ///
    /// For tunnels. boringtun stamps its handshakes with the real wall at the birth of a tunnel plus the mock time since
    /// then, and a peer refuses stamps that go backwards. A tunnel born in the middle of a run would stamp the
    /// beginning of the run and be refused; born at zero it stamps the present.
    pub fn at_zero<T>(&self, make: impl FnOnce(Instant) -> T) -> T {
        MockClock::set_time(Time::ZERO);
        let made = make(self.start);
        MockClock::set_time(self.now);
        made
    }

    /// An instant that the engine named, as time since the run began. The past is now.
    pub fn time_of(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.start).max(self.now)
    }

    /// The present by the calendar.
    pub fn wall(&self) -> OffsetDateTime {
        DAY_ONE + self.now
    }

    /// Goes forward to `to`.
    pub fn advance(&mut self, to: Time) {
        self.now = self.now.max(to);
        MockClock::set_time(self.now);
    }
}
