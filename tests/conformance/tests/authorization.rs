//! MCP's conformance tool, both authorization-server scenarios, once for each specification version.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use countersign_conformance_tests::{ConnectProxy, Tool};
use countersign_flow_tests::{Client, Stage, policy};
use countersign_oauth::register::Mode;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};

const ALL: &str = r#"[{"allow_dcr": true, "users": ["*"], "resources": ["*"]}]"#;
const RESOURCE: &str = "https://mcp.example.com/mcp";
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn mcp_conformance_passes_for_2025_11_25() {
    passes("2025-11-25").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mcp_conformance_passes_for_2026_07_28() {
    passes("2026-07-28").await;
}

async fn passes(version: &str) {
    let tool = Tool::find();
    let stage = Stage::start(&policy(ALL, "[]"), Mode::Capability).await;
    let alice = stage.join("alice", "alice@example.com").await;
    let mut client = stage.client(&alice).await;
    let proxy = ConnectProxy::start(alice.clone()).await;
    let results = tempfile::tempdir().unwrap();
    let root = results.path().join("root.pem");
    std::fs::write(&root, stage.server().root_pem().unwrap()).unwrap();

    let port = TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let metadata = json!({"redirect_uris": [redirect], "token_endpoint_auth_method": "none"});
    let id = client.register(&metadata).await.field("client_id");

    let mut run = Command::new(&tool.node);
    run.arg(&tool.program)
        .args([
            "authorization",
            "--url",
            stage.server().issuer().as_str(),
            "--client-id",
            &id,
            "--port",
            &port,
        ])
        .args(["--resource", RESOURCE, "--spec-version", version, "--output-dir"])
        .arg(results.path())
        .env("NODE_USE_ENV_PROXY", "1")
        .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
        .env("NODE_EXTRA_CA_CERTS", &root)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let (status, printed, complaints) = conversation(run, &stage, &mut client).await;
    assert!(status.success(), "{printed}\n{complaints}");

    let checks = checks(results.path());
    assert_eq!(checks.len(), 3, "both scenarios ran: {checks:#?}");
    for check in checks {
        println!("{version} {} {}", check["id"], check["status"]);
        let cimd = check["status"] == "WARNING" && check["id"] == "authorization-server-metadata-cimd";
        assert!(check["status"] == "SUCCESS" || cimd, "{check:#}");
    }
}

/// Lets the tool run, and answers the pages to which it sends its user. How it ended, what it printed, its complaints.
async fn conversation(mut run: Command, stage: &Stage, client: &mut Client) -> (ExitStatus, String, String) {
    let mut run = run.spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut stderr = run.stderr.take().unwrap();
    let complaints = tokio::spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.map(|_| text)
    });
    let mut printed = String::new();
    let conversation = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            printed += &line;
            printed.push('\n');
            if let Some(path) = line.strip_prefix(stage.server().issuer().as_str()) {
                consent(client, path).await;
            }
        }
        run.wait().await.unwrap()
    };
    let status = timeout(LIMIT, conversation).await.unwrap();
    let complaints = complaints.await.unwrap().unwrap();
    (status, printed, complaints)
}

/// Answers the consent page as a browser does, and follows the redirect to the tool's callback.
async fn consent(client: &mut Client, path: &str) {
    let page = client
        .send(http::Method::GET, path, &[("sec-fetch-dest", "document")], "")
        .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let ticket = page
        .text
        .split("name=\"ticket\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let cookie = page.header("set-cookie").split(';').next().unwrap();
    let ours = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let answer = client
        .post("/authorize/consent", &[("ticket", ticket), ("choice", "allow")], &ours)
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let location = answer.header("location").strip_prefix("http://").unwrap();
    let (host, path) = location.split_once('/').unwrap();
    // The tool prints its address before it listens there.
    let mut tries = 0;
    let mut callback = loop {
        match TcpStream::connect(host).await {
            Ok(callback) => break callback,
            Err(error) => assert!(tries < 100, "the tool's callback on {host}: {error}"),
        }
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    callback.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    callback.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Every check of every scenario that the tool wrote down.
fn checks(folder: &Path) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let file = entry.path().join("checks.json");
        if let Ok(text) = std::fs::read_to_string(file) {
            found.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
        }
    }
    found
}
