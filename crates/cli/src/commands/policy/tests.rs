use countersign_oauth::explain::{Decider, Node};
use serde_json::json;

use super::*;

#[test]
fn a_person_reads_the_answer_the_rule_and_what_would_change_it() {
    let step = |kind, about: &str, allowed, why: &str| Step {
        kind,
        about: about.to_owned(),
        allowed,
        why: why.to_owned(),
        rule: None,
        remedies: Vec::new(),
    };
    let explained = Explanation {
        user: "alice".into(),
        nodes: vec![Node {
            name: "laptop.example.ts.net".into(),
            id: "n1".into(),
        }],
        rules: 1,
        allowed: false,
        steps: vec![
            Step {
                rule: Some(Decider {
                    number: 1,
                    text: r#"{"allow_dcr":true}"#.into(),
                    source: "rule 1 of 1 that the tailnet policy grants this node on this server".into(),
                }),
                ..step(
                    Kind::Registration,
                    "",
                    true,
                    "rule 1 of the tailnet policy lets alice register clients from this node",
                )
            },
            Step {
                remedies: vec![Remedy::grant(
                    "lets alice use it",
                    &["alice@".to_owned()],
                    &["tag:idp".to_owned()],
                    &json!({"users": ["alice"]}),
                )],
                ..step(
                    Kind::Resource,
                    "https://mcp.example",
                    false,
                    "no rule allows \u{1b}[2Jalice",
                )
            },
        ],
    };
    let expected = "\
REFUSED: alice on laptop.example.ts.net (n1), 1 rule granted

  yes  register  rule 1 of the tailnet policy lets alice register clients from this node
       rule 1 of 1 that the tailnet policy grants this node on this server:
         {\"allow_dcr\":true}
  no   resource  https://mcp.example: no rule allows ?[2Jalice
       in the tailnet policy, in \"grants\", this lets alice use it:
         {\"src\": [\"alice@\"], \"dst\": [\"tag:idp\"],
          \"app\": {\"tailscale.com/cap/tsidp\":[{\"users\":[\"alice\"]}]}}
";
    assert_eq!(render(&[explained]), expected);
}
