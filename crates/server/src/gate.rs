//! Who may open one more connection or send one more request: limits per node and in total.
//!
//! What all nodes together may do in a second counts only what is admitted, and a node is held to its own limit first: one
//! that asks too much takes no more of the total than one that asks as much as it may. So it takes many nodes to use up the
//! total, as long as that is many times what one of them may do.
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
    rates: Rates,
    state: Mutex<State>,
}

/// Requests in a second, and as many connections, with bursts of twice that; 0 means any number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Of one node.
    pub(crate) per_peer: u32,
    /// Of all nodes together.
    pub(crate) in_total: u32,
}

#[derive(Default)]
struct State {
    connections: usize,
    requests: usize,
    /// What all nodes together may still do now; `None` before the first of them came.
    left: Option<Left>,
    nodes: HashMap<String, Node>,
}

struct Node {
    connections: usize,
    requests: usize,
    /// What it may still do now.
    left: Left,
}

/// What is left of an allowance.
struct Left {
    /// Connections, each of which may cost a TLS handshake.
    connections: f64,
    requests: f64,
    refilled: Instant,
}

impl Left {
    fn all(rate: u32, now: Instant) -> Self {
        let burst = 2.0 * f64::from(rate);
        Self {
            connections: burst,
            requests: burst,
            refilled: now,
        }
    }

    fn refill(&mut self, rate: u32, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        let burst = 2.0 * f64::from(rate);
        for left in [&mut self.connections, &mut self.requests] {
            *left = passed.mul_add(f64::from(rate), *left).min(burst);
        }
        self.refilled = now;
    }
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
    pub(crate) fn new(limits: Limits, rates: Rates) -> Self {
        Self(Arc::new(Inner {
            limits,
            rates,
            state: Mutex::new(State::default()),
        }))
    }

    pub(crate) fn connection(&self, node: &str, now: Instant) -> Result<ConnectionPermit, Full> {
        let Inner { limits, rates, state } = &*self.0;
        let mut state = state.lock();
        if state.connections >= limits.connections {
            return Err(Full::Server);
        }
        let (entry, total) = self.entry(&mut state, node, now).ok_or(Full::Server)?;
        if entry.connections >= limits.connections_per_peer {
            return Err(Full::Node);
        }
        take(&mut entry.left.connections, &mut total.connections, *rates)?;
        entry.connections += 1;
        state.connections += 1;
        Ok(ConnectionPermit {
            gate: self.clone(),
            node: node.to_owned(),
        })
    }

    pub(crate) fn request(&self, node: &str, now: Instant) -> Result<RequestPermit, Full> {
        let Inner { limits, rates, state } = &*self.0;
        let mut state = state.lock();
        if state.requests >= limits.requests {
            return Err(Full::Server);
        }
        let (entry, total) = self.entry(&mut state, node, now).ok_or(Full::Server)?;
        if entry.requests >= limits.requests_per_peer {
            return Err(Full::Node);
        }
        take(&mut entry.left.requests, &mut total.requests, *rates)?;
        entry.requests += 1;
        state.requests += 1;
        Ok(RequestPermit {
            gate: self.clone(),
            node: node.to_owned(),
        })
    }

    /// The entry of `node` and what is left for all, both refilled; `None` when the table is full of nodes that are in use.
    fn entry<'a>(&self, state: &'a mut State, node: &str, now: Instant) -> Option<(&'a mut Node, &'a mut Left)> {
        let Rates { per_peer, in_total } = self.0.rates;
        if state.nodes.len() >= self.0.limits.connections && !state.nodes.contains_key(node) {
            let full_again = |node: &Node| {
                per_peer == 0 || now.saturating_duration_since(node.left.refilled) >= Duration::from_secs(2)
            };
            state
                .nodes
                .retain(|_, node| node.connections > 0 || node.requests > 0 || !full_again(node));
            if state.nodes.len() >= self.0.limits.connections {
                return None;
            }
        }
        let entry = state.nodes.entry(node.to_owned()).or_insert_with(|| Node {
            connections: 0,
            requests: 0,
            left: Left::all(per_peer, now),
        });
        entry.left.refill(per_peer, now);
        let total = state.left.get_or_insert_with(|| Left::all(in_total, now));
        total.refill(in_total, now);
        Some((entry, total))
    }
}

/// Takes one from what is left for a node and for all, or from neither.
fn take(node: &mut f64, all: &mut f64, rates: Rates) -> Result<(), Full> {
    if rates.per_peer > 0 && *node < 1.0 {
        return Err(Full::Node);
    }
    if rates.in_total > 0 && *all < 1.0 {
        return Err(Full::Server);
    }
    *node -= 1.0;
    *all -= 1.0;
    Ok(())
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
