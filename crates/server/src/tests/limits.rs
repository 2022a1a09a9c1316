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
