//! What a member of the tailnet can do to another from inside the tunnel: IP packets of its own making.
//!
//! An input is a list of packets, each with its length in two bytes before it. All go through a real session into an
//! `engine::Peer` that lets their sender in, with the checksums put right, so that nothing stops them at the door.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use rand::{SeedableRng as _, rngs::SmallRng};
use tailnet_engine::{
    filter::Filter,
    netmap::NodeCaps,
    path::{Hop, PathConfig},
    peer::{ConnId, ConnectionMemory, Limits, Peer, PeerConfig, PeerEvent, PeerView, Ports, Transmits},
    tunnel::{Decapsulated, HandshakeLimiter, Tunnel},
};
use tailnet_wire::{
    control::{FilterRule, NetPortRange, PortRange},
    key::NodePrivate,
    packet::{Addresses, IpProto, Packet, build, checksum, tcp_flags},
};

use crate::Target;

const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 1));
const THEIRS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 2));
const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 41641);
const PORTS: (u16, u16) = (40000, 443);

pub(crate) const PEER: Target = Target {
    name: "peer",
    seeds: || {
        // A whole connection; our side's sequence number is read off its answer, which is always the same.
        let mut session = Session::new();
        let syn = segment(tcp_flags::SYN, 1000, 0, &[]);
        let answers = session.deliver(&syn);
        let number = |body: &[u8]| body.get(4..8)?.try_into().ok().map(u32::from_be_bytes);
        let theirs = answers
            .iter()
            .find_map(|bytes| number(Packet::parse(bytes).ok()?.transport(bytes)));
        let next = theirs.unwrap_or(0).wrapping_add(1);
        let ack = tcp_flags::ACK;
        let connection = [
            syn,
            segment(ack, 1001, next, &[]),
            segment(ack | tcp_flags::PSH, 1001, next, b"hello"),
            segment(ack | tcp_flags::FIN, 1006, next, &[]),
            segment(tcp_flags::RST, 1007, next, &[]),
        ];
        let Some(addresses) = Addresses::new(THEIRS, OURS) else {
            return Vec::new();
        };
        let others = [
            build::echo_request(&addresses, 1, 1, b"ping"),
            build::tsmp(&addresses, b"p12345678"),
            build::ip(&addresses, IpProto::UDP, &[0x9c, 0x40, 1, 0xbb, 0, 10, 0, 0, 1, 2]),
        ];
        vec![pack(&connection), pack(&connection[..3]), pack(&others)]
    },
    run: |input| {
        let mut session = Session::new();
        let mut rest = input;
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len)).min(after.len()).min(1500);
            session.deliver(&with_checksum(&after[..len]));
            rest = &after[len..];
        }
        session.pass_time();
    },
};

fn pack(packets: &[Vec<u8>]) -> Vec<u8> {
    let framed = packets
        .iter()
        .map(|packet| [&(packet.len() as u16).to_be_bytes(), &packet[..]].concat());
    framed.collect::<Vec<_>>().concat()
}

fn segment(flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
    let mut body = [PORTS.0.to_be_bytes(), PORTS.1.to_be_bytes()].concat();
    body.extend_from_slice(&sequence.to_be_bytes());
    body.extend_from_slice(&acknowledged.to_be_bytes());
    body.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    body.extend_from_slice(data);
    let packet = Addresses::new(THEIRS, OURS).map(|addresses| build::ip(&addresses, IpProto::TCP, &body));
    with_checksum(&packet.unwrap_or_default())
}

/// The packet with right checksums, if it is TCP over IPv4 at all.
fn with_checksum(packet: &[u8]) -> Vec<u8> {
    let mut out = packet.to_vec();
    let Some((parsed, addresses)) = Packet::parse(packet)
        .ok()
        .and_then(|parsed| Some((parsed, Addresses::new(parsed.src.ip(), parsed.dst.ip())?)))
    else {
        return out;
    };
    let (start, end) = (parsed.header_len, parsed.len);
    if parsed.version == 4 {
        out[10..12].fill(0);
        let sum = checksum::Sum::default().with(&out[..start]).finish();
        out[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    if parsed.proto == IpProto::TCP && end - start >= 20 {
        out[start + 16..start + 18].fill(0);
        let sum = checksum::pseudo_header(&addresses, IpProto::TCP, end - start)
            .with(&out[start..end])
            .finish();
        out[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    }
    out
}

/// A peer that serves, and the raw tunnel of the one it serves.
struct Session {
    now: Instant,
    peer: Peer,
    tunnel: Tunnel,
    transmits: Transmits,
    /// Bytes that the serving application was handed.
    read: usize,
    conns: Vec<ConnId>,
}

impl Session {
    fn new() -> Self {
        let (ours, theirs) = (NodePrivate::from_random([1; 32]), NodePrivate::from_random([2; 32]));
        let now = Instant::now();
        let ports = Ports {
            tcp: [PORTS.1].into(),
            udp: [PORTS.1].into(),
        };
        let peer = Peer::new(
            PeerConfig {
                our: ours.clone(),
                key: theirs.public(),
                index: 1,
                seed: 1,
                limiter: Arc::new(HandshakeLimiter::new(&ours, 1000)),
                memory: ConnectionMemory::new(16 << 20),
                limits: Limits::default(),
                ports: Arc::new(ports),
                view: view(),
            },
            now,
        );
        let limiter = HandshakeLimiter::new(&theirs, 1000);
        let mut session = Self {
            now,
            peer,
            tunnel: Tunnel::new(&theirs, &ours.public(), 2, &limiter, now),
            transmits: Transmits::default(),
            read: 0,
            conns: Vec::new(),
        };
        let mut out = [0; 2048];
        if let Some(len) = session.tunnel.initiate(now, &mut out) {
            session.peer.handle_datagram(now, Hop::Udp(FROM), &out[..len]);
        }
        session.collect();
        session
    }

    /// Sends a packet in and returns what comes back.
    fn deliver(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut out = [0; 2048];
        if let Some(len) = self.tunnel.encapsulate(self.now, packet, &mut out) {
            self.peer.handle_datagram(self.now, Hop::Udp(FROM), &out[..len]);
        }
        self.collect()
    }

    fn collect(&mut self) -> Vec<Vec<u8>> {
        let (mut packets, mut replies) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            self.transmits.clear();
            self.peer.poll_transmit(self.now, &mut self.transmits);
            for group in self.transmits.groups() {
                for datagram in group.bytes.chunks(group.segment) {
                    let mut out = [0; 2048];
                    match self.tunnel.decapsulate(self.now, FROM.ip(), datagram, &mut out) {
                        Decapsulated::Packet(len) => packets.push(out[..len].to_vec()),
                        Decapsulated::Handshake(len) => replies.push(out[..len].to_vec()),
                        _ => {}
                    }
                }
            }
            for reply in replies.drain(..) {
                self.peer.handle_datagram(self.now, Hop::Udp(FROM), &reply);
            }
        }
        while let Some(event) = self.peer.poll_event() {
            if let PeerEvent::Accepted { conn, .. } = event {
                self.conns.push(conn);
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        for conn in &self.conns {
            if let Poll::Ready(Ok(len)) = self.peer.poll_read(*conn, &mut cx, &mut [0; 64]) {
                self.read += len;
                let _ = self.peer.poll_write(*conn, &mut cx, b"answer");
            }
        }
        while self.peer.poll_datagram().is_some() {}
        packets
    }

    /// Runs all timers for a while, then withdraws the peer.
    fn pass_time(&mut self) {
        for _ in 0..20 {
            self.now += Duration::from_millis(700);
            self.peer.handle_timeout(self.now);
            self.collect();
            while self
                .peer
                .poll_disco(self.now, &mut SmallRng::seed_from_u64(1))
                .is_some()
            {}
        }
        self.peer.handle_view(self.now, None);
        self.collect();
        assert!(self.peer.is_finished(), "a withdrawn peer has nothing left to say");
    }
}

fn view() -> PeerView {
    let rule = FilterRule {
        src_ips: vec!["*".into()],
        dst_ports: vec![NetPortRange {
            ip: "*".into(),
            bits: None,
            ports: PortRange::ANY,
        }],
        ..FilterRule::default()
    };
    PeerView {
        local: vec![OURS],
        remote: vec![THEIRS],
        filter: Arc::new(Filter::new(&[rule], &[OURS])),
        node_caps: NodeCaps::default(),
        path: PathConfig::default(),
    }
}

#[test]
fn the_seeds_reach_the_application() {
    let seeds = (PEER.seeds)();
    let mut session = Session::new();
    let mut rest = &seeds[0][..];
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len));
        session.deliver(&after[..len]);
        rest = &after[len..];
    }
    assert_eq!(session.read, b"hello".len());
}
