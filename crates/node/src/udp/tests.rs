use std::time::Duration;

use super::*;

#[tokio::test]
async fn batches_leave_and_arrive_whole() {
    let ours = UdpSockets::bind(None, None).unwrap();
    let theirs = UdpSockets::bind(None, None).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let contents: Vec<u8> = (0..10u8).flat_map(|i| [i; 1000]).chain([99; 10]).collect();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, theirs.port()));
    assert!(matches!(ours.try_send(to, &contents, Some(1000)), Sent::Done));

    let collect = async {
        let mut seen = Vec::new();
        while seen.len() < contents.len() {
            let batch: Received = receiver.recv().await.unwrap();
            assert_eq!(batch.from.port(), ours.port());
            assert!(batch.stride <= 1000);
            seen.extend_from_slice(&batch.bytes);
        }
        seen
    };
    tokio::select! {
        error = theirs.receive(|batch| sender.send(batch).ok().unwrap()) => panic!("{error}"),
        seen = tokio::time::timeout(Duration::from_secs(5), collect) => assert_eq!(seen.unwrap(), contents),
    }
}

#[tokio::test]
async fn a_taken_port_is_named_and_a_taken_hint_is_no_error() {
    let first = UdpSockets::bind(None, None).unwrap();
    let error = UdpSockets::bind(Some(first.port()), None).err().unwrap();
    assert!(error.to_string().contains(&first.port().to_string()), "{error}");
    let second = UdpSockets::bind(None, Some(first.port())).unwrap();
    assert_ne!(second.port(), first.port());
}

#[tokio::test]
async fn a_buffer_goes_back_to_its_pool() {
    let pool = Arc::new(Buffers::default());
    let bytes = PooledBytes {
        bytes: pool.take(),
        len: 3,
        pool: Arc::clone(&pool),
    };
    assert_eq!(bytes.len(), 3);
    drop(bytes);
    assert_eq!(pool.spare.lock().len(), 1);
}
