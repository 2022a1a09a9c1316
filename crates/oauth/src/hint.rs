//! `id_token_hint`: an id_token that comes back (OpenID Connect Core 3.1.2.1, RP-Initiated Logout 2).
//!
//! The server has compared its signature with every key of ours; that it has expired does not matter. A hint proves
//! nothing about who is at the other end, the tailnet does that: it can only say that the client means somebody else.

use serde::Deserialize;

use crate::{
    client::ClientId,
    error::{ErrorCode, OAuthError},
    params::Params,
    subject::Subject,
};

/// What a request says by `id_token_hint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    #[default]
    Absent,
    /// Something that no key of ours signed as an id_token.
    Foreign,
    /// An id_token of ours.
    Ours(Claims),
}

/// The claims of an id_token that say whose it was.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    iss: String,
    sub: String,
    aud: ClientId,
}

impl Hint {
    /// The parameter's text, where there is one.
    ///
    /// # Errors
    /// `invalid_request` when it was sent more than once.
    pub fn presented(params: &Params) -> Result<Option<&str>, OAuthError> {
        params.one("id_token_hint")
    }

    /// A hint whose signature was checked: `claims` are those of a token that this server, `issuer`, signed.
    pub fn verified(claims: Option<&[u8]>, issuer: &str) -> Self {
        claims
            .and_then(|claims| serde_json::from_slice::<Claims>(claims).ok())
            .filter(|claims| claims.iss == issuer)
            .map_or(Self::Foreign, Self::Ours)
    }

    /// Whether it allows that `subject` is the one meant.
    ///
    /// # Errors
    /// `invalid_request` for a token that is not ours, `login_required` for somebody else's.
    pub fn is_about(&self, subject: &Subject) -> Result<(), OAuthError> {
        match self {
            Self::Absent => Ok(()),
            Self::Foreign => Err(OAuthError::new(
                ErrorCode::InvalidRequest,
                "id_token_hint is not an id_token of this server",
            )),
            Self::Ours(claims) if claims.sub == subject.sub() => Ok(()),
            Self::Ours(_) => Err(OAuthError::new(
                ErrorCode::LoginRequired,
                "id_token_hint names another user than the one of this node",
            )),
        }
    }

    /// The client that the id_token was made for.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Ours(claims) => Some(&claims.aud),
            Self::Absent | Self::Foreign => None,
        }
    }
}

#[cfg(test)]
mod tests;
