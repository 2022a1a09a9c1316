//! What a person and a script see.

use super::*;

pub(crate) fn sample() -> StatusReport {
    let peer = |name: &str, path: PathReport, connections| PeerReport {
        name: format!("{name}.tail.example"),
        stable_id: format!("n-{name}"),
        owner: format!("{name}@example.com"),
        addresses: vec!["100.64.0.7".parse().unwrap()],
        rx_bytes: connections * 1500,
        tx_bytes: connections * 5_000_000,
        path,
        connections,
        dropped_policy: 0,
    };
    StatusReport {
        version: "0.1.0".to_owned(),
        pid: 42,
        state: State::Serving,
        ready: true,
        ready_after_ms: Some(283),
        uptime_ms: 11_700_000,
        login_url: None,
        problem: None,
        issuer: Some("https://idp.tail.example".to_owned()),
        node: Some(NodeReport {
            name: "idp.tail.example".to_owned(),
            stable_id: "n1".to_owned(),
            addresses: vec!["100.64.0.3".parse().unwrap(), "fd7a:115c:a1e0::3".parse().unwrap()],
            tags: vec!["tag:internal-idp".to_owned()],
            home_region: Some(999),
            udp_port: 41641,
        }),
        control: ControlReport {
            url: "https://hs.example/".to_owned(),
            connected: true,
            netmap_age_ms: Some(12_000),
        },
        peers: vec![
            peer("carol", PathReport::Idle, 0),
            peer("bob", PathReport::Derp { region: 999 }, 1),
            peer(
                "alice",
                PathReport::Direct {
                    address: "192.0.2.7:41641".to_owned(),
                },
                3,
            ),
        ],
        counters: BTreeMap::from([
            ("filter_dropped".to_owned(), 4),
            ("requests".to_owned(), 1024),
            ("zero".to_owned(), 0),
        ]),
    }
}

#[test]
fn the_report_for_a_person() {
    let expected = "\
● serving for 3 h 15 min, ready after 283 ms   countersign 0.1.0, pid 42

  issuer     https://idp.tail.example
  node       idp.tail.example
  addresses  100.64.0.3  fd7a:115c:a1e0::3
  tags       tag:internal-idp
  home relay region 999
  control    https://hs.example/, connected, netmap 12 s old
  peers      2 active of 3

  alice  alice@example.com  100.64.0.7  direct 192.0.2.7:41641, 3 connections, 4 KiB in, 14 MiB out
  bob    bob@example.com    100.64.0.7  relay region 999, 1 connection, 1 KiB in, 4 MiB out
  carol  carol@example.com  100.64.0.7  idle

  filter dropped     4
  requests        1024
";
    assert_eq!(render(&sample(), false), expected);
}

#[test]
fn colour_changes_nothing_but_colour() {
    let mut plain = render(&sample(), true);
    while let Some(start) = plain.find('\x1b') {
        let end = plain[start..].find('m').unwrap();
        plain.replace_range(start..=start + end, "");
    }
    assert_eq!(plain, render(&sample(), false));
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let mut report = sample();
    report.peers[0].name = "\x1b]0;owned\x07evil".to_owned();
    assert!(!render(&report, false).contains(['\x1b', '\x07']));
}

#[test]
fn a_login_url_and_a_problem_stand_at_the_top() {
    let report = StatusReport {
        state: State::NeedsLogin,
        login_url: Some("https://hs.example/register/abc".to_owned()),
        problem: Some("nobody has admitted this node".to_owned()),
        ..StatusReport::default()
    };
    let text = render(&report, false);
    assert!(text.starts_with("● waiting for a login for 0 ms"), "{text}");
    assert!(text.contains("open this to admit the node: https://hs.example/register/abc"));
    assert!(text.contains("nobody has admitted this node"));
}

#[test]
fn many_peers_are_cut_and_the_rest_counted() {
    let mut report = sample();
    report.peers = (0..30).map(|_| report.peers[0].clone()).collect();
    assert!(render(&report, false).contains("and 10 more: status --json lists all"));
}

#[test]
fn the_names_in_json_are_those_that_scripts_know() {
    let json = serde_json::to_value(sample()).unwrap();
    assert_eq!(json["state"], "serving");
    assert_eq!(json["ready_after_ms"], 283);
    assert_eq!(json["node"]["name"], "idp.tail.example");
    assert_eq!(json["control"]["netmap_age_ms"], 12_000);
    assert_eq!(
        json["peers"][1]["path"],
        serde_json::json!({"kind": "derp", "region": 999})
    );
    assert_eq!(
        json["peers"][2]["path"],
        serde_json::json!({"kind": "direct", "address": "192.0.2.7:41641"})
    );
    assert_eq!(json["peers"][0]["path"], serde_json::json!({"kind": "idle"}));
    assert_eq!(serde_json::from_value::<StatusReport>(json).unwrap(), sample());
}

#[test]
fn spans_show_two_units() {
    let expected = [
        (7, "7 ms"),
        (1999, "1.9 s"),
        (59_999, "59 s"),
        (61_000, "1 min 1 s"),
        (90_000_000, "1 d 1 h"),
    ];
    for (ms, text) in expected {
        assert_eq!(render::span(ms), text);
    }
}
