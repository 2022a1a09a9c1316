use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tailnet_wire::{
    control::{DerpNode, DerpRegion, endpoint_type},
    stun,
};
use tokio::{net::UdpSocket, time::timeout};

use super::*;

/// A STUN server on loopback that answers after `delay`, and says `shown` of whoever asks.
async fn server(delay: Duration, shown: &str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let shown = shown.parse().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let tx_id = stun::parse_request(&buffer[..length]).unwrap();
            sleep(delay).await;
            socket.send_to(&stun::response(tx_id, shown), from).await.unwrap();
        }
    });
    addr
}

/// The node's socket and what the tests turn on it.
struct TestHost {
    socket: Arc<UdpSocket>,
    may_move: AtomicBool,
    homes: Mutex<Vec<Option<u32>>>,
}

impl Host for TestHost {
    fn send_stun(&self, to: SocketAddr, request: &[u8]) -> bool {
        self.socket.try_send_to(request, to).is_ok()
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    fn has_ipv6(&self) -> bool {
        false
    }

    fn is_active(&self) -> bool {
        false
    }

    fn may_move_home(&self) -> bool {
        self.may_move.load(Ordering::Relaxed)
    }

    fn is_home_alive(&self) -> bool {
        true
    }

    fn use_home(&self, home: Option<u32>) {
        self.homes.lock().push(home);
    }
}

struct Bench {
    host: Arc<TestHost>,
    maps: watch::Sender<Arc<DerpMap>>,
    refresh: Arc<Notify>,
    findings: watch::Receiver<Findings>,
}

impl Bench {
    async fn new() -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        socket.writable().await.unwrap();
        let host = Arc::new(TestHost {
            socket: socket.clone(),
            may_move: AtomicBool::new(true),
            homes: Mutex::default(),
        });
        let (answer, answers) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if answer.try_send((from, buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
        });
        let maps = watch::Sender::new(Arc::default());
        let refresh = Arc::new(Notify::new());
        let (found, findings) = watch::channel(Findings::default());
        let inputs = Inputs {
            maps: maps.subscribe(),
            answers,
            refresh: refresh.clone(),
        };
        tokio::spawn(run(host.clone(), inputs, 0, found));
        Self {
            host,
            maps,
            refresh,
            findings,
        }
    }

    fn set_map(&self, servers: &[(u32, SocketAddr)]) {
        let region = |(number, addr): &(u32, SocketAddr)| {
            let node = DerpNode {
                stun_test_ip: addr.ip().to_string(),
                stun_port: addr.port().into(),
                ..DerpNode::default()
            };
            let entry = DerpRegion {
                region_id: *number,
                nodes: vec![node],
                ..DerpRegion::default()
            };
            (*number, Arc::new(entry))
        };
        self.maps.send_replace(Arc::new(DerpMap {
            regions: servers.iter().map(region).collect(),
            ..DerpMap::default()
        }));
    }

    async fn wait_for(&mut self, what: impl Fn(&Findings) -> bool) -> Findings {
        let found = timeout(
            Duration::from_secs(10),
            self.findings.wait_for(|findings| what(findings)),
        )
        .await;
        found.expect("within 10 s").unwrap().clone()
    }
}

const SHOWN: &str = "203.0.113.9:4242";

#[tokio::test]
async fn the_near_region_becomes_home_and_stun_shows_our_address() {
    let far = server(Duration::from_millis(80), SHOWN).await;
    let near = server(Duration::ZERO, SHOWN).await;
    let mut bench = Bench::new().await;
    bench.set_map(&[(1, far), (2, near)]);
    let findings = bench.wait_for(|findings| findings.home.is_some()).await;
    assert_eq!((findings.home, findings.net_info.preferred_derp), (Some(2), 2));
    assert_eq!(findings.endpoints[0], (SHOWN.parse().unwrap(), endpoint_type::STUN));
    assert_eq!(
        (
            findings.net_info.working_udp,
            findings.net_info.mapping_varies_by_dest_ip
        ),
        (Some(true), Some(false))
    );
    let local = (bench.host.port(), endpoint_type::LOCAL);
    assert!(
        findings
            .endpoints
            .iter()
            .any(|(addr, kind)| (addr.port(), *kind) == local)
    );
}

#[tokio::test]
async fn a_lone_region_is_home_before_anybody_answers() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut bench = Bench::new().await;
    let begin = Instant::now();
    bench.set_map(&[(7, silent.local_addr().unwrap())]);
    bench.wait_for(|findings| findings.home == Some(7)).await;
    assert!(begin.elapsed() < Duration::from_secs(2));
    bench
        .wait_for(|findings| findings.net_info.working_udp == Some(false))
        .await;
}

#[tokio::test]
async fn who_asks_is_told_again() {
    let near = server(Duration::ZERO, SHOWN).await;
    let mut bench = Bench::new().await;
    bench.set_map(&[(1, near)]);
    bench
        .wait_for(|findings| findings.net_info.working_udp == Some(true))
        .await;
    bench.findings.borrow_and_update();
    bench.refresh.notify_one();
    timeout(Duration::from_secs(5), bench.findings.changed())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn home_does_not_move_while_control_is_away() {
    let slow = server(Duration::from_millis(120), SHOWN).await;
    let mut bench = Bench::new().await;
    bench.set_map(&[(1, slow)]);
    bench
        .wait_for(|findings| findings.net_info.working_udp == Some(true))
        .await;
    bench.host.may_move.store(false, Ordering::Relaxed);
    let near = server(Duration::ZERO, SHOWN).await;
    bench.set_map(&[(1, slow), (2, near)]);
    bench.findings.borrow_and_update();
    bench.findings.changed().await.unwrap();
    assert_eq!(bench.findings.borrow().home, Some(1));
    bench.host.may_move.store(true, Ordering::Relaxed);
    bench.set_map(&[(2, near)]);
    bench.wait_for(|findings| findings.home == Some(2)).await;
    assert_eq!(*bench.host.homes.lock(), [Some(1), Some(2)]);
}

#[test]
fn jitter_and_order_are_no_news() {
    let addr = |port| (SocketAddr::from(([192, 0, 2, 1], port)), 2);
    let latency = |seconds: f64| [("1-v4".to_owned(), seconds)].into();
    let mut old = Findings {
        endpoints: vec![addr(1), addr(2)],
        ..Findings::default()
    };
    old.net_info.derp_latency = latency(0.01);
    let mut new = Findings {
        endpoints: vec![addr(2), addr(1)],
        ..Findings::default()
    };
    new.net_info.derp_latency = latency(0.02);
    keep_if_alike(&old, &mut new);
    assert_eq!(new, old);
    new.net_info.preferred_derp = 5;
    new.net_info.derp_latency = latency(0.02);
    keep_if_alike(&old, &mut new);
    assert_eq!(new.net_info.derp_latency, latency(0.02));
}
