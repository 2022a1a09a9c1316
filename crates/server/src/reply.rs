//! Replies: bodies, and the headers that every reply carries.

use bytes::Bytes;
use countersign_oauth::{
    authorize::Answer,
    error::{ErrorCode, OAuthError},
};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::{BodyExt as _, Full};
use maud::Markup;
use serde::Serialize;
use serde_json::json;

use crate::{pages, status};

/// A complete answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// An answer with a body of some type. Not to be stored by anybody unless [`cached`] says so.
pub(crate) fn body(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(bytes.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    // As many as a page has, so that the map does not grow three times.
    headers.reserve(12);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

/// The same answer, which keeps `what` until its body is sent, or its connection is gone.
pub(crate) async fn keeping(reply: Reply, what: impl Send + 'static) -> Reply {
    let (parts, body) = reply.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    Response::from_parts(parts, Full::new(Bytes::from_owner(Kept { bytes, _what: what })))
}

/// The bytes of a body, and what goes with them.
struct Kept<What> {
    bytes: Bytes,
    _what: What,
}

impl<What> AsRef<[u8]> for Kept<What> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => body(status, "application/json", bytes),
        Err(_) => body(
            status::of(ErrorCode::ServerError),
            "text/plain; charset=utf-8",
            "no JSON form",
        ),
    }
}

/// A JSON answer that people read in a terminal.
pub(crate) fn readable_json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec_pretty(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            body(status, "application/json", bytes)
        }
        Err(_) => json(status, value),
    }
}

/// An HTML page.
pub(crate) fn page(status: StatusCode, markup: Markup) -> Reply {
    page_leading_to(status, markup, "")
}

/// An HTML page whose form ends with a redirect to one of `sources`: Chromium applies `form-action` to it as well.
pub(crate) fn page_leading_to(status: StatusCode, markup: Markup, sources: &str) -> Reply {
    page_under(status, markup, &format!("img-src 'self'; form-action 'self' {sources}"))
}

/// An HTML page that posts itself to one of `sources`, by a script of ours.
pub(crate) fn page_posting_to(status: StatusCode, markup: Markup, sources: &str) -> Reply {
    page_under(status, markup, &format!("script-src 'self'; form-action {sources}"))
}

fn page_under(status: StatusCode, markup: Markup, directives: &str) -> Reply {
    let mut reply = body(status, "text/html; charset=utf-8", markup.into_string());
    let policy = format!("default-src 'none'; style-src 'self'; {directives}; frame-ancestors 'none'; base-uri 'none'");
    let headers = reply.headers_mut();
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        HeaderName::from_static("x-frame-options"),
        HeaderValue::from_static("DENY"),
    );
    headers.insert(
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("same-origin"),
    );
    reply
}

/// Brings an answer to the client: by a redirect, or by a page that posts it.
pub(crate) fn answer(answer: &Answer) -> Reply {
    match &answer.form {
        None => back(&answer.location),
        Some(fields) => page_posting_to(
            status::FOUND,
            pages::form_post(&answer.location, fields),
            &pages::redirect_sources(&answer.location),
        ),
    }
}

/// Sends the browser on: back to the client, or to a page of ours.
pub(crate) fn back(location: &str) -> Reply {
    let mut reply = body(status::BACK, "text/plain; charset=utf-8", "");
    let headers = reply.headers_mut();
    headers.insert(
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("same-origin"),
    );
    match HeaderValue::from_str(location) {
        Ok(location) => {
            headers.insert(LOCATION, location);
            reply
        }
        Err(_) => refuse(status::BAD_PAGE, "the redirect URI cannot be put into a header"),
    }
}

/// An OAuth error that asks for credentials (RFC 6749 5.2, RFC 6750 3).
pub(crate) fn challenge(error: &OAuthError, scheme: &str) -> Reply {
    let mut reply = oauth_error(error);
    if reply.status() == status::of(ErrorCode::InvalidClient) {
        let value = format!("{scheme} realm=\"countersign\", error=\"{}\"", error.code().as_str());
        if let Ok(value) = HeaderValue::from_str(&value) {
            reply.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
    }
    reply
}

/// The same answer, which anybody may keep for a while.
pub(crate) fn cached(mut reply: Reply, value: &'static str) -> Reply {
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(value));
    reply
}

/// An OAuth error.
pub(crate) fn oauth_error(error: &OAuthError) -> Reply {
    error_with_status(status::of(error.code()), error)
}

/// An OAuth error whose status HTTP says better than OAuth.
pub(crate) fn error_with_status(status: StatusCode, error: &OAuthError) -> Reply {
    let mut reply = json(
        status,
        &json!({ "error": error.code(), "error_description": error.description() }),
    );
    reply.extensions_mut().insert(Sentence(error.description().into()));
    reply
}

/// The sentence of an error, for [`as_page`].
#[derive(Clone)]
struct Sentence(Box<str>);

/// The same refusal as a page, where a person and not a program reads it.
pub(crate) fn as_page(reply: Reply, request_id: &str) -> Reply {
    let Some(Sentence(sentence)) = reply.extensions().get() else {
        return reply;
    };
    let mut shown = page(reply.status(), pages::refusal(sentence, request_id));
    for name in [ALLOW, RETRY_AFTER] {
        if let Some(value) = reply.headers().get(&name) {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    shown
}

/// `invalid_request` with a sentence.
pub(crate) fn refuse(status: StatusCode, description: &str) -> Reply {
    error_with_status(status, &OAuthError::new(ErrorCode::InvalidRequest, description))
}

/// Too many requests: try again in a moment.
pub(crate) fn busy(status: StatusCode, description: &str) -> Reply {
    let error = OAuthError::new(ErrorCode::TemporarilyUnavailable, description);
    let mut reply = error_with_status(status, &error);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// The path has other methods.
pub(crate) fn wrong_method(allowed: &'static str) -> Reply {
    let mut reply = refuse(status::WRONG_METHOD, &format!("this path answers {allowed} only"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

/// The same path under the issuer's name.
pub(crate) fn redirect(location: &str) -> Reply {
    let mut reply = body(status::OTHER_NAME, "text/plain; charset=utf-8", "");
    match HeaderValue::from_str(location) {
        Ok(location) => {
            reply.headers_mut().insert(LOCATION, location);
            reply
        }
        Err(_) => refuse(status::MISDIRECTED, "this path cannot be redirected"),
    }
}

/// Our own fault: the log says more, the caller learns where to look.
pub(crate) fn failed(request_id: &str) -> Reply {
    oauth_error(&OAuthError::new(
        ErrorCode::ServerError,
        format!("the server failed; its log says why under request id {request_id}"),
    ))
}
