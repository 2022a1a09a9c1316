//! The testkit is honest: real `tailscaled`s live on it, through everything that tests do to our own nodes.

#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use countersign_node_tests::real::Tailscaled;
use tailnet_testkit::{AuthKeySpec, NodeInfo, Tailnet, TailnetConfig};

const POLICY: &str = r#"{
    "groups": {"group:eng": ["alice@example.com"]},
    "tagOwners": {"tag:server": ["group:eng"]},
    "grants": [{"src": ["group:eng"], "dst": ["tag:server"], "ip": ["tcp:443", "icmp:*"],
                "app": {"example.com/cap/test": [{"role": "admin"}]}}]
}"#;
const WAIT: Duration = Duration::from_secs(15);

/// A server with a tag, and alice, who may reach it; both are real.
struct Pair {
    tailnet: Tailnet,
    server: Tailscaled,
    server_info: NodeInfo,
    alice: Tailscaled,
    alice_info: NodeInfo,
}

impl Pair {
    async fn start(config: TailnetConfig) -> Self {
        let config = TailnetConfig {
            policy: Some(POLICY.to_owned()),
            ..config
        };
        let tailnet = Tailnet::start(config).await.unwrap();
        let server = Tailscaled::start(&tailnet).unwrap();
        let alice = Tailscaled::start(&tailnet).unwrap();
        let key = tailnet.auth_key(AuthKeySpec::tags(&["tag:server"])).unwrap();
        server.up(&tailnet, "server", &key).await.unwrap();
        let key = tailnet.auth_key(AuthKeySpec::user("alice@example.com")).unwrap();
        alice.up(&tailnet, "alice", &key).await.unwrap();
        let server_info = tailnet.wait_online("server", WAIT).await.unwrap();
        let alice_info = tailnet.wait_online("alice", WAIT).await.unwrap();
        Self {
            tailnet,
            server,
            server_info,
            alice,
            alice_info,
        }
    }

    /// `tailscale ping` from alice to the server.
    async fn ping(&self, args: &[&str]) -> String {
        let address = self.server_info.addresses[0].to_string();
        let args = [&["ping", "--timeout=5s"], args, &[address.as_str()]].concat();
        text(&self.alice, &args).await
    }

    /// What the server says of alice.
    async fn whois(&self) -> String {
        text(&self.server, &["whois", &self.alice_info.addresses[0].to_string()]).await
    }
}

async fn text(node: &Tailscaled, args: &[&str]) -> String {
    let output = node.tailscale(args).await.unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asks until the answer is right, for at most ten seconds; gives the time it took.
async fn until(node: &Tailscaled, args: &[&str], right: impl Fn(&str) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let text = text(node, args).await;
        if right(&text) {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{args:?} still says:\n{text}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_decides_who_sees_whom() {
    let pair = Pair::start(TailnetConfig::default()).await;
    let bob = Tailscaled::start(&pair.tailnet).unwrap();
    let key = pair.tailnet.auth_key(AuthKeySpec::user("bob@example.com")).unwrap();
    bob.up(&pair.tailnet, "bob", &key).await.unwrap();

    let status = text(&pair.alice, &["status"]).await;
    let address = pair.server_info.addresses[0].to_string();
    assert!(status.contains("server") && status.contains(&address), "{status}");
    assert!(!status.contains("bob"), "alice must not know of bob:\n{status}");
    let status = text(&bob, &["status"]).await;
    assert!(
        !status.contains("server"),
        "no rule connects bob and the server:\n{status}"
    );
    let whois = pair.whois().await;
    assert!(
        whois.contains("alice@example.com") && whois.contains("example.com/cap/test"),
        "{whois}"
    );

    let without = POLICY.replace(
        r#""app": {"example.com/cap/test": [{"role": "admin"}]}"#,
        r#""app": {}"#,
    );
    pair.tailnet.set_policy(&without).unwrap();
    let alice = pair.alice_info.addresses[0].to_string();
    until(&pair.server, &["whois", &alice], |whois| {
        !whois.contains("example.com/cap/test")
    })
    .await;
    pair.tailnet.set_policy(r#"{"grants": []}"#).unwrap();
    until(&pair.alice, &["status"], |status| !status.contains("server")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_all_kinds_get_their_pong() {
    let pair = Pair::start(TailnetConfig::default()).await;
    for kind in ["--tsmp", "--icmp", "--until-direct"] {
        let pong = pair.ping(&["--c=1", kind]).await;
        assert!(
            pong.contains("pong from server"),
            "{kind}: {pong}\n{}",
            pair.alice.log()
        );
    }
    let (answered, _) = pair.tailnet.stun_counts();
    assert!(answered > 0, "both must have asked STUN");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_nat_udp_can_be_taken_away_and_given_back() {
    let pair = Pair::start(TailnetConfig {
        nat: true,
        ..TailnetConfig::default()
    })
    .await;
    pair.tailnet.block_udp(true);
    let pong = pair.ping(&["--c=2", "--until-direct=false"]).await;
    assert!(pong.contains("via DERP(loop)"), "{pong}");
    let (relayed, _, refused) = pair.tailnet.derp_counts();
    assert!(relayed > 0 && refused == 0);

    pair.tailnet.block_udp(false);
    let pong = pair.ping(&["--c=20", "--until-direct"]).await;
    assert!(pong.contains("via 127.0.0.1:"), "{pong}");
    let before = pair.tailnet.node("server").unwrap().endpoints;
    let moved = pair.tailnet.roam("alice").await.unwrap();
    assert!(!before.contains(&moved));
    let pong = pair.ping(&["--c=10", "--until-direct"]).await;
    assert!(pong.contains("pong from server"), "{pong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_and_relay_may_restart() {
    let pair = Pair::start(TailnetConfig::default()).await;
    pair.tailnet.block_udp(true);
    pair.tailnet.stop_control().await;
    let pong = pair.ping(&["--c=1", "--tsmp"]).await;
    assert!(
        pong.contains("pong from server"),
        "without control the tailnet goes on: {pong}"
    );
    assert!(!pair.tailnet.node("server").unwrap().online);
    pair.tailnet.resume_control().await.unwrap();
    pair.tailnet.wait_online("server", WAIT).await.unwrap();
    pair.tailnet.wait_online("alice", WAIT).await.unwrap();

    pair.tailnet.stop_derp().await;
    pair.tailnet.resume_derp().await.unwrap();
    let pong = pair.ping(&["--c=10", "--until-direct=false"]).await;
    assert!(pong.contains("pong from server"), "{pong}\n{}", pair.alice.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn control_asks_and_the_node_answers() {
    let pair = Pair::start(TailnetConfig::default()).await;
    let id = pair.alice_info.id;
    pair.tailnet.ping_control(id, true, WAIT).await.unwrap();
    pair.tailnet.ping_control(id, false, WAIT).await.unwrap();
    let echo = pair
        .tailnet
        .c2n(
            id,
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
            WAIT,
        )
        .await;
    let echo = String::from_utf8(echo.unwrap().to_vec()).unwrap();
    assert!(echo.starts_with("HTTP/1.1 200 OK") && echo.ends_with("hello"), "{echo}");
    let server: IpAddr = pair.server_info.addresses[0];
    for kind in ["disco", "TSMP"] {
        let pong = pair.tailnet.ping_peer(id, kind, server, WAIT).await.unwrap();
        assert_eq!((pong.ping_type.as_str(), pong.err.as_str()), (kind, ""));
        assert_eq!(pong.node_name, "server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_and_deletion_take_a_node_away() {
    let pair = Pair::start(TailnetConfig::default()).await;
    pair.tailnet.expire_node(pair.alice_info.id).unwrap();
    until(&pair.alice, &["status"], |status| status.contains("Logged out")).await;
    until(&pair.server, &["status", "--json"], |status| {
        status.contains(r#""Expired": true"#)
    })
    .await;
    pair.tailnet.delete_node(pair.alice_info.id).unwrap();
    until(&pair.server, &["status"], |status| !status.contains("alice")).await;

    let key = pair.tailnet.auth_key(AuthKeySpec::user("alice@example.com")).unwrap();
    pair.alice.up(&pair.tailnet, "alice", &key).await.unwrap();
    // Its home region it tells only when that changes, so "online" is all that can be waited for.
    until(&pair.server, &["status"], |status| status.contains("alice")).await;
    let again = pair.tailnet.node("alice").unwrap();
    assert_ne!(again.id, pair.alice_info.id);
}
