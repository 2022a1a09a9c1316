//! Pushed authorization requests (RFC 9126): what a client asks for goes to this server directly, and only a
//! reference to it through the browser.
//!
//! [`push`] asks everything of a request that `/authorize` would, but for what depends on the user. What is kept are the
//! parameters themselves: `/authorize` reads them anew, so that a client that changed meanwhile is what counts. A
//! reference is good for one client and one minute, and for one answer; until then the page may be loaded again.

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    authorize::{self, PageError, Rules},
    caller::Caller,
    client::{Client, ClientId},
    error::{ErrorCode, OAuthError},
    params::Params,
    secret::{Secret, SecretHash},
    ticket::TICKET_LIFETIME,
};

/// How long `/authorize` takes a reference.
pub const LIFETIME: Duration = Duration::seconds(60);
/// How many pushed requests of one node are kept at a time.
pub const MAX_PER_NODE: u64 = 1000;

/// What a reference begins with (RFC 9126 2.2).
const URN: &str = "urn:ietf:params:oauth:request_uri:";
const MAX_LEN: usize = 16 << 10;
/// What authenticated the client is nobody's business later.
const CREDENTIALS: [&str; 3] = ["client_secret", "client_assertion", "client_assertion_type"];

/// A request that was pushed, stored under the hash of its reference until it is answered or forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// Hash of the secret part of the reference.
    pub hash: SecretHash,
    /// Which client pushed it, and alone may use it.
    pub client: ClientId,
    /// Stable id of the node that pushed it, whose quota it counts against.
    pub node_id: String,
    /// The parameters, without credentials.
    pub params: Params,
    /// From when on `/authorize` refuses it.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

/// The body of a successful answer (RFC 9126 2.2).
#[derive(Debug, Serialize)]
pub struct Response {
    /// The reference.
    pub request_uri: String,
    /// Seconds.
    pub expires_in: i64,
}

impl Pushed {
    /// When it can be forgotten: no page that was shown for it can be answered any more.
    pub fn forgotten_at(&self) -> OffsetDateTime {
        self.expires_at + TICKET_LIFETIME
    }
}

/// Takes a request of `client`, which has authenticated from the node of `caller`.
///
/// # Errors
/// What `/authorize` would refuse it for, and `invalid_request` for a reference in place of a request.
pub fn push(
    params: &Params,
    client: &Client,
    caller: &Caller,
    rules: &Rules,
    now: OffsetDateTime,
    rng: &mut dyn RngCore,
) -> Result<(Pushed, Response), OAuthError> {
    let invalid = |why: &str| OAuthError::new(ErrorCode::InvalidRequest, why);
    if params.one("request_uri")?.is_some() {
        return Err(invalid("request_uri: push the request itself, not a reference"));
    }
    let params = params.without(&CREDENTIALS).with("client_id", client.id.as_str());
    if params.len() > MAX_LEN {
        return Err(invalid("the request is longer than 16 KiB"));
    }
    authorize::check(&params, client, rules)?;
    let secret = Secret::draw(rng);
    let response = Response {
        request_uri: format!("{URN}{}", secret.reveal()),
        expires_in: LIFETIME.whole_seconds(),
    };
    let pushed = Pushed {
        hash: secret.hash(),
        client: client.id.clone(),
        node_id: caller.node_id.clone(),
        params,
        expires_at: now + LIFETIME,
    };
    Ok((pushed, response))
}

/// The hash under which the store has the request that `/authorize` is referred to; `None` when there is no
/// reference, or one that is not ours.
///
/// # Errors
/// [`PageError::Request`] when there are several.
pub fn referred(params: &Params) -> Result<Option<SecretHash>, PageError> {
    let reference = params.one("request_uri").map_err(PageError::Request)?;
    Ok(reference
        .and_then(|reference| reference.strip_prefix(URN))
        .map(SecretHash::of))
}

/// The request behind a reference that `client` brings at `now`, if `pushed` is what the store has for it.
///
/// # Errors
/// [`PageError::Pushed`], in the same words whatever is wrong.
pub fn resolve(pushed: Option<Pushed>, client: &ClientId, now: OffsetDateTime) -> Result<Pushed, PageError> {
    pushed
        .filter(|pushed| pushed.client == *client && now < pushed.expires_at)
        .ok_or(PageError::Pushed)
}

#[cfg(test)]
mod tests;
