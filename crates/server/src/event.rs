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

/// Characters of an id of a client.
const ID: usize = 32;

/// A client as a request names it. Who puts a secret where its id belongs must not find it in the log, and no id of ours
/// is longer.
fn named(client: &str) -> String {
    match client.char_indices().nth(ID) {
        None => client.to_owned(),
        Some((end, _)) => format!("{}…", &client[..end]),
    }
}

/// Logs a decision about `caller`. `client` is empty where there is none; `reason` is for people.
pub(crate) fn decided(event: &str, caller: &Caller, client: &str, decision: Decision, request_id: &str, reason: &str) {
    let client = named(client);
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

#[cfg(test)]
mod tests {
    use countersign_oauth::{client::ClientId, secret::Secret};
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn a_clients_id_is_logged_whole_and_no_secret_or_long_text_in_its_place() {
        let rng = &mut StdRng::from_seed([7; 32]);
        let id = ClientId::draw(rng);
        assert_eq!(named(id.as_str()), id.as_str());
        let secret = Secret::draw(rng);
        assert!(!named(secret.reveal()).contains(secret.reveal()));
        assert!(named(&"ä".repeat(60_000)).chars().count() <= ID + 1);
    }
}
