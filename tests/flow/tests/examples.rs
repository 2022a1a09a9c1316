//! The examples, run as a reader would run them.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use countersign_flow_tests::{ALICE, BOB, Example, PATIENCE, Scene, ask};
use tailnet_node::Node;
use tailnet_testkit::AuthKeySpec;

async fn start(scene: &Scene, package: &str, name: &str) -> Example {
    let key = scene
        .key_file(AuthKeySpec::tags(&["tag:internal-idp"]))
        .display()
        .to_string();
    let more = ["--auth-key-file", &key, "--hostname", name].map(str::to_owned);
    let example = Example::start(package, &[scene.join_flags(name), more.to_vec()].concat());
    scene.tailnet.wait_online(name, PATIENCE).await.unwrap();
    example
}

async fn call_echo(node: &Node, more: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}"#;
    let head = "POST /mcp HTTP/1.1\r\nHost: echo\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2025-06-18\r\n\
                Accept: application/json, text/event-stream\r\nConnection: close\r\n";
    let request = format!("{head}{more}Content-Length: {}\r\n\r\n{body}", body.len());
    ask(node, "echo", &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_says_who_calls_and_answers_no_web_page() {
    let scene = Scene::new().await;
    let _echo = start(&scene, "countersign-example-echo", "echo").await;
    let (alice, bob) = tokio::join!(scene.person("alice", ALICE), scene.person("bob", BOB));
    let answer = call_echo(&alice, "").await;
    assert!(answer.contains(r#""user":"alice@example.com""#), "{answer}");
    assert!(
        answer.contains(r#""capabilities":["tailscale.com/cap/tsidp"]"#),
        "{answer}"
    );
    let answer = call_echo(&bob, "").await;
    assert!(answer.contains(r#""user":"bob@example.com""#), "{answer}");
    assert!(answer.contains(r#""capabilities":[]"#), "{answer}");
    let answer = call_echo(&alice, "Origin: https://page.example\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_gives_and_takes_as_much_as_asked() {
    let scene = Scene::new().await;
    let _stream = start(&scene, "countersign-example-stream", "stream").await;
    let alice = scene.person("alice", ALICE).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: stream\r\nConnection: close\r\n\r\n");
    assert!(ask(&alice, "stream", &get("/hello")).await.ends_with("\r\n\r\nhello\n"));
    let answer = ask(&alice, "stream", &get("/stream?n=1000000")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 1000000"), "{head}");
    assert_eq!(body.len(), 1_000_000);
    let upload = "x".repeat(300_000);
    let head = "PUT /upload HTTP/1.1\r\nHost: stream\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n";
    let answer = ask(&alice, "stream", &format!("{head}{upload}")).await;
    assert!(answer.ends_with("\r\n\r\n300000\n"), "{answer}");
}
