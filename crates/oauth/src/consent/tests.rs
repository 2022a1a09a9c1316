use time::{Duration, macros::datetime};

use super::*;
use crate::{
    authorize::{self, authorize},
    params::Params,
    tests_support::{Counting, alice, alice_with, bob, public_client, token_rules},
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

/// A ticket for alice and the cookie that was set with it.
fn shown(extra: &str, caller: &Caller) -> (Ticket, String) {
    let form = format!(
        "response_type=code&client_id=c1&redirect_uri=http%3A%2F%2Flocalhost%3A5000%2Fcb%3Fx%3D1&state=s&code_challenge_method=S256\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM{extra}"
    );
    let rules = token_rules().authorize;
    let params = Params::parse(form.as_bytes());
    match authorize(
        &params,
        Some(&public_client()),
        caller,
        None,
        &rules,
        NOW,
        &mut Counting::default(),
    ) {
        authorize::Outcome::Ask(question) => (question.ticket, question.cookie_secret.reveal().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn click(choice: Choice, ticket: &Ticket, cookie: Option<&str>, caller: &Caller, now: OffsetDateTime) -> Outcome {
    let client = public_client();
    let click = Click {
        choice,
        ticket: Some(ticket),
        cookie,
        client: Some(&client),
        caller,
        registrant: None,
    };
    decide(&click, &token_rules().authorize, now, &mut Counting::default())
}

#[test]
fn a_click_gives_a_code_bound_to_everything_that_was_shown() {
    let (ticket, cookie) = shown("&nonce=n&scope=openid", &alice());
    let Outcome::Answered { answer, code } = click(Choice::Allow, &ticket, Some(&cookie), &alice(), NOW) else {
        panic!()
    };
    let code = code.unwrap();
    assert!(
        answer.location.starts_with("http://localhost:5000/cb?x=1&code="),
        "{}",
        answer.location
    );
    assert!(
        answer
            .location
            .ends_with("&iss=https%3A%2F%2Fidp.example.ts.net&state=s"),
        "{}",
        answer.location
    );
    assert_eq!(code.expires_at, NOW + Duration::seconds(60));
    assert_eq!(code.authorization.subject, Subject::of(&alice()));
    assert_eq!(
        (code.authorization.nonce.as_deref(), code.authorization.auth_time),
        (Some("n"), NOW)
    );
    let text = answer
        .location
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    assert!(code.hash.verify(text));
}

#[test]
fn declining_sends_an_error_and_makes_no_code() {
    let (ticket, cookie) = shown("", &alice());
    let Outcome::Answered { answer, code } = click(Choice::Deny, &ticket, Some(&cookie), &alice(), NOW) else {
        panic!()
    };
    assert!(code.is_none() && answer.location.contains("error=access_denied"));
}

#[test]
fn another_browser_another_node_and_another_time_get_nothing() {
    let (ticket, cookie) = shown("", &alice());
    for (cookie, caller, now) in [
        (None, alice(), NOW),
        (Some("forged"), alice(), NOW),
        (Some(cookie.as_str()), bob(), NOW),
        (
            Some(cookie.as_str()),
            Caller {
                node_id: "nAlice2".into(),
                ..alice()
            },
            NOW,
        ),
        (Some(cookie.as_str()), alice(), NOW + authorize::TICKET_LIFETIME),
    ] {
        assert!(matches!(
            click(Choice::Allow, &ticket, cookie, &caller, now),
            Outcome::Page(_)
        ));
    }
}

#[test]
fn policy_is_asked_again_at_the_click() {
    let allowed = alice_with(&[r#"{"users":["alice"],"resources":["*"]}"#]);
    let (ticket, cookie) = shown("&resource=https://mcp.example", &allowed);
    let Outcome::Answered { answer, code } = click(Choice::Allow, &ticket, Some(&cookie), &alice(), NOW) else {
        panic!()
    };
    assert!(code.is_none() && answer.location.contains("error=access_denied"));
    assert!(matches!(
        click(Choice::Allow, &ticket, Some(&cookie), &allowed, NOW),
        Outcome::Answered { code: Some(_), .. }
    ));
}
