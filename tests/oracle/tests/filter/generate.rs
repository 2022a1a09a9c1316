//! Random policies and packets that aim at edges: prefix and range boundaries, port edges, fragments, ICMP kinds, odd
//! protocols, entries no reader should take, and flows that a small memory must forget.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tailnet_wire::{
    control::{CapGrant, CapMap, FilterRule, NetPortRange, PortRange},
    packet::{Addresses, IpProto, build},
};

/// One policy with everything that is asked about it, in the JSON that the Go program reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Policy {
    pub(crate) local: Vec<IpAddr>,
    pub(crate) rules: Vec<FilterRule>,
    node_caps: BTreeMap<IpAddr, Vec<&'static str>>,
    pub(crate) packets: Vec<Datagram>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) caps: Vec<(IpAddr, IpAddr)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Datagram {
    pub(crate) out: bool,
    #[serde(serialize_with = "as_base64")]
    pub(crate) bytes: Vec<u8>,
    /// Whether this is one of the packets that we read more strictly than Go.
    #[serde(skip)]
    pub(crate) stricter: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Flow {
    pub(crate) proto: u8,
    pub(crate) src: IpAddr,
    pub(crate) dst: SocketAddr,
}

fn as_base64<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&STANDARD.encode(bytes))
}

const NODE_CAPS: [&str; 4] = [
    "funnel",
    "https://tailscale.com/cap/is-admin",
    "example.com/lab",
    "a-b/c",
];
const CAPS: [&str; 4] = ["tailscale.com/cap/tsidp", "example.com/cap/a", "example.com/cap/b", ""];
const VALUES: [&str; 5] = [r#"{"users":["*"],"n":1}"#, r#""text <&> \u00e9""#, "[]", "1e3", "null"];
const PORTS: [u16; 10] = [0, 1, 22, 79, 80, 81, 443, 8080, 65534, 65535];
const PROTOS: [u8; 14] = [6, 6, 6, 6, 17, 17, 1, 1, 58, 58, 132, 99, 47, 2];
const RULE_PROTOS: [i64; 16] = [6, 6, 17, 1, 58, 132, 99, 47, 2, 44, 255, 0, 256, -1, 262, 65542];

impl Policy {
    /// The policy of a seed; the same seed gives the same policy.
    pub(crate) fn generate(seed: u64) -> Self {
        Generator(SmallRng::seed_from_u64(seed)).policy()
    }

    /// Whether the node with address `src` has a node capability.
    pub(crate) fn has_cap(&self, src: IpAddr, name: &str) -> bool {
        self.node_caps.get(&src).is_some_and(|caps| caps.contains(&name))
    }
}

struct Generator(SmallRng);

impl Generator {
    fn policy(&mut self) -> Policy {
        let mut local = vec![OURS.into(), OURS6.into()];
        if self.one_in(4) {
            local.push(self.pick(&[
                "169.254.169.254",
                "169.254.0.9",
                "fe80::1",
                "224.0.0.1",
                "ff02::1",
                "::ffff:100.64.0.1",
                "::ffff:169.254.169.254",
                "100.64.0.9",
            ]));
        }
        let mut rules: Vec<FilterRule> = (0..self.0.random_range(1..14)).map(|_| self.rule()).collect();
        if self.one_in(200) {
            self.make_legacy(&mut rules);
        }
        let node_caps = (0..self.0.random_range(0..5)).map(|_| {
            let name = self.one_of(&NODE_CAPS);
            (self.peer(None), vec![name])
        });
        let node_caps = node_caps.collect();
        let packets = self.packets(&local);
        let flows = (0..8).map(|_| self.flow(&local)).collect();
        let caps = (0..8).map(|_| (self.peer(None), self.target(&local, None))).collect();
        Policy {
            local,
            rules,
            node_caps,
            packets,
            flows,
            caps,
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.0.random_ratio(1, n)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(&mut self.0).expect("there is a choice")
    }

    fn pick(&mut self, texts: &[&str]) -> IpAddr {
        texts
            .choose(&mut self.0)
            .expect("not empty")
            .parse()
            .expect("an address")
    }
}

const OURS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const OURS6: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);

/// Addresses, and the entries of rules that name them.
impl Generator {
    /// An address near one of a few anchors, so that peers, prefixes and ranges meet at their edges.
    fn peer(&mut self, v4: Option<bool>) -> IpAddr {
        let v4 = v4.unwrap_or_else(|| self.0.random());
        let step = i64::from(self.0.random_range(-2..=3));
        if v4 {
            let anchors = [
                OURS,
                Ipv4Addr::new(100, 64, 0, 128),
                Ipv4Addr::new(100, 127, 255, 254),
                Ipv4Addr::new(10, 0, 0, 0),
            ];
            let anchor = self.one_of(&anchors).to_bits();
            Ipv4Addr::from_bits(anchor.wrapping_add(step as u32)).into()
        } else {
            let mapped = OURS.to_ipv6_mapped();
            let far: Ipv6Addr = "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:fffe".parse().expect("an address");
            let high: Ipv6Addr = "fd7a:115c:a1e0::8000:0:0:0".parse().expect("an address");
            let anchor = self.one_of(&[OURS6, OURS6, far, high, mapped]).to_bits();
            Ipv6Addr::from_bits(anchor.wrapping_add(i128::from(step) as u128)).into()
        }
    }

    /// Mostly one of our own addresses.
    fn target(&mut self, local: &[IpAddr], v4: Option<bool>) -> IpAddr {
        if self.one_in(8) {
            return self.peer(v4);
        }
        let fitting: Vec<IpAddr> = local
            .iter()
            .copied()
            .filter(|ip| v4.is_none_or(|v4| ip.is_ipv4() == v4))
            .collect();
        *fitting.choose(&mut self.0).expect("both versions are local")
    }

    fn net(&mut self) -> IpNet {
        let ip = self.peer(None);
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match self.0.random_range(0..6) {
            0 => 0,
            1 => whole,
            2 => self.one_of(&[8, 10, 24, 25, 31]),
            3 => whole - self.0.random_range(0..4),
            4 => whole / 2,
            _ => self.0.random_range(0..=whole),
        };
        IpNet::new(ip, bits).expect("the length fits")
    }

    fn entry(&mut self) -> String {
        match self.0.random_range(0..20) {
            0..7 => self.peer(None).to_string(),
            7..11 => self.net().trunc().to_string(),
            11..15 => {
                let (a, b) = (self.peer(None), self.peer(None));
                // Ordered and of one version most of the time, so that most ranges are valid.
                let b = if a.is_ipv4() == b.is_ipv4() || self.one_in(8) {
                    b
                } else {
                    a
                };
                let (a, b) = if a <= b || self.one_in(8) { (a, b) } else { (b, a) };
                format!("{a}-{b}")
            }
            15 | 16 => "*".into(),
            17 | 18 => format!("cap:{}", self.one_of(&NODE_CAPS)),
            _ => self.odd_entry(),
        }
    }

    /// What a reader must refuse, or take as Go does.
    fn odd_entry(&mut self) -> String {
        let odd = [
            "",
            "x",
            "cap:",
            "/",
            "-",
            "0.0.0.0/0",
            "::/0",
            "100.64.0.1/10",
            "100.64.0.0/010",
            "100.64.0.0/+10",
            "100.64.0.0/33",
            "100.64.0.0/",
            "100.64.0/24",
            "100.64.00.1",
            "100.64.0.1.",
            ".100.64.0.1",
            "256.0.0.1",
            "100.64.0.1 ",
            "**",
            "*/0",
            "100.64.0.1-",
            "-100.64.0.1",
            "100.64.0.1-100.64.0.3-100.64.0.4",
            "100.64.0.1-fd7a:115c:a1e0::1",
            "fd7a:115c:a1e0::1%eth0",
            "fd7a:115c:a1e0::1%",
            "fd7a:115c:a1e0::%e/64",
            "fd7a:115c:a1e0::1%a-fd7a:115c:a1e0::3%b",
            "fd7a:115c:a1e0::2%a-b-c",
            "100.64.0.1%eth0",
            "::ffff:100.64.0.0/106",
            "::ffff:100.64.0.1",
            "::100.64.0.1",
            "::ffff:100.64.00.1",
            "fd7a:115c:a1e0::/48",
            "FD7A:115C:A1E0::/48",
            "fd7a:115c:a1e0:0:0:0:0::",
            "fd7a:115c:a1e0:0:0:0:0:1::",
            "::1::",
            "1:2:3:4:5:6:7",
            "fd7a:115c:a1e0::00001",
            "0x64.64.0.1",
            "1684275201",
            "100.64.0.0/1_0",
            "cap:funnel/8",
            "CAP:funnel",
            "0.0.0.0-255.255.255.255",
            "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "100.64.0.0/10/10",
        ];
        self.one_of(&odd).into()
    }
}

/// Rules.
impl Generator {
    fn rule(&mut self) -> FilterRule {
        let most = if self.one_in(10) { 40 } else { 4 };
        let src_ips = (0..self.0.random_range(0..=most)).map(|_| self.entry()).collect();
        let dst_ports = (0..self.0.random_range(0..4)).map(|_| self.dst()).collect();
        let ip_proto = if self.0.random() {
            Vec::new()
        } else {
            (0..self.0.random_range(1..4))
                .map(|_| self.one_of(&RULE_PROTOS))
                .collect()
        };
        let grants = if self.one_in(3) { self.0.random_range(1..3) } else { 0 };
        FilterRule {
            src_ips,
            dst_ports,
            ip_proto,
            cap_grant: (0..grants).map(|_| self.grant()).collect(),
            ..FilterRule::default()
        }
    }

    fn dst(&mut self) -> NetPortRange {
        let (a, b) = (self.port(), self.port());
        let (first, last) = match self.0.random_range(0..6) {
            0..3 => (0, 65535),
            3 => (a, a),
            _ if self.one_in(10) => (a, b),
            _ => (a.min(b), a.max(b)),
        };
        NetPortRange {
            ip: if self.0.random() {
                self.entry()
            } else {
                self.pick(&["100.64.0.1", "fd7a:115c:a1e0::1"]).to_string()
            },
            bits: None,
            ports: PortRange { first, last },
        }
    }

    fn grant(&mut self) -> CapGrant {
        let name = |rng: &mut SmallRng| (*CAPS.choose(rng).expect("not empty")).to_owned();
        let caps = (0..self.0.random_range(0..3)).map(|_| name(&mut self.0)).collect();
        let cap_map: CapMap = (0..self.0.random_range(0..3))
            .map(|_| (name(&mut self.0), self.values()))
            .collect();
        CapGrant {
            dsts: (0..self.0.random_range(1..4)).map(|_| self.net()).collect(),
            caps,
            cap_map,
        }
    }

    fn values(&mut self) -> Option<Vec<Box<RawValue>>> {
        let value = |rng: &mut SmallRng| (*VALUES.choose(rng).expect("not empty")).to_owned();
        let list = (0..self.0.random_range(0..4)).map(|_| value(&mut self.0));
        let list = list.map(|text| RawValue::from_string(text).expect("JSON")).collect();
        if self.one_in(4) { None } else { Some(list) }
    }

    fn make_legacy(&mut self, rules: &mut [FilterRule]) {
        let at = self.0.random_range(0..rules.len());
        let rule = &mut rules[at];
        match rule.dst_ports.first_mut() {
            Some(dst) if self.0.random() => dst.bits = Some(32),
            _ => rule.src_bits = vec![32],
        }
    }

    fn port(&mut self) -> u16 {
        self.one_of(&PORTS)
    }
}

/// Packets and flows.
impl Generator {
    fn packets(&mut self, local: &[IpAddr]) -> Vec<Datagram> {
        let mut packets: Vec<Datagram> = (0..self.0.random_range(6..14)).map(|_| self.inbound(local)).collect();
        if self.one_in(2) {
            self.conversations(local, &mut packets);
        }
        packets
    }

    /// Datagrams of our own and their answers; now and then more flows than are remembered.
    fn conversations(&mut self, local: &[IpAddr], packets: &mut Vec<Datagram>) {
        let flows = if self.one_in(150) {
            self.0.random_range(500..560)
        } else {
            self.0.random_range(1..4)
        };
        let mut answers = Vec::new();
        for n in 0..flows {
            let proto = IpProto(if self.one_in(5) { 132 } else { 17 });
            let src = self.target(local, None);
            let dst = if self.one_in(20) {
                self.pick(&["224.0.0.1", "ff02::1", "169.254.1.1"])
            } else {
                self.peer(Some(src.is_ipv4()))
            };
            let Some(addresses) = Addresses::new(src, dst) else {
                continue;
            };
            let Some(back) = Addresses::new(dst, src) else {
                continue;
            };
            let ports = (5000 + n as u16, self.port());
            packets.push(clean(true, build::ip(&addresses, proto, &ports_body(ports, 0))));
            answers.push(clean(
                false,
                build::ip(&back, proto, &ports_body((ports.1, ports.0), 0)),
            ));
            if self.one_in(10)
                && let Some(early) = answers.choose(&mut self.0)
            {
                packets.push(clean(false, early.bytes.clone()));
            }
        }
        packets.append(&mut answers);
    }

    fn inbound(&mut self, local: &[IpAddr]) -> Datagram {
        let v4: bool = self.0.random();
        let (src, dst) = (self.peer(Some(v4)), self.target(local, Some(v4)));
        let Some(addresses) = Addresses::new(src, dst) else {
            unreachable!("both were asked for in one version");
        };
        let proto = if self.one_in(16) {
            self.0.random()
        } else {
            self.one_of(&PROTOS)
        };
        let mut body = self.body(IpProto(proto), v4);
        if self.one_in(12) {
            body.truncate(self.0.random_range(0..=body.len().min(21)));
        }
        let mut datagram = clean(false, build::ip(&addresses, IpProto(proto), &body));
        match self.0.random_range(0..24) {
            0 if v4 => self.fragment(&mut datagram),
            1 if v4 => self.fragment(&mut datagram),
            2 => self.damage(&mut datagram, v4),
            _ => {}
        }
        datagram
    }

    fn body(&mut self, proto: IpProto, v4: bool) -> Vec<u8> {
        match proto {
            IpProto::TCP => {
                let flags = if self.one_in(3) { self.0.random() } else { 0x02 };
                ports_body((40000, self.port()), flags)
            }
            IpProto::ICMPV4 | IpProto::ICMPV6 => {
                let kinds: &[u8] = if v4 {
                    &[0, 3, 5, 8, 11, 12, 13, 18]
                } else {
                    &[0, 1, 2, 3, 4, 5, 128, 129, 135]
                };
                let code = u8::from(self.one_in(5));
                vec![self.one_of(kinds), code, 0, 0, 0, 1, 0, 1]
            }
            _ => ports_body((self.port(), self.port()), self.0.random()),
        }
    }

    fn fragment(&mut self, datagram: &mut Datagram) {
        let offset = self.one_of(&[0, 0, 1, 2, 9, 10, 11, 0x1fff]);
        let more = if self.0.random() { 0x2000 } else { 0 };
        datagram.bytes[6..8].copy_from_slice(&(offset | more as u16).to_be_bytes());
    }

    fn damage(&mut self, datagram: &mut Datagram, v4: bool) {
        let bytes = &mut datagram.bytes;
        match self.0.random_range(0..6) {
            0 => bytes.truncate(self.0.random_range(1..bytes.len())),
            1 => {
                bytes.resize(bytes.len() + self.0.random_range(1..20), 0);
                datagram.stricter = true;
            }
            2 if v4 => {
                bytes[0] = 0x40 | self.0.random_range(0..16);
                datagram.stricter = bytes[0] & 15 < 5;
            }
            3 if v4 => {
                bytes[3] = self.0.random();
                datagram.stricter = usize::from(bytes[3]) < bytes.len();
            }
            4 => bytes[0] = self.0.random_range(0..16) << 4 | 5,
            _ if bytes.len() > 41 => {
                let at = self.0.random_range(if v4 { 20 } else { 40 }..bytes.len());
                bytes[at] = self.0.random();
            }
            _ => {}
        }
    }

    fn flow(&mut self, local: &[IpAddr]) -> Flow {
        Flow {
            proto: self.one_of(&PROTOS),
            src: self.peer(None),
            dst: SocketAddr::new(self.target(local, None), self.port()),
        }
    }
}

fn clean(out: bool, bytes: Vec<u8>) -> Datagram {
    Datagram {
        out,
        bytes,
        stricter: false,
    }
}

/// Twenty bytes that begin with two ports and have TCP's flags in their place.
fn ports_body(ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    body.resize(20, 0);
    (body[12], body[13]) = (0x50, flags);
    body
}
