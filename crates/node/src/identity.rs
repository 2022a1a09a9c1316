//! Who a peer is, read from the netmap.
//!
//! A node key goes in; the node, its user or tags, and the capabilities the tailnet policy grants it towards one of our
//! addresses come out. Nothing here is cached: each answer is as fresh as the netmap it was read from.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use tailnet_engine::{
    caps::PeerCaps,
    netmap::{Netmap, PeerNode},
};
use tailnet_wire::{
    control::{NodeId, UserId},
    key::NodePublic,
};

/// The proven identity of a peer, at the moment it was asked for.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Durable id of the node: the one to store.
    pub stable_id: Arc<str>,
    /// Number of the node in the tailnet.
    pub node_id: NodeId,
    /// MagicDNS name, fully qualified, without the trailing dot.
    pub node_name: Arc<str>,
    /// The WireGuard key that decrypted the peer's packets.
    pub node_key: NodePublic,
    /// The node's own tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// The user, or the tags that stand in the user's place.
    pub who: Who,
    /// The node forwards for others (it advertises subnet routes or is an exit node): what arrives from its own address
    /// may have been sent by someone behind it.
    pub routes: bool,
    /// The node was shared in from another tailnet.
    pub shared: bool,
    /// What the policy grants this node towards the address it contacted.
    pub capabilities: Capabilities,
    /// Time since control last confirmed the netmap this was read from.
    pub netmap_age: Duration,
}

/// Whom a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// A person.
    User {
        /// Number of the user in the tailnet.
        id: UserId,
        /// Login name, e.g. `alice@example.com`; on Headscale it may be a bare name.
        login: Arc<str>,
        /// Name for people to read; may be empty.
        display_name: Arc<str>,
        /// URL of a picture; may be empty.
        picture: Arc<str>,
    },
    /// No person: the node acts under these tags.
    Tagged(Vec<Arc<str>>),
}

/// Application capabilities granted by the tailnet policy (`grants[].app`), as opaque JSON values.
#[derive(Debug, Clone, Default)]
pub struct Capabilities(Arc<PeerCaps>);

impl Capabilities {
    /// The values granted under `name`, in the order of the policy's rules. A capability can be granted without values.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &RawValue> {
        self.0.values(name)
    }

    /// Whether `name` is granted at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    /// The names of all granted capabilities.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }
}

/// Why a peer has no identity any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Withdrawn {
    /// The netmap no longer holds the key: the node was deleted, logged out, cut off by policy or given a new key.
    #[error("the node is no longer part of this tailnet's netmap")]
    Gone,
    /// The node's key has expired.
    #[error("the node's key has expired; its user must log in again")]
    Expired,
    /// The netmap has the node, but not the user it belongs to.
    #[error("the tailnet did not say which user the node belongs to")]
    NoUser,
    /// This node has no netmap.
    #[error("this node is not joined to a tailnet")]
    NotJoined,
}

/// Reads the identity behind `key`, with the capabilities from `remote` (one of its addresses) to `local` (one of ours).
pub(crate) fn identity_of(
    netmap: &Netmap,
    key: &NodePublic,
    remote: IpAddr,
    local: IpAddr,
    netmap_age: Duration,
) -> Result<Identity, Withdrawn> {
    let peer = netmap.peer_by_key(key).ok_or(Withdrawn::Gone)?;
    if peer.expired {
        return Err(Withdrawn::Expired);
    }
    Ok(Identity {
        stable_id: Arc::clone(&peer.stable_id),
        node_id: peer.id,
        node_name: Arc::clone(&peer.name),
        node_key: peer.key,
        addresses: peer.addresses.clone(),
        who: who(netmap, peer)?,
        routes: peer.routes,
        shared: peer.sharer.is_some(),
        capabilities: Capabilities(Arc::new(netmap.filter().caps(remote, local))),
        netmap_age,
    })
}

fn who(netmap: &Netmap, peer: &PeerNode) -> Result<Who, Withdrawn> {
    // The user of a tagged node is a pseudo-user that all tagged nodes share; on some servers its profile is missing.
    if !peer.tags.is_empty() {
        return Ok(Who::Tagged(peer.tags.clone()));
    }
    let user = netmap.user(peer.user).ok_or(Withdrawn::NoUser)?;
    Ok(Who::User {
        id: user.id,
        login: user.login_name.as_str().into(),
        display_name: user.display_name.as_str().into(),
        picture: user.profile_pic_url.as_str().into(),
    })
}
