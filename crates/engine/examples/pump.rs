//! How fast one core moves bytes through two peers: TCP, IP, WireGuard, and the same way back up.
//!
//! `cargo run --release -p tailnet-engine --example pump -- [MEGABYTES] [CONNECTIONS]`
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

fn connect(
    a: &mut Peer,
    b: &mut Peer,
    rng: &mut StdRng,
    transmits: &mut Transmits,
) -> Result<(ConnId, ConnId), Box<dyn Error>> {
    let dialed = a.connect(Instant::now(), rng, address(0), SocketAddr::new(address(1), PORT))?;
    loop {
        carry(a, b, transmits);
        carry(b, a, transmits);
        while let Some(event) = b.poll_event() {
            if let PeerEvent::Accepted { conn, .. } = event {
                return Ok((dialed, conn));
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let megabytes: usize = args.next().map_or(Ok(2000), |text| text.parse())?;
    let connections: usize = args.next().map_or(Ok(1), |text| text.parse())?;
    let (mut a, mut b) = (peer(0, Instant::now())?, peer(1, Instant::now())?);
    let (mut rng, mut transmits) = (StdRng::seed_from_u64(1), Transmits::default());
    let mut conns = Vec::new();
    for _ in 0..connections {
        conns.push(connect(&mut a, &mut b, &mut rng, &mut transmits)?);
    }

    let mut cx = Context::from_waker(Waker::noop());
    let (chunk, mut sink) = (vec![7; 64 << 10], vec![0; 64 << 10]);
    let goal = megabytes << 20;
    let (mut received, mut data, mut acks) = (0, 0, 0);
    let start = Instant::now();
    while received < goal {
        for (dialed, _) in &conns {
            while let Poll::Ready(n) = a.poll_write(*dialed, &mut cx, &chunk) {
                n?;
            }
        }
        data += carry(&mut a, &mut b, &mut transmits);
        for (_, accepted) in &conns {
            while let Poll::Ready(n) = b.poll_read(*accepted, &mut cx, &mut sink) {
                received += n?;
            }
        }
        acks += carry(&mut b, &mut a, &mut transmits);
    }
    let elapsed = start.elapsed();
    let gbit = received as f64 * 8.0 / elapsed.as_secs_f64() / 1e9;
    println!(
        "{gbit:.2} Gbit/s, {:.0} ns per data packet for both ends, {:.2} s per GB, {data} data packets, {acks} acks",
        elapsed.as_nanos() as f64 / data as f64,
        elapsed.as_secs_f64() / (received as f64 / 1e9),
    );
    Ok(())
}
