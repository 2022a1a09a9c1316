use std::time::Instant;

use tailnet_engine::{
    filter::Filter,
    path::PathConfig,
    peer::{ConnectionMemory, Limits, PeerConfig, PeerView, Ports},
    tunnel::HandshakeLimiter,
};
use tailnet_wire::key::NodePrivate;

use super::*;

fn key(number: u16) -> NodePublic {
    let mut raw = [9; 32];
    raw[..2].copy_from_slice(&number.to_be_bytes());
    NodePrivate::from_random(raw).public()
}

fn handle(key: NodePublic, index: u32) -> Arc<PeerHandle> {
    PeerHandle::new(key, engine(key, index)).0
}

fn engine(key: NodePublic, index: u32) -> Peer {
    let our = NodePrivate::from_random([1; 32]);
    let local = vec!["100.64.0.1".parse().unwrap()];
    Peer::new(
        PeerConfig {
            limiter: Arc::new(HandshakeLimiter::new(&our, 100)),
            our,
            key,
            index,
            seed: 1,
            memory: ConnectionMemory::new(1 << 20),
            limits: Limits::default(),
            ports: Arc::new(Ports::default()),
            view: PeerView {
                filter: Arc::new(Filter::jailed(&local)),
                local,
                remote: vec!["100.64.0.2".parse().unwrap()],
                node_caps: Default::default(),
                path: PathConfig::default(),
            },
        },
        Instant::now(),
    )
}

fn batch(bytes: usize) -> Inbound {
    Inbound::WireGuard {
        from: Hop::Derp(1),
        bytes: Datagrams::Owned(vec![0; bytes]),
        stride: 1280,
    }
}

#[test]
fn an_inbox_takes_a_burst_of_small_batches_and_is_bounded_in_bytes() {
    let (peer, mut inbox) = PeerHandle::new(key(1), engine(key(1), 1));
    assert!((0..INBOX).all(|_| peer.deliver(batch(100))));
    assert!(!peer.deliver(batch(100)), "bounded in number");
    while let Ok(inbound) = inbox.try_recv() {
        peer.took(&inbound);
    }
    let long = INBOX_BYTES / 64;
    assert!((0..64).all(|_| peer.deliver(batch(long))));
    assert!(!peer.deliver(batch(1)), "bounded in bytes");
    peer.took(&inbox.try_recv().unwrap());
    assert!(peer.deliver(batch(long)), "what was taken makes room");
}

fn insert(peers: &Peers, key: NodePublic, proven: bool) -> (Arc<PeerHandle>, Option<Arc<PeerHandle>>) {
    let (peer, evicted) = peers.get_or_insert(&key, &mut clock::rng(), |index| {
        let peer = handle(key, index);
        if proven {
            peer.prove();
        }
        Some(peer)
    });
    (peer.unwrap(), evicted)
}

#[test]
fn forged_initiations_cannot_fill_the_table() {
    let peers = Peers::default();
    let (dialled, _) = insert(&peers, key(1000), true);
    let (shaken, _) = insert(&peers, key(1001), false);
    shaken.prove();
    let mut evicted = Vec::new();
    for number in 0..200 {
        evicted.extend(insert(&peers, key(number), false).1);
    }
    assert_eq!(peers.all().len(), 2 + MAX_UNPROVEN);
    assert_eq!(evicted.len(), 200 - MAX_UNPROVEN);
    assert_eq!(evicted[0].key(), key(0), "the oldest gives way");
    for lasting in [&dialled, &shaken] {
        assert!(
            peers
                .by_key(&lasting.key())
                .is_some_and(|peer| Arc::ptr_eq(&peer, lasting))
        );
    }
    let tables = peers.0.read();
    assert_eq!(tables.by_index.len(), tables.by_key.len());
    assert_eq!(tables.unproven.len(), MAX_UNPROVEN);
}

#[test]
fn a_refused_peer_leaves_no_trace() {
    let peers = Peers::default();
    let (peer, evicted) = peers.get_or_insert(&key(1), &mut clock::rng(), |_| None);
    assert!(peer.is_none() && evicted.is_none());
    assert!(peers.all().is_empty());
}

#[test]
fn an_announced_disco_key_stays_with_the_first_and_goes_with_it() {
    let peers = Peers::default();
    let (first, _) = insert(&peers, key(1), true);
    let (second, _) = insert(&peers, key(2), true);
    let disco = |byte| DiscoPublic::from_bytes([byte; 32]);
    let owner = |byte| peers.by_disco(&disco(byte)).map(|peer| peer.key());
    peers.set_disco(&first, Some(disco(7)));
    peers.set_disco(&second, Some(disco(7)));
    assert_eq!(owner(7), Some(key(1)));
    peers.set_disco(&first, Some(disco(8)));
    assert_eq!((owner(7), owner(8)), (None, Some(key(1))), "one key a peer");
    peers.set_disco(&first, None);
    assert_eq!(owner(8), None);
    peers.set_disco(&first, Some(disco(8)));
    peers.remove(&first);
    assert_eq!(owner(8), None);
    peers.set_disco(&first, Some(disco(8)));
    assert_eq!(owner(8), None, "a peer that is gone announces nothing");
}

#[test]
fn an_old_handle_does_not_take_a_new_one_along() {
    let peers = Peers::default();
    let (old, _) = insert(&peers, key(1), true);
    peers.remove(&old);
    assert!(peers.by_key(&key(1)).is_none());
    let (new, _) = insert(&peers, key(1), false);
    peers.remove(&old);
    assert!(peers.by_key(&key(1)).is_some_and(|peer| Arc::ptr_eq(&peer, &new)));
    peers.remove(&new);
    let tables = peers.0.read();
    assert!(tables.by_key.is_empty() && tables.by_index.is_empty() && tables.unproven.is_empty());
}

#[test]
fn an_inbox_is_bounded_and_a_failed_peer_ends_its_connections() {
    let key = key(1);
    let (peer, _receiver) = {
        let engine = handle(key, 1);
        // The engine goes into a handle whose receiver is kept, so that the inbox stays open.
        let engine = Arc::try_unwrap(engine).ok().unwrap().engine.into_inner();
        PeerHandle::new(key, engine)
    };
    let datagram = || Inbound::WireGuard {
        from: Hop::Derp(1),
        bytes: Datagrams::Owned(vec![4; 32]),
        stride: 32,
    };
    assert!((0..INBOX).all(|_| peer.deliver(datagram())));
    assert!(!peer.deliver(datagram()));
    peer.fail();
    assert!(peer.has_failed());
}

#[test]
fn small_batches_do_not_hold_large_buffers() {
    let mut large = BytesMut::zeroed(64 << 10);
    let small = large.split_to(1300);
    assert!(matches!(Datagrams::Relayed(small).compact(), Datagrams::Owned(bytes) if bytes.capacity() < 2000));
    assert!(matches!(Datagrams::Relayed(large).compact(), Datagrams::Relayed(_)));
}
