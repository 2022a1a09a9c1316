//! Bulk and small requests over the tailnet, for measurements: `tailnet-node` and hyper, nothing between.
//!
//! `GET /hello` answers a few bytes, `GET /stream?n=BYTES` that many, `PUT /upload` takes what comes and counts it.
//! The flags are those of `countersign serve`; see `just bench` for what is measured.

mod zeros;

use std::convert::Infallible;

use bytes::Bytes;
use clap::Parser;
use countersign_example_join::{Error, JoinArgs};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tailnet_node::Conn;

use self::zeros::Zeros;

type Body = Either<Full<Bytes>, Zeros>;

/// A plain http server on the tailnet for measurements.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    join: JoinArgs,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    Args::parse().join.serve(|_| serve).await
}

async fn serve(connection: Conn) {
    let (stream, _caller) = connection.into_parts();
    let answered = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
    if let Err(error) = answered {
        tracing::debug!(%error, "connection");
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/hello") => text(StatusCode::OK, "hello\n"),
        (&Method::GET, "/stream") => match request.uri().query().and_then(wanted) {
            Some(length) => Response::new(Either::Right(Zeros::new(length))),
            None => text(StatusCode::BAD_REQUEST, "say how much: /stream?n=BYTES\n"),
        },
        (&Method::PUT, "/upload") => match count(request.into_body()).await {
            Ok(length) => text(StatusCode::OK, format!("{length}\n")),
            Err(_) => text(StatusCode::BAD_REQUEST, "the upload broke off\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "GET /hello, GET /stream?n=BYTES or PUT /upload\n",
        ),
    })
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(text.into())));
    *response.status_mut() = status;
    response
}

fn wanted(query: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix("n="))?.parse().ok()
}

async fn count(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
