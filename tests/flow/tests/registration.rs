//! Discovery and registration by nodes that the tailnet knows, and what happens when it no longer does.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use countersign_flow_tests::{PATIENCE, Stage, policy};
use countersign_oauth::register::Mode;
use http::StatusCode;
use serde_json::{Value, json};

const ALLOWED: &str = r#"[{"allow_dcr": true}]"#;

fn metadata() -> Value {
    json!({
        "client_name": "Claude Code", "redirect_uris": ["http://localhost/callback"],
        "token_endpoint_auth_method": "none",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn alice_registers_and_bob_is_told_what_is_missing() {
    let stage = Stage::start(&policy(ALLOWED, "[]"), Mode::Capability).await;
    let (alice, bob) = (
        stage.join("alice", "alice@example.com").await,
        stage.join("bob", "bob@example.com").await,
    );
    let mut client = stage.client(&alice).await;
    let found = client.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(found["issuer"], stage.server().issuer().as_str());
    let made = client.register(&metadata()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);

    let refused = stage.client(&bob).await.register(&metadata()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(
        refused.field("error_description").contains("bob@example.com"),
        "{}",
        refused.text
    );
    assert_eq!(refused.json()["remedies"][0]["add"]["src"], json!(["bob@example.com"]));
    assert_eq!(refused.json()["remedies"][0]["add"]["dst"], json!(["tag:internal-idp"]));
    let audit = stage.store().audit(None, 100).await.unwrap();
    assert!(
        audit
            .iter()
            .any(|(_, line)| line.contains("client_registered") && line.contains("alice@example.com"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_network_mode_whoever_reaches_the_server_registers() {
    let stage = Stage::start(&policy("[]", "[]"), Mode::Network).await;
    let bob = stage.join("bob", "bob@example.com").await;
    assert_eq!(
        stage.client(&bob).await.register(&metadata()).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_edit_counts_on_connections_that_are_open() {
    let stage = Stage::start(&policy(ALLOWED, "[]"), Mode::Capability).await;
    let alice = stage.join("alice", "alice@example.com").await;
    let mut client = stage.client(&alice).await;
    assert_eq!(client.register(&metadata()).await.status, StatusCode::CREATED);

    stage.tailnet.set_policy(&policy("[]", "[]")).unwrap();
    let begun = Instant::now();
    while client.register(&metadata()).await.status != StatusCode::FORBIDDEN {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let idle = stage.client(&alice).await;
    stage
        .tailnet
        .set_policy(&policy("[]", "[]").replace("group:eng\"], \"dst", "group:sales\"], \"dst"))
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), idle.ended())
        .await
        .expect("the idle connection ended");
    assert!(
        client.try_send(http::Method::GET, "/", &[], "").await.is_none(),
        "a request on it gets no answer"
    );
    // The client may see the reset before the server's handler has noticed and counted it.
    let begun = Instant::now();
    while stage.server().counters().connections_withdrawn == 0 {
        assert!(begun.elapsed() < PATIENCE, "the withdrawal is not counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_keys_and_clients_are_the_same_after_a_restart() {
    let mut stage = Stage::start(&policy(ALLOWED, "[]"), Mode::Capability).await;
    let alice = stage.join("alice", "alice@example.com").await;
    let mut client = stage.client(&alice).await;
    let made = client.register(&metadata()).await.field("client_id");
    let keys = client.get("/.well-known/jwks.json").await.text;
    let (root, id) = (
        stage.server().root_pem().unwrap().to_owned(),
        stage.server_node().status().stable_id,
    );
    stage.restart_server().await;
    let mut client = stage.client(&alice).await;
    assert_eq!(client.get("/.well-known/jwks.json").await.text, keys);
    assert_eq!(stage.server().root_pem(), Some(root.as_str()));
    assert_eq!(stage.server_node().status().stable_id, id);
    let stored = stage
        .store()
        .reads()
        .get::<countersign_oauth::client::Client>(&made)
        .await
        .unwrap();
    assert!(stored.is_some());
}
