use time::macros::datetime;

use super::*;
use crate::tests_support::{alice, alice_with, bob, public_client, request};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

#[test]
fn a_consent_covers_the_same_question_and_no_other() {
    let remembered = Remembered::to(&request(), &alice(), NOW);
    let covers = |request: &Request| remembered.covers(request, &alice(), NOW);
    assert!(covers(&request()));
    assert!(covers(&Request {
        state: None,
        nonce: Some("n".into()),
        ..request()
    }));
    assert!(covers(&Request {
        scopes: vec!["mcp".into(), "openid".into()],
        ..request()
    }));
    let resource = |text| Resource::parse(text).unwrap();
    for other in [
        Request {
            client: ClientId::from_request("c2"),
            ..request()
        },
        Request {
            redirect_uri: "https://app.example/cb2".into(),
            ..request()
        },
        Request {
            scopes: vec!["openid".into()],
            ..request()
        },
        Request {
            scopes: vec!["openid".into(), "mcp".into(), "admin".into()],
            ..request()
        },
        Request {
            scopes: vec!["openidmcp".into()],
            ..request()
        },
        Request {
            resources: vec![],
            ..request()
        },
        Request {
            resources: vec![resource("https://mcp.example/b")],
            ..request()
        },
        Request {
            resources: vec![resource("https://mcp.example/a"), resource("https://mcp.example/b")],
            ..request()
        },
    ] {
        assert!(!covers(&other), "{other:?}");
    }
}

#[test]
fn a_consent_is_its_users_on_its_node_until_it_is_forgotten() {
    let remembered = Remembered::to(&request(), &alice(), NOW);
    assert!(!remembered.covers(&request(), &alice(), NOW + REMEMBERED_LIFETIME));
    let second_laptop = Caller {
        node_id: "nAlice2".into(),
        ..alice()
    };
    let handed_over = Caller {
        node_id: "nAlice".into(),
        ..bob()
    };
    for other in [bob(), second_laptop, handed_over] {
        assert!(!remembered.covers(&request(), &other, NOW));
    }
}

#[test]
fn a_consent_of_another_lasts_as_long_as_the_publication_it_was_given_under() {
    let published = publish::publish(public_client(), "root", NOW);
    let request = Request {
        publication: publish::publication_for(&published, &bob().owner()),
        ..request()
    };
    let his = Remembered::to(&request, &bob(), NOW);
    assert!(his.is_carried_by(&published));
    let back = publish::take_back(published);
    assert!(!his.is_carried_by(&back), "taken back");
    let again = publish::publish(back, "root", NOW);
    assert!(!his.is_carried_by(&again), "published again");
    let hers = Remembered::to(&request, &alice(), NOW);
    assert!(hers.is_carried_by(&again), "the owner's own");
}

#[test]
fn only_published_clients_behind_a_web_server_are_remembered() {
    let publisher = alice_with(&[r#"{"countersign":{"publish_clients":true}}"#]);
    let (client, web) = (public_client(), "https://app.example/cb");
    assert!(may_be(&client, Some(&publisher), web, NOW));
    assert!(
        !may_be(&client, Some(&alice()), web, NOW),
        "an unpublished registration"
    );
    assert!(!may_be(&client, None, web, NOW));
    let by_an_admin = publish::publish(client, "root", NOW);
    assert!(may_be(&by_an_admin, None, web, NOW));
    for local in [
        "http://localhost:5000/cb",
        "http://127.0.0.1/cb",
        "https://localhost:8443/cb",
        "https://127.0.0.1/cb",
        "https://127.9.9.9/cb",
        "https://[::1]/cb",
        "https://app.localhost./cb",
        "cursor://x/cb",
        "nonsense",
    ] {
        assert!(!may_be(&by_an_admin, Some(&publisher), local, NOW), "{local}");
    }
}
