//! What tokens and userinfo say about alice, as settings, policy and client have it.

use super::*;

const RULES: &str = r#"{"allow_dcr":true,"users":["*"],"resources":["*"]}"#;
const DAY: i64 = 86_400;

fn alice(login: &str, more: &[&str]) -> Node {
    let rules: Vec<&str> = std::iter::once(RULES).chain(more.iter().copied()).collect();
    Node::user(1, login, &rules)
}

fn mailing() -> ServerConfig {
    ServerConfig {
        claims: ClaimSettings {
            email_domain: Some("corp.example".into()),
            verified_email_domains: vec!["corp.example".into()],
        },
        ..config()
    }
}

/// The answer of the token endpoint to a login that asks for `scope`, and what userinfo says then.
async fn login(client: &mut Client, id: &str, scope: &str) -> (Answer, Value) {
    let code = flow::code(client, id, &[("scope", scope)]).await;
    let answer = flow::redeem(client, id, &code).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let bearer = format!("Bearer {}", flow::text(&answer, "access_token"));
    let info = client
        .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
        .await;
    (answer, info.json())
}

fn id_token(answer: &Answer) -> Value {
    flow::claims(&flow::text(answer, "id_token"))
}

#[tokio::test]
async fn an_address_is_said_as_the_configuration_vouches_for_it() {
    for (config, login_name, email, verified) in [
        (mailing(), "alice", json!("alice@corp.example"), json!(true)),
        (mailing(), "alice@example.com", json!("alice@example.com"), json!(false)),
        (
            mailing(),
            "alice@github",
            json!("alice@github.idp.example.ts.net"),
            json!(false),
        ),
        (config(), "alice", Value::Null, Value::Null),
    ] {
        let rig = Rig::start(config).await;
        let mut client = rig.client(&alice(login_name, &[])).await;
        let id = flow::registered(&mut client).await;
        let (answer, info) = login(&mut client, &id, "openid email").await;
        let token = id_token(&answer);
        assert_eq!(
            (&token["email"], &token["email_verified"]),
            (&email, &verified),
            "{login_name}"
        );
        assert_eq!(
            (&info["email"], &info["email_verified"]),
            (&email, &verified),
            "{login_name}"
        );
    }
}

#[tokio::test]
async fn groups_come_from_the_policy_and_follow_it_at_the_next_refresh() {
    let rig = Rig::start(config()).await;
    let node = alice(
        "alice",
        &[
            r#"{"extraClaims":{"groups":["eng"],"level":3}}"#,
            r#"{"extraClaims":{"groups":["ops"]},"includeInUserInfo":true}"#,
        ],
    );
    let mut client = rig.client(&node).await;
    let id = flow::registered(&mut client).await;
    let (answer, info) = login(&mut client, &id, "openid").await;
    let token = id_token(&answer);
    assert_eq!((&token["groups"], &token["level"]), (&json!(["eng", "ops"]), &json!(3)));
    assert_eq!(info, json!({"sub": "userid:1", "groups": ["ops"]}));
    node.facts.lock().policy = Policy::parse([RULES, r#"{"extraClaims":{"groups":["ops"]}}"#]);
    let again = flow::refresh(&mut client, &id, &flow::text(&answer, "refresh_token")).await;
    assert_eq!(id_token(&again)["groups"], json!(["ops"]));
}

#[tokio::test]
async fn a_rule_that_sets_a_claim_of_ours_is_named_to_whom_it_was_granted() {
    let rig = Rig::start(config()).await;
    let node = alice("alice", &[]);
    let mut client = rig.client(&node).await;
    let id = flow::registered(&mut client).await;
    let (answer, _) = login(&mut client, &id, "openid").await;
    node.facts.lock().policy = Policy::parse([RULES, r#"{"extraClaims":{"Email":"root@corp.example"}}"#]);
    let refused = flow::refresh(&mut client, &id, &flow::text(&answer, "refresh_token")).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    let why = flow::text(&refused, "error_description");
    assert!(why.contains("rule 2") && why.contains("extraClaims.Email"), "{why}");
    let refused = client.register(&public_client()).await;
    assert!(refused.text.contains("extraClaims.Email"), "{}", refused.text);
}

#[tokio::test]
async fn tsidps_claims_come_by_scope_or_by_an_administrators_word_and_the_page_says_so() {
    let rig = Rig::start(config()).await;
    let node = alice("alice", &[]);
    let mut client = rig.client(&node).await;
    let id = flow::registered(&mut client).await;
    let (answer, _) = login(&mut client, &id, "openid").await;
    assert!(id_token(&answer).get("node").is_none());
    let (answer, info) = login(&mut client, &id, "openid tailnet").await;
    assert_eq!(id_token(&answer)["node"], "alice-laptop.example.ts.net");
    assert_eq!(info["uid"], 1);

    let mut body = public_client();
    body["tsidp_claims"] = json!(true);
    let refused = client.register(&body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text.contains("allow_admin_ui"), "{}", refused.text);
    node.facts.lock().policy = Policy::parse([RULES, r#"{"allow_admin_ui":true}"#]);
    let made = client.register(&body).await;
    assert_eq!(
        (made.status, &made.json()["tsidp_claims"]),
        (StatusCode::CREATED, &json!(true))
    );
    let id = flow::text(&made, "client_id");
    let page = flow::page(&mut client, &id, &[("scope", "openid")]).await;
    assert!(
        page.html.contains("see your node, its key and its addresses"),
        "{}",
        page.html
    );
    let (answer, info) = login(&mut client, &id, "openid").await;
    assert_eq!(id_token(&answer)["key"], "nodekey:alice");
    assert_eq!(info, json!({"sub": "userid:1", "username": "alice"}));
}

#[tokio::test]
async fn lifetimes_are_those_of_the_configuration() {
    let rig = Rig::start(ServerConfig {
        tokens: TokenSettings {
            access_token_lifetime: Duration::from_secs(60),
            grant_lifetime: Duration::from_secs(DAY as u64),
            refresh_grace: Duration::ZERO,
            ..TokenSettings::default()
        },
        ..config()
    })
    .await;
    let mut client = rig.client(&alice("alice", &[])).await;
    let id = flow::registered(&mut client).await;
    let (answer, _) = login(&mut client, &id, "openid").await;
    assert_eq!(answer.json()["expires_in"], 60);
    let token = id_token(&answer);
    assert_eq!(token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap(), 60);
    let bearer = format!("Bearer {}", flow::text(&answer, "access_token"));
    rig.seconds.fetch_add(60, Relaxed);
    let late = client
        .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);

    let first = flow::text(&answer, "refresh_token");
    let second = flow::text(&flow::refresh(&mut client, &id, &first).await, "refresh_token");
    rig.seconds.fetch_add(DAY, Relaxed);
    let ended = flow::refresh(&mut client, &id, &second).await;
    assert_eq!(ended.json()["error"], "invalid_grant");

    let (answer, _) = login(&mut client, &id, "openid").await;
    let once = flow::text(&answer, "refresh_token");
    assert_eq!(flow::refresh(&mut client, &id, &once).await.status, StatusCode::OK);
    let twice = flow::refresh(&mut client, &id, &once).await;
    assert!(twice.text.contains("used before"), "no grace: {}", twice.text);
}
