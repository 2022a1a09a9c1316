//! The answers that say no: an RFC error code and one sentence for the person who has to act.

use serde::Serialize;

/// An error code of the RFCs this server speaks. The HTTP status that goes with it is chosen by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// RFC 6749 5.2: a parameter is missing, malformed, repeated or contradicts another.
    InvalidRequest,
    /// RFC 7591 3.2.2: one of the redirect URIs may not be used.
    InvalidRedirectUri,
    /// RFC 7591 3.2.2: a field of the client metadata has a value that is refused.
    InvalidClientMetadata,
    /// RFC 6749 5.2: the client did not authenticate as it is registered to.
    InvalidClient,
    /// RFC 6749 5.2: the code or refresh token is wrong, spent, expired, revoked or another's.
    InvalidGrant,
    /// RFC 6749 5.2: the client is not registered for this.
    UnauthorizedClient,
    /// RFC 6749 5.2.
    UnsupportedGrantType,
    /// RFC 7009 2.2.1: a token of a kind that cannot be revoked.
    UnsupportedTokenType,
    /// RFC 6749 4.1.2.1.
    UnsupportedResponseType,
    /// RFC 6749 5.2: more scope than was granted.
    InvalidScope,
    /// RFC 8707 2: a resource that is malformed or not allowed.
    InvalidTarget,
    /// OpenID Connect Core 3.1.2.6: the request forbids the page that is needed.
    InteractionRequired,
    /// OpenID Connect Core 3.1.2.6: nobody clicked in this browser, or not lately, or somebody else is meant.
    LoginRequired,
    /// OpenID Connect Core 3.1.2.6: the user has not consented to this for good.
    ConsentRequired,
    /// OpenID Connect Core 6.1: request objects are not supported.
    RequestNotSupported,
    /// OpenID Connect Core 6.2.
    RequestUriNotSupported,
    /// RFC 6750 3.1: the access token is not good here.
    InvalidToken,
    /// RFC 6749 4.1.2.1: policy or a person said no.
    AccessDenied,
    /// RFC 6749 4.1.2.1: overloaded, or the facts needed to decide are too old.
    TemporarilyUnavailable,
    /// RFC 6749 4.1.2.1: our own fault; the log says what happened.
    ServerError,
}

impl ErrorCode {
    /// The code as it stands in `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::InteractionRequired => "interaction_required",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::RequestUriNotSupported => "request_uri_not_supported",
            Self::InvalidToken => "invalid_token",
            Self::AccessDenied => "access_denied",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }
}

/// A refusal as the RFCs put it on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {description}", .code.as_str())]
pub struct OAuthError {
    code: ErrorCode,
    description: Box<str>,
}

/// Characters of a description: it goes into a header of a redirect and into the log, and may quote what was received.
const LONGEST: usize = 1000;

impl OAuthError {
    /// A refusal with one sentence that names the parameter and what to do.
    ///
    /// RFC 6749 5.2 allows only printable ASCII without `"` and `\` in a description; anything else is replaced here,
    /// so a caller may quote what it received. It is cut where no sentence of ours ends.
    pub fn new(code: ErrorCode, description: impl AsRef<str>) -> Self {
        let description = description
            .as_ref()
            .chars()
            .take(LONGEST)
            .map(|c| match c {
                '"' | '\\' => '\'',
                ' '..='~' => c,
                _ => '?',
            })
            .collect::<String>();
        Self {
            code,
            description: description.into(),
        }
    }

    /// What goes into `error`.
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// What goes into `error_description`: printable ASCII without quotes and backslashes.
    pub fn description(&self) -> &str {
        &self.description
    }
}

#[cfg(test)]
mod tests;
