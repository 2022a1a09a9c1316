//! Sessions, remembered consent and what `prompt` makes of them, over HTTP.

use countersign_oauth::{remembered::Remembered, session::Session};
use countersign_store::Due;

use super::{
    flow::{ALL, CHALLENGE, FORM, OURS, RESOURCE, VERIFIER, claims, field, form, text},
    *,
};

pub(super) const WEB: &str = "https://app.example/cb";
const PUBLISHES: &str = r#"{"countersign":{"publish_clients":true}}"#;
/// What a browser says of a navigation.
const WHOLE_PAGE: (&str, &str) = ("sec-fetch-dest", "document");

/// alice, whose registrations are for everybody.
pub(super) fn publisher() -> Node {
    Node::user(1, "alice", &[ALL, PUBLISHES])
}

/// A browser: a connection and the cookies that the server gave it.
pub(super) struct Browser {
    pub(super) client: Client,
    pub(super) cookies: std::collections::BTreeMap<String, String>,
}

impl Browser {
    pub(super) async fn of(rig: &Rig, node: &Node) -> Self {
        Self {
            client: rig.client(node).await,
            cookies: std::collections::BTreeMap::new(),
        }
    }

    pub(super) async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut all = vec![("cookie", cookies.as_str())];
        all.extend_from_slice(headers);
        let answer = self.client.send(method, path, &all, body.to_owned()).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, rest) = line.split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                let value = rest.split(';').next().unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// A navigation, as a browser on https sends it.
    pub(super) async fn open(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[WHOLE_PAGE], "").await
    }

    /// The click on a page of ours.
    pub(super) async fn click(&mut self, action: &str, page: &Answer, fields: &[(&str, &str)]) -> Answer {
        let ticket = field(&page.text, "name=\"ticket\" value=\"", '"').to_owned();
        let mut all = vec![("ticket", ticket.as_str())];
        all.extend_from_slice(fields);
        self.send(Method::POST, action, &[FORM, OURS[0]], &form(&all)).await
    }

    /// Consents on the page, and wants it remembered where that is offered.
    pub(super) async fn consent(&mut self, page: &Answer) -> Answer {
        assert_eq!(page.status, StatusCode::OK, "{} {}", page.text, page.header("location"));
        self.click("/authorize/consent", page, &[("choice", "allow"), ("remember", "yes")])
            .await
    }

    /// `code`, `page` or the error with which a request goes back.
    async fn comes_to(&mut self, path: &str) -> String {
        let answer = self.open(path).await;
        outcome(&answer)
    }
}

fn outcome(answer: &Answer) -> String {
    if answer.status == StatusCode::OK {
        return "page".into();
    }
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let location = answer.header("location");
    assert!(location.starts_with(&format!("{WEB}?")), "{location}");
    assert!(location.contains("iss=http%3A%2F%2Fidp.example.ts.net") && location.contains("state=s"));
    if location.contains("code=") {
        "code".into()
    } else {
        field(location, "error=", '&').into()
    }
}

/// A confidential client behind a web server; its id and secret.
pub(super) async fn web_client(client: &mut Client) -> (String, String) {
    let metadata = json!({
        "client_name": "Wiki", "redirect_uris": [WEB, "http://localhost/cb"],
        "token_endpoint_auth_method": "client_secret_post",
        "grant_types": ["authorization_code", "refresh_token"],
        "post_logout_redirect_uris": ["https://app.example/bye?x=1"],
    });
    let made = client.register(&metadata).await;
    (text(&made, "client_id"), text(&made, "client_secret"))
}

pub(super) fn path_of(id: &str, extra: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", WEB),
        ("scope", "openid"),
        ("state", "s"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in extra {
        pairs.retain(|(had, _)| had != name);
        pairs.push((name, value));
    }
    format!("/authorize?{}", form(&pairs))
}

pub(super) async fn tokens(client: &mut Client, id: &str, secret: &str, answer: &Answer) -> Answer {
    let code = field(answer.header("location"), "code=", '&');
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", id),
        ("client_secret", secret),
        ("code", code),
        ("code_verifier", VERIFIER),
    ]);
    client.send(Method::POST, "/token", &[FORM], body).await
}

/// A browser of alice's that consented for good to the client with this id.
async fn remembered(rig: &Rig, node: &Node) -> (Browser, String, String) {
    let mut browser = Browser::of(rig, node).await;
    let (id, secret) = web_client(&mut browser.client).await;
    let page = browser.open(&path_of(&id, &[])).await;
    assert!(
        page.text.contains("Do not ask me this again on alice-laptop"),
        "{}",
        page.text
    );
    assert_eq!(outcome(&browser.consent(&page).await), "code");
    (browser, id, secret)
}

async fn publish(rig: &Rig, id: &str) {
    rig.server.publish(id, true, "root").await.unwrap();
}

#[tokio::test]
async fn a_click_begins_a_session_bound_to_user_and_node() {
    let rig = Rig::start(config()).await;
    let mut browser = Browser::of(&rig, &publisher()).await;
    let (id, _) = web_client(&mut browser.client).await;
    let page = browser.open(&path_of(&id, &[])).await;
    let answer = browser.consent(&page).await;
    let cookie = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|line| line.to_str().unwrap())
        .find(|line| line.starts_with("countersign_session="))
        .unwrap();
    assert!(
        cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let secret = &browser.cookies["countersign_session"];
    let stored = rig
        .store
        .scan::<Session>(b"user:1\0nalice\0", None, 10)
        .await
        .unwrap()
        .records;
    assert_eq!(stored.len(), 1);
    assert!(stored[0].hash.verify(secret));
    assert_eq!(stored[0].auth_time, rig.now());
}

#[tokio::test]
async fn a_session_and_a_remembered_consent_give_a_code_resting_on_the_first_click() {
    let rig = Rig::start(config()).await;
    let (mut browser, id, secret) = remembered(&rig, &publisher()).await;
    let clicked = rig.now().unix_timestamp();
    rig.seconds.fetch_add(60, Relaxed);
    for prompt in [&[][..], &[("prompt", "none")]] {
        let answer = browser.open(&path_of(&id, prompt)).await;
        assert_eq!(outcome(&answer), "code");
        let tokens = tokens(&mut browser.client, &id, &secret, &answer).await;
        let id_token = claims(&text(&tokens, "id_token"));
        assert_eq!(id_token["auth_time"], json!(clicked));
        assert_eq!(id_token["acr"], "urn:countersign:acr:tailnet-node");
        assert_eq!(id_token["amr"], json!(["swk", "user"]));
        assert_eq!(claims(&text(&tokens, "access_token"))["auth_time"], json!(clicked));
    }
    let audit = rig.store.audit(None, 100).await.unwrap();
    assert!(audit.iter().any(|(_, line)| line.contains("code_without_click")));
}

#[tokio::test]
async fn prompt_none_says_what_is_missing() {
    let rig = Rig::start(config()).await;
    let node = publisher();
    let (mut browser, id, _) = remembered(&rig, &node).await;
    let none = path_of(&id, &[("prompt", "none")]);
    let mut stranger = Browser::of(&rig, &node).await;
    assert_eq!(stranger.comes_to(&none).await, "login_required");
    let more = path_of(&id, &[("prompt", "none"), ("scope", "openid email")]);
    assert_eq!(browser.comes_to(&more).await, "consent_required");
    let other = path_of(&id, &[("prompt", "none"), ("resource", RESOURCE)]);
    assert_eq!(browser.comes_to(&other).await, "consent_required");
    let silent = browser.send(Method::GET, &none, &[], "").await;
    assert_eq!(outcome(&silent), "interaction_required", "no word of a navigation");
    let ahead = [WHOLE_PAGE, ("sec-purpose", "prefetch;prerender")];
    let unseen = browser.send(Method::GET, &none, &ahead, "").await;
    assert_eq!(outcome(&unseen), "interaction_required", "nobody goes there yet");
    let unasked = browser.send(Method::GET, &path_of(&id, &[]), &ahead, "").await;
    assert_eq!(outcome(&unasked), "page");
    let both = path_of(&id, &[("prompt", "none login")]);
    assert_eq!(browser.comes_to(&both).await, "invalid_request");
    let body = none.split_once('?').unwrap().1;
    let posted = browser
        .send(Method::POST, "/authorize", &[FORM, WHOLE_PAGE], body)
        .await;
    assert_eq!(outcome(&posted), "code", "a form may ask as well");
    for part in ["iframe", "image", "empty"] {
        let answer = browser.send(Method::GET, &none, &[("sec-fetch-dest", part)], "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{part}");
    }
    rig.seconds.fetch_add(12 * 3600, Relaxed);
    assert_eq!(browser.comes_to(&none).await, "login_required", "the session is over");
}

#[tokio::test]
async fn login_consent_and_max_age_show_the_page_and_login_renews_the_click() {
    let rig = Rig::start(config()).await;
    let (mut browser, id, secret) = remembered(&rig, &publisher()).await;
    let first = rig.now().unix_timestamp();
    rig.seconds.fetch_add(60, Relaxed);
    for (extra, auth_time) in [
        (("prompt", "consent"), first),
        (("prompt", "select_account"), first),
        (("prompt", "login"), first + 60),
        (("max_age", "0"), first + 60),
    ] {
        let page = browser.open(&path_of(&id, &[extra])).await;
        let answer = browser.consent(&page).await;
        let tokens = tokens(&mut browser.client, &id, &secret, &answer).await;
        assert_eq!(
            claims(&text(&tokens, "id_token"))["auth_time"],
            json!(auth_time),
            "{extra:?}"
        );
    }
    rig.seconds.fetch_add(10, Relaxed);
    assert_eq!(browser.comes_to(&path_of(&id, &[("max_age", "10")])).await, "code");
    assert_eq!(browser.comes_to(&path_of(&id, &[("max_age", "9")])).await, "page");
    let none = [("max_age", "9"), ("prompt", "none")];
    assert_eq!(browser.comes_to(&path_of(&id, &none)).await, "login_required");
    let sessions = rig.store.scan::<Session>(b"", None, 100).await.unwrap().records;
    assert_eq!(sessions.len(), 1, "a renewed session takes the place of the old one");
}

#[tokio::test]
async fn another_node_or_user_cannot_use_the_cookie_and_the_subject_is_the_caller() {
    let rig = Rig::start(config()).await;
    let node = publisher();
    let (mut browser, id, secret) = remembered(&rig, &node).await;
    let laptop = Node::new(Caller {
        node_id: "nalice2".into(),
        ..node.facts.lock().clone()
    });
    let bob = Node::user(2, "bob", &[ALL]);
    let none = path_of(&id, &[("prompt", "none")]);
    for other in [&laptop, &bob] {
        let mut thief = Browser::of(&rig, other).await;
        thief.cookies = browser.cookies.clone();
        assert_eq!(thief.comes_to(&none).await, "login_required");
    }
    // The same node, handed over to bob: neither the session nor the consent is his. An administrator published the
    // client, for the rule of a node that changed hands publishes nothing.
    publish(&rig, &id).await;
    let mut his = Browser::of(&rig, &node).await;
    his.cookies = browser.cookies.clone();
    node.facts.lock().who = bob.facts.lock().who.clone();
    assert_eq!(his.comes_to(&none).await, "login_required");
    let page = his.open(&path_of(&id, &[("prompt", "consent")])).await;
    let answer = his.consent(&page).await;
    let tokens = tokens(&mut browser.client, &id, &secret, &answer).await;
    assert_eq!(
        claims(&text(&tokens, "id_token"))["sub"],
        "userid:2",
        "never the cookie's"
    );
}

#[tokio::test]
async fn consent_is_remembered_only_where_section_5_allows() {
    let rig = Rig::start(config()).await;
    let node = flow::alice();
    let mut browser = Browser::of(&rig, &node).await;
    let (id, _) = web_client(&mut browser.client).await;
    let none = path_of(&id, &[("prompt", "none")]);
    let page = browser.open(&path_of(&id, &[])).await;
    assert!(!page.text.contains("Do not ask"), "an unpublished registration");
    browser.consent(&page).await;
    assert_eq!(
        browser.comes_to(&none).await,
        "consent_required",
        "the wish is not granted either"
    );

    node.facts.lock().policy = Policy::parse([ALL, PUBLISHES]);
    let local = [("redirect_uri", "http://localhost:5000/cb")];
    let page = browser.open(&path_of(&id, &local)).await;
    assert!(!page.text.contains("Do not ask"), "whoever listens on this computer");
    browser.consent(&page).await;
    assert!(
        rig.store
            .scan::<Remembered>(b"", None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );

    let page = browser.open(&path_of(&id, &[])).await;
    let unasked = browser.click("/authorize/consent", &page, &[("choice", "allow")]).await;
    assert_eq!(outcome(&unasked), "code");
    assert_eq!(
        browser.comes_to(&none).await,
        "consent_required",
        "only on the user's wish"
    );

    let page = browser.open(&path_of(&id, &[])).await;
    browser.consent(&page).await;
    assert_eq!(browser.comes_to(&none).await, "code");
    node.facts.lock().policy = Policy::parse([ALL]);
    assert_eq!(browser.comes_to(&none).await, "consent_required", "published no longer");
}

#[tokio::test]
async fn what_others_had_of_a_client_that_was_taken_back_does_not_return_with_it() {
    let rig = Rig::start(config()).await;
    let (id, secret) = web_client(&mut rig.client(&flow::alice()).await).await;
    rig.server.publish(&id, true, "root").await.unwrap();
    let mut bob = Browser::of(&rig, &Node::user(2, "bob", &[ALL])).await;
    let page = bob.open(&path_of(&id, &[])).await;
    let clicked = bob.consent(&page).await;
    assert_eq!(bob.comes_to(&path_of(&id, &[("prompt", "none")])).await, "code");

    rig.server.publish(&id, false, "root").await.unwrap();
    rig.seconds.fetch_add(1, Relaxed);
    rig.server.publish(&id, true, "root").await.unwrap();
    let error = bob.comes_to(&path_of(&id, &[("prompt", "none")])).await;
    assert_eq!(error, "consent_required", "it may be another application by now");
    let late = tokens(&mut bob.client, &id, &secret, &clicked).await;
    assert_eq!(late.json()["error"], "invalid_grant", "{}", late.text);
    let page = bob.open(&path_of(&id, &[])).await;
    bob.consent(&page).await;
    assert_eq!(bob.comes_to(&path_of(&id, &[("prompt", "none")])).await, "code");
}

#[tokio::test]
async fn an_id_token_hint_may_name_the_caller_and_nobody_else() {
    let rig = Rig::start(config()).await;
    let (mut browser, id, secret) = remembered(&rig, &publisher()).await;
    let answer = browser.open(&path_of(&id, &[])).await;
    let hint = text(&tokens(&mut browser.client, &id, &secret, &answer).await, "id_token");
    rig.seconds.fetch_add(3600, Relaxed);
    let with = |hint: &str, prompt: &str| path_of(&id, &[("id_token_hint", hint), ("prompt", prompt)]);
    assert_eq!(
        browser.comes_to(&with(&hint, "none")).await,
        "code",
        "also when expired"
    );
    let mut bob = Browser::of(&rig, &Node::user(2, "bob", &[ALL])).await;
    for prompt in ["none", "login"] {
        assert_eq!(bob.comes_to(&with(&hint, prompt)).await, "login_required");
    }
    let cut = &hint[..hint.len() - 8];
    assert_eq!(browser.comes_to(&with(cut, "none")).await, "invalid_request");
    let access = text(
        &tokens(&mut browser.client, &id, &secret, &browser_code(&rig, &id).await).await,
        "access_token",
    );
    assert_eq!(browser.comes_to(&with(&access, "none")).await, "invalid_request");
}

/// A code that a fresh browser of alice's obtains with a click.
async fn browser_code(rig: &Rig, id: &str) -> Answer {
    let mut browser = Browser::of(rig, &publisher()).await;
    let page = browser.open(&path_of(id, &[])).await;
    browser.consent(&page).await
}

#[tokio::test]
async fn what_is_said_twice_is_named_also_across_query_and_form() {
    let rig = Rig::start(config()).await;
    let mut browser = Browser::of(&rig, &publisher()).await;
    let (id, _) = web_client(&mut browser.client).await;
    let path = path_of(&id, &[("nonce", "n")]);
    let answer = browser.send(Method::POST, &path, &[FORM], "nonce=m").await;
    assert_eq!(outcome(&answer), "invalid_request");
    assert!(answer.header("location").contains("nonce+was+sent+more+than+once"));
    let twice = browser
        .send(Method::POST, &path, &[FORM], &form(&[("client_id", &id)]))
        .await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
    assert!(
        twice.text.contains("Client_id was sent more than once"),
        "{}",
        twice.text
    );
    let split = path.replace("&state=s", "");
    assert_eq!(
        outcome(&browser.send(Method::POST, &split, &[FORM], "state=s").await),
        "page"
    );
    let ignored = [
        ("display", "popup"),
        ("ui_locales", "de"),
        ("claims_locales", "de"),
        ("acr_values", "9"),
        ("login_hint", "bob"),
        ("unheard", "of"),
    ];
    let page = browser.open(&path_of(&id, &ignored)).await;
    assert!(
        page.text.contains("Continue as alice"),
        "a login_hint is never trusted: {}",
        page.text
    );
}

#[tokio::test]
async fn sessions_are_bounded_and_swept() {
    let rig = Rig::start(config()).await;
    let node = publisher();
    let (_, id, _) = remembered(&rig, &node).await;
    for _ in 0..10 {
        rig.seconds.fetch_add(1, Relaxed);
        browser_code(&rig, &id).await;
    }
    let sessions = rig.store.scan::<Session>(b"", None, 100).await.unwrap().records;
    assert_eq!(sessions.len(), 8);
    assert!(
        sessions
            .iter()
            .all(|session| session.auth_time > rig.now() - time::Duration::seconds(9))
    );
    assert_eq!(
        rig.store
            .scan::<Remembered>(b"", None, 100)
            .await
            .unwrap()
            .records
            .len(),
        1
    );
    rig.seconds.fetch_add(31 * 24 * 3600, Relaxed);
    sweep::ended(&rig.store, rig.now()).await.unwrap();
    assert!(
        rig.store
            .scan::<Session>(b"", None, 1)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert!(
        rig.store
            .scan::<Remembered>(b"", None, 1)
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert!(rig.store.scan::<Due>(b"", None, 1).await.unwrap().records.is_empty());
}
