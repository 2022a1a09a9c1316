//! What a client may claim to be, and where it may have its answers sent.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

async fn offered(alice: &mut Client, redirect_uris: Value, extra: Value) -> Answer {
    let mut metadata = public_client();
    metadata["redirect_uris"] = redirect_uris;
    for (name, value) in extra.as_object().unwrap() {
        metadata[name] = value.clone();
    }
    alice.register(&metadata).await
}

#[tokio::test]
async fn redirect_matching_accepts_only_what_a_client_may_own() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    for bad in [
        "http://app.example/cb",
        "https://app.example/cb#fragment",
        "https://user@app.example/cb",
        "https://*.app.example/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "blob:https://app.example/x",
        "about:blank",
        "chrome-extension://x/cb",
        "wss://app.example/cb",
        "ftp://app.example/cb",
        "mailto:a@app.example",
        "view-source:https://app.example",
        "intent://app.example/cb",
        "/cb",
    ] {
        let answer = offered(&mut alice, json!(["https://app.example/good", bad]), json!({})).await;
        assert_eq!(error(&answer), "invalid_redirect_uri", "{bad}");
        assert!(
            text(&answer, "error_description").contains(bad),
            "the bad one is named: {}",
            answer.text
        );
    }
    let confidential = json!({"token_endpoint_auth_method": "client_secret_basic", "application_type": "web"});
    let answer = offered(&mut alice, json!(["http://127.0.0.1/cb"]), confidential.clone()).await;
    assert_eq!(
        error(&answer),
        "invalid_redirect_uri",
        "a server has no loopback of its user's"
    );
    let answer = offered(&mut alice, json!(["cursor://x/cb"]), confidential).await;
    assert_eq!(error(&answer), "invalid_redirect_uri", "an app keeps no secret");
    let cursor = json!(["cursor://anysphere.cursor-mcp/oauth/callback"]);
    assert_eq!(
        offered(&mut alice, cursor, json!({"application_type": "web"}))
            .await
            .status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn redirect_matching_is_exact_but_for_the_port_of_a_loopback_and_keeps_the_query() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let uris = json!([
        "http://127.0.0.1/cb?app=1",
        "http://[::1]/cb",
        "http://localhost/cb",
        "https://app.example/cb"
    ]);
    let id = text(&offered(&mut alice, uris, json!({})).await, "client_id");
    let ask = |uri: &str| {
        authorize_path(&id, &[]).replace(&form(&[("redirect_uri", REDIRECT)]), &form(&[("redirect_uri", uri)]))
    };
    for (uri, good) in [
        ("http://127.0.0.1:49152/cb?app=1", true),
        ("http://[::1]:1/cb", true),
        ("http://localhost:65535/cb", true),
        ("https://app.example/cb", true),
        ("http://127.0.0.1:49152/cb", false),
        ("http://127.0.0.1:49152/cb?app=1&more=2", false),
        ("http://127.0.0.2:49152/cb?app=1", false),
        ("http://localhost:65536/cb", false),
        ("https://localhost/cb", false),
        ("https://app.example:8443/cb", false),
        ("https://app.example/cb/", false),
        ("https://app.example/CB", false),
        ("https://APP.example/cb", false),
    ] {
        let status = if good { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        assert_eq!(alice.get(&ask(uri)).await.status, status, "{uri}");
    }
    let error = alice
        .get(&format!(
            "{}&prompt=none&prompt=login",
            ask("http://127.0.0.1:7/cb?app=1")
        ))
        .await;
    let location = error.header("location");
    assert!(location.starts_with("http://127.0.0.1:7/cb?app=1&error="), "{location}");
}

#[tokio::test]
async fn dcr_abuse_finds_verified_facts_before_the_clients_own_words() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut metadata = public_client();
    metadata["client_name"] = json!("Registered by your bank");
    metadata["grant_types"] = json!([
        "authorization_code",
        "urn:ietf:params:oauth:grant-type:device_code",
        "password"
    ]);
    let made = alice.register(&metadata).await;
    assert_eq!(
        made.json()["grant_types"],
        json!(["authorization_code"]),
        "unknown ones are dropped"
    );
    let page = page(&mut alice, &text(&made, "client_id"), &[]).await.html;
    let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words}: {page}"));
    assert!(at("alice on alice-laptop.example.ts.net") < at("Registered by your bank"));
    assert!(at("Nobody has verified that") > at("What it says about itself"));
    let long = json!({"redirect_uris": ["https://app.example/cb"], "client_name": "x".repeat(64 << 10)});
    assert_eq!(alice.register(&long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn dcr_abuse_of_a_client_by_others_ends_at_its_owner_until_it_is_published() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let mut bob = rig.client(&Node::user(2, "bob", &[ALL])).await;
    let refused = bob.get(&authorize_path(&id, &[])).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    for fact in [
        "alice",
        "alice-laptop.example.ts.net",
        "not published",
        "publish_clients",
    ] {
        assert!(refused.text.contains(fact), "{fact}: {}", refused.text);
    }
    node.facts.lock().policy = Policy::parse([ALL, r#"{"countersign":{"publish_clients":true}}"#]);
    assert_eq!(bob.get(&authorize_path(&id, &[])).await.status, StatusCode::OK);
}

#[tokio::test]
async fn ssrf_by_a_request_uri_or_a_logo_is_impossible_because_nothing_is_fetched() {
    let (_rig, mut alice, id) = alices_client().await;
    for (name, value) in [
        ("request_uri", "https://100.100.100.100/latest/meta-data"),
        ("request", "eyJhbGciOiJub25lIn0.e30."),
    ] {
        let answer = alice.get(&authorize_path(&id, &[(name, value)])).await;
        let refused = [answer.header("location"), &answer.text].concat();
        assert!(refused.contains(name), "{name}: {refused}");
        assert_ne!(answer.status, StatusCode::OK, "{name}");
    }
    let answer = alice
        .get("/authorize?client_id=https%3A%2F%2F100.100.100.100%2Fclient.json")
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "client id documents come later");
}

#[tokio::test]
async fn client_auth_counts_only_by_the_registered_method_used_once() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice
        .register(&json!({
            "redirect_uris": ["https://app.example/cb"], "grant_types": ["authorization_code", "client_credentials"],
        }))
        .await;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let ask = [("grant_type", "client_credentials")];
    let by_post = [ask[0], ("client_id", &id), ("client_secret", &secret)];
    for (fields, header) in [
        (&ask[..], Some(basic(&id, "wrong"))),
        (&ask[..], Some(basic(&id, ""))),
        (&ask[..], Some(basic("nobody", &secret))),
        (&by_post[..], None),
        (&by_post[..], Some(basic(&id, &secret))),
        (&by_post[..2], None),
        (&[ask[0], ("client_id", "nobody")][..], Some(basic(&id, &secret))),
        (&ask[..], None),
    ] {
        let mut headers = vec![FORM];
        headers.extend(header.as_deref().map(|header| ("authorization", header)));
        let answer = alice.send(Method::POST, "/token", &headers, form(fields)).await;
        assert_eq!(error(&answer), "invalid_client", "{fields:?} {header:?}");
    }
    let right = basic(&id, &secret);
    let headers = [FORM, ("authorization", right.as_str())];
    assert_eq!(
        alice.send(Method::POST, "/token", &headers, form(&ask)).await.status,
        StatusCode::OK
    );
    let stored = rig
        .store
        .reads()
        .get::<countersign_oauth::client::Client>(&id)
        .await
        .unwrap();
    assert!(
        !serde_json::to_string(&stored).unwrap().contains(&secret),
        "the store has its hash"
    );
}
