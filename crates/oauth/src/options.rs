//! What a client may choose at registration beyond what every client says: its keys, the form of its access tokens,
//! the server they are for, from where its codes are redeemed, and whether it always pushes its requests.
//!
//! The fields are named as in client metadata, which they are read from and shown as.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    caller::{Caller, Who},
    client::AuthMethod,
    error::{ErrorCode, OAuthError},
    jwks::{AssertionAlg, Jwks},
    opaque::Strategy,
    resource::Resource,
};

/// The choices of one client; the default is what a client gets that makes none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Its public keys, for `private_key_jwt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Jwks>,
    /// The one algorithm its assertions are signed with; any of ours when it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_signing_alg: Option<AssertionAlg>,
    /// The form of its access tokens.
    pub access_token_strategy: Strategy,
    /// The audience of its access tokens when a request names no `resource`, under the same rules as a named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_resource: Option<Resource>,
    /// Nodes besides its users' and its registrant's from which the codes of a public client may be redeemed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redeem_from: Vec<Place>,
    /// Whether `/authorize` takes only what was pushed before (RFC 9126 6).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_pushed_authorization_requests: bool,
}

/// A node, by its stable id, or every node with a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(String);

impl Place {
    /// The longest text that names one.
    const MAX_LEN: usize = 128;

    /// Whether `node` is meant.
    pub fn is(&self, node: &Caller) -> bool {
        match &node.who {
            Who::Tagged(tags) if self.0.starts_with("tag:") => tags.contains(&self.0),
            _ => self.0 == node.node_id,
        }
    }
}

/// How many places one client may name.
const MAX_PLACES: usize = 32;

/// The fields as they were sent; types are checked one by one, so that an error can name its field.
#[derive(Deserialize)]
pub(crate) struct Raw {
    jwks: Option<Value>,
    jwks_uri: Option<Value>,
    token_endpoint_auth_signing_alg: Option<Value>,
    access_token_strategy: Option<Value>,
    default_resource: Option<Value>,
    redeem_from: Option<Value>,
    require_pushed_authorization_requests: Option<Value>,
}

fn metadata(description: impl AsRef<str>) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidClientMetadata, description)
}

impl Raw {
    /// The choices of a client that authenticates by `method`.
    ///
    /// # Errors
    /// `invalid_client_metadata` that names the field.
    pub(crate) fn read(self, method: AuthMethod) -> Result<Options, OAuthError> {
        let (jwks, alg) = match method {
            AuthMethod::PrivateKeyJwt => keys(self.jwks, self.jwks_uri, self.token_endpoint_auth_signing_alg)?,
            // Keys for what this client will not do here are ignored, as other metadata is (RFC 7591 2).
            _ => (None, None),
        };
        Ok(Options {
            jwks,
            token_endpoint_auth_signing_alg: alg,
            access_token_strategy: strategy(self.access_token_strategy)?,
            default_resource: text("default_resource", self.default_resource)?
                .map(|text| Resource::parse(&text))
                .transpose()
                .map_err(|error| metadata(format!("default_resource: {}", error.description())))?,
            redeem_from: match method {
                AuthMethod::None => places(self.redeem_from)?,
                // One that authenticates redeems from any node.
                _ => Vec::new(),
            },
            require_pushed_authorization_requests: match self.require_pushed_authorization_requests {
                None => false,
                Some(Value::Bool(required)) => required,
                Some(_) => return Err(metadata("require_pushed_authorization_requests must be true or false")),
            },
        })
    }
}

fn keys(
    jwks: Option<Value>,
    jwks_uri: Option<Value>,
    alg: Option<Value>,
) -> Result<(Option<Jwks>, Option<AssertionAlg>), OAuthError> {
    if jwks_uri.is_some() {
        return Err(metadata(
            "jwks_uri: keys are not fetched by this server; send them by value in jwks, and replace them at \
             registration_client_uri when they change",
        ));
    }
    let jwks = jwks.ok_or_else(|| metadata("jwks is missing: private_key_jwt needs the public keys of the client"))?;
    let jwks = Jwks::read(&jwks).map_err(|error| metadata(format!("jwks {error}")))?;
    let Some(name) = text("token_endpoint_auth_signing_alg", alg)? else {
        return Ok((Some(jwks), None));
    };
    let alg = AssertionAlg::named(&name)
        .ok_or_else(|| metadata("token_endpoint_auth_signing_alg must be one of ES256, EdDSA, PS256, RS256"))?;
    if !jwks.supports(alg) {
        return Err(metadata(format!(
            "token_endpoint_auth_signing_alg is {name}, but no key in jwks can sign with it"
        )));
    }
    Ok((Some(jwks), Some(alg)))
}

fn strategy(value: Option<Value>) -> Result<Strategy, OAuthError> {
    let Some(name) = text("access_token_strategy", value)? else {
        return Ok(Strategy::default());
    };
    Strategy::ALL
        .into_iter()
        .find(|strategy| strategy.as_str() == name)
        .ok_or_else(|| metadata("access_token_strategy must be jwt or opaque"))
}

fn places(value: Option<Value>) -> Result<Vec<Place>, OAuthError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let is_name =
        |text: &String| (1..=Place::MAX_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    serde_json::from_value::<Vec<String>>(value)
        .ok()
        .filter(|places| places.len() <= MAX_PLACES && places.iter().all(is_name))
        .map(|places| places.into_iter().map(Place).collect())
        .ok_or_else(|| metadata("redeem_from must be an array of at most 32 tags (tag:app) and stable node ids"))
}

/// A string; absent and empty both mean that nothing was said.
fn text(field: &str, value: Option<Value>) -> Result<Option<String>, OAuthError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(_) => Err(metadata(format!("{field} must be a string"))),
    }
}

#[cfg(test)]
mod tests;
