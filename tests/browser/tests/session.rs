//! An application behind a web server: one click, then none, `/me` and logout.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::{Scene, VERIFIER};
use serde_json::{Value, json};

/// A scene whose client is an application behind a web server that an administrator published.
async fn published() -> Scene {
    let mut scene = Scene::new().await;
    act_for_alice(&scene).await;
    let metadata = json!({
        "redirect_uris": ["https://app.example/callback"], "token_endpoint_auth_method": "none",
        "client_name": "Wiki", "grant_types": ["authorization_code", "refresh_token"],
    });
    let made = scene.client().await.register(&metadata).await;
    scene.client_id = made.field("client_id");
    let server = scene.stage.server();
    server.publish(&scene.client_id, true, "root").await.unwrap();
    scene
}

/// Lets the application on alice's computer obtain tokens, so that there is something to take back.
async fn act_for_alice(scene: &Scene) {
    let mut client = scene.client().await;
    let between = |text: &str, before: &str, after: char| {
        let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{before}: {text}"));
        rest.split(after).next().unwrap().to_owned()
    };
    let request = [
        ("response_type", "code"),
        ("client_id", scene.client_id.as_str()),
        ("redirect_uri", "http://127.0.0.1:5000/callback"),
        ("scope", "openid email offline_access"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    let page = client.post("/authorize", &request, &[]).await;
    let ticket = between(&page.text, "name=\"ticket\" value=\"", '"');
    let cookie = page.header("set-cookie").split(';').next().unwrap();
    let ours = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let click = [("ticket", ticket.as_str()), ("choice", "allow")];
    let answer = client.post("/authorize/consent", &click, &ours).await;
    let code = between(answer.header("location"), "code=", '&');
    let redeem = [
        ("grant_type", "authorization_code"),
        ("client_id", scene.client_id.as_str()),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
    ];
    let tokens = client.post("/token", &redeem, &[]).await;
    assert!(tokens.json()["refresh_token"].is_string(), "{}", tokens.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_one_click_no_other_is_needed_until_logout_and_no_foreign_page_profits() {
    let seen = published().await.play("session").await;
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!(answers[0]["error"], "login_required", "{seen}");
    for answer in &answers[1..4] {
        assert!(answer["code"].is_string(), "{seen}");
    }
    assert_eq!(
        seen["before"], 4,
        "no part of bob's page brought the application a code: {seen}"
    );
    assert_eq!(answers[4]["error"], "login_required", "after logout: {seen}");
    let mine = seen["mine"].as_str().unwrap();
    for fact in [
        "Wiki",
        "Notes",
        "go on while you are away",
        "app.example",
        "(this browser)",
        "alice@example.com",
    ] {
        assert!(mine.contains(fact), "{fact}: {mine}");
    }
    let session = json!(["__Host-countersign_session", true, "Lax", true]);
    assert!(
        seen["cookies"].as_array().unwrap().contains(&session),
        "{}",
        seen["cookies"]
    );
    assert_eq!(seen["faults"], Value::Array(Vec::new()));
}
