//! Telling datagrams apart and handing each to the peer it belongs to (protocol order of Go's magicsock).
//!
//! Batches come in from the UDP sockets and from DERP. STUN answers go to netcheck; a disco message is opened with the
//! key its sender names and must be that of a peer; WireGuard data finds its peer by receiver index, a handshake by the
//! key inside it, after the node-wide limiter. Whatever fits nobody is dropped and counted: nothing here answers a
//! stranger but with a cookie under load.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::BytesMut;
use tailnet_engine::{
    netmap::{Netmap, PeerNode},
    path::Hop,
    tunnel::{self, COOKIE_REPLY_LEN, Kind, Verdict},
};
use tailnet_wire::{disco, key::NodePublic, stun};

use crate::{
    clock,
    peers::{Datagrams, Inbound},
    shared::Shared,
    udp::Received,
};

/// A batch of datagrams that came by one hop.
struct Batch {
    from: Hop,
    /// The node the relay says the batch came from: a hint for routing, never an identity.
    relayed: Option<NodePublic>,
    bytes: Datagrams,
    stride: usize,
}

/// Takes what a UDP socket received.
pub(crate) fn handle_udp(shared: &Arc<Shared>, received: Received) {
    let batch = Batch {
        from: Hop::Udp(received.from),
        relayed: None,
        bytes: Datagrams::Pooled(received.bytes),
        stride: received.stride,
    };
    handle_batch(shared, batch);
}

/// Takes one packet that a relay of `region` delivered for `source`.
pub(crate) fn handle_derp(shared: &Arc<Shared>, region: u32, source: NodePublic, packet: BytesMut) {
    let stride = packet.len().max(1);
    let batch = Batch {
        from: Hop::Derp(region),
        relayed: Some(source),
        bytes: Datagrams::Relayed(packet),
        stride,
    };
    handle_batch(shared, batch);
}

fn handle_batch(shared: &Arc<Shared>, batch: Batch) {
    if let Some(index) = common_peer(&batch)
        && let Some(peer) = shared.peers.by_index(index)
    {
        let Batch {
            from, bytes, stride, ..
        } = batch;
        let bytes = bytes.compact();
        shared.count_delivery(peer.deliver(Inbound::WireGuard { from, bytes, stride }));
        return;
    }
    for datagram in batch.bytes.chunks(batch.stride) {
        handle_one(shared, batch.from, batch.relayed, datagram);
    }
}

/// The peer number that every datagram of a batch carries, if they all carry the same.
fn common_peer(batch: &Batch) -> Option<u32> {
    let mut datagrams = batch.bytes.chunks(batch.stride);
    let first = peer_index(datagrams.next()?)?;
    datagrams
        .all(|datagram| peer_index(datagram) == Some(first))
        .then_some(first)
}

fn peer_index(datagram: &[u8]) -> Option<u32> {
    tunnel::peek(datagram)?.peer_index()
}

fn handle_one(shared: &Arc<Shared>, from: Hop, relayed: Option<NodePublic>, datagram: &[u8]) {
    if let Hop::Udp(source) = from
        && stun::looks_like_stun(datagram)
    {
        shared.stun(source, datagram);
    } else if disco::looks_like_disco(datagram) {
        handle_disco(shared, from, relayed, datagram);
    } else {
        handle_wireguard(shared, from, relayed, datagram);
    }
}

fn handle_disco(shared: &Arc<Shared>, from: Hop, relayed: Option<NodePublic>, datagram: &[u8]) {
    let Some(netmap) = shared.netmap.current() else { return };
    let Some(sender) = disco::sender(datagram) else {
        shared.counters.malformed.fetch_add(1, Relaxed);
        return;
    };
    // A key that no peer has is dropped before any cryptography. One that the netmap does not know yet may have been
    // announced by a peer that has restarted.
    let announced = match netmap.peers_by_disco(&sender).next() {
        Some(_) => None,
        None => shared.peers.by_disco(&sender).map(|peer| peer.key()),
    };
    let announced = announced.and_then(|key| netmap.peer_by_key(&key));
    let mut owners = netmap.peers_by_disco(&sender).chain(announced).peekable();
    if owners.peek().is_none() {
        shared.counters.strangers.fetch_add(1, Relaxed);
        return;
    }
    let Ok(message) = shared.disco.open(&sender, datagram) else {
        shared.counters.malformed.fetch_add(1, Relaxed);
        return;
    };
    if matches!(message, disco::Message::CallMeMaybe { .. }) && relayed.is_none() {
        shared.counters.malformed.fetch_add(1, Relaxed);
        return;
    }
    let claimed = match &message {
        disco::Message::Ping { node_key, .. } => *node_key,
        _ => None,
    };
    let owner = owners
        .find(|peer| relayed.or(claimed).is_none_or(|key| key == peer.key))
        .cloned();
    // A relay that names another node than the one the key belongs to, or a ping that claims to be another's.
    let Some(owner) = owner else {
        shared.counters.strangers.fetch_add(1, Relaxed);
        return;
    };
    if let Some(peer) = shared.peer_for(&owner) {
        shared.count_delivery(peer.deliver(Inbound::Disco { from, message }));
    }
}

fn handle_wireguard(shared: &Arc<Shared>, from: Hop, relayed: Option<NodePublic>, datagram: &[u8]) {
    let peer = match tunnel::peek(datagram) {
        None => {
            shared.counters.malformed.fetch_add(1, Relaxed);
            return;
        }
        Some(Kind::Initiation) => match admit_initiation(shared, from, relayed, datagram) {
            Some(peer) => shared.claimed_peer(&peer),
            None => return,
        },
        Some(kind) => kind.peer_index().and_then(|index| shared.peers.by_index(index)),
    };
    match peer {
        Some(peer) => {
            let bytes = Datagrams::Owned(datagram.to_vec());
            let stride = bytes.len();
            shared.count_delivery(peer.deliver(Inbound::WireGuard { from, bytes, stride }));
        }
        None => handle_lost_session(shared, from, relayed),
    }
}

/// Lets an initiation through to the peer whose key is inside it. The limiter comes before any Diffie-Hellman.
fn admit_initiation(
    shared: &Arc<Shared>,
    from: Hop,
    relayed: Option<NodePublic>,
    datagram: &[u8],
) -> Option<Arc<PeerNode>> {
    let netmap = shared.netmap.current()?;
    if matches!(from, Hop::Udp(_)) && !shared.initiations.admit(&shared.udp) {
        shared.counters.throttled.fetch_add(1, Relaxed);
        return None;
    }
    let mut reply = [0; COOKIE_REPLY_LEN];
    match shared
        .limiter
        .verify(limiter_address(from, relayed), datagram, &mut reply)
    {
        Verdict::Proceed => {}
        Verdict::Challenge(len) => {
            shared.counters.challenged.fetch_add(1, Relaxed);
            if let Some(cookie) = reply.get(..len) {
                shared.send(from, relayed, cookie);
            }
            return None;
        }
        Verdict::Throttled => {
            shared.counters.throttled.fetch_add(1, Relaxed);
            return None;
        }
        Verdict::Refused => {
            shared.counters.malformed.fetch_add(1, Relaxed);
            return None;
        }
    }
    let Some(key) = shared.limiter.initiator_of(datagram) else {
        shared.counters.strangers.fetch_add(1, Relaxed);
        return None;
    };
    if let Some(peer) = netmap.peer_by_key(&key) {
        return Some(Arc::clone(peer));
    }
    shared.counters.strangers.fetch_add(1, Relaxed);
    shared.strangers.lock().note(key, clock::now());
    // A netmap that came in force meanwhile has not seen the note.
    shared.netmap.current()?.peer_by_key(&key).cloned()
}

fn limiter_address(from: Hop, relayed: Option<NodePublic>) -> IpAddr {
    match (from, relayed) {
        (Hop::Udp(address), _) => address.ip(),
        (Hop::Derp(region), Some(key)) => tunnel::relay_address(region, &key),
        (Hop::Derp(_), None) => IpAddr::from([0, 0, 0, 0]),
    }
}

/// A peer sends under a session that this process never had: it has not noticed our restart. Its own repair comes
/// only after REKEY_TIMEOUT, five seconds; a handshake from us makes it notice at once.
fn handle_lost_session(shared: &Arc<Shared>, from: Hop, relayed: Option<NodePublic>) {
    shared.counters.no_session.fetch_add(1, Relaxed);
    let Some(netmap) = shared.netmap.current() else { return };
    let owner = match (from, relayed) {
        (_, Some(key)) => netmap.peer_by_key(&key).cloned(),
        // Looking through all peers is only worth a few times a second, or garbage would buy us work.
        (Hop::Udp(address), None) if shared.search_allowed() => owner_of(&netmap, address),
        _ => None,
    };
    if let Some(owner) = owner
        && let Some(peer) = shared.peer_for(&owner)
    {
        peer.engine().force_handshake(clock::now());
        peer.kick();
    }
}

fn owner_of(netmap: &Netmap, address: SocketAddr) -> Option<Arc<PeerNode>> {
    netmap.peers().find(|peer| peer.endpoints.contains(&address)).cloned()
}

#[cfg(test)]
mod tests;
