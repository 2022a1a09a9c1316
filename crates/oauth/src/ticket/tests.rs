use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use time::macros::datetime;

use super::*;
use crate::{
    resource::Resource,
    sealed::MAX_LEN,
    tests_support::{self, Counting, alice, bob, tagged},
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn request() -> Request {
    Request {
        redirect_uri: "http://localhost:5000/cb".into(),
        state: Some("a state that nobody else reads".into()),
        nonce: Some("n".into()),
        max_age: Some(60),
        ..tests_support::request()
    }
}

fn ticket() -> Ticket {
    Ticket::issue(
        request(),
        SecretHash::of("cookie"),
        &alice(),
        NOW,
        &mut Counting::default(),
    )
}

fn secret() -> ServerSecret {
    ServerSecret::draw(&mut Counting(7))
}

fn sealed() -> String {
    ticket().seal(&secret(), &mut Counting(100)).unwrap()
}

#[test]
fn it_opens_as_it_was_sealed_and_shows_nothing_before() {
    let opened = Ticket::open(&sealed(), &secret()).unwrap();
    assert_eq!(opened, ticket());
    assert_eq!(opened.expires_at, NOW + TICKET_LIFETIME);
    let raw = URL_SAFE_NO_PAD.decode(sealed()).unwrap();
    let holds = |text: &str| raw.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds("state") && !holds("nAlice") && !holds("localhost"));
}

#[test]
fn every_flipped_bit_and_every_lost_byte_makes_it_nothing() {
    let raw = URL_SAFE_NO_PAD.decode(sealed()).unwrap();
    for at in 0..raw.len() {
        for bit in 0..8 {
            let mut flipped = raw.clone();
            flipped[at] ^= 1 << bit;
            assert!(
                Ticket::open(&URL_SAFE_NO_PAD.encode(flipped), &secret()).is_none(),
                "{at}.{bit}"
            );
        }
        assert!(
            Ticket::open(&URL_SAFE_NO_PAD.encode(&raw[..at]), &secret()).is_none(),
            "{at}"
        );
        assert!(
            Ticket::open(&URL_SAFE_NO_PAD.encode(&raw[at + 1..]), &secret()).is_none(),
            "{at}"
        );
    }
}

#[test]
fn every_changed_character_makes_it_nothing() {
    let text = sealed();
    for at in 0..text.len() {
        for other in ["A", "_", "=", " ", "é", ""] {
            let changed = [&text[..at], other, &text[at + 1..]].concat();
            if changed != text {
                assert!(Ticket::open(&changed, &secret()).is_none(), "{other:?} at {at}");
            }
        }
    }
    for other in ["", "A", "ticket", "\0", &"A".repeat(MAX_LEN), &"A".repeat(MAX_LEN + 1)] {
        assert!(Ticket::open(other, &secret()).is_none());
    }
}

#[test]
fn no_other_server_opens_it() {
    for other in 0..7 {
        assert!(Ticket::open(&sealed(), &ServerSecret::draw(&mut Counting(other))).is_none());
    }
}

/// Also a thing that this server sealed for another purpose, under the same key, is no ticket.
#[test]
fn another_sealed_thing_is_no_ticket() {
    let other = sealed::seal(b"something else", &ticket(), &secret(), &mut Counting(5)).unwrap();
    assert!(Ticket::open(&other, &secret()).is_none());
    assert_eq!(sealed::open(b"something else", &other, &secret()), Some(ticket()));
}

#[test]
fn two_pages_of_one_request_have_two_tickets() {
    let mut rng = Counting::default();
    let first = Ticket::issue(request(), SecretHash::of("cookie"), &alice(), NOW, &mut rng);
    let second = Ticket::issue(request(), SecretHash::of("cookie"), &alice(), NOW, &mut rng);
    assert_ne!(first.code, second.code);
    assert_ne!(
        first.seal(&secret(), &mut rng).unwrap(),
        first.seal(&secret(), &mut rng).unwrap()
    );
}

#[test]
fn it_is_of_one_node_and_one_owner() {
    assert!(ticket().is_of(&alice()));
    assert!(!ticket().is_of(&bob()), "another node");
    let same_node = |who: Caller| Caller {
        node_id: "nAlice".into(),
        ..who
    };
    assert!(!ticket().is_of(&same_node(bob())), "the node changed hands");
    assert!(!ticket().is_of(&same_node(tagged())), "the node was tagged");
}

/// The longest of everything that may be asked for at once is far below the limit, unless it needs escaping.
#[test]
fn every_sensible_request_fits_and_what_does_not_is_refused() {
    let mut largest = Request {
        redirect_uri: format!("https://app.example/{}", "r".repeat(2028)),
        state: Some("s".repeat(2048)),
        scopes: (0..64).map(|n| format!("scope-{n:02}-of-a-usual-length")).collect(),
        resources: (0..8)
            .map(|n| Resource::parse(&format!("https://mcp{n}.example/{}", "p".repeat(1000))).unwrap())
            .collect(),
        nonce: Some("n".repeat(512)),
        ..request()
    };
    let seal = |request: &Request| {
        let cookie = SecretHash::of("cookie");
        Ticket::issue(request.clone(), cookie, &alice(), NOW, &mut Counting::default())
            .seal(&secret(), &mut Counting(100))
    };
    let text = seal(&largest).unwrap();
    assert!(Ticket::open(&text, &secret()).is_some());
    largest.scopes = (0..64).map(|n| format!("{n}{}", "x".repeat(200))).collect();
    let error = seal(&largest).unwrap_err();
    assert!(matches!(error, SealError::TooLong));
    assert!(error.to_string().contains("shorten state, scope or resource"));
}
