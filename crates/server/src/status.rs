//! Which HTTP status says what. No other file chooses one.

use countersign_oauth::error::ErrorCode;
use http::StatusCode;

/// The status of an OAuth error (RFC 6749 5.2, RFC 7591 3.2.2).
pub(crate) const fn of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidClient | ErrorCode::InvalidToken => StatusCode::UNAUTHORIZED,
        ErrorCode::AccessDenied => StatusCode::FORBIDDEN,
        ErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::InvalidRequest
        | ErrorCode::InvalidRedirectUri
        | ErrorCode::InvalidClientMetadata
        | ErrorCode::InvalidGrant
        | ErrorCode::UnauthorizedClient
        | ErrorCode::UnsupportedGrantType
        | ErrorCode::UnsupportedTokenType
        | ErrorCode::UnsupportedResponseType
        | ErrorCode::InvalidScope
        | ErrorCode::InvalidTarget
        | ErrorCode::InteractionRequired
        | ErrorCode::LoginRequired
        | ErrorCode::ConsentRequired
        | ErrorCode::RequestNotSupported
        | ErrorCode::RequestUriNotSupported => StatusCode::BAD_REQUEST,
    }
}

/// An answer with a document or page.
pub(crate) const FOUND: StatusCode = StatusCode::OK;
/// RFC 7591 3.2.1.
pub(crate) const REGISTERED: StatusCode = StatusCode::CREATED;
/// RFC 9126 2.2.
pub(crate) const PUSHED: StatusCode = StatusCode::CREATED;
/// The client was deleted (RFC 7592 2.3).
pub(crate) const GONE: StatusCode = StatusCode::NO_CONTENT;
/// The answer to a preflight.
pub(crate) const PREFLIGHT: StatusCode = StatusCode::NO_CONTENT;
/// A page asked for under the short name.
pub(crate) const OTHER_NAME: StatusCode = StatusCode::PERMANENT_REDIRECT;
/// Anything else asked for under a name that is not the issuer's (RFC 9110 15.5.20).
pub(crate) const MISDIRECTED: StatusCode = StatusCode::MISDIRECTED_REQUEST;
/// No such path.
pub(crate) const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
/// The path has other methods.
pub(crate) const WRONG_METHOD: StatusCode = StatusCode::METHOD_NOT_ALLOWED;
/// The body is not of the one type the endpoint reads.
pub(crate) const WRONG_TYPE: StatusCode = StatusCode::UNSUPPORTED_MEDIA_TYPE;
/// The body is longer than allowed.
pub(crate) const TOO_LONG: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
/// The body did not arrive in time.
pub(crate) const TOO_SLOW: StatusCode = StatusCode::REQUEST_TIMEOUT;
/// The body ended early.
pub(crate) const BROKEN: StatusCode = StatusCode::BAD_REQUEST;
/// A page of a foreign origin may not do this.
pub(crate) const FOREIGN_ORIGIN: StatusCode = StatusCode::FORBIDDEN;
/// One peer asks too much.
pub(crate) const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;
/// All peers together ask too much.
pub(crate) const OVERLOADED: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
/// Back to the client; 303 so that a form is never sent on (RFC 9700 4.12).
pub(crate) const BACK: StatusCode = StatusCode::SEE_OTHER;
/// A page that says why the user is not sent on.
pub(crate) const BAD_PAGE: StatusCode = StatusCode::BAD_REQUEST;
