//! What the tailnet takes back ends at once, on connections that are open too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::time::{Duration, Instant};

use countersign_node_tests::fleet::{ALICE, Fleet, PATIENCE, PORT, SERVER, accept_echo, echo, no_grants, policy};
use tailnet_node::{Caller, Node, NodeState, Stream};
use tailnet_testkit::AuthKeySpec;
use time::OffsetDateTime;
use tokio::{io::AsyncReadExt, time::timeout};

/// From the issue: from the map message to the end of connection and handler.
const DEADLINE: Duration = Duration::from_secs(1);

struct Open {
    fleet: Fleet,
    server: Node,
    _alice: Node,
    stream: Stream,
    caller: Caller,
}

impl Open {
    /// The server and alice with an idle connection between them that has carried bytes.
    async fn new() -> Self {
        let fleet = Fleet::start().await;
        let (server, alice) = fleet.pair().await;
        let mut listener = server.listen(PORT).unwrap();
        let mut stream = alice.dial("server:443").await.unwrap();
        let caller = accept_echo(&mut listener).await;
        echo(&mut stream, b"hello").await.unwrap();
        Self {
            fleet,
            server,
            _alice: alice,
            stream,
            caller,
        }
    }

    /// The handler's end, then the client's; both within the deadline.
    async fn must_end(mut self, why: &str) {
        let start = Instant::now();
        timeout(DEADLINE, self.caller.withdrawn())
            .await
            .unwrap_or_else(|_| panic!("{why}: the handler goes on"));
        let handler = start.elapsed();
        let mut byte = [0];
        let read = timeout(DEADLINE, self.stream.read(&mut byte)).await;
        let read = read.unwrap_or_else(|_| panic!("{why}: the client's connection goes on"));
        assert!(matches!(read, Ok(0) | Err(_)), "{why}: {read:?}");
        println!(
            "{why}: handler ended after {handler:?}, client after {:?}",
            start.elapsed()
        );
        self.server.shutdown(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_grants_cuts() {
    let open = Open::new().await;
    open.fleet.tailnet.set_policy(&no_grants()).unwrap();
    open.must_end("policy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_port_cuts_while_the_peer_stays() {
    let open = Open::new().await;
    open.fleet
        .tailnet
        .set_policy(&policy("{}").replace("\"tcp:443\"", "\"tcp:8443\""))
        .unwrap();
    open.must_end("port").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_cuts() {
    let open = Open::new().await;
    open.fleet.tailnet.delete_node(open.fleet.info("alice").id).unwrap();
    open.must_end("deletion").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_by_an_admin_cuts() {
    let open = Open::new().await;
    open.fleet.tailnet.expire_node(open.fleet.info("alice").id).unwrap();
    open.must_end("nodes expire").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_by_time_cuts_without_a_word_from_control() {
    let open = Open::new().await;
    let soon = OffsetDateTime::now_utc() + time::Duration::milliseconds(1500);
    open.fleet
        .tailnet
        .set_key_expiry(open.fleet.info("alice").id, Some(soon))
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(open.caller.identity().is_ok(), "not yet");
    open.fleet.tailnet.freeze_control(true);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    open.must_end("expiry").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_cuts() {
    let open = Open::new().await;
    open.fleet.tailnet.rotate_key(open.fleet.info("alice").id).unwrap();
    open.must_end("rotation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_capability_does_not_cut() {
    let mut open = Open::new().await;
    open.fleet.tailnet.set_policy(&policy("{}")).unwrap();
    assert!(timeout(DEADLINE, open.caller.withdrawn()).await.is_err());
    assert!(!open.caller.identity().unwrap().capabilities.has("example.com/cap/test"));
    echo(&mut open.stream, b"still here").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_expiry_ends_us_and_a_reusable_key_brings_us_back() {
    let fleet = Fleet::start().await;
    let spec = AuthKeySpec::tags(&[SERVER]).reusable();
    let config = fleet.config("server", spec);
    let server = Node::start(config.clone()).await.unwrap();
    fleet.tailnet.wait_online("server", PATIENCE).await.unwrap();
    let alice = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
    let mut listener = server.listen(PORT).unwrap();
    let mut stream = alice.dial("server:443").await.unwrap();
    let caller = accept_echo(&mut listener).await;
    echo(&mut stream, b"hello").await.unwrap();

    let before = fleet.info("server");
    fleet.tailnet.expire_node(before.id).unwrap();
    let mut state = server.watch();
    let stopped = state.wait_for(|state| matches!(state, NodeState::Stopped(_)));
    let reason = format!("{:?}", *timeout(DEADLINE, stopped).await.unwrap().unwrap());
    println!("{reason}");
    timeout(DEADLINE, caller.withdrawn()).await.unwrap();
    drop(state);
    server.shutdown(PATIENCE).await;
    drop(server);

    let again = Node::start(config).await.unwrap();
    let after = fleet.tailnet.wait_online("server", PATIENCE).await.unwrap();
    assert_eq!((after.id, &after.addresses), (before.id, &before.addresses));
    let mut listener = again.listen(PORT).unwrap();
    let dial = async {
        loop {
            if let Ok(stream) = alice.dial("server:443").await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut stream = timeout(PATIENCE, dial).await.unwrap();
    accept_echo(&mut listener).await;
    echo(&mut stream, b"hello again").await.unwrap();
}
