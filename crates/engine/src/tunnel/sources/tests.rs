use tailnet_wire::key::NodePublic;

use super::*;
use crate::tunnel::relay_address;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nobody_is_counted_until_there_is_load() {
    let mut sources = Sources::new(100);
    assert!((0..100).all(|_| sources.admit(ip("192.0.2.1"))));
    let admitted = (0..100).filter(|_| sources.admit(ip("192.0.2.1"))).count();
    assert_eq!(admitted, PER_SOURCE as usize);
    assert!(sources.admit(ip("192.0.2.2")), "another address has its own share");
    sources.reset();
    assert!(sources.admit(ip("192.0.2.1")), "a new second");
}

#[test]
fn an_ipv6_network_is_one_source_and_relayed_peers_are_many() {
    let mut sources = Sources::new(0);
    for host in 0..PER_SOURCE {
        assert!(sources.admit(ip(&format!("2001:db8::{host:x}"))));
    }
    assert!(!sources.admit(ip("2001:db8::ffff")));
    assert!(sources.admit(ip("2001:db8:0:1::1")));
    for peer in 0..=255 {
        assert!(sources.admit(relay_address(1, &NodePublic::from_bytes([peer; 32]))));
    }
}

#[test]
fn the_table_is_bounded() {
    let mut sources = Sources::new(0);
    for n in 0..2 * MAX_SOURCES as u32 {
        let admitted = sources.admit(IpAddr::from(n.to_be_bytes()));
        assert_eq!(admitted, (n as usize) < MAX_SOURCES);
    }
    assert!(sources.admit(IpAddr::from([0; 4])), "a source that is known goes on");
}
