//! An application behind a web server: one click, then none, `/me` and logout.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::Scene;
use serde_json::{Value, json};

/// A scene whose client is an application behind a web server that an administrator published.
async fn published() -> Scene {
    let mut scene = Scene::new().await;
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
    for fact in ["Wiki", "app.example", "(this browser)", "alice@example.com"] {
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
