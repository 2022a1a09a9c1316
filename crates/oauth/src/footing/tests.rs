use core::time::Duration;

use time::macros::datetime;

use super::*;
use crate::{
    policy::Policy,
    publish,
    subject::Subject,
    tests_support::{alice, alice_with, bob, public_client, tagged, token_rules},
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const ALL: &str = r#"{"users":["*"],"resources":["*"]}"#;

/// What alice gave client `c1`: two scopes at one server.
fn given() -> Authorization {
    Authorization {
        client: ClientId::from_request("c1"),
        subject: Subject::of(&alice()),
        scopes: vec!["read".into(), "write".into()],
        resources: vec![Resource::parse("https://mcp.example/").unwrap()],
        auth_time: NOW,
        published_by: None,
        publication: None,
    }
}

fn here(caller: Caller) -> Presence {
    Presence::Here(Box::new(caller))
}

fn with_rules(rules: &[&str]) -> Presence {
    here(alice_with(rules))
}

fn judged(authorization: &Authorization, subject: &Presence) -> Verdict {
    let ground = Ground {
        subject,
        bound_to: None,
        published_by: None,
    };
    judge(
        &Footing::of(authorization, None),
        &ground,
        &token_rules().authorize,
        NOW,
    )
}

fn ends(verdict: &Verdict, words: &str) {
    match verdict {
        Verdict::Ends(why) => assert!(why.contains(words), "{why}"),
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn it_stands_as_long_as_its_rules_do() {
    assert_eq!(judged(&given(), &with_rules(&[ALL])), Verdict::Stands);
    let other_name = Caller {
        node_key: "nodekey:new".into(),
        node_name: "renamed.example.ts.net".into(),
        ..alice_with(&[ALL])
    };
    assert_eq!(
        judged(&given(), &here(other_name)),
        Verdict::Stands,
        "a new key is the same node"
    );
}

#[test]
fn it_ends_with_its_user_node_tags_and_rules() {
    let given = given();
    ends(&judged(&given, &Presence::Gone), "no longer in the tailnet");
    ends(&judged(&given, &Presence::CutOff), "no longer lets");
    ends(&judged(&given, &Presence::Expired), "expired");
    let as_tagged = Caller {
        node_id: alice().node_id,
        ..tagged()
    };
    ends(&judged(&given, &here(as_tagged)), "belongs to tag:app now");
    let bobs = Caller {
        node_id: alice().node_id,
        ..bob()
    };
    ends(&judged(&given, &here(bobs)), "belongs to bob now");
    ends(
        &judged(&given, &with_rules(&[])),
        "no rule of the tailnet policy allows alice",
    );
    let elsewhere = r#"{"users":["*"],"resources":["https://other.example/"]}"#;
    ends(&judged(&given, &with_rules(&[elsewhere])), "https://mcp.example");
    let denied = r#"{"countersign":{"deny":true,"users":["alice"]}}"#;
    ends(&judged(&given, &with_rules(&[ALL, denied])), "rule 2");
    let other_client = r#"{"countersign":{"users":["*"],"resources":["*"],"clients":["c2"]}}"#;
    ends(&judged(&given, &with_rules(&[other_client])), "no rule");
    let over = r#"{"countersign":{"users":["*"],"resources":["*"],"expires":"2026-11-24T12:00:00Z"}}"#;
    ends(&judged(&given, &with_rules(&[over])), "no rule");
}

#[test]
fn a_tagged_nodes_ends_when_it_becomes_a_persons() {
    let of_app = Authorization {
        subject: Subject::of(&tagged()),
        ..given()
    };
    let persons = Caller {
        node_id: tagged().node_id,
        ..alice_with(&[ALL])
    };
    ends(&judged(&of_app, &here(persons)), "belongs to alice now");
}

#[test]
fn a_node_that_forwards_for_others_or_was_shared_in_is_nobody() {
    let routing = Caller {
        routes: true,
        ..alice_with(&[ALL])
    };
    ends(&judged(&given(), &here(routing)), "advertises routes");
    let shared = Caller {
        shared: true,
        ..alice_with(&[ALL])
    };
    ends(&judged(&given(), &here(shared)), "shared in");
}

#[test]
fn a_withdrawn_scope_is_taken_out_and_the_rest_stays() {
    let reading = r#"{"countersign":{"users":["*"],"resources":["*"],"scopes":["read"]}}"#;
    assert_eq!(
        judged(&given(), &with_rules(&[reading])),
        Verdict::Narrowed(vec!["read".into()])
    );
    let no_writing = r#"{"countersign":{"deny":true,"scopes":["write"]}}"#;
    assert_eq!(
        judged(&given(), &with_rules(&[ALL, no_writing])),
        Verdict::Narrowed(vec!["read".into()])
    );
}

#[test]
fn what_the_netmap_cannot_say_ends_nothing() {
    assert_eq!(judged(&given(), &Presence::Unknown), Verdict::Stands);
    let old = Caller {
        netmap_age: Duration::from_secs(86_401),
        policy: Policy::default(),
        ..alice()
    };
    assert_eq!(judged(&given(), &here(old)), Verdict::Stands);
    assert_eq!(
        judged(&given(), &with_rules(&[r#"{"deny":true}"#])),
        Verdict::Stands,
        "a policy that cannot be read is mended one day"
    );
}

#[test]
fn a_published_client_is_lost_with_its_publisher() {
    let published = Authorization {
        published_by: Some(Publisher {
            node_id: tagged().node_id,
            owner: tagged().owner(),
        }),
        ..given()
    };
    let subject = with_rules(&[ALL]);
    let with = |publisher: &Presence| {
        let ground = Ground {
            subject: &subject,
            bound_to: None,
            published_by: Some(publisher),
        };
        judge(&Footing::of(&published, None), &ground, &token_rules().authorize, NOW)
    };
    let publishing = Caller {
        policy: Policy::parse([r#"{"countersign":{"publish_clients":true}}"#]),
        ..tagged()
    };
    assert_eq!(with(&here(publishing.clone())), Verdict::Stands);
    assert_eq!(with(&Presence::Unknown), Verdict::Stands);
    let anothers = Caller {
        node_id: tagged().node_id,
        policy: publishing.policy.clone(),
        ..bob()
    };
    let gone = [Presence::Gone, Presence::CutOff, Presence::Expired];
    for lost in [here(tagged()), here(anothers)].into_iter().chain(gone) {
        ends(&with(&lost), "no longer published");
    }
}

#[test]
fn a_grant_is_lost_with_the_node_that_redeemed_it_but_not_while_that_has_to_log_in_again() {
    let subject = with_rules(&[ALL]);
    let given = given();
    let footing = Footing::of(&given, Some("nServer"));
    assert_eq!(footing.nodes().collect::<Vec<_>>(), ["nAlice", "nServer"]);
    let with = |node: &Presence| {
        let ground = Ground {
            subject: &subject,
            bound_to: Some(node),
            published_by: None,
        };
        judge(&footing, &ground, &token_rules().authorize, NOW)
    };
    ends(&with(&Presence::Gone), "alone could use it");
    ends(&with(&Presence::CutOff), "alone could use it");
    assert_eq!(with(&Presence::Expired), Verdict::Stands);
    assert_eq!(with(&here(tagged())), Verdict::Stands);
    assert_eq!(
        Footing::of(&given, Some("nAlice")).bound_to,
        None,
        "that is the subject's own node"
    );
}

#[test]
fn only_somebody_elses_client_that_no_administrator_published_has_a_publisher() {
    let client = public_client();
    assert_eq!(Publisher::of(&client, &alice()), None);
    let publisher = Publisher::of(&client, &bob()).unwrap();
    assert_eq!(
        (publisher.node_id.as_str(), publisher.owner),
        ("nAlice", alice().owner())
    );
    let published = publish::publish(client, "root", NOW);
    assert_eq!(Publisher::of(&published, &bob()), None);
}

#[test]
fn the_audit_trail_names_the_rule_that_went_or_came() {
    let earlier = |rules: &[&str]| Earlier {
        policy: Policy::parse(rules.iter().copied()),
        at: NOW - time::Duration::minutes(1),
    };
    let behind = |subject: &Presence, before: Option<&Earlier>| {
        let ground = Ground {
            subject,
            bound_to: None,
            published_by: None,
        };
        let given = given();
        let footing = Footing::of(&given, None);
        rule_behind(&footing, &ground, before, None, &token_rules().authorize, NOW)
    };
    let mcp = r#"{"countersign":{"users":["alice"],"resources":["https://mcp.example/"],"scopes":["read","write"]}}"#;
    let before = earlier(&[r#"{"allow_dcr":true}"#, mcp]);
    let was = format!("the rule was {mcp}");
    assert_eq!(behind(&with_rules(&[]), Some(&before)), Some(was.clone()));
    let reading = mcp.replace(r#","write""#, "");
    assert_eq!(
        behind(&with_rules(&[&reading]), Some(&before)),
        Some(was),
        "by which it had the scope"
    );
    let denial = r#"{"countersign":{"deny":true,"scopes":["write"]}}"#;
    assert_eq!(
        behind(&with_rules(&[mcp, denial]), None),
        Some(format!("the rule is {denial}"))
    );
    let short = mcp.replace(r#""users""#, r#""expires":"2026-11-24T12:00:00Z","users""#);
    let over = behind(&with_rules(&[&short]), Some(&earlier(&[&short])));
    assert_eq!(over, Some(format!("the rule was {short}")), "its time is over");
    for unknown in [
        behind(&with_rules(&[]), None),
        behind(&Presence::Gone, Some(&before)),
        behind(&with_rules(&[mcp]), Some(&before)),
    ] {
        assert_eq!(unknown, None);
    }
    let long = format!(r#"{{"users":["{}"]}}"#, "ä".repeat(400));
    assert_eq!(quoted(&long).chars().count(), 301);
}

#[test]
fn the_audit_trail_names_the_rule_of_the_publisher() {
    let publishing = r#"{"countersign":{"publish_clients":true}}"#;
    let given = Authorization {
        published_by: Publisher::of(&public_client(), &bob()),
        ..given()
    };
    let (subject, publisher) = (with_rules(&[ALL]), with_rules(&[]));
    let ground = Ground {
        subject: &subject,
        bound_to: None,
        published_by: Some(&publisher),
    };
    let earlier = Earlier {
        policy: Policy::parse([ALL, publishing]),
        at: NOW,
    };
    let footing = Footing::of(&given, None);
    assert_eq!(
        rule_behind(&footing, &ground, None, Some(&earlier), &token_rules().authorize, NOW),
        Some(format!("the rule was {publishing}"))
    );
}
