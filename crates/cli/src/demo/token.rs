//! Reading signed tokens (RFC 7519): with proof, as a resource server must, and without, to show what is in one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde::Deserialize;
use serde_json::Value;

use super::BoxError;

/// What echo wants to know of an access token (RFC 9068).
#[derive(Debug, Deserialize)]
pub(super) struct AccessToken {
    pub(super) sub: String,
    pub(super) client_id: String,
    #[serde(default)]
    pub(super) scope: String,
    pub(super) cnf: Confirmation,
}

/// Whose token it is: only this node may present it.
#[derive(Debug, Deserialize)]
pub(super) struct Confirmation {
    /// Its stable id.
    pub(super) tailnet_node: String,
}

/// The name of the key that `token` says it was signed with.
pub(super) fn key_id(token: &str) -> Option<String> {
    jsonwebtoken::decode_header(token).ok()?.kid
}

/// The claims of `token`, when it is an access token that `issuer` signed for `audience` and that is still good.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn verified(token: &str, keys: &JwkSet, issuer: &str, audience: &str) -> Result<AccessToken, String> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| "it is no signed token")?;
    // An id_token has the same signer and must not open anything (RFC 9068 4).
    if header.typ.as_deref() != Some("at+jwt") {
        return Err("it is no access token".to_owned());
    }
    let key = header.kid.as_deref().and_then(|kid| keys.find(kid));
    let key = key.ok_or("nobody here knows the key that signed it")?;
    let key = DecodingKey::from_jwk(key).map_err(|_| "its key cannot be used")?;
    // The algorithm is ours to choose, not the token's (RFC 8725 3.1).
    let mut validation = Validation::new(Algorithm::ES256);
    validation.leeway = 5;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = jsonwebtoken::decode(token, &key, &validation);
    decoded.map(|token| token.claims).map_err(|error| error.to_string())
}

/// The claims as they stand in a token, believed by nobody.
///
/// # Errors
/// When it is no token.
pub(super) fn shown(token: &str) -> Result<Value, BoxError> {
    let claims = token.split('.').nth(1).ok_or("a signed token has three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?)
}

/// The claims worth showing, each with its value as text.
pub(super) fn highlights(claims: &Value) -> Vec<(&'static str, String)> {
    let value = |name: &'static str| match &claims[name] {
        Value::Null => None,
        Value::String(text) => Some((name, text.clone())),
        other => Some((name, other.to_string())),
    };
    ["iss", "sub", "aud", "scope", "cnf"]
        .into_iter()
        .filter_map(value)
        .collect()
}

#[cfg(test)]
mod tests;
