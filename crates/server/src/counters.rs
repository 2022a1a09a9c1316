//! What the server counts, for `status`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::StatusCode;
use serde::Serialize;

use crate::route::Route;

/// Counters of one server. They only ever grow, except the number of open connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    routes: [[AtomicU64; 3]; Route::ALL.len() + 1],
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) connections_withdrawn: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) requests_limited: AtomicU64,
    pub(crate) records_ended: AtomicU64,
    pub(crate) records_swept: AtomicU64,
    pub(crate) clients_expired: AtomicU64,
    pub(crate) audit_pruned: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CounterSnapshot {
    /// Requests by path and outcome, those that occurred.
    pub requests: Vec<RouteCount>,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed at once because there were too many.
    pub connections_refused: u64,
    /// Connections ended because the tailnet withdrew the node or its access.
    pub connections_withdrawn: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed: u64,
    /// Requests refused because there were too many.
    pub requests_limited: u64,
    /// Consent pages, codes and grants that ended, or lost a scope, because the tailnet withdrew what they rested on.
    pub records_ended: u64,
    /// Consent pages, codes and grants that were removed because their time was over.
    pub records_swept: u64,
    /// Clients that were removed because they never obtained a code or token.
    pub clients_expired: u64,
    /// Audit records that were removed because they were older than is kept, or too many.
    pub audit_pruned: u64,
}

/// How often a path had an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteCount {
    /// The path, or `other` for all that do not exist.
    pub route: &'static str,
    /// `ok`, `refused` (4xx) or `failed` (5xx).
    pub outcome: &'static str,
    /// How often.
    pub count: u64,
}

const OUTCOMES: [&str; 3] = ["ok", "refused", "failed"];

impl Counters {
    pub(crate) fn count(&self, route: Option<Route>, status: StatusCode) {
        let outcome = match status.as_u16() {
            ..400 => 0,
            400..500 => 1,
            500.. => 2,
        };
        let index = route.map_or(Route::ALL.len(), |route| route as usize);
        if let Some(counter) = self.routes.get(index).and_then(|outcomes| outcomes.get(outcome)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        let names = Route::ALL.iter().map(|route| route.path()).chain(["other"]);
        let mut requests = Vec::new();
        for (route, outcomes) in names.zip(&self.routes) {
            for (outcome, counter) in OUTCOMES.into_iter().zip(outcomes) {
                let count = counter.load(Relaxed);
                if count > 0 {
                    requests.push(RouteCount { route, outcome, count });
                }
            }
        }
        CounterSnapshot {
            requests,
            connections: self.connections.load(Relaxed),
            connections_refused: self.connections_refused.load(Relaxed),
            connections_withdrawn: self.connections_withdrawn.load(Relaxed),
            handshakes_failed: self.handshakes_failed.load(Relaxed),
            requests_limited: self.requests_limited.load(Relaxed),
            records_ended: self.records_ended.load(Relaxed),
            records_swept: self.records_swept.load(Relaxed),
            clients_expired: self.clients_expired.load(Relaxed),
            audit_pruned: self.audit_pruned.load(Relaxed),
        }
    }
}

/// Adds one.
pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Adds `some`.
pub(crate) fn add(counter: &AtomicU64, some: usize) {
    counter.fetch_add(some as u64, Relaxed);
}
