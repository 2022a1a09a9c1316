//! Where connections and identities come from.
//!
//! The tailnet node makes both: a connection is accepted together with the proof of who is at its other end. These
//! traits are the seam at which tests put other sources in its place.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc};

use countersign_oauth::{caller::Caller, footing::Presence};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// The tailnet no longer vouches for the node at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Withdrawn(pub String);

/// The node at the other end of one connection.
pub trait Peer: Send + Sync + 'static {
    /// Who it is now, read afresh from the live netmap.
    ///
    /// # Errors
    /// [`Withdrawn`] when it is nobody any more; the connection then ends without another answer.
    fn caller(&self) -> Result<Caller, Withdrawn>;

    /// Returns when the node is nobody any more, or may no longer reach this server.
    fn withdrawn(&self) -> Pin<Box<dyn Future<Output = Withdrawn> + Send + '_>>;
}

/// The nodes of the tailnet, for what was given to one of them earlier.
pub trait Directory: Send + Sync + 'static {
    /// What the netmap now says about the nodes that `wanted` means, at most `limit` of them.
    fn find(&self, wanted: &Wanted<'_>, limit: usize) -> Vec<Caller>;

    /// The stable ids of a user's own nodes, also of those whose keys have expired; tagged ones are nobody's. As many as
    /// the netmap has.
    fn nodes_of(&self, user: i64) -> BTreeSet<String>;

    /// Every rule that the netmap grants to anybody on this server, as control sent it, each once.
    fn rules(&self) -> Vec<String>;

    /// What the netmap now says about a node, which may be offline.
    fn presence(&self, stable_id: &str) -> Presence;

    /// A number that stays the same as long as what decides about the node does: whose it is, its rules, and whether it
    /// reaches this server. Cheaper than
    /// [`presence`](Self::presence).
    fn mark(&self, stable_id: &str) -> u64;

    /// A notice of each change of the netmap, after it is in force, and a number that grows with each.
    fn changes(&self) -> watch::Receiver<u64>;

    /// What the netmap now says about a node; `None` when nobody vouches for it any more.
    fn node(&self, stable_id: &str) -> Option<Caller> {
        match self.presence(stable_id) {
            Presence::Here(caller) => Some(*caller),
            Presence::Unknown | Presence::Gone | Presence::CutOff | Presence::Expired => None,
        }
    }
}

/// Which nodes a person means.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The login name of their user, or one of their tags.
    pub user: Option<&'a str>,
    /// A MagicDNS name, its first label, or a stable id.
    pub node: Option<&'a str>,
}

impl Wanted<'_> {
    /// Whether the node of `user` (a login name, or tags behind commas) with this name and stable id is one of them.
    pub fn means(&self, user: &str, name: &str, stable_id: &str) -> bool {
        let by_user =
            |wanted: &str| wanted == user || (user.starts_with("tag:") && user.split(',').any(|tag| tag == wanted));
        let label = name.split('.').next().unwrap_or(name);
        let by_name = |wanted: &str| {
            wanted == stable_id || wanted.eq_ignore_ascii_case(name) || wanted.eq_ignore_ascii_case(label)
        };
        self.user.is_none_or(by_user) && self.node.is_none_or(by_name)
    }
}

/// A source of connections.
pub trait Inbound: Send {
    /// The bytes of a connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, or `None` when there will be no more. Must be cancel-safe.
    fn accept(&mut self) -> impl Future<Output = Option<(Self::Io, Arc<dyn Peer>)>> + Send;
}
