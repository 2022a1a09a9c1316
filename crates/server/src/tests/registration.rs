use countersign_oauth::client::{Client as OauthClient, ClientId};
use countersign_store::ByOwner;

use super::*;

#[tokio::test]
async fn alice_finds_the_server_and_registers_and_bob_is_told_what_is_missing() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let metadata = alice.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.status, StatusCode::OK);
    assert_eq!(metadata.header("content-type"), "application/json");
    assert_eq!(metadata.header("access-control-allow-origin"), "*");
    let metadata = metadata.json();
    assert_eq!(metadata["issuer"], format!("http://{HOST}"));
    assert_eq!(metadata["registration_endpoint"], format!("http://{HOST}/register"));

    let made = alice.register(&public_client()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.header("cache-control"), "no-store");
    let id = made.json()["client_id"].as_str().unwrap().to_owned();
    let stored = rig.store.reads().get::<OauthClient>(&id).await.unwrap().unwrap();
    assert_eq!(stored.registrant.node_name, "alice-laptop.example.ts.net");
    let audit = rig.store.audit(None, 100).await.unwrap();
    assert!(
        audit
            .iter()
            .any(|(_, line)| line.contains("client_registered") && line.contains(&id))
    );

    let refused = rig.client(&Node::bob()).await.register(&public_client()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let refused = refused.json();
    assert_eq!(refused["error"], "access_denied");
    assert!(refused["error_description"].as_str().unwrap().contains("bob"));
    assert_eq!(refused["remedies"][0]["add"]["src"], json!(["bob@"]));
    assert_eq!(refused["remedies"][1]["add"], "registration = \"network\"");
}

#[tokio::test]
async fn a_grant_is_read_again_for_each_request_of_one_connection() {
    let rig = Rig::start(config()).await;
    let alice = Node::alice();
    let mut client = rig.client(&alice).await;
    assert_eq!(client.register(&public_client()).await.status, StatusCode::CREATED);
    alice.facts.lock().policy = Policy::default();
    assert_eq!(client.register(&public_client()).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn network_and_off_do_what_they_say() {
    let mut network = config();
    network.registration = Mode::Network;
    let rig = Rig::start(network).await;
    assert_eq!(
        rig.client(&Node::bob()).await.register(&public_client()).await.status,
        StatusCode::CREATED
    );

    let mut off = config();
    off.registration = Mode::Off;
    let rig = Rig::start(off).await;
    let mut alice = rig.client(&Node::alice()).await;
    assert_eq!(alice.register(&public_client()).await.status, StatusCode::FORBIDDEN);
    let metadata = alice.get("/.well-known/openid-configuration").await.json();
    assert!(metadata.get("registration_endpoint").is_none());
}

#[tokio::test]
async fn only_json_and_only_admitted_origins_register_and_nothing_else_is_stored() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let body = public_client().to_string();
    let json_type = ("content-type", "application/json");
    for (headers, status) in [
        (vec![("content-type", "text/plain")], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            vec![("content-type", "application/x-www-form-urlencoded")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (vec![], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (
            vec![json_type, ("origin", "https://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (vec![json_type, ("origin", "null")], StatusCode::FORBIDDEN),
        (vec![json_type, ("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
    ] {
        let answer = alice.send(Method::POST, "/register", &headers, body.clone()).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    assert!(
        rig.store
            .scan::<OauthClient>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("origin", "http://localhost:6274"),
    ];
    let answer = alice.send(Method::POST, "/register", &headers, body).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:6274");
    assert_eq!(answer.header("vary"), "Origin");
}

#[tokio::test]
async fn preflights_are_answered_for_admitted_pages_only() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let ask = [
        ("origin", "https://inspector.example"),
        ("access-control-request-method", "POST"),
    ];
    let answer = alice.send(Method::OPTIONS, "/register", &ask, "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://inspector.example"
    );
    assert!(answer.header("access-control-allow-headers").contains("content-type"));
    let evil = alice
        .send(Method::OPTIONS, "/register", &[("origin", "https://evil.example")], "")
        .await;
    assert_eq!(evil.header("access-control-allow-origin"), "");
    let open = alice
        .send(
            Method::OPTIONS,
            "/.well-known/jwks.json",
            &[("origin", "https://evil.example")],
            "",
        )
        .await;
    assert_eq!(open.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn malformed_bodies_are_named_and_long_ones_refused() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let answer = alice
        .register(&json!({"redirect_uris": ["http://evil.example/cb"]}))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["error"], "invalid_redirect_uri");
    let answer = alice.register(&json!({"client_name": "x".repeat(70_000)})).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_owner_has_a_quota_also_under_concurrency() {
    let mut limited = config();
    limited.dcr_max_clients_per_user = 5;
    let rig = Rig::start(limited).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mut client = rig.client(&Node::alice()).await;
        tasks.spawn(async move { client.register(&public_client()).await.status });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(
        statuses.iter().filter(|status| **status == StatusCode::CREATED).count(),
        5
    );
    assert_eq!(
        statuses
            .iter()
            .filter(|status| **status == StatusCode::FORBIDDEN)
            .count(),
        7
    );
}

#[tokio::test]
async fn an_unused_client_is_forgotten_after_a_day() {
    let rig = Rig::start(config()).await;
    let made = rig.client(&Node::alice()).await.register(&public_client()).await.json();
    let id = ClientId::from_request(made["client_id"].as_str().unwrap());
    rig.seconds.fetch_add(24 * 3600 - 1, Relaxed);
    assert_eq!(sweep::clients(&rig.store, rig.now()).await.unwrap(), 0);
    rig.seconds.fetch_add(1, Relaxed);
    assert_eq!(sweep::clients(&rig.store, rig.now()).await.unwrap(), 1);
    assert!(
        rig.store
            .reads()
            .get::<OauthClient>(id.as_str())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        rig.store
            .scan::<ByOwner>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert_eq!(rig.store.reads().counter("clients/user:1").await.unwrap(), 0);
}

#[tokio::test]
async fn clients_and_keys_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = countersign_store::OpenOptions {
        folder: folder.path().join("store"),
        node: "node".into(),
        cache_bytes: 4 << 20,
        entropy: [3; 16],
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let store = Store::open(&options).unwrap();
        let rig = Rig::on(config(), store).await;
        let mut alice = rig.client(&Node::alice()).await;
        seen.push(alice.get("/.well-known/jwks.json").await.text);
        assert_eq!(alice.register(&public_client()).await.status, StatusCode::CREATED);
        drop(alice);
        rig.stop.cancel();
        rig.task.await.unwrap().unwrap();
        rig.store.close().await;
    }
    // The first RSA key comes a little after the start.
    let keys = |text: &str| {
        serde_json::from_str::<Value>(text).unwrap()["keys"]
            .as_array()
            .unwrap()
            .clone()
    };
    let (first, second) = (keys(&seen[0]), keys(&seen[1]));
    assert!(
        first.len() >= 2 && first.iter().all(|key| second.contains(key)),
        "{seen:?}"
    );
    assert!(seen[0].contains("\"crv\":\"P-256\""));
    let store = Store::open(&options).unwrap();
    assert_eq!(store.scan::<OauthClient>(b"", None, 10).await.unwrap().records.len(), 2);
}

#[tokio::test]
async fn an_owner_reads_replaces_and_deletes_a_client_with_its_registration_token() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let mut bob = rig.client(&Node::bob()).await;
    let made = alice.register(&public_client()).await.json();
    let bearer = format!("Bearer {}", made["registration_access_token"].as_str().unwrap());
    let uri = made["registration_client_uri"].as_str().unwrap();
    let path = uri.strip_prefix(&format!("http://{HOST}")).unwrap().to_owned();
    let auth = [("authorization", bearer.as_str()), ("content-type", "application/json")];

    let read = alice.send(Method::GET, &path, &auth, "").await;
    assert_eq!(
        (read.status, &read.json()["client_id"]),
        (StatusCode::OK, &made["client_id"])
    );
    let wrong = [("authorization", "Bearer wrong")];
    assert_eq!(
        alice.send(Method::GET, &path, &wrong, "").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        bob.send(Method::DELETE, &path, &auth, "").await.status,
        StatusCode::UNAUTHORIZED
    );
    let foreign = [auth[0], auth[1], ("origin", "https://evil.example")];
    assert_eq!(
        alice.send(Method::DELETE, &path, &foreign, "").await.status,
        StatusCode::FORBIDDEN
    );

    let mut changed = public_client();
    changed["client_id"] = made["client_id"].clone();
    changed["redirect_uris"] = json!(["https://new.example/cb"]);
    let put = alice.send(Method::PUT, &path, &auth, changed.to_string()).await;
    assert_eq!(put.json()["redirect_uris"], json!(["https://new.example/cb"]));
    let bad = alice
        .send(
            Method::PUT,
            &path,
            &auth,
            r#"{"redirect_uris":["http://evil.example"]}"#,
        )
        .await;
    assert_eq!(bad.json()["error"], "invalid_redirect_uri");

    assert_eq!(
        alice.send(Method::DELETE, &path, &auth, "").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        alice.send(Method::GET, &path, &auth, "").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(rig.store.reads().counter("clients/user:1").await.unwrap(), 0);
    assert!(
        rig.store
            .scan::<ByOwner>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
}
