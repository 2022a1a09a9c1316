//! Calls in both directions: when we send a CallMeMaybe, and how much one that arrives may make us send.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tailnet_wire::disco::{MAX_CALL_ENDPOINTS, Message};

/// How long our own endpoints count as fresh: a little less than NATs keep a mapping.
const FRESH: Duration = Duration::from_secs(27);
/// Least time between two calls to one peer.
const CALL_INTERVAL: Duration = Duration::from_secs(5);
/// How long a call waits for fresh endpoints before it goes out with old ones.
const REFRESH_PATIENCE: Duration = Duration::from_secs(3);

/// What to do about a wish to call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Send it now.
    Send,
    /// Have our endpoints determined first.
    Refresh,
    /// One is under way, or was sent a moment ago.
    TooSoon,
}

/// Our own endpoints and the calls that carry them.
#[derive(Debug, Default)]
pub(super) struct OwnCall {
    endpoints: Arc<[SocketAddr]>,
    determined: Option<Instant>,
    last_sent: Option<Instant>,
    waiting_since: Option<Instant>,
}

impl OwnCall {
    /// Takes a fresh list; true when a call waits for it.
    pub(super) fn set_endpoints(&mut self, endpoints: Arc<[SocketAddr]>, now: Instant) -> bool {
        self.endpoints = endpoints;
        self.determined = Some(now);
        self.waiting_since.is_some()
    }

    pub(super) fn request(&mut self, now: Instant) -> Request {
        let within = |at: Option<Instant>, limit| at.is_some_and(|at| now.saturating_duration_since(at) < limit);
        if self.waiting_since.is_some() || within(self.last_sent, CALL_INTERVAL) {
            return Request::TooSoon;
        }
        if within(self.determined, FRESH) {
            return Request::Send;
        }
        self.waiting_since = Some(now);
        Request::Refresh
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + REFRESH_PATIENCE)
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Ends the waiting; true when there is anything to tell.
    pub(super) fn note_sent(&mut self, now: Instant) -> bool {
        self.waiting_since = None;
        self.last_sent = Some(now);
        !self.endpoints.is_empty()
    }

    /// A restarted peer does not know of the last call.
    pub(super) fn forget_sent(&mut self) {
        self.last_sent = None;
        self.waiting_since = None;
    }

    pub(super) fn message(&self) -> Message {
        Message::CallMeMaybe {
            endpoints: self.endpoints.iter().take(MAX_CALL_ENDPOINTS).copied().collect(),
        }
    }
}

/// How many pings the CallMeMaybe messages of one peer may still trigger: they must not make us an amplifier.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: u32,
    refilled: Option<Instant>,
}

impl Budget {
    const CAPACITY: u32 = 100;
    /// One token comes back in this time: 20 pings a second in the long run.
    const REFILL: Duration = Duration::from_millis(50);

    /// Takes one token; false when none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(*self.refilled.get_or_insert(now));
        let earned = u32::try_from(since.as_millis() / Self::REFILL.as_millis()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(Self::CAPACITY);
            self.refilled = Some(now);
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tokens: Self::CAPACITY,
            refilled: None,
        }
    }
}
