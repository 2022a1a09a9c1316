//! Client authentication at every endpoint that programs of a client call (RFC 6749 2.3, RFC 7523 3).
//!
//! Exactly one method per request, and it must be the registered one. [`Presented::read`] refuses what no client
//! could mean and says what is wrong; [`Presented::verify`] compares with the client that the store has, and answers
//! in the same words whatever is wrong, so that nobody learns which clients there are.

use core::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use time::OffsetDateTime;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    assertion::{ASSERTION_TYPE, Assertion, Spent},
    client::{AuthMethod, Client, ClientId},
    error::{ErrorCode, OAuthError},
    jwks::Signatures,
    params::Params,
};

/// What a request presents to authenticate its client.
pub struct Presented {
    /// The client it claims to be.
    pub client: ClientId,
    credential: Credential,
}

enum Credential {
    None,
    Basic(Zeroizing<String>),
    Post(Zeroizing<String>),
    Assertion(Box<Assertion>),
}

/// That a request is of the client it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The assertion that proved it, which has to be stored with whatever the request changes: it works once.
    pub spent: Option<Spent>,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("client", &self.client)
            .field("method", &self.method())
            .finish_non_exhaustive()
    }
}

fn failed(description: &str) -> OAuthError {
    OAuthError::new(ErrorCode::InvalidClient, description)
}

impl Presented {
    /// Reads the `Authorization` header and the form of a request to the server with this issuer.
    ///
    /// # Errors
    /// `invalid_client` when nothing, or more than one thing, is presented, and for an assertion that no client could
    /// use here now; `invalid_request` for a repeated parameter.
    pub fn read(
        authorization: Option<&str>,
        params: &Params,
        issuer: &str,
        now: OffsetDateTime,
    ) -> Result<Self, OAuthError> {
        let named = params.one("client_id")?;
        let secret = params.one("client_secret")?;
        let assertion = params.one("client_assertion")?;
        let kind = params.one("client_assertion_type")?;
        let (client, credential) = match (authorization, secret, assertion, kind) {
            (None, None, None, None) => {
                let client = named.ok_or_else(|| failed("client_id is missing"))?;
                (ClientId::from_request(client), Credential::None)
            }
            (None, Some(secret), None, None) => {
                let client = named.ok_or_else(|| failed("client_id is missing beside client_secret"))?;
                let secret = Zeroizing::new(secret.to_owned());
                (ClientId::from_request(client), Credential::Post(secret))
            }
            (Some(header), None, None, None) => {
                let (id, secret) =
                    basic(header).ok_or_else(|| failed("the Authorization header is not valid HTTP Basic"))?;
                (ClientId::from_request(&id), Credential::Basic(secret))
            }
            (None, None, Some(text), Some(ASSERTION_TYPE)) => {
                let assertion = Assertion::read(text, issuer, now)?;
                (assertion.client().clone(), Credential::Assertion(Box::new(assertion)))
            }
            (None, None, None, Some(_)) => return Err(failed("client_assertion is missing")),
            (None, None, Some(_), _) => {
                return Err(failed(&format!("client_assertion_type must be {ASSERTION_TYPE}")));
            }
            _ => {
                return Err(failed(
                    "the client authenticates in more than one way; use one of the Authorization header, client_secret \
                     and client_assertion",
                ));
            }
        };
        if named.is_some_and(|named| named != client.as_str()) {
            return Err(failed("client_id is not the client that authenticates"));
        }
        Ok(Self { client, credential })
    }

    /// Whether this proves that the sender is `client`, what the store has under [`Presented::client`].
    ///
    /// # Errors
    /// `invalid_client`, in the same words whether client, method or credential is wrong.
    pub fn verify(&self, client: Option<&Client>, signatures: &dyn Signatures) -> Result<Proof, OAuthError> {
        client
            .filter(|client| client.id == self.client && client.auth_method == self.method())
            .and_then(|client| self.proof(client, signatures))
            .ok_or_else(|| {
                failed(
                    "the client is unknown, its credentials are wrong, or they are not of the \
                     token_endpoint_auth_method that it registered",
                )
            })
    }

    fn proof(&self, client: &Client, signatures: &dyn Signatures) -> Option<Proof> {
        let by_secret = |secret: &str| client.secret.is_some_and(|hash| hash.verify(secret));
        match &self.credential {
            Credential::None => Some(Proof { spent: None }),
            Credential::Basic(secret) | Credential::Post(secret) => by_secret(secret).then_some(Proof { spent: None }),
            Credential::Assertion(assertion) => {
                let options = &client.options;
                let only = options.token_endpoint_auth_signing_alg;
                let spent = assertion.prove(options.jwks.as_ref()?, only, signatures)?;
                Some(Proof { spent: Some(spent) })
            }
        }
    }

    const fn method(&self) -> AuthMethod {
        match self.credential {
            Credential::None => AuthMethod::None,
            Credential::Basic(_) => AuthMethod::ClientSecretBasic,
            Credential::Post(_) => AuthMethod::ClientSecretPost,
            Credential::Assertion(_) => AuthMethod::PrivateKeyJwt,
        }
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
