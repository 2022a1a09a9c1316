//! A page on bob's tailnet host, open in alice's browser, tries to use her identity.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::Scene;
use serde_json::{Value, json};

/// The statuses of the answers, all on one path, and none of them a code.
fn refused(seen: &Value, path: &str) {
    assert_eq!(seen["answers"], json!([]), "nothing reached the application");
    let statuses = seen["statuses"].as_array().unwrap();
    assert!(!statuses.is_empty());
    for status in statuses {
        assert_eq!(status, &json!([path, 403]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iframe_gets_no_consent_page() {
    let seen = Scene::new().await.play("iframe").await;
    refused(&seen, "/authorize");
    assert_eq!(seen["button"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_authorizes_nothing() {
    let seen = Scene::new().await.play("image").await;
    refused(&seen, "/authorize");
    assert_eq!(seen["loaded"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_authorizes_nothing_and_reads_nothing() {
    let seen = Scene::new().await.play("fetch").await;
    refused(&seen, "/authorize");
    assert_eq!(seen["read"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_consent_fails_even_with_the_right_ticket_and_leaves_the_question_open() {
    let seen = Scene::new().await.play("forgery").await;
    assert_eq!(seen["forged"]["answers"], json!([]));
    let refused = json!([["/authorize/consent", 400], ["/authorize/consent", 400]]);
    assert_eq!(seen["forged"]["statuses"], refused);
    assert!(
        seen["answers"][0]["code"].is_string(),
        "the person's own click still counts: {seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_registers_no_client() {
    let scene = Scene::new().await;
    let seen = scene.play("registration").await;
    assert_eq!(seen["read"], Value::Null);
    refused(&seen, "/register");
    let audit = scene.stage.store().audit(None, 100).await.unwrap();
    assert!(!audit.iter().any(|(_, line)| line.contains("Mallory")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercepted_code_is_worth_nothing_to_a_foreign_page() {
    let seen = Scene::new().await.play("token").await;
    let replies = seen["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 4);
    for reply in &replies[..3] {
        assert!(matches!(reply[0].as_u64(), Some(400 | 401 | 403)), "{reply}");
        assert!(reply[1]["access_token"].is_null(), "{reply}");
    }
    assert_eq!(replies[3][0], 0, "introspection is not for pages to read: {seen}");
}
