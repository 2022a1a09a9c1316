//! A peer that means harm: a member of the tailnet without any of our limits, straight on WireGuard and UDP.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use tailnet_engine::tunnel::{Decapsulated, HandshakeLimiter, OVERHEAD, Tunnel};
use tailnet_node::state::State;
use tailnet_testkit::AuthKeySpec;
use tailnet_wire::{
    key::{NodePrivate, NodePublic},
    packet::{Addresses, IpProto, Packet, build, checksum},
};

use crate::fleet::{ALICE, Fleet, PATIENCE, PORT};

/// What a segment of his carries.
const SEGMENT: usize = 1200;
/// How long the socket is waited for.
const READ: Duration = Duration::from_millis(5);
/// Our window scale: what we announce is huge, and never read.
const SCALE: u8 = 7;

/// SYN, ACK, PSH of TCP's flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// The attacker.
pub struct Mallory {
    /// His key, which the tailnet knows.
    pub key: NodePrivate,
    /// Whom he attacks.
    pub victim: NodePublic,
    /// Where.
    pub target: SocketAddr,
    /// His tailnet address.
    pub own: Ipv4Addr,
    /// The victim's.
    pub theirs: Ipv4Addr,
    socket: UdpSocket,
    tunnel: Tunnel,
    limiter: HandshakeLimiter,
    ticked: Instant,
    connections: HashSet<u16>,
}

impl Mallory {
    /// Joins the tailnet as an ordinary node of alice's and goes on without it.
    pub async fn join(fleet: &Fleet) -> Self {
        let node = fleet.join("mallory", AuthKeySpec::user(ALICE)).await;
        node.shutdown(PATIENCE).await;
        drop(node);
        let state = State::open(&fleet.folder("mallory"), node_url(fleet).as_str()).expect("his state");
        let key = state.node_key();
        let server = fleet.info("server");
        let target = server
            .endpoints
            .iter()
            .find(|endpoint| endpoint.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST))
            .or(server.endpoints.first())
            .copied()
            .expect("an endpoint");
        let limiter = HandshakeLimiter::new(&key, 1_000_000);
        let now = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(READ)).expect("a timeout");
        Self {
            tunnel: Tunnel::new(&key, &server.key, 0x12_3456, &limiter, now),
            victim: server.key,
            target: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), target.port()),
            own: v4(&fleet.info("mallory").addresses),
            theirs: v4(&server.addresses),
            key,
            socket,
            limiter,
            ticked: now,
            connections: HashSet::new(),
        }
    }

    /// A fresh initiation, as any key of his choice would send it.
    pub fn initiation(&self, claimed: &NodePrivate) -> Vec<u8> {
        let mut out = vec![0; 2048];
        let now = Instant::now();
        let mut tunnel = Tunnel::new(claimed, &self.victim, 1, &self.limiter, now);
        let len = tunnel.initiate(now, &mut out).unwrap_or_default();
        out.truncate(len);
        out
    }

    /// Shakes hands with the victim.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn shake(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let mut out = [0; 2048];
        let mut next = start;
        while !self.tunnel.has_session() {
            if start.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if next <= Instant::now() {
                next += Duration::from_secs(1);
                if let Some(len) = self.tunnel.force_handshake(Instant::now(), &mut out) {
                    self.fire(&out[..len])?;
                }
            }
            self.listen(|_, _| ());
        }
        Ok(())
    }

    /// Sends a datagram as it is.
    ///
    /// # Errors
    /// As the socket has it; a full buffer is none.
    pub fn fire(&self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.send_to(datagram, self.target) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Sends an inner packet through his tunnel.
    ///
    /// # Errors
    /// As [`fire`](Self::fire).
    pub fn inject(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut out = vec![0; packet.len() + OVERHEAD + 148];
        match self.tunnel.encapsulate(Instant::now(), packet, &mut out) {
            Some(len) => self.fire(&out[..len]),
            None => Err(io::Error::other("no session")),
        }
    }

    /// Sends SYNs from these ports and does nothing about the answers.
    ///
    /// # Errors
    /// As [`fire`](Self::fire).
    pub fn half_open(&mut self, ports: impl Iterator<Item = u16>) -> io::Result<()> {
        for (count, port) in ports.enumerate() {
            self.inject(&self.syn(port))?;
            if count % 64 == 63 {
                self.listen(|_, _| ());
            }
        }
        Ok(())
    }

    /// Opens a connection from each of these ports, without any stack of his own, and says `first` on it; then sends
    /// `fill` bytes as fast as the socket takes them, reads nothing and acknowledges nothing more. Gives the number of
    /// connections that the victim took.
    ///
    /// # Errors
    /// As [`fire`](Self::fire).
    pub fn open(&mut self, ports: impl Iterator<Item = u16>, first: u8, fill: usize) -> io::Result<usize> {
        let before = self.connections.len();
        let ports: Vec<u16> = ports.collect();
        for some in ports.chunks(32) {
            for port in some {
                self.inject(&self.syn(*port))?;
            }
            let mut taken = Vec::new();
            self.listen(|packet, bytes| {
                let tcp = packet.transport(bytes);
                if packet.tcp_flags & (SYN | ACK) == SYN | ACK && packet.src.port() == PORT {
                    let sequence = tcp
                        .get(4..8)
                        .and_then(|raw| raw.try_into().ok())
                        .map(u32::from_be_bytes);
                    taken.extend(sequence.map(|sequence| (packet.dst.port(), sequence)));
                }
            });
            for (port, sequence) in taken {
                if self.connections.insert(port) {
                    self.occupy(port, sequence.wrapping_add(1), first, fill)?;
                }
            }
        }
        Ok(self.connections.len() - before)
    }

    fn occupy(&mut self, port: u16, acknowledge: u32, first: u8, fill: usize) -> io::Result<()> {
        let mut sequence = 1001u32;
        self.inject(&self.segment(port, sequence, acknowledge, ACK | PSH, &[], &[first]))?;
        sequence += 1;
        for _ in 0..fill.div_ceil(SEGMENT) {
            self.inject(&self.segment(port, sequence, acknowledge, ACK, &[], &[0; SEGMENT]))?;
            sequence = sequence.wrapping_add(SEGMENT as u32);
        }
        Ok(())
    }

    /// Reads what has arrived, answers handshakes, and hands inner packets to `look`.
    pub fn listen(&mut self, mut look: impl FnMut(&Packet, &[u8])) {
        let (mut raw, mut plain) = ([0; 65_536], vec![0; 65_536 + 256]);
        let source = self.target.ip();
        if self.ticked.elapsed() > Duration::from_millis(250) {
            self.ticked = Instant::now();
            if let Some(len) = self.tunnel.handle_timeout(self.ticked, &mut plain) {
                let _ = self.fire(&plain[..len]);
            }
        }
        while let Ok((len, _)) = self.socket.recv_from(&mut raw) {
            match self.tunnel.decapsulate(Instant::now(), source, &raw[..len], &mut plain) {
                Decapsulated::Packet(len) => {
                    if let Ok(packet) = Packet::parse(&plain[..len]) {
                        look(&packet, &plain[..len]);
                    }
                }
                Decapsulated::Handshake(len) => {
                    let _ = self.fire(&plain[..len]);
                }
                _ => {}
            }
        }
    }

    fn syn(&self, port: u16) -> Vec<u8> {
        // MSS 1220, window scale, a NOP to fill up.
        let options = [2, 4, 0x04, 0xc4, 3, 3, SCALE, 1];
        self.segment(port, 1000, 0, SYN, &options, &[])
    }

    fn segment(&self, port: u16, sequence: u32, acknowledge: u32, flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
        let addresses = Addresses::V4(self.own, self.theirs);
        let mut body = Vec::with_capacity(20 + options.len() + data.len());
        body.extend_from_slice(&port.to_be_bytes());
        body.extend_from_slice(&PORT.to_be_bytes());
        body.extend_from_slice(&sequence.to_be_bytes());
        body.extend_from_slice(&acknowledge.to_be_bytes());
        let offset = (5 + options.len() / 4) << 4;
        body.extend_from_slice(&[offset as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        body.extend_from_slice(options);
        body.extend_from_slice(data);
        let sum = checksum::pseudo_header(&addresses, IpProto::TCP, body.len()).with(&body);
        body[16..18].copy_from_slice(&sum.finish().to_be_bytes());
        build::ip(&addresses, IpProto::TCP, &body)
    }
}

fn v4(addresses: &[IpAddr]) -> Ipv4Addr {
    let first = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    first.expect("an IPv4 address")
}

fn node_url(fleet: &Fleet) -> String {
    // As the node stores it.
    format!("{}/", fleet.tailnet.control_url().trim_end_matches('/'))
}
