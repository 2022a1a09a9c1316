//! The browser line of `countersign demo`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use countersign_browser_tests::Demo;

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_clicks_through_the_demo_as_alice_and_is_stopped_as_bob() {
    let demo = Demo::start().await;
    let seen = demo.click_through(0).await;
    let question = seen["question"].as_str().unwrap();
    for fact in [
        "alice@example.com",
        "an app on this computer",
        "http://echo.tailnet.test",
        "Notes",
    ] {
        assert!(question.contains(fact), "{fact}: {question}");
    }
    let received = seen["received"].as_str().unwrap();
    for fact in [
        "echo answered 200 OK",
        "\"user\": \"alice@example.com\"",
        "http://echo.tailnet.test",
        "tailnet_node",
    ] {
        assert!(received.contains(fact), "{fact}: {received}");
    }
    let seen = demo.click_through(1).await;
    let refusal = seen["question"].as_str().unwrap();
    assert!(refusal.contains("Only alice@example.com can use it"), "{refusal}");
    assert!(seen["received"].is_null());
}
