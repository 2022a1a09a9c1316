//! A member of the tailnet that has gone bad: it holds a key that is in everybody's netmap, may dial nobody, and tries.
//!
//! Through real tunnels it sends packets with the addresses of others, segments into connections of others, SYNs it has
//! no rule for, fragments and noise; outside of tunnels it sends garbage that looks like disco or WireGuard, and
//! handshakes under keys that nobody knows. It speaks through the relays, which let everybody reach everybody.

use std::net::{IpAddr, SocketAddr};

use rand::{Rng as _, RngCore as _, rngs::SmallRng, seq::IndexedRandom as _};
use tailnet_engine::tunnel::{Decapsulated, HandshakeLimiter, Tunnel, relay_address};
use tailnet_wire::{
    disco::MAGIC,
    key::{DiscoPublic, NodePrivate, NodePublic},
    packet::{Addresses, IpProto, build, checksum, tcp_flags},
};

use crate::{
    clock::Clock,
    network::{Arrival, HostId, Network, Origin},
    scenario::{PORTS, RELAYS},
};

/// Whom it attacks, as far as it can know.
#[derive(Debug, Clone)]
pub struct Target {
    /// Node key.
    pub key: NodePublic,
    /// Disco key.
    pub disco: DiscoPublic,
    /// Tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// UDP endpoints.
    pub endpoints: Vec<SocketAddr>,
    /// Connections of others with it: its end, then the other.
    pub connections: Vec<(SocketAddr, SocketAddr)>,
}

/// The intruder. See the [module](self).
#[derive(Debug)]
pub struct Intruder {
    /// Its node key.
    pub public: NodePublic,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    key: NodePrivate,
    host: HostId,
    rng: SmallRng,
    limiter: HandshakeLimiter,
    tunnels: Vec<(NodePublic, Tunnel)>,
    /// Packets that went into a tunnel.
    pub sent: u64,
}

impl Intruder {
    /// An intruder on a host of its own.
    pub fn new(host: HostId, key: NodePrivate, addresses: Vec<IpAddr>, rng: SmallRng) -> Self {
        Self {
            public: key.public(),
            addresses,
            limiter: HandshakeLimiter::new(&key, 1000),
            key,
            host,
            rng,
            tunnels: Vec::new(),
            sent: 0,
        }
    }

    /// Something came for it.
    pub fn handle_arrival(&mut self, clock: &Clock, network: &mut Network, arrival: &Arrival) {
        let Origin::Derp(region, sender) = arrival.origin else {
            return;
        };
        let Some((_, tunnel)) = self.tunnels.iter_mut().find(|(key, _)| *key == sender) else {
            return;
        };
        let mut out = [0; 2048];
        let source = relay_address(region, &sender);
        if let Decapsulated::Handshake(len) = tunnel.decapsulate(clock.instant(), source, &arrival.bytes, &mut out) {
            network.send_derp(clock.now(), self.public, region, sender, &out[..len]);
        }
    }

    /// One round of attacks on a target whose relay is `home`.
    pub fn attack(&mut self, clock: &Clock, network: &mut Network, target: &Target, others: &[IpAddr], home: u32) {
        self.throw_garbage(clock, network, target);
        if self.rng.random_ratio(1, 4) {
            self.knock(clock, network, target, home);
        }
        let now = clock.instant();
        if !self.tunnels.iter().any(|(key, _)| *key == target.key) {
            let index = self.rng.random_range(0..1 << 24);
            let tunnel = clock.at_zero(|start| Tunnel::new(&self.key, &target.key, index, &self.limiter, start));
            self.tunnels.push((target.key, tunnel));
        }
        let packets: Vec<Vec<u8>> = (0..4).filter_map(|_| self.craft(target, others)).collect();
        let Some((_, tunnel)) = self.tunnels.iter_mut().find(|(key, _)| *key == target.key) else {
            return;
        };
        let mut out = [0; 2048];
        if tunnel.tick_due(now)
            && let Some(len) = tunnel.handle_timeout(now, &mut out)
        {
            network.send_derp(clock.now(), self.public, home, target.key, &out[..len]);
        }
        if !tunnel.has_session() {
            if let Some(len) = tunnel.initiate(now, &mut out) {
                network.send_derp(clock.now(), self.public, home, target.key, &out[..len]);
            }
            return;
        }
        for packet in packets {
            if let Some(len) = tunnel.encapsulate(now, &packet, &mut out) {
                self.sent += 1;
                network.send_derp(clock.now(), self.public, home, target.key, &out[..len]);
                // The same once more, and once cut short.
                network.send_derp(clock.now(), self.public, home, target.key, &out[..len]);
                network.send_derp(clock.now(), self.public, home, target.key, &out[..len / 2]);
            }
        }
    }

    /// A packet that must come to nothing.
    fn craft(&mut self, target: &Target, others: &[IpAddr]) -> Option<Vec<u8>> {
        let v4 = self.rng.random();
        let pick = |ips: &[IpAddr]| ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let (ours, theirs, victim) = (pick(&self.addresses)?, pick(&target.addresses)?, pick(others)?);
        let port = *PORTS.choose(&mut self.rng)?;
        let spoofed = Addresses::new(victim, theirs)?;
        let honest = Addresses::new(ours, theirs)?;
        let ports = (self.rng.random(), port);
        Some(match self.rng.random_range(0..9) {
            0 => segment(&spoofed, ports, tcp_flags::SYN, &[]),
            1 => segment(&honest, ports, tcp_flags::SYN, &[]),
            2 | 3 => {
                let (local, remote) = *target.connections.choose(&mut self.rng)?;
                let flags = [
                    tcp_flags::RST,
                    tcp_flags::FIN | tcp_flags::ACK,
                    tcp_flags::ACK,
                    tcp_flags::SYN,
                ];
                let addresses = Addresses::new(remote.ip(), local.ip())?;
                let ports = (remote.port(), local.port());
                segment(&addresses, ports, *flags.choose(&mut self.rng)?, b"injected")
            }
            4 => build::echo_request(&spoofed, 1, 1, b"ping"),
            5 => {
                let mut first = segment(&honest, ports, tcp_flags::SYN, &[]);
                if v4 {
                    first[6] = 0x20;
                }
                first
            }
            6 => build::ip(&honest, IpProto::UDP, &[0x75, 0x30, 1, 0xbb, 0, 12, 0, 0, 1, 2, 3, 4]),
            7 => build::ip(&spoofed, IpProto::TSMP, b"!\x06A\x01\xbb\x01\xbb"),
            _ => {
                let mut noise = vec![0; self.rng.random_range(1..1280)];
                self.rng.fill_bytes(&mut noise);
                noise[0] = noise[0] & 0x0f | if v4 { 0x40 } else { 0x60 };
                noise
            }
        })
    }

    /// Bytes that are nothing, to wherever the target can be reached.
    fn throw_garbage(&mut self, clock: &Clock, network: &mut Network, target: &Target) {
        let mut noise = vec![0; self.rng.random_range(1..200)];
        self.rng.fill_bytes(&mut noise);
        match self.rng.random_range(0..3) {
            0 => {}
            1 if noise.len() > 62 => {
                noise[..6].copy_from_slice(&MAGIC);
                noise[6..38].copy_from_slice(target.disco.as_bytes());
            }
            _ => noise[0] = self.rng.random_range(1..5),
        }
        for endpoint in &target.endpoints {
            network.send_udp(clock.now(), self.host, *endpoint, &noise);
        }
        for region in RELAYS {
            network.send_derp(clock.now(), self.public, region, target.key, &noise);
        }
    }

    /// A handshake under a key that nobody knows.
    pub fn knock(&mut self, clock: &Clock, network: &mut Network, target: &Target, home: u32) {
        let stranger = NodePrivate::from_random(self.rng.random());
        let limiter = HandshakeLimiter::new(&stranger, 1000);
        let mut tunnel = clock.at_zero(|start| Tunnel::new(&stranger, &target.key, 1, &limiter, start));
        let mut out = [0; 2048];
        if let Some(len) = tunnel.initiate(clock.instant(), &mut out) {
            network.send_derp(clock.now(), self.public, home, target.key, &out[..len]);
            for endpoint in &target.endpoints {
                network.send_udp(clock.now(), self.host, *endpoint, &out[..len]);
            }
        }
    }
}

/// A TCP segment with a right checksum: nothing but its sender is wrong.
fn segment(addresses: &Addresses, ports: (u16, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    body.resize(20, 0);
    (body[12], body[13], body[14]) = (0x50, flags, 0xff);
    body.extend_from_slice(data);
    let sum = checksum::pseudo_header(addresses, IpProto::TCP, body.len())
        .with(&body)
        .finish();
    body[16..18].copy_from_slice(&sum.to_be_bytes());
    build::ip(addresses, IpProto::TCP, &body)
}
