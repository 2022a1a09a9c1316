//! The pings that wait for their pong.

use std::{collections::VecDeque, time::Instant};

use tailnet_wire::disco::TxId;

use super::{Hop, MAX_OUTBOX, PING_TIMEOUT};

/// Why a ping was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To find or keep a path.
    Discovery,
    /// Somebody wants to see the answer.
    Asked,
}

/// One ping without its pong.
#[derive(Debug)]
pub(super) struct SentPing {
    tx_id: TxId,
    pub(super) to: Hop,
    pub(super) purpose: Purpose,
    pub(super) at: Instant,
}

/// All of them, the oldest first. At most [`MAX_OUTBOX`]; the oldest is given up for a new one.
#[derive(Debug, Default)]
pub(super) struct InFlight(VecDeque<SentPing>);

impl InFlight {
    pub(super) fn insert(&mut self, tx_id: TxId, to: Hop, purpose: Purpose, at: Instant) {
        if self.0.len() == MAX_OUTBOX {
            self.0.pop_front();
        }
        self.0.push_back(SentPing { tx_id, to, purpose, at });
    }

    pub(super) fn take(&mut self, tx_id: TxId) -> Option<SentPing> {
        let index = self.0.iter().position(|ping| ping.tx_id == tx_id)?;
        self.0.remove(index)
    }

    /// Removes the pings that have waited too long and says where they went.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Hop> {
        let mut expired = Vec::new();
        while let Some(ping) = self.0.pop_front_if(|ping| now >= ping.at + PING_TIMEOUT) {
            expired.push(ping.to);
        }
        expired
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.front().map(|ping| ping.at + PING_TIMEOUT)
    }
}
