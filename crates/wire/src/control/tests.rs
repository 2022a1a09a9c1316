use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A first message as Headscale 0.29 words it, with every habit of Go's encoder that has to be survived.
const FIRST: &str = r#"{
  "Node":{"ID":9007199254740993,"StableID":"n1","Name":"idp.hs.test.","User":2147455555,"Key":"nodekey:0101010101010101010101010101010101010101010101010101010101010101",
    "KeyExpiry":"0001-01-01T00:00:00Z","Machine":"mkey:0000000000000000000000000000000000000000000000000000000000000000","DiscoKey":"discokey:0000000000000000000000000000000000000000000000000000000000000000",
    "Addresses":["100.64.0.1/32","fd7a:115c:a1e0::1/128"],"AllowedIPs":null,"Endpoints":null,"HomeDERP":0,"DERP":"127.3.3.40:999",
    "Hostinfo":{"OS":"linux","Userspace":"","NetInfo":null},"Created":"2026-11-24T08:00:00.123456789Z","Tags":["tag:internal-idp"],
    "Online":null,"Capabilities":null,"CapMap":{"https://tailscale.com/cap/is-admin":null,"x.test/cap":[{"a":1}]},"NewField":{"x":[1]}},
  "Peers":[
    null,
    {"ID":2,"StableID":"n2","Name":"alice.hs.test.","User":1,"Key":"nodekey:0202020202020202020202020202020202020202020202020202020202020202",
     "Addresses":["100.64.0.2/32",""],"Endpoints":["192.0.2.1:41641","[fe80::1%eth0]:1","bad"],"HomeDERP":1,"Online":true,"Expired":true},
    {"ID":3,"Key":17},
    "nonsense"],
  "PeersRemoved":null,"PeerSeenChange":{"12":true},"OnlineChange":{"9007199254740993":false},
  "DERPMap":{"Regions":{"1":null,"999":{"RegionID":999,"RegionCode":"hs","RegionName":"hs","Nodes":[{"Name":"999","RegionID":999,"HostName":"127.0.0.1","STUNPort":3478,"DERPPort":8443}]},"x":{}},"HomeParams":null},
  "PacketFilter":[],
  "PacketFilters":{"*":null,"base":[{"SrcIPs":["100.64.0.2/32"],"DstPorts":[{"IP":"100.64.0.1","Bits":null,"Ports":{"First":443,"Last":443}}],"IPProto":[6]},
    {"SrcIPs":null,"DstPorts":null,"CapGrant":[{"Dsts":["100.64.0.1/32","zzz"],"CapMap":{"tailscale.com/cap/tsidp":[{"users":["*"]}]}}]},
    {"SrcIPs":["*"],"IPProto":"all","DstPorts":[{"IP":"*","Ports":{"First":0,"Last":65535}}]}]},
  "UserProfiles":[{"ID":1,"LoginName":"alice","DisplayName":"Alice","Groups":null}],
  "DNSConfig":{"Proxied":true,"Routes":{"hs.test":null},"Domains":["hs.test"],"Nameservers":[""],"ExtraRecords":null},
  "Domain":"hs.test","CollectServices":"","SSHPolicy":{"rules":[]},"ControlTime":"2026-11-24T08:00:00Z","TKAInfo":null,
  "Debug":{"DisableLogTail":true},"PingRequest":{"URL":"https://x/ping","Types":"disco,warp-drive","IP":"","Payload":null},
  "Health":[],"DisplayMessages":{"*":null,"m":{"Title":"t","Severity":"apocalyptic"}}
}"#;

fn first() -> MapResponse {
    serde_json::from_str(FIRST).unwrap()
}

#[test]
fn a_first_message_with_every_habit_of_go_is_read() {
    let m = first();
    let node = m.node.as_deref().unwrap();
    assert_eq!(node.id, NodeId(9_007_199_254_740_993));
    assert_eq!((node.key_expiry, node.machine, node.disco_key), (None, None, None));
    assert_eq!(node.addresses.len(), 2);
    assert_eq!(node.allowed_ips, None);
    assert_eq!(node.home_derp_region(), Some(999));
    assert!(node.cap_map["https://tailscale.com/cap/is-admin"].is_none());
    assert_eq!(node.cap_map["x.test/cap"].as_ref().unwrap()[0].get(), r#"{"a":1}"#);
    assert_eq!(m.domain, "hs.test");
    assert!(m.tka_info.is_none());
    assert_eq!(m.ping_request.as_ref().unwrap().types, "disco,warp-drive");
    assert!(!m.online_change[&NodeId(9_007_199_254_740_993)]);
    assert!(m.dns_config.as_ref().unwrap().nameservers.is_empty());
    assert_eq!(m.health.as_deref(), Some(&[][..]));
    assert_eq!(m.display_messages["m"].as_ref().unwrap().severity, "apocalyptic");
}

#[test]
fn an_unreadable_peer_keeps_its_id_so_that_it_counts_as_gone() {
    let m = first();
    let ids: Vec<_> = m.peers.iter().map(|p| (p.id.0, p.key.is_some())).collect();
    assert_eq!(ids, [(2, true), (3, false)]);
    assert_eq!(m.peers[0].addresses.len(), 1);
    assert_eq!(m.peers[0].endpoints, ["192.0.2.1:41641".parse().unwrap()]);
}

#[test]
fn a_key_expiry_that_is_no_time_does_not_become_never() {
    let text = FIRST.replace(r#""Online":true,"Expired":true"#, r#""KeyExpiry":"soon""#);
    let m: MapResponse = serde_json::from_str(&text).unwrap();
    assert_eq!(m.peers[0].id, NodeId(2));
    assert!(m.peers[0].key.is_none());
}

#[test]
fn an_unreadable_rule_is_dropped_and_never_widened() {
    let m = first();
    assert_eq!(m.packet_filter.as_ref().unwrap().len(), 0);
    assert!(m.packet_filters["*"].is_none());
    let rules = &m.packet_filters["base"].as_ref().unwrap().0;
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].ip_proto, [6]);
    assert_eq!(rules[0].dst_ports[0].ports, PortRange { first: 443, last: 443 });
    assert_eq!(rules[1].cap_grant[0].dsts, ["100.64.0.1/32".parse().unwrap()]);
    assert!(rules[1].cap_grant[0].cap_map.contains_key("tailscale.com/cap/tsidp"));
}

#[test]
fn null_regions_and_regions_without_a_number_are_dropped() {
    let regions = first().derp_map.unwrap().regions;
    assert_eq!(regions.keys().copied().collect::<Vec<_>>(), [999]);
    assert_eq!(regions[&999].nodes[0].derp_port, 8443);
}

#[test]
fn absent_null_and_empty_filters_differ() {
    let read = |text| {
        serde_json::from_str::<MapResponse>(text)
            .unwrap()
            .packet_filter
            .map(|f| f.len())
    };
    assert_eq!(read("{}"), None);
    assert_eq!(read(r#"{"PacketFilter":null}"#), None);
    assert_eq!(read(r#"{"PacketFilter":[]}"#), Some(0));
    let empty = MapResponse {
        packet_filter: Some(vec![]),
        ..MapResponse::default()
    };
    assert_eq!(serde_json::to_value(&empty).unwrap(), json!({"PacketFilter": []}));
}

#[test]
fn a_patch_tells_never_expires_from_unchanged() {
    let read = |text| serde_json::from_str::<PeerChange>(text).unwrap().key_expiry;
    assert_eq!(read(r#"{"NodeID":1}"#), None);
    assert_eq!(read(r#"{"NodeID":1,"KeyExpiry":null}"#), None);
    assert_eq!(read(r#"{"NodeID":1,"KeyExpiry":"0001-01-01T00:00:00Z"}"#), Some(None));
    assert!(
        read(r#"{"NodeID":1,"KeyExpiry":"2026-01-01T00:00:00Z"}"#)
            .unwrap()
            .is_some()
    );
}

#[test]
fn optional_booleans_take_every_form() {
    let read = |text| serde_json::from_str::<Hostinfo>(text).unwrap().userspace;
    assert_eq!(read(r#"{"Userspace":true}"#), Some(true));
    assert_eq!(read(r#"{"Userspace":false}"#), Some(false));
    for unknown in [
        r#"{"Userspace":""}"#,
        r#"{"Userspace":null}"#,
        r#"{"Userspace":"maybe"}"#,
        "{}",
    ] {
        assert_eq!(read(unknown), None);
    }
}

#[test]
fn a_register_request_has_the_names_that_go_reads() {
    let request = RegisterRequest {
        version: CAPABILITY_VERSION,
        auth: Some(RegisterResponseAuth {
            auth_key: "hskey-auth-secret".into(),
        }),
        hostinfo: Some(Hostinfo {
            hostname: "idp".into(),
            userspace: Some(true),
            ..Hostinfo::default()
        }),
        ..RegisterRequest::default()
    };
    assert_eq!(
        serde_json::to_value(&request).unwrap(),
        json!({"Version": 119, "Auth": {"AuthKey": "hskey-auth-secret"},
               "Expiry": "0001-01-01T00:00:00Z", "Followup": "", "Hostinfo": {"Hostname": "idp", "Userspace": true}})
    );
    assert!(!format!("{request:?}").contains("secret"));
}

#[test]
fn a_register_response_survives_nulls() {
    let text = r#"{"User":{"ID":1,"DisplayName":""},"Login":null,"NodeKeyExpired":null,"MachineAuthorized":true,
                   "AuthURL":"","NodeKeySignature":null,"Error":""}"#;
    let response: RegisterResponse = serde_json::from_str(text).unwrap();
    assert!(response.machine_authorized && response.error.is_empty() && response.node_key_signature.is_empty());
}

#[test]
fn what_is_written_reads_back_the_same() {
    let once = serde_json::to_string(&first()).unwrap();
    let again = serde_json::to_string(&serde_json::from_str::<MapResponse>(&once).unwrap()).unwrap();
    assert_eq!(once, again);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn truncation_is_an_error(end in 0..FIRST.len()) {
        prop_assert!(serde_json::from_slice::<MapResponse>(&FIRST.as_bytes()[..end]).is_err());
    }

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((0..FIRST.len(), 0u8..8), 1..8)) {
        let mut bytes = FIRST.as_bytes().to_vec();
        for (at, bit) in flips {
            bytes[at] ^= 1 << bit;
        }
        let _ = serde_json::from_slice::<MapResponse>(&bytes);
    }
}
