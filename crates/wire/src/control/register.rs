//! Key exchange and registration (Go: `tailcfg.RegisterRequest` and what belongs to it).

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Hostinfo, UserId, is_zero, lenient};
use crate::key::{self, MachinePublic, NodePublic};

/// Answer to `GET /key` (Go: `OverTLSPublicKeyResponse`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerKeys {
    /// Key of the protocol before Noise; not used.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub legacy_public_key: Option<MachinePublic>,
    /// The server's Noise static key; absent = the server is too old.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<MachinePublic>,
}

/// What the server pushes right after the Noise handshake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EarlyNoise {
    /// `chalpub:…`, against which a node key could be proven; kept as text since it is not used.
    #[serde(deserialize_with = "lenient::or_default")]
    pub node_key_challenge: String,
}

/// Body of `POST /machine/register`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegisterRequest {
    /// Capability version.
    pub version: u16,
    /// The node key to register.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub node_key: Option<NodePublic>,
    /// The node key that it replaces.
    #[serde(with = "key::optional", skip_serializing_if = "Option::is_none")]
    pub old_node_key: Option<NodePublic>,
    /// How to authenticate; absent = interactively, or by what the server remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegisterResponseAuth>,
    /// Expiry asked for; `None` = the server's default. A time in the past logs out.
    #[serde(with = "lenient::time")]
    pub expiry: Option<OffsetDateTime>,
    /// The login URL that is being waited for.
    #[serde(deserialize_with = "lenient::or_default")]
    pub followup: String,
    /// What the node says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostinfo: Option<Hostinfo>,
    /// Remove the node soon after it goes offline.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub ephemeral: bool,
    /// Name of the tailnet asked for.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub tailnet: String,
}

/// Credentials of a registration. `Debug` hides the key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterResponseAuth {
    /// Pre-auth key.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "is_zero")]
    pub auth_key: String,
}

impl fmt::Debug for RegisterResponseAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterResponseAuth").finish_non_exhaustive()
    }
}

impl Drop for RegisterResponseAuth {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.auth_key);
    }
}

/// Answer to `POST /machine/register`; refusals come with HTTP 200 and `error`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegisterResponse {
    /// The user that the node belongs to.
    #[serde(deserialize_with = "lenient::or_default")]
    pub user: User,
    /// How that user logs in.
    #[serde(deserialize_with = "lenient::or_default")]
    pub login: Login,
    /// A new node key is needed.
    #[serde(deserialize_with = "lenient::or_default")]
    pub node_key_expired: bool,
    /// Approved; without it and without `auth_url`, an admin has to act.
    #[serde(deserialize_with = "lenient::or_default")]
    pub machine_authorized: bool,
    /// Where a person logs in; empty = nobody has to.
    #[serde(rename = "AuthURL", deserialize_with = "lenient::or_default")]
    pub auth_url: String,
    /// Not empty = the tailnet is locked and the signature must be renewed for the new key.
    #[serde(with = "lenient::base64")]
    pub node_key_signature: Vec<u8>,
    /// Not empty = refused, with the reason.
    #[serde(deserialize_with = "lenient::or_default")]
    pub error: String,
}

/// A user, in a registration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct User {
    /// Number in the tailnet.
    #[serde(rename = "ID", deserialize_with = "lenient::or_default")]
    pub id: UserId,
    /// Name for people.
    #[serde(deserialize_with = "lenient::or_default")]
    pub display_name: String,
}

/// A login, in a registration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Login {
    /// Number of the login.
    #[serde(rename = "ID", deserialize_with = "lenient::or_default")]
    pub id: i64,
    /// Identity provider.
    #[serde(deserialize_with = "lenient::or_default")]
    pub provider: String,
    /// `alice@example.com`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub login_name: String,
    /// Name for people.
    #[serde(deserialize_with = "lenient::or_default")]
    pub display_name: String,
}
