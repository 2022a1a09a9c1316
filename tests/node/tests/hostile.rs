//! A peer that means harm, and garbage at line rate: others are still served, memory stays in its bounds, everything is
//! counted and, in the end, given back.
//!
//! The victim is a process of its own, so that its memory is its own. `COUNTERSIGN_FULL=1` makes the attacks longer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_node_tests::{
    fleet::{ALICE, Fleet, PATIENCE, echo},
    mallory::Mallory,
    victim::{Memory, Victim},
};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use tailnet_node::{
    Node,
    derp::{DerpPacket, DerpPool, DerpSink},
    tls,
};
use tailnet_testkit::AuthKeySpec;
use tailnet_wire::{
    control::{DerpMap, DerpNode, DerpRegion},
    derp::GoneReason,
    key::{NodePrivate, NodePublic},
    packet::{Addresses, IpProto, build},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Mutex, MutexGuard},
    time::timeout,
};

/// What the victim may spend on connections.
const CONNECTION_MEMORY: usize = 16 << 20;
/// What everything else may cost under attack.
const ELSE: usize = 32 << 20;

/// One attack at a time: they would measure each other.
static ONE: Mutex<()> = Mutex::const_new(());

fn is_full() -> bool {
    std::env::var_os("COUNTERSIGN_FULL").is_some()
}

/// A request of another peer takes at most this long meanwhile, on a machine that does other things too. Of the
/// hundreds in a long attack one may lose the same segment four times, which TCP repeats after 1, 2, 4 and 8 s.
fn prompt() -> Duration {
    Duration::from_secs(if is_full() { 15 } else { 5 })
}

/// A victim, a witness who wants to be served, and the attacker.
struct Scene {
    fleet: Fleet,
    victim: Victim,
    alice: Node,
    mallory: Mallory,
    memory: Memory,
    _one: MutexGuard<'static, ()>,
}

impl Scene {
    async fn set() -> Self {
        let one = ONE.lock().await;
        let fleet = Fleet::start().await;
        let program = env!("CARGO_BIN_EXE_victim");
        let victim = Victim::start(program, &fleet, CONNECTION_MEMORY).await.unwrap();
        let alice = fleet.join("alice", AuthKeySpec::user(ALICE)).await;
        let mallory = Mallory::join(&fleet).await;
        // What a first connection costs once and for all is not the attack's.
        serve(&alice).await;
        let memory = victim.watch_memory().unwrap();
        Self {
            fleet,
            victim,
            alice,
            mallory,
            memory,
            _one: one,
        }
    }

    /// Mallory's node is deleted; with it goes all that he held.
    async fn end(mut self, attack: &str) {
        let id = self.fleet.info("mallory").id;
        self.fleet.tailnet.delete_node(id).unwrap();
        serve(&self.alice).await;
        self.victim.released(PATIENCE).await.unwrap();
        let growth = self.memory.growth();
        println!("{attack}: memory grew by {} KiB at most", growth >> 10);
        assert!(growth <= CONNECTION_MEMORY + ELSE, "memory grew by {growth} bytes");
        self.alice.shutdown(PATIENCE).await;
    }
}

/// One request of alice's, on a connection of its own; how long it took.
async fn serve(alice: &Node) -> Duration {
    let start = Instant::now();
    let mut stream = timeout(PATIENCE, alice.dial("server:443")).await.unwrap().unwrap();
    stream.write_all(b"e").await.unwrap();
    echo(&mut stream, &[7; 3000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let _ = stream.read(&mut [0; 1]).await;
    start.elapsed()
}

/// Alice asks again and again until `done`; how long the slowest answer took.
async fn witness(alice: &Node, done: &AtomicBool) -> (u32, Duration) {
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) || answers == 0 {
        slowest = slowest.max(serve(alice).await);
        answers += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (answers, slowest)
}

/// Runs `attack` on a thread of its own while alice is served.
async fn under<T: Send + 'static>(scene: &mut Scene, attack: impl FnOnce(&mut Mallory) -> T + Send) -> T {
    let done = AtomicBool::new(false);
    let (alice, mallory, done) = (&scene.alice, &mut scene.mallory, &done);
    let handle = tokio::runtime::Handle::current();
    let (result, (answers, slowest)) = thread::scope(|threads| {
        let attack = threads.spawn(move || {
            let result = attack(mallory);
            done.store(true, Ordering::Relaxed);
            result
        });
        let witness = tokio::task::block_in_place(|| handle.block_on(witness(alice, done)));
        (attack.join().unwrap(), witness)
    });
    println!("meanwhile alice got {answers} answers, the slowest after {slowest:?}");
    assert!(slowest <= prompt(), "alice waited {slowest:?}");
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections() {
    let mut scene = Scene::set().await;
    let (opened, slow) = under(&mut scene, |mallory| {
        mallory.shake().unwrap();
        // Some with full receive buffers, some with full send buffers, the rest just open.
        let full = mallory.open(1000..1100, b'h', 200_000).unwrap();
        let slow = mallory.open(2000..2100, b'w', 0).unwrap();
        let idle = mallory.open(10_000..20_000, b'h', 0).unwrap();
        (full + slow + idle, slow)
    })
    .await;
    let status = scene.victim.status().await.unwrap();
    println!(
        "{opened} connections of 10,200 were opened, {slow} of them slow readers; {}",
        status["counters"]
    );
    assert!(opened > 100, "the victim takes what it can: {opened}");
    assert!(status["counters"]["refused"].as_u64().unwrap() > 1000);
    let used = status["connection_memory_used"].as_u64().unwrap() as usize;
    assert!(
        used <= CONNECTION_MEMORY / 4 * 3 + (1 << 20),
        "mallory leaves a share: {used}"
    );
    scene.end("10,000 connections").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_half_open() {
    let mut scene = Scene::set().await;
    under(&mut scene, |mallory| {
        mallory.shake().unwrap();
        mallory.half_open(10_000..20_000).unwrap();
    })
    .await;
    let status = scene.victim.status().await.unwrap();
    println!("{}", status["counters"]);
    assert!(status["counters"]["refused"].as_u64().unwrap() > 1000);
    scene.end("10,000 half-open connections").await;
}

/// What the garbage looks like.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Random,
    Oversized,
    Data,
    Response,
    Initiation,
    Disco,
    Stun,
}

const SHAPES: [Shape; 7] = [
    Shape::Random,
    Shape::Oversized,
    Shape::Data,
    Shape::Response,
    Shape::Initiation,
    Shape::Disco,
    Shape::Stun,
];

impl Shape {
    fn datagram(self, rng: &mut SmallRng) -> Vec<u8> {
        let len = match self {
            Self::Random | Self::Data => 100 + rng.next_u32() as usize % 1300,
            Self::Oversized => 60_000,
            Self::Response => 92,
            Self::Initiation => 148,
            Self::Disco => 150,
            Self::Stun => 80,
        };
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        match self {
            Self::Random | Self::Oversized => {}
            Self::Data => bytes[..4].copy_from_slice(&[4, 0, 0, 0]),
            Self::Response => bytes[..4].copy_from_slice(&[2, 0, 0, 0]),
            Self::Initiation => bytes[..4].copy_from_slice(&[1, 0, 0, 0]),
            Self::Disco => bytes[..6].copy_from_slice(&[0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac]),
            Self::Stun => {
                bytes[..4].copy_from_slice(&[1, 1, 0, 60]);
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            }
        }
        bytes
    }
}

/// How long each kind of garbage lasts.
fn burst() -> Duration {
    if is_full() {
        Duration::from_secs(10)
    } else {
        Duration::from_millis(700)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_line_rate() {
    let mut scene = Scene::set().await;
    let before = dropped(&mut scene.victim).await;
    for shape in SHAPES {
        let sent = under(&mut scene, move |mallory| {
            let mut rng = SmallRng::seed_from_u64(shape as u64);
            let datagrams: Vec<_> = (0..64).map(|_| shape.datagram(&mut rng)).collect();
            let (start, mut sent) = (Instant::now(), 0u64);
            while start.elapsed() < burst() {
                for datagram in &datagrams {
                    mallory.fire(datagram).unwrap();
                    sent += 1;
                }
            }
            sent
        })
        .await;
        let after = dropped(&mut scene.victim).await;
        println!("{shape:?}: {sent} sent, {} counted so far", after - before);
        assert!(after > before, "{shape:?} is counted");
    }
    scene.end("garbage").await;
}

/// Valid initiations cost us cryptography: in his own name, and in the name of others, whom anybody can claim to be.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_at_line_rate() {
    let mut scene = Scene::set().await;
    let sent = under(&mut scene, |mallory| {
        let claimed: Vec<_> = (0..200u8).map(|n| NodePrivate::from_random([n; 32])).collect();
        let mut initiations: Vec<_> = claimed.iter().map(|key| mallory.initiation(key)).collect();
        let own = mallory.key.clone();
        initiations.extend((0..200).map(|_| mallory.initiation(&own)));
        let (start, mut sent) = (Instant::now(), 0u64);
        while start.elapsed() < burst() * 3 {
            for initiation in &initiations {
                mallory.fire(initiation).unwrap();
                sent += 1;
            }
        }
        sent
    })
    .await;
    let status = scene.victim.status().await.unwrap();
    println!("{sent} initiations; {}", status["counters"]);
    assert!(status["counters"]["challenged"].as_u64().unwrap() > 0);
    // Somebody new comes while the limiter is still busy.
    let late = scene.fleet.join("late", AuthKeySpec::user(ALICE)).await;
    println!("a newcomer was served after {:?}", serve(&late).await);
    scene.end("handshakes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_through_the_relay() {
    let mut scene = Scene::set().await;
    let relay = relay_client(&scene).await;
    let before = dropped(&mut scene.victim).await;
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    under(&mut scene, move |mallory| {
        let mut rng = SmallRng::seed_from_u64(1);
        let datagrams: Vec<_> = SHAPES
            .iter()
            .flat_map(|shape| std::iter::repeat_n(shape, 16))
            .map(|shape| shape.datagram(&mut rng))
            .collect();
        let start = Instant::now();
        while start.elapsed() < burst() * 3 {
            for datagram in &datagrams {
                relay.send(1, &mallory.victim, datagram);
                count.fetch_add(1, Ordering::Relaxed);
            }
            // The client's own queue is small.
            thread::sleep(Duration::from_millis(1));
        }
    })
    .await;
    let counted = dropped(&mut scene.victim).await - before;
    println!(
        "{} sent through the relay, {counted} arrived and were counted",
        sent.load(Ordering::Relaxed)
    );
    assert!(counted > 100);
    scene.end("garbage through the relay").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_lie() {
    let mut scene = Scene::set().await;
    let (own, theirs) = (scene.mallory.own, scene.mallory.theirs);
    let alices = Ipv4Addr::from(match scene.fleet.info("alice").addresses[0] {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(_) => panic!("IPv4 comes first"),
    });
    under(&mut scene, move |mallory| {
        mallory.shake().unwrap();
        let packet = |src, dst, len| build::ip(&Addresses::V4(src, dst), IpProto::UDP, &vec![1; len]);
        for _ in 0..100 {
            mallory.inject(&packet(alices, theirs, 100)).unwrap();
            mallory.inject(&packet(own, alices, 100)).unwrap();
            mallory.inject(&packet(own, theirs, 9000)).unwrap();
            // A header length beyond the packet.
            let mut broken = packet(own, theirs, 8);
            broken[0] = 0x4f;
            mallory.inject(&broken).unwrap();
            // Slowly, so that none is lost in a full inbox.
            thread::sleep(Duration::from_millis(1));
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = scene.victim.status().await.unwrap();
    let counters = &status["counters"];
    println!("{counters}");
    for name in [
        "foreign_source",
        "foreign_destination",
        "not_authentic",
        "malformed_inside",
    ] {
        assert!(counters[name].as_u64().unwrap() > 0, "{name} is counted: {counters}");
    }
    scene.end("lies").await;
}

/// What the victim has dropped without looking further.
async fn dropped(victim: &mut Victim) -> u64 {
    let status = victim.status().await.unwrap();
    ["strangers", "malformed", "no_session", "inbox_full", "not_authentic"]
        .iter()
        .map(|name| status["counters"][name].as_u64().unwrap())
        .sum()
}

/// Takes nothing.
struct Deaf;

impl DerpSink for Deaf {
    fn packets(&self, _: u32, batch: &mut Vec<DerpPacket>) {
        batch.clear();
    }

    fn peer_gone(&self, _: u32, _: NodePublic, _: GoneReason) {}
}

/// A client of the relay with mallory's key.
async fn relay_client(scene: &Scene) -> DerpPool {
    let roots = tls::read_roots(&scene.fleet.folder("ca.pem")).unwrap();
    let pool = DerpPool::new(
        tls::root_store(&roots).unwrap(),
        scene.mallory.key.clone(),
        Arc::new(Deaf),
    );
    let url = scene.fleet.tailnet.derp_url();
    let node = DerpNode {
        name: "1a".to_owned(),
        region_id: 1,
        host_name: "derp.tailnet.test".to_owned(),
        ipv4: "127.0.0.1".to_owned(),
        ipv6: "none".to_owned(),
        derp_port: url.rsplit(':').next().unwrap().parse().unwrap(),
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: 1,
        nodes: vec![node],
        ..DerpRegion::default()
    };
    pool.set_map(Arc::new(DerpMap {
        regions: [(1, Arc::new(region))].into(),
        ..DerpMap::default()
    }));
    pool.set_home(Some(1));
    let connected = async {
        while !pool.is_home_connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, connected).await.unwrap();
    pool
}
