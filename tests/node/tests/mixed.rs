//! Our node and a real `tailscaled` on one tailnet, in both directions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::{process::Stdio, time::Duration};

use countersign_node_tests::{
    fleet::{ALICE, Fleet, PATIENCE, PORT, SERVER, accept_echo, echo, policy},
    real::Tailscaled,
};
use tailnet_node::{Node, Who};
use tailnet_testkit::{AuthKeySpec, TailnetConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

/// Our server and alice's real client.
struct Mixed {
    fleet: Fleet,
    server: Node,
    alice: Tailscaled,
}

impl Mixed {
    async fn start(config: TailnetConfig) -> Self {
        let fleet = Fleet::with(config).await;
        let server = fleet.join("server", AuthKeySpec::tags(&[SERVER])).await;
        let alice = Tailscaled::start(&fleet.tailnet).unwrap();
        let key = fleet.tailnet.auth_key(AuthKeySpec::user(ALICE)).unwrap();
        alice.up(&fleet.tailnet, "alice", &key).await.unwrap();
        fleet.tailnet.wait_online("alice", PATIENCE).await.unwrap();
        Self { fleet, server, alice }
    }

    async fn text(&self, args: &[&str]) -> String {
        let output = self.alice.tailscale(args).await.unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }

    /// Opens a connection with `tailscale nc`, exchanges bytes, and gives the identity that our server saw.
    async fn netcat(&self) -> tailnet_node::Identity {
        let mut listener = self.server.listen(PORT).unwrap();
        let mut nc = self.alice.command(&["nc", "server", "443"]);
        let mut nc = nc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let caller = accept_echo(&mut listener).await;
        nc.stdin.as_mut().unwrap().write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        timeout(PATIENCE, nc.stdout.as_mut().unwrap().read_exact(&mut got))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&got, b"hello");
        caller.identity().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_client_reaches_our_server_and_is_known() {
    let mixed = Mixed::start(TailnetConfig::default()).await;
    let identity = mixed.netcat().await;
    let Who::User { login, .. } = identity.who else {
        panic!("{identity:?}")
    };
    assert_eq!(login.as_ref(), ALICE);
    assert!(identity.capabilities.has("example.com/cap/test"));
    let address = mixed.fleet.info("server").addresses[0].to_string();
    for kind in ["--tsmp", "--icmp", "--until-direct"] {
        let pong = mixed.text(&["ping", "--c=5", "--timeout=5s", kind, &address]).await;
        assert!(pong.contains("pong from server"), "{kind}: {pong}");
        print!("{kind}: {pong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_relay_too() {
    let mixed = Mixed::start(TailnetConfig {
        nat: true,
        ..TailnetConfig::default()
    })
    .await;
    mixed.fleet.tailnet.block_udp(true);
    mixed.netcat().await;
    let address = mixed.fleet.info("server").addresses[0].to_string();
    let pong = mixed
        .text(&["ping", "--c=2", "--timeout=5s", "--until-direct=false", &address])
        .await;
    assert!(pong.contains("via DERP(loop)"), "{pong}");
    mixed.fleet.tailnet.block_udp(false);
    let pong = mixed
        .text(&["ping", "--c=40", "--timeout=5s", "--until-direct", &address])
        .await;
    assert!(pong.contains("via 127.0.0.1:"), "{pong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_node_reaches_a_real_one() {
    let policy = r#"{"tagOwners": {"tag:server": []}, "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}"#;
    let mixed = Mixed::start(TailnetConfig {
        policy: Some(policy.to_owned()),
        ..TailnetConfig::default()
    })
    .await;
    // In userspace mode tailscaled hands a connection to the same port on loopback.
    let local = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = local.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = local.accept().await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    });
    let mut stream = timeout(PATIENCE, mixed.server.dial(&format!("alice:{port}")))
        .await
        .unwrap()
        .unwrap();
    let payload: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    echo(&mut stream, &payload).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawal_ends_a_real_clients_connection() {
    let mixed = Mixed::start(TailnetConfig::default()).await;
    let mut listener = mixed.server.listen(PORT).unwrap();
    let mut nc = mixed.alice.command(&["nc", "server", "443"]);
    let mut nc = nc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let caller = accept_echo(&mut listener).await;
    // The peer stays: without it the client could not even read the reset.
    mixed
        .fleet
        .tailnet
        .set_policy(&policy("{}").replace("\"tcp:443\"", "\"tcp:8443\""))
        .unwrap();
    timeout(Duration::from_secs(1), caller.withdrawn()).await.unwrap();
    let mut rest = Vec::new();
    // The reset reached it: it ends although nobody closed its input.
    timeout(
        Duration::from_secs(5),
        nc.stdout.as_mut().unwrap().read_to_end(&mut rest),
    )
    .await
    .unwrap()
    .unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_restart_does_not_leave_a_real_client_waiting() {
    let mixed = Mixed::start(TailnetConfig::default()).await;
    mixed.netcat().await;
    let mut server = mixed.server;
    for _ in 0..5 {
        server.shutdown(PATIENCE).await;
        // The UDP port is free for the next one only when the last one is gone.
        drop(server);
        let restarted = std::time::Instant::now();
        let config = mixed
            .fleet
            .tailnet
            .node_config(mixed.fleet.folder("server"), "server", None)
            .unwrap();
        server = Node::start(config).await.unwrap();
        println!("joined {:?} after the restart began", restarted.elapsed());
        let mut listener = server.listen(PORT).unwrap();
        let mut nc = mixed.alice.command(&["nc", "server", "443"]);
        let _nc = nc.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        accept_echo(&mut listener).await;
        println!("connected {:?} after the restart began", restarted.elapsed());
        assert!(
            restarted.elapsed() < Duration::from_secs(2),
            "{:?}",
            restarted.elapsed()
        );
    }
}
