//! The one place of the node that reads time and entropy; everything below takes them as arguments.

use std::time::Instant;

use rand::{SeedableRng, rngs::StdRng};
use time::OffsetDateTime;

/// Monotonic time, for every timer.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for key expiry and what people read.
pub(crate) fn wall() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A generator of its own, seeded by the operating system, for a task to hand down.
pub(crate) fn rng() -> StdRng {
    StdRng::from_os_rng()
}
