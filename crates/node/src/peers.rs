//! The peers this node is in touch with, and how to find the one a datagram belongs to.
//!
//! A peer of the netmap becomes a [`PeerHandle`] at its first verified handshake, its first sealed disco message or our
//! first dial; until then it costs nothing here. The handle owns the peer's engine behind a lock that is never held
//! across an await, and the bounded inbox of the task that drives it.
//!
//! An initiation names its sender before anything proves it: whoever knows our public key can make one in the name of
//! any peer. A peer that nothing else vouches for is therefore [`unproven`](PeerHandle::prove), and of those only a few
//! are kept: the oldest gives way, which costs an honest peer one repeated handshake at worst.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::{Mutex, MutexGuard, RwLock};
use rand::RngCore;
use tailnet_engine::{
    path::Hop,
    peer::{ConnId, Peer, PingId, PingKind, SendError},
    tunnel::PEER_INDEX_BITS,
};
use tailnet_wire::{
    disco,
    key::{DiscoPublic, NodePublic},
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{clock, udp::PooledBytes};

/// Batches that wait for a peer's task: a burst of requests on some hundred connections comes as small batches, because
/// the kernel joins only datagrams of one length. When it is full the newest batch is dropped and counted, as a router
/// would.
const INBOX: usize = 1024;
/// Bytes that wait there: what bounds a burst of long batches.
const INBOX_BYTES: usize = 4 << 20;
/// Batches up to this length are copied out of the buffer they came in, which may be many times larger: what waits in
/// an inbox then costs what it weighs. Bulk traffic comes in longer ones.
const COPIED: usize = 8 << 10;
/// Peers that exist because of an initiation alone, which anybody can forge.
const MAX_UNPROVEN: usize = 64;

/// One peer in touch: its engine, and the way to the task that drives it.
pub(crate) struct PeerHandle {
    key: NodePublic,
    engine: Mutex<Peer>,
    inbox: mpsc::Sender<Inbound>,
    /// Bytes in the inbox.
    waiting: AtomicUsize,
    kicked: Notify,
    failed: AtomicBool,
    connected: AtomicBool,
    proven: AtomicBool,
    /// One per connection in the hands of the application, cancelled when the netmap withdraws it.
    withdrawn: Mutex<HashMap<ConnId, CancellationToken>>,
    pings: Mutex<HashMap<PingId, oneshot::Sender<Duration>>>,
    /// Who waits for the first pong along a path.
    path_pings: Mutex<Vec<oneshot::Sender<(Hop, Duration)>>>,
}

/// What arrives for one peer.
pub(crate) enum Inbound {
    /// WireGuard datagrams of `stride` bytes each (the last may be shorter).
    WireGuard {
        /// How they came.
        from: Hop,
        /// The datagrams, one after the other.
        bytes: Datagrams,
        /// Length of each but the last.
        stride: usize,
    },
    /// A disco message that was sealed by the peer's disco key.
    Disco {
        /// How it came.
        from: Hop,
        /// What it says.
        message: disco::Message,
    },
}

impl Inbound {
    /// Bytes that it keeps in memory beyond its own size.
    fn len(&self) -> usize {
        match self {
            Self::WireGuard { bytes, .. } => bytes.len(),
            Self::Disco { .. } => 0,
        }
    }
}

/// Bytes of one or more datagrams, in the buffer they came in.
pub(crate) enum Datagrams {
    /// Straight from the UDP socket.
    Pooled(PooledBytes),
    /// From DERP.
    Relayed(BytesMut),
    /// Cut out of a mixed batch.
    Owned(Vec<u8>),
}

impl std::ops::Deref for Datagrams {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pooled(bytes) => bytes,
            Self::Relayed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Datagrams {
    /// The same bytes in a buffer of about their size.
    pub(crate) fn compact(self) -> Self {
        if self.len() > COPIED || matches!(self, Self::Owned(_)) {
            return self;
        }
        Self::Owned(self.to_vec())
    }
}

impl PeerHandle {
    /// Wraps a peer; the receiver is for its task.
    pub(crate) fn new(key: NodePublic, engine: Peer) -> (Arc<Self>, mpsc::Receiver<Inbound>) {
        let (inbox, receiver) = mpsc::channel(INBOX);
        let handle = Self {
            key,
            engine: Mutex::new(engine),
            inbox,
            waiting: AtomicUsize::new(0),
            kicked: Notify::new(),
            failed: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            withdrawn: Mutex::default(),
            pings: Mutex::default(),
            path_pings: Mutex::default(),
        };
        (Arc::new(handle), receiver)
    }

    /// The peer's WireGuard key.
    pub(crate) fn key(&self) -> NodePublic {
        self.key
    }

    /// The engine, for a short while: nothing that waits may happen under this lock.
    pub(crate) fn engine(&self) -> MutexGuard<'_, Peer> {
        self.engine.lock()
    }

    /// Queues what arrived; false when the inbox was full and it was dropped.
    pub(crate) fn deliver(&self, inbound: Inbound) -> bool {
        let bytes = inbound.len();
        let fits = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes <= INBOX_BYTES;
        let queued = fits && self.inbox.try_send(inbound).is_ok();
        if !queued {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        queued
    }

    /// The peer's task took `inbound` out of the inbox.
    pub(crate) fn took(&self, inbound: &Inbound) {
        self.waiting.fetch_sub(inbound.len(), Ordering::Relaxed);
    }

    /// Notes that the peer exists for a better reason than an initiation in its name: a completed handshake, a sealed
    /// disco message, or our own wish to talk.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Release);
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// Asks the task for a pass: something was written, read or closed.
    pub(crate) fn kick(&self) {
        self.kicked.notify_one();
    }

    /// Resolves at the next [`kick`](Self::kick).
    pub(crate) async fn kicked(&self) {
        self.kicked.notified().await;
    }

    /// Sends a ping; the receiver gets the round trip, or nothing when no answer comes.
    pub(crate) fn ping(
        &self,
        kind: PingKind,
        local: IpAddr,
        remote: IpAddr,
    ) -> Result<oneshot::Receiver<Duration>, SendError> {
        let (sender, receiver) = oneshot::channel();
        let mut pings = self.pings.lock();
        pings.retain(|_, waiting| !waiting.is_closed());
        // The engine is locked within, so that the answer cannot come before the waiter is known.
        let id = self
            .engine()
            .ping(clock::now(), &mut clock::rng(), kind, local, remote)?;
        pings.insert(id, sender);
        Ok(receiver)
    }

    /// A ping was answered.
    pub(crate) fn answered(&self, id: PingId, latency: Duration) {
        if let Some(waiting) = self.pings.lock().remove(&id) {
            // Whoever asked may have given up.
            let _ = waiting.send(latency);
        }
    }

    /// Pings the peer along its paths (disco); the receiver gets the first that answers, and how fast.
    pub(crate) fn ping_path(&self) -> oneshot::Receiver<(Hop, Duration)> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.path_pings.lock();
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(sender);
        drop(waiting);
        self.engine().path_mut().ping(clock::now());
        receiver
    }

    /// A ping along a path was answered.
    pub(crate) fn path_answered(&self, hop: Hop, latency: Duration) {
        for waiting in self.path_pings.lock().drain(..) {
            // Whoever asked may have given up.
            let _ = waiting.send((hop, latency));
        }
    }

    /// Whether this is the first time that somebody asks.
    pub(crate) fn is_first_connection(&self) -> bool {
        !self.connected.swap(true, Ordering::Relaxed)
    }

    /// A token for a connection that goes to the application; see [`withdraw`](Self::withdraw).
    pub(crate) fn track(&self, conn: ConnId) -> CancellationToken {
        let token = CancellationToken::new();
        self.withdrawn.lock().insert(conn, token.clone());
        token
    }

    /// Tells whoever serves `conn` that the netmap has withdrawn it.
    pub(crate) fn withdraw(&self, conn: ConnId) {
        if let Some(token) = self.withdrawn.lock().get(&conn) {
            token.cancel();
        }
    }

    /// The application lets go of a connection.
    pub(crate) fn forget(&self, conn: ConnId) {
        self.withdrawn.lock().remove(&conn);
        if !self.has_failed() {
            self.engine().release(conn);
            self.kick();
        }
    }

    /// Ends a peer whose task panicked: its engine must not be touched again, and whoever serves its connections ends.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        for (_, token) in self.withdrawn.lock().drain() {
            token.cancel();
        }
    }

    /// Whether the task has ended by a panic.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// All peers in touch, by key and by WireGuard receiver index.
#[derive(Default)]
pub(crate) struct Peers(RwLock<Tables>);

#[derive(Default)]
struct Tables {
    by_key: HashMap<NodePublic, (u32, Arc<PeerHandle>)>,
    by_index: HashMap<u32, Arc<PeerHandle>>,
    /// Disco keys that peers announced themselves and that control has not passed on yet, one a peer.
    by_disco: HashMap<DiscoPublic, Arc<PeerHandle>>,
    /// Newcomers in the order they came. Some may have proven themselves or be gone by now.
    unproven: VecDeque<Arc<PeerHandle>>,
}

impl Peers {
    /// The peer with this key, if it is in touch.
    pub(crate) fn by_key(&self, key: &NodePublic) -> Option<Arc<PeerHandle>> {
        self.0.read().by_key.get(key).map(|(_, handle)| Arc::clone(handle))
    }

    /// The peer that was given this number.
    pub(crate) fn by_index(&self, index: u32) -> Option<Arc<PeerHandle>> {
        self.0.read().by_index.get(&index).cloned()
    }

    /// The peer that announced this disco key.
    pub(crate) fn by_disco(&self, key: &DiscoPublic) -> Option<Arc<PeerHandle>> {
        self.0.read().by_disco.get(key).cloned()
    }

    /// Notes the disco key that a peer announced; `None` when control knows it, too. A key that another peer has
    /// announced stays with that one.
    pub(crate) fn set_disco(&self, handle: &Arc<PeerHandle>, key: Option<DiscoPublic>) {
        let mut tables = self.0.write();
        tables.by_disco.retain(|_, peer| !Arc::ptr_eq(peer, handle));
        let is_known = tables
            .by_key
            .get(&handle.key)
            .is_some_and(|(_, known)| Arc::ptr_eq(known, handle));
        if let Some(key) = key.filter(|_| is_known) {
            tables.by_disco.entry(key).or_insert_with(|| Arc::clone(handle));
        }
    }

    /// The peer with this key, made by `make` (which gets the number to use, and may refuse) if it was not in touch yet.
    ///
    /// `make` runs while nobody else can look: what it reads of the netmap is either up to date, or its peer is in
    /// [`all`](Self::all) when the change that makes it outdated is put in force.
    ///
    /// The second value is an unproven peer that had to give way, for the caller to end.
    pub(crate) fn get_or_insert(
        &self,
        key: &NodePublic,
        rng: &mut dyn RngCore,
        make: impl FnOnce(u32) -> Option<Arc<PeerHandle>>,
    ) -> (Option<Arc<PeerHandle>>, Option<Arc<PeerHandle>>) {
        let mut tables = self.0.write();
        if let Some((_, handle)) = tables.by_key.get(key) {
            return (Some(Arc::clone(handle)), None);
        }
        let index = tables.free_index(rng);
        let Some(handle) = make(index) else {
            return (None, None);
        };
        tables.by_key.insert(*key, (index, Arc::clone(&handle)));
        tables.by_index.insert(index, Arc::clone(&handle));
        let evicted = tables.note_newcomer(&handle);
        (Some(handle), evicted)
    }

    /// Forgets a peer: datagrams find it no more. A newer handle for the same key stays.
    pub(crate) fn remove(&self, handle: &Arc<PeerHandle>) {
        self.0.write().remove(handle);
    }

    /// Every peer in touch.
    pub(crate) fn all(&self) -> Vec<Arc<PeerHandle>> {
        self.0
            .read()
            .by_key
            .values()
            .map(|(_, handle)| Arc::clone(handle))
            .collect()
    }
}

impl Tables {
    fn remove(&mut self, handle: &Arc<PeerHandle>) {
        let index = match self.by_key.get(&handle.key) {
            Some((index, known)) if Arc::ptr_eq(known, handle) => *index,
            _ => return,
        };
        self.by_key.remove(&handle.key);
        self.by_index.remove(&index);
        self.by_disco.retain(|_, peer| !Arc::ptr_eq(peer, handle));
        self.unproven.retain(|newcomer| !Arc::ptr_eq(newcomer, handle));
    }

    /// Keeps the number of unproven peers within bounds; returns the one that was taken off for it.
    fn note_newcomer(&mut self, handle: &Arc<PeerHandle>) -> Option<Arc<PeerHandle>> {
        if handle.is_proven() {
            return None;
        }
        self.unproven.retain(|newcomer| !newcomer.is_proven());
        self.unproven.push_back(Arc::clone(handle));
        if self.unproven.len() <= MAX_UNPROVEN {
            return None;
        }
        let oldest = self.unproven.pop_front()?;
        self.remove(&oldest);
        Some(oldest)
    }

    /// An unpredictable number that nobody has: a stranger cannot aim at a peer, and a number is not reused at once.
    fn free_index(&self, rng: &mut dyn RngCore) -> u32 {
        loop {
            let index = rng.next_u32() >> (32 - PEER_INDEX_BITS);
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }
}

#[cfg(test)]
mod tests;
