use proptest::prelude::*;

use super::*;

fn boxes() -> (DiscoBox, DiscoBox) {
    let a = DiscoPrivate::from_random([1; 32]);
    let b = DiscoPrivate::from_random([2; 32]);
    (DiscoBox::new(&a, &b.public()), DiscoBox::new(&b, &a.public()))
}

fn any_endpoint() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn any_message() -> impl Strategy<Value = Message> {
    let tx_id = any::<[u8; 12]>().prop_map(TxId);
    prop_oneof![
        (tx_id.clone(), any::<[u8; 32]>(), 0usize..200).prop_map(|(tx_id, key, padding)| Message::Ping {
            tx_id,
            node_key: Some(NodePublic::from_bytes(key)),
            padding
        }),
        tx_id.clone().prop_map(|tx_id| Message::Ping {
            tx_id,
            node_key: None,
            padding: 0
        }),
        (tx_id, any_endpoint()).prop_map(|(tx_id, source)| Message::Pong { tx_id, source }),
        proptest::collection::vec(any_endpoint(), 0..20).prop_map(|endpoints| Message::CallMeMaybe { endpoints }),
    ]
}

#[test]
fn a_long_call_is_cut_to_the_bound() {
    let mut plain = vec![CALL_ME_MAYBE, VERSION];
    plain.resize(2 + ENDPOINT_LEN * 500, 7);
    let Ok(Message::CallMeMaybe { endpoints }) = Message::parse(&plain) else {
        panic!("not a CallMeMaybe");
    };
    assert_eq!(endpoints.len(), MAX_CALL_ENDPOINTS);
}

#[test]
fn relay_messages_are_named_as_unsupported() {
    assert_eq!(
        Message::parse(&[7, 0, 1, 2, 3]),
        Err(DiscoError::Unsupported { kind: 7, version: 0 })
    );
}

#[test]
fn a_datagram_of_another_sender_is_refused_before_crypto() {
    let (a, b) = boxes();
    let ping = Message::Ping {
        tx_id: TxId([5; 12]),
        node_key: None,
        padding: 0,
    };
    let datagram = a.seal(&ping, &[0; NONCE_LEN]);
    assert!(looks_like_disco(&datagram));
    assert_eq!(sender(&datagram), Some(DiscoPrivate::from_random([1; 32]).public()));
    assert_eq!(a.open(&datagram), Err(DiscoError::NotDisco));
    assert_eq!(b.open(&datagram), Ok(ping));
}

#[test]
fn what_go_seals_opens_here() {
    let (_, b) = boxes();
    let tx_id = TxId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let addr = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let expected = [
        (
            "ping",
            Message::Ping {
                tx_id,
                node_key: Some(NodePublic::from_bytes([7; 32])),
                padding: 3,
            },
        ),
        (
            "pong",
            Message::Pong {
                tx_id,
                source: addr("192.0.2.7:41641"),
            },
        ),
        (
            "pong_derp",
            Message::Pong {
                tx_id,
                source: addr("127.3.3.40:999"),
            },
        ),
        (
            "call",
            Message::CallMeMaybe {
                endpoints: vec![addr("192.0.2.7:41641"), addr("[2001:db8::1]:7")],
            },
        ),
    ];
    for (name, message) in expected {
        assert_eq!(b.open(&crate::go_vector(name)), Ok(message), "{name}");
    }
}

proptest! {
    #[test]
    fn sealing_and_opening_is_the_identity(message in any_message(), nonce: [u8; NONCE_LEN]) {
        let (a, b) = boxes();
        prop_assert_eq!(b.open(&a.seal(&message, &nonce)), Ok(message));
    }

    #[test]
    fn no_truncation_or_flip_opens_or_panics(message in any_message(), at: prop::sample::Index, bit in 0u8..8) {
        let (a, b) = boxes();
        let mut datagram = a.seal(&message, &[9; NONCE_LEN]);
        let at = at.index(datagram.len());
        prop_assert!(b.open(&datagram[..at]).is_err());
        datagram[at] ^= 1 << bit;
        prop_assert!(b.open(&datagram).is_err());
    }

    #[test]
    fn no_plain_bytes_panic(plain in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..4) {
        let _ = Message::parse(&plain);
        let mut typed = vec![kind, 0];
        typed.extend(plain);
        if let Ok(message) = Message::parse(&typed) {
            let mut again = Vec::new();
            message.encode_into(&mut again);
            prop_assert_eq!(Message::parse(&again), Ok(message));
        }
    }
}
