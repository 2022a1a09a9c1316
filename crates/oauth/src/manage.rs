//! The life of a client after its registration (RFC 7592): read, replace, delete.
//!
//! Whoever holds the registration token may, on a node of the client's owner: a token that leaks to somebody else's
//! node is of no use there, nor to whoever sits behind a node that forwards. Replacing the metadata makes another client
//! of it, so that is for those who may register one.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    publish,
    register::{self, Request, Rules},
};

/// Whether `presented`, the bearer token of a request of `caller`, may manage `client`.
///
/// # Errors
/// `invalid_token`, in the same words whatever is wrong with client or token; what [`Caller::vouched`] says.
pub fn admit<'a>(
    client: Option<&'a Client>,
    presented: Option<&str>,
    caller: &Caller,
    rules: &Rules,
) -> Result<&'a Client, OAuthError> {
    let client = client
        .filter(|client| {
            let proven = client
                .registration_token
                .zip(presented)
                .is_some_and(|(hash, text)| hash.verify(text));
            proven && client.owner == caller.owner()
        })
        .ok_or_else(|| {
            OAuthError::new(
                ErrorCode::InvalidToken,
                "the client is unknown, the registration access token is wrong, or this node is not its owner's",
            )
        })?;
    caller.vouched(&rules.identity)?;
    Ok(client)
}

/// What a replacement says besides the metadata of a registration. Unknown fields are ignored here as well.
#[derive(Deserialize)]
struct Besides {
    client_secret: Option<Value>,
    client_id_issued_at: Option<IgnoredAny>,
    client_secret_expires_at: Option<IgnoredAny>,
    registration_access_token: Option<IgnoredAny>,
    registration_client_uri: Option<IgnoredAny>,
}

impl Besides {
    /// The name of a field that only this server fills (RFC 7592 2.2).
    fn of_ours(&self) -> Option<&'static str> {
        let fields = [
            (&self.client_id_issued_at, "client_id_issued_at"),
            (&self.client_secret_expires_at, "client_secret_expires_at"),
            (&self.registration_access_token, "registration_access_token"),
            (&self.registration_client_uri, "registration_client_uri"),
        ];
        fields
            .into_iter()
            .find_map(|(field, name)| field.as_ref().map(|_| name))
    }
}

/// `client` with the metadata of a JSON body in place of its own (RFC 7592 2.2): what the body leaves out is gone
/// afterwards. Who it is, how it authenticates and whose it is stay;
/// what an administrator published stays published only if nothing changed.
///
/// # Errors
/// What [`register::admit`] says to who may not register; `invalid_client_metadata` or `invalid_redirect_uri` as at
/// registration; the former also when the body names another
/// client or none, brings a field of ours or another secret, or asks for another way to authenticate: a public client
/// has no secret to become confidential with, so that needs a registration of its own.
pub fn replace(
    client: &Client,
    body: &[u8],
    caller: &Caller,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Client, OAuthError> {
    let invalid = |description: String| OAuthError::new(ErrorCode::InvalidClientMetadata, description);
    register::admit(caller, rules, now).map_err(|refused| refused.error)?;
    let request = Request::parse(body)?;
    let besides: Besides = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
    if let Some(field) = besides.of_ours() {
        return Err(invalid(format!("{field} must not be sent: only this server sets it")));
    }
    match request.client_id.as_deref() {
        None => return Err(invalid("client_id is missing".into())),
        Some(id) if id != client.id.as_str() => {
            return Err(invalid("client_id differs from the client at this address".into()));
        }
        Some(_) => {}
    }
    if let Some(secret) = besides.client_secret {
        let known = client.secret.as_ref().zip(secret.as_str());
        if !known.is_some_and(|(hash, text)| hash.verify(text)) {
            return Err(invalid(
                "client_secret is not this client's; only this server sets it".into(),
            ));
        }
    }
    if request.auth_method != client.auth_method {
        return Err(invalid(format!(
            "token_endpoint_auth_method cannot be changed from {}; register another client",
            client.auth_method.as_str()
        )));
    }
    register::admit_tsidp_claims(&request, client.tsidp_claims, caller, now)?;
    let changed = Client {
        redirect_uris: request.redirect_uris,
        post_logout_redirect_uris: request.post_logout_redirect_uris,
        grant_types: request.grant_types,
        application_type: request.application_type,
        scope: request.scope,
        signing_alg: request.signing_alg,
        tsidp_claims: request.tsidp_claims,
        descriptions: request.descriptions,
        options: request.options,
        ..client.clone()
    };
    if changed == *client {
        return Ok(changed);
    }
    Ok(publish::take_back(changed))
}

#[cfg(test)]
mod tests;
