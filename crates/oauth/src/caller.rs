//! The node on this connection, as the decisions see it.
//!
//! The server fills a [`Caller`] from the live netmap for each request; nothing here outlives the decision it was
//! made for.

use core::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorCode, OAuthError},
    policy::Policy,
};

/// What the netmap says about the node whose key decrypted this request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The stable node id that control assigned.
    pub node_id: String,
    /// The number that control gave the node; tsidp calls it `nid`.
    pub node_number: i64,
    /// The node's MagicDNS name, without a trailing dot.
    pub node_name: String,
    /// The node key in text form.
    pub node_key: String,
    /// The node's own tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// Whose node it is.
    pub who: Who,
    /// Whether the node advertises routes: what it forwards may not be its own.
    pub routes: bool,
    /// Whether the node was shared in from another tailnet.
    pub shared: bool,
    /// The rules that were granted to it for this server.
    pub policy: Policy,
    /// How long ago control was last heard.
    pub netmap_age: Duration,
}

/// Whose node it is. A tagged node acts for itself, never for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A node of a person.
    User {
        /// The user id that control assigned.
        id: i64,
        /// The login name, which on Headscale may be a bare word.
        login: String,
        /// The name to show.
        display_name: String,
        /// URL of a picture, or empty.
        picture: String,
    },
    /// A node that carries these tags.
    Tagged(Vec<String>),
}

/// To whom a client belongs, and whose quota it counts against.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// A user, from any of his nodes.
    User(i64),
    /// One tagged node, by its stable id.
    Node(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Node(id) => write!(f, "node:{id}"),
        }
    }
}

/// Which identities are believed. Part of the server's configuration.
#[derive(Debug, Clone)]
pub struct IdentityRules {
    /// How old the netmap may be before nobody is anybody.
    pub netmap_max_age: Duration,
    /// Whether a node that advertises routes still counts as its user.
    pub routers_are_users: bool,
}

impl Caller {
    /// The owner of what this caller registers.
    pub fn owner(&self) -> Owner {
        match &self.who {
            Who::User { id, .. } => Owner::User(*id),
            Who::Tagged(_) => Owner::Node(self.node_id.clone()),
        }
    }

    /// The user's login name, or the tags of a tagged node, for logs and pages.
    pub fn user_label(&self) -> String {
        match &self.who {
            Who::User { login, .. } => login.clone(),
            Who::Tagged(tags) => tags.join(","),
        }
    }

    /// The names by which the `users` of a policy rule may mean this caller: the login name, or each tag.
    pub fn names(&self) -> Vec<String> {
        match &self.who {
            Who::User { login, .. } => vec![login.clone()],
            Who::Tagged(tags) => tags.clone(),
        }
    }

    /// How the `src` of a policy rule names this caller: `alice@example.com`, `alice@` for a bare login, or its tags.
    pub fn policy_sources(&self) -> Vec<String> {
        match &self.who {
            Who::User { login, .. } if login.contains('@') => vec![login.clone()],
            Who::User { login, .. } => vec![format!("{login}@")],
            Who::Tagged(tags) => tags.clone(),
        }
    }

    /// Whether the netmap's word about this caller may be relied on for a decision.
    ///
    /// # Errors
    /// `temporarily_unavailable` when the netmap is too old, `access_denied` for a node from another tailnet and for
    /// one that forwards the packets of others.
    pub fn vouched(&self, rules: &IdentityRules) -> Result<(), OAuthError> {
        if self.netmap_age > rules.netmap_max_age {
            return Err(OAuthError::new(
                ErrorCode::TemporarilyUnavailable,
                format!(
                    "this server last heard from the tailnet's control server {} s ago, which is longer than netmap_max_age",
                    self.netmap_age.as_secs()
                ),
            ));
        }
        if self.shared {
            return Err(OAuthError::new(
                ErrorCode::AccessDenied,
                "your node was shared in from another tailnet, whose users this server does not know",
            ));
        }
        if self.routes && !rules.routers_are_users && matches!(self.who, Who::User { .. }) {
            return Err(OAuthError::new(
                ErrorCode::AccessDenied,
                "your node advertises routes, so what it sends may be somebody else's; an administrator can set \
                 routers_are_users = true",
            ));
        }
        Ok(())
    }
}
