//! Waiting for a condition of the outside world.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How often [`wait_for`] looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `look` until it says `Ok(value)`; its `Err(text)` is what was seen instead. Returns the value and how long it took.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Result<T, String>>,
) -> Result<(T, Duration)> {
    let started = Instant::now();
    loop {
        let seen = look()?;
        let elapsed = started.elapsed();
        match seen {
            Ok(value) => return Ok((value, elapsed)),
            Err(last) if elapsed >= limit => {
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    seconds: limit.as_secs_f32(),
                    last,
                });
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// [`until`] for a plain condition.
pub fn wait_for(what: &str, limit: Duration, mut look: impl FnMut() -> bool) -> Result<Duration> {
    until(what, limit, || {
        Ok(if look() { Ok(()) } else { Err("not yet".to_owned()) })
    })
    .map(|((), took)| took)
}
