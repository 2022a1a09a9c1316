//! The two documents by which clients find everything else: RFC 8414 and OpenID Connect Discovery.
//!
//! Both say the same about the same fields. Only what answers is advertised: [`Features`] names the parts that this
//! build serves, and an endpoint that is not among them is absent (`docs/adr/0020-honest-metadata.md`).

use serde::Serialize;

use crate::{
    answer::ResponseMode,
    client::{AuthMethod, GrantType},
    jwks::AssertionAlg,
    session::ACR,
    signing::SigningAlg,
};

/// The parts of the server that answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Whether `POST /register` may succeed for somebody.
    pub registration: bool,
    /// Whether codes and tokens are: `/authorize`, `/token` and what takes tokens.
    pub codes: bool,
}

/// Where the parts are, below an issuer without a trailing slash.
pub mod path {
    /// RFC 8414 metadata.
    pub const OAUTH_METADATA: &str = "/.well-known/oauth-authorization-server";
    /// OpenID Connect discovery.
    pub const OPENID_METADATA: &str = "/.well-known/openid-configuration";
    /// The public signing keys.
    pub const JWKS: &str = "/.well-known/jwks.json";
    /// Dynamic registration.
    pub const REGISTER: &str = "/register";
    /// What the addresses of registered clients begin with (RFC 7592).
    pub const CLIENTS: &str = "/register/";
    /// Authorization endpoint.
    pub const AUTHORIZE: &str = "/authorize";
    /// Where the consent page sends the user's word.
    pub const CONSENT: &str = "/authorize/consent";
    /// Pushed authorization requests (RFC 9126).
    pub const PAR: &str = "/par";
    /// Token endpoint.
    pub const TOKEN: &str = "/token";
    /// Introspection (RFC 7662).
    pub const INTROSPECT: &str = "/introspect";
    /// Revocation (RFC 7009).
    pub const REVOKE: &str = "/revoke";
    /// Userinfo (OpenID Connect Core 5.3).
    pub const USERINFO: &str = "/userinfo";
    /// Logout (OpenID Connect RP-Initiated Logout).
    pub const LOGOUT: &str = "/logout";
    /// Where the logout page sends the user's word.
    pub const LOGOUT_ANSWER: &str = "/logout/answer";
    /// Where a person sees and takes back what is his.
    pub const ME: &str = "/me";
}

/// The metadata of an authorization server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metadata {
    issuer: String,
    jwks_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed_authorization_request_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    introspection_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_endpoint: Option<String>,
    response_types_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_modes_supported: Option<[&'static str; 2]>,
    grant_types_supported: Vec<&'static str>,
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    token_endpoint_auth_signing_alg_values_supported: [&'static str; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_endpoint_auth_methods_supported: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_endpoint_auth_signing_alg_values_supported: Option<[&'static str; 4]>,
    code_challenge_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes_supported: Option<[&'static str; 5]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_response_iss_parameter_supported: Option<bool>,
    #[serde(flatten)]
    openid: Option<OpenId>,
}

/// What only the OpenID Connect document says.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct OpenId {
    #[serde(skip_serializing_if = "Option::is_none")]
    userinfo_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_session_endpoint: Option<String>,
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<&'static str>,
    claims_supported: Vec<&'static str>,
    acr_values_supported: [&'static str; 1],
    request_uri_parameter_supported: bool,
}

/// The scopes this server gives a meaning to.
pub const SCOPES: [&str; 5] = ["openid", "profile", "email", "offline_access", "tailnet"];

/// The claims that ids or userinfo may carry.
const CLAIMS: [&str; 24] = [
    "sub",
    "iss",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "at_hash",
    "acr",
    "amr",
    "name",
    "preferred_username",
    "username",
    "picture",
    "email",
    "email_verified",
    "groups",
    "node",
    "nid",
    "key",
    "addresses",
    "tailnet",
    "uid",
    "tags",
];

impl Metadata {
    /// The RFC 8414 document for `issuer`, which is byte for byte what clients compare.
    pub fn oauth(issuer: &str, features: Features) -> Self {
        let at = |path: &str| format!("{issuer}{path}");
        Self {
            issuer: issuer.to_owned(),
            jwks_uri: at(path::JWKS),
            authorization_endpoint: features.codes.then(|| at(path::AUTHORIZE)),
            pushed_authorization_request_endpoint: features.codes.then(|| at(path::PAR)),
            token_endpoint: features.codes.then(|| at(path::TOKEN)),
            introspection_endpoint: features.codes.then(|| at(path::INTROSPECT)),
            revocation_endpoint: features.codes.then(|| at(path::REVOKE)),
            registration_endpoint: features.registration.then(|| at(path::REGISTER)),
            response_types_supported: ["code"],
            response_modes_supported: features.codes.then_some(ResponseMode::ALL.map(ResponseMode::as_str)),
            grant_types_supported: GrantType::ALL.iter().map(|grant| grant.as_str()).collect(),
            token_endpoint_auth_methods_supported: methods(),
            token_endpoint_auth_signing_alg_values_supported: assertion_algs(),
            revocation_endpoint_auth_methods_supported: features.codes.then(methods),
            revocation_endpoint_auth_signing_alg_values_supported: features.codes.then(assertion_algs),
            code_challenge_methods_supported: ["S256"],
            scopes_supported: features.codes.then_some(SCOPES),
            authorization_response_iss_parameter_supported: features.codes.then_some(true),
            openid: None,
        }
    }

    /// The OpenID Connect document: the same, and what OpenID Connect asks for beyond it.
    pub fn openid(issuer: &str, features: Features) -> Self {
        Self {
            openid: Some(OpenId {
                userinfo_endpoint: features.codes.then(|| format!("{issuer}{}", path::USERINFO)),
                end_session_endpoint: features.codes.then(|| format!("{issuer}{}", path::LOGOUT)),
                subject_types_supported: ["public"],
                id_token_signing_alg_values_supported: SigningAlg::ALL.iter().map(|alg| alg.as_str()).collect(),
                claims_supported: CLAIMS.to_vec(),
                acr_values_supported: [ACR],
                // OpenID Connect Discovery 3 makes true the default.
                request_uri_parameter_supported: false,
            }),
            ..Self::oauth(issuer, features)
        }
    }
}

fn methods() -> Vec<&'static str> {
    AuthMethod::ALL.iter().map(|method| method.as_str()).collect()
}

fn assertion_algs() -> [&'static str; 4] {
    AssertionAlg::ALL.map(AssertionAlg::as_str)
}

#[cfg(test)]
mod tests;
