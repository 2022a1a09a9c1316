//! Who may authorize with a client: its owner from any of his nodes, and others once it is published.
//!
//! A client is published by an administrator, which is stored with it, or by the tailnet policy, while the node that
//! registered it holds a rule with `publish_clients`. What the administrator looked at is what is published: a client
//! whose metadata is replaced afterwards is its owner's alone again.

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    caller::{Caller, Owner},
    client::{Client, ClientId},
    footing::Publisher,
    policy::Ground,
    remedy::Remedy,
};

/// That an administrator lets others than the owner use a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Who published it, in words.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::timestamp")]
    pub at: OffsetDateTime,
    /// Its number among all publications of the client, from 1: what rested on an earlier one does not rest on it.
    #[serde(default)]
    pub number: u64,
}

/// `client`, published by `by` at `now`. What others granted it under an earlier publication stays dead
/// ([`Grant::is_carried_by`](crate::grant::Grant::is_carried_by)).
pub fn publish(client: Client, by: &str, now: OffsetDateTime) -> Client {
    let number = client.publications + 1;
    let by = by.to_owned();
    Client {
        published: Some(Publication { by, at: now, number }),
        publications: number,
        ..client
    }
}

/// `client`, its owner's alone again, if an administrator had published it.
pub fn take_back(client: Client) -> Client {
    Client {
        published: None,
        ..client
    }
}

/// The number of the publication by which `user` may use `client`; `None` when it is his own, or no administrator
/// published it.
pub fn publication_for(client: &Client, user: &Owner) -> Option<u64> {
    let publication = client.published.as_ref().filter(|_| client.owner != *user);
    publication.map(|publication| publication.number)
}

/// Why a caller may use a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It is his own.
    Owner,
    /// An administrator published it.
    Published(Publication),
    /// A rule that the registering node holds publishes it.
    Granted(Ground),
}

/// A client that is somebody else's, and how that could change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublished {
    /// The client.
    pub client: ClientId,
    /// Who registered it: a login name, or tags.
    pub user: String,
    /// MagicDNS name of the node it was registered from.
    pub node: String,
    /// When it was registered.
    pub at: OffsetDateTime,
    /// How a grant names that node; none when the tailnet no longer has it, so that no grant can publish it.
    sources: Vec<String>,
}

/// By what `client` is published, if it is. `registrant` is what the netmap has about the node that registered it.
pub fn published(client: &Client, registrant: Option<&Caller>, now: OffsetDateTime) -> Option<Use> {
    if let Some(publication) = &client.published {
        return Some(Use::Published(publication.clone()));
    }
    let node = registrant.filter(|node| is_registrant(client, node))?;
    let ground = node.policy.publishes_clients(&node.names(), now).ok()?;
    Some(Use::Granted(ground))
}

/// Whether `user` may use `client`, and why.
///
/// # Errors
/// [`Unpublished`] when it is somebody else's.
pub fn may_use(
    client: &Client,
    user: &Owner,
    registrant: Option<&Caller>,
    now: OffsetDateTime,
) -> Result<Use, Unpublished> {
    if client.owner == *user {
        return Ok(Use::Owner);
    }
    published(client, registrant, now).ok_or_else(|| Unpublished {
        client: client.id.clone(),
        user: client.registrant.user.clone(),
        node: client.registrant.node_name.clone(),
        at: client.issued_at,
        sources: registrant
            .filter(|node| is_registrant(client, node))
            .map(Caller::policy_sources)
            .unwrap_or_default(),
    })
}

/// Whether `client`, as it is now, still carries what `user` gave it. The administrator's publication lets others than
/// the owner keep what they gave under that very one (`under`), and a later one brings nothing back. Where a rule of the
/// policy published the client (`by_rule`), what was given rests on the rule and on the node that holds it (see
/// [`footing`](crate::footing)).
pub fn carries(client: &Client, user: &Owner, by_rule: Option<&Publisher>, under: Option<u64>) -> bool {
    *user == client.owner || by_rule.is_some() || (under.is_some() && under == publication_for(client, user))
}

/// Whether `node` still is the node that registered `client`, of the same owner.
pub(crate) fn is_registrant(client: &Client, node: &Caller) -> bool {
    node.node_id == client.registrant.node_id && node.owner() == client.owner
}

impl Unpublished {
    /// What would publish it; `servers` is what policy calls this server.
    pub fn remedies(&self, servers: &[String]) -> Vec<Remedy> {
        let mut remedies = vec![Remedy::command(
            "publishes this client",
            format!("countersign client publish {}", self.client),
        )];
        if !self.sources.is_empty() {
            let rule = json!({ "countersign": { "publish_clients": true } });
            let effect = "publishes every client that these nodes register";
            remedies.push(Remedy::grant(effect, &self.sources, servers, &rule));
        }
        remedies
    }
}

#[cfg(test)]
mod tests;
