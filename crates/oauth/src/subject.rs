//! To whom a grant was given: a user at a node, or a tagged node. Never the caller by default.

use serde::{Deserialize, Serialize};

use crate::caller::{Caller, Owner};

/// The user or node behind a code or token, named by ids that outlive names and keys.
///
/// What it may do is always asked of the live netmap; nothing of its policy is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Stable id of the node at which consent was given.
    pub node_id: String,
    /// The user, or the node itself when it is tagged.
    pub owner: Owner,
    /// Login name or tags at that time, for logs.
    pub label: String,
}

impl Subject {
    /// The subject that `caller` becomes by consenting.
    pub fn of(caller: &Caller) -> Self {
        Self {
            node_id: caller.node_id.clone(),
            owner: caller.owner(),
            label: caller.user_label(),
        }
    }

    /// The claim `sub`: `userid:<id>` as tsidp has it, `nodeid:<stable id>` for a tagged node.
    pub fn sub(&self) -> String {
        match &self.owner {
            Owner::User(id) => format!("userid:{id}"),
            Owner::Node(id) => format!("nodeid:{id}"),
        }
    }

    /// Whether `live`, what the netmap now says about the subject's node, still is this subject.
    pub fn still_is(&self, live: &Caller) -> bool {
        live.node_id == self.node_id && live.owner() == self.owner
    }
}
