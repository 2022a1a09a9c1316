//! Opaque access tokens and default resources, which clients choose at registration.

use countersign_oauth::opaque::{MAX_PER_CLIENT, OpaqueToken};
use countersign_store::Txn;

use super::{
    flow::{ALL, FORM, RESOURCE, alice, claims, code, form, page, redeem, refresh, text},
    *,
};

async fn registered(client: &mut Client, extra: &Value) -> String {
    let mut body = public_client();
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let made = client.register(&body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    text(&made, "client_id")
}

async fn mcp_server(rig: &Rig) -> Client {
    let node = Node::user(9, "mcp", &[]);
    node.facts.lock().node_name = "mcp.example.ts.net".into();
    rig.client(&node).await
}

async fn introspect(server: &mut Client, token: &str) -> Value {
    let ask = form(&[("token", token)]);
    server.send(Method::POST, "/introspect", &[FORM], ask).await.json()
}

fn opaque() -> Value {
    json!({"access_token_strategy": "opaque"})
}

#[tokio::test]
async fn an_opaque_token_is_explained_to_its_server_and_dies_in_five_minutes() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice, &opaque()).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE), ("scope", "mcp")]).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    let access = text(&tokens, "access_token");
    assert_eq!(access.len(), 43, "256 bits that say nothing: {access}");
    let stored = rig.store.scan::<OpaqueToken>(b"", None, 10).await.unwrap().records;
    assert!(
        !serde_json::to_string(&stored).unwrap().contains(&access),
        "only a hash is kept"
    );

    let mut server = mcp_server(&rig).await;
    let told = introspect(&mut server, &access).await;
    assert_eq!(
        (&told["active"], &told["aud"], &told["scope"]),
        (&json!(true), &json!(RESOURCE), &json!("mcp"))
    );
    assert_eq!(introspect(&mut alice, &access).await, json!({"active": false}));
    rig.seconds.fetch_add(300, Relaxed);
    assert_eq!(introspect(&mut server, &access).await, json!({"active": false}));
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    assert!(
        rig.store
            .scan::<OpaqueToken>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    let next = refresh(&mut alice, &id, &text(&tokens, "refresh_token")).await;
    assert_eq!(
        introspect(&mut server, &text(&next, "access_token")).await["active"],
        json!(true)
    );
}

#[tokio::test]
async fn an_opaque_token_opens_userinfo_and_ends_with_its_grant() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice, &opaque()).await;
    let code = code(&mut alice, &id, &[("scope", "openid profile")]).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    let at_hash = &claims(&text(&tokens, "id_token"))["at_hash"];
    assert!(at_hash.is_string(), "{at_hash}");
    let access = text(&tokens, "access_token");
    let bearer = format!("Bearer {access}");
    let info = alice
        .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(info.json()["sub"], "userid:1", "{}", info.text);
    let end = form(&[("client_id", &id), ("token", &text(&tokens, "refresh_token"))]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], end).await.status,
        StatusCode::OK
    );
    let info = alice
        .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(info.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn revoking_an_opaque_token_is_for_its_client_and_ends_the_grant() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice, &opaque()).await;
    let other = registered(&mut alice, &opaque()).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    let access = text(&tokens, "access_token");
    let mut server = mcp_server(&rig).await;
    let foreign = form(&[("client_id", &other), ("token", &access)]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], foreign).await.status,
        StatusCode::OK
    );
    assert_eq!(
        introspect(&mut server, &access).await["active"],
        json!(true),
        "another client ends nothing"
    );
    let own = form(&[("client_id", &id), ("token", &access)]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], own).await.status,
        StatusCode::OK
    );
    assert_eq!(introspect(&mut server, &access).await, json!({"active": false}));
    assert!(
        rig.store
            .scan::<OpaqueToken>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    let again = refresh(&mut alice, &id, &text(&tokens, "refresh_token")).await;
    assert_eq!(again.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_machines_opaque_token_can_be_revoked_and_falls_with_its_owners_grant() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let made = alice
        .register(&json!({
            "redirect_uris": [], "grant_types": ["client_credentials"], "access_token_strategy": "opaque",
            "token_endpoint_auth_method": "client_secret_post", "default_resource": RESOURCE,
        }))
        .await;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let ask = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", &id),
        ("client_secret", &secret),
    ]);
    let mut server = mcp_server(&rig).await;
    let access = text(&alice.send(Method::POST, "/token", &[FORM], ask).await, "access_token");
    assert_eq!(introspect(&mut server, &access).await["aud"], json!(RESOURCE));
    node.facts.lock().policy = Policy::default();
    assert_eq!(introspect(&mut server, &access).await, json!({"active": false}));
    node.facts.lock().policy = Policy::parse([ALL]);
    assert_eq!(introspect(&mut server, &access).await["active"], json!(true));
    let before = node.facts.lock().who.clone();
    // The node is somebody else's now, who may have as much.
    let bobs = Node::bob().facts.lock().who.clone();
    for other in [Who::Tagged(vec!["tag:app".into()]), bobs] {
        node.facts.lock().who = other;
        assert_eq!(introspect(&mut server, &access).await, json!({"active": false}));
    }
    node.facts.lock().who = before;
    let end = form(&[("client_id", &id), ("client_secret", &secret), ("token", &access)]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], end).await.status,
        StatusCode::OK
    );
    assert_eq!(introspect(&mut server, &access).await, json!({"active": false}));
}

#[tokio::test]
async fn a_machines_signed_token_cannot_be_revoked_and_nobody_is_told_that_it_was() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let key = client_auth::Key::es256();
    let made = client_auth::registered_with(&mut alice, &key, &json!({})).await;
    let id = made["client_id"].as_str().unwrap();
    let other = client_auth::registered_with(&mut alice, &key, &json!({})).await;
    let ask = [("grant_type", "client_credentials"), ("resource", RESOURCE)];
    let ask = client_auth::with(&ask, &key.assertion(&rig, id, "1"));
    let access = text(&alice.send(Method::POST, "/token", &[FORM], ask).await, "access_token");
    let end = |client: &str, jti: &str| client_auth::with(&[("token", &access)], &key.assertion(&rig, client, jti));

    let refused = alice.send(Method::POST, "/revoke", &[FORM], end(id, "2")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert_eq!(refused.json()["error"], "unsupported_token_type");
    let again = alice.send(Method::POST, "/revoke", &[FORM], end(id, "2")).await;
    assert_eq!(
        again.status,
        StatusCode::UNAUTHORIZED,
        "the assertion is spent all the same"
    );
    let mut server = mcp_server(&rig).await;
    assert_eq!(introspect(&mut server, &access).await["active"], json!(true));
    let foreign = other["client_id"].as_str().unwrap();
    let of_another = alice.send(Method::POST, "/revoke", &[FORM], end(foreign, "3")).await;
    assert_eq!(of_another.status, StatusCode::OK, "it is not told what it is");
    rig.seconds.fetch_add(300, Relaxed);
    let over = alice.send(Method::POST, "/revoke", &[FORM], end(id, "4")).await;
    assert_eq!(over.status, StatusCode::OK, "{}", over.text);
}

#[tokio::test]
async fn a_default_resource_stands_in_for_none_is_shown_and_needs_the_same_rules() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice, &json!({"default_resource": RESOURCE})).await;
    assert!(page(&mut alice, &id, &[]).await.html.contains(RESOURCE));
    let plain = code(&mut alice, &id, &[]).await;
    let tokens = redeem(&mut alice, &id, &plain).await;
    assert_eq!(claims(&text(&tokens, "access_token"))["aud"], json!(RESOURCE));
    let named = code(&mut alice, &id, &[("resource", "https://other.example")]).await;
    let tokens = redeem(&mut alice, &id, &named).await;
    assert_eq!(
        claims(&text(&tokens, "access_token"))["aud"],
        json!("https://other.example")
    );

    node.facts.lock().policy = Policy::parse([r#"{"users":["*"],"resources":["https://other.example"]}"#]);
    let refused = alice.get(&super::flow::authorize_path(&id, &[])).await;
    assert!(
        refused.header("location").contains("error=access_denied"),
        "{}",
        refused.header("location")
    );
    let without = registered_by(&rig, &json!({})).await;
    let answer = alice.get(&super::flow::authorize_path(&without, &[])).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "without one the token is for this server only"
    );
}

#[tokio::test]
async fn a_client_has_a_quota_of_opaque_tokens() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice, &opaque()).await;
    let counter = format!("opaque/{id}");
    let mut txn = Txn::new();
    txn.count(&counter, i64::try_from(MAX_PER_CLIENT).unwrap() - 1, None);
    rig.store.commit(txn).await.unwrap();
    let first = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let tokens = redeem(&mut alice, &id, &first).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
    let second = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let full = redeem(&mut alice, &id, &second).await;
    assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE, "{}", full.text);
    let end = form(&[("client_id", &id), ("token", &text(&tokens, "access_token"))]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], end).await.status,
        StatusCode::OK
    );
    let again = redeem(&mut alice, &id, &second).await;
    assert_eq!(
        again.status,
        StatusCode::OK,
        "the refusal left the code alone: {}",
        again.text
    );
    rig.seconds.fetch_add(300, Relaxed);
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    let left = rig.store.reads().counter(&counter).await.unwrap();
    assert_eq!(left, MAX_PER_CLIENT - 1, "each token that ended made room");
}

/// A client of alice's, made while she may.
async fn registered_by(rig: &Rig, extra: &Value) -> String {
    registered(&mut rig.client(&alice()).await, extra).await
}
