//! The seam between the two halves: connections of the tailnet node, as the server takes them.
//!
//! The node proves who is at the other end; here that proof is put into the words of the OAuth side, afresh for each
//! request, and nothing is added to it.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::Arc,
};

use countersign_oauth::{
    caller::{Caller as Requester, Who as RequesterWho},
    footing::Presence,
    policy::{CAPABILITY, Policy},
};
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tailnet_node::{Caller, Identity, Listener, Node, Stream, UserId, Who, Withdrawn as Gone};
use tokio::sync::watch;

use crate::peer::{Directory, Inbound, Peer, Wanted, Withdrawn};

/// The connections that peers open to one port of the node.
#[derive(Debug)]
pub struct TailnetInbound(pub Listener);

impl Inbound for TailnetInbound {
    type Io = Stream;

    async fn accept(&mut self) -> Option<(Stream, Arc<dyn Peer>)> {
        // The node has shut down when there are no more.
        let (stream, caller) = self.0.accept().await.ok()?.into_parts();
        let policy = Mutex::default();
        Some((stream, Arc::new(TailnetPeer { caller, policy })))
    }
}

/// The node at the other end of one connection.
struct TailnetPeer {
    caller: Caller,
    /// What its rules were when it was asked last.
    policy: Mutex<Policy>,
}

impl Peer for TailnetPeer {
    fn caller(&self) -> Result<Requester, Withdrawn> {
        match self.caller.identity() {
            Ok(identity) => {
                let policy = read(&mut self.policy.lock(), &identity);
                Ok(requester(identity, policy))
            }
            Err(withdrawn) => Err(Withdrawn(withdrawn.to_string())),
        }
    }

    fn withdrawn(&self) -> Pin<Box<dyn Future<Output = Withdrawn> + Send + '_>> {
        Box::pin(async {
            self.caller.withdrawn().await;
            match self.caller.identity() {
                Ok(_) => Withdrawn("the tailnet policy no longer lets the node reach this server".to_owned()),
                Err(withdrawn) => Withdrawn(withdrawn.to_string()),
            }
        })
    }
}

/// The nodes of the tailnet, by the ids under which grants were stored.
pub struct TailnetDirectory {
    node: Arc<Node>,
    /// Where the server listens.
    port: u16,
    /// The rules of nodes that were asked about, [`KNOWN`] at most: then all are forgotten.
    policies: Mutex<HashMap<String, Policy>>,
}

const KNOWN: usize = 4096;

/// How `dst` of a policy rule names the node: by its tags, or by its addresses if it has none. Not by its user, whose every
/// node that would mean.
pub fn names_in_policy(node: &Node) -> Vec<String> {
    let status = node.status();
    if status.tags.is_empty() {
        status.addresses.iter().map(ToString::to_string).collect()
    } else {
        status.tags
    }
}

impl TailnetDirectory {
    /// The tailnet as `node` sees it, for a server that listens on `port` of it.
    pub fn new(node: Arc<Node>, port: u16) -> Self {
        Self {
            node,
            port,
            policies: Mutex::default(),
        }
    }

    fn policy(&self, identity: &Identity) -> Policy {
        let mut policies = self.policies.lock();
        if policies.len() >= KNOWN {
            policies.clear();
        }
        read(policies.entry(identity.stable_id.to_string()).or_default(), identity)
    }
}

impl Directory for TailnetDirectory {
    fn presence(&self, stable_id: &str) -> Presence {
        match self.node.node_by_id(stable_id) {
            Ok(_) if !self.node.admits(stable_id, self.port) => Presence::CutOff,
            Ok(identity) => {
                let policy = self.policy(&identity);
                Presence::Here(Box::new(requester(identity, policy)))
            }
            Err(Gone::NotJoined) => Presence::Unknown,
            Err(Gone::Expired) => Presence::Expired,
            Err(Gone::Gone | Gone::NoUser) => Presence::Gone,
        }
    }

    fn mark(&self, stable_id: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self.node.node_by_id(stable_id) {
            Ok(identity) => {
                let rules = identity.capabilities.values(CAPABILITY).map(RawValue::get);
                let admitted = self.node.admits(stable_id, self.port);
                (identity.who, identity.shared, identity.routes, admitted).hash(&mut hasher);
                rules.for_each(|rule| rule.hash(&mut hasher));
            }
            Err(gone) => gone.hash(&mut hasher),
        }
        hasher.finish()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.node.netmap_changes()
    }

    fn rules(&self) -> Vec<String> {
        self.node.granted(CAPABILITY)
    }

    fn nodes_of(&self, user: i64) -> BTreeSet<String> {
        let nodes = self.node.nodes_of(UserId(user));
        nodes.iter().map(ToString::to_string).collect()
    }

    fn find(&self, wanted: &Wanted<'_>, limit: usize) -> Vec<Requester> {
        let peers = self.node.status().peers;
        let meant = peers
            .iter()
            .filter(|peer| wanted.means(&peer.owner, &peer.name, &peer.stable_id));
        meant
            .filter_map(|peer| Directory::node(self, &peer.stable_id))
            .take(limit)
            .collect()
    }
}

/// The rules of `identity`, which are read again only when they are others than those of `known`.
fn read(known: &mut Policy, identity: &Identity) -> Policy {
    let values = || identity.capabilities.values(CAPABILITY).map(RawValue::get);
    if !known.is_of(values()) {
        *known = Policy::parse(values());
    }
    known.clone()
}

fn requester(identity: Identity, policy: Policy) -> Requester {
    Requester {
        node_id: identity.stable_id.to_string(),
        node_number: identity.node_id.0,
        node_name: identity.node_name.to_string(),
        node_key: identity.node_key.to_string(),
        addresses: identity.addresses,
        who: match identity.who {
            Who::User {
                id,
                login,
                display_name,
                picture,
            } => RequesterWho::User {
                id: id.0,
                login: login.to_string(),
                display_name: display_name.to_string(),
                picture: picture.to_string(),
            },
            Who::Tagged(tags) => RequesterWho::Tagged(tags.iter().map(ToString::to_string).collect()),
        },
        routes: identity.routes,
        shared: identity.shared,
        policy,
        netmap_age: identity.netmap_age,
    }
}
