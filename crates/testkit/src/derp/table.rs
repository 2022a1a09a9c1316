//! Who is connected to the relay.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tailnet_wire::{
    derp::{Frame, GoneReason},
    key::NodePublic,
};
use tokio::sync::mpsc;

const DUPLICATE: &str = "this node key is connected twice: was the state of the node copied to another machine?";

/// One connection of one node key.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    key: NodePublic,
    queue: mpsc::Sender<Bytes>,
    home: AtomicBool,
    /// Keys that got a packet from this one: they hear when it goes.
    sent_to: Mutex<HashSet<NodePublic>>,
}

impl Client {
    pub(super) fn key(&self) -> &NodePublic {
        &self.0.key
    }

    /// Queues a frame, or drops it when the queue is full.
    pub(super) fn send(&self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.encode_into(&mut bytes);
        let _ = self.0.queue.try_send(bytes.freeze());
    }

    pub(super) fn send_gone(&self, key: &NodePublic, reason: GoneReason) {
        self.send(&Frame::PeerGone { key: *key, reason });
    }

    pub(super) fn set_home(&self, home: bool) {
        self.0.home.store(home, Relaxed);
    }

    fn is(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// All connections, and what was counted.
#[derive(Default)]
pub(crate) struct Table {
    /// The last of a key's connections is the active one.
    clients: Mutex<HashMap<NodePublic, Vec<Client>>>,
    relayed: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
}

impl Table {
    pub(super) fn add(&self, key: NodePublic, queue: mpsc::Sender<Bytes>) -> Client {
        let inner = Inner {
            key,
            queue,
            home: AtomicBool::new(false),
            sent_to: Mutex::default(),
        };
        let client = Client(Arc::new(inner));
        let mut clients = self.clients.lock();
        let same = clients.entry(key).or_default();
        same.push(client.clone());
        if same.len() > 1 {
            same.iter()
                .for_each(|client| client.send(&Frame::Health(DUPLICATE.to_owned())));
        }
        client
    }

    pub(super) fn remove(&self, client: &Client) {
        let mut clients = self.clients.lock();
        let Some(same) = clients.get_mut(client.key()) else {
            return;
        };
        same.retain(|other| !other.is(client));
        match same.as_slice() {
            [] => {
                clients.remove(client.key());
                for key in client.0.sent_to.lock().drain() {
                    let to = clients.get(&key).and_then(|same| same.last());
                    to.inspect(|to| to.send_gone(client.key(), GoneReason::Disconnected));
                }
            }
            [only] => only.send(&Frame::Health(String::new())),
            _ => {}
        }
    }

    /// Hands a RecvPacket frame to the active connection of `dst`; false when there is none.
    pub(super) fn deliver(&self, from: &Client, dst: &NodePublic, frame: Bytes) -> bool {
        let mut clients = self.clients.lock();
        // Of several connections with one key, the one that sent last is the live one.
        if let Some(same) = clients.get_mut(from.key())
            && same.last().is_some_and(|last| !last.is(from))
            && let Some(at) = same.iter().position(|client| client.is(from))
        {
            let active = same.remove(at);
            same.push(active);
        }
        let Some(to) = clients.get(dst).and_then(|same| same.last()) else {
            self.dropped.fetch_add(1, Relaxed);
            return false;
        };
        from.0.sent_to.lock().insert(*dst);
        match to.0.queue.try_send(frame) {
            Ok(()) => self.relayed.fetch_add(1, Relaxed),
            Err(_) => self.dropped.fetch_add(1, Relaxed),
        };
        true
    }

    pub(super) fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Whether `key` is connected, and whether it calls this relay its home.
    pub(crate) fn connection(&self, key: &NodePublic) -> Option<bool> {
        let clients = self.clients.lock();
        clients
            .get(key)
            .and_then(|same| same.last())
            .map(|client| client.0.home.load(Relaxed))
    }

    /// Packets relayed, packets dropped, and clients refused since the start.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (
            self.relayed.load(Relaxed),
            self.dropped.load(Relaxed),
            self.refused.load(Relaxed),
        )
    }
}
