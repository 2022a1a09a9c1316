//! How long to wait between attempts (Go: `util/backoff`).

use std::time::Duration;

use rand_core::RngCore;

const MAX: Duration = Duration::from_secs(30);

/// Counts failures: the n-th is followed by n² · 10 ms, give or take half, 30 s at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// Counts one failure and answers how long to wait.
    pub fn fail(&mut self, rng: &mut dyn RngCore) -> Duration {
        self.0 = self.0.saturating_add(1);
        let millis = u64::from(self.0).pow(2).saturating_mul(10);
        let base = Duration::from_millis(millis).min(MAX);
        // 512..1536 of 1024: half to one and a half.
        let share = 512 + rng.next_u32() % 1024;
        (base * share / 1024).min(MAX)
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}
