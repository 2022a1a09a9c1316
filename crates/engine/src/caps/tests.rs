use super::*;
use crate::filter::Filter;

const US: &str = "100.64.0.1";
const US6: &str = "fd7a:115c:a1e0::1";
const ALICE: &str = "100.64.0.2";
const ALICE6: &str = "fd7a:115c:a1e0::2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn filter(rules: &str) -> Filter {
    let rules: Vec<FilterRule> = serde_json::from_str(rules).unwrap();
    Filter::new(&rules, &[ip(US), ip(US6)])
}

fn values(caps: &PeerCaps, name: &str) -> Vec<String> {
    caps.values(name).map(|value| value.get().to_owned()).collect()
}

#[test]
fn values_keep_the_order_of_the_rules_and_duplicates() {
    let filter = filter(
        r#"[
        {"SrcIPs": ["100.64.0.2"], "CapGrant": [{"Dsts": ["100.64.0.1/32"],
            "Caps": ["example.com/a"], "CapMap": {"example.com/a": [{"x": 1}], "example.com/b": null}}]},
        {"SrcIPs": ["*"], "CapGrant": [{"Dsts": ["100.64.0.0/10"], "CapMap": {"example.com/a": [{"x": 1}, 2]}}]},
        {"SrcIPs": ["100.64.0.3"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "Caps": ["example.com/c"]}]}
    ]"#,
    );
    let caps = filter.caps(ip(ALICE), ip(US));
    assert_eq!(caps.names().collect::<Vec<_>>(), ["example.com/a", "example.com/b"]);
    assert_eq!(values(&caps, "example.com/a"), [r#"{"x": 1}"#, r#"{"x": 1}"#, "2"]);
    assert!(caps.has("example.com/b") && values(&caps, "example.com/b").is_empty());
    assert!(!caps.has("example.com/c"));
    assert!(filter.caps(ip("100.64.0.9"), ip(US6)).is_empty());
}

#[test]
fn a_grant_at_our_other_address_is_invisible_to_whois_only() {
    let filter = filter(
        r#"[{"SrcIPs": ["100.64.0.2", "fd7a:115c:a1e0::2"],
             "CapGrant": [{"Dsts": ["fd7a:115c:a1e0::1/128"], "Caps": ["example.com/a"]}]}]"#,
    );
    assert!(filter.caps(ip(ALICE6), ip(US6)).has("example.com/a"));
    assert!(filter.whois_caps(ip(ALICE)).is_empty());
    assert!(filter.whois_caps(ip(ALICE6)).has("example.com/a"));
}

#[test]
fn a_node_capability_as_source_grants_nothing() {
    let filter = filter(r#"[{"SrcIPs": ["cap:x"], "CapGrant": [{"Dsts": ["0.0.0.0/0"], "Caps": ["example.com/a"]}]}]"#);
    assert!(filter.caps(ip(ALICE), ip(US)).is_empty());
}

#[test]
fn a_value_is_found_whoever_holds_it() {
    let filter = filter(
        r#"[
        {"SrcIPs": ["100.64.0.2"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"example.com/a": [1]}}]},
        {"SrcIPs": ["100.64.0.3"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"example.com/a": [2], "example.com/b": [3]}}]}
    ]"#,
    );
    let granted: Vec<&str> = filter.granted("example.com/a").map(RawValue::get).collect();
    assert_eq!(granted, ["1", "2"]);
}
