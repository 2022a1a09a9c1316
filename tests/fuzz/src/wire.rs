//! The formats of `tailnet-wire`.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf as _, BytesMut};
use rand::{SeedableRng as _, rngs::SmallRng};
use tailnet_wire::{
    control::EarlyNoise,
    derp::{self, Decoder, Frame},
    disco::{self, DiscoBox, Message, TxId},
    key::{DiscoPrivate, MachinePrivate, NodePrivate},
    mapframe::{Compression, MapFrames, write_frame},
    noise::{self, Early, Initiator, Responder},
    packet::{Addresses, IpProto, Packet, build},
    stun, tsmp,
};

use crate::Target;

fn node(byte: u8) -> NodePrivate {
    NodePrivate::from_random([byte; 32])
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 41641))
}

pub(crate) const PACKET: Target = Target {
    name: "packet",
    seeds: || {
        let v4 = (IpAddr::from([100, 64, 0, 1]), IpAddr::from([100, 64, 0, 2]));
        let v6 = (
            [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1],
            [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2],
        );
        let v6 = (IpAddr::from(v6.0), IpAddr::from(v6.1));
        let pairs = [v4, v6].into_iter().filter_map(|(src, dst)| Addresses::new(src, dst));
        pairs
            .flat_map(|addresses| {
                [
                    build::tcp_reset(&addresses, (1, 443), 7, Some(9)),
                    build::echo_request(&addresses, 1, 2, b"ping"),
                    build::tsmp(&addresses, b"p12345678"),
                    build::ip(&addresses, IpProto::UDP, &[0, 53, 0, 53, 0, 8, 0, 0]),
                ]
            })
            .collect()
    },
    run: |input| {
        if let Ok(packet) = Packet::parse(input) {
            let _ = (
                packet.is_tcp_syn(),
                packet.is_icmp_error(),
                packet.transport(input).len(),
            );
            let _ = (build::echo_reply(&packet, input), build::tcp_reset_for(&packet, input));
        }
    },
};

pub(crate) const DISCO: Target = Target {
    name: "disco",
    seeds: || {
        let (ours, theirs) = (DiscoPrivate::from_random([1; 32]), DiscoPrivate::from_random([2; 32]));
        let sealer = DiscoBox::new(&theirs, &ours.public());
        let tx_id = TxId([7; 12]);
        let messages = [
            Message::Ping {
                tx_id,
                node_key: Some(node(3).public()),
                padding: 20,
            },
            Message::Pong {
                tx_id,
                source: address(1),
            },
            Message::CallMeMaybe {
                endpoints: vec![address(1), address(2)],
            },
        ];
        let sealed = messages.iter().map(|message| sealer.seal(message, &[9; 24]));
        let plain = messages.iter().map(|message| {
            let mut out = Vec::new();
            message.encode_into(&mut out);
            out
        });
        sealed.chain(plain).collect()
    },
    run: |input| {
        let _ = (
            disco::looks_like_disco(input),
            disco::sender(input),
            Message::parse(input),
        );
        if disco::looks_like_disco(input) {
            let theirs = DiscoPrivate::from_random([2; 32]).public();
            let _ = DiscoBox::new(&DiscoPrivate::from_random([1; 32]), &theirs).open(input);
        }
    },
};

pub(crate) const STUN: Target = Target {
    name: "stun",
    seeds: || {
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9));
        let id = stun::TxId([5; 12]);
        vec![
            stun::request(id).to_vec(),
            stun::response(id, address(1)),
            stun::response(id, v6),
        ]
    },
    run: |input| {
        let _ = (
            stun::looks_like_stun(input),
            stun::parse_request(input),
            stun::parse_response(input).is_ok(),
        );
    },
};

pub(crate) const DERP: Target = Target {
    name: "derp",
    seeds: || {
        let mut stream = BytesMut::new();
        Frame::ServerKey(node(1).public()).encode_into(&mut stream);
        derp::put_send_packet(&mut stream, &node(2).public(), b"to somebody");
        derp::put_recv_packet(&mut stream, &node(3).public(), b"from somebody");
        let mut other = BytesMut::new();
        for kind in 0..=0x18u8 {
            // Every frame type with a body that is long enough for any.
            other.extend_from_slice(&[kind, 0, 0, 0, 40]);
            other.extend_from_slice(&[kind; 40]);
        }
        vec![stream.to_vec(), other.to_vec()]
    },
    run: |input| {
        // In two reads, as a stream comes.
        let (first, second) = input.split_at(input.len() / 2);
        let mut decoder = Decoder::new(first);
        for part in [&[][..], second] {
            decoder.buffer().extend_from_slice(part);
            while let Ok(Some(frame)) = decoder.next_frame() {
                let mut out = BytesMut::new();
                frame.encode_into(&mut out);
            }
        }
    },
};

pub(crate) const DERP_INFO: Target = Target {
    name: "derp_info",
    seeds: || {
        let sealed = derp::ClientInfo {
            version: derp::PROTOCOL_VERSION,
            can_ack_pings: true,
            is_prober: false,
        };
        vec![sealed.seal(&node(1), &node(2).public(), &[3; 24]).to_vec()]
    },
    run: |input| {
        let _ = derp::ClientInfo::open(input, &node(2), &node(1).public());
        let _ = derp::ServerInfo::open(input, &node(1), &node(2).public());
    },
};

const CONTROL: [u8; 32] = [4; 32];
const VERSION: u16 = 119;

fn handshake() -> Option<(Initiator, Vec<u8>)> {
    let server = MachinePrivate::from_random(CONTROL).public();
    let client = MachinePrivate::from_random([5; 32]);
    let (initiator, message) = Initiator::new(VERSION, &client, &server, &mut SmallRng::seed_from_u64(1)).ok()?;
    Some((initiator, message.to_vec()))
}

pub(crate) const NOISE_SERVER: Target = Target {
    name: "noise_server",
    seeds: || handshake().into_iter().map(|(_, message)| message).collect(),
    run: |input| {
        let private = MachinePrivate::from_random(CONTROL);
        let _ = Responder::accept(&private, input, &mut SmallRng::seed_from_u64(2));
    },
};

pub(crate) const NOISE_CLIENT: Target = Target {
    name: "noise_client",
    seeds: || {
        let private = MachinePrivate::from_random(CONTROL);
        let accepted = handshake()
            .and_then(|(_, message)| Responder::accept(&private, &message, &mut SmallRng::seed_from_u64(2)).ok());
        let Some(mut responder) = accepted else {
            return Vec::new();
        };
        let mut stream = BytesMut::from(&responder.response[..]);
        let sealed = responder.transport.seal(b"first record", &mut stream);
        let mut seeds = vec![noise::error_frame("go away")];
        seeds.extend(sealed.is_ok().then(|| stream.to_vec()));
        seeds
    },
    run: |input| {
        let mut buffer = BytesMut::from(input);
        let Ok(Some(response)) = Initiator::take_response(&mut buffer) else {
            return;
        };
        let Some(Ok(mut transport)) = handshake().map(|(initiator, _)| initiator.finish(&response)) else {
            return;
        };
        while let Ok(Some(_)) = transport.open(&mut buffer) {}
    },
};

pub(crate) const EARLY: Target = Target {
    name: "early",
    seeds: || {
        let mut out = BytesMut::new();
        noise::write_early(&EarlyNoise::default(), &mut out);
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n");
        vec![out.to_vec()]
    },
    run: |input| {
        let mut buffer = BytesMut::from(input);
        let _ = Early::take(&mut buffer);
        let left = buffer.remaining();
        buffer.advance(left);
    },
};

pub(crate) const MAP_FRAMES: Target = Target {
    name: "map_frames",
    seeds: || {
        // An empty zstd frame with a raw block, and plain JSON.
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x02, 0x11, 0x00, 0x00, b'{', b'}'];
        let mut two = write_frame(b"{\"KeepAlive\":true}");
        two.extend(write_frame(b"{}"));
        vec![write_frame(&zstd), two]
    },
    run: |input| {
        for compression in [Compression::None, Compression::Zstd] {
            let mut frames = MapFrames::new(compression);
            frames.push(input);
            while let Ok(Some(_)) = frames.next() {}
        }
    },
};

pub(crate) const TSMP: Target = Target {
    name: "tsmp",
    seeds: || {
        vec![
            b"p12345678".to_vec(),
            b"o12345678\x01\xbb".to_vec(),
            b"!\x06A\x01\xbb\x01\xbb\x01".to_vec(),
        ]
    },
    run: |input| {
        if let Some(message) = tsmp::Message::parse(input) {
            let again = tsmp::Message::parse(&message.encode());
            assert!(again.is_some(), "what was read can be written and read");
        }
    },
};
