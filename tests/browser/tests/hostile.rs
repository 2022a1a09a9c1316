//! A page on bob's tailnet host, open in alice's browser, tries to use her identity at a server on https.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::{Scene, judge};
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
async fn a_silent_authorization_in_an_iframe_gets_no_page() {
    let seen = Scene::new().await.play("iframe").await;
    refused(&seen, "/authorize");
    assert_eq!(seen["button"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_authorization_by_an_image_is_refused() {
    let seen = Scene::new().await.play("image").await;
    refused(&seen, "/authorize");
    assert_eq!(seen["loaded"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_authorization_by_fetch_is_refused_and_reads_nothing() {
    let seen = Scene::new().await.play("fetch").await;
    refused(&seen, "/authorize");
    assert_eq!(seen["read"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_consent_fails_even_with_the_right_ticket_and_leaves_the_question_open() {
    judge::forgery(&Scene::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_consent_serves_whole_pages_and_no_part_of_one() {
    let whole = judge::remembered_consent(&Scene::new().await).await;
    assert!(whole["code"].is_string(), "alice's own visit needs no click: {whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_ends_nothing_of_alices_and_cannot_log_her_out() {
    judge::takeaway(&Scene::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_request_registers_no_client() {
    let scene = Scene::new().await;
    let seen = judge::registration(&scene, "simple_registration").await;
    refused(&seen, "/register");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_origin_fetch_registers_no_client() {
    judge::registration(&Scene::new().await, "registration_fetch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_rebinding_ends_at_the_tls_handshake() {
    let scene = Scene::new().await;
    let seen = scene.play("rebinding_https").await;
    let opened = seen["opened"].as_str().unwrap();
    assert!(opened.contains("net::ERR_SSL"), "{seen}");
    assert_eq!(seen["read"], Value::Null, "{seen}");
    assert!(scene.stage.server().counters().handshakes_failed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercepted_code_is_worth_nothing_to_a_fetch_of_the_token_endpoint() {
    judge::interception(&Scene::new().await).await;
}
