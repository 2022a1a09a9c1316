use serde_json::json;

use super::*;

struct Node {
    user: Option<&'static str>,
    tags: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Node {
    fn of(user: &'static str, last: u8) -> Self {
        Self {
            user: Some(user),
            tags: Vec::new(),
            addresses: addresses(last),
        }
    }

    fn tagged(tag: &str, last: u8) -> Self {
        Self {
            user: None,
            tags: vec![tag.to_owned()],
            addresses: addresses(last),
        }
    }

    fn member(&self) -> Member<'_> {
        Member {
            user: self.user,
            tags: &self.tags,
            addresses: &self.addresses,
        }
    }
}

fn addresses(last: u8) -> Vec<IpAddr> {
    vec![
        IpAddr::from([100, 64, 0, last]),
        format!("fd7a:115c:a1e0::{last:x}").parse().unwrap(),
    ]
}

fn team() -> Vec<Node> {
    vec![
        Node::tagged("tag:internal-idp", 1),
        Node::of("alice@example.com", 2),
        Node::of("bob@example.com", 3),
        Node::of("alice@example.com", 4),
    ]
}

fn policy(grants: serde_json::Value) -> Policy {
    let document = json!({
        "groups": {"group:eng": ["alice@example.com"], "group:sales": ["bob@example.com"]},
        "tagOwners": {"tag:internal-idp": ["group:eng"]},
        "hosts": {"printer": "100.64.0.9"},
        "grants": grants,
    });
    Policy::parse(&document.to_string()).unwrap()
}

fn rules(policy: &Policy, nodes: &[Node], me: usize) -> Vec<Rule> {
    policy.rules(&nodes[me].member(), nodes.iter().map(Node::member))
}

#[test]
fn a_group_becomes_the_addresses_of_its_nodes() {
    let policy = policy(json!([{"src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}]));
    let nodes = team();
    let got = rules(&policy, &nodes, 0);
    assert_eq!(got.len(), 1);
    assert_eq!(
        got[0].src,
        ["100.64.0.2", "fd7a:115c:a1e0::2", "100.64.0.4", "fd7a:115c:a1e0::4"]
    );
    let Permits::Packets { dst, protocols, ports } = &got[0].what else {
        panic!("{got:?}")
    };
    assert_eq!(*dst, addresses(1));
    assert_eq!(*protocols, [6]);
    assert_eq!(*ports, [Ports { first: 443, last: 443 }]);
    assert!(
        rules(&policy, &nodes, 1).is_empty(),
        "a rule must reach only its destinations"
    );
}

#[test]
fn peers_see_each_other_only_when_a_rule_connects_them() {
    let policy = policy(json!([{"src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}]));
    let nodes = team();
    let connects = |a: usize, b: usize| policy.connects(&nodes[a].member(), &nodes[b].member());
    assert!(connects(0, 1) && connects(1, 0), "either way");
    assert!(!connects(0, 2) && !connects(2, 0));
    assert!(!connects(1, 3), "one user's nodes are not friends by nature");
}

#[test]
fn ip_and_app_become_two_rules_in_that_order() {
    let policy = policy(json!([{
        "src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443", "udp:53", "tcp:8000-8080"],
        "app": {"example.com/cap/idp": [{"allow_dcr": true}, {"users": ["*"]}]},
    }]));
    let got = rules(&policy, &team(), 0);
    assert_eq!(got.len(), 3, "one per protocol and one for capabilities: {got:?}");
    let Permits::Packets { ports, .. } = &got[0].what else {
        panic!()
    };
    assert_eq!(
        *ports,
        [
            Ports { first: 443, last: 443 },
            Ports {
                first: 8000,
                last: 8080
            }
        ]
    );
    let Permits::Capabilities { dst, caps } = &got[2].what else {
        panic!()
    };
    assert_eq!(*dst, addresses(1));
    assert_eq!(
        caps["example.com/cap/idp"],
        [json!({"allow_dcr": true}), json!({"users": ["*"]})]
    );
}

#[test]
fn a_capability_alone_makes_peers_visible_but_lets_no_packet_in() {
    let policy = policy(json!([{
        "src": ["group:sales"], "dst": ["tag:internal-idp"], "app": {"tailscale.com/cap/tsidp": [{}]},
    }]));
    let nodes = team();
    assert!(policy.connects(&nodes[0].member(), &nodes[2].member()));
    let got = rules(&policy, &nodes, 0);
    assert!(matches!(
        got.as_slice(),
        [Rule {
            what: Permits::Capabilities { .. },
            ..
        }]
    ));
}

#[test]
fn the_star_is_the_tailnet_not_the_internet() {
    let got = rules(&Policy::allow_all(), &team(), 2);
    assert_eq!(got[0].src, ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]);
    let Permits::Packets { protocols, ports, .. } = &got[0].what else {
        panic!()
    };
    assert!(protocols.is_empty());
    assert_eq!(*ports, [Ports::ALL]);
}

#[test]
fn autogroups_and_hosts() {
    let own = policy(json!([{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]}]));
    let nodes = team();
    assert_eq!(
        rules(&own, &nodes, 1)[0].src,
        ["100.64.0.2", "fd7a:115c:a1e0::2", "100.64.0.4", "fd7a:115c:a1e0::4"]
    );
    assert!(rules(&own, &nodes, 0).is_empty(), "a tagged node is nobody's own");
    assert!(own.connects(&nodes[1].member(), &nodes[3].member()));
    assert!(!own.connects(&nodes[1].member(), &nodes[2].member()));

    let mixed = policy(json!([{"src": ["printer", "autogroup:tagged"], "dst": ["bob@example.com"], "ip": ["icmp:*"]}]));
    assert_eq!(
        rules(&mixed, &nodes, 2)[0].src,
        ["100.64.0.9/32", "100.64.0.1", "fd7a:115c:a1e0::1"]
    );
}

#[test]
fn tags_belong_to_their_owners() {
    let policy = policy(json!([]));
    assert!(policy.may_tag("alice@example.com", "tag:internal-idp"));
    assert!(!policy.may_tag("bob@example.com", "tag:internal-idp"));
    assert!(!policy.may_tag("alice@example.com", "tag:other"));
    assert!(policy.defines_tag("tag:internal-idp") && !policy.defines_tag("tag:other"));
}

#[test]
fn node_attributes_reach_their_targets() {
    let text = json!({"nodeAttrs": [{"target": ["alice@example.com"], "attr": ["magicdns-aaaa"]}]}).to_string();
    let policy = Policy::parse(&text).unwrap();
    let nodes = team();
    assert_eq!(
        policy.attributes(&nodes[1].member()).collect::<Vec<_>>(),
        ["magicdns-aaaa"]
    );
    assert_eq!(policy.attributes(&nodes[2].member()).count(), 0);
}

#[test]
fn what_a_real_server_refuses_is_refused() {
    let refused = |document: serde_json::Value| Policy::parse(&document.to_string()).unwrap_err().to_string();
    let grant = |grant: serde_json::Value| refused(json!({"grants": [grant]}));
    assert!(grant(json!({"src": ["group:x"], "dst": ["*"], "ip": ["*"]})).contains("\"groups\""));
    assert!(grant(json!({"src": ["*"], "dst": ["tag:x"], "ip": ["*"]})).contains("\"tagOwners\""));
    assert!(grant(json!({"src": ["*"], "dst": ["*"]})).contains("grants nothing"));
    assert!(grant(json!({"src": ["*"], "dst": ["*"], "ip": ["tcp:99999"]})).contains("tcp:99999"));
    assert!(grant(json!({"src": ["*"], "dst": ["*"], "ip": ["90-80"]})).contains("90-80"));
    assert!(grant(json!({"src": ["autogroup:self"], "dst": ["*"], "ip": ["*"]})).contains("autogroup:self"));
    assert!(grant(json!({"src": ["nobody"], "dst": ["*"], "ip": ["*"]})).contains("nobody"));
    assert!(grant(json!({"src": ["*"], "dst": ["*"], "app": {"tailscale.com/cap/ssh": []}})).contains("own domain"));
    assert!(grant(json!({"src": ["*"], "dst": ["*"], "app": {"nodomain": []}})).contains("own domain"));
    assert!(refused(json!({"acls": []})).contains("acls"));
    assert!(refused(json!({"groups": {"eng": []}})).contains("group:x"));
}
