//! How long control has been out of reach, and when that must be said: a warning after five minutes, an error when the
//! netmap has become too old to issue anything on it. Plain state, the main loop has the clock.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// Until an outage is worth a warning: restarts and short troubles of control are not.
const WARN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The present outage of control, if there is one.
#[derive(Debug)]
pub(super) struct Silence {
    max_age: Duration,
    since: Option<Instant>,
    said: Option<Word>,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// Identities are getting old.
    Warning,
    /// They are too old: nothing new is issued.
    TooOld,
}

impl Silence {
    /// No outage yet. `max_age` is the setting `netmap_max_age`.
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            since: None,
            said: None,
        }
    }

    /// Control is reached or not. Returns how long the outage lasted when one that was said ends here.
    pub(super) fn handle_control(&mut self, connected: bool, now: Instant) -> Option<Duration> {
        if !connected {
            self.since.get_or_insert(now);
            return None;
        }
        let since = self.since.take();
        self.said
            .take()
            .and(since)
            .map(|since| now.saturating_duration_since(since))
    }

    /// When [`poll_word`](Self::poll_word) has something to say next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let after = match self.said {
            None => WARN_AFTER.min(self.max_age),
            Some(Word::Warning) => self.max_age,
            Some(Word::TooOld) => return None,
        };
        Some(self.since? + after)
    }

    /// What is to be said now, once for each outage.
    pub(super) fn poll_word(&mut self, now: Instant) -> Option<Word> {
        let silent = now.saturating_duration_since(self.since?);
        let word = match silent {
            silent if silent >= self.max_age => Word::TooOld,
            silent if silent >= WARN_AFTER => Word::Warning,
            _ => return None,
        };
        (self.said < Some(word)).then(|| *self.said.insert(word))
    }
}
