//! Updates to control: one in flight, the latest wins.
//!
//! Tailscale's control ignores endpoints and host information in stream requests, so each state has to be posted once;
//! Headscale takes both. An update that is overtaken by a newer state before it is sent is never sent.
//!
//! Every few minutes the state is posted though nothing changed: Headscale keeps the stream of a deleted node open, with
//! keepalives, and the answer to an update is the only way to learn of it.

use std::time::{Duration, Instant};

use rand_core::RngCore;

use super::{Backoff, Local};

/// How long an acknowledged state counts as known.
const REPEAT: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Updates {
    local: Local,
    /// Whether control has acknowledged `local`.
    told: bool,
    in_flight: bool,
    /// When to send again: after a failure, or because the last acknowledgement has grown old.
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl Updates {
    pub(super) fn new(local: Local) -> Self {
        Self {
            local,
            ..Self::default()
        }
    }

    pub(super) fn local(&self) -> &Local {
        &self.local
    }

    pub(super) fn set(&mut self, local: Local) {
        if self.local != local {
            self.local = local;
            self.told = false;
            self.retry_at = None;
        }
    }

    /// The connection is gone and what was under way with it. Control may have restarted and forgotten.
    pub(super) fn reset(&mut self) {
        self.told = false;
        self.in_flight = false;
        self.retry_at = None;
    }

    /// Whether an update is to be sent now; if so it counts as sent.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = if self.told {
            self.retry_at.is_some_and(|at| at <= now)
        } else {
            self.retry_at.is_none_or(|at| at <= now)
        };
        if self.in_flight || !due {
            return false;
        }
        // A state set meanwhile clears `told` again.
        (self.told, self.in_flight, self.retry_at) = (true, true, None);
        true
    }

    pub(super) fn done(&mut self, now: Instant) {
        self.in_flight = false;
        if self.told {
            self.retry_at = Some(now + REPEAT);
        }
        self.backoff.reset();
    }

    pub(super) fn failed(&mut self, least: Duration, now: Instant, rng: &mut dyn RngCore) {
        self.in_flight = false;
        self.told = false;
        self.retry_at = Some(now + self.backoff.fail(rng).max(least));
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.in_flight)
    }
}
