//! The ticket of a consent page: the request that waits for the user's word, sealed, in the page itself.
//!
//! Nothing of a page is stored (see [`sealed`]). That a ticket was answered shows by its name: the code that answers it
//! has the same one (`docs/adr/0038-sealed-tickets.md`).

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    authorize::Request,
    caller::{Caller, Owner},
    grant::CodeId,
    sealed::{self, SealError},
    secret::SecretHash,
    server_secret::ServerSecret,
};

/// How long a consent page may be looked at.
pub const TICKET_LIFETIME: Duration = Duration::minutes(10);
/// What is authenticated beside the ticket: another form of it would say otherwise.
const KIND: &[u8] = b"countersign ticket 1";

/// A request that waits for the user's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The name of the code that is to answer it.
    pub code: CodeId,
    /// Hash of the cookie that was set with the page.
    pub cookie: SecretHash,
    /// Stable id of the node that asked.
    pub node_id: String,
    /// Whose node it was then.
    pub owner: Owner,
    /// What was asked.
    pub request: Request,
    /// When the page is too old.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

impl Ticket {
    /// The ticket for the page that asks `caller` about `request`.
    pub fn issue(
        request: Request,
        cookie: SecretHash,
        caller: &Caller,
        now: OffsetDateTime,
        rng: &mut dyn RngCore,
    ) -> Self {
        Self {
            code: CodeId::draw(&caller.node_id, rng),
            cookie,
            node_id: caller.node_id.clone(),
            owner: caller.owner(),
            request,
            expires_at: now + TICKET_LIFETIME,
        }
    }

    /// Whether it was made for a page of `caller`'s.
    pub fn is_of(&self, caller: &Caller) -> bool {
        self.node_id == caller.node_id && self.owner == caller.owner()
    }

    /// The text for the form.
    ///
    /// # Errors
    /// [`SealError::TooLong`] for a request that is too long to be asked about.
    pub fn seal(&self, secret: &ServerSecret, rng: &mut dyn RngCore) -> Result<String, SealError> {
        sealed::seal(KIND, self, secret, rng)
    }

    /// The ticket in an answer; `None` for every text that this server did not seal.
    pub fn open(text: &str, secret: &ServerSecret) -> Option<Self> {
        sealed::open(KIND, text, secret)
    }
}

#[cfg(test)]
mod tests;
