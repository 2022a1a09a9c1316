use super::*;

#[test]
fn a_port_is_open_once_and_free_again() {
    let ports = OpenPorts::default();
    let queue = ports.open_tcp(443).unwrap();
    assert_eq!(ports.open_tcp(443).err(), Some(ListenError::InUse(443)));
    let _udp = ports.open_udp(443).unwrap();
    assert_eq!(ports.open_tcp(0).err(), Some(ListenError::NoPort));
    assert!(ports.snapshot().tcp.contains(&443) && ports.snapshot().udp.contains(&443));
    drop(queue);
    ports.close_tcp(443);
    assert!(!ports.snapshot().tcp.contains(&443));
    ports.open_tcp(443).unwrap();
}

#[tokio::test]
async fn after_the_end_nothing_opens_and_waiters_wake() {
    let ports = OpenPorts::default();
    let mut queue = ports.open_tcp(1).unwrap();
    ports.close_all();
    assert!(queue.recv().await.is_none());
    assert_eq!(ports.open_udp(2).err(), Some(ListenError::Closed));
    assert!(ports.snapshot().tcp.is_empty());
}

#[test]
fn the_last_announcement_has_the_newest_list() {
    let ports = OpenPorts::default();
    let last = Mutex::new(0);
    std::thread::scope(|threads| {
        for port in 1..=50 {
            let (ports, last) = (&ports, &last);
            threads.spawn(move || {
                let _queue = ports.open_tcp(port).unwrap();
                ports.announcing(|list| *last.lock() = list.tcp.len());
            });
        }
    });
    assert_eq!(*last.lock(), 50);
}
