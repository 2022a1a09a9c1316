use super::*;

#[tokio::test]
async fn only_the_issuers_name_is_served() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    for host in ["evil.example", "100.64.0.1", "localhost", "idp.example.ts.net:8080"] {
        for path in ["/", "/register", "/.well-known/oauth-authorization-server"] {
            let answer = alice.send(Method::GET, path, &[("host", host)], "").await;
            assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}{path}");
        }
    }
    let absolute = Request::get("http://evil.example/")
        .header("host", HOST)
        .body(Full::default())
        .unwrap();
    assert_eq!(
        alice.try_send(absolute).await.unwrap().status,
        StatusCode::MISDIRECTED_REQUEST
    );
}

#[tokio::test]
async fn a_request_that_names_two_hosts_is_sent_to_none() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    for (target, hosts) in [
        ("/", [HOST, "evil.example"].as_slice()),
        ("/", &[HOST, HOST]),
        ("http://idp.example.ts.net/", &["evil.example"]),
    ] {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let answer = alice.try_send(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{target} {hosts:?}");
    }
}

#[tokio::test]
async fn the_short_name_leads_people_on_and_programs_nowhere() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let page = alice.send(Method::GET, "/?a=b", &[("host", "idp")], "").await;
    assert_eq!(page.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(page.header("location"), "http://idp.example.ts.net/?a=b");
    let posted = alice.send(Method::POST, "/me", &[("host", "idp")], "").await;
    assert_eq!(
        (posted.status, posted.header("location")),
        (StatusCode::MISDIRECTED_REQUEST, "")
    );
    let protocol = alice
        .send(Method::GET, "/.well-known/openid-configuration", &[("host", "idp")], "")
        .await;
    assert_eq!(protocol.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn unknown_paths_and_methods_get_uniform_answers() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    let missing = alice.get("/nothing").await;
    assert_eq!(
        (missing.status, missing.json()["error"].as_str()),
        (StatusCode::NOT_FOUND, Some("invalid_request"))
    );
    let wrong = alice.get("/register").await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "POST, OPTIONS")
    );
    let wrong = alice.send(Method::DELETE, "/", &[], "").await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")
    );
    let head = alice.send(Method::HEAD, "/.well-known/jwks.json", &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn pages_say_who_you_are_and_forbid_everything_else() {
    let rig = Rig::start(config()).await;
    let node = Node::user(3, "<script>alert(1)</script>", &[]);
    let page = rig.client(&node).await.get("/").await;
    assert!(page.text.contains("&lt;script&gt;"), "{}", page.text);
    assert!(!page.text.contains("<script>"));
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert_eq!(page.header("referrer-policy"), "same-origin");
    assert!(!page.header("x-request-id").is_empty());
}

#[tokio::test]
async fn requests_are_counted_by_path_and_outcome() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&Node::alice()).await;
    alice.get("/nothing").await;
    alice.register(&public_client()).await;
    alice.register(&json!({})).await;
    let counted: Vec<_> = rig
        .counters()
        .requests
        .iter()
        .map(|count| (count.route, count.outcome, count.count))
        .collect();
    assert_eq!(
        counted,
        [
            ("/register", "ok", 1),
            ("/register", "refused", 1),
            ("other", "refused", 1)
        ]
    );
}

#[tokio::test]
async fn http_2_is_served_by_the_same_rules() {
    let rig = Rig::start(config()).await;
    let io = TokioIo::new(rig.connect(&Node::alice()).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let ask = async |uri: &str| {
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        sender.clone().send_request(request).await.unwrap().status()
    };
    let ours = format!("http://{HOST}/.well-known/openid-configuration");
    let (first, second, other) = tokio::join!(ask(&ours), ask(&ours), ask("http://evil.example/"));
    assert_eq!((first, second), (StatusCode::OK, StatusCode::OK));
    assert_eq!(other, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn an_address_cannot_put_hidden_or_endless_text_on_a_page() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&flow::alice()).await;
    for name in ["user", "node", "client", "resource", "scope"] {
        for bad in ["%E2%80%AEecila", "a%00b", "a%0Ab", "a%E2%80%8Bb", &"x".repeat(3000)] {
            let page = alice.get(&format!("/policy/explain?{name}={bad}")).await;
            assert_eq!(page.status, StatusCode::BAD_REQUEST, "{name}={bad}: {}", page.text);
            assert!(page.text.contains("cannot be shown"), "{name}={bad}: {}", page.text);
        }
    }
    assert_eq!(
        alice.get("/policy/explain?node=alice-laptop").await.status,
        StatusCode::OK
    );
}
