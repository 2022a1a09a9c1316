use std::{collections::BTreeMap, time::Instant};

use proptest::prelude::*;
use serde_json::json;
use tailnet_wire::{
    control::{MapResponse, NodeId},
    packet::IpProto,
};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::*;

const WALL: OffsetDateTime = datetime!(2026-11-24 09:00 UTC);

fn message(value: serde_json::Value) -> MapResponse {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn node_key(n: u64) -> String {
    format!("nodekey:{n:064x}")
}

fn key(n: u64) -> NodePublic {
    node_key(n).parse().unwrap()
}

fn node(id: u64) -> serde_json::Value {
    json!({"ID": id, "StableID": format!("s{id}"), "Name": format!("Node{id}.hs.test."), "User": 1, "Key": node_key(id),
           "DiscoKey": format!("discokey:{id:064x}"), "Addresses": [format!("100.64.{}.{}/32", id >> 8, id & 255)],
           "Endpoints": ["192.0.2.1:41641"], "HomeDERP": 1, "Online": true})
}

fn first(peers: &[u64]) -> MapResponse {
    let rule =
        json!({"SrcIPs": ["100.64.0.2"], "DstPorts": [{"IP": "100.64.0.1", "Ports": {"First": 443, "Last": 443}}]});
    message(
        json!({"Node": node(1), "Peers": peers.iter().map(|id| node(*id)).collect::<Vec<_>>(), "Domain": "hs.test",
        "UserProfiles": [{"ID": 1, "LoginName": "alice"}], "PacketFilters": {"base": [rule]},
        "DERPMap": {"Regions": {"1": {"RegionID": 1}}}}),
    )
}

fn joined(peers: &[u64]) -> NetmapState {
    let mut state = NetmapState::new();
    state.handle_response(first(peers), WALL).unwrap().unwrap();
    state
}

fn apply(state: &mut NetmapState, value: serde_json::Value) -> Change {
    state.handle_response(message(value), WALL).unwrap().unwrap()
}

fn admits(netmap: &Netmap, port: u16) -> bool {
    let (src, dst) = ("100.64.0.2".parse().unwrap(), ([100, 64, 0, 1], port).into());
    netmap.filter().permits(IpProto::TCP, src, dst, &|_| false)
}

#[test]
fn a_first_message_fills_every_lookup() {
    let mut state = NetmapState::new();
    let change = state.handle_response(first(&[2, 3]), WALL).unwrap().unwrap();
    assert_eq!((change.removed.len(), change.updated.len()), (0, 2));
    assert!(change.filter && change.users && change.derp_map && change.self_node);
    let netmap = change.netmap;
    assert_eq!(&*netmap.self_node().name, "Node1.hs.test");
    assert_eq!((netmap.domain(), netmap.dns_suffix()), ("hs.test", Some("hs.test")));
    for found in [
        netmap.peer_by_id(NodeId(2)),
        netmap.peer_by_key(&key(2)),
        netmap.peer_by_stable_id("s2"),
        netmap.peer_by_ip("100.64.0.2".parse().unwrap()),
        netmap.peer_by_name("node2"),
        netmap.peer_by_name("NODE2.hs.TEST."),
        netmap
            .peers_by_disco(&DiscoPublic::from_bytes(*key(2).as_bytes()))
            .next(),
    ] {
        assert_eq!(found.unwrap().id, NodeId(2));
    }
    assert!(netmap.peer_by_name("node9").is_none());
    assert_eq!(netmap.user(UserId(1)).unwrap().login_name, "alice");
    assert!(admits(&netmap, 443) && !admits(&netmap, 80));
}

#[test]
fn a_stream_must_begin_with_ourselves_and_a_locked_tailnet_is_refused() {
    let mut state = NetmapState::new();
    assert_eq!(
        state
            .handle_response(message(json!({"Domain": "x"})), WALL)
            .unwrap_err(),
        MapError::NoSelf
    );
    let mut locked = first(&[]);
    locked.tka_info = Some(Default::default());
    assert_eq!(state.handle_response(locked, WALL).unwrap_err(), MapError::Locked);
    assert!(state.current().is_none());
    assert!(
        state
            .handle_response(message(json!({"KeepAlive": true})), WALL)
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_empty_peer_list_changes_nothing_and_removal_names_the_key() {
    let mut state = joined(&[2, 3]);
    assert!(
        state
            .handle_response(message(json!({"Peers": []})), WALL)
            .unwrap()
            .is_none()
    );
    assert_eq!(state.current().unwrap().peer_count(), 2);
    let change = apply(&mut state, json!({"PeersRemoved": [3, 99]}));
    assert_eq!(change.removed, [key(3)]);
    assert!(change.netmap.peer_by_ip("100.64.0.3".parse().unwrap()).is_none());
}

#[test]
fn a_full_list_replaces_and_precludes_the_other_deltas() {
    let mut state = joined(&[2, 3]);
    let change = apply(
        &mut state,
        json!({"Peers": [node(2), node(4)], "PeersRemoved": [2], "OnlineChange": {"4": false}}),
    );
    assert_eq!((change.removed, change.updated), (vec![key(3)], vec![key(4)]));
    assert_eq!(change.netmap.peer_by_id(NodeId(4)).unwrap().online, Some(true));
}

#[test]
fn a_repeated_node_is_no_change_and_keeps_its_value() {
    let mut state = joined(&[2]);
    let before = state.current().unwrap();
    assert!(
        state
            .handle_response(message(json!({"PeersChanged": [node(2)]})), WALL)
            .unwrap()
            .is_none()
    );
    let same = |a: &Netmap, b: &Netmap| Arc::ptr_eq(a.peer_by_id(NodeId(2)).unwrap(), b.peer_by_id(NodeId(2)).unwrap());
    assert!(same(&before, &state.current().unwrap()));

    state.begin_stream();
    let change = state.handle_response(first(&[2]), WALL).unwrap().unwrap();
    assert!(change.updated.is_empty() && !change.self_node && !change.derp_map);
    assert!(same(&before, &change.netmap));
}

#[test]
fn a_new_stream_forgets_what_its_first_message_leaves_out() {
    let mut state = joined(&[2, 3]);
    state.begin_stream();
    assert_eq!(state.current().unwrap().peer_count(), 2);
    let change = apply(&mut state, json!({"Node": node(1)}));
    assert_eq!(change.removed, [key(2), key(3)]);
    assert!(change.filter && !admits(&change.netmap, 443));
    assert!(change.netmap.user(UserId(1)).is_none());
}

#[test]
fn a_new_key_of_a_known_node_withdraws_the_old_one() {
    let mut state = joined(&[2]);
    let patch = json!({"NodeID": 2, "Key": node_key(77), "DiscoKey": format!("discokey:{:064x}", 5), "DERPRegion": 9,
                       "Endpoints": [], "Online": false, "KeyExpiry": "2026-11-24T10:00:00Z"});
    let change = apply(
        &mut state,
        json!({"PeersChangedPatch": [patch, {"NodeID": 5, "Online": true}]}),
    );
    assert_eq!((change.removed, change.updated), (vec![key(2)], vec![key(77)]));
    let peer = change.netmap.peer_by_key(&key(77)).unwrap();
    assert_eq!(
        (peer.home_derp, peer.online, peer.endpoints.len()),
        (Some(9), Some(false), 0)
    );
    assert_eq!(peer.key_expiry, Some(datetime!(2026-11-24 10:00 UTC)));
    assert!(change.netmap.peer_by_key(&key(2)).is_none());
}

#[test]
fn an_entry_without_a_key_ends_the_node() {
    let mut state = joined(&[2]);
    let change = apply(&mut state, json!({"PeersChanged": [{"ID": 2, "Key": 17}]}));
    assert_eq!(change.removed, [key(2)]);
}

#[test]
fn seen_and_online_changes_reach_known_peers() {
    let mut state = joined(&[2, 3]);
    let change = apply(
        &mut state,
        json!({"PeerSeenChange": {"2": true, "9": true}, "OnlineChange": {"3": false}}),
    );
    assert_eq!(change.updated, [key(2), key(3)]);
    assert_eq!(change.netmap.peer_by_id(NodeId(2)).unwrap().last_seen, Some(WALL));
    let change = apply(&mut state, json!({"PeerSeenChange": {"2": false}}));
    assert_eq!(change.netmap.peer_by_id(NodeId(2)).unwrap().last_seen, None);
}

#[test]
fn filter_chunks_come_go_and_block() {
    let rule =
        |port: u16| json!([{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": port, "Last": port}}]}]);
    let mut state = joined(&[2]);
    let change = apply(&mut state, json!({"PacketFilters": {"more": rule(80)}}));
    assert!(change.filter && admits(&change.netmap, 443) && admits(&change.netmap, 80));
    let change = apply(&mut state, json!({"PacketFilters": {"more": null}}));
    assert!(admits(&change.netmap, 443) && !admits(&change.netmap, 80));
    let change = apply(&mut state, json!({"PacketFilters": {"*": null, "only": rule(22)}}));
    assert!(!admits(&change.netmap, 443) && admits(&change.netmap, 22));
    let change = apply(&mut state, json!({"PacketFilters": {"*": null}, "PacketFilter": []}));
    assert!(!admits(&change.netmap, 22));
    let change = apply(&mut state, json!({"PacketFilter": null, "OnlineChange": {"2": false}}));
    assert!(!change.filter);
}

#[test]
fn a_derp_delta_keeps_what_it_does_not_name() {
    let mut state = joined(&[]);
    let change = apply(
        &mut state,
        json!({"DERPMap": {"HomeParams": {"RegionScore": {"1": 0.5}}}}),
    );
    assert!(change.derp_map && change.netmap.derp_map().regions.contains_key(&1));
    let change = apply(&mut state, json!({"DERPMap": {"Regions": {"2": {"RegionID": 2}}}}));
    let map = change.netmap.derp_map();
    assert!(!map.regions.contains_key(&1));
    assert_eq!(map.home_params.as_ref().unwrap().region_score[&1], 0.5);
}

#[test]
fn keys_expire_by_controls_clock() {
    let mut state = joined(&[2, 3]);
    // Control is two hours ahead: its noon is our ten.
    let change = apply(
        &mut state,
        json!({"ControlTime": "2026-11-24T11:00:00Z", "PeersChangedPatch": [{"NodeID": 2, "KeyExpiry": "2026-11-24T12:00:00Z"}]}),
    );
    assert!(
        !change
            .netmap
            .peer_by_id(NodeId(2))
            .unwrap()
            .is_expired(change.netmap.control_time(WALL))
    );
    let due = state.next_expiry().unwrap();
    assert_eq!(due, datetime!(2026-11-24 10:00 UTC));
    assert!(state.handle_timeout(due - Duration::SECOND).is_none());
    let change = state.handle_timeout(due).unwrap();
    assert_eq!(change.updated, [key(2)]);
    assert!(change.netmap.peer_by_id(NodeId(2)).unwrap().expired);
    assert_eq!(state.next_expiry(), None);
    // A small difference is none.
    let change = apply(&mut state, json!({"ControlTime": "2026-11-24T09:00:59Z"}));
    assert_eq!(change.netmap.control_time(WALL), WALL);
}

#[test]
fn a_key_that_has_expired_already_is_never_good() {
    let mut state = joined(&[2, 3]);
    let patch = |expiry: &str| json!({"PeersChangedPatch": [{"NodeID": 2, "KeyExpiry": expiry}]});
    let expired = |change: &Change| change.netmap.peer_by_id(NodeId(2)).unwrap().expired;
    assert!(expired(&apply(&mut state, patch("2026-01-01T00:00:00Z"))));
    // Mentioned again, without a word about the expiry that was due.
    let mut again = node(2);
    again["KeyExpiry"] = json!("2026-01-01T00:00:00Z");
    let again = message(json!({"PeersChanged": [again]}));
    assert!(state.handle_response(again, WALL).unwrap().is_none());
    assert!(state.current().unwrap().peer_by_id(NodeId(2)).unwrap().expired);
    // Renewed, at last for ever.
    assert!(!expired(&apply(&mut state, patch("0001-01-01T00:00:00Z"))));

    let mut own = node(1);
    own["KeyExpiry"] = json!("2026-01-01T00:00:00Z");
    assert!(apply(&mut state, json!({"Node": own})).netmap.self_node().expired);
}

#[test]
fn routers_and_jailed_peers_are_marked() {
    let mut state = joined(&[]);
    let with = |id: u64, more: serde_json::Value| {
        let mut node = node(id);
        node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        node
    };
    let change = apply(
        &mut state,
        json!({"PeersChanged": [
            with(2, json!({"AllowedIPs": ["100.64.0.2/32"]})),
            with(3, json!({"AllowedIPs": ["100.64.0.3/32", "10.0.0.0/8"]})),
            with(4, json!({"IsJailed": true, "Capabilities": ["a"], "CapMap": {"b": [1]}}))]}),
    );
    let netmap = change.netmap;
    let peer = |id| netmap.peer_by_id(NodeId(id)).unwrap();
    assert!(!peer(2).routes && peer(3).routes && peer(4).jailed);
    assert_eq!(peer(4).cap_map.keys().map(|k| &**k).collect::<Vec<_>>(), ["a", "b"]);
    assert!(!Arc::ptr_eq(netmap.filter_for(peer(4)), netmap.filter()));
}

#[test]
fn two_nodes_with_one_key_do_not_lose_each_other() {
    let mut state = joined(&[2]);
    let mut twin = node(9);
    twin["Key"] = json!(node_key(2));
    twin["DiscoKey"] = json!(format!("discokey:{:064x}", 2));
    let change = apply(&mut state, json!({"PeersChanged": [twin]}));
    assert_eq!(change.netmap.peer_by_key(&key(2)).unwrap().id, NodeId(9));
    assert_eq!(
        change
            .netmap
            .peers_by_disco(&DiscoPublic::from_bytes(*key(2).as_bytes()))
            .count(),
        2
    );
    let change = apply(&mut state, json!({"PeersRemoved": [9]}));
    assert!(change.removed.is_empty());
    assert_eq!(change.netmap.peer_by_key(&key(2)).unwrap().id, NodeId(2));
}

#[test]
fn ten_thousand_peers_share_their_nodes_across_a_delta() {
    let peers: Vec<_> = (2..10_002).collect();
    let text = serde_json::to_string(&first(&peers)).unwrap();
    let mut state = NetmapState::new();
    let started = Instant::now();
    let change = state
        .handle_response(serde_json::from_str(&text).unwrap(), WALL)
        .unwrap()
        .unwrap();
    println!("full map of 10,000 peers: {:?}", started.elapsed());
    let before = change.netmap;
    let started = Instant::now();
    let after = apply(&mut state, json!({"OnlineChange": {"500": false}})).netmap;
    println!("one delta: {:?}", started.elapsed());
    let shared = before
        .peers()
        .zip(after.peers())
        .filter(|(a, b)| Arc::ptr_eq(a, b))
        .count();
    assert_eq!(shared, 9_999);
}

#[derive(Debug, Clone)]
enum Step {
    Full(Vec<(u64, u64)>),
    Upsert(u64, u64),
    Remove(u64),
    Rekey(u64, u64),
    Online(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few ids and fewer keys, so that nodes collide on keys often.
    let (id, key) = (2..12u64, 100..108u64);
    prop::collection::vec(
        prop_oneof![
            1 => prop::collection::vec((id.clone(), key.clone()), 1..8).prop_map(Step::Full),
            4 => (id.clone(), key.clone()).prop_map(|(i, k)| Step::Upsert(i, k)),
            3 => id.clone().prop_map(Step::Remove),
            2 => (id.clone(), key).prop_map(|(i, k)| Step::Rekey(i, k)),
            2 => (id, any::<bool>()).prop_map(|(i, o)| Step::Online(i, o)),
        ],
        1..40,
    )
}

fn keyed(id: u64, key: u64) -> serde_json::Value {
    let mut node = node(id);
    node["Key"] = json!(node_key(key));
    node
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_sequence_of_deltas_matches_a_plain_map(steps in steps()) {
        let mut state = joined(&[]);
        let mut model = BTreeMap::<u64, (u64, bool)>::new();
        for step in steps {
            let before: Vec<_> = model.values().map(|(k, _)| *k).collect();
            let value = match step {
                Step::Full(nodes) => {
                    model = nodes.iter().map(|(i, k)| (*i, (*k, true))).collect();
                    json!({"Peers": nodes.iter().map(|(i, k)| keyed(*i, *k)).collect::<Vec<_>>()})
                }
                Step::Upsert(i, k) => {
                    model.insert(i, (k, true));
                    json!({"PeersChanged": [keyed(i, k)]})
                }
                Step::Remove(i) => {
                    model.remove(&i);
                    json!({"PeersRemoved": [i]})
                }
                Step::Rekey(i, k) => {
                    model.entry(i).and_modify(|n| n.0 = k);
                    json!({"PeersChangedPatch": [{"NodeID": i, "Key": node_key(k)}]})
                }
                Step::Online(i, o) => {
                    model.entry(i).and_modify(|n| n.1 = o);
                    json!({"OnlineChange": {i.to_string(): o}})
                }
            };
            let change = state.handle_response(message(value), WALL).unwrap();
            let removed = change.map(|change| change.removed).unwrap_or_default();
            let netmap = state.current().unwrap();
            let got: BTreeMap<_, _> = netmap.peers().map(|p| (p.id.0 as u64, (p.key, p.online == Some(true)))).collect();
            let want: BTreeMap<_, _> = model.iter().map(|(i, (k, o))| (*i, (key(*k), *o))).collect();
            prop_assert_eq!(&got, &want);
            prop_assert_eq!(netmap.peer_count(), model.len());
            for k in before {
                let lives = model.values().any(|(key, _)| *key == k);
                prop_assert_eq!(removed.contains(&key(k)), !lives);
            }
            for (id, (k, _)) in &model {
                prop_assert_eq!(netmap.peer_by_key(&key(*k)).unwrap().key, key(*k));
                prop_assert_eq!(netmap.peer_by_id(NodeId(*id as i64)).unwrap().id.0, *id as i64);
                prop_assert_eq!(netmap.peer_by_stable_id(&format!("s{id}")).unwrap().id.0, *id as i64);
            }
        }
    }
}
