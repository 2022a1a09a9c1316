use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll},
};

use hyper::body::{Body, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[tokio::test]
async fn a_withdrawn_node_gets_no_answer_and_its_connection_ends() {
    let rig = Rig::start(config()).await;
    let alice = Node::alice();
    let mut idle = rig.connect(&alice).await;
    let mut client = rig.client(&alice).await;
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    alice.withdraw();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(1), idle.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty());
    let request = Request::get("/").header("host", HOST).body(Full::default()).unwrap();
    assert!(client.try_send(request).await.is_err());
    assert_eq!(rig.counters().connections_withdrawn, 2);
}

#[tokio::test]
async fn one_node_cannot_take_all_connections() {
    let mut small = config();
    small.limits.connections_per_peer = 2;
    let rig = Rig::start(small).await;
    let (alice, bob) = (Node::alice(), Node::bob());
    let _held = [rig.connect(&alice).await, rig.connect(&alice).await];
    let mut third = rig.connect(&alice).await;
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(rig.client(&bob).await.get("/").await.status, StatusCode::OK);
    assert_eq!(rig.counters().connections_refused, 1);
}

#[tokio::test]
async fn a_node_that_asks_too_often_is_told_to_wait() {
    let mut slow = config();
    slow.rate_limit_per_peer = 1;
    let rig = Rig::start(slow).await;
    let mut alice = rig.client(&Node::alice()).await;
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    let limited = alice.get("/").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.header("retry-after"), "1");
    assert_eq!(rig.counters().requests_limited, 1);
}

#[tokio::test]
async fn all_nodes_together_are_told_to_wait() {
    let mut slow = config();
    slow.rate_limit = 1;
    let rig = Rig::start(slow).await;
    let (mut alice, mut bob) = (rig.client(&Node::alice()).await, rig.client(&Node::bob()).await);
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    let full = alice.get("/").await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(full.header("retry-after"), "1");
    assert_eq!(rig.counters().requests_limited, 1);
}

#[tokio::test]
async fn a_body_that_does_not_come_and_a_connection_that_does_nothing_end() {
    let mut hasty = config();
    hasty.limits.body_timeout = Duration::from_millis(80);
    hasty.limits.idle_timeout = Duration::from_millis(120);
    let rig = Rig::start(hasty).await;
    let mut slow = rig.connect(&Node::alice()).await;
    let head = format!(
        "POST /register HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"));

    let mut idle = rig.connect(&Node::alice()).await;
    let ended = tokio::time::timeout(Duration::from_secs(2), idle.read(&mut [0; 1])).await;
    assert_eq!(ended.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_ends_idle_connections() {
    let rig = Rig::start(config()).await;
    let mut client = rig.client(&Node::alice()).await;
    assert_eq!(client.get("/").await.status, StatusCode::OK);
    rig.stop.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(2), rig.task).await;
    stopped.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_store_that_writes_no_more_stops_the_server() {
    let rig = Rig::start(config()).await;
    rig.store.close().await;
    let stopped = tokio::time::timeout(Duration::from_secs(2), rig.task).await;
    let error = stopped.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, crate::ServeError::Store(_)), "{error}");
}

/// A request that has begun and goes on until this is dropped.
async fn unfinished(rig: &Rig, node: &Node) -> DuplexStream {
    let mut slow = rig.connect(node).await;
    let head = format!(
        "POST /register HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // It counts once its head has been read.
    tokio::time::sleep(Duration::from_millis(50)).await;
    slow
}

#[tokio::test]
async fn requests_in_progress_are_limited_for_one_node_and_for_all() {
    let mut small = config();
    small.limits.requests_per_peer = 1;
    small.limits.requests = 2;
    let rig = Rig::start(small).await;
    let (alice, bob) = (Node::alice(), Node::user(2, "bob", &[r#"{"allow_dcr":true}"#]));
    let _first = unfinished(&rig, &alice).await;
    let limited = rig.client(&alice).await.get("/").await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.header("retry-after"), "1");
    assert_eq!(rig.client(&bob).await.get("/").await.status, StatusCode::OK);
    let _second = unfinished(&rig, &bob).await;
    let full = rig.client(&Node::user(3, "carol", &[])).await.get("/").await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        full.header("content-type"),
        "text/html; charset=utf-8",
        "a browser shows it"
    );
    assert_eq!(rig.counters().requests_limited, 2);
}

#[tokio::test]
async fn all_connections_together_are_limited() {
    let mut small = config();
    small.limits.connections = 2;
    let rig = Rig::start(small).await;
    let _held = [rig.connect(&Node::alice()).await, rig.connect(&Node::bob()).await];
    let mut third = rig.connect(&Node::user(3, "carol", &[])).await;
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(rig.counters().connections_refused, 1);
}

#[tokio::test]
async fn headers_and_addresses_that_are_too_long_or_too_many_are_refused() {
    let rig = Rig::start(config()).await;
    let long = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{}\r\n", "x: y\r\n".repeat(200));
    let address = format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "x".repeat(70_000));
    for request in [long, many, address] {
        let (mut reading, mut writing) = tokio::io::split(rig.connect(&Node::alice()).await);
        let sent = tokio::spawn(async move { writing.write_all(request.as_bytes()).await.map(|()| writing) });
        let mut answer = Vec::new();
        let _ = reading.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"),
            "{answer}"
        );
        let _ = sent.await;
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends() {
    let mut hasty = tls::https();
    hasty.limits.handshake_timeout = Duration::from_millis(80);
    let rig = Rig::start(hasty).await;
    let mut silent = rig.connect(&Node::alice()).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut [0; 1])).await;
    assert_eq!(ended.unwrap().unwrap_or(0), 0);
    assert_eq!(rig.counters().handshakes_failed, 1);
}

/// A body that comes in these pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn a_body_in_many_small_pieces_is_read_up_to_its_limit() {
    let rig = Rig::start(config()).await;
    for (length, expected) in [(3000, StatusCode::CREATED), (70_000, StatusCode::PAYLOAD_TOO_LARGE)] {
        let io = TokioIo::new(rig.connect(&Node::alice()).await);
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let text = format!("{}{}", public_client(), " ".repeat(length));
        let pieces = text.into_bytes().into_iter().map(|byte| Bytes::from(vec![byte]));
        let request = Request::post("/register")
            .header("host", HOST)
            .header("content-type", "application/json")
            .body(Pieces(pieces.collect()));
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected);
    }
}
