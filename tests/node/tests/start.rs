//! What keeps a node from starting, and what it says then.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::time::{Duration, Instant};

use countersign_node_tests::fleet::{ALICE, BOB, Fleet, PATIENCE, SERVER};
use tailnet_node::{Node, NodeConfig};
use tailnet_testkit::{AuthKeySpec, TailnetConfig};
use tokio::time::timeout;

/// The one line that a node says when it does not start.
async fn refusal(config: NodeConfig) -> String {
    match timeout(PATIENCE, Node::start(config)).await {
        Ok(Ok(_)) => panic!("the node started"),
        Ok(Err(error)) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            assert!(!text.contains('\n'), "one line: {text}");
            println!("{text}");
            text
        }
        Err(_) => panic!("the node neither started nor gave up"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pre_auth_keys_that_are_not_good() {
    let fleet = Fleet::start().await;
    let config = fleet
        .tailnet
        .node_config(fleet.folder("wrong"), "wrong", Some("hskey-auth-no-such"))
        .unwrap();
    assert!(refusal(config).await.contains("invalid pre auth key"));
    let old = AuthKeySpec::user(ALICE).valid_for(-time::Duration::SECOND);
    assert!(refusal(fleet.config("old", old)).await.contains("authkey expired"));

    let key = fleet.tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
    let config = |name: &str| fleet.tailnet.node_config(fleet.folder(name), name, Some(&key)).unwrap();
    let _first = Node::start(config("first")).await.unwrap();
    assert!(refusal(config("second")).await.contains("authkey already used"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_are_not_granted() {
    let fleet = Fleet::start().await;
    let mut config = fleet.config("bob", AuthKeySpec::user(BOB));
    config.tags = vec![SERVER.to_owned()];
    assert!(refusal(config).await.contains(SERVER));
    let mut config = fleet.config("other", AuthKeySpec::tags(&["tag:client"]));
    config.tags = vec![SERVER.to_owned()];
    assert!(refusal(config).await.contains(SERVER));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_too_new_or_too_locked() {
    let fleet = Fleet::with(TailnetConfig {
        min_version: 10_000,
        ..TailnetConfig::default()
    })
    .await;
    let mut config = fleet.config("alice", AuthKeySpec::user(ALICE));
    config.join_timeout = Duration::from_secs(2);
    let text = refusal(config).await;
    assert!(text.contains("version"), "{text}");
    let fleet = Fleet::with(TailnetConfig {
        locked: true,
        ..TailnetConfig::default()
    })
    .await;
    let text = refusal(fleet.config("alice", AuthKeySpec::user(ALICE))).await;
    assert!(text.contains("lock"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_not_trusted() {
    let fleet = Fleet::start().await;
    let mut config = fleet.config("alice", AuthKeySpec::user(ALICE));
    config.extra_roots.clear();
    config.join_timeout = Duration::from_secs(2);
    let text = refusal(config).await;
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_in_use() {
    let fleet = Fleet::start().await;
    let alice = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
    let text = refusal(fleet.config("alice", AuthKeySpec::user(ALICE))).await;
    assert!(text.contains(&fleet.folder("alice").display().to_string()), "{text}");
    alice.shutdown(PATIENCE).await;
    let id = fleet.info("alice").id;
    let _again = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
    assert_eq!(fleet.info("alice").id, id, "the same node comes back");
    assert_eq!(fleet.tailnet.nodes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_that_comes_late_is_waited_for() {
    let fleet = Fleet::start().await;
    fleet.tailnet.refuse_requests(Some(503));
    let config = fleet.config("alice", AuthKeySpec::user(ALICE));
    let start = tokio::spawn(Node::start(config));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!start.is_finished(), "a server error is no refusal");
    fleet.tailnet.refuse_requests(None);
    timeout(PATIENCE, start).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_is_bounded_and_leaves_the_tailnet() {
    let fleet = Fleet::start().await;
    let (server, alice) = fleet.pair().await;
    let mut listener = server.listen(443).unwrap();
    let _stream = alice.dial("server:443").await.unwrap();
    let start = Instant::now();
    server.shutdown(Duration::from_secs(2)).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // What was waiting may still be taken; then the listener is at its end.
    timeout(PATIENCE, async { while listener.accept().await.is_ok() {} })
        .await
        .unwrap();
    timeout(PATIENCE, async {
        while fleet.info("server").online {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}
