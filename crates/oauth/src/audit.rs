//! What is remembered of a decision that changed something, in the same transaction as the change.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{caller::Caller, client::ClientId};

/// One line of the audit trail. It never holds a secret, code or token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When it was decided.
    #[serde(with = "time::serde::timestamp")]
    pub at: OffsetDateTime,
    /// What happened: `client_registered`, `client_expired`, …
    pub event: String,
    /// Login name of the caller's user, or its tags; empty for what the server does by itself.
    pub user: String,
    /// Stable id of the caller's node.
    pub node_id: String,
    /// MagicDNS name of the caller's node at that time.
    pub node_name: String,
    /// The client concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// The request it belongs to, as the log names it.
    pub request_id: String,
    /// Anything more a reader needs, in one phrase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl AuditRecord {
    /// What `caller` did at `now` in the request that the log calls `request_id`.
    pub fn by(caller: &Caller, event: &str, request_id: &str, now: OffsetDateTime) -> Self {
        Self {
            at: now,
            event: event.to_owned(),
            user: caller.user_label(),
            node_id: caller.node_id.clone(),
            node_name: caller.node_name.clone(),
            client: None,
            request_id: request_id.to_owned(),
            detail: String::new(),
        }
    }

    /// What the server did by itself at `now`.
    pub fn own(event: &str, now: OffsetDateTime) -> Self {
        Self {
            at: now,
            event: event.to_owned(),
            user: String::new(),
            node_id: String::new(),
            node_name: String::new(),
            client: None,
            request_id: String::new(),
            detail: String::new(),
        }
    }

    /// The same, about `client`.
    #[must_use]
    pub fn about(mut self, client: &ClientId) -> Self {
        self.client = Some(client.clone());
        self
    }

    /// The same, with a phrase.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}
