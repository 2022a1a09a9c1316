//! What a page could make a person do, and whom a node could pretend to be.

use super::*;
use crate::tests::tls::{connector, https};
use rustls::pki_types::ServerName;

#[tokio::test]
async fn clickjacking_and_scripts_are_forbidden_on_every_page() {
    let (_rig, mut alice, id) = alices_client().await;
    for path in [
        "/".to_owned(),
        authorize_path(&id, &[]),
        "/authorize?client_id=nobody".into(),
    ] {
        let page = alice.get(&path).await;
        let policy = page.header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(
            !policy.contains("script-src") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert_eq!(page.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!page.text.contains("<script"), "{path}");
    }
}

#[tokio::test]
async fn clickjacking_rules_name_where_a_form_may_end_and_no_host_writes_others() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    for (uri, sources, shown) in [
        (
            "http://localhost:5000/cb",
            "http: http://localhost:5000",
            "an app on this computer",
        ),
        ("http://[::1]:5000/cb", "http:", "an app on this computer"),
        (
            "https://127.0.0.1/cb",
            "https: https://127.0.0.1",
            "an app on this computer",
        ),
        ("https://app.example/cb", "https: https://app.example", "app.example"),
        (
            "https://app.example:8443/cb",
            "https: https://app.example:8443",
            "app.example:8443",
        ),
        ("https://a.example;sandbox/cb", "https:", "a.example;sandbox"),
        ("https://a.example,b.example/cb", "https:", "a.example,b.example"),
        ("cursor://a/cb", "cursor:", "an app on this computer (cursor)"),
    ] {
        let metadata = json!({"redirect_uris": [uri], "token_endpoint_auth_method": "none"});
        let id = text(&alice.register(&metadata).await, "client_id");
        let (ours, asked) = (form(&[("redirect_uri", REDIRECT)]), form(&[("redirect_uri", uri)]));
        let page = alice.get(&authorize_path(&id, &[]).replace(&ours, &asked)).await;
        let policy = page.header("content-security-policy");
        let rest = format!("form-action 'self' {sources}; frame-ancestors 'none'; base-uri 'none'");
        assert!(policy.ends_with(&rest), "{uri}: {policy}");
        let destination = format!("<dt>Answer goes to</dt><dd>{shown}</dd>");
        assert!(page.text.contains(&destination), "{uri}: {}", page.text);
    }
}

#[tokio::test]
async fn ambient_identity_gives_no_code_before_a_click_on_a_page_that_is_fresh() {
    let (rig, mut alice, id) = alices_client().await;
    let page = page(&mut alice, &id, &[]).await;
    rig.seconds.fetch_add(601, Relaxed);
    assert_eq!(click(&mut alice, &page, &OURS).await.status, StatusCode::BAD_REQUEST);
    let codes = rig.store.scan::<countersign_oauth::grant::Code>(b"", None, 10);
    assert!(codes.await.unwrap().records.is_empty());
}

#[tokio::test]
async fn same_site_is_not_safe_so_cookies_belong_to_one_host_and_siblings_cannot_click() {
    let rig = Rig::start(https()).await;
    let name = ServerName::try_from(HOST).unwrap();
    let stream = connector(&rig)
        .connect(name, rig.connect(&alice()).await)
        .await
        .unwrap();
    let mut alice = Client::over(stream).await;
    let id = registered(&mut alice).await;
    let asked = alice.get(&authorize_path(&id, &[])).await;
    let cookie = asked.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-"), "no sibling can set it: {cookie}");
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain="), "{cookie}");
    let page = page(&mut alice, &id, &[]).await;
    let sibling = [
        ("sec-fetch-site", "same-site"),
        ("origin", "https://wiki.example.ts.net"),
    ];
    assert_eq!(click(&mut alice, &page, &sibling).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(click(&mut alice, &page, &OURS).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn xss_in_what_a_client_says_about_itself_is_text_without_controls() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut metadata = public_client();
    metadata["client_name"] = json!("<img src=x onerror=alert(1)>\u{202e}gnp.exe\u{7}");
    metadata["logo_uri"] = json!("https://evil.example/logo.svg?\"><script>alert(1)</script>");
    let id = text(&alice.register(&metadata).await, "client_id");
    let page = page(&mut alice, &id, &[]).await.html;
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"), "{page}");
    assert!(!page.contains('\u{202e}') && !page.contains('\u{7}'), "{page}");
    assert!(
        !page.contains("evil.example"),
        "the browser is never sent to a logo: {page}"
    );
    let reflected = alice
        .get(&form(&[("/authorize?client_id", "<script>")]).replace("%2F", "/"))
        .await;
    assert!(!reflected.text.contains("<script"), "{}", reflected.text);
}

#[tokio::test]
async fn identity_source_is_the_connection_and_never_a_header() {
    let (rig, _alice, id) = alices_client().await;
    let mut bob = rig.client(&Node::bob()).await;
    for (name, value) in [
        ("x-forwarded-for", "100.64.0.1"),
        ("forwarded", "for=100.64.0.1"),
        ("x-real-ip", "100.64.0.1"),
        ("tailscale-user-login", "alice"),
        ("tailscale-user-name", "alice"),
        ("x-forwarded-user", "alice"),
    ] {
        let landing = bob.send(Method::GET, "/", &[(name, value)], "").await;
        assert!(
            landing.text.contains("bob") && !landing.text.contains("alice"),
            "{name}"
        );
        let path = authorize_path(&id, &[]);
        let asked = bob.send(Method::GET, &path, &[(name, value)], "").await;
        assert_eq!(asked.status, StatusCode::BAD_REQUEST, "{name}");
    }
}

#[tokio::test]
async fn identity_source_that_control_no_longer_vouches_for_gives_no_new_tokens() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let first = code(&mut alice, &id, &[]).await;
    let refresh_token = text(&redeem(&mut alice, &id, &first).await, "refresh_token");
    let second = code(&mut alice, &id, &[]).await;
    node.facts.lock().netmap_age = Duration::from_secs(86_401);
    for answer in [
        redeem(&mut alice, &id, &second).await,
        refresh(&mut alice, &id, &refresh_token).await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
        assert_eq!(error(&answer), "temporarily_unavailable");
    }
    assert_eq!(
        alice.get(&authorize_path(&id, &[])).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        alice.register(&public_client()).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    // Control is heard again: nobody has to log in anew for it.
    node.facts.lock().netmap_age = Duration::ZERO;
    assert_eq!(redeem(&mut alice, &id, &second).await.status, StatusCode::OK);
    assert_eq!(refresh(&mut alice, &id, &refresh_token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn subnet_routers_and_nodes_of_other_tailnets_are_nobody() {
    let marks: [fn(&mut Caller); 2] = [|facts| facts.routes = true, |facts| facts.shared = true];
    for mark in marks {
        let rig = Rig::start(config()).await;
        let node = alice();
        let mut alice = rig.client(&node).await;
        let id = registered(&mut alice).await;
        let code = code(&mut alice, &id, &[]).await;
        mark(&mut node.facts.lock());
        assert_eq!(alice.register(&public_client()).await.status, StatusCode::FORBIDDEN);
        assert_eq!(
            alice.get(&authorize_path(&id, &[])).await.status,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(error(&redeem(&mut alice, &id, &code).await), "invalid_grant");
    }
}
