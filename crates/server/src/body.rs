//! Request bodies: bounded in length and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use countersign_oauth::params::Params;
use http::{HeaderMap, Method, header::CONTENT_TYPE, request::Parts};
use http_body_util::BodyExt as _;
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
    match within(limits.body_timeout, gathered(body, limits.body)).await {
        None => Err(reply::refuse(status::TOO_SLOW, "the body did not arrive in time")),
        Some(Ok(Some(bytes))) => Ok(bytes),
        Some(Ok(None)) => Err(too_long()),
        Some(Err(_)) => Err(reply::refuse(status::BROKEN, "the body ended before it was complete")),
    }
}

/// All of a body in one piece; `None` when there are more than `most` bytes. Copied, because a piece of one byte may hold
/// on to a whole buffer, and a list of such pieces takes many times what they say.
async fn gathered(mut body: Incoming, most: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > most - bytes.len() {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
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
