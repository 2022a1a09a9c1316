//! The whole authorization code flow over HTTP, and what others can do with its parts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use url::form_urlencoded;

use super::*;

pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(super) const REDIRECT: &str = "http://localhost:5000/callback";
pub(super) const ALL: &str = r#"{"allow_dcr":true,"users":["*"],"resources":["*"]}"#;
pub(super) const RESOURCE: &str = "https://mcp.example.ts.net/mcp";
pub(super) const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

pub(super) fn alice() -> Node {
    Node::user(1, "alice", &[ALL])
}

pub(super) fn field<'a>(text: &'a str, before: &str, after: char) -> &'a str {
    text.split(before).nth(1).unwrap().split(after).next().unwrap()
}

/// A consent page as a browser holds it.
pub(super) struct Page {
    pub(super) ticket: String,
    pub(super) cookie: String,
    pub(super) html: String,
    pub(super) policy: String,
}

pub(super) async fn registered(client: &mut Client) -> String {
    client.register(&public_client()).await.json()["client_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(super) fn authorize_path(client_id: &str, extra: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", REDIRECT),
        ("state", "st&ate"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    pairs.extend_from_slice(extra);
    format!("/authorize?{}", form(&pairs))
}

pub(super) async fn page(client: &mut Client, client_id: &str, extra: &[(&str, &str)]) -> Page {
    let answer = client.get(&authorize_path(client_id, extra)).await;
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{} {}",
        answer.text,
        answer.header("location")
    );
    held_page(&answer)
}

/// The page that an answer holds.
pub(super) fn held_page(answer: &Answer) -> Page {
    Page {
        ticket: field(&answer.text, "name=\"ticket\" value=\"", '"').to_owned(),
        cookie: answer.header("set-cookie").split(';').next().unwrap().to_owned(),
        policy: answer.header("content-security-policy").to_owned(),
        html: answer.text.clone(),
    }
}

pub(super) async fn click(client: &mut Client, page: &Page, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![FORM, ("cookie", page.cookie.as_str())];
    all.extend_from_slice(headers);
    let body = form(&[("ticket", &page.ticket), ("choice", "allow")]);
    client.send(Method::POST, "/authorize/consent", &all, body).await
}

pub(super) const OURS: [(&str, &str); 1] = [("sec-fetch-site", "same-origin")];

pub(super) async fn code(client: &mut Client, client_id: &str, extra: &[(&str, &str)]) -> String {
    let page = page(client, client_id, extra).await;
    let answer = click(client, &page, &OURS).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    field(answer.header("location"), "code=", '&').to_owned()
}

pub(super) async fn redeem(client: &mut Client, client_id: &str, code: &str) -> Answer {
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", client_id),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]);
    client.send(Method::POST, "/token", &[FORM], body).await
}

pub(super) async fn refresh(client: &mut Client, client_id: &str, token: &str) -> Answer {
    let body = form(&[
        ("grant_type", "refresh_token"),
        ("client_id", client_id),
        ("refresh_token", token),
    ]);
    client.send(Method::POST, "/token", &[FORM], body).await
}

pub(super) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub(super) fn text(answer: &Answer, name: &str) -> String {
    answer.json()[name]
        .as_str()
        .unwrap_or_else(|| panic!("{}", answer.text))
        .to_owned()
}

#[tokio::test]
async fn alices_click_gives_her_client_tokens_for_one_resource() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let extra = [
        ("resource", RESOURCE),
        ("scope", "openid profile mcp:tools"),
        ("nonce", "n-1"),
    ];
    let page = page(&mut alice, &id, &extra).await;
    for fact in [
        "alice on alice-laptop.example.ts.net",
        "an app on this computer",
        RESOURCE,
        "Continue as alice",
        "Claude Code",
    ] {
        assert!(page.html.contains(fact), "{fact}: {}", page.html);
    }
    assert!(
        page.policy.contains("form-action 'self' http: http://localhost:5000;"),
        "{}",
        page.policy
    );
    assert!(page.policy.contains("frame-ancestors 'none'"));

    let answer = click(&mut alice, &page, &OURS).await;
    let location = answer.header("location").to_owned();
    assert!(
        location.starts_with("http://localhost:5000/callback?code="),
        "{location}"
    );
    assert!(
        location.ends_with("&iss=http%3A%2F%2Fidp.example.ts.net&state=st%26ate"),
        "{location}"
    );
    let answer = redeem(&mut alice, &id, field(&location, "code=", '&')).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let access = claims(&text(&answer, "access_token"));
    assert_eq!((&access["aud"], &access["sub"]), (&json!(RESOURCE), &json!("userid:1")));
    assert_eq!(answer.json()["scope"], "openid profile mcp:tools");
    let id_token = claims(&text(&answer, "id_token"));
    assert_eq!((&id_token["aud"], &id_token["nonce"]), (&json!(id), &json!("n-1")));
    assert_eq!(id_token["preferred_username"], "alice");

    let stored = rig
        .store
        .reads()
        .get::<countersign_oauth::client::Client>(&id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.unused_until, None, "a client that was used is kept");
    let audit: Vec<_> = rig
        .store
        .audit(None, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    for event in ["consent_given", "code_redeemed"] {
        assert!(audit.iter().any(|line| line.contains(event)), "{event}");
    }
}

#[tokio::test]
async fn no_page_but_ours_can_click() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let page = page(&mut alice, &id, &[]).await;
    for headers in [
        vec![],
        vec![("origin", "null")],
        vec![("origin", "https://evil.example.ts.net")],
        vec![("sec-fetch-site", "same-site"), ("origin", "http://idp.example.ts.net")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "none")],
    ] {
        assert_eq!(
            click(&mut alice, &page, &headers).await.status,
            StatusCode::BAD_REQUEST,
            "{headers:?}"
        );
    }
    let forged = Page {
        cookie: "consent=x".into(),
        ticket: page.ticket.clone(),
        html: String::new(),
        policy: String::new(),
    };
    assert_eq!(click(&mut alice, &forged, &OURS).await.status, StatusCode::BAD_REQUEST);
    let second_laptop = Node::new(Caller {
        node_id: "nalice2".into(),
        ..node.facts.lock().clone()
    });
    let mut elsewhere = rig.client(&second_laptop).await;
    assert_eq!(
        click(&mut elsewhere, &page, &OURS).await.status,
        StatusCode::BAD_REQUEST
    );

    let by_origin = [("origin", "http://idp.example.ts.net")];
    assert_eq!(click(&mut alice, &page, &by_origin).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        click(&mut alice, &page, &by_origin).await.status,
        StatusCode::BAD_REQUEST,
        "a ticket is spent once"
    );
}

#[tokio::test]
async fn parts_of_a_page_cannot_even_ask() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    for dest in ["iframe", "image", "empty", "script"] {
        let answer = alice
            .send(Method::GET, &authorize_path(&id, &[]), &[("sec-fetch-dest", dest)], "")
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{dest}");
    }
    let whole = [("sec-fetch-dest", "document"), ("sec-fetch-site", "cross-site")];
    assert_eq!(
        alice
            .send(Method::GET, &authorize_path(&id, &[]), &whole, "")
            .await
            .status,
        StatusCode::OK
    );
    let body = authorize_path(&id, &[]).split_once('?').unwrap().1.to_owned();
    assert_eq!(
        alice.send(Method::POST, "/authorize", &[FORM], body).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn errors_are_pages_or_go_back_to_the_client() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let unknown = alice.get(&authorize_path("nobody", &[])).await;
    assert_eq!(
        (unknown.status, unknown.header("location")),
        (StatusCode::BAD_REQUEST, "")
    );
    let other = alice
        .get(&authorize_path(&id, &[]).replace("localhost", "evil.example"))
        .await;
    assert_eq!((other.status, other.header("location")), (StatusCode::BAD_REQUEST, ""));
    let back = alice.get(&authorize_path(&id, &[("prompt", "none")])).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    assert!(back.header("location").contains("error=login_required"));
    assert!(back.header("location").contains("iss="));

    let bob = rig.client(&Node::bob()).await.get(&authorize_path(&id, &[])).await;
    assert_eq!(bob.status, StatusCode::BAD_REQUEST);
    assert!(bob.text.contains("alice-laptop.example.ts.net"), "{}", bob.text);
}

#[tokio::test]
async fn bob_cannot_use_alices_code_or_refresh_token() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut bob = rig.client(&Node::user(2, "bob", &[ALL])).await;
    let id = registered(&mut alice).await;
    let stolen = code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    let answer = redeem(&mut bob, &id, &stolen).await;
    assert_eq!(
        (answer.status, answer.json()["error"].as_str()),
        (StatusCode::BAD_REQUEST, Some("invalid_grant"))
    );
    let audit = rig.store.audit(None, 100).await.unwrap();
    assert!(
        audit
            .iter()
            .any(|(_, line)| line.contains("token_refused") && line.contains("bob"))
    );

    let tokens = redeem(&mut alice, &id, &stolen).await;
    assert_eq!(
        tokens.status,
        StatusCode::OK,
        "the theft left the code alone: {}",
        tokens.text
    );
    let token = text(&tokens, "refresh_token");
    assert_eq!(refresh(&mut bob, &id, &token).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_replayed_code_ends_what_it_gave() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let once = code(&mut alice, &id, &[]).await;
    let tokens = redeem(&mut alice, &id, &once).await;
    assert_eq!(redeem(&mut alice, &id, &once).await.json()["error"], "invalid_grant");
    let answer = refresh(&mut alice, &id, &text(&tokens, "refresh_token")).await;
    assert_eq!(answer.json()["error"], "invalid_grant");
}

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
async fn userinfo_introspection_and_revocation() {
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
