use proptest::prelude::*;
use rand::SeedableRng as _;

use super::*;
use crate::control::EarlyNoise;

fn key(byte: u8) -> MachinePrivate {
    MachinePrivate::from_random([byte; 32])
}

fn rng() -> impl rand_core::RngCore {
    rand::rngs::SmallRng::seed_from_u64(7)
}

fn connect() -> (Transport, Transport) {
    let (initiator, initiation) = Initiator::new(119, &key(1), &key(2).public(), &mut rng()).unwrap();
    let responder = Responder::accept(&key(2), &initiation, &mut rng()).unwrap();
    assert_eq!((responder.version, responder.machine), (119, key(1).public()));
    let mut buffer = BytesMut::from(&responder.response[..]);
    let response = Initiator::take_response(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    (initiator.finish(&response).unwrap(), responder.transport)
}

fn open_all(transport: &mut Transport, buffer: &mut BytesMut) -> Vec<u8> {
    std::iter::from_fn(|| transport.open(buffer).unwrap())
        .flatten()
        .collect()
}

#[test]
fn both_sides_agree_over_many_records_in_both_directions() {
    let (mut node, mut server) = connect();
    for i in 0..600u32 {
        let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
        node.seal(&i.to_be_bytes(), &mut there).unwrap();
        server.seal(&[i as u8; 9], &mut back).unwrap();
        assert_eq!(open_all(&mut server, &mut there), i.to_be_bytes());
        assert_eq!(open_all(&mut node, &mut back), [i as u8; 9]);
    }
}

/// Gives one byte for ever, as the random source of the recorded Go session did.
struct Fixed(u8);

impl rand_core::RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        u32::from_ne_bytes([self.0; 4])
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_ne_bytes([self.0; 8])
    }

    fn fill_bytes(&mut self, dst: &mut [u8]) {
        dst.fill(self.0);
    }
}

fn go_vector(name: &str) -> Vec<u8> {
    let lines = include_str!("../../testdata/go_noise.txt").lines();
    let mut named = lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| *key == name);
    hex::decode(named.next().unwrap().1).unwrap()
}

#[test]
fn a_session_has_the_bytes_of_go() {
    let (initiator, initiation) = Initiator::new(119, &key(0x48), &key(0x50).public(), &mut Fixed(0x40)).unwrap();
    assert_eq!(initiation[..], go_vector("initiation"));
    let responder = Responder::accept(&key(0x50), &initiation, &mut Fixed(0x41)).unwrap();
    assert_eq!(responder.response[..], go_vector("response"));
    let (mut node, mut control) = (initiator.finish(&responder.response).unwrap(), responder.transport);
    for i in 0..258 {
        let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
        let text = format!("record {i}");
        node.seal(text.as_bytes(), &mut there).unwrap();
        control.seal(text.as_bytes(), &mut back).unwrap();
        if [0, 1, 2, 255, 256, 257].contains(&i) {
            assert_eq!(there[..], go_vector(&format!("node_{i}")));
            assert_eq!(back[..], go_vector(&format!("control_{i}")));
        }
    }
}

#[test]
fn the_counter_is_big_endian_on_the_wire() {
    // Seen from the library: record 256 uses the nonce that a little-endian reader knows as number 1 << 48.
    let mut counter = 256;
    assert_eq!(
        next(&mut counter, &mut false).unwrap().to_le_bytes(),
        256u64.to_be_bytes()
    );
}

#[test]
fn a_counter_never_reaches_its_end() {
    let (mut node, _) = connect();
    node.sealed = u64::MAX - 1;
    assert_eq!(node.seal(b"x", &mut BytesMut::new()), Err(NoiseError::Ended));
}

#[test]
fn an_empty_record_is_legal_and_short_or_long_ones_are_not() {
    let (mut node, server) = connect();
    let mut record = BytesMut::zeroed(HEADER_LEN + TAG_LEN);
    write_header(&mut record, TYPE_RECORD, TAG_LEN);
    server.state.write_message(0, &[], &mut record[HEADER_LEN..]).unwrap();
    assert_eq!(node.open(&mut record).unwrap().unwrap().len(), 0);

    for len in [0u16, 15, 4094, u16::MAX] {
        let (mut node, _) = connect();
        let mut record = BytesMut::from(&[TYPE_RECORD, (len >> 8) as u8, len as u8][..]);
        assert!(matches!(node.open(&mut record), Err(NoiseError::Length { .. })));
        assert_eq!(node.open(&mut BytesMut::new()), Err(NoiseError::Ended));
    }
}

#[test]
fn another_server_key_or_version_fails_the_handshake() {
    let (_, initiation) = Initiator::new(119, &key(1), &key(3).public(), &mut rng()).unwrap();
    assert!(matches!(
        Responder::accept(&key(2), &initiation, &mut rng()),
        Err(NoiseError::Handshake)
    ));
    let (_, mut initiation) = Initiator::new(119, &key(1), &key(2).public(), &mut rng()).unwrap();
    initiation[1] = 118;
    assert!(matches!(
        Responder::accept(&key(2), &initiation, &mut rng()),
        Err(NoiseError::Handshake)
    ));
}

#[test]
fn an_error_frame_is_told_to_the_caller() {
    let mut buffer = BytesMut::from(&error_frame("no thanks")[..]);
    assert_eq!(
        Initiator::take_response(&mut buffer),
        Err(NoiseError::Refused("no thanks".into()))
    );
}

#[test]
fn the_early_payload_may_be_there_or_not_and_may_straddle_reads() {
    let payload = EarlyNoise {
        node_key_challenge: "chalpub:00".into(),
    };
    let mut whole = BytesMut::new();
    write_early(&payload, &mut whole);
    whole.extend_from_slice(b"h2");
    for cut in 0..whole.len() - 2 {
        assert_eq!(Early::take(&mut BytesMut::from(&whole[..cut])), Ok(Early::Incomplete));
    }
    assert_eq!(Early::take(&mut whole), Ok(Early::Payload(payload)));
    assert_eq!(&whole[..], b"h2");

    let mut http2 = BytesMut::from(&b"\0\0\x12\x04\0\0\0\0\0"[..]);
    assert_eq!(Early::take(&mut http2), Ok(Early::Absent));
    assert_eq!(http2.len(), 9);
    assert!(Early::take(&mut BytesMut::from(&b"\xff\xff\xffTS\xff\0\0\0"[..])).is_err());
    assert!(Early::take(&mut BytesMut::from(&b"\xff\xff\xffTS\0\0\0\x01{"[..])).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_plaintext_in_any_pieces_comes_out_the_same(
        plaintext in prop::collection::vec(any::<u8>(), 0..20_000),
        piece in 1usize..5000,
    ) {
        let (mut node, mut server) = connect();
        let mut sealed = BytesMut::new();
        node.seal(&plaintext, &mut sealed).unwrap();
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for part in sealed.chunks(piece) {
            buffer.extend_from_slice(part);
            got.extend(open_all(&mut server, &mut buffer));
        }
        prop_assert_eq!(got, plaintext);
    }

    #[test]
    fn a_changed_record_is_an_error_and_a_cut_one_waits(
        plaintext in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (mut node, mut server) = connect();
        let mut sealed = BytesMut::new();
        node.seal(&plaintext, &mut sealed).unwrap();
        let at = at.index(sealed.len());
        prop_assert_eq!(server.open(&mut BytesMut::from(&sealed[..at])), Ok(None));
        sealed[at] ^= 1 << bit;
        // A flipped length may make the record look unfinished; it must never come out as if nothing had happened.
        prop_assert!(!matches!(server.open(&mut sealed), Ok(Some(_))));
    }

    #[test]
    fn a_changed_handshake_is_an_error(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (initiator, initiation) = Initiator::new(119, &key(1), &key(2).public(), &mut rng()).unwrap();
        let responder = Responder::accept(&key(2), &initiation, &mut rng()).unwrap();
        let mut flipped = initiation;
        flipped[at.index(INITIATION_LEN)] ^= 1 << bit;
        // X25519 ignores the top bit of a public key: the transcript hash must notice all the same.
        prop_assert!(Responder::accept(&key(2), &flipped, &mut rng()).is_err());
        let mut flipped = responder.response;
        flipped[HEADER_LEN + at.index(RESPONSE_LEN - HEADER_LEN)] ^= 1 << bit;
        prop_assert!(initiator.finish(&flipped).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut node, _) = connect();
        let _ = node.open(&mut BytesMut::from(&bytes[..]));
        let _ = Responder::accept(&key(2), &bytes, &mut rng());
        let _ = Initiator::take_response(&mut BytesMut::from(&bytes[..]));
        let _ = Early::take(&mut BytesMut::from(&bytes[..]));
    }
}
