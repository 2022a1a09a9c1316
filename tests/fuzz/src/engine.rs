//! The state machines of `tailnet-engine` that take foreign bytes.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use tailnet_engine::{
    filter::{Filter, UdpFlows},
    netmap::NetmapState,
    tunnel::{self, HandshakeLimiter, Tunnel},
};
use tailnet_wire::{
    control::{FilterRule, MapResponse},
    key::NodePrivate,
    packet::{IpProto, Packet},
};
use time::macros::datetime;

use crate::Target;

const FIRST: &str = r#"{"Node":{"ID":1,"StableID":"n1","Name":"a.ts.net.","Key":"nodekey:0101010101010101010101010101010101010101010101010101010101010101","Addresses":["100.64.0.1/32"],"KeyExpiry":"0001-01-01T00:00:00Z"},"Peers":[{"ID":2,"Name":"b.ts.net.","Key":"nodekey:0202020202020202020202020202020202020202020202020202020202020202","Addresses":["100.64.0.2/32","fd7a:115c:a1e0::2/128"],"Endpoints":["192.0.2.1:41641"],"HomeDERP":1,"CapMap":{"funnel":null,"x":[1]}}],"PacketFilters":{"base":[{"SrcIPs":["100.64.0.2"],"DstPorts":[{"IP":"100.64.0.1","Ports":{"First":443,"Last":443}}],"CapGrant":[{"Dsts":["100.64.0.1/32"],"CapMap":{"example.com/a":[{"k":1}]}}]}]},"DERPMap":{"Regions":{"1":{"RegionID":1,"Nodes":[{"Name":"1a","HostName":"derp.test"}]},"2":null}},"DNSConfig":{"Resolvers":null},"UserProfiles":[{"ID":1,"LoginName":"alice"}],"ControlTime":"2026-11-24T09:00:00Z"}"#;
const DELTA: &str = r#"{"PeersChangedPatch":[{"NodeID":2,"Endpoints":["192.0.2.2:1"],"KeyExpiry":"2026-11-24T09:00:00Z","Online":true}],"PeersRemoved":[3],"PeerSeenChange":{"2":true},"OnlineChange":{"2":false},"PacketFilters":{"*":null,"base":[]},"Health":["x"],"PingRequest":{"URL":"https://c/x","Types":"c2n"}}"#;

pub(crate) const MAP_MESSAGES: Target = Target {
    name: "map_messages",
    seeds: || vec![FIRST.into(), DELTA.into()],
    run: |input| {
        let wall = datetime!(2026-11-24 09:00 UTC);
        let mut state = NetmapState::new();
        if let Ok(first) = serde_json::from_str::<MapResponse>(FIRST) {
            let _ = state.handle_response(first, wall);
        }
        if let Ok(message) = serde_json::from_slice::<MapResponse>(input) {
            let _ = state.handle_response(message.clone(), wall);
            let _ = (state.next_expiry(), state.handle_timeout(wall));
            state.begin_stream();
            let _ = state.handle_response(message, wall);
        }
    },
};

pub(crate) const FILTER_RULES: Target = Target {
    name: "filter_rules",
    seeds: || {
        let rules = r#"[{"SrcIPs":["*","cap:x","100.64.0.0/10","100.64.0.1-100.64.0.9","fe80::1%a"],"IPProto":[6,99],"DstPorts":[{"IP":"100.64.0.1","Bits":null,"Ports":{"First":0,"Last":65535}}],"CapGrant":[{"Dsts":["fd7a::/16"],"Caps":["a"],"CapMap":{"b":[1,"x"]}}]}]"#;
        vec![rules.into()]
    },
    run: |input| {
        let Ok(rules) = serde_json::from_slice::<Vec<FilterRule>>(input) else {
            return;
        };
        let ours = IpAddr::from([100, 64, 0, 1]);
        let filter = Filter::new(&rules, &[ours]);
        let (src, dst) = (IpAddr::from([100, 64, 0, 2]), SocketAddr::new(ours, 443));
        for proto in [IpProto::TCP, IpProto::ICMPV4, IpProto(47)] {
            let _ = filter.permits(proto, src, dst, &|_| true);
        }
        let _ = filter.caps(src, ours);
        if let Ok(packet) = Packet::parse(input) {
            let _ = filter.check_in(&packet, &|_| false, &mut UdpFlows::new());
        }
    },
};

fn keys() -> (NodePrivate, NodePrivate) {
    (NodePrivate::from_random([1; 32]), NodePrivate::from_random([2; 32]))
}

pub(crate) const WIREGUARD: Target = Target {
    name: "wireguard",
    seeds: || {
        let (ours, theirs) = keys();
        let now = Instant::now();
        let mut out = [0; 2048];
        let limiter = HandshakeLimiter::new(&theirs, 100);
        let mut peer = Tunnel::new(&theirs, &ours.public(), 2, &limiter, now);
        let initiation = peer.initiate(now, &mut out).map(|len| out[..len].to_vec());
        let mut data = vec![4, 0, 0, 0, 1, 0, 0, 0];
        data.resize(200, 7);
        let mut cookie = vec![3, 0, 0, 0];
        cookie.resize(64, 7);
        let mut response = vec![2, 0, 0, 0];
        response.resize(92, 7);
        initiation.into_iter().chain([data, cookie, response]).collect()
    },
    run: |input| {
        let (ours, theirs) = keys();
        let now = Instant::now();
        let from = IpAddr::from([192, 0, 2, 1]);
        let limiter = HandshakeLimiter::new(&ours, 100);
        let mut reply = [0; tunnel::COOKIE_REPLY_LEN];
        if tunnel::peek(input).is_none() {
            return;
        }
        let _ = limiter.verify(from, input, &mut reply);
        let _ = limiter.initiator_of(input);
        let mut tunnel = Tunnel::new(&ours, &theirs.public(), 1, &limiter, now);
        for room in [0, 147, 148, 2048] {
            let _ = tunnel.decapsulate(now, from, input, &mut vec![0; room]);
        }
    },
};
