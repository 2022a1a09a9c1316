//! What the log says about a decision: the same fields everywhere, secrets nowhere.

use countersign_oauth::{caller::Caller, error::OAuthError};

use crate::{app::Exchange, peer::Withdrawn};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    Refused,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
        }
    }
}

/// Logs a decision about `caller`. `client` is empty where there is none; `reason` is for people.
pub(crate) fn decided(event: &str, caller: &Caller, client: &str, decision: Decision, request_id: &str, reason: &str) {
    let (user, node) = (caller.user_label(), &caller.node_name);
    tracing::info!(
        event,
        user,
        node,
        node_id = caller.node_id,
        client,
        decision = decision.as_str(),
        request_id,
        "{event}: {user} on {node} {}: {reason}",
        decision.as_str(),
    );
}

/// Logs that a request was refused, for the reason that its sender is told.
pub(crate) fn refused(event: &str, exchange: &Exchange, caller: &Caller, client: &str, error: &OAuthError) {
    let reason = error.description();
    decided(event, caller, client, Decision::Refused, &exchange.request_id, reason);
}

/// Logs that the tailnet took `caller`'s access away while it had a connection.
pub(crate) fn withdrawn(caller: &Caller, why: &Withdrawn) {
    let (user, node) = (caller.user_label(), &caller.node_name);
    tracing::info!(
        event = "connection_withdrawn",
        user,
        node,
        node_id = caller.node_id,
        reason = %why,
        "the connection of {user} on {node} was ended: {why}",
    );
}
