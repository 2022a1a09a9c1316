//! Relay, direct path, upgrade, fallback, roaming.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::time::{Duration, Instant};

use countersign_node_tests::fleet::{Fleet, PATIENCE, PORT, accept_echo, echo};
use tailnet_node::{Node, Stream};
use tailnet_testkit::TailnetConfig;

/// The server and alice behind their NATs, with a connection between them.
struct Pair {
    fleet: Fleet,
    _server: Node,
    alice: Node,
    stream: Stream,
}

impl Pair {
    async fn new(blocked: bool) -> Self {
        let fleet = Fleet::with(TailnetConfig {
            nat: true,
            ..TailnetConfig::default()
        })
        .await;
        fleet.tailnet.block_udp(blocked);
        let (server, alice) = fleet.pair().await;
        let mut listener = server.listen(PORT).unwrap();
        let stream = alice.dial("server:443").await.unwrap();
        accept_echo(&mut listener).await;
        Self {
            fleet,
            _server: server,
            alice,
            stream,
        }
    }

    /// Sends until alice's path to the server is (or is not) direct; gives the time that took.
    async fn until_direct(&mut self, direct: bool, limit: Duration) -> Duration {
        let start = Instant::now();
        while self.is_direct() != direct {
            echo(&mut self.stream, b"is there a path?").await.unwrap();
            assert!(
                start.elapsed() < limit,
                "still not direct={direct}: {:?}",
                self.alice.status()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        start.elapsed()
    }

    fn is_direct(&self) -> bool {
        let status = self.alice.status();
        let server = status.peers.iter().find(|peer| peer.name.starts_with("server"));
        server.is_some_and(|server| server.path.starts_with("direct"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_udp_the_relay_carries_everything() {
    let mut pair = Pair::new(true).await;
    let payload = vec![7; 200_000];
    echo(&mut pair.stream, &payload).await.unwrap();
    assert!(!pair.is_direct());
    let (relayed, _, refused) = pair.fleet.tailnet.derp_counts();
    assert!(relayed > 300, "{relayed} packets for 200 kB each way");
    assert_eq!(refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_become_direct_fall_back_and_become_direct_again() {
    let mut pair = Pair::new(true).await;
    echo(&mut pair.stream, b"over the relay").await.unwrap();
    pair.fleet.tailnet.block_udp(false);
    // Endpoints come with the next netcheck of a node that found no UDP before.
    println!(
        "direct after {:?}",
        pair.until_direct(true, Duration::from_secs(45)).await
    );
    pair.fleet.tailnet.block_udp(true);
    println!("relayed again after {:?}", pair.until_direct(false, PATIENCE).await);
    pair.fleet.tailnet.block_udp(false);
    println!(
        "direct again after {:?}",
        pair.until_direct(true, Duration::from_secs(45)).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moves_is_followed() {
    let mut pair = Pair::new(false).await;
    pair.until_direct(true, PATIENCE).await;
    for _ in 0..3 {
        pair.fleet.tailnet.roam("alice").await.unwrap();
        let start = Instant::now();
        echo(&mut pair.stream, b"from somewhere else").await.unwrap();
        println!("first bytes after a move: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_network_loses_no_bytes() {
    let mut pair = Pair::new(false).await;
    pair.until_direct(true, PATIENCE).await;
    pair.fleet.tailnet.set_udp_quality(0.03, Duration::from_millis(5));
    let payload: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    echo(&mut pair.stream, &payload).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of silence; tests/run --full"]
async fn an_idle_peer_is_not_probed() {
    let pair = Pair::new(true).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    let (before, ..) = pair.fleet.tailnet.derp_counts();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (after, ..) = pair.fleet.tailnet.derp_counts();
    assert!(after - before <= 2, "{} packets in 10 s of silence", after - before);
}
