//! When signing keys come and go: a plan made of what is stored and the time, and of nothing else.
//!
//! For each algorithm one key signs. Its successor is published before it takes over, for longer than anybody may keep
//! the JWK set; the former key stays published until nothing that it signed is good any more, but its private half is
//! wiped at the moment it stops signing. After that its public half is remembered for a while, unpublished, because
//! an `id_token_hint` (OpenID Connect RP-Initiated Logout 1.0 2) may be an id_token that has long expired.
//!
//! [`next_step`] names one step at a time. The server makes it durable in one transaction and asks again, so that
//! wherever it is killed, the next start goes on from what is stored.

use time::{Duration, OffsetDateTime};

use crate::signing::SigningAlg;

/// How long anybody may keep the JWK set (`Cache-Control: max-age`).
pub const JWKS_MAX_AGE: Duration = Duration::minutes(5);
/// The longest life of an access token or id_token that a configuration may ask for.
pub const LONGEST_TOKEN: Duration = Duration::minutes(5);
/// How far clocks may differ.
const SKEW: Duration = Duration::minutes(1);
/// How long a key that no longer signs stays published.
const PUBLISHED_AFTER: Duration = LONGEST_TOKEN.saturating_add(SKEW);
/// The most a next key is published ahead of its time. Some verifiers keep the set for longer than they may.
const LONGEST_AHEAD: Duration = Duration::days(1);
/// Public halves remembered of one algorithm; beyond that the oldest is forgotten before its time.
const MAX_REMEMBERED: usize = 24;

/// What the plan needs to know of a stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub kid: String,
    /// What it signs with.
    pub alg: SigningAlg,
    /// Where in its life it stands.
    pub phase: Phase,
}

/// Where in its life a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Published, and not yet signing.
    Next(#[serde(with = "time::serde::timestamp")] OffsetDateTime),
    /// Signing since then.
    Signing(#[serde(with = "time::serde::timestamp")] OffsetDateTime),
    /// Published still; it stopped signing then and has no private half any more.
    Retired(#[serde(with = "time::serde::timestamp")] OffsetDateTime),
    /// Not published any more; it stopped signing then.
    Remembered(#[serde(with = "time::serde::timestamp")] OffsetDateTime),
}

impl Phase {
    /// Whether the JWK set has the key.
    pub const fn is_published(self) -> bool {
        !matches!(self, Self::Remembered(_))
    }
}

/// How long keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long one key signs: `signing_key_lifetime`, an hour at least.
    pub signs_for: Duration,
    /// How long after it stopped signing an `id_token_hint` of it is still recognised: `grant_lifetime`.
    pub remembered_for: Duration,
}

impl Schedule {
    /// How long a key is published before it signs.
    pub fn ahead(&self) -> Duration {
        LONGEST_AHEAD.min(self.signs_for / 2).max(JWKS_MAX_AGE + SKEW)
    }
}

/// One change, small enough for one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a key that stands here in its life.
    Make(SigningAlg, Phase),
    /// `next` signs from now on; the former key loses its private half.
    Activate {
        /// The kid of the key that takes over.
        next: String,
        /// The kid of the key that has signed until now.
        former: Option<String>,
    },
    /// Publish the key with this kid no more.
    Withdraw(String),
    /// Delete the key with this kid.
    Forget(String),
}

/// The next thing to do so that each of `algs` has a key that signs and, in its time, a successor; `None` when nothing
/// is due at `now`.
pub fn next_step(keys: &[Facts], algs: &[SigningAlg], schedule: &Schedule, now: OffsetDateTime) -> Option<Step> {
    algs.iter().find_map(|alg| {
        let of_alg: Vec<&Facts> = keys.iter().filter(|key| key.alg == *alg).collect();
        step_of(&of_alg, *alg, schedule, now)
    })
}

/// The key that signs with `alg`, if there is one yet.
pub fn signing(keys: &[Facts], alg: SigningAlg) -> Option<&Facts> {
    let signs = |key: &&Facts| key.alg == alg && matches!(key.phase, Phase::Signing(_));
    keys.iter().find(signs)
}

fn step_of(keys: &[&Facts], alg: SigningAlg, schedule: &Schedule, now: OffsetDateTime) -> Option<Step> {
    let signing = keys.iter().find_map(|key| match key.phase {
        Phase::Signing(since) => Some((key, since)),
        _ => None,
    });
    let next = keys.iter().find_map(|key| match key.phase {
        Phase::Next(from) => Some((key, from)),
        _ => None,
    });
    match (signing, next) {
        (None, None) => return Some(Step::Make(alg, Phase::Signing(now))),
        (None, Some((next, _))) => {
            return Some(Step::Activate {
                next: next.kid.clone(),
                former: None,
            });
        }
        (Some((former, _)), Some((next, from))) if from <= now => {
            return Some(Step::Activate {
                next: next.kid.clone(),
                former: Some(former.kid.clone()),
            });
        }
        (Some((_, since)), None) => {
            let ends = since + schedule.signs_for;
            // After a long stop the old key signs a little longer, until its successor is known.
            if now >= ends - schedule.ahead() {
                return Some(Step::Make(alg, Phase::Next(ends.max(now + schedule.ahead()))));
            }
        }
        (Some(_), Some(_)) => {}
    }
    tidied(keys, schedule, now)
}

/// What is to be withdrawn or forgotten of the keys of one algorithm.
fn tidied(keys: &[&Facts], schedule: &Schedule, now: OffsetDateTime) -> Option<Step> {
    let mut remembered: Vec<(&str, OffsetDateTime)> = Vec::new();
    for key in keys {
        match key.phase {
            Phase::Retired(at) if now >= at + PUBLISHED_AFTER => return Some(Step::Withdraw(key.kid.clone())),
            Phase::Remembered(at) => remembered.push((&key.kid, at)),
            _ => {}
        }
    }
    let (oldest, at) = remembered.iter().min_by_key(|(_, at)| *at)?;
    let due = now >= *at + schedule.remembered_for.max(PUBLISHED_AFTER) || remembered.len() > MAX_REMEMBERED;
    due.then(|| Step::Forget((*oldest).to_owned()))
}

#[cfg(test)]
mod tests;
