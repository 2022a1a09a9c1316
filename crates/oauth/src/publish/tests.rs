use time::macros::datetime;

use super::*;
use crate::tests_support::{alice, alice_with, bob, public_client};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const PUBLISHES: &str = r#"{"countersign":{"publish_clients":true}}"#;

#[test]
fn a_client_is_its_owners_until_an_administrator_publishes_it() {
    let client = public_client();
    assert_eq!(may_use(&client, &alice().owner(), None, NOW), Ok(Use::Owner));
    let unpublished = may_use(&client, &bob().owner(), Some(&alice()), NOW).unwrap_err();
    assert_eq!(
        (unpublished.user.as_str(), unpublished.node.as_str()),
        ("alice", "laptop.example.ts.net")
    );
    let published = publish(client, "root", NOW);
    let publication = published.published.clone().unwrap();
    assert_eq!((publication.by.as_str(), publication.at), ("root", NOW));
    assert_eq!(
        may_use(&published, &bob().owner(), None, NOW),
        Ok(Use::Published(publication))
    );
}

#[test]
fn a_grant_publishes_while_the_registering_node_holds_it_and_is_still_its_owners() {
    let client = public_client();
    let publisher = alice_with(&[PUBLISHES]);
    assert_eq!(
        may_use(&client, &bob().owner(), Some(&publisher), NOW),
        Ok(Use::Granted(Ground::Rule(1)))
    );
    let refused = |node: &Caller| may_use(&client, &bob().owner(), Some(node), NOW).is_err();
    assert!(refused(&alice()), "the grant was withdrawn");
    assert!(refused(&Caller {
        node_id: "nOther".into(),
        ..publisher.clone()
    }));
    assert!(
        refused(&Caller {
            who: bob().who,
            ..publisher.clone()
        }),
        "the node is somebody else's now"
    );
    assert!(refused(&alice_with(&[
        r#"{"countersign":{"publish_clients":true,"expires":"2026-11-24T00:00:00Z"}}"#
    ])));
    assert!(
        refused(&alice_with(&[
            PUBLISHES,
            r#"{"countersign":{"deny":true,"users":["alice"]}}"#
        ])),
        "whoever is denied everything publishes nothing"
    );
    assert!(refused(&alice_with(&[PUBLISHES, r#"{"deny":true}"#])));
}

#[test]
fn a_refusal_comes_with_both_ways_to_publish() {
    let servers = ["tag:internal-idp".to_owned()];
    let unpublished = may_use(&public_client(), &bob().owner(), Some(&alice()), NOW).unwrap_err();
    let remedies = unpublished.remedies(&servers);
    assert_eq!(remedies[0].add, "countersign client publish c1");
    assert_eq!(
        remedies[1].add,
        json!({
            "src": ["alice@"], "dst": ["tag:internal-idp"],
            "app": { "tailscale.com/cap/tsidp": [{ "countersign": { "publish_clients": true } }] },
        })
    );
    let gone = may_use(&public_client(), &bob().owner(), None, NOW).unwrap_err();
    assert_eq!(
        gone.remedies(&servers).len(),
        1,
        "no grant can publish for a node that is gone"
    );
}

#[test]
fn a_client_stored_before_there_was_publishing_is_read_as_unpublished() {
    let mut stored = serde_json::to_value(public_client()).unwrap();
    stored.as_object_mut().unwrap().remove("published");
    let read: Client = serde_json::from_value(stored).unwrap();
    assert_eq!((read.published, read.owner), (None, Owner::User(1)));
}

#[test]
fn each_publication_carries_what_was_given_under_it_whatever_the_clock_says() {
    let carries = |client: &Client, under| carries(client, &bob().owner(), None, under);
    let first = publish(public_client(), "root", NOW);
    let under_first = publication_for(&first, &bob().owner());
    assert_eq!(
        (under_first, publication_for(&first, &alice().owner())),
        (Some(1), None)
    );
    assert!(carries(&first, under_first) && !carries(&first, None));
    let back = take_back(first);
    assert_eq!(publication_for(&back, &bob().owner()), None);
    assert!(!carries(&back, under_first) && !carries(&back, None));
    // In the same second, and by a clock that was set back.
    for at in [NOW, NOW - time::Duration::hours(1)] {
        let again = publish(take_back(back.clone()), "root", at);
        assert!(!carries(&again, under_first));
        assert!(carries(&again, publication_for(&again, &bob().owner())));
    }
}
