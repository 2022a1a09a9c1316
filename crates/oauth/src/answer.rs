//! How an answer gets from this server to a client, by way of the user's browser.
//!
//! In the query of the redirect URI (RFC 6749 4.1.2), or as a form that the browser posts there (OAuth 2.0 Form Post
//! Response Mode). Success and error take the same way and both name the issuer (RFC 9207).

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::{
    error::{ErrorCode, OAuthError},
    params::Params,
    redirect::{Kind, RedirectUri},
    secret::Secret,
};

/// The way an answer takes (`response_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    #[default]
    Query,
    /// In a form that the browser posts to the redirect URI: nothing of it is left in a history or a server's log.
    FormPost,
}

impl ResponseMode {
    /// All of them, in the order in which they are advertised.
    pub const ALL: [Self; 2] = [Self::Query, Self::FormPost];

    /// The name in requests and metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::FormPost => "form_post",
        }
    }

    /// Reads `response_mode`, for an answer to `redirect_uri`.
    ///
    /// # Errors
    /// `invalid_request` for an unknown one, and for a form to an app of this computer, which browsers do not post to.
    pub fn read(params: &Params, redirect_uri: &str) -> Result<Self, OAuthError> {
        let invalid = |why| OAuthError::new(ErrorCode::InvalidRequest, why);
        let Some(name) = params.one("response_mode")? else {
            return Ok(Self::default());
        };
        let mode = Self::ALL.into_iter().find(|mode| mode.as_str() == name);
        match mode.ok_or_else(|| invalid("response_mode must be query or form_post"))? {
            Self::FormPost if !is_web(redirect_uri) => Err(invalid(
                "response_mode: form_post needs a redirect_uri with http or https",
            )),
            mode => Ok(mode),
        }
    }
}

/// Whether a browser can post a form there.
fn is_web(redirect_uri: &str) -> bool {
    RedirectUri::parse(redirect_uri).is_ok_and(|uri| uri.kind() != Kind::PrivateUse)
}

/// Where answers of one request go, and how.
#[derive(Debug, Clone, Copy)]
pub struct ReturnPath<'a> {
    /// The redirect URI.
    pub redirect_uri: &'a str,
    /// `response_mode`.
    pub mode: ResponseMode,
    /// `state`, given back as it came.
    pub state: Option<&'a str>,
    /// The issuer, which every answer names.
    pub issuer: &'a str,
}

/// An answer for the client, by way of the user's browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where the browser is sent.
    pub location: String,
    /// What it posts there; `None` when the location says everything.
    pub form: Option<Vec<(&'static str, String)>>,
    /// The error it carries, for the log; `None` for a code.
    pub error: Option<OAuthError>,
}

impl ReturnPath<'_> {
    /// The code that goes back to the client.
    pub fn accept(&self, code: &Secret) -> Answer {
        self.answer(&[("code", code.reveal())], None)
    }

    /// The error that goes back to the client.
    pub fn refuse(&self, error: OAuthError) -> Answer {
        let pairs = [
            ("error", error.code().as_str()),
            ("error_description", error.description()),
        ];
        self.answer(&pairs, Some(error.clone()))
    }

    fn answer(&self, result: &[(&'static str, &str)], error: Option<OAuthError>) -> Answer {
        let mut pairs = result.to_vec();
        pairs.push(("iss", self.issuer));
        pairs.extend(self.state.map(|state| ("state", state)));
        match self.mode {
            ResponseMode::Query => Answer {
                location: with_query(self.redirect_uri, &pairs),
                form: None,
                error,
            },
            ResponseMode::FormPost => Answer {
                location: self.redirect_uri.to_owned(),
                form: Some(
                    pairs
                        .into_iter()
                        .map(|(name, value)| (name, value.to_owned()))
                        .collect(),
                ),
                error,
            },
        }
    }
}

/// The redirect URI with `pairs` behind the query it was registered with.
fn with_query(redirect_uri: &str, pairs: &[(&'static str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let separator = match redirect_uri.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{redirect_uri}{separator}{query}")
}

#[cfg(test)]
mod tests;
