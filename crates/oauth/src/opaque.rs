//! Access tokens that say nothing to whoever holds them: 256 random bits, and a record of what they stand for.
//!
//! A client chooses them at registration (`access_token_strategy`). What such a token stands for are the same claims
//! that a signed one carries, kept under the hash of its text; introspection, userinfo and revocation read them there.
//! The record names the grant that it rests on and is good only as long as that is: ending a grant ends its opaque
//! tokens in the same write, with no index to follow and no scan.

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{
    client::Client,
    grant::Authorization,
    secret::{Secret, SecretHash},
};

/// The form of a client's access tokens (`access_token_strategy` in client metadata, as Ory Hydra names it).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A signed `at+jwt` (RFC 9068), which servers can check by themselves.
    #[default]
    Jwt,
    /// A random text, which only introspection explains, and which ends the moment its grant does.
    Opaque,
}

impl Strategy {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Jwt, Self::Opaque];

    /// The name in client metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Opaque => "opaque",
        }
    }
}

/// What the store knows about an opaque access token, under its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpaqueToken {
    /// Hash of the token.
    pub hash: SecretHash,
    /// The claims that it stands for; `client_id` and `gid` among them say what it rests on.
    pub claims: Map<String, Value>,
    /// What a machine's token rests on; `None` for one that rests on a grant and is as good as that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Authorization>,
    /// When it ends.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
}

/// How many opaque tokens of one client are kept at a time; more are refused until some have ended.
pub const MAX_PER_CLIENT: u64 = 20_000;

impl OpaqueToken {
    /// The counter of the tokens of the same client.
    pub fn counter(&self) -> String {
        let client = self.claims.get("client_id").and_then(Value::as_str);
        format!("opaque/{}", client.unwrap_or_default())
    }
}

/// An access token that is about to be handed out.
#[derive(Debug)]
pub enum NewAccessToken {
    /// Claims for the server to sign.
    Jwt(Map<String, Value>),
    /// A text that is good once its record is stored.
    Opaque {
        /// The token.
        secret: Secret,
        /// What is stored.
        record: Box<OpaqueToken>,
    },
}

impl NewAccessToken {
    /// A token with these claims, which expire at `expires_at`, in the form that `client` registered.
    pub(crate) fn of(
        claims: Map<String, Value>,
        client: &Client,
        expires_at: OffsetDateTime,
        rng: &mut dyn RngCore,
    ) -> Self {
        match client.options.access_token_strategy {
            Strategy::Jwt => Self::Jwt(claims),
            Strategy::Opaque => {
                let secret = Secret::draw(rng);
                let record = Box::new(OpaqueToken {
                    hash: secret.hash(),
                    claims,
                    machine: None,
                    expires_at,
                });
                Self::Opaque { secret, record }
            }
        }
    }

    /// The same, of a machine: it rests on what its owner may have.
    pub(crate) fn of_machine(mut self, authorization: impl FnOnce() -> Authorization) -> Self {
        if let Self::Opaque { record, .. } = &mut self {
            record.machine = Some(authorization());
        }
        self
    }

    /// The record that has to be stored before the token is handed out.
    pub fn record(&self) -> Option<&OpaqueToken> {
        match self {
            Self::Jwt(_) => None,
            Self::Opaque { record, .. } => Some(record),
        }
    }

    /// The claims, whatever carries them.
    pub fn claims(&self) -> &Map<String, Value> {
        match self {
            Self::Jwt(claims) => claims,
            Self::Opaque { record, .. } => &record.claims,
        }
    }
}

#[cfg(test)]
mod tests;
