//! The whole authorization code flow over HTTP, and what others can do with its parts.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use url::form_urlencoded;

use super::*;

mod others;
mod tokens;

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
}

#[tokio::test]
async fn a_client_that_was_used_is_kept_and_the_audit_has_the_click_and_the_code() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &[]).await;
    assert_eq!(redeem(&mut alice, &id, &code).await.status, StatusCode::OK);
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
