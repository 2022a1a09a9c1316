//! An OAuth client, as it is stored.

use core::fmt;

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    caller::{Caller, Owner},
    options::Options,
    publish::Publication,
    redirect::RedirectUri,
    secret::SecretHash,
    signing::SigningAlg,
    text::DisplayText,
};

/// The public name of a client: 128 random bits in hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(String);

impl ClientId {
    /// Draws a fresh id.
    pub fn draw(rng: &mut dyn RngCore) -> Self {
        let mut raw = [0; 16];
        rng.fill_bytes(&mut raw);
        Self(raw.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The id as a request names it. Any text may be asked for; only ids of ours will be found.
    pub fn from_request(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client proves at the token endpoint that it is itself (RFC 7591 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// It does not: a public client.
    None,
    /// HTTP Basic.
    ClientSecretBasic,
    /// `client_secret` in the form.
    ClientSecretPost,
    /// A JWT signed with a key of its own (RFC 7523).
    PrivateKeyJwt,
}

impl AuthMethod {
    /// All of them, in the order in which they are advertised.
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::ClientSecretBasic,
        Self::ClientSecretPost,
        Self::PrivateKeyJwt,
    ];

    /// The name in client metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// Whether clients with this method can prove who they are.
    pub const fn is_confidential(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether clients with this method hold a secret that this server makes for them.
    pub const fn has_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// A grant type that a client may be registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// RFC 6749 4.1.
    AuthorizationCode,
    /// RFC 6749 6.
    RefreshToken,
    /// RFC 6749 4.4, confidential clients only.
    ClientCredentials,
}

impl GrantType {
    /// All of them, in the order in which they are advertised.
    pub const ALL: [Self; 3] = [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials];

    /// The name in requests and metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// Where an application runs (OpenID Connect Registration 2). The redirect URIs decide, not what was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationType {
    /// On a server.
    Web,
    /// On its user's computer.
    Native,
}

/// Who registered a client, from where, as the netmap had it then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrant {
    /// Stable id of the node.
    pub node_id: String,
    /// MagicDNS name of the node at that time.
    pub node_name: String,
    /// Login name of its user, or its tags, at that time.
    pub user: String,
}

impl Registrant {
    /// The registrant that `caller` is.
    pub fn of(caller: &Caller) -> Self {
        Self {
            node_id: caller.node_id.clone(),
            node_name: caller.node_name.clone(),
            user: caller.user_label(),
        }
    }
}

/// What a client says about itself, checked and cleaned. Everything but the redirect URIs is for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptions {
    /// `client_name`, unverified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<DisplayText>,
    /// `client_uri`, an http or https URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// `logo_uri`; never fetched by a browser on our pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// `tos_uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    /// `policy_uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// `contacts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<DisplayText>,
    /// `software_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_id: Option<DisplayText>,
    /// `software_version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_version: Option<DisplayText>,
}

/// A registered client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its public name.
    pub id: ClientId,
    /// Hash of its secret; `None` for a client that holds none.
    pub secret: Option<SecretHash>,
    /// The one method by which it authenticates.
    pub auth_method: AuthMethod,
    /// Where its users may be sent back to.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where they may be sent after a logout that it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub post_logout_redirect_uris: Vec<RedirectUri>,
    /// What it may ask the token endpoint for.
    pub grant_types: Vec<GrantType>,
    /// Where it runs, as its redirect URIs show.
    pub application_type: ApplicationType,
    /// The scopes it may ask for; `None` means it named none, so policy alone decides.
    pub scope: Option<Vec<String>>,
    /// What its tokens are signed with (`id_token_signed_response_alg`).
    #[serde(default)]
    pub signing_alg: SigningAlg,
    /// Whether its id_tokens carry tsidp's claims about the user's node whatever scope it asks for (`tsidp_claims`).
    #[serde(default)]
    pub tsidp_claims: bool,
    /// What it says about itself.
    pub descriptions: Descriptions,
    /// What it chose beyond that.
    #[serde(default)]
    pub options: Options,
    /// To whom it belongs.
    pub owner: Owner,
    /// Who registered it.
    pub registrant: Registrant,
    /// When it was registered.
    #[serde(with = "time::serde::timestamp")]
    pub issued_at: OffsetDateTime,
    /// Hash of the token by which its registration is managed.
    #[serde(default)]
    pub registration_token: Option<SecretHash>,
    /// When it is forgotten unless it obtains a code or token first; `None` once it has.
    #[serde(with = "time::serde::timestamp::option")]
    pub unused_until: Option<OffsetDateTime>,
    /// That an administrator lets others than the owner use it.
    #[serde(default)]
    pub published: Option<Publication>,
    /// How often an administrator has published it.
    #[serde(default)]
    pub publications: u64,
}
