//! Control and relay that go away, come back, and say odd things.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::time::{Duration, Instant};

use countersign_node_tests::fleet::{ALICE, Fleet, PATIENCE, PORT, accept_echo, echo};
use serde_json::json;
use tailnet_node::{Caller, Listener, Node, Stream};
use tailnet_testkit::{AuthKeySpec, TailnetConfig};
use tokio::time::timeout;

struct Pair {
    fleet: Fleet,
    server: Node,
    listener: Listener,
    alice: Node,
    stream: Stream,
    caller: Caller,
}

impl Pair {
    async fn new(config: TailnetConfig) -> Self {
        let fleet = Fleet::with(config).await;
        let (server, alice) = fleet.pair().await;
        let mut listener = server.listen(PORT).unwrap();
        let stream = alice.dial("server:443").await.unwrap();
        let caller = accept_echo(&mut listener).await;
        Self {
            fleet,
            server,
            listener,
            alice,
            stream,
            caller,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_control_the_tailnet_goes_on() {
    let mut pair = Pair::new(TailnetConfig::default()).await;
    pair.fleet.tailnet.stop_control().await;
    echo(&mut pair.stream, b"old connection").await.unwrap();
    let mut stream = pair.alice.dial("server:443").await.unwrap();
    accept_echo(&mut pair.listener).await;
    echo(&mut stream, b"new connection").await.unwrap();
    assert!(pair.caller.identity().is_ok());

    pair.fleet.tailnet.resume_control().await.unwrap();
    let start = Instant::now();
    pair.fleet.tailnet.wait_online("server", PATIENCE).await.unwrap();
    pair.fleet.tailnet.wait_online("alice", PATIENCE).await.unwrap();
    println!("both back after {:?}", start.elapsed());
    echo(&mut pair.stream, b"the connection outlived it all").await.unwrap();
    pair.fleet.tailnet.delete_node(pair.fleet.info("alice").id).unwrap();
    timeout(Duration::from_secs(1), pair.caller.withdrawn()).await.unwrap();
    drop(pair.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_stream_that_ends_is_opened_again() {
    let pair = Pair::new(TailnetConfig::default()).await;
    let before = pair.fleet.tailnet.map_streams();
    pair.fleet.tailnet.end_stream(pair.fleet.info("server").id);
    timeout(PATIENCE, async {
        while pair.fleet.tailnet.map_streams() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    pair.fleet.tailnet.wait_online("server", PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_may_restart() {
    let mut pair = Pair::new(TailnetConfig {
        nat: true,
        ..TailnetConfig::default()
    })
    .await;
    pair.fleet.tailnet.block_udp(true);
    echo(&mut pair.stream, b"over the relay").await.unwrap();
    pair.fleet.tailnet.stop_derp().await;
    pair.fleet.tailnet.resume_derp().await.unwrap();
    let start = Instant::now();
    echo(&mut pair.stream, b"over the relay again").await.unwrap();
    println!("over the relay again after {:?}", start.elapsed());
    let key = pair.fleet.info("server").key;
    assert_eq!(
        pair.fleet.tailnet.derp_connection(&key),
        Some(true),
        "it calls the relay its home"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_messages_end_nothing() {
    let mut pair = Pair::new(TailnetConfig::default()).await;
    let id = pair.fleet.info("server").id;
    let messages = [
        json!({}),
        json!({"KeepAlive": true}),
        json!({"Peers": [], "PeersChanged": null, "PeersRemoved": [999_999], "Future": {"x": [1, null]}}),
        json!({"PeersChangedPatch": [{"NodeID": 424_242, "Online": true}], "OnlineChange": {"7": true}}),
        json!({"PingRequest": {"URL": "https://127.0.0.1:1/x", "Types": "unheard-of"}}),
        json!({"DERPMap": {"Regions": null}, "UserProfiles": null, "Health": ["all is well"]}),
        json!({"PacketFilters": {"odd": [{"SrcIPs": ["not an address"], "DstPorts": [{"IP": "*"}]}]}}),
    ];
    for message in messages {
        assert_eq!(pair.fleet.tailnet.inject(id, &message.to_string()), 1);
        echo(&mut pair.stream, message.to_string().as_bytes()).await.unwrap();
        assert!(pair.caller.identity().is_ok(), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_costs_a_stream_and_no_more() {
    let mut pair = Pair::new(TailnetConfig::default()).await;
    for garbage in [b"\x05\0\0\0hello".as_slice(), b"\xff\xff\xff\xff", b"\0\0\0\0"] {
        let id = pair.fleet.tailnet.wait_online("server", PATIENCE).await.unwrap().id;
        pair.fleet.tailnet.inject_raw(id, garbage);
        tokio::time::sleep(Duration::from_millis(200)).await;
        echo(&mut pair.stream, b"still here").await.unwrap();
    }
    let server = pair.fleet.tailnet.wait_online("server", PATIENCE).await.unwrap();
    pair.fleet
        .tailnet
        .ping_control(server.id, true, PATIENCE)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn control_asks_and_the_node_answers() {
    let pair = Pair::new(TailnetConfig::default()).await;
    let id = pair.fleet.info("server").id;
    for noise in [true, false] {
        pair.fleet.tailnet.ping_control(id, noise, PATIENCE).await.unwrap();
    }
    let request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let echo = pair.fleet.tailnet.c2n(id, request, PATIENCE).await.unwrap();
    let echo = String::from_utf8(echo.to_vec()).unwrap();
    assert!(echo.starts_with("HTTP/1.1 200") && echo.ends_with("hello"), "{echo}");
    let unknown = pair
        .fleet
        .tailnet
        .c2n(id, "GET /prefs HTTP/1.1\r\nHost: x\r\n\r\n", PATIENCE)
        .await
        .unwrap();
    assert!(unknown.starts_with(b"HTTP/1.1 400"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_from_controls_expires_nobody() {
    let pair = Pair::new(TailnetConfig::default()).await;
    pair.fleet.tailnet.set_clock_skew(time::Duration::hours(-3));
    let id = pair.fleet.info("alice").id;
    // An hour ago by our clock, in two hours by control's.
    let expiry = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
    pair.fleet.tailnet.set_key_expiry(id, Some(expiry)).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(pair.caller.identity().is_ok(), "control's clock decides");
    pair.fleet.tailnet.set_clock_skew(time::Duration::ZERO);
    timeout(Duration::from_secs(2), pair.caller.withdrawn()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the watchdog takes two minutes; tests/run --full"]
async fn a_control_server_that_says_nothing_is_left_after_two_minutes() {
    let mut pair = Pair::new(TailnetConfig::default()).await;
    let before = pair.fleet.tailnet.map_streams();
    pair.fleet.tailnet.freeze_control(true);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(pair.caller.identity().is_ok());
    tokio::time::sleep(Duration::from_secs(35)).await;
    echo(&mut pair.stream, b"the tailnet goes on").await.unwrap();
    pair.fleet.tailnet.freeze_control(false);
    timeout(PATIENCE * 2, async {
        while pair.fleet.tailnet.map_streams() < before + 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("the dead streams were kept"));
    pair.fleet.tailnet.wait_online("server", PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_peers_are_no_burden() {
    let fleet = Fleet::start().await;
    fleet
        .tailnet
        .set_policy(r#"{"tagOwners": {"tag:server": []}, "grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}"#)
        .unwrap();
    fleet.tailnet.add_fake_peers("bob@example.com", 10_000).unwrap();
    let start = Instant::now();
    let server = fleet.join("server", AuthKeySpec::tags(&["tag:server"])).await;
    println!("joined among 10,000 after {:?}", start.elapsed());
    let alice = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
    let mut listener = server.listen(PORT).unwrap();
    let mut stream = alice.dial("server:443").await.unwrap();
    accept_echo(&mut listener).await;
    echo(&mut stream, b"hello").await.unwrap();
}
