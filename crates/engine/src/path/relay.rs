//! Over which DERP region the peer is reached.

use std::time::{Duration, Instant};

/// How long after its last packet a peer is assumed to still listen at a region that is not its home. It closes such
/// a connection after 60 s of silence; half of that leaves no race.
const REVERSE_FRESH: Duration = Duration::from_secs(30);

/// The peer's home region, and the region on which it was last heard.
///
/// A peer that is heard elsewhere than at home is answered there for a while: its netmap entry may be out of date, and
/// the connection to that region is already open.
#[derive(Debug, Default)]
pub(super) struct RelayRoute {
    home: Option<u32>,
    reverse: Option<(u32, Instant)>,
}

impl RelayRoute {
    pub(super) fn new(home: Option<u32>) -> Self {
        Self { home, reverse: None }
    }

    pub(super) fn set_home(&mut self, home: Option<u32>) {
        self.home = home;
    }

    pub(super) fn note_received(&mut self, region: u32, now: Instant) {
        self.reverse = Some((region, now));
    }

    /// A relay dropped a packet to the peer, or its connection ended. The home region is tried on: the peer comes back
    /// there by itself.
    pub(super) fn note_gone(&mut self, region: u32) {
        if self.reverse.is_some_and(|(reverse, _)| reverse == region) {
            self.reverse = None;
        }
    }

    pub(super) fn region(&self, now: Instant) -> Option<u32> {
        match self.reverse {
            Some((region, at)) if now.saturating_duration_since(at) <= REVERSE_FRESH => Some(region),
            _ => self.home.or(self.reverse.map(|(region, _)| region)),
        }
    }
}
