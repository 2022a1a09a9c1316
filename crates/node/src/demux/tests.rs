//! Crafted batches against a node without a control server.

use std::{net::Ipv4Addr, time::Instant};

use serde_json::json;
use tailnet_engine::{
    netmap::NetmapState,
    peer::Transmits,
    tunnel::{HandshakeLimiter, Tunnel},
};
use tailnet_wire::key::{DiscoPrivate, NodePrivate};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::{NodeConfig, clock, join::new_shared, state::State, supervisor::apply, tls, udp::UdpSockets};

const FROM: Hop = Hop::Udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9));

/// A node that knows the peers 2, 3, ... of a netmap.
struct Bench {
    shared: Arc<Shared>,
    _folder: TempDir,
}

/// The key of a peer.
fn key(id: u8) -> NodePrivate {
    NodePrivate::from_random([id; 32])
}

fn disco_key(id: u8) -> DiscoPrivate {
    DiscoPrivate::from_random([id ^ 0x55; 32])
}

impl Bench {
    fn new(peers: u8) -> Self {
        let folder = TempDir::new().unwrap();
        let config = NodeConfig::new(folder.path(), "https://hs.test".parse().unwrap(), "bench");
        let state = State::open(folder.path(), "https://hs.test/").unwrap();
        let udp = UdpSockets::bind(None, None).unwrap();
        let (stun, _) = mpsc::channel(1);
        let roots = tls::root_store(&[]).unwrap();
        let shared = new_shared(&config, &state, udp, DiscoPrivate::from_random([1; 32]), roots, stun);
        let bench = Self {
            shared,
            _folder: folder,
        };
        bench.netmap(2..peers + 2);
        bench
    }

    /// Puts a netmap with these peers in force.
    fn netmap(&self, peers: impl Iterator<Item = u8>) {
        let node = |id: u8, key: String, disco: String| {
            json!({"ID": id, "StableID": format!("s{id}"), "Name": format!("n{id}.test."), "User": 1, "Key": key,
                   "DiscoKey": disco, "Addresses": [format!("100.64.0.{id}/32")],
                   "Endpoints": [format!("192.0.2.{id}:41641")], "HomeDERP": 1})
        };
        let own = node(
            1,
            self.shared.key.public().to_string(),
            disco_key(1).public().to_string(),
        );
        let peers: Vec<_> = peers
            .map(|id| node(id, key(id).public().to_string(), disco_key(id).public().to_string()))
            .collect();
        let message = json!({"Node": own, "Peers": peers, "PacketFilters": {"base": []},
                             "UserProfiles": [{"ID": 1, "LoginName": "alice"}]});
        let message = serde_json::from_str(&message.to_string()).unwrap();
        let change = NetmapState::new().handle_response(message, clock::wall()).unwrap();
        let mut change = change.unwrap();
        let still: Vec<_> = change.netmap.peers().map(|peer| peer.key).collect();
        let known = self.shared.peers.all();
        change.removed = known
            .iter()
            .map(|peer| peer.key())
            .filter(|key| !still.contains(key))
            .collect();
        apply(&self.shared, &change);
    }

    /// An initiation for this node from whoever has `key`.
    fn initiation(&self, key: &NodePrivate) -> Vec<u8> {
        let now = Instant::now();
        let limiter = HandshakeLimiter::new(key, 1);
        let mut tunnel = Tunnel::new(key, &self.shared.key.public(), 7, &limiter, now);
        let mut out = vec![0; 200];
        let len = tunnel.initiate(now, &mut out).unwrap();
        out.truncate(len);
        out
    }

    fn receive(&self, from: Hop, relayed: Option<NodePublic>, bytes: Vec<u8>, stride: usize) {
        let bytes = Datagrams::Owned(bytes);
        let batch = Batch {
            from,
            relayed,
            bytes,
            stride,
        };
        handle_batch(&self.shared, batch);
    }

    fn counts(&self) -> [u64; 4] {
        let counters = &self.shared.counters;
        [
            counters.strangers.load(Relaxed),
            counters.malformed.load(Relaxed),
            counters.no_session.load(Relaxed),
            counters.challenged.load(Relaxed),
        ]
    }

    async fn handshakes(&self, id: u8) -> u64 {
        let peer = self.shared.peers.by_key(&key(id).public()).unwrap();
        for _ in 0..100 {
            if peer.engine().counters().handshakes > 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        peer.engine().counters().handshakes
    }
}

#[tokio::test]
async fn a_mixed_batch_is_taken_apart() {
    let bench = Bench::new(3);
    let mut bytes = Vec::new();
    bytes.extend(bench.initiation(&key(2)));
    bytes.extend([0xee; 148]);
    bytes.extend(bench.initiation(&key(3)));
    bytes.extend(bench.initiation(&key(99)));
    // The last datagram of a batch may be short.
    bytes.extend([4, 0, 0, 0, 1, 2]);
    bench.receive(FROM, None, bytes, 148);
    assert_eq!(bench.handshakes(2).await, 1);
    assert_eq!(bench.handshakes(3).await, 1);
    assert_eq!(bench.shared.peers.all().len(), 2, "nobody else is in touch");
    assert_eq!(bench.counts(), [1, 2, 0, 0]);
}

#[tokio::test]
async fn a_receiver_that_nobody_is_makes_no_peer() {
    let bench = Bench::new(1);
    let mut data = vec![0x77; 100];
    data[..4].copy_from_slice(&[4, 0, 0, 0]);
    bench.receive(FROM, None, data.clone(), 100);
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
    assert!(bench.shared.peers.all().is_empty());
    // From a known endpoint, or relayed for a peer, it is a session from before our restart.
    bench.receive(FROM, Some(key(2).public()), data, 100);
    assert_eq!(bench.shared.peers.all().len(), 1);
}

#[tokio::test]
async fn above_the_limit_there_are_cookies_and_no_work() {
    let bench = Bench::new(1);
    let stranger = bench.initiation(&key(99));
    for _ in 0..1500 {
        bench.receive(FROM, None, stranger.clone(), 148);
    }
    let [strangers, malformed, _, challenged] = bench.counts();
    assert_eq!(strangers + challenged, 1500);
    assert!(challenged > 400 && malformed == 0, "{:?}", bench.counts());
}

#[tokio::test]
async fn initiations_that_nothing_proves_make_few_peers() {
    let bench = Bench::new(100);
    for id in 2..102 {
        bench.receive(FROM, None, bench.initiation(&key(id)), 148);
    }
    // No task has run yet, so to us each of them may be forged.
    assert_eq!(bench.shared.peers.all().len(), 64);
    assert_eq!(bench.shared.counters.unproven.load(Relaxed), 36);
    assert_eq!(bench.handshakes(101).await, 1);
    bench.receive(FROM, None, bench.initiation(&key(2)), 148);
    assert_eq!(
        bench.shared.peers.all().len(),
        65,
        "those that have proven themselves stay"
    );
}

#[tokio::test]
async fn withdrawal_and_handshake_at_the_same_time() {
    let bench = Bench::new(1);
    let node = bench
        .shared
        .netmap
        .current()
        .unwrap()
        .peer_by_key(&key(2).public())
        .cloned()
        .unwrap();
    // The demultiplexer has looked the peer up; then the netmap changes.
    bench.netmap(3..4);
    assert!(bench.shared.claimed_peer(&node).is_none());
    assert!(bench.shared.peer_for(&node).is_none());
    bench.netmap(2..4);
    let back = bench.shared.peer_for(&node).unwrap();
    bench.netmap(3..4);
    assert!(bench.shared.peers.by_key(&node.key).is_none());
    assert!(back.engine().is_finished(), "its task ends");
    bench.netmap(2..4);
    let again = bench.shared.peer_for(&node).unwrap();
    assert!(!Arc::ptr_eq(&back, &again));
    bench.receive(FROM, None, bench.initiation(&key(2)), 148);
    assert_eq!(bench.handshakes(2).await, 1, "the new one is not confused with the old");
}

#[tokio::test]
async fn disco_of_others_and_call_me_maybe_over_udp_are_dropped() {
    let bench = Bench::new(2);
    let seal = |id: u8, message: &disco::Message| {
        let ours = DiscoPrivate::from_random([1; 32]).public();
        disco::DiscoBox::new(&disco_key(id), &ours).seal(message, &[9; 24])
    };
    let call = disco::Message::CallMeMaybe { endpoints: vec![] };
    let ping = |id: u8| disco::Message::Ping {
        tx_id: disco::TxId([1; 12]),
        node_key: Some(key(id).public()),
        padding: 0,
    };
    let datagrams = [
        (None, seal(2, &call)),
        (None, seal(2, &ping(3))),
        (Some(key(3).public()), seal(2, &call)),
        (None, seal(99, &call)),
    ];
    for (relayed, datagram) in datagrams {
        let len = datagram.len();
        bench.receive(FROM, relayed, datagram, len);
    }
    assert!(bench.shared.peers.all().is_empty());
    let [strangers, malformed, ..] = bench.counts();
    assert_eq!((strangers, malformed), (3, 1));
    let good = seal(2, &ping(2));
    let len = good.len();
    bench.receive(FROM, None, good, len);
    assert!(bench.shared.peers.by_key(&key(2).public()).is_some());
}

#[tokio::test]
async fn an_announced_disco_key_is_as_good_as_the_netmaps() {
    let bench = Bench::new(2);
    let ours = DiscoPrivate::from_random([1; 32]).public();
    let ping = |node: u8| {
        let message = disco::Message::Ping {
            tx_id: disco::TxId([1; 12]),
            node_key: Some(key(node).public()),
            padding: 0,
        };
        disco::DiscoBox::new(&disco_key(77), &ours).seal(&message, &[9; 24])
    };
    let len = ping(2).len();
    bench.receive(FROM, None, ping(2), len);
    assert_eq!(bench.counts()[0], 1, "a key that nobody has");
    let netmap = bench.shared.netmap.current().unwrap();
    let node = netmap.peer_by_key(&key(2).public()).unwrap();
    let peer = bench.shared.peer_for(node).unwrap();
    bench.shared.peers.set_disco(&peer, Some(disco_key(77).public()));
    bench.receive(FROM, None, ping(2), len);
    assert_eq!(bench.counts()[0], 1);
    bench.receive(FROM, None, ping(3), len);
    assert_eq!(bench.counts()[0], 2, "it speaks for no other peer");
    bench.netmap(3..4);
    bench.netmap(2..4);
    bench.receive(FROM, None, ping(2), len);
    assert_eq!(bench.counts()[0], 3, "it goes with the peer");
}

#[tokio::test]
async fn who_knocked_before_the_netmap_knew_it_hears_from_us() {
    let bench = Bench::new(1);
    bench.receive(FROM, None, bench.initiation(&key(3)), 148);
    assert!(bench.shared.peers.by_key(&key(3).public()).is_none());
    bench.netmap(2..5);
    let knocked = bench.shared.peers.by_key(&key(3).public());
    let knocked = knocked.expect("a peer that is written to");
    let mut transmits = Transmits::default();
    knocked.engine().poll_transmit(clock::now(), &mut transmits);
    let first = transmits.groups().next().map(|group| tunnel::peek(group.bytes));
    assert_eq!(first, Some(Some(Kind::Initiation)));
    assert!(
        bench.shared.peers.by_key(&key(4).public()).is_none(),
        "others are left alone"
    );
}

#[tokio::test]
async fn stun_answers_come_from_servers_that_were_asked() {
    let bench = Bench::new(1);
    let answer = stun::response(stun::TxId([1; 12]), "192.0.2.1:1".parse().unwrap());
    let len = answer.len();
    bench.receive(FROM, None, answer.clone(), len);
    assert_eq!(bench.counts()[0], 1);
    bench.shared.expect_stun(Ipv4Addr::LOCALHOST.into());
    bench.receive(FROM, None, answer, len);
    assert_eq!(bench.counts()[0], 1, "it is no stranger's");
}
