//! The netmap in force, shared by everything that asks who somebody is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tailnet_engine::netmap::Netmap;
use tokio::sync::watch;

use crate::clock;

/// The newest netmap, since when control is silent, and word of every change.
pub(crate) struct LiveNetmap {
    current: ArcSwapOption<Netmap>,
    silent_since: Mutex<Option<Instant>>,
    changes: watch::Sender<u64>,
}

impl LiveNetmap {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            silent_since: Mutex::new(None),
            changes: watch::Sender::new(0),
        })
    }

    /// The netmap in force; `None` before the first one.
    pub(crate) fn current(&self) -> Option<Arc<Netmap>> {
        self.current.load_full()
    }

    /// Puts a new netmap in force. Tell the peers before [`announce`](Self::announce)-ing it.
    pub(crate) fn replace(&self, netmap: Arc<Netmap>) {
        self.current.store(Some(netmap));
    }

    /// Puts the netmap out of force: the node has left the tailnet.
    pub(crate) fn clear(&self) {
        self.current.store(None);
    }

    /// Wakes everyone who watches for changes.
    pub(crate) fn announce(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// The stream from control stands: the netmap in force is confirmed by it.
    pub(crate) fn handle_online(&self) {
        *self.silent_since.lock() = None;
    }

    /// The stream from control has ended.
    pub(crate) fn handle_offline(&self) {
        self.silent_since.lock().get_or_insert(clock::now());
    }

    /// Time since the stream from control ended; zero while it stands. A dead stream is noticed within 120 s.
    pub(crate) fn age(&self) -> Duration {
        let since = *self.silent_since.lock();
        since.map_or(Duration::ZERO, |since| clock::now().saturating_duration_since(since))
    }

    /// Word of every change from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
