//! The one place of the server that reads time and entropy; everything below takes them as arguments.

use std::{fmt, sync::Arc, time::Instant};

use rand::{SeedableRng, rngs::StdRng};
use time::OffsetDateTime;

/// Where the server's wall-clock time comes from. Clones share the source.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(OffsetDateTime::now_utc))
    }

    /// A clock that a test moves.
    pub fn from_fn(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Monotonic time, for rates.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// A cryptographic generator, seeded by the operating system.
///
/// # Errors
/// When the system has no random bytes to give; nothing secret may be made then.
pub(crate) fn rng() -> Result<StdRng, getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(StdRng::from_seed(seed))
}
