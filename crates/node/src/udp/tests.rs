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

/// Counts what arrives of each kind while `share` of the initiations is let through.
#[cfg(target_os = "linux")]
async fn through(share: u32, host: IpAddr) -> [usize; 2] {
    const EACH: usize = 1000;
    let sockets = UdpSockets::bind(None, None).unwrap();
    sockets.shed_initiations(share);
    let mut initiation = [7; 148];
    initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
    let mut data = initiation;
    data[0] = 4;
    let (seen, mut all) = tokio::sync::mpsc::unbounded_channel();
    let sending = tokio::task::spawn_blocking({
        let to = SocketAddr::new(host, sockets.port());
        move || {
            let sender = std::net::UdpSocket::bind((host, 0)).unwrap();
            for round in 0..EACH {
                sender.send_to(&initiation, to).unwrap();
                sender.send_to(&data, to).unwrap();
                if round % 50 == 0 {
                    // No flood: the queue is not what is tested.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    });
    let counted = async {
        let (mut initiations, mut others) = (0, 0);
        while others < EACH {
            match all.recv().await {
                Some(1u8) => initiations += 1,
                Some(_) => others += 1,
                None => break,
            }
        }
        [initiations, others]
    };
    let counted = tokio::time::timeout(Duration::from_secs(10), counted);
    let counts = tokio::select! {
        error = sockets.receive(|batch| seen.send(batch.bytes[0]).unwrap()) => panic!("{error}"),
        counts = counted => counts.unwrap(),
    };
    sending.await.unwrap();
    counts
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_sheds_initiations_and_nothing_else() {
    let mut hosts = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    let has_ipv6 = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    hosts.extend(has_ipv6.then_some(IpAddr::from(Ipv6Addr::LOCALHOST)));
    for host in hosts {
        let [some, others] = through(ALL / 8, host).await;
        assert_eq!(others, 1000);
        assert!((60..200).contains(&some), "about 125 of 1000: {some}");
        assert_eq!(through(1, host).await[0], 0);
        assert!(through(ALL, host).await[0] >= 999, "the last may be under way");
    }
}
