//! Requests that an application pushed: what the browser carries is a reference, good for one answer.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::{Scene, VERIFIER};
use http::StatusCode;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_brings_the_browser_back_with_a_code_and_is_answered_once() {
    answers_once(&Scene::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_brings_the_browser_back_with_a_code_and_is_answered_once_over_http() {
    answers_once(&Scene::plain().await).await;
}

async fn answers_once(scene: &Scene) {
    let seen = scene.play("pushed").await;
    assert_eq!(seen["pushed"][0], 201, "{seen}");
    let link = seen["link"].as_str().unwrap();
    assert!(
        !link.contains("mcp.example.com") && !link.contains("127.0.0.1"),
        "{link}"
    );
    let question = seen["question"].as_str().unwrap();
    for fact in ["alice@example.com", "https://mcp.example.com/mcp", "Notes"] {
        assert!(question.contains(fact), "{fact}: {question}");
    }
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!(
        (answers.len(), &seen["title"]),
        (1, &json!("Back in the application")),
        "{seen}"
    );
    assert_eq!(
        (&answers[0]["iss"], &answers[0]["state"]),
        (&json!(scene.stage.server().issuer().as_str()), &json!("af0ifjsldkj"))
    );
    spent(&seen);
    redeemed(scene, &scene.client_id, &answers[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_behind_a_remembered_consent_needs_no_click_and_is_answered_once() {
    let scene = Scene::new().await;
    let seen = scene.play("pushed_remembered").await;
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!(
        answers.len(),
        2,
        "one click and one without, and nothing for the spent reference: {seen}"
    );
    assert_eq!(seen["silent"], json!([["/authorize", 303]]), "no page between: {seen}");
    spent(&seen);
    assert_ne!(answers[0]["code"], answers[1]["code"]);
    for answer in answers {
        redeemed(&scene, &scene.web_client_id, answer).await;
    }
}

/// The last thing the browser saw was that the reference is no good any more.
fn spent(seen: &Value) {
    let last = seen["statuses"].as_array().unwrap().last().unwrap();
    assert_eq!(last, &json!(["/authorize", 400]), "{seen}");
    assert!(seen["again"].as_str().unwrap().contains("start again"), "{seen}");
}

async fn redeemed(scene: &Scene, client: &str, answer: &Value) {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", answer["code"].as_str().unwrap()),
        ("code_verifier", VERIFIER),
    ];
    let tokens = scene.client().await.post("/token", &form, &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
}
