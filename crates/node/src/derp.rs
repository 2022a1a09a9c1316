//! The node's connections to DERP relays, one per region at most.
//!
//! A [`DerpPool`] is told the DERP map and the home region, and keeps a connection to the home region for good. To
//! another region it connects when there is something to send, and hangs up after [`IDLE`]. [`DerpPool::send`] never
//! waits: it puts the packet into the region's bounded queue, where the oldest gives way. What arrives goes to the
//! owner's [`DerpSink`] in batches, one per read from the socket. [`DerpPool::subscribe`] shows how each region does.
//!
//! One task per region dials (`dial`), serves the connection (`region`) and dials again. The pool owns the tasks:
//! dropping it ends them.
//!
//! A relay sees who talks to whom, but no content: packets are WireGuard and disco datagrams, sealed end to end.

mod dial;
mod queue;
mod region;
mod status;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use rustls::RootCertStore;
use tailnet_wire::{
    control::{DerpMap, DerpRegion},
    derp::{GoneReason, MAX_PACKET},
    key::{NodePrivate, NodePublic},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    dial::DialError,
    status::{DerpCounters, DerpState, DerpStatus},
};
use self::{
    queue::SendQueue,
    region::{Orders, RegionTask, Timers},
};

/// How long a connection to a region that is not home stays open without a packet.
pub const IDLE: Duration = Duration::from_secs(60);

/// One packet from a relay.
#[derive(Debug)]
pub struct DerpPacket {
    /// Who sent it, as the relay says: where to route it, not who it is.
    pub src: NodePublic,
    /// A WireGuard or disco datagram, at most 64 KiB.
    pub packet: BytesMut,
}

/// Where a pool delivers. Both calls come from the region's task and must not block: what finds no room is to be
/// dropped and counted, as the network would do.
pub trait DerpSink: Send + Sync + 'static {
    /// What one read from a region's connection brought. The sink drains `batch`; what it leaves is dropped.
    fn packets(&self, region: u32, batch: &mut Vec<DerpPacket>);

    /// The relay does not deliver to `peer` any more.
    fn peer_gone(&self, region: u32, peer: NodePublic, reason: GoneReason);
}

/// All DERP connections of a node. See the [module](self).
pub struct DerpPool {
    context: Arc<Context>,
    state: Mutex<State>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// What every region's task needs.
struct Context {
    roots: Arc<RootCertStore>,
    key: NodePrivate,
    sink: Arc<dyn DerpSink>,
    status: watch::Sender<BTreeMap<u32, DerpStatus>>,
    timers: Timers,
}

#[derive(Default)]
struct State {
    map: Arc<DerpMap>,
    home: Option<u32>,
    regions: HashMap<u32, Region>,
}

struct Region {
    queue: Arc<SendQueue>,
    orders: watch::Sender<Orders>,
    cancel: CancellationToken,
}

impl DerpPool {
    /// A pool without regions. `roots` come from [`tls::root_store`](crate::tls::root_store); `key` is the node key, by
    /// which relays know us.
    pub fn new(roots: Arc<RootCertStore>, key: NodePrivate, sink: Arc<dyn DerpSink>) -> Self {
        Self::with_timers(roots, key, sink, Timers::default())
    }

    fn with_timers(roots: Arc<RootCertStore>, key: NodePrivate, sink: Arc<dyn DerpSink>, timers: Timers) -> Self {
        Self {
            context: Arc::new(Context {
                roots,
                key,
                sink,
                status: watch::Sender::new(BTreeMap::new()),
                timers,
            }),
            state: Mutex::default(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Takes a new DERP map: regions that are gone are hung up on, a relay whose entry changed is dialled anew. Must be
    /// called on a tokio runtime.
    pub fn set_map(&self, map: Arc<DerpMap>) {
        let mut state = self.state.lock();
        state.map = map.clone();
        state.regions.retain(|number, region| match map.regions.get(number) {
            Some(entry) => {
                region.orders.send_if_modified(|orders| orders.set_region(entry));
                true
            }
            None => {
                region.cancel.cancel();
                self.context.status.send_modify(|status| {
                    status.remove(number);
                });
                false
            }
        });
        if let Some(home) = state.home {
            self.region(&mut state, home);
        }
    }

    /// Makes `home` the region with a lasting connection, where peers find us. Must be called on a tokio runtime.
    pub fn set_home(&self, home: Option<u32>) {
        let mut state = self.state.lock();
        state.home = home;
        for (number, region) in &state.regions {
            let is_home = Some(*number) == home;
            region.orders.send_if_modified(|orders| orders.set_home(is_home));
        }
        if let Some(home) = home {
            self.region(&mut state, home);
        }
    }

    /// Queues `packet` for `dst` at `region`, connecting if need be; false when the region is not in the DERP map or
    /// the packet is longer than DERP carries. Must be called on a tokio runtime.
    ///
    /// Packets that wait for a connection which then fails are dropped and counted.
    pub fn send(&self, region: u32, dst: &NodePublic, packet: &[u8]) -> bool {
        if packet.len() > MAX_PACKET {
            return false;
        }
        let mut state = self.state.lock();
        let Some(region) = self.region(&mut state, region) else {
            return false;
        };
        region.queue.push(dst, packet);
        true
    }

    /// The state of every region that was used so far; notified when a connection comes, goes, or complains.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<u32, DerpStatus>> {
        self.context.status.subscribe()
    }

    /// The home region.
    pub fn home(&self) -> Option<u32> {
        self.state.lock().home
    }

    /// Whether the home region's connection is up, so that peers can reach us.
    pub fn is_home_connected(&self) -> bool {
        let home = self.state.lock().home;
        let status = self.context.status.borrow();
        let home = home.and_then(|home| status.get(&home));
        home.is_some_and(|status| matches!(status.state, DerpState::Connected { .. }))
    }

    /// Resolves once everything that was queued so far is with the relays, or lost with a connection. May take for
    /// ever: a relay that cannot be reached keeps what was queued for it until the attempt fails.
    pub async fn flush(&self) {
        let queues: Vec<_> = self
            .state
            .lock()
            .regions
            .values()
            .map(|region| Arc::clone(&region.queue))
            .collect();
        for queue in queues {
            queue.drained().await;
        }
    }

    /// Ends all connections and waits for their tasks.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn region<'a>(&self, state: &'a mut State, number: u32) -> Option<&'a Region> {
        if !state.regions.contains_key(&number) {
            let entry = state.map.regions.get(&number)?.clone();
            let region = self.start(number, entry, state.home == Some(number));
            state.regions.insert(number, region);
        }
        state.regions.get(&number)
    }

    fn start(&self, number: u32, entry: Arc<DerpRegion>, home: bool) -> Region {
        let queue = Arc::new(SendQueue::default());
        let (orders, received) = watch::channel(Orders { region: entry, home });
        let cancel = self.cancel.child_token();
        let task = RegionTask::new(self.context.clone(), number, queue.clone(), received);
        self.tasks.spawn(cancel.clone().run_until_cancelled_owned(task.run()));
        Region { queue, orders, cancel }
    }
}

impl Drop for DerpPool {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[cfg(test)]
mod tests;
