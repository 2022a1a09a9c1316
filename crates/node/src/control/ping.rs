//! Answers to control's pings (Go: `answerPing` in `control/controlclient/direct.go`, `ipn/ipnlocal/c2n.go`).
//!
//! A ping is control reaching into the node, so the answers are few: a HEAD request, `/echo`, and pings of peers, which
//! the owner of the [`ControlClient`](super::ControlClient) sends.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::Method;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tailnet_wire::control::{PingRequest, PingResponse};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{
    ControlError, ControlEvent, PeerPing, PeerPingKind,
    connection::Connection,
    dial::{connect, limited},
    target::Target,
};

/// Answers one ping; what goes wrong is control's loss and only logged.
pub(super) async fn answer(
    connection: Arc<Connection>,
    tls: Arc<ClientConfig>,
    owner: mpsc::Sender<ControlEvent>,
    ping: PingRequest,
) {
    let answered = match ping.types.as_str() {
        "" if ping.url_is_noise => connection.send(Method::HEAD, &ping.url, Bytes::new()).await,
        "" => head(&tls, &ping.url).await,
        // The answer may tell about this node: never outside Noise.
        "c2n" if !ping.url_is_noise => return,
        "c2n" => {
            connection
                .send(Method::POST, &ping.url, c2n(&ping.payload).into())
                .await
        }
        types => ping_peer(&connection, &owner, &ping, types).await,
    };
    if let Err(error) = answered {
        tracing::debug!(%error, types = ping.types, "ping of control not answered");
    }
}

/// The raw HTTP/1 answer to a raw HTTP/1 request.
fn c2n(request: &[u8]) -> Vec<u8> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let (status, body) = match parsed.parse(request) {
        Ok(httparse::Status::Complete(head)) => match parsed.path.map(|path| path.split('?').next().unwrap_or(path)) {
            Some("/echo") => ("200 OK", &request[head..]),
            _ => ("400 Bad Request", &b"unknown c2n path"[..]),
        },
        _ => ("400 Bad Request", &b"unreadable request"[..]),
    };
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Words that are not known are left without an answer, as Go does.
async fn ping_peer(
    connection: &Connection,
    owner: &mpsc::Sender<ControlEvent>,
    ping: &PingRequest,
    types: &str,
) -> Result<(), ControlError> {
    if !ping.url_is_noise {
        return Ok(());
    }
    for word in types.split(',') {
        let answer = match word {
            "disco" => asked(owner, ping.ip, PeerPingKind::Disco).await,
            "TSMP" => asked(owner, ping.ip, PeerPingKind::Tsmp).await,
            "ICMP" => asked(owner, ping.ip, PeerPingKind::Icmp).await,
            "peerapi" => failed("this node asks no peerAPI"),
            _ => continue,
        };
        let response = PingResponse {
            ping_type: word.into(),
            ip: ping.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            ..answer
        };
        let json = serde_json::to_vec(&response).map_err(|source| ControlError::Json { path: "ping", source })?;
        connection.send(Method::POST, &ping.url, json.into()).await?;
    }
    Ok(())
}

/// Has the owner ping a peer.
async fn asked(owner: &mpsc::Sender<ControlEvent>, address: Option<IpAddr>, kind: PeerPingKind) -> PingResponse {
    let Some(address) = address else {
        return failed("the request names no address");
    };
    let (answer, answered) = oneshot::channel();
    let order = PeerPing { address, kind, answer };
    // Without an owner the answer is dropped with the order.
    let _ = owner.send(ControlEvent::PingPeer(order)).await;
    answered
        .await
        .unwrap_or_else(|_| failed("this node is not on the tailnet"))
}

fn failed(err: &str) -> PingResponse {
    PingResponse {
        err: err.to_owned(),
        ..PingResponse::default()
    }
}

/// A HEAD request outside Noise.
async fn head(tls: &Arc<ClientConfig>, url: &str) -> Result<(), ControlError> {
    let unusable = |reason| ControlError::Url {
        url: url.into(),
        reason,
    };
    let url = Url::parse(url).map_err(|_| unusable("it is not a URL"))?;
    let mut origin = url.clone();
    origin.set_path("/");
    origin.set_query(None);
    let target = Target::new(&origin, true)?;
    limited(&target, "answering a ping", async {
        let io = connect(&target, target.key_way(), tls).await?;
        let broken = |e: hyper::Error| ControlError::Broken(e.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
            .await
            .map_err(broken)?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = http::Request::head(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(http::header::HOST, &target.authority)
            .body(Empty::<Bytes>::new())
            .map_err(|e| ControlError::Broken(e.to_string()))?;
        sender.send_request(request).await.map(drop).map_err(broken)
    })
    .await
}

#[cfg(test)]
mod tests;
