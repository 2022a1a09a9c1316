//! Consent that is remembered: the rules for when it may be, and what it covers.
//!
//! A record stands for one user on one node, one client, one redirect URI and exactly the scopes and resources that one
//! page showed; a request for anything else is asked about again. A record alone gives nothing: a code without a click
//! also needs a live [session](crate::session) and a whole page that was navigated to (`authorize`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use crate::{
    authorize::Request,
    caller::Caller,
    client::{Client, ClientId},
    footing::Publisher,
    publish,
    redirect::RedirectUri,
    resource::Resource,
    subject::Subject,
};

/// How long a consent is remembered.
pub const REMEMBERED_LIFETIME: Duration = Duration::days(30);
/// How many consents of one user on one node are remembered; a further one takes the place of the oldest.
pub const MAX_REMEMBERED: usize = 100;

/// A consent that is remembered, stored under its subject and [`mark`](Remembered::mark).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Who consented, and at which node.
    pub subject: Subject,
    /// MagicDNS name of the node at that time, for `/me`.
    pub node_name: String,
    /// To which client.
    pub client: ClientId,
    /// Where its answers go.
    pub redirect_uri: String,
    /// To which scopes.
    pub scopes: Vec<String>,
    /// For which servers.
    pub resources: Vec<Resource>,
    /// By whose rule the subject may use the client, if by a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<Publisher>,
    /// Under which publication of an administrator he may, if by such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<u64>,
    /// When the page was answered.
    #[serde(with = "time::serde::timestamp")]
    pub since: OffsetDateTime,
    /// When it is forgotten.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

impl Remembered {
    /// The consent of `caller` to `request`.
    pub fn to(request: &Request, caller: &Caller, now: OffsetDateTime) -> Self {
        Self {
            subject: Subject::of(caller),
            node_name: caller.node_name.clone(),
            client: request.client.clone(),
            redirect_uri: request.redirect_uri.clone(),
            scopes: request.scopes.clone(),
            resources: request.resources.clone(),
            published_by: request.published_by.clone(),
            publication: request.publication,
            since: now,
            expires_at: now + REMEMBERED_LIFETIME,
        }
    }

    /// What names this consent among those of its subject.
    pub fn mark(&self) -> String {
        mark(&self.client, &self.redirect_uri, &self.scopes, &self.resources)
    }

    /// Whether `client`, as it is registered now, still has what was consented to ([`publish::carries`]).
    pub fn is_carried_by(&self, client: &Client) -> bool {
        publish::carries(
            client,
            &self.subject.owner,
            self.published_by.as_ref(),
            self.publication,
        )
    }

    /// Whether it stands for `request` of `caller` at `now`.
    pub fn covers(&self, request: &Request, caller: &Caller, now: OffsetDateTime) -> bool {
        self.subject.still_is(caller) && now < self.expires_at && self.mark() == mark_of(request)
    }
}

/// What a consent to `request` would be called among those of its subject.
pub fn mark_of(request: &Request) -> String {
    mark(
        &request.client,
        &request.redirect_uri,
        &request.scopes,
        &request.resources,
    )
}

/// A hash of everything that was consented to. Scopes and resources are sets: their order does not matter.
fn mark(client: &ClientId, redirect_uri: &str, scopes: &[String], resources: &[Resource]) -> String {
    let mut scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let mut resources: Vec<&str> = resources.iter().map(Resource::as_str).collect();
    scopes.sort_unstable();
    resources.sort_unstable();
    let mut hash = Sha256::new();
    for part in [&[client.as_str(), redirect_uri][..], &scopes, &resources] {
        // Counts and lengths stand before the texts, so that no two lists read the same.
        hash.update((part.len() as u64).to_be_bytes());
        for text in part {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// Whether a consent to `client` that sends its answer to `redirect_uri` may be remembered at all: the client must be
/// published, and the answer must go to a web server. Behind a loopback address or a scheme of an app's own any program on
/// the computer may be waiting. `registrant` is what the netmap has about the node that registered the client.
pub fn may_be(client: &Client, registrant: Option<&Caller>, redirect_uri: &str, now: OffsetDateTime) -> bool {
    publish::published(client, registrant, now).is_some()
        && RedirectUri::parse(redirect_uri).is_ok_and(|uri| !uri.is_on_this_computer())
}

#[cfg(test)]
mod tests;
