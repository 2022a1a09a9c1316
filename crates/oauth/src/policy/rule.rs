//! One rule, and whom and what it concerns.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::Ask;
use crate::{client::ClientId, resource::Resource};

/// One object of the capability's array.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rule {
    /// Counted from 1 in the order control sent them.
    pub(super) number: usize,
    pub(super) allow_admin_ui: bool,
    pub(super) allow_dcr: bool,
    pub(super) users: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) extra_claims: Map<String, Value>,
    pub(super) include_in_user_info: bool,
    pub(super) ours: Option<Nested>,
}

/// What the nested object of ours says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Nested {
    pub(super) deny: bool,
    pub(super) users: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) clients: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) introspect: Vec<String>,
    pub(super) expires: Option<OffsetDateTime>,
    pub(super) publish_clients: bool,
}

/// How far a rule that allows reaches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach<'a> {
    All,
    Only(&'a [String]),
}

impl Reach<'_> {
    pub(super) fn covers(self, scope: &String) -> bool {
        match self {
            Self::All => true,
            Self::Only(scopes) => scopes.contains(scope),
        }
    }
}

impl Rule {
    /// Whether this rule allows what is asked, by tsidp's keys or by ours: a resource when one is asked for, else login.
    pub(super) fn allows(&self, ask: &Ask<'_>, now: OffsetDateTime) -> Option<Reach<'_>> {
        // tsidp: exact names and exact resources only, and tags are nobody's login name.
        let plain_user = self
            .users
            .iter()
            .any(|user| user == "*" || (!user.starts_with("tag:") && ask.names.contains(user)));
        let plain_resource = |asked: &Resource| {
            let mut named = self.resources.iter();
            named.any(|resource| resource == "*" || asked.is(resource))
        };
        if plain_user && ask.resource.is_none_or(plain_resource) {
            return Some(Reach::All);
        }
        let ours = self.in_force(now).filter(|ours| !ours.deny)?;
        let resource = |asked: &Resource| ours.resources.iter().any(|pattern| asked.is_covered_by(pattern));
        let allowed = ours.users.iter().any(|user| user == "*" || ask.names.contains(user))
            && ours.is_for(ask.client)
            && ask.resource.is_none_or(resource);
        allowed.then_some(if ours.scopes.is_empty() {
            Reach::All
        } else {
            Reach::Only(&ours.scopes)
        })
    }

    /// What of the asked this rule denies: nothing, everything (no scopes), or some scopes.
    pub(super) fn denies(&self, ask: &Ask<'_>, now: OffsetDateTime) -> Option<&[String]> {
        let ours = self.denying(ask.names, now)?;
        let concerned = match ask.resource {
            _ if ours.resources.is_empty() => true,
            Some(asked) => ours.resources.iter().any(|pattern| asked.is_covered_by(pattern)),
            None => false,
        };
        (concerned && ours.is_for(ask.client)).then_some(ours.scopes.as_slice())
    }

    /// Whether this rule denies these names everything.
    pub(super) fn denies_outright(&self, names: &[String], now: OffsetDateTime) -> bool {
        self.denying(names, now)
            .is_some_and(|ours| ours.resources.is_empty() && ours.clients.is_empty() && ours.scopes.is_empty())
    }

    /// Whether this rule publishes the clients of the node that holds it.
    pub(super) fn publishes(&self, now: OffsetDateTime) -> bool {
        self.in_force(now)
            .is_some_and(|ours| ours.publish_clients && !ours.deny)
    }

    /// Whether this rule lets its holder, or `client` that has authenticated, look into tokens for `resource`.
    pub(super) fn introspects(&self, client: Option<&ClientId>, resource: &Resource, now: OffsetDateTime) -> bool {
        self.in_force(now).is_some_and(|ours| {
            let who = ours.clients.is_empty() || client.is_some_and(|client| ours.is_for(client));
            who && ours.introspect.iter().any(|pattern| resource.is_covered_by(pattern))
        })
    }

    fn in_force(&self, now: OffsetDateTime) -> Option<&Nested> {
        self.ours
            .as_ref()
            .filter(|ours| ours.expires.is_none_or(|end| now < end))
    }

    /// A denial that names no users denies everybody it was granted to.
    fn denying(&self, names: &[String], now: OffsetDateTime) -> Option<&Nested> {
        self.in_force(now).filter(|ours| {
            let named = ours.users.is_empty() || ours.users.iter().any(|user| user == "*" || names.contains(user));
            ours.deny && named
        })
    }
}

impl Nested {
    /// Whether it concerns this client; one that names none concerns all.
    fn is_for(&self, client: &ClientId) -> bool {
        self.clients.is_empty() || self.clients.iter().any(|named| named == client.as_str())
    }
}
