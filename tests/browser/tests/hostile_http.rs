//! The same page against a server with `tls = off`. Chromium sends no Fetch Metadata to plain http, and bob's host counts
//! as the same site, so its requests carry even `SameSite=Strict` cookies: `Origin`, `Host` and the ticket must do.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::{Scene, judge};
use serde_json::{Value, json};

/// The consent page may be fetched, since a page is no code; it must not be seen, read or clicked.
fn asked_in_vain(seen: &Value) {
    assert_eq!(seen["answers"], json!([]), "nothing reached the application");
    let statuses = seen["statuses"].as_array().unwrap();
    assert!(!statuses.is_empty());
    for status in statuses {
        assert_eq!(status, &json!(["/authorize", 200]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_authorization_in_an_iframe_shows_no_page_over_http() {
    let seen = Scene::plain().await.play("iframe").await;
    asked_in_vain(&seen);
    assert_eq!(seen["button"], 0, "the frame is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_authorization_by_an_image_gives_no_code_over_http() {
    let seen = Scene::plain().await.play("image").await;
    asked_in_vain(&seen);
    assert_eq!(seen["loaded"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_authorization_by_fetch_reads_nothing_over_http() {
    let seen = Scene::plain().await.play("fetch").await;
    asked_in_vain(&seen);
    assert_eq!(seen["read"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_consent_fails_by_its_origin_over_http() {
    judge::forgery(&Scene::plain().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_consent_serves_nobody_over_http() {
    let whole = judge::remembered_consent(&Scene::plain().await).await;
    assert!(
        whole["error"].is_string(),
        "nothing says that a person navigated: {whole}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_page_ends_nothing_of_alices_and_cannot_log_her_out_over_http() {
    judge::takeaway(&Scene::plain().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_request_registers_no_client_over_http() {
    judge::registration(&Scene::plain().await, "simple_registration").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cross_origin_fetch_registers_no_client_over_http() {
    judge::registration(&Scene::plain().await, "registration_fetch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_rebinding_ends_at_the_host_header_over_http() {
    let scene = Scene::plain().await;
    let seen = scene.play("rebinding").await;
    for asked in ["landing", "authorize", "register", "token"] {
        let reply = &seen["replies"][asked];
        assert_eq!(reply[0], 421, "{asked}: {seen}");
        assert!(!reply[1].as_str().unwrap().contains("alice"), "{asked}: {seen}");
    }
    judge::no_client_of_mallorys(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intercepted_code_is_worth_nothing_to_a_fetch_of_the_token_endpoint_over_http() {
    judge::interception(&Scene::plain().await).await;
}
