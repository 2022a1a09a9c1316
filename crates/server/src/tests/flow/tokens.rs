//! What tokens and clients are good for once a flow is over.

use super::*;

#[tokio::test]
async fn processes_that_refresh_at_once_all_get_the_same_successor() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let token = text(&redeem(&mut alice, &id, &code).await, "refresh_token");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let mut process = rig.client(&node).await;
        let (id, token) = (id.clone(), token.clone());
        tasks.spawn(async move { refresh(&mut process, &id, &token).await });
    }
    let answers = tasks.join_all().await;
    let successors: std::collections::BTreeSet<_> =
        answers.iter().map(|answer| text(answer, "refresh_token")).collect();
    assert_eq!(successors.len(), 1);
    rig.seconds.fetch_add(601, Relaxed);
    assert_eq!(refresh(&mut alice, &id, &token).await.json()["error"], "invalid_grant");
    let successor = successors.first().unwrap();
    assert_eq!(
        refresh(&mut alice, &id, successor).await.json()["error"],
        "invalid_grant",
        "the family ended"
    );
}

#[tokio::test]
async fn a_withdrawn_grant_or_node_ends_refreshing_at_once() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let token = text(&redeem(&mut alice, &id, &code).await, "refresh_token");
    node.facts.lock().policy = Policy::default();
    let answer = refresh(&mut alice, &id, &token).await;
    assert!(
        text(&answer, "error_description").contains("no rule"),
        "{}",
        answer.text
    );
    node.facts.lock().policy = Policy::parse([ALL]);
    assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
    rig.nodes.all.lock().clear();
    assert_eq!(refresh(&mut alice, &id, &token).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn userinfo_says_who_it_is_to_who_has_the_token() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let plain = code(&mut alice, &id, &[("scope", "openid profile")]).await;
    let tokens = redeem(&mut alice, &id, &plain).await;
    let bearer = format!("Bearer {}", text(&tokens, "access_token"));
    let info = alice
        .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(
        info.json(),
        json!({"sub": "userid:1", "preferred_username": "alice", "name": "alice"})
    );
    let body = form(&[("access_token", &bearer[7..])]);
    assert_eq!(
        alice.send(Method::POST, "/userinfo", &[FORM], body).await.status,
        StatusCode::OK
    );
    let none = alice.get("/userinfo").await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert!(
        none.header("www-authenticate").starts_with("Bearer"),
        "{}",
        none.header("www-authenticate")
    );
}

#[tokio::test]
async fn introspection_is_for_the_audience_and_ends_with_revocation() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let for_mcp = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let tokens = redeem(&mut alice, &id, &for_mcp).await;
    let access = text(&tokens, "access_token");
    let mcp = Node::user(9, "mcp", &[]);
    mcp.facts.lock().node_name = "mcp.example.ts.net".into();
    let mut server = rig.client(&mcp).await;
    let ask = form(&[("token", &access)]);
    let told = server
        .send(Method::POST, "/introspect", &[FORM], ask.clone())
        .await
        .json();
    assert_eq!((&told["active"], &told["username"]), (&json!(true), &json!("alice")));
    assert_eq!(
        alice
            .send(Method::POST, "/introspect", &[FORM], ask.clone())
            .await
            .json(),
        json!({"active": false})
    );
    let page = [FORM, ("origin", "http://idp.example.ts.net")];
    assert_eq!(
        server
            .send(Method::POST, "/introspect", &page, ask.clone())
            .await
            .status,
        StatusCode::FORBIDDEN
    );

    let end = form(&[("client_id", &id), ("token", &text(&tokens, "refresh_token"))]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], end).await.status,
        StatusCode::OK
    );
    assert_eq!(
        server.send(Method::POST, "/introspect", &[FORM], ask).await.json(),
        json!({"active": false})
    );
    let unknown = form(&[("client_id", &id), ("token", "nonsense")]);
    assert_eq!(
        alice.send(Method::POST, "/revoke", &[FORM], unknown).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_confidential_client_authenticates_as_it_registered_and_may_act_for_itself() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice
        .register(&json!({
            "redirect_uris": ["https://app.example/cb"], "grant_types": ["authorization_code", "client_credentials"],
        }))
        .await;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let basic = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"))
    );
    let ask = form(&[
        ("grant_type", "client_credentials"),
        ("resource", RESOURCE),
        ("scope", "mcp"),
    ]);
    let answer = alice
        .send(Method::POST, "/token", &[FORM, ("authorization", &basic)], ask.clone())
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(claims(&text(&answer, "access_token"))["sub"], json!(id));
    assert!(answer.json().get("refresh_token").is_none());
    let twice = [
        FORM,
        ("authorization", basic.as_str()),
        ("authorization", basic.as_str()),
    ];
    let answer = alice.send(Method::POST, "/token", &twice, ask.clone()).await;
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "which of them counts is nobody's to guess"
    );
    let post = format!("{ask}&{}", form(&[("client_id", &id), ("client_secret", &secret)]));
    let wrong = alice.send(Method::POST, "/token", &[FORM], post).await;
    assert_eq!(
        (wrong.status, wrong.json()["error"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("invalid_client"))
    );
    assert!(wrong.header("www-authenticate").starts_with("Basic"));
}

#[tokio::test]
async fn what_has_ended_is_swept() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[]).await;
    redeem(&mut alice, &id, &code).await;
    let codes = rig.store.scan::<countersign_oauth::grant::Code>(b"", None, 10).await;
    assert!(codes.unwrap().records.is_empty(), "a redeemed code is gone");
    rig.seconds.fetch_add(31 * 24 * 3600, Relaxed);
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    sweep::Walk::default().go_on(&rig.store, rig.now()).await.unwrap();
    assert!(
        rig.store
            .scan::<countersign_oauth::grant::Grant>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert!(
        rig.store
            .scan::<countersign_store::Due>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
}
