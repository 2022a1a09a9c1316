//! Request bodies: bounded in length and time.

use std::time::Duration;

use bytes::Bytes;
use countersign_oauth::params::Params;
use http::{HeaderMap, Method, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::{
    config::Limits,
    reply::{self, Reply},
    status,
};

/// Reads all of `body`, or says why not.
pub(crate) async fn read(body: Incoming, limits: &Limits) -> Result<Bytes, Reply> {
    let too_long = || {
        let most = limits.body >> 10;
        reply::refuse(status::TOO_LONG, &format!("the body is longer than {most} KiB"))
    };
    // What announces itself as too long is refused before it is sent.
    if usize::try_from(body.size_hint().lower()).map_or(true, |least| least > limits.body) {
        return Err(too_long());
    }
    match within(limits.body_timeout, Limited::new(body, limits.body).collect()).await {
        None => Err(reply::refuse(status::TOO_SLOW, "the body did not arrive in time")),
        Some(Ok(collected)) => Ok(collected.to_bytes()),
        Some(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Some(Err(_)) => Err(reply::refuse(status::BROKEN, "the body ended before it was complete")),
    }
}

/// Reads all of a form.
pub(crate) async fn form(headers: &HeaderMap, body: Incoming, limits: &Limits) -> Result<Params, Reply> {
    if !is(headers, "application/x-www-form-urlencoded") {
        return Err(reply::refuse(
            status::WRONG_TYPE,
            "Content-Type must be application/x-www-form-urlencoded",
        ));
    }
    Ok(Params::parse(&read(body, limits).await?))
}

/// The query of a request, and the form of a `POST` beside it: the same thing said in both is then said twice.
pub(crate) async fn query_and_form(parts: &Parts, body: Incoming, limits: &Limits) -> Result<Params, Reply> {
    let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
    if parts.method != Method::POST {
        return Ok(query);
    }
    Ok(query.and(form(&parts.headers, body, limits).await?))
}

/// Whether the body says it is of this media type.
pub(crate) fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(media_type)
}

async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}
