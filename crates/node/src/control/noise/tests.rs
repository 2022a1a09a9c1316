use bytes::BytesMut;
use rand::{SeedableRng as _, rngs::StdRng};
use tailnet_wire::{
    key::MachinePrivate,
    noise::{Initiator, Responder},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

fn pair(buffer: usize) -> (NoiseStream<DuplexStream>, NoiseStream<DuplexStream>) {
    let mut rng = StdRng::seed_from_u64(1);
    let [node, control] = [1, 2].map(|byte| MachinePrivate::from_random([byte; 32]));
    let (initiator, initiation) = Initiator::new(119, &node, &control.public(), &mut rng).unwrap();
    let responder = Responder::accept(&control, &initiation, &mut rng).unwrap();
    let transport = initiator.finish(&responder.response).unwrap();
    let (a, b) = tokio::io::duplex(buffer);
    let stream = |io, transport| NoiseStream::new(io, transport, BytesMut::new());
    (stream(a, transport), stream(b, responder.transport))
}

#[tokio::test]
async fn bytes_arrive_through_a_narrow_pipe() {
    let (mut node, mut control) = pair(7);
    let sent: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        node.write_all(&sent).await.unwrap();
        node.shutdown().await.unwrap();
        node
    });
    let mut got = Vec::new();
    control.read_to_end(&mut got).await.unwrap();
    assert!(got == expected);
    // The other direction still works.
    let mut node = writer.await.unwrap();
    let back = tokio::spawn(async move {
        control.write_all(b"back").await.unwrap();
        control.flush().await.unwrap();
        control
    });
    let mut got = [0; 4];
    node.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"back");
    back.await.unwrap();
}

#[tokio::test]
async fn what_is_no_record_ends_the_stream_with_an_error() {
    let (mut node, control) = pair(64);
    let mut raw = control.io;
    raw.write_all(b"\x09\0\x10garbage").await.unwrap();
    assert_eq!(node.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn an_end_inside_a_record_is_no_orderly_end() {
    let (mut node, control) = pair(64);
    let mut raw = control.io;
    raw.write_all(b"\x04\0\x20half").await.unwrap();
    drop(raw);
    assert_eq!(node.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
