//! RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0): from a request to the question, and where to go then.
//!
//! Any page can send a browser here, so the person is always asked, with the same rules for the click as on the consent
//! page. Afterwards the browser goes to a `post_logout_redirect_uri` only if the client that the request names has
//! registered exactly that; a request that names no client ends on a page of ours.

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::{
    caller::Caller,
    client::{Client, ClientId},
    error::OAuthError,
    hint::Hint,
    params::Params,
    subject::Subject,
};

const MAX_STATE: usize = 2048;

/// What follows when the person says yes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logout {
    /// Which client asked, where it said so.
    pub client: Option<ClientId>,
    /// Where the browser goes then.
    pub redirect_uri: Option<String>,
    /// `state`, given back as it came.
    pub state: Option<String>,
}

/// Why there is no question; always a page, never a redirect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogoutError {
    /// A parameter is wrong by itself.
    #[error("{}", .0.description())]
    Request(OAuthError),
    /// The id_token was made for another client than `client_id` names.
    #[error("client_id is not the client that id_token_hint was made for")]
    OtherClient,
    /// No such client.
    #[error("the application is not registered here any more (client_id)")]
    UnknownClient,
    /// A redirect URI that is not registered.
    #[error("the application asked to send you to a post_logout_redirect_uri that it did not register")]
    Redirect,
}

impl From<OAuthError> for LogoutError {
    fn from(error: OAuthError) -> Self {
        Self::Request(error)
    }
}

/// The client that a request names: by `client_id`, or as the one its id_token was made for.
///
/// # Errors
/// [`LogoutError::OtherClient`] when both are there and differ, [`LogoutError::Request`] for a parameter that was sent
/// more than once.
pub fn client_id(params: &Params, hint: &Hint) -> Result<Option<ClientId>, LogoutError> {
    params.once_each(&[])?;
    let named = params.one("client_id")?.map(ClientId::from_request);
    match (named, hint.client()) {
        (Some(named), Some(audience)) if named != *audience => Err(LogoutError::OtherClient),
        (Some(named), _) => Ok(Some(named)),
        (None, audience) => Ok(audience.cloned()),
    }
}

/// What a request of `caller` asks for. `named` is what [`client_id`] found, `client` what the store has under it.
///
/// # Errors
/// [`LogoutError`]; nothing is asked and nobody is sent anywhere.
pub fn read(
    params: &Params,
    hint: &Hint,
    named: Option<&ClientId>,
    client: Option<&Client>,
    caller: &Caller,
) -> Result<Logout, LogoutError> {
    hint.is_about(&Subject::of(caller))?;
    if named.is_some() && client.is_none() {
        return Err(LogoutError::UnknownClient);
    }
    let asked = params.one("post_logout_redirect_uri")?;
    let redirect_uri = match (asked, client) {
        (Some(asked), Some(client)) if !may_end_at(client, asked) => return Err(LogoutError::Redirect),
        (Some(asked), Some(_)) => Some(asked.to_owned()),
        // Whoever names no client is sent nowhere.
        (Some(_), None) | (None, _) => None,
    };
    let state = params.returned("state", MAX_STATE)?;
    Ok(Logout {
        client: client.map(|client| client.id.clone()),
        redirect_uri,
        state: state.map(str::to_owned),
    })
}

/// Whether a logout that `client` asked for may end at this URI: only at one that it registered, letter for letter.
fn may_end_at(client: &Client, uri: &str) -> bool {
    client
        .post_logout_redirect_uris
        .iter()
        .any(|registered| registered.as_str() == uri)
}

impl Logout {
    /// Where the browser goes after the click, as `client` is registered by then; `None` for a page of ours.
    pub fn destination(&self, client: Option<&Client>) -> Option<String> {
        let uri = self.redirect_uri.as_deref().filter(|uri| {
            client.is_some_and(|client| self.client.as_ref() == Some(&client.id) && may_end_at(client, uri))
        })?;
        let Some(state) = &self.state else {
            return Some(uri.to_owned());
        };
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("state", state)
            .finish();
        let separator = match uri.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        Some(format!("{uri}{separator}{query}"))
    }
}

#[cfg(test)]
mod tests;
