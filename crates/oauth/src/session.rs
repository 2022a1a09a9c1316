//! The session of one browser with this server: the memory of a click.
//!
//! The identity of a request is its [`Caller`], always; a session adds one fact to it, namely that a person clicked
//! "Continue as …" in this browser, and when. It is good only for the user and the node at which that click was made:
//! its record is looked up under the Caller's own name, so that a cookie from elsewhere finds nothing.

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    caller::Caller,
    secret::{Secret, SecretHash},
    subject::Subject,
};

/// How long a click is remembered, whatever happens.
pub const SESSION_LIFETIME: Duration = Duration::hours(12);
/// How many sessions one user has on one node; a further one takes the place of the oldest.
pub const MAX_SESSIONS: usize = 8;
/// The claim `acr` of every id_token: the key of a tailnet node vouched for its user, and a person clicked.
pub const ACR: &str = "urn:countersign:acr:tailnet-node";
/// The claim `amr` (RFC 8176): proof of possession of a software key, that of the node's tunnel, and the presence of a
/// person.
pub const AMR: [&str; 2] = ["swk", "user"];

/// A session, stored under its subject and the hash of the cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Hash of the secret in the cookie.
    pub hash: SecretHash,
    /// Who clicked, and at which node.
    pub subject: Subject,
    /// MagicDNS name of the node at that time, for `/me`.
    pub node_name: String,
    /// When the click was made.
    #[serde(with = "time::serde::timestamp")]
    pub auth_time: OffsetDateTime,
    /// When it is over.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

impl Session {
    /// The session that a click of `caller` at `now` makes, and the secret for its cookie.
    pub fn begin(caller: &Caller, now: OffsetDateTime, rng: &mut dyn RngCore) -> (Self, Secret) {
        let secret = Secret::draw(rng);
        let session = Self {
            hash: secret.hash(),
            subject: Subject::of(caller),
            node_name: caller.node_name.clone(),
            auth_time: now,
            expires_at: now + SESSION_LIFETIME,
        };
        (session, secret)
    }

    /// Whether it counts for a request of `caller` at `now`.
    pub fn is_live(&self, caller: &Caller, now: OffsetDateTime) -> bool {
        self.subject.still_is(caller) && now < self.expires_at
    }

    /// Whether its click is recent enough for `max_age` seconds (OpenID Connect Core 3.1.2.1); 0 asks for a new one.
    pub fn is_fresh(&self, max_age: Option<u64>, now: OffsetDateTime) -> bool {
        let Some(max_age) = max_age else { return true };
        let passed = u64::try_from((now - self.auth_time).whole_seconds()).unwrap_or(0);
        max_age > 0 && passed <= max_age
    }
}

#[cfg(test)]
mod tests;
