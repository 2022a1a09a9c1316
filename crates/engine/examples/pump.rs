//! How fast one core moves bytes through two peers: TCP, IP, WireGuard, and the same way back up.
//!
//! `cargo run --release -p tailnet-engine --example pump -- [MEGABYTES] [CONNECTIONS]` moves bulk data,
//! `... pump -- requests [COUNT] [CONNECTIONS]` small questions and answers, `... pump -- dials [COUNT]` a new connection
//! for each.
//!
//! Both ends run in turn on one thread and hand each other whole batches, so what is printed per packet is the work of
//! sender and receiver together, acknowledgments included, without any system call.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use rand::{SeedableRng, rngs::StdRng};
use tailnet_engine::{
    filter::Filter,
    path::{Hop, PathConfig},
    peer::{ConnId, ConnectionMemory, Limits, Peer, PeerConfig, PeerEvent, PeerView, Ports, Transmits},
    tunnel::HandshakeLimiter,
};
use tailnet_wire::key::NodePrivate;

const PORT: u16 = 443;
const HOP: Hop = Hop::Derp(1);

fn address(end: u8) -> IpAddr {
    [100, 64, 0, 1 + end].into()
}

fn peer(end: u8, now: Instant) -> Result<Peer, Box<dyn Error>> {
    let keys = [NodePrivate::from_random([1; 32]), NodePrivate::from_random([2; 32])];
    let our = keys[usize::from(end)].clone();
    let local = vec![address(end)];
    let rules = r#"[{"SrcIPs":["*"],"DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}]"#;
    let view = PeerView {
        filter: Arc::new(Filter::new(&serde_json::from_str::<Vec<_>>(rules)?, &local)),
        local,
        remote: vec![address(1 - end)],
        node_caps: Default::default(),
        path: PathConfig {
            home_derp: Some(1),
            ..PathConfig::default()
        },
    };
    let config = PeerConfig {
        key: keys[usize::from(1 - end)].public(),
        index: u32::from(end),
        seed: u64::from(end),
        limiter: Arc::new(HandshakeLimiter::new(&our, 100)),
        our,
        memory: ConnectionMemory::new(64 << 20),
        limits: Limits::default(),
        ports: Arc::new(Ports {
            tcp: [PORT].into(),
            udp: [].into(),
        }),
        view,
    };
    Ok(Peer::new(config, now))
}

/// Everything that `from` has to send goes to `to`, a batch at a time. Returns the number of datagrams.
fn carry(from: &mut Peer, to: &mut Peer, transmits: &mut Transmits) -> usize {
    let mut count = 0;
    let now = Instant::now();
    from.poll_transmit(now, transmits);
    for group in transmits.groups() {
        for datagram in group.bytes.chunks(group.segment) {
            to.handle_datagram(now, HOP, datagram);
            count += 1;
        }
    }
    transmits.clear();
    count
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().filter(|word| word.parse::<usize>().is_err()).cloned();
    args.drain(..usize::from(mode.is_some()));
    let number = |at: usize, default| args.get(at).map_or(Ok(default), |text| text.parse());
    let mut pump = Pump::new()?;
    match mode.as_deref() {
        None => pump.bulk(number(0, 2000)?, number(1, 1)?),
        Some("requests") => pump.requests(number(0, 300_000)?, number(1, 16)?),
        Some("dials") => pump.dials(number(0, 30_000)?),
        Some(other) => Err(format!("{other:?} is neither \"requests\" nor \"dials\"").into()),
    }
}

/// Two peers and the link between them, which is a function call.
struct Pump {
    a: Peer,
    b: Peer,
    rng: StdRng,
    transmits: Transmits,
    cx: Context<'static>,
}

impl Pump {
    fn new() -> Result<Self, Box<dyn Error>> {
        let now = Instant::now();
        Ok(Self {
            a: peer(0, now)?,
            b: peer(1, now)?,
            rng: StdRng::seed_from_u64(1),
            transmits: Transmits::default(),
            cx: Context::from_waker(Waker::noop()),
        })
    }

    /// Everything that a has to send goes to b; returns the number of datagrams.
    fn there(&mut self) -> usize {
        carry(&mut self.a, &mut self.b, &mut self.transmits)
    }

    fn back(&mut self) -> usize {
        carry(&mut self.b, &mut self.a, &mut self.transmits)
    }

    fn connect(&mut self) -> Result<(ConnId, ConnId), Box<dyn Error>> {
        let remote = SocketAddr::new(address(1), PORT);
        let dialed = self.a.connect(Instant::now(), &mut self.rng, address(0), remote)?;
        loop {
            self.there();
            self.back();
            while let Some(event) = self.b.poll_event() {
                if let PeerEvent::Accepted { conn, .. } = event {
                    return Ok((dialed, conn));
                }
            }
        }
    }

    fn bulk(&mut self, megabytes: usize, connections: usize) -> Result<(), Box<dyn Error>> {
        let conns = (0..connections)
            .map(|_| self.connect())
            .collect::<Result<Vec<_>, _>>()?;
        let (chunk, mut sink) = (vec![7; 64 << 10], vec![0; 64 << 10]);
        let (mut received, mut data, mut acks) = (0, 0, 0);
        let start = Instant::now();
        while received < megabytes << 20 {
            for (dialed, _) in &conns {
                while let Poll::Ready(n) = self.a.poll_write(*dialed, &mut self.cx, &chunk) {
                    n?;
                }
            }
            data += self.there();
            for (_, accepted) in &conns {
                while let Poll::Ready(n) = self.b.poll_read(*accepted, &mut self.cx, &mut sink) {
                    received += n?;
                }
            }
            acks += self.back();
        }
        let elapsed = start.elapsed();
        println!(
            "{:.2} Gbit/s, {:.0} ns per data packet for both ends, {:.2} s per GB, {data} data packets, {acks} acks",
            received as f64 * 8.0 / elapsed.as_secs_f64() / 1e9,
            elapsed.as_nanos() as f64 / data as f64,
            elapsed.as_secs_f64() / (received as f64 / 1e9),
        );
        Ok(())
    }

    fn requests(&mut self, count: usize, connections: usize) -> Result<(), Box<dyn Error>> {
        let conns = (0..connections)
            .map(|_| self.connect())
            .collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        for _ in 0..count.div_ceil(connections) {
            for conn in &conns {
                self.ask(conn)?;
            }
        }
        report("request", count, start);
        Ok(())
    }

    fn dials(&mut self, count: usize) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        for _ in 0..count {
            let conn = self.connect()?;
            self.ask(&conn)?;
            self.b.release(conn.1);
            self.back();
            self.a.release(conn.0);
            self.there();
            self.back();
        }
        report("connection with one request", count, start);
        Ok(())
    }

    /// A question of 100 bytes and an answer of 200.
    fn ask(&mut self, (dialed, accepted): &(ConnId, ConnId)) -> Result<(), Box<dyn Error>> {
        let mut buffer = [0; 1024];
        if self.a.poll_write(*dialed, &mut self.cx, &[1; 100])?.is_pending() {
            return Err("the send buffer is full".into());
        }
        self.there();
        while self.b.poll_read(*accepted, &mut self.cx, &mut buffer)?.is_pending() {
            self.there();
        }
        if self.b.poll_write(*accepted, &mut self.cx, &[2; 200])?.is_pending() {
            return Err("the send buffer is full".into());
        }
        self.back();
        while self.a.poll_read(*dialed, &mut self.cx, &mut buffer)?.is_pending() {
            self.back();
        }
        Ok(())
    }
}

fn report(what: &str, count: usize, start: Instant) {
    let micros = start.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{micros:.2} us per {what}, both ends together");
}
