//! What ends besides grants and codes of people, and with which ground.

use countersign_oauth::{opaque::OpaqueToken, remembered::Remembered, session::Session};

use super::*;

/// A click that is to be remembered, on the page at `path`.
async fn remember(client: &mut Client, path: &str) {
    let page = client.get(path).await;
    let ticket = flow::field(&page.text, "name=\"ticket\" value=\"", '"');
    let cookie = page.header("set-cookie").split(';').next().unwrap();
    let pairs = [("ticket", ticket), ("choice", "allow"), ("remember", "yes")];
    let headers = [FORM, OURS[0], ("cookie", cookie)];
    let answer = client
        .send(Method::POST, "/authorize/consent", &headers, form(&pairs))
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
}

#[tokio::test]
async fn a_client_that_is_no_longer_published_is_lost_to_everybody_but_its_owner() {
    let rig = Rig::start(config()).await;
    let publishing = r#"{"countersign":{"publish_clients":true}}"#;
    let alice_node = Node::user(1, "alice", &[ALL, publishing]);
    let (mut alice, mut bob) = (rig.client(&alice_node).await, rig.client(&bob()).await);
    let id = registered(&mut alice).await;
    let (hers, his) = (given(&mut alice, &id).await, given(&mut bob, &id).await);
    alice_node.facts.lock().policy = Policy::parse([ALL]);
    rig.nodes.announce();
    becomes(&rig, (1, 1)).await;
    alice_node.facts.lock().policy = Policy::parse([ALL, publishing]);
    rig.nodes.announce();
    his.is_over(&mut bob).await;
    hers.is_good(&mut alice).await;
}

#[tokio::test]
async fn a_grant_ends_with_the_node_that_redeemed_it() {
    let rig = Rig::start(config()).await;
    let alice_node = alice();
    let mut alice = rig.client(&alice_node).await;
    let server_node = Node::user(7, "app", &[]);
    let mut server = rig.client(&server_node).await;
    let made = alice
        .register(&json!({
            "redirect_uris": ["http://localhost/callback"], "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "client_secret_post",
        }))
        .await;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let code = code(&mut alice, &id, &TO_MCP).await;
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", &id),
        ("client_secret", &secret),
        ("code", &code),
        ("code_verifier", flow::VERIFIER),
    ]);
    let answer = server.send(Method::POST, "/token", &[FORM], body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(open(&rig).await, (1, 0));
    rig.nodes.remove(&server_node);
    alice_node.facts.lock().policy = Policy::default();
    rig.nodes.announce();
    becomes(&rig, (0, 0)).await;
    counted(&rig, 1).await;
    let ended = audit(&rig).await;
    let ended = ended.iter().filter(|line| line["event"] == "grant_ended");
    assert_eq!(ended.count(), 1, "though two nodes that it rests on changed");
}

#[tokio::test]
async fn sessions_and_remembered_consents_end_with_their_ground() {
    let rig = Rig::start(config()).await;
    let publishing = r#"{"countersign":{"publish_clients":true}}"#;
    let app_node = Node::user(7, "app", &[ALL, publishing]);
    let (bob_node, mut app) = (bob(), rig.client(&app_node).await);
    let made = app
        .register(&json!({
            "redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        }))
        .await;
    let id = text(&made, "client_id");
    let mut bob = rig.client(&bob_node).await;
    let path = flow::authorize_path(&id, &TO_MCP).replace(
        "http%3A%2F%2Flocalhost%3A5000%2Fcallback",
        "https%3A%2F%2Fapp.example%2Fcb",
    );
    let kept = async || {
        (
            stored::<Session>(&rig).await.len(),
            stored::<Remembered>(&rig).await.len(),
        )
    };

    remember(&mut bob, &path).await;
    assert_eq!(kept().await, (1, 1));
    app_node.facts.lock().policy = Policy::parse([ALL]);
    rig.nodes.announce();
    becomes(&rig, (0, 0)).await;
    counted(&rig, 2).await;
    assert_eq!(kept().await, (1, 0), "the client is not his, the session is");

    app_node.facts.lock().policy = Policy::parse([ALL, publishing]);
    rig.nodes.announce();
    remember(&mut bob, &path).await;
    let reading = r#"{"countersign":{"users":["*"],"resources":["*"],"scopes":["read"]}}"#;
    bob_node.facts.lock().policy = Policy::parse([reading]);
    rig.nodes.announce();
    counted(&rig, 4).await;
    assert_eq!(kept().await.1, 0, "it stands for exactly what was shown");

    rig.nodes.remove(&bob_node);
    rig.nodes.announce();
    becomes(&rig, (0, 0)).await;
    let begun = Instant::now();
    while kept().await != (0, 0) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let audit = audit(&rig).await;
    for event in ["session_ended", "remembered_consent_ended"] {
        assert!(
            audit.iter().any(|line| line["event"] == event && line["user"] == "bob"),
            "{event}"
        );
    }
}

#[tokio::test]
async fn a_machines_opaque_token_ends_with_what_its_owner_may_have() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let made = alice
        .register(&json!({
            "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post",
            "access_token_strategy": "opaque",
        }))
        .await;
    let body = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", &text(&made, "client_id")),
        ("client_secret", &text(&made, "client_secret")),
        ("resource", RESOURCE),
    ]);
    let mut server = rig.client(&Node::user(8, "app", &[])).await;
    for _ in 0..2 {
        let answer = server.send(Method::POST, "/token", &[FORM], body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(stored::<OpaqueToken>(&rig).await.len(), 1);
        node.facts.lock().policy = Policy::default();
        rig.nodes.announce();
        let begun = Instant::now();
        while !stored::<OpaqueToken>(&rig).await.is_empty() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.facts.lock().policy = Policy::parse([ALL]);
    }
    let audit = audit(&rig).await;
    let ended = audit.iter().filter(|line| line["event"] == "opaque_token_ended");
    assert_eq!(ended.count(), 2);
}
