//! What a person sees and does.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::{Scene, VERIFIER};
use http::StatusCode;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_click_brings_the_browser_back_to_the_application_with_a_code() {
    clicks(&Scene::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_click_brings_the_browser_back_to_the_application_with_a_code_over_http() {
    clicks(&Scene::plain().await).await;
}

async fn clicks(scene: &Scene) {
    let seen = scene.play("person").await;
    let question = seen["question"].as_str().unwrap();
    for fact in [
        "alice@example.com",
        "an app on this computer",
        "https://mcp.example.com/mcp",
        "Notes",
    ] {
        assert!(question.contains(fact), "{fact}: {question}");
    }
    let answer = &seen["answers"][0];
    assert_eq!(answer["iss"], scene.stage.server().issuer().as_str());
    assert_eq!(answer["state"], "af0ifjsldkj");
    assert_eq!(seen["title"], "Back in the application");
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", scene.client_id.as_str()),
        ("code", answer["code"].as_str().unwrap()),
        ("code_verifier", VERIFIER),
    ];
    let tokens = scene.client().await.post("/token", &form, &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_posted_by_script_and_by_button() {
    let scene = Scene::new().await;
    let seen = scene.play("form_post").await;
    assert_eq!(seen["answers"].as_array().unwrap().len(), 2, "{seen}");
    for answer in seen["answers"].as_array().unwrap() {
        assert_eq!(answer["method"], "POST", "{seen}");
        assert_eq!(answer["iss"], scene.stage.server().issuer().as_str());
        assert!(answer["code"].is_string(), "{seen}");
    }
    assert_eq!(seen["faults"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_send_the_browser_on_and_may_listen_on_ipv6() {
    let scene = Scene::new().await;
    let seen = scene.play("onward").await;
    let answers = seen["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3, "{seen}");
    for answer in answers {
        assert!(answer["code"].is_string(), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_tells_the_application_that_access_was_denied() {
    let scene = Scene::new().await;
    let seen = scene.play("cancel").await;
    let answer = &seen["answers"][0];
    assert_eq!(answer["error"], "access_denied");
    assert_eq!(answer["iss"], scene.stage.server().issuer().as_str());
    assert!(answer["code"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_can_be_read_wide_and_narrow_in_light_and_dark() {
    let scene = Scene::new().await;
    let seen = scene.play("pages").await;
    let expected = json!([
        ["/", 200],
        ["/ca", 200],
        ["/authorize", 400],
        ["/authorize", 200],
        ["/authorize", 200],
        ["/me", 200],
        ["/logout", 200],
        ["/policy/explain", 200],
        ["/policy/explain", 200],
    ]);
    assert_eq!(seen["statuses"], expected);
    assert_eq!(seen["faults"], json!([]));
}
