//! The testkit is honest: real `tailscaled`s live on it.

use std::time::Duration;

use countersign_node_tests::real::Tailscaled;
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};

const POLICY: &str = r#"{
    "groups": {"group:eng": ["alice@example.com"]},
    "tagOwners": {"tag:server": ["group:eng"]},
    "grants": [{"src": ["group:eng"], "dst": ["tag:server"], "ip": ["tcp:443", "icmp:*"],
                "app": {"example.com/cap/test": [{"role": "admin"}]}}]
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn two_real_tailscaleds_see_and_ping_each_other() {
    let tailnet = Tailnet::start(TailnetConfig {
        policy: Some(POLICY.to_owned()),
        ..TailnetConfig::default()
    })
    .await;
    let tailnet = tailnet.unwrap();
    let server = Tailscaled::start(&tailnet).unwrap();
    let alice = Tailscaled::start(&tailnet).unwrap();
    let bob = Tailscaled::start(&tailnet).unwrap();
    let tags = tailnet.auth_key(AuthKeySpec::tags(&["tag:server"])).unwrap();
    server.up(&tailnet, "server", &tags).await.unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user("alice@example.com")).unwrap();
    alice.up(&tailnet, "alice", &key).await.unwrap();
    let key = tailnet.auth_key(AuthKeySpec::user("bob@example.com")).unwrap();
    bob.up(&tailnet, "bob", &key).await.unwrap();

    let wait = Duration::from_secs(15);
    let info = tailnet
        .wait_online("server", wait)
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", server.log()));
    tailnet
        .wait_online("alice", wait)
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", alice.log()));
    let address = info.addresses[0].to_string();

    let status = text(&alice, &["status"]).await;
    assert!(status.contains("server") && status.contains(&address), "{status}");
    assert!(!status.contains("bob"), "alice must not know of bob:\n{status}");
    let status = text(&bob, &["status"]).await;
    assert!(
        !status.contains("server"),
        "no rule connects bob and the server:\n{status}"
    );

    for kind in ["--tsmp", "--icmp", "--until-direct=false"] {
        let pong = text(&alice, &["ping", "--c=1", "--timeout=5s", kind, &address]).await;
        assert!(pong.contains("pong"), "{kind}: {pong}\n{}", alice.log());
        println!("{kind} {pong}");
    }
    let whois = text(
        &server,
        &["whois", &tailnet.node("alice").unwrap().addresses[0].to_string()],
    )
    .await;
    assert!(
        whois.contains("alice@example.com") && whois.contains("example.com/cap/test"),
        "{whois}"
    );

    tailnet
        .set_policy(&POLICY.replace(
            r#""app": {"example.com/cap/test": [{"role": "admin"}]}"#,
            r#""app": {}"#,
        ))
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let whois = text(
        &server,
        &["whois", &tailnet.node("alice").unwrap().addresses[0].to_string()],
    )
    .await;
    assert!(
        !whois.contains("example.com/cap/test"),
        "the capability was withdrawn:\n{whois}"
    );
    tailnet.set_policy(r#"{"grants": []}"#).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = text(&alice, &["status"]).await;
    assert!(!status.contains("server"), "the server must have vanished:\n{status}");
}

#[allow(clippy::unwrap_used, reason = "a helper of tests")]
async fn text(node: &Tailscaled, args: &[&str]) -> String {
    let output = node.tailscale(args).await.unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
