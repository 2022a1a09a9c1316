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
    let publication = Publication {
        by: "root".into(),
        at: NOW,
    };
    let published = Client {
        published: Some(publication.clone()),
        ..client
    };
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
fn a_publication_counts_from_behind_the_second_in_which_an_earlier_one_was_taken_back() {
    let first = publish(public_client(), "root", NOW);
    assert_eq!(first.published.as_ref().unwrap().at, NOW);
    let back = take_back(first, NOW);
    assert_eq!((&back.published, back.unpublished_at), (&None, Some(NOW)));
    let at = |client: &Client| client.published.as_ref().unwrap().at;
    assert_eq!(at(&publish(back.clone(), "root", NOW)), NOW + Duration::seconds(1));
    assert_eq!(
        at(&publish(back.clone(), "root", NOW + Duration::hours(1))),
        NOW + Duration::hours(1)
    );
    let again = take_back(back, NOW + Duration::hours(2));
    assert_eq!(again.unpublished_at, Some(NOW), "there was nothing to take back");
}
