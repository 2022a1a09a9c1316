//! UDP over the tailnet, and pings of every kind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::{net::SocketAddr, time::Duration};

use countersign_node_tests::fleet::{Fleet, PATIENCE, PORT, policy};
use tailnet_node::{PingKind, UdpSocket, Who};
use tokio::time::timeout;

/// Sends until something arrives: the first datagrams may be lost while the tunnel comes up.
async fn deliver(from: &UdpSocket, payload: &[u8], address: SocketAddr, to: &mut UdpSocket) -> tailnet_node::Arrived {
    timeout(PATIENCE, async {
        loop {
            from.send_to(payload, address).unwrap();
            if let Ok(arrived) = timeout(Duration::from_millis(200), to.recv()).await {
                return arrived.unwrap();
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("nothing arrives at {address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_carry_their_sender_and_replies_need_no_rule() {
    let fleet = Fleet::start().await;
    let (server, alice) = fleet.pair().await;
    let mut service = server.bind_udp(PORT).unwrap();
    let mut client = alice.bind_udp(5000).unwrap();
    for address in fleet.info("server").addresses {
        let arrived = deliver(&client, b"question", SocketAddr::new(address, PORT), &mut service).await;
        assert_eq!(arrived.payload, b"question");
        let Who::User { login, .. } = arrived.caller.identity().unwrap().who else {
            panic!("no user")
        };
        assert_eq!(login.as_ref(), "alice@example.com");
        let reply = deliver(&service, b"answer", arrived.caller.remote_addr(), &mut client).await;
        assert_eq!(reply.payload, b"answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_to_other_ports_are_dropped() {
    let fleet = Fleet::start().await;
    let (server, alice) = fleet.pair().await;
    let mut open = server.bind_udp(PORT).unwrap();
    let mut shut = server.bind_udp(PORT + 1).unwrap();
    let client = alice.bind_udp(5000).unwrap();
    let address = fleet.info("server").addresses[0];
    deliver(&client, b"first", SocketAddr::new(address, PORT), &mut open).await;
    client.send_to(b"second", SocketAddr::new(address, PORT + 1)).unwrap();
    assert!(timeout(Duration::from_millis(300), shut.recv()).await.is_err());
    fleet
        .tailnet
        .set_policy(&policy("{}").replace("\"udp:443\"", "\"udp:444\""))
        .unwrap();
    deliver(&client, b"third", SocketAddr::new(address, PORT + 1), &mut shut).await;
    while timeout(Duration::from_millis(50), open.recv()).await.is_ok() {}
    client.send_to(b"fourth", SocketAddr::new(address, PORT)).unwrap();
    assert!(
        timeout(Duration::from_millis(300), open.recv()).await.is_err(),
        "withdrawn"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_ping_is_answered() {
    let fleet = Fleet::start().await;
    let (_server, alice) = fleet.pair().await;
    let info = fleet.info("server");
    for kind in [PingKind::Tsmp, PingKind::Icmp] {
        for address in &info.addresses {
            let took = alice
                .ping(*address, kind, PATIENCE)
                .await
                .unwrap_or_else(|e| panic!("{kind:?} {address}: {e}"));
            println!("{kind:?} {address}: {took:?}");
        }
    }
}
