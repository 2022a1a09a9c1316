//! Consent, codes and tokens across nodes of several users.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use countersign_flow_tests::{Answer, Client, PATIENCE, Stage, policy};
use countersign_oauth::register::Mode;
use http::StatusCode;
use serde_json::json;

const ALL: &str = r#"[{"allow_dcr": true, "users": ["*"], "resources": ["*"]}]"#;
const NO_RESOURCE: &str = r#"[{"allow_dcr": true}]"#;
const RESOURCE: &str = "https://mcp.example.com/mcp";
const REDIRECT: &str = "http://localhost:5000/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn between<'a>(text: &'a str, before: &str, after: char) -> &'a str {
    text.split(before).nth(1).unwrap().split(after).next().unwrap()
}

async fn registered(client: &mut Client) -> String {
    let metadata = json!({
        "redirect_uris": ["http://localhost/callback"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    client.register(&metadata).await.field("client_id")
}

/// Authorizes as the user of `client` and returns the code.
async fn code(client: &mut Client, id: &str) -> String {
    let form = [
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", REDIRECT),
        ("resource", RESOURCE),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let page = client
        .post("/authorize", &form, &[("sec-fetch-dest", "document")])
        .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let ticket = between(&page.text, "name=\"ticket\" value=\"", '"');
    let cookie = page.header("set-cookie").split(';').next().unwrap();
    assert!(cookie.starts_with("__Host-consent-") && page.header("set-cookie").contains("Secure"));
    let ours = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let answer = client
        .post("/authorize/consent", &[("ticket", ticket), ("choice", "allow")], &ours)
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    between(answer.header("location"), "code=", '&').to_owned()
}

async fn redeem(client: &mut Client, id: &str, code: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    client.post("/token", &form, &[]).await
}

async fn refresh(client: &mut Client, id: &str, token: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", id),
        ("refresh_token", token),
    ];
    client.post("/token", &form, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alices_tokens_are_hers_on_her_nodes_and_nobody_elses() {
    let stage = Stage::start(&policy(ALL, ALL), Mode::Capability).await;
    let (alice, bob) = (
        stage.join("alice", "alice@example.com").await,
        stage.join("bob", "bob@example.com").await,
    );
    let (mut alice, mut bob) = (stage.client(&alice).await, stage.client(&bob).await);
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id).await;
    assert_eq!(redeem(&mut bob, &id, &code).await.field("error"), "invalid_grant");
    let tokens = redeem(&mut alice, &id, &code).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
    let first = tokens.field("refresh_token");
    assert_eq!(refresh(&mut bob, &id, &first).await.field("error"), "invalid_grant");
    let second = refresh(&mut alice, &id, &first).await.field("refresh_token");
    assert_eq!(
        refresh(&mut bob, &id, &first).await.field("error"),
        "invalid_grant",
        "spent, and from elsewhere"
    );
    assert_eq!(
        refresh(&mut alice, &id, &second).await.field("error"),
        "invalid_grant",
        "so the family has ended"
    );
    let audit = stage.store().audit(None, 100).await.unwrap();
    let refused = audit
        .iter()
        .filter(|(_, line)| line.contains("token_refused") && line.contains("bob@example.com"));
    assert_eq!(refused.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_on_a_withdrawn_rule_ends_within_a_second_and_does_not_come_back_with_it() {
    let stage = Stage::start(&policy(ALL, ALL), Mode::Capability).await;
    let (alice, bob) = (
        stage.join("alice", "alice@example.com").await,
        stage.join("bob", "bob@example.com").await,
    );
    let (mut alice, mut bob) = (stage.client(&alice).await, stage.client(&bob).await);
    let mut tokens = Vec::new();
    for client in [&mut alice, &mut bob] {
        let id = registered(client).await;
        let code = code(client, &id).await;
        let token = redeem(client, &id, &code).await.field("refresh_token");
        tokens.push((id, token));
    }
    let mut changes = stage.server_node().netmap_changes();
    changes.mark_unchanged();
    stage.tailnet.set_policy(&policy(NO_RESOURCE, ALL)).unwrap();
    tokio::time::timeout(PATIENCE, changes.changed())
        .await
        .unwrap()
        .unwrap();
    let begun = Instant::now();
    let ended = |line: &str| line.contains("grant_ended") && line.contains("alice@example.com");
    loop {
        let audit = stage.store().audit(None, 100).await.unwrap();
        if let Some((_, line)) = audit.iter().find(|(_, line)| ended(line)) {
            assert!(line.contains("no rule of the tailnet policy"), "{line}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{audit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("ended {} ms after the map message", begun.elapsed().as_millis());
    changes.mark_unchanged();
    stage.tailnet.set_policy(&policy(ALL, ALL)).unwrap();
    tokio::time::timeout(PATIENCE, changes.changed())
        .await
        .unwrap()
        .unwrap();
    let answer = refresh(&mut alice, &tokens[0].0, &tokens[0].1).await;
    assert_eq!(answer.field("error"), "invalid_grant");
    let answer = refresh(&mut bob, &tokens[1].0, &tokens[1].1).await;
    assert_eq!(answer.status, StatusCode::OK, "bob lost nothing: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alice_granted_on_one_node_she_takes_back_on_another() {
    let stage = Stage::start(&policy(ALL, ALL), Mode::Capability).await;
    let laptop = stage.join("laptop", "alice@example.com").await;
    let phone = stage.join("phone", "alice@example.com").await;
    let bob = stage.join("bob", "bob@example.com").await;
    let (mut laptop, mut phone) = (stage.client(&laptop).await, stage.client(&phone).await);
    let mut bob = stage.client(&bob).await;
    let id = registered(&mut laptop).await;
    let code = code(&mut laptop, &id).await;
    let token = redeem(&mut laptop, &id, &code).await.field("refresh_token");
    let grant = "name=\"end\" value=\"grant\"";
    assert!(!bob.get("/me").await.text.contains(grant));

    let page = phone.get("/me").await;
    let button = page.text.split("<form ").find(|form| form.contains(grant)).unwrap();
    let field = |name: &str| between(button, &format!("name=\"{name}\" value=\""), '"');
    let cookie = page.header("set-cookie").split(';').next().unwrap();
    let ours = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let form = [("ticket", field("ticket")), ("end", "grant"), ("name", field("name"))];
    assert_eq!(phone.post("/me", &form, &ours).await.status, StatusCode::SEE_OTHER);
    assert!(!phone.get("/me").await.text.contains(grant));
    assert_eq!(refresh(&mut laptop, &id, &token).await.field("error"), "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_network_mode_alice_gets_a_token_for_a_resource() {
    let stage = Stage::start(&policy("[]", "[]"), Mode::Network).await;
    let node = stage.join("alice", "alice@example.com").await;
    let mut alice = stage.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id).await;
    assert_eq!(redeem(&mut alice, &id, &code).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_no_longer_reach_the_server_has_nothing_left_though_the_node_stays_a_peer() {
    let before = policy("[]", "[]");
    let stage = Stage::start(&before, Mode::Network).await;
    let node = stage.join("alice", "alice@example.com").await;
    let mut alice = stage.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id).await;
    assert_eq!(redeem(&mut alice, &id, &code).await.status, StatusCode::OK);
    let elsewhere = before.replace("tcp:443", "tcp:8443");
    stage.tailnet.set_policy(&elsewhere).unwrap();
    let begun = Instant::now();
    loop {
        let audit = stage.store().audit(None, 100).await.unwrap();
        if let Some((_, line)) = audit.iter().find(|(_, line)| line.contains("grant_ended")) {
            assert!(line.contains("no longer lets the subject's node reach"), "{line}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{audit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let peers = stage.server_node().status().peers;
    assert!(peers.iter().any(|peer| peer.name.starts_with("alice")), "{peers:?}");
}
