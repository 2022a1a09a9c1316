//! Where a token could be used that it was not meant for, or longer than it should.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

fn header(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

async fn userinfo(client: &mut Client, token: &str) -> StatusCode {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    client.send(Method::GET, "/userinfo", &headers, "").await.status
}

async fn introspect(client: &mut Client, token: &str, more: &[(&str, &str)]) -> Answer {
    let mut headers = vec![FORM];
    headers.extend_from_slice(more);
    client
        .send(Method::POST, "/introspect", &headers, form(&[("token", token)]))
        .await
}

/// The node whose own name is the host of [`RESOURCE`].
fn resource_server() -> Node {
    let node = Node::user(9, "mcp", &[]);
    node.facts.lock().node_name = "mcp.example.ts.net".into();
    node
}

#[tokio::test]
async fn token_theft_across_audiences_fails_because_each_token_has_one() {
    let (_rig, mut alice, id) = alices_client().await;
    let asked = [("resource", RESOURCE), ("scope", "openid")];
    let code = code(&mut alice, &id, &asked).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    let (access, id_token) = (text(&tokens, "access_token"), text(&tokens, "id_token"));
    assert_eq!(header(&access)["typ"], "at+jwt");
    assert_eq!(claims(&access)["aud"], RESOURCE);
    assert_eq!(
        claims(&access)["cnf"]["tailnet_node"],
        "nalice",
        "the node that redeemed"
    );
    assert_eq!(claims(&id_token)["aud"], json!(id));
    assert_ne!(header(&id_token)["typ"], "at+jwt");
    assert_eq!(
        userinfo(&mut alice, &access).await,
        StatusCode::UNAUTHORIZED,
        "it is for the resource"
    );
    assert_eq!(
        userinfo(&mut alice, &id_token).await,
        StatusCode::UNAUTHORIZED,
        "it is no access token"
    );
}

#[tokio::test]
async fn token_theft_from_the_store_gets_hashes() {
    let (rig, mut alice, id) = alices_client().await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let token = text(&redeem(&mut alice, &id, &code).await, "refresh_token");
    let token = text(&refresh(&mut alice, &id, &token).await, "refresh_token");
    let grants = rig
        .store
        .scan::<countersign_oauth::grant::Grant>(b"", None, 10)
        .await
        .unwrap();
    let stored = serde_json::to_string(&grants.records[0]).unwrap();
    let audit = format!("{:?}", rig.store.audit(None, 100).await.unwrap());
    let secret = &URL_SAFE_NO_PAD.decode(&token).unwrap()[16..];
    for form in [token, URL_SAFE_NO_PAD.encode(secret), hex::encode(secret)] {
        assert!(!stored.contains(&form) && !audit.contains(&form), "{form}: {stored}");
    }
}

#[tokio::test]
async fn refresh_tokens_end_with_the_grants_lifetime_however_often_they_rotate() {
    let (rig, mut alice, id) = alices_client().await;
    let code = code(&mut alice, &id, &[("scope", "openid")]).await;
    let mut token = text(&redeem(&mut alice, &id, &code).await, "refresh_token");
    for _ in 0..29 {
        rig.seconds.fetch_add(24 * 3600, Relaxed);
        token = text(&refresh(&mut alice, &id, &token).await, "refresh_token");
    }
    rig.seconds.fetch_add(24 * 3600 - 60, Relaxed);
    let last = refresh(&mut alice, &id, &token).await;
    token = text(&last, "refresh_token");
    assert_eq!(last.json()["expires_in"], 60, "no access outlives it either");
    for name in ["access_token", "id_token"] {
        assert_eq!(
            claims(&text(&last, name))["exp"],
            rig.now().unix_timestamp() + 60,
            "{name}"
        );
    }
    rig.seconds.fetch_add(60, Relaxed);
    assert_eq!(error(&refresh(&mut alice, &id, &token).await), "invalid_grant");
}

#[tokio::test]
async fn introspection_scanning_tells_strangers_nothing() {
    let (rig, mut alice, id) = alices_client().await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    let access = text(&tokens, "access_token");
    let mut server = rig.client(&resource_server()).await;
    let mut bob = rig.client(&Node::user(2, "bob", &[ALL])).await;
    let inactive = json!({"active": false});
    assert_eq!(introspect(&mut server, &access, &[]).await.json()["active"], true);
    assert_eq!(introspect(&mut bob, &access, &[]).await.json(), inactive);
    assert_eq!(
        introspect(&mut alice, &access, &[]).await.json(),
        inactive,
        "not even its owner"
    );
    for other in [text(&tokens, "refresh_token"), "nonsense".into(), format!("{access}x")] {
        assert_eq!(introspect(&mut server, &other, &[]).await.json(), inactive);
    }
    for page in [
        ("origin", "https://mcp.example.ts.net"),
        ("sec-fetch-site", "same-origin"),
    ] {
        let answer = introspect(&mut server, &access, &[page]).await;
        assert_eq!(
            answer.status,
            StatusCode::FORBIDDEN,
            "a page does not speak for its node: {page:?}"
        );
    }
}

#[tokio::test]
async fn alg_confusion_and_foreign_keys_verify_nothing() {
    let (_rig, mut alice, id) = alices_client().await;
    let code = code(&mut alice, &id, &[("scope", "openid")]).await;
    let good = text(&redeem(&mut alice, &id, &code).await, "access_token");
    assert_eq!(userinfo(&mut alice, &good).await, StatusCode::OK);
    let jwks = alice.get("/.well-known/jwks.json").await.text;
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let with = |name: &str, value: Value| {
        let mut head = header(&good);
        head[name] = value;
        encode(&head)
    };
    let public_key_as_secret = {
        let head = with("alg", json!("HS256"));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, jwks.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, format!("{head}.{body}").as_bytes());
        format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let mut other = claims(&good);
    other["sub"] = json!("userid:2");
    for forged in [
        format!("{}.{body}.", with("alg", json!("none"))),
        format!("{}.{body}.{signature}", with("alg", json!("RS256"))),
        format!("{}.{body}.{signature}", with("kid", json!("another"))),
        format!("{}.{body}.{signature}", with("jwk", json!({"kty": "oct", "k": "AA"}))),
        format!("{head}.{}.{signature}", encode(&other)),
        public_key_as_secret,
    ] {
        assert_eq!(
            userinfo(&mut alice, &forged).await,
            StatusCode::UNAUTHORIZED,
            "{forged}"
        );
    }
}

#[tokio::test]
async fn timing_and_enumeration_find_one_answer_for_all_that_is_wrong() {
    let (rig, mut alice, id) = alices_client().await;
    let (spent, late) = (code(&mut alice, &id, &[]).await, code(&mut alice, &id, &[]).await);
    redeem(&mut alice, &id, &spent).await;
    let unknown = redeem(&mut alice, &id, "unknown").await.text;
    assert_eq!(redeem(&mut alice, &id, &spent).await.text, unknown);
    rig.seconds.fetch_add(61, Relaxed);
    assert_eq!(redeem(&mut alice, &id, &late).await.text, unknown);
    let confidential = json!({"redirect_uris": ["https://app.example/cb"]});
    let real = text(&alice.register(&confidential).await, "client_id");
    let mut answers = Vec::new();
    for id in [real.as_str(), "nobody"] {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{id}:wrong"));
        let basic = format!("Basic {basic}");
        let headers = [FORM, ("authorization", basic.as_str())];
        let body = form(&[("grant_type", "authorization_code"), ("code", "x")]);
        answers.push(alice.send(Method::POST, "/token", &headers, body).await.text);
    }
    assert_eq!(answers[0], answers[1], "whether a client exists is nobody's business");
}

#[tokio::test]
async fn revocation_lag_is_five_minutes_for_a_signature_and_nothing_for_introspection() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let access = text(&redeem(&mut alice, &id, &code).await, "access_token");
    let times = claims(&access);
    assert_eq!(times["exp"].as_i64().unwrap() - times["iat"].as_i64().unwrap(), 300);
    let mut server = rig.client(&resource_server()).await;
    assert_eq!(introspect(&mut server, &access, &[]).await.json()["active"], true);
    node.facts.lock().policy = Policy::parse([r#"{"allow_dcr":true}"#]);
    assert_eq!(
        introspect(&mut server, &access, &[]).await.json(),
        json!({"active": false})
    );
}

#[tokio::test]
async fn time_is_the_servers_and_no_token_claims_to_be_older_than_it_is() {
    let (rig, mut alice, id) = alices_client().await;
    let code = code(&mut alice, &id, &[("scope", "openid")]).await;
    let tokens = redeem(&mut alice, &id, &code).await;
    for token in [text(&tokens, "access_token"), text(&tokens, "id_token")] {
        let claims = claims(&token);
        assert!(claims.get("nbf").is_none(), "{claims}");
        assert_eq!(claims["iat"], rig.now().unix_timestamp());
    }
    rig.seconds.fetch_add(301, Relaxed);
    let access = text(&tokens, "access_token");
    assert_eq!(
        userinfo(&mut alice, &access).await,
        StatusCode::UNAUTHORIZED,
        "no leeway for our own tokens"
    );
}
