//! Nodes that learn of each other one after the other, that ping each other for control, and that say goodbye.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::time::{Duration, Instant};

use countersign_node_tests::fleet::{ALICE, Fleet, PATIENCE, PORT, SERVER, accept_echo, echo};
use tailnet_testkit::{AuthKeySpec, TailnetConfig};
use tokio::{io::AsyncReadExt, runtime::Runtime};

/// Alice's first packets come while control has not told the server of her. WireGuard alone would try again after five
/// seconds.
#[tokio::test(flavor = "multi_thread")]
async fn who_knocked_too_early_is_let_in_as_soon_as_the_netmap_knows_them() {
    let fleet = Fleet::start().await;
    let server = fleet.join("server", AuthKeySpec::tags(&[SERVER])).await;
    let mut listener = server.listen(PORT).unwrap();
    fleet.tailnet.hold_back("server", true).unwrap();
    let alice = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
    let dialled = tokio::spawn(async move {
        let stream = alice.dial("server:443").await.unwrap();
        (alice, stream)
    });
    let knocked = async {
        while server.status().counters.strangers == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Her WireGuard has just asked; it asks again in five seconds.
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::time::timeout(PATIENCE, knocked).await.unwrap();
    let start = Instant::now();
    fleet.tailnet.hold_back("server", false).unwrap();
    accept_echo(&mut listener).await;
    let (_alice, mut stream) = dialled.await.unwrap();
    echo(&mut stream, b"here I am").await.unwrap();
    let took = start.elapsed();
    println!("served {took:?} after the netmap knew her");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_can_have_a_peer_pinged() {
    let fleet = Fleet::start().await;
    let (_server, _alice) = fleet.pair().await;
    let (alice, server) = (fleet.info("alice"), fleet.info("server"));
    let address = server.addresses[0];
    for kind in ["disco", "TSMP", "ICMP"] {
        let answer = fleet
            .tailnet
            .ping_peer(alice.id, kind, address, PATIENCE)
            .await
            .unwrap();
        println!("{answer:?}");
        assert_eq!((answer.ping_type.as_str(), answer.err.as_str()), (kind, ""));
        assert!(answer.latency_seconds > 0.0 && answer.node_name.starts_with("server."));
        let has_path = !answer.endpoint.is_empty() || answer.derp_region_id != 0;
        assert_eq!(has_path, kind == "disco");
    }
    let answer = fleet
        .tailnet
        .ping_peer(alice.id, "peerapi", address, PATIENCE)
        .await
        .unwrap();
    assert!(answer.err.contains("peerAPI"));
    let nobody = "100.64.9.9".parse().unwrap();
    let answer = fleet
        .tailnet
        .ping_peer(alice.id, "disco", nobody, PATIENCE)
        .await
        .unwrap();
    assert!(answer.err.contains("no peer"), "{}", answer.err);
}

/// The resets of a node that shuts down reach a peer that it talks to through the relay only, though its process ends
/// right after.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_behind_the_relay_hears_that_the_node_has_left() {
    let fleet = Fleet::with(TailnetConfig {
        nat: true,
        ..TailnetConfig::default()
    })
    .await;
    fleet.tailnet.block_udp(true);
    let process = Runtime::new().unwrap();
    let server = within(&process, fleet.join("server", AuthKeySpec::tags(&[SERVER])));
    let alice = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
    let mut listener = server.listen(PORT).unwrap();
    let mut streams = Vec::new();
    // No more than a relay holds for one client.
    for _ in 0..30 {
        let mut stream = alice.dial("server:443").await.unwrap();
        within(&process, accept_echo(&mut listener));
        echo(&mut stream, b"over the relay").await.unwrap();
        streams.push(stream);
    }
    within(&process, server.shutdown(PATIENCE));
    process.shutdown_background();
    for mut stream in streams {
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut [0; 1])).await;
        assert!(read.is_ok(), "every connection hears of it");
    }
}

/// Runs on another runtime, as in another process.
fn within<T>(process: &Runtime, work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| process.block_on(work))
}
