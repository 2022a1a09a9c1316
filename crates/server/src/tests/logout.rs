//! RP-initiated logout over HTTP.

use countersign_oauth::session::Session;

use super::{
    flow::{ALL, FORM, OURS, field, form, text},
    session::{Browser, path_of, publisher, tokens, web_client},
    *,
};

const AFTER: &str = "https://app.example/bye?x=1";

struct Scene {
    rig: Rig,
    browser: Browser,
    id: String,
    id_token: String,
}

async fn scene() -> Scene {
    let rig = Rig::start(config()).await;
    let mut browser = Browser::of(&rig, &publisher()).await;
    let (id, secret) = web_client(&mut browser.client).await;
    let page = browser.open(&path_of(&id, &[])).await;
    let answer = browser.consent(&page).await;
    let tokens = tokens(&mut browser.client, &id, &secret, &answer).await;
    let id_token = text(&tokens, "id_token");
    Scene {
        rig,
        browser,
        id,
        id_token,
    }
}

fn logout_path(pairs: &[(&str, &str)]) -> String {
    format!("/logout?{}", form(pairs))
}

impl Scene {
    async fn sessions(&self) -> usize {
        self.rig
            .store
            .scan::<Session>(b"", None, 10)
            .await
            .unwrap()
            .records
            .len()
    }

    async fn leave(&mut self, page: &Answer) -> Answer {
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        self.browser.click("/logout/answer", page, &[("choice", "leave")]).await
    }
}

#[tokio::test]
async fn logout_ends_the_session_and_returns_to_the_registered_address() {
    let mut scene = scene().await;
    rig_later(&scene.rig);
    let path = logout_path(&[
        ("id_token_hint", &scene.id_token),
        ("post_logout_redirect_uri", AFTER),
        ("state", "a&b"),
    ]);
    let page = scene.browser.open(&path).await;
    assert!(page.text.contains("Log out of this browser?") && page.text.contains("app.example"));
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("form-action 'self' https: https://app.example;"),
        "{policy}"
    );
    assert_eq!(scene.sessions().await, 1, "a question ends nothing");
    let answer = scene.leave(&page).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    assert_eq!(answer.header("location"), "https://app.example/bye?x=1&state=a%26b");
    assert_eq!(scene.sessions().await, 0);
    assert!(!scene.browser.cookies.contains_key("countersign_session"));
    let none = scene.browser.open(&path_of(&scene.id, &[("prompt", "none")])).await;
    assert!(none.header("location").contains("error=login_required"));
    let again = scene.leave(&page).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "an answer counts once");
}

/// The id_token expires; as a hint it stays good.
fn rig_later(rig: &Rig) {
    rig.seconds.fetch_add(3600, Relaxed);
}

#[tokio::test]
async fn a_form_may_ask_and_without_an_address_it_ends_on_a_page_of_ours() {
    let mut scene = scene().await;
    let body = form(&[("client_id", &scene.id), ("state", "s")]);
    let page = scene.browser.send(Method::POST, "/logout", &[FORM], &body).await;
    let answer = scene.leave(&page).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::OK, ""));
    assert!(answer.text.contains("Logged out"), "{}", answer.text);
    assert_eq!(scene.sessions().await, 0);
    let page = scene.browser.open("/logout").await;
    assert_eq!(
        scene.leave(&page).await.status,
        StatusCode::OK,
        "also without a session"
    );
}

#[tokio::test]
async fn only_a_registered_address_of_a_known_client_is_returned_to() {
    let mut scene = scene().await;
    let id = scene.id.clone();
    for bad in [
        "https://app.example/bye",
        "https://app.example/bye?x=1&y=2",
        "https://evil.example/",
    ] {
        let pairs = [("client_id", id.as_str()), ("post_logout_redirect_uri", bad)];
        let page = scene.browser.open(&logout_path(&pairs)).await;
        assert_eq!(
            (page.status, page.header("location")),
            (StatusCode::BAD_REQUEST, ""),
            "{bad}"
        );
    }
    let page = scene
        .browser
        .open(&logout_path(&[("post_logout_redirect_uri", AFTER)]))
        .await;
    let answer = scene.leave(&page).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (StatusCode::OK, ""),
        "nobody said for whom"
    );
}

#[tokio::test]
async fn bad_hints_and_contradictions_are_refused_on_a_page() {
    let mut scene = scene().await;
    let token = scene.id_token.clone();
    let modified = format!("{}A{}", &token[..60], &token[61..]);
    for pairs in [
        vec![("id_token_hint", modified.as_str())],
        vec![("id_token_hint", "nonsense")],
        vec![("id_token_hint", token.as_str()), ("client_id", "other")],
        vec![("client_id", "nobody")],
        vec![("client_id", "nobody"), ("client_id", "nobody")],
        vec![("id_token_hint", token.as_str()), ("id_token_hint", token.as_str())],
        vec![("ui_locales", "de"), ("ui_locales", "en")],
        vec![("state", "a\nb")],
    ] {
        let page = scene.browser.open(&logout_path(&pairs)).await;
        assert_eq!(
            (page.status, page.header("location")),
            (StatusCode::BAD_REQUEST, ""),
            "{pairs:?}"
        );
    }
    let mut bob = Browser::of(&scene.rig, &Node::user(2, "bob", &[ALL])).await;
    let his = bob.open(&logout_path(&[("id_token_hint", &token)])).await;
    assert_eq!(his.status, StatusCode::BAD_REQUEST, "another user's id_token");
    assert_eq!(scene.sessions().await, 1);
}

#[tokio::test]
async fn no_page_but_ours_can_log_a_person_out() {
    let mut scene = scene().await;
    let page = scene.browser.open("/logout").await;
    let ticket = field(&page.text, "name=\"ticket\" value=\"", '"').to_owned();
    let body = form(&[("ticket", &ticket), ("choice", "leave")]);
    for headers in [
        vec![FORM],
        vec![FORM, ("origin", "null")],
        vec![FORM, ("sec-fetch-site", "same-site")],
    ] {
        let answer = scene
            .browser
            .send(Method::POST, "/logout/answer", &headers, &body)
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    let me = scene.browser.open("/me").await;
    let crossed = scene.browser.click("/logout/answer", &me, &[("choice", "leave")]).await;
    assert_eq!(crossed.status, StatusCode::BAD_REQUEST, "the ticket of another page");
    let everything = form(&[("ticket", &ticket), ("end", "everything")]);
    let crossed = scene
        .browser
        .send(Method::POST, "/me", &[FORM, OURS[0]], &everything)
        .await;
    assert_eq!(crossed.status, StatusCode::BAD_REQUEST);
    assert!(crossed.text.contains("belongs to another page"), "{}", crossed.text);
    for part in ["iframe", "image"] {
        let answer = scene
            .browser
            .send(Method::GET, "/logout", &[("sec-fetch-dest", part)], "")
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    for choice in [
        vec![],
        vec![("choice", "maybe")],
        vec![("choice", "leave"), ("choice", "stay")],
    ] {
        let unclear = scene.browser.click("/logout/answer", &page, &choice).await;
        assert_eq!(unclear.status, StatusCode::BAD_REQUEST, "{choice:?}");
        assert!(unclear.text.contains("Choice "), "{}", unclear.text);
    }
    assert_eq!(scene.sessions().await, 1);
    let stay = scene
        .browser
        .click("/logout/answer", &page, &[("choice", "stay")])
        .await;
    assert_eq!(stay.header("location"), "http://idp.example.ts.net/me");
    assert_eq!(scene.sessions().await, 1);
}

#[tokio::test]
async fn the_metadata_names_the_endpoint_and_registration_the_addresses() {
    let mut scene = scene().await;
    let document = scene
        .browser
        .client
        .get("/.well-known/openid-configuration")
        .await
        .json();
    assert_eq!(document["end_session_endpoint"], "http://idp.example.ts.net/logout");
    assert_eq!(
        document["acr_values_supported"],
        json!(["urn:countersign:acr:tailnet-node"])
    );
    let metadata =
        json!({"redirect_uris": ["https://a.example/cb"], "post_logout_redirect_uris": ["https://a.example/x"]});
    let made = scene.browser.client.register(&metadata).await.json();
    assert_eq!(made["post_logout_redirect_uris"], json!(["https://a.example/x"]));
    let token = format!("Bearer {}", made["registration_access_token"].as_str().unwrap());
    let at = made["registration_client_uri"]
        .as_str()
        .unwrap()
        .replace("http://idp.example.ts.net", "");
    let replaced = json!({
        "client_id": made["client_id"], "redirect_uris": ["https://a.example/cb"],
        "post_logout_redirect_uris": ["https://a.example/y"],
    });
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let answer = scene
        .browser
        .send(Method::PUT, &at, &headers, &replaced.to_string())
        .await;
    assert_eq!(
        answer.json()["post_logout_redirect_uris"],
        json!(["https://a.example/y"]),
        "{}",
        answer.text
    );
    let bad = json!({"redirect_uris": ["https://a.example/cb"], "post_logout_redirect_uris": ["http://a.example/x"]});
    assert_eq!(
        scene.browser.client.register(&bad).await.status,
        StatusCode::BAD_REQUEST
    );
}
