//! `/me` over HTTP: what it shows, what its buttons end, and who may press them.

use countersign_oauth::session::Session;

use super::{
    flow::{ALL, FORM, field, form, refresh, text},
    session::{Browser, path_of, publisher, tokens, web_client},
    *,
};

/// The names of the buttons that end this kind of thing.
fn names<'a>(page: &'a Answer, kind: &str) -> Vec<&'a str> {
    let forms = page.text.split("<form ").skip(1);
    forms
        .filter(|form| form.contains(&format!("name=\"end\" value=\"{kind}\"")))
        .map(|form| field(form, "name=\"name\" value=\"", '"'))
        .collect()
}

/// Alice with a session, a remembered consent, a grant and a client.
struct Scene {
    rig: Rig,
    node: Node,
    browser: Browser,
    id: String,
    secret: String,
    refresh_token: String,
}

impl Scene {
    async fn new() -> Self {
        let rig = Rig::start(config()).await;
        let node = publisher();
        let mut browser = Browser::of(&rig, &node).await;
        let (id, secret) = web_client(&mut browser.client).await;
        let page = browser.open(&path_of(&id, &[])).await;
        let answer = browser.consent(&page).await;
        let tokens = tokens(&mut browser.client, &id, &secret, &answer).await;
        Self {
            refresh_token: text(&tokens, "refresh_token"),
            rig,
            node,
            browser,
            id,
            secret,
        }
    }

    async fn me(&mut self) -> Answer {
        let page = self.browser.open("/me").await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        page
    }

    async fn end(&mut self, kind: &str, name: &str) -> Answer {
        let page = self.me().await;
        let answer = self.browser.click("/me", &page, &[("end", kind), ("name", name)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        assert_eq!(answer.header("location"), "http://idp.example.ts.net/me");
        self.me().await
    }

    async fn end_the_one(&mut self, kind: &str) -> Answer {
        let page = self.me().await;
        let name = names(&page, kind)[0].to_owned();
        self.end(kind, &name).await
    }

    async fn refreshes(&mut self) -> bool {
        let body = form(&[
            ("grant_type", "refresh_token"),
            ("client_id", &self.id),
            ("client_secret", &self.secret),
            ("refresh_token", &self.refresh_token),
        ]);
        let answer = self.browser.client.send(Method::POST, "/token", &[FORM], body).await;
        answer.status == StatusCode::OK
    }

    async fn without_asking(&mut self) -> String {
        let answer = self.browser.open(&path_of(&self.id, &[("prompt", "none")])).await;
        let location = answer.header("location");
        if location.contains("code=") {
            "code".into()
        } else {
            field(location, "error=", '&').into()
        }
    }
}

#[tokio::test]
async fn a_person_sees_his_grants_consents_sessions_and_clients() {
    let mut scene = Scene::new().await;
    let page = scene.me().await;
    for fact in [
        "alice",
        "Wiki",
        scene.id.as_str(),
        "know who you are",
        "alice-laptop.example.ts.net",
        "(this browser)",
        "app.example",
    ] {
        assert!(page.text.contains(fact), "{fact}: {}", page.text);
    }
    for kind in ["session", "consent", "grant", "client", "everything"] {
        assert_eq!(names(&page, kind).len(), 1, "{kind}");
    }
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(!page.text.contains("<script"));

    let mut bob = Browser::of(&scene.rig, &Node::user(2, "bob", &[ALL])).await;
    bob.cookies = scene.browser.cookies.clone();
    let his = bob.open("/me").await;
    assert!(
        !his.text.contains("Wiki") && !his.text.contains("alice"),
        "{}",
        his.text
    );
    let framed = scene
        .browser
        .send(Method::GET, "/me", &[("sec-fetch-dest", "iframe")], "")
        .await;
    assert_eq!(framed.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn each_button_ends_one_thing() {
    let mut scene = Scene::new().await;
    assert!(scene.refreshes().await);
    let page = scene.end_the_one("grant").await;
    assert!(names(&page, "grant").is_empty());
    assert!(!scene.refreshes().await);
    assert_eq!(scene.without_asking().await, "code", "the consent stays");

    let page = scene.end_the_one("session").await;
    assert!(names(&page, "session").is_empty());
    assert_eq!(scene.without_asking().await, "login_required");

    let page = scene.end_the_one("client").await;
    assert!(names(&page, "client").is_empty());
    let gone = scene.browser.open(&path_of(&scene.id, &[])).await;
    assert_eq!(gone.status, StatusCode::BAD_REQUEST);
    let audit = scene.rig.store.audit(None, 100).await.unwrap();
    for event in ["grant_revoked", "session_ended", "client_deleted"] {
        assert!(audit.iter().any(|(_, line)| line.contains(event)), "{event}");
    }
}

#[tokio::test]
async fn taking_a_consent_back_ends_the_refresh_tokens_and_codes_it_gave() {
    let mut scene = Scene::new().await;
    let code = scene.browser.open(&path_of(&scene.id, &[("prompt", "none")])).await;
    let page = scene.end_the_one("consent").await;
    assert!(names(&page, "consent").is_empty() && names(&page, "grant").is_empty());
    assert!(!scene.refreshes().await);
    assert_eq!(scene.without_asking().await, "consent_required");
    let (id, secret) = (scene.id.clone(), scene.secret.clone());
    let late = tokens(&mut scene.browser.client, &id, &secret, &code).await;
    assert_eq!(
        late.json()["error"],
        "invalid_grant",
        "a code on its way is worth nothing either"
    );
}

#[tokio::test]
async fn everything_ends_at_once_on_all_nodes() {
    let mut scene = Scene::new().await;
    let phone = Node::new(Caller {
        node_id: "nphone".into(),
        ..scene.node.facts.lock().clone()
    });
    let mut other = Browser::of(&scene.rig, &phone).await;
    let page = other.open(&path_of(&scene.id, &[])).await;
    other.consent(&page).await;
    assert_eq!(names(&scene.me().await, "session").len(), 2);
    let page = scene.end("everything", "").await;
    for kind in ["session", "consent", "grant"] {
        assert!(names(&page, kind).is_empty(), "{kind}");
    }
    assert_eq!(names(&page, "client").len(), 1, "clients stay");
    assert!(!scene.refreshes().await);
    let none = other.open(&path_of(&scene.id, &[("prompt", "none")])).await;
    assert!(none.header("location").contains("login_required"));
}

#[tokio::test]
async fn only_the_page_itself_can_press_its_buttons() {
    let mut scene = Scene::new().await;
    let page = scene.me().await;
    let ticket = field(&page.text, "name=\"ticket\" value=\"", '"').to_owned();
    let body = form(&[("ticket", &ticket), ("end", "everything"), ("name", "")]);
    for headers in [
        vec![FORM],
        vec![FORM, ("origin", "null")],
        vec![FORM, ("origin", "https://evil.example.ts.net")],
        vec![
            FORM,
            ("sec-fetch-site", "same-site"),
            ("origin", "http://idp.example.ts.net"),
        ],
        vec![FORM, ("sec-fetch-site", "cross-site")],
    ] {
        let answer = scene.browser.send(Method::POST, "/me", &headers, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    let ours = [FORM, ("origin", "http://idp.example.ts.net")];
    let mut without_cookie = Browser::of(&scene.rig, &scene.node).await;
    let answer = without_cookie.send(Method::POST, "/me", &ours, &body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let mut bob = Browser::of(&scene.rig, &Node::user(2, "bob", &[ALL])).await;
    bob.cookies = scene.browser.cookies.clone();
    assert_eq!(
        bob.send(Method::POST, "/me", &ours, &body).await.status,
        StatusCode::BAD_REQUEST
    );
    assert!(scene.refreshes().await, "nothing ended");
    let answer = scene.browser.send(Method::POST, "/me", &ours, &body).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let again = scene.browser.send(Method::POST, "/me", &ours, &body).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "a ticket is spent once");
}

#[tokio::test]
async fn nobody_ends_what_is_another_persons() {
    let mut scene = Scene::new().await;
    let page = scene.me().await;
    let kinds = ["session", "consent", "grant", "client"];
    let taken: Vec<_> = kinds
        .iter()
        .map(|kind| (*kind, names(&page, kind)[0].to_owned()))
        .collect();
    let mut bob = Browser::of(&scene.rig, &Node::user(2, "bob", &[ALL])).await;
    for (kind, name) in taken {
        let page = bob.open("/me").await;
        let answer = bob.click("/me", &page, &[("end", kind), ("name", &name)]).await;
        assert_eq!(
            answer.status,
            StatusCode::SEE_OTHER,
            "there is nothing of that name below bob"
        );
    }
    assert!(scene.refreshes().await);
    assert_eq!(scene.without_asking().await, "code");
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let mut scene = Scene::new().await;
    for number in 0..24 {
        let metadata = json!({"client_name": format!("Client {number}"), "redirect_uris": ["https://app.example/cb"]});
        scene.browser.client.register(&metadata).await;
    }
    let first = scene.me().await;
    assert_eq!(names(&first, "client").len(), 20);
    let next = field(&first.text, "href=\"/me?clients=", '"').to_owned();
    let second = scene.browser.open(&format!("/me?clients={next}")).await;
    assert_eq!(names(&second, "client").len(), 5);
    assert!(!second.text.contains("/me?clients="));
    assert_eq!(
        scene.browser.open("/me?clients=%00nonsense").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn names_on_the_page_are_escaped_and_cannot_turn_it_around() {
    let rig = Rig::start(config()).await;
    let mut browser = Browser::of(&rig, &publisher()).await;
    let metadata = json!({"client_name": "<b>x</b>\u{202E}evil", "redirect_uris": ["https://app.example/cb"]});
    browser.client.register(&metadata).await;
    let page = browser.open("/me").await;
    assert!(page.text.contains("&lt;b&gt;x&lt;/b&gt;evil"), "{}", page.text);
    let answer = browser
        .open(&path_of("nobody", &[("resource", "https://x.example/\u{202E}")]))
        .await;
    assert!(!answer.text.contains('\u{202E}'));
}

#[tokio::test]
async fn a_public_clients_refresh_token_ends_with_its_grant() {
    let rig = Rig::start(config()).await;
    let node = flow::alice();
    let mut browser = Browser::of(&rig, &node).await;
    let id = flow::registered(&mut browser.client).await;
    let code = flow::code(&mut browser.client, &id, &[]).await;
    let token = text(&flow::redeem(&mut browser.client, &id, &code).await, "refresh_token");
    let page = browser.open("/me").await;
    let name = names(&page, "grant")[0].to_owned();
    browser.click("/me", &page, &[("end", "grant"), ("name", &name)]).await;
    let answer = refresh(&mut browser.client, &id, &token).await;
    assert_eq!(answer.json()["error"], "invalid_grant");
    assert_eq!(rig.store.scan::<Session>(b"", None, 10).await.unwrap().records.len(), 1);
}
