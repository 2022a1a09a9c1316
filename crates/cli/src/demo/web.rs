//! The HTTP side of the demo's two small servers, the protected echo and the application on loopback.

use std::{convert::Infallible, future::Future};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use maud::Markup;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a handler gives back.
pub(super) type Reply = Response<Full<Bytes>>;

/// Answers the requests of one connection until its other end has no more.
pub(super) async fn serve<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Reply>,
{
    let service = service_fn(|request| {
        let reply = handler(request);
        async { Ok::<_, Infallible>(reply.await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new());
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the demo ended");
    }
}

/// A JSON object.
pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
    reply(status, "application/json", body.to_string())
}

/// A page for people.
pub(super) fn page(status: StatusCode, markup: Markup) -> Reply {
    reply(status, "text/html; charset=utf-8", markup.into_string())
}

/// The way to another page.
pub(super) fn see_other(location: &str) -> Reply {
    let mut reply = reply(StatusCode::SEE_OTHER, "text/plain", String::new());
    if let Ok(location) = HeaderValue::from_str(location) {
        reply.headers_mut().insert(hyper::header::LOCATION, location);
    }
    reply
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
