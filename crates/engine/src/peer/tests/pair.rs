use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tailnet_wire::{control::FilterRule, key::NodePrivate};

use crate::{
    filter::Filter,
    path::{Hop, PathConfig},
    peer::*,
    tunnel::HandshakeLimiter,
};

/// Port on which both ends listen.
pub(super) const PORT: u16 = 443;

/// What a link does to datagrams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) loss: f64,
    pub(super) duplicate: f64,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
}

impl Link {
    pub(super) const PERFECT: Self = Self {
        loss: 0.0,
        duplicate: 0.0,
        delay: Duration::from_micros(100),
        jitter: Duration::ZERO,
    };
}

/// One end.
pub(super) struct End {
    pub(super) peer: Peer,
    pub(super) memory: Arc<ConnectionMemory>,
    transmits: Transmits,
    pub(super) events: Vec<PeerEvent>,
    pub(super) datagrams: Vec<Datagram>,
}

/// Two ends and what is on the way between them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) link: Link,
    pub(super) rng: StdRng,
    /// By arrival, then by an increasing number; the end it goes to.
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
}

pub(super) fn ip(end: usize, version: u8) -> IpAddr {
    match version {
        4 => [100, 64, 0, 1 + end as u8].into(),
        _ => format!("fd7a:115c:a1e0::{}", 1 + end).parse().unwrap(),
    }
}

/// A rule for everything.
pub(super) fn allow_all() -> Vec<FilterRule> {
    let json = r#"[{"SrcIPs":["*"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}]"#;
    serde_json::from_str(json).unwrap()
}

pub(super) fn view(end: usize, rules: &[FilterRule]) -> PeerView {
    let local = vec![ip(end, 4), ip(end, 6)];
    PeerView {
        filter: Arc::new(Filter::new(rules, &local)),
        local,
        remote: vec![ip(1 - end, 4), ip(1 - end, 6)],
        node_caps: Default::default(),
        path: PathConfig {
            disco: None,
            endpoints: vec![address(1 - end)],
            home_derp: Some(7),
        },
    }
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + end as u8], 41_641))
}

fn end(at: usize, now: Instant, memory: usize, limits: Limits) -> End {
    let keys = [NodePrivate::from_random([1; 32]), NodePrivate::from_random([2; 32])];
    let memory = ConnectionMemory::new(memory);
    let ports = Ports {
        tcp: [PORT].into(),
        udp: [53].into(),
    };
    let config = PeerConfig {
        our: keys[at].clone(),
        key: keys[1 - at].public(),
        index: 0x10_0000 + at as u32,
        seed: at as u64,
        limiter: Arc::new(HandshakeLimiter::new(&keys[at], 100)),
        memory: Arc::clone(&memory),
        limits,
        ports: Arc::new(ports),
        view: view(at, &allow_all()),
    };
    End {
        peer: Peer::new(config, now),
        memory,
        transmits: Transmits::default(),
        events: Vec::new(),
        datagrams: Vec::new(),
    }
}

impl Pair {
    pub(super) fn new(link: Link) -> Self {
        Self::with(link, 64 << 20, Limits::default())
    }

    pub(super) fn with(link: Link, memory: usize, limits: Limits) -> Self {
        let now = Instant::now();
        Self {
            now,
            ends: [end(0, now, memory, limits), end(1, now, memory, limits)],
            link,
            rng: StdRng::seed_from_u64(7),
            wire: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Puts a datagram on the wire to `to`.
    fn carry(&mut self, to: usize, bytes: &[u8]) {
        let copies = if self.rng.random_bool(self.link.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.rng.random_bool(self.link.loss) {
                continue;
            }
            let jitter = self.link.jitter.mul_f64(self.rng.random());
            self.sent += 1;
            let at = self.now + self.link.delay + jitter;
            self.wire.insert((at, self.sent), (to, bytes.to_vec()));
        }
    }

    /// Lets both ends do what they can now.
    pub(super) fn turn(&mut self) {
        for from in 0..2 {
            let now = self.now;
            loop {
                let mut transmits = std::mem::take(&mut self.ends[from].transmits);
                self.ends[from].peer.poll_transmit(now, &mut transmits);
                for group in transmits.groups() {
                    for datagram in group.bytes.chunks(group.segment) {
                        // The pair knows one link; what goes two ways is carried once.
                        if matches!(group.hop, Hop::Derp(_)) {
                            self.carry(1 - from, datagram);
                        }
                    }
                }
                let more = transmits.is_full();
                transmits.clear();
                self.ends[from].transmits = transmits;
                if !more {
                    break;
                }
            }
            let end = &mut self.ends[from];
            while let Some(event) = end.peer.poll_event() {
                end.events.push(event);
            }
            while let Some(datagram) = end.peer.poll_datagram() {
                end.datagrams.push(datagram);
            }
        }
    }

    /// Moves the clock to whatever comes next and handles it. False when nothing ever will.
    pub(super) fn step(&mut self) -> bool {
        self.turn();
        let arrival = self.wire.keys().next().map(|(at, _)| *at);
        let timers = self.ends.iter().filter_map(|end| end.peer.poll_timeout());
        let Some(next) = timers.chain(arrival).min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, bytes) = entry.remove();
            let now = self.now;
            self.ends[to].peer.handle_datagram(now, Hop::Derp(7), &bytes);
        }
        let now = self.now;
        for end in &mut self.ends {
            if end.peer.poll_timeout().is_some_and(|at| at <= now) {
                end.peer.handle_timeout(now);
            }
        }
        self.turn();
        true
    }

    /// Steps until `done`, which may act; panics when that takes more than a minute of virtual time.
    pub(super) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !done(self) {
            assert!(self.step() && self.now < end, "nothing more happens");
        }
        self.turn();
    }

    /// Steps for a span of virtual time.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end && self.step() {}
        self.now = self.now.max(end);
    }

    /// Dials from end 0 to end 1 and waits for both to know of it. Returns both names.
    pub(super) fn connect(&mut self, version: u8) -> (ConnId, ConnId) {
        let remote = SocketAddr::new(ip(1, version), PORT);
        let dialed = self.dial(remote).unwrap();
        self.until(|pair| pair.poll_connected(0, dialed) == Poll::Ready(Ok(())));
        let mut accepted = None;
        self.until(|pair| {
            accepted = pair.accepted(1);
            accepted.is_some()
        });
        (dialed, accepted.unwrap())
    }

    pub(super) fn dial(&mut self, remote: SocketAddr) -> Result<ConnId, ConnectError> {
        let version = if remote.is_ipv4() { 4 } else { 6 };
        let rng: &mut dyn RngCore = &mut self.rng;
        self.ends[0].peer.connect(self.now, rng, ip(0, version), remote)
    }

    /// The next accepted connection of an end.
    pub(super) fn accepted(&mut self, end: usize) -> Option<ConnId> {
        let is_accepted = |event: &PeerEvent| matches!(event, PeerEvent::Accepted { .. });
        let index = self.ends[end].events.iter().position(is_accepted)?;
        match self.ends[end].events.remove(index) {
            PeerEvent::Accepted { conn, .. } => Some(conn),
            _ => None,
        }
    }

    pub(super) fn poll_connected(&mut self, end: usize, conn: ConnId) -> Poll<Result<(), ConnError>> {
        self.ends[end]
            .peer
            .poll_connected(conn, &mut Context::from_waker(Waker::noop()))
    }

    pub(super) fn read(&mut self, end: usize, conn: ConnId, out: &mut [u8]) -> Poll<Result<usize, ConnError>> {
        self.ends[end]
            .peer
            .poll_read(conn, &mut Context::from_waker(Waker::noop()), out)
    }

    pub(super) fn write(&mut self, end: usize, conn: ConnId, data: &[u8]) -> Poll<Result<usize, ConnError>> {
        self.ends[end]
            .peer
            .poll_write(conn, &mut Context::from_waker(Waker::noop()), data)
    }

    /// Everything on the way is lost.
    pub(super) fn drop_everything_in_flight(&mut self) {
        self.turn();
        self.wire.clear();
    }

    /// Seals any bytes with the tunnel of an end and delivers them at once, as a hostile peer could.
    pub(super) fn inject(&mut self, from: usize, plain: &[u8]) {
        let mut sealed = [0; 2048];
        let now = self.now;
        if let Some(len) = self.ends[from].peer.tunnel.encapsulate(now, plain, &mut sealed) {
            self.ends[1 - from]
                .peer
                .handle_datagram(now, Hop::Derp(7), &sealed[..len]);
        }
    }

    /// The next TCP segment that an end would send, in plain text; it is not sent.
    pub(super) fn plain_segment(&mut self, end: usize) -> Vec<u8> {
        struct Catch(Vec<u8>);
        impl crate::netstack::Egress for Catch {
            fn is_ready(&self) -> bool {
                self.0.is_empty()
            }
            fn send(&mut self, packet: &[u8]) {
                self.0 = packet.to_vec();
            }
        }
        let mut catch = Catch(Vec::new());
        let now = self.now;
        if let Some(netstack) = &mut self.ends[end].peer.netstack {
            netstack.poll_egress(now, &mut catch);
        }
        catch.0
    }

    /// Replaces an end by one with the same keys and no memory.
    pub(super) fn restart(&mut self, at: usize) {
        self.ends[at] = end(at, self.now, 64 << 20, Limits::default());
        self.wire.clear();
    }

    /// Sends `data` from one end to the other and closes that half; returns what arrived before the end of stream.
    pub(super) fn transfer(&mut self, from: usize, sender: ConnId, receiver: ConnId, data: &[u8]) -> Vec<u8> {
        let (mut sent, mut received, mut buffer) = (0, Vec::new(), vec![0; 64 << 10]);
        let mut closed = false;
        loop {
            while sent < data.len()
                && let Poll::Ready(n) = self.write(from, sender, &data[sent..])
            {
                sent += n.unwrap();
            }
            if sent == data.len() && !closed {
                self.ends[from].peer.shutdown(sender).unwrap();
                closed = true;
            }
            while let Poll::Ready(n) = self.read(1 - from, receiver, &mut buffer) {
                match n.unwrap() {
                    0 => return received,
                    n => received.extend_from_slice(&buffer[..n]),
                }
            }
            assert!(self.step(), "nothing more happens");
        }
    }
}

/// A waker that counts.
pub(super) fn counting_waker() -> (Waker, Arc<AtomicUsize>) {
    struct Count(Arc<AtomicUsize>);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let count = Arc::new(AtomicUsize::new(0));
    (Waker::from(Arc::new(Count(Arc::clone(&count)))), count)
}

impl Peer {
    pub(super) fn has_no_netstack(&self) -> bool {
        self.netstack.is_none()
    }
}
