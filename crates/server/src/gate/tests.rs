use super::*;

fn gate(per_second: u32) -> Gate {
    gate_with(per_second, 0)
}

fn gate_with(per_peer: u32, in_total: u32) -> Gate {
    Gate::new(
        Limits {
            connections: 4,
            connections_per_peer: 2,
            requests: 6,
            requests_per_peer: 4,
            ..Limits::default()
        },
        Rates { per_peer, in_total },
    )
}

#[test]
fn connections_are_limited_per_node_and_in_total_and_given_back() {
    let (gate, now) = (gate(0), Instant::now());
    let first = gate.connection("a", now).ok();
    let _second = gate.connection("a", now).ok();
    assert_eq!(gate.connection("a", now).err(), Some(Full::Node));
    let _third = gate.connection("b", now).ok();
    let _fourth = gate.connection("c", now).ok();
    assert_eq!(gate.connection("d", now).err(), Some(Full::Server));
    drop(first);
    assert!(gate.connection("d", now).is_ok());
}

#[test]
fn a_node_has_a_burst_and_then_its_rate() {
    let (gate, start) = (gate(2), Instant::now());
    for _ in 0..4 {
        assert!(gate.request("a", start).is_ok());
    }
    assert_eq!(gate.request("a", start).err(), Some(Full::Node));
    assert!(gate.request("b", start).is_ok(), "another node is not concerned");
    assert!(gate.request("a", start + Duration::from_millis(600)).is_ok());
    assert!(gate.request("a", start + Duration::from_millis(700)).is_err());
}

#[test]
fn connections_have_a_rate_of_their_own() {
    let (gate, start) = (gate(1), Instant::now());
    for _ in 0..2 {
        assert!(gate.connection("a", start).is_ok());
    }
    assert_eq!(
        gate.connection("a", start).err(),
        Some(Full::Node),
        "although none is open"
    );
    assert!(gate.connection("b", start).is_ok(), "another node is not concerned");
    assert!(gate.request("a", start).is_ok(), "nor are its requests");
    assert!(gate.connection("a", start + Duration::from_millis(1100)).is_ok());
    assert!(gate.connection("a", start + Duration::from_millis(1200)).is_err());
}

#[test]
fn the_table_of_nodes_is_bounded_and_forgets_who_is_idle() {
    let (gate, now) = (gate(2), Instant::now());
    for node in ["a", "b", "c", "d"] {
        drop(gate.request(node, now));
    }
    assert_eq!(gate.request("e", now).err(), Some(Full::Server));
    assert!(gate.request("e", now + Duration::from_secs(3)).is_ok());
}

#[test]
fn all_nodes_together_have_a_rate_and_one_at_its_own_limit_takes_nothing_of_it() {
    let (gate, start) = (gate_with(1, 3), Instant::now());
    for _ in 0..100 {
        let _ = gate.request("greedy", start);
        let _ = gate.connection("greedy", start);
    }
    for node in ["a", "b"] {
        for _ in 0..2 {
            assert!(gate.request(node, start).is_ok());
            assert!(gate.connection(node, start).is_ok());
        }
    }
    for _ in 0..3 {
        assert_eq!(gate.request("c", start).err(), Some(Full::Server));
        assert_eq!(gate.connection("c", start).err(), Some(Full::Server));
    }
    assert_eq!(
        gate.request("a", start).err(),
        Some(Full::Node),
        "which is what it is told"
    );
    let later = start + Duration::from_millis(400);
    assert!(gate.request("c", later).is_ok(), "its own allowance was left alone");
    assert!(gate.connection("c", later).is_ok());
    assert_eq!(gate.request("d", later).err(), Some(Full::Server));
}

#[test]
fn a_rate_in_total_holds_also_where_a_node_has_none() {
    let (gate, start) = (gate_with(0, 1), Instant::now());
    assert!(gate.request("a", start).is_ok() && gate.request("a", start).is_ok());
    assert_eq!(gate.request("a", start).err(), Some(Full::Server));
}
