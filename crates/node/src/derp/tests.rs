//! Pools against a small relay that speaks the server's side of the wire crate.

mod relay;

use std::time::Instant;

use tailnet_wire::derp::Frame;
use tokio::{sync::mpsc, time::timeout};

use self::relay::{Relay, Seen};
use super::*;

type Delivered = (u32, NodePublic, Vec<u8>);

struct Sink {
    packets: mpsc::UnboundedSender<Delivered>,
    gone: mpsc::UnboundedSender<(u32, NodePublic, GoneReason)>,
}

impl DerpSink for Sink {
    fn packets(&self, region: u32, batch: &mut Vec<DerpPacket>) {
        for DerpPacket { src, packet } in batch.drain(..) {
            self.packets.send((region, src, packet.to_vec())).unwrap();
        }
    }

    fn peer_gone(&self, region: u32, peer: NodePublic, reason: GoneReason) {
        self.gone.send((region, peer, reason)).unwrap();
    }
}

/// A pool and what it delivers.
struct Node {
    pool: DerpPool,
    key: NodePublic,
    packets: mpsc::UnboundedReceiver<Delivered>,
    gone: mpsc::UnboundedReceiver<(u32, NodePublic, GoneReason)>,
}

impl Node {
    fn new(relay: &Relay, byte: u8, timers: Timers) -> Self {
        let (packets, received) = mpsc::unbounded_channel();
        let (gone, told) = mpsc::unbounded_channel();
        let key = NodePrivate::from_random([byte; 32]);
        let public = key.public();
        let pool = DerpPool::with_timers(relay.roots(), key, Arc::new(Sink { packets, gone }), timers);
        pool.set_map(relay.map(1));
        Self {
            pool,
            key: public,
            packets: received,
            gone: told,
        }
    }

    async fn packet(&mut self) -> Delivered {
        within(self.packets.recv()).await.unwrap()
    }

    async fn wait_for(&self, what: impl Fn(&DerpStatus) -> bool) -> DerpStatus {
        let mut status = self.pool.subscribe();
        let all = within(status.wait_for(|all| all.get(&1).is_some_and(&what)))
            .await
            .unwrap();
        all[&1].clone()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("within 10 s")
}

fn is_connected(status: &DerpStatus) -> bool {
    matches!(status.state, DerpState::Connected { .. })
}

#[tokio::test]
async fn packets_pass_between_two_nodes_and_home_is_noted() {
    let mut relay = Relay::start().await;
    let mut alice = Node::new(&relay, 1, Timers::default());
    let mut bob = Node::new(&relay, 2, Timers::default());
    bob.pool.set_home(Some(1));
    bob.wait_for(is_connected).await;
    assert!(bob.pool.is_home_connected());
    assert_eq!(relay.seen().await, Seen::Connected(bob.key));
    assert_eq!(relay.seen().await, Seen::Preferred(bob.key, true));
    assert!(alice.pool.send(1, &bob.key, b"hello"));
    assert_eq!(bob.packet().await, (1, alice.key, b"hello".to_vec()));
    for i in 0..100u8 {
        assert!(bob.pool.send(1, &alice.key, &[i; 1200]));
    }
    for i in 0..100u8 {
        assert_eq!(alice.packet().await, (1, bob.key, vec![i; 1200]));
    }
    let status = bob.wait_for(|_| true).await;
    assert_eq!(
        (
            status.counters.sent(),
            status.counters.received(),
            status.counters.dropped()
        ),
        (100, 1, 0)
    );
    assert!(!alice.pool.is_home_connected());
    bob.pool.set_home(None);
    loop {
        match relay.seen().await {
            Seen::Preferred(key, false) if key == bob.key => break,
            Seen::Connected(_) => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    within(bob.pool.shutdown()).await;
}

#[tokio::test]
async fn an_unknown_region_or_a_monstrous_packet_is_refused_at_once() {
    let relay = Relay::start().await;
    let node = Node::new(&relay, 1, Timers::default());
    assert!(!node.pool.send(7, &node.key, b"x"));
    assert!(!node.pool.send(1, &node.key, &vec![0; MAX_PACKET + 1]));
}

#[tokio::test]
async fn home_comes_back_after_the_relay_hangs_up_or_talks_nonsense() {
    let mut relay = Relay::start().await;
    let node = Node::new(&relay, 1, Timers::default());
    node.pool.set_home(Some(1));
    for harm in [&b""[..], &[5, 0xff, 0xff, 0xff, 0xff]] {
        loop {
            if relay.seen().await == Seen::Preferred(node.key, true) {
                break;
            }
        }
        relay.harm(node.key, harm);
        node.wait_for(|status| status.last_error.is_some()).await;
        node.wait_for(is_connected).await;
    }
}

#[tokio::test]
async fn other_regions_are_hung_up_on_when_idle_and_dialled_again() {
    let mut relay = Relay::start().await;
    let timers = Timers {
        idle: Duration::from_millis(150),
        tick: Duration::from_millis(50),
        ..Timers::default()
    };
    let alice = Node::new(&relay, 1, timers);
    for _ in 0..2 {
        alice.pool.send(1, &alice.key, b"to myself");
        assert_eq!(relay.seen().await, Seen::Connected(alice.key));
        assert_eq!(relay.seen().await, Seen::Left(alice.key));
    }
    alice
        .wait_for(|status| status.state == DerpState::Idle && status.last_error.is_none())
        .await;
}

#[tokio::test]
async fn a_silent_relay_is_left() {
    let relay = Relay::start().await;
    let timers = Timers {
        silence: Duration::from_millis(100),
        ..Timers::default()
    };
    let node = Node::new(&relay, 1, timers);
    node.pool.set_home(Some(1));
    let status = node.wait_for(|status| status.last_error.is_some()).await;
    assert_eq!(status.last_error.as_deref(), Some("the relay is silent"));
}

#[tokio::test]
async fn what_the_relay_tells_is_passed_on() {
    let relay = Relay::start().await;
    let timers = Timers {
        tick: Duration::from_millis(20),
        ..Timers::default()
    };
    let mut node = Node::new(&relay, 1, timers);
    node.pool.set_home(Some(1));
    node.wait_for(is_connected).await;
    let stranger = NodePublic::from_bytes([7; 32]);
    node.pool.send(1, &stranger, b"anybody there?");
    let gone = within(node.gone.recv()).await.unwrap();
    assert_eq!(gone, (1, stranger, GoneReason::NotHere));
    relay.say(node.key, Frame::Health("a second one".into()));
    node.wait_for(|status| status.health.as_deref() == Some("a second one"))
        .await;
    relay.say(node.key, Frame::Health(String::new()));
    node.wait_for(|status| status.health.is_none()).await;
    node.wait_for(|status| status.rtt.is_some()).await;
}

#[tokio::test]
async fn a_restarting_relay_is_left_alone_for_as_long_as_it_asks() {
    let mut relay = Relay::start().await;
    let node = Node::new(&relay, 1, Timers::default());
    node.pool.set_home(Some(1));
    while relay.seen().await != Seen::Preferred(node.key, true) {}
    let reconnect_in = Duration::from_millis(700);
    relay.say(
        node.key,
        Frame::Restarting {
            reconnect_in,
            try_for: Duration::ZERO,
        },
    );
    relay.harm(node.key, b"");
    let begin = Instant::now();
    node.wait_for(|status| !is_connected(status)).await;
    node.wait_for(is_connected).await;
    assert!(begin.elapsed() >= reconnect_in);
}

#[tokio::test]
async fn a_changed_map_moves_or_ends_the_connection() {
    let mut relay = Relay::start().await;
    let node = Node::new(&relay, 1, Timers::default());
    node.pool.set_home(Some(1));
    while relay.seen().await != Seen::Preferred(node.key, true) {}
    let second = Relay::start().await;
    node.pool.set_map(second.map(1));
    assert_eq!(relay.seen().await, Seen::Left(node.key));
    node.wait_for(|status| status.last_error.is_some()).await;
    let mut status = node.pool.subscribe();
    node.pool.set_map(Arc::default());
    within(status.wait_for(|all| all.is_empty())).await.unwrap();
    node.pool.set_map(relay.map(1));
    node.wait_for(is_connected).await;
}

#[tokio::test]
async fn a_relay_that_nobody_vouches_for_is_not_trusted() {
    let relay = Relay::start().await;
    let stranger = Relay::start().await;
    let node = Node::new(&stranger, 1, Timers::default());
    node.pool.set_map(relay.map(1));
    node.pool.set_home(Some(1));
    let status = node.wait_for(|status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("certificate"));
}

#[test]
fn a_full_queue_drops_the_oldest() {
    let queue = SendQueue::default();
    let dst = NodePublic::from_bytes([1; 32]);
    for i in 0..300u16 {
        queue.push(&dst, &i.to_be_bytes());
    }
    let (control, mut packets) = queue.take();
    assert!(control.is_empty());
    assert_eq!((packets.len(), queue.counters().dropped()), (256, 44));
    let first = packets.split(1);
    assert_eq!(first[first.len() - 2..], 44u16.to_be_bytes());
    for _ in 0..20 {
        queue.push(&dst, &[0; 60_000]);
    }
    assert_eq!(queue.take().1.len(), 8);
}

#[tokio::test]
async fn what_was_queued_before_a_flush_arrives_though_the_pool_ends() {
    let relay = Relay::start().await;
    let (alice, mut bob) = (
        Node::new(&relay, 1, Timers::default()),
        Node::new(&relay, 2, Timers::default()),
    );
    bob.pool.set_home(Some(1));
    bob.wait_for(is_connected).await;
    for number in 0..100u8 {
        assert!(alice.pool.send(1, &bob.key, &[number; 1000]));
    }
    // Without a connection so far: the flush waits for that, too.
    within(alice.pool.flush()).await;
    drop(alice);
    for number in 0..100u8 {
        assert_eq!(bob.packet().await.2, [number; 1000]);
    }
}
