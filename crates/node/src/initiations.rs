//! How many WireGuard initiations that come by UDP are looked at.
//!
//! Even a cookie costs a seal and a send, so there is a limit for each second. Throwing the rest away is cheap, yet not
//! cheap enough: a socket has one queue for everybody, a flood of initiations fills it, and the kernel then drops what
//! comes next, data of those who have a session above all. So beyond twice the limit the sockets get a filter, which
//! lets a share of the initiations through, chosen by lot, and everything else. What it kept away is estimated from
//! what it let through. A newcomer still gets in through the relay, which is not counted.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::udp::{ALL, UdpSockets};

/// Initiations per second that are looked at, by UDP.
pub(crate) const MAX_INITIATIONS: u32 = 4000;
/// The part of them that passes at first, when a flood has begun and nobody knows how large it is.
const FIRST_SHARE: u32 = 16;

/// See the module's description.
pub(crate) struct Initiations {
    /// The share that the kernel lets through, of [`ALL`].
    share: AtomicU32,
    /// Seen in this second.
    passed: AtomicU32,
    /// The same with those that the kernel kept away, as an estimate.
    arrived: AtomicU64,
}

impl Initiations {
    pub(crate) fn new() -> Self {
        Self {
            share: AtomicU32::new(ALL),
            passed: AtomicU32::new(0),
            arrived: AtomicU64::new(0),
        }
    }

    /// Counts one; false when it is one too many.
    pub(crate) fn admit(&self, udp: &UdpSockets) -> bool {
        let share = self.share.load(Relaxed);
        self.arrived.fetch_add(u64::from(ALL / share.max(1)), Relaxed);
        let before = self.passed.fetch_add(1, Relaxed);
        if before == 2 * MAX_INITIATIONS {
            self.let_through((share / FIRST_SHARE).max(1), udp);
        }
        before < MAX_INITIATIONS
    }

    /// A second is over. Gives how many the kernel has kept away in it.
    pub(crate) fn handle_second(&self, udp: &UdpSockets) -> u64 {
        let (arrived, passed) = (self.arrived.swap(0, Relaxed), self.passed.swap(0, Relaxed));
        self.let_through(share_of(arrived), udp);
        arrived.saturating_sub(passed.into())
    }

    fn let_through(&self, share: u32, udp: &UdpSockets) {
        if self.share.swap(share, Relaxed) != share {
            udp.shed_initiations(share);
        }
    }
}

/// The share of `arrived` initiations per second that is [`MAX_INITIATIONS`].
fn share_of(arrived: u64) -> u32 {
    match u64::from(ALL) * u64::from(MAX_INITIATIONS) / arrived.max(1) {
        share if share < u64::from(ALL) => u32::try_from(share.max(1)).unwrap_or(ALL),
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_what_leaves_the_limit() {
        assert_eq!(share_of(0), ALL);
        assert_eq!(share_of(u64::from(MAX_INITIATIONS)), ALL);
        assert_eq!(share_of(u64::from(MAX_INITIATIONS) * 4), ALL / 4);
        assert_eq!(share_of(u64::MAX), 1);
    }

    #[tokio::test]
    async fn a_flood_is_shed_within_its_second_and_let_in_again_after_it() {
        let udp = UdpSockets::bind(None, None).unwrap();
        let initiations = Initiations::new();
        let looked_at = (0..3 * MAX_INITIATIONS).filter(|_| initiations.admit(&udp)).count();
        assert_eq!(looked_at, MAX_INITIATIONS as usize);
        assert_eq!(initiations.share.load(Relaxed), ALL / FIRST_SHARE);
        // A third of them came when one stood for sixteen.
        let kept = initiations.handle_second(&udp);
        assert!((15 * 3900..15 * 4000).contains(&kept), "{kept}");
        let share = f64::from(initiations.share.load(Relaxed)) / f64::from(ALL);
        assert!((0.054..0.057).contains(&share), "4,000 of 72,000: {share}");
        initiations.handle_second(&udp);
        assert_eq!(initiations.share.load(Relaxed), ALL);
    }
}
