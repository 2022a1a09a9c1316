use proptest::prelude::*;

use super::{Message, Reason, Reject};
use crate::{key::DiscoPublic, packet::IpProto};

fn samples() -> [Message; 5] {
    let reject = Reject {
        proto: IpProto::TCP,
        reason: Reason::POLICY,
        src_port: 41_000,
        dst_port: 443,
        maybe_broken: false,
    };
    [
        Message::Reject(reject),
        Message::Reject(Reject {
            maybe_broken: true,
            ..reject
        }),
        Message::Ping(*b"01234567"),
        Message::Pong {
            data: *b"01234567",
            peer_api_port: 0x8123,
        },
        Message::DiscoKey(DiscoPublic::from_bytes([7; 32])),
    ]
}

#[test]
fn every_message_survives_the_wire() {
    for message in samples() {
        assert_eq!(Message::parse(&message.encode()), Some(message));
    }
}

#[test]
fn the_bytes_are_those_of_go() {
    let reject = samples()[0].encode();
    assert_eq!(reject, [b'!', 6, b'A', 0xa0, 0x28, 0x01, 0xbb]);
    assert_eq!(samples()[3].encode(), [b"o01234567".as_slice(), &[0x81, 0x23]].concat());
}

#[test]
fn an_old_pong_has_no_port() {
    let pong = Message::Pong {
        data: *b"01234567",
        peer_api_port: 0,
    };
    assert_eq!(Message::parse(b"o01234567"), Some(pong));
}

#[test]
fn every_truncation_is_refused_or_read() {
    for message in samples() {
        let bytes = message.encode();
        for len in 0..bytes.len() {
            let _ = Message::parse(&bytes[..len]);
        }
        assert_eq!(Message::parse(&bytes[..1]), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Some(message) = Message::parse(&bytes) {
            prop_assert_eq!(Message::parse(&message.encode()), Some(message));
        }
    }
}
