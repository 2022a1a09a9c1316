//! Who may open one more connection or send one more request: limits per node and in total.
//!
//! A node has an entry while it has connections or its allowances are not full again; idle entries are dropped
//! when the table is full, and beyond that a new node waits until one is: the table is bounded by the connections.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::config::Limits;

/// The limits and what counts against them. Clones share both.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    limits: Limits,
    per_second: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: usize,
    requests: usize,
    nodes: HashMap<String, Node>,
}

struct Node {
    connections: usize,
    requests: usize,
    /// Connections it may still open now, each of which may cost a TLS handshake.
    may_connect: f64,
    /// Requests it may still send now.
    may_ask: f64,
    refilled: Instant,
}

/// Room for one connection, given back when dropped.
pub(crate) struct ConnectionPermit {
    gate: Gate,
    node: String,
}

/// Room for one request, given back when dropped.
pub(crate) struct RequestPermit {
    gate: Gate,
    node: String,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// This node asks too much.
    Node,
    /// All nodes together do.
    Server,
}

impl Gate {
    pub(crate) fn new(limits: Limits, per_second: u32) -> Self {
        Self(Arc::new(Inner {
            limits,
            per_second,
            state: Mutex::new(State::default()),
        }))
    }

    pub(crate) fn connection(&self, node: &str, now: Instant) -> Result<ConnectionPermit, Full> {
        let mut state = self.0.state.lock();
        if state.connections >= self.0.limits.connections {
            return Err(Full::Server);
        }
        let limited = self.0.per_second > 0;
        let entry = self.entry(&mut state, node, now).ok_or(Full::Server)?;
        if entry.connections >= self.0.limits.connections_per_peer || (limited && entry.may_connect < 1.0) {
            return Err(Full::Node);
        }
        entry.connections += 1;
        entry.may_connect -= 1.0;
        state.connections += 1;
        Ok(ConnectionPermit {
            gate: self.clone(),
            node: node.to_owned(),
        })
    }

    pub(crate) fn request(&self, node: &str, now: Instant) -> Result<RequestPermit, Full> {
        let mut state = self.0.state.lock();
        if state.requests >= self.0.limits.requests {
            return Err(Full::Server);
        }
        let limited = self.0.per_second > 0;
        let entry = self.entry(&mut state, node, now).ok_or(Full::Server)?;
        if entry.requests >= self.0.limits.requests_per_peer || (limited && entry.may_ask < 1.0) {
            return Err(Full::Node);
        }
        entry.requests += 1;
        entry.may_ask -= 1.0;
        state.requests += 1;
        Ok(RequestPermit {
            gate: self.clone(),
            node: node.to_owned(),
        })
    }

    fn burst(&self) -> f64 {
        2.0 * f64::from(self.0.per_second)
    }

    /// The entry of `node`, its allowances refilled; `None` when the table is full of nodes that are in use.
    fn entry<'a>(&self, state: &'a mut State, node: &str, now: Instant) -> Option<&'a mut Node> {
        let (rate, burst) = (f64::from(self.0.per_second), self.burst());
        if state.nodes.len() >= self.0.limits.connections && !state.nodes.contains_key(node) {
            let full_again =
                |node: &Node| rate == 0.0 || now.saturating_duration_since(node.refilled) >= Duration::from_secs(2);
            state
                .nodes
                .retain(|_, node| node.connections > 0 || node.requests > 0 || !full_again(node));
            if state.nodes.len() >= self.0.limits.connections {
                return None;
            }
        }
        let entry = state.nodes.entry(node.to_owned()).or_insert(Node {
            connections: 0,
            requests: 0,
            may_connect: burst,
            may_ask: burst,
            refilled: now,
        });
        let passed = now.saturating_duration_since(entry.refilled).as_secs_f64();
        for allowance in [&mut entry.may_connect, &mut entry.may_ask] {
            *allowance = passed.mul_add(rate, *allowance).min(burst);
        }
        entry.refilled = now;
        Some(entry)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.gate.0.state.lock();
        state.connections = state.connections.saturating_sub(1);
        if let Some(node) = state.nodes.get_mut(&self.node) {
            node.connections = node.connections.saturating_sub(1);
        }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let mut state = self.gate.0.state.lock();
        state.requests = state.requests.saturating_sub(1);
        if let Some(node) = state.nodes.get_mut(&self.node) {
            node.requests = node.requests.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests;
