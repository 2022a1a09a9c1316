//! The task that drives one peer: batches in, timers, and batches out.
//!
//! It is the only one that sends for its peer. Whoever reads or writes a [`Stream`](crate::Stream) touches the engine
//! under its lock and kicks this task, which then packs everything that is ready into as few sends as it can. It ends
//! when the netmap drops the peer, after the last reset has left, or when the node stops. A panic ends this peer alone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use rand::rngs::StdRng;
use tailnet_engine::{
    path::{Hop, PathEvent},
    peer::{Datagram, PeerEvent, Transmits},
};
use tailnet_wire::key::DiscoPublic;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    Caller, Stream, clock,
    listener::Conn,
    peers::{Inbound, PeerHandle},
    shared::Shared,
    udp::Sent,
    udp_socket::Arrived,
};

/// Inbox entries handled in one pass: with 64 KiB each, no pass takes more than a few milliseconds.
const BATCHES_PER_PASS: usize = 16;

/// Drives `peer` until it is withdrawn or the node stops.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<PeerHandle>, inbox: mpsc::Receiver<Inbound>) {
    let guard = Guard {
        shared: Arc::clone(&shared),
        peer: Arc::clone(&peer),
        clean: false,
    };
    let task = PeerTask {
        shared,
        peer,
        inbox,
        rng: clock::rng(),
        batches: Vec::new(),
        outcome: Outcome::default(),
    };
    task.run().await;
    guard.finish();
}

struct PeerTask {
    shared: Arc<Shared>,
    peer: Arc<PeerHandle>,
    inbox: mpsc::Receiver<Inbound>,
    rng: StdRng,
    batches: Vec<Inbound>,
    outcome: Outcome,
}

/// What a pass took out of the engine, to be handled after its lock is released: an application that drops a stream
/// takes that lock.
#[derive(Default)]
struct Outcome {
    events: Vec<PeerEvent>,
    datagrams: Vec<Datagram>,
    disco: Vec<(Hop, Vec<u8>)>,
}

/// What a pass found out about the next one.
enum Next {
    /// There is more to send than one pass may.
    Now,
    /// Nothing to do before this instant, unless something arrives.
    At(Option<Instant>),
    /// The peer is gone and its last words are sent.
    Never,
}

impl PeerTask {
    async fn run(mut self) {
        let mut next = Next::Now;
        loop {
            match next {
                Next::Never => return,
                Next::Now => {
                    // Others get their turn between two passes of a busy peer.
                    tokio::task::yield_now().await;
                    self.batches.extend(self.inbox.try_recv());
                }
                Next::At(deadline) => self.wait(deadline).await,
            }
            let mut transmits = self.shared.take_transmits();
            next = self.pass(&mut transmits);
            self.send(&transmits).await;
            self.shared.return_transmits(transmits);
            self.hand_out();
        }
    }

    /// Waits for datagrams, a kick or `deadline`.
    async fn wait(&mut self, deadline: Option<Instant>) {
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.inbox.recv_many(&mut self.batches, BATCHES_PER_PASS) => {}
            () = self.peer.kicked() => {}
            () = timer => {}
            () = self.shared.stop.cancelled() => self.peer.engine().close_all(),
        }
    }

    /// One turn of the engine: everything that arrived goes in, everything that is due comes out.
    fn pass(&mut self, transmits: &mut Transmits) -> Next {
        let now = clock::now();
        let mut engine = self.peer.engine();
        if engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        for inbound in self.batches.drain(..) {
            self.peer.took(&inbound);
            match inbound {
                Inbound::WireGuard { from, bytes, stride } => {
                    for datagram in bytes.chunks(stride) {
                        engine.handle_datagram(now, from, datagram);
                    }
                }
                Inbound::Disco { from, message } => engine.handle_disco(now, from, &message),
            }
        }
        if engine.session_age(now).is_some() {
            self.peer.prove();
        }
        engine.poll_transmit(now, transmits);
        while let Some((hop, message)) = engine.poll_disco(now, &mut self.rng) {
            let receiver = engine.path().disco();
            self.outcome
                .disco
                .extend(receiver.map(|key| (hop, self.shared.disco.seal(&key, &message, &mut self.rng))));
        }
        self.outcome.events.extend(std::iter::from_fn(|| engine.poll_event()));
        self.outcome
            .datagrams
            .extend(std::iter::from_fn(|| engine.poll_datagram()));
        if engine.is_finished() {
            Next::Never
        } else if transmits.is_full() {
            Next::Now
        } else {
            Next::At(engine.poll_timeout())
        }
    }

    /// Sends what the pass produced. Waits while the kernel's buffer is full: the inbox then fills, and what does not
    /// fit there is dropped, as any router in between would.
    async fn send(&self, transmits: &Transmits) {
        for group in transmits.groups() {
            match group.hop {
                Hop::Udp(to) => loop {
                    match self.shared.udp.try_send(to, group.bytes, Some(group.segment)) {
                        Sent::Full => self.shared.udp.writable(to).await,
                        Sent::Done => break,
                        Sent::Unreachable(reason) => {
                            debug!(event = "send_error", peer = %self.peer.key(), %to, %reason, "the direct path failed");
                            self.peer.engine().handle_send_error(clock::now(), to);
                            break;
                        }
                    }
                },
                Hop::Derp(region) => {
                    for datagram in group.bytes.chunks(group.segment) {
                        self.shared.derp.send(region, &self.peer.key(), datagram);
                    }
                }
            }
        }
    }

    /// Gives the applications what is theirs.
    fn hand_out(&mut self) {
        for (hop, datagram) in self.outcome.disco.drain(..) {
            self.shared.send(hop, Some(self.peer.key()), &datagram);
        }
        for event in std::mem::take(&mut self.outcome.events) {
            self.handle_event(event);
        }
        for Datagram { local, remote, payload } in std::mem::take(&mut self.outcome.datagrams) {
            let caller = self.caller(local, remote, CancellationToken::new());
            if !self.shared.ports.deliver(local.port(), Arrived { caller, payload }) {
                self.shared.counters.backlog_full.fetch_add(1, Relaxed);
            }
        }
    }

    fn handle_event(&self, event: PeerEvent) {
        match event {
            PeerEvent::Accepted { conn, local, remote } => {
                if self.peer.is_first_connection() {
                    self.shared.new_peer.notify_one();
                }
                let caller = self.caller(local, remote, self.peer.track(conn));
                let stream = Stream::new(Arc::clone(&self.peer), conn, local, remote);
                if let Err(refused) = self.shared.ports.offer(Conn::new(stream, caller)) {
                    self.shared.counters.backlog_full.fetch_add(1, Relaxed);
                    refused.into_parts().0.abort();
                }
            }
            PeerEvent::Withdrawn { conn } => self.peer.withdraw(conn),
            PeerEvent::Pong { id, latency, .. } => self.peer.answered(id, latency),
            PeerEvent::Path(PathEvent::StaleEndpoints) => self.shared.stale_endpoints.notify_one(),
            PeerEvent::Path(PathEvent::Changed(hop)) => {
                debug!(event = "path", peer = %self.peer.key(), ?hop, "the path to a peer changed");
            }
            PeerEvent::Path(PathEvent::Pong { hop, latency }) => self.peer.path_answered(hop, latency),
            PeerEvent::DiscoKey(key) => self.handle_disco_key(key),
        }
    }

    /// So that messages sealed with it are taken as the peer's.
    fn handle_disco_key(&self, key: DiscoPublic) {
        let netmap = self.shared.netmap.current();
        let mut owners = netmap.iter().flat_map(|netmap| netmap.peers_by_disco(&key));
        let is_known = owners.any(|owner| owner.key == self.peer.key());
        self.shared.peers.set_disco(&self.peer, Some(key).filter(|_| !is_known));
    }

    fn caller(
        &self,
        local: std::net::SocketAddr,
        remote: std::net::SocketAddr,
        withdrawn: CancellationToken,
    ) -> Caller {
        Caller::new(
            self.peer.key(),
            local,
            remote,
            Arc::clone(&self.shared.netmap),
            withdrawn,
        )
    }
}

/// Takes the peer off the tables when its task ends, also by a panic.
struct Guard {
    shared: Arc<Shared>,
    peer: Arc<PeerHandle>,
    clean: bool,
}

impl Guard {
    fn finish(mut self) {
        self.clean = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.peers.remove(&self.peer);
        if !self.clean {
            self.peer.fail();
            // Wakes whoever waits on a connection; the engine may be in any state, and is not used after this.
            let _ = catch_unwind(AssertUnwindSafe(|| self.peer.engine().close_all()));
            error!(event = "peer_panic", peer = %self.peer.key(), "a peer's task panicked: its connections are gone, the others go on");
        }
    }
}
