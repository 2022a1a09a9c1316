//! Client authentication at the token, revocation and introspection endpoints (RFC 6749 2.3).
//!
//! Exactly one method per request, and it must be the registered one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    client::{AuthMethod, Client, ClientId},
    error::{ErrorCode, OAuthError},
    params::Params,
};

/// What a request presents to authenticate its client.
#[derive(Debug)]
pub struct Presented {
    /// The client it claims to be.
    pub client: ClientId,
    method: AuthMethod,
    secret: Option<Zeroizing<String>>,
}

fn failed(description: &str) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidClient, description)
}

impl Presented {
    /// Reads the `Authorization` header and the form.
    ///
    /// # Errors
    /// `invalid_client` when nothing, or more than one thing, is presented; `invalid_request` for a repeated parameter.
    pub fn read(authorization: Option<&str>, params: &Params) -> Result<Self, OAuthError> {
        if params.one("client_assertion")?.is_some() {
            return Err(failed("client_assertion is not supported"));
        }
        let client_id = params.one("client_id")?;
        let secret = params.one("client_secret")?;
        let Some(header) = authorization else {
            let client = client_id.ok_or_else(|| failed("client_id is missing"))?;
            return Ok(Self {
                client: ClientId::from_request(client),
                method: if secret.is_some() {
                    AuthMethod::ClientSecretPost
                } else {
                    AuthMethod::None
                },
                secret: secret.map(|secret| Zeroizing::new(secret.to_owned())),
            });
        };
        if secret.is_some() {
            return Err(failed(
                "client_secret was sent in the form and in the Authorization header; send it once",
            ));
        }
        let (id, secret) = basic(header).ok_or_else(|| failed("the Authorization header is not valid HTTP Basic"))?;
        if client_id.is_some_and(|in_form| in_form != id) {
            return Err(failed("client_id differs from the Authorization header"));
        }
        Ok(Self {
            client: ClientId::from_request(&id),
            method: AuthMethod::ClientSecretBasic,
            secret: Some(secret),
        })
    }

    /// Whether this proves that the sender is `client`, what the store has under [`Presented::client`].
    ///
    /// # Errors
    /// `invalid_client`, in the same words whether the client or the secret is unknown.
    pub fn verify(&self, client: Option<&Client>) -> Result<(), OAuthError> {
        let unknown = || failed("the client is unknown or its secret is wrong");
        let client = client.ok_or_else(unknown)?;
        let proven = match (&client.secret, &self.secret) {
            (None, None) => true,
            (Some(hash), Some(secret)) => hash.verify(secret),
            _ => false,
        };
        if self.method != client.auth_method {
            return Err(failed(&format!(
                "this client is registered for token_endpoint_auth_method {}",
                client.auth_method.as_str()
            )));
        }
        proven.then_some(()).ok_or_else(unknown)
    }
}

/// Id and secret of HTTP Basic, each form-encoded within (RFC 6749 2.3.1).
fn basic(header: &str) -> Option<(String, Zeroizing<String>)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((form_decoded(id), Zeroizing::new(form_decoded(secret))))
}

fn form_decoded(text: &str) -> String {
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
