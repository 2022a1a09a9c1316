use proptest::prelude::*;

use super::*;
use crate::key::NodePrivate;

fn any_key() -> impl Strategy<Value = NodePublic> {
    any::<[u8; 32]>().prop_map(NodePublic::from_bytes)
}

fn any_bytes() -> impl Strategy<Value = BytesMut> {
    proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| BytesMut::from(&bytes[..]))
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let millis = || any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()));
    prop_oneof![
        any_key().prop_map(Frame::ServerKey),
        (any_key(), any_bytes()).prop_map(|(key, sealed)| Frame::ClientInfo { key, sealed }),
        any_bytes().prop_map(Frame::ServerInfo),
        (any_key(), any_bytes()).prop_map(|(dst, packet)| Frame::SendPacket { dst, packet }),
        (any_key(), any_bytes()).prop_map(|(src, packet)| Frame::RecvPacket { src, packet }),
        Just(Frame::KeepAlive),
        any::<bool>().prop_map(Frame::NotePreferred),
        (any_key(), any::<u8>()).prop_map(|(key, reason)| Frame::PeerGone {
            key,
            reason: GoneReason::from_byte(Some(reason))
        }),
        any::<[u8; 8]>().prop_map(Frame::Ping),
        any::<[u8; 8]>().prop_map(Frame::Pong),
        "[a-z ]{0,40}".prop_map(Frame::Health),
        (millis(), millis()).prop_map(|(reconnect_in, try_for)| Frame::Restarting { reconnect_in, try_for }),
        Just(Frame::Other(0x7f)),
    ]
}

fn decode_all(decoder: &mut Decoder) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn the_json_has_the_case_that_servers_expect() {
    let info = serde_json::to_string(&ClientInfo::default()).unwrap();
    assert_eq!(info, r#"{"version":2,"CanAckPings":true}"#);
    let server: ServerInfo = serde_json::from_str(r#"{"version":2,"TokenBucketBytesPerSecond":7,"New":[]}"#).unwrap();
    assert_eq!((server.version, server.token_bucket_bytes_per_second), (2, 7));
}

#[test]
fn infos_open_at_the_other_end_only() {
    let client = NodePrivate::from_random([1; 32]);
    let server = NodePrivate::from_random([2; 32]);
    let sealed = ClientInfo::default().seal(&client, &server.public(), &[3; 24]);
    assert_eq!(
        ClientInfo::open(&sealed, &server, &client.public()).unwrap(),
        ClientInfo::default()
    );
    assert!(ClientInfo::open(&sealed, &server, &server.public()).is_err());
    let sealed = ServerInfo::default().seal(&server, &client.public(), &[3; 24]);
    assert_eq!(
        ServerInfo::open(&sealed, &client, &server.public()).unwrap(),
        ServerInfo::default()
    );
}

#[test]
fn bounds_are_kept() {
    let mut huge = Decoder::new(&[frame_type::RECV_PACKET, 0, 0x10, 0, 1]);
    assert_eq!(
        huge.next_frame(),
        Err(FrameError::TooLong {
            kind: frame_type::RECV_PACKET,
            len: MAX_FRAME + 1
        })
    );
    let mut out = BytesMut::new();
    put_recv_packet(&mut out, &NodePublic::from_bytes([1; 32]), &vec![0; MAX_PACKET]);
    assert_eq!(decode_all(&mut Decoder::new(&out)).unwrap().len(), 1);
    out.clear();
    put_recv_packet(&mut out, &NodePublic::from_bytes([1; 32]), &vec![0; MAX_PACKET + 1]);
    assert_eq!(
        Decoder::new(&out).next_frame(),
        Err(FrameError::PacketTooLong(MAX_PACKET + 1))
    );
}

#[test]
fn a_longer_server_key_frame_and_a_gone_frame_without_reason_are_understood() {
    let mut body = MAGIC.to_vec();
    body.extend([5; 32]);
    body.extend([1; 10]);
    let mut out = BytesMut::new();
    put(&mut out, frame_type::SERVER_KEY, &[&body]);
    put(&mut out, frame_type::PEER_GONE, &[&[6; 32]]);
    let frames = decode_all(&mut Decoder::new(&out)).unwrap();
    assert_eq!(frames[0], Frame::ServerKey(NodePublic::from_bytes([5; 32])));
    assert_eq!(
        frames[1],
        Frame::PeerGone {
            key: NodePublic::from_bytes([6; 32]),
            reason: GoneReason::Disconnected
        }
    );
}

#[test]
fn what_go_seals_opens_here() {
    let client = NodePrivate::from_random([1; 32]);
    let server = NodePrivate::from_random([2; 32]);
    let info = ClientInfo::open(&crate::go_vector("client_info"), &server, &client.public()).unwrap();
    assert_eq!(info, ClientInfo::default());
    let info = ServerInfo::open(&crate::go_vector("server_info"), &client, &server.public()).unwrap();
    assert_eq!(
        (info.token_bucket_bytes_per_second, info.token_bucket_bytes_burst),
        (5, 6)
    );
}

proptest! {
    #[test]
    fn frames_survive_any_cut(frames in proptest::collection::vec(any_frame(), 0..8), chunk in 1usize..60) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode_into(&mut wire);
        }
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for part in wire.chunks(chunk) {
            decoder.buffer().extend_from_slice(part);
            seen.extend(decode_all(&mut decoder).unwrap());
        }
        prop_assert_eq!(seen, frames);
    }

    #[test]
    fn no_flip_or_truncation_panics(frames in proptest::collection::vec(any_frame(), 1..4), at: prop::sample::Index, bit in 0u8..8) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode_into(&mut wire);
        }
        let at = at.index(wire.len());
        let _ = decode_all(&mut Decoder::new(&wire[..at]));
        wire[at] ^= 1 << bit;
        let _ = decode_all(&mut Decoder::new(&wire));
    }

    #[test]
    fn no_body_panics(kind in 0u8..0x20, body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut wire = BytesMut::new();
        put(&mut wire, kind, &[&body]);
        let _ = decode_all(&mut Decoder::new(&wire));
    }
}
