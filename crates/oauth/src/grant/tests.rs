use time::macros::datetime;

use super::*;
use crate::{
    publish::{publication_for, publish, take_back},
    tests_support::{Counting, alice, bob, public_client},
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn grant_of(caller: &Caller) -> Grant {
    let subject = Subject::of(caller);
    Grant {
        id: GrantId::of(NodeTag::of(&subject.node_id), &[7; 16]),
        code: SecretHash::of("code"),
        authorization: Authorization {
            client: public_client().id,
            subject,
            scopes: Vec::new(),
            resources: Vec::new(),
            auth_time: NOW,
            published_by: None,
            publication: None,
        },
        node_id: caller.node_id.clone(),
        issued_at: NOW,
        expires_at: NOW + Duration::minutes(5),
        revoked: false,
        refresh: None,
    }
}

fn published() -> Client {
    publish(public_client(), "root", NOW)
}

#[test]
fn the_name_of_a_grant_begins_with_the_tag_of_its_node_and_hides_the_handle() {
    let (here, there) = (NodeTag::of("n1"), NodeTag::of("n2"));
    let id = GrantId::of(here, &[1; 16]);
    assert_eq!(id.as_str().len(), 30);
    assert_eq!(id.tag(), here.to_text());
    assert_ne!(here, there);
    assert_eq!(id.as_str()[8..], GrantId::of(there, &[1; 16]).as_str()[8..]);
    assert_ne!(id, GrantId::of(here, &[2; 16]));
    assert!(!id.as_str().contains(&URL_SAFE_NO_PAD.encode([1; 16])));
    let odd: GrantId = serde_json::from_str(r#""é""#).unwrap();
    assert_eq!(odd.tag(), "é", "whatever a token says");
}

#[test]
fn a_grant_of_the_owner_needs_no_publication() {
    let client = public_client();
    assert_eq!(client.owner, Owner::User(1));
    assert!(grant_of(&alice()).is_carried_by(&client));
    assert!(grant_of(&alice()).is_carried_by(&published()));
}

#[test]
fn a_grant_of_another_lasts_as_long_as_the_publication_it_was_made_under() {
    let mut his = grant_of(&bob());
    his.authorization.publication = publication_for(&published(), &bob().owner());
    assert!(his.is_carried_by(&published()));
    let back = take_back(published());
    assert!(!his.is_carried_by(&back), "taken back");
    assert!(!his.is_carried_by(&publish(back, "root", NOW)), "published again");
}

#[test]
fn a_grant_by_a_publishing_rule_is_the_rules() {
    let mut his = grant_of(&bob());
    his.authorization.published_by = Publisher::of(&public_client(), &bob());
    assert!(his.authorization.published_by.is_some());
    for client in [public_client(), published()] {
        assert!(his.is_carried_by(&client));
    }
}

#[test]
fn no_client_carries_what_was_granted_to_another() {
    let other = Client {
        id: ClientId::from_request("other"),
        ..public_client()
    };
    assert!(!grant_of(&alice()).is_carried_by(&other));
}

#[test]
fn a_short_grant_is_remembered_longer_than_it_is_good() {
    let mut grant = grant_of(&alice());
    assert_eq!(grant.forgotten_at(), NOW + GRANT_MEMORY);
    grant.expires_at = NOW + Duration::days(30);
    assert_eq!(grant.forgotten_at(), grant.expires_at);
    grant.revoked = true;
    assert_eq!(grant.forgotten_at(), NOW + GRANT_MEMORY, "nothing rests on it");
}

#[test]
fn the_name_of_a_code_is_read_back_and_nothing_else_is_one() {
    let id = CodeId::draw("nAlice", &mut Counting::default());
    let (code, text) = (
        id.to_text(),
        Secret::draw_after(&id.to_text(), &mut Counting::default()),
    );
    assert_eq!((code.len(), text.reveal().len()), (30, 73));
    assert_eq!(CodeId::of_code(text.reveal()), Some(id));
    assert_eq!(CodeId::try_from(code.clone()), Ok(id));
    for other in [
        "",
        "x",
        &code,
        &text.reveal()[1..],
        &format!("{}x", text.reveal()),
        &"é".repeat(36),
        &"*".repeat(73),
    ] {
        assert_eq!(CodeId::of_code(other), None, "{other}");
    }
}
