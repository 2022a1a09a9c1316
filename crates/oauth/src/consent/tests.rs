use time::{Duration, macros::datetime};

use super::*;
use crate::{
    authorize::{self, authorize},
    hint::Hint,
    params::Params,
    prompt,
    redirect::RedirectUri,
    session::SESSION_LIFETIME,
    subject::Subject,
    tests_support::{Counting, alice, alice_with, bob, public_client, tagged, token_rules},
    ticket::TICKET_LIFETIME,
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
    let client = public_client();
    let authorize::Outcome::Valid(request) = authorize(&params, None, Some(&client), caller, None, &rules, NOW) else {
        panic!()
    };
    let browser = prompt::Browser {
        session: None,
        remembered: None,
        may_be_remembered: false,
        navigates: false,
        hint: &Hint::Absent,
    };
    match prompt::decide(*request, &browser, caller, &rules, NOW, &mut Counting::default()) {
        prompt::Outcome::Ask(question) => (question.ticket, question.cookie_secret.reveal().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn click(choice: Choice, ticket: &Ticket, cookie: Option<&str>, caller: &Caller, now: OffsetDateTime) -> Outcome {
    let client = public_client();
    let click = Click {
        pushed: None,
        choice,
        remember: true,
        ticket: Some(ticket),
        answered: false,
        cookie,
        session: None,
        client: Some(&client),
        caller,
        registrant: None,
    };
    decide(&click, &token_rules().authorize, now, &mut Counting::default())
}

#[test]
fn a_click_gives_a_code_bound_to_everything_that_was_shown() {
    let (ticket, cookie) = shown("&nonce=n&scope=openid", &alice());
    let Outcome::Allowed { answer, records } = click(Choice::Allow, &ticket, Some(&cookie), &alice(), NOW) else {
        panic!()
    };
    assert!(
        records.remembered.is_none(),
        "an unpublished client is never remembered"
    );
    let code = records.code;
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
    assert_eq!((code.nonce.as_deref(), code.authorization.auth_time), (Some("n"), NOW));
    let text = answer
        .location
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    assert!(code.hash.verify(text));
    assert_eq!(code.id, ticket.code);
    assert!(text.starts_with(&code.id.to_text()));
}

#[test]
fn declining_sends_an_error_and_leaves_a_code_that_nobody_has() {
    let (ticket, cookie) = shown("", &alice());
    let Outcome::Refused { answer, declined } = click(Choice::Deny, &ticket, Some(&cookie), &alice(), NOW) else {
        panic!()
    };
    assert!(answer.location.contains("error=access_denied"));
    assert!(!answer.location.contains("code="));
    assert_eq!(declined.id, ticket.code);
    assert!(declined.spent && declined.authorization.scopes.is_empty());
    assert!(declined.forgotten_at() > ticket.expires_at);
}

#[test]
fn a_ticket_that_was_answered_or_that_is_none_of_ours_gets_nothing() {
    let (ticket, cookie) = shown("", &alice());
    let client = public_client();
    for choice in [Choice::Allow, Choice::Deny] {
        for (ticket, answered) in [(Some(&ticket), true), (None, false), (None, true)] {
            let click = Click {
                pushed: None,
                choice,
                remember: false,
                ticket,
                answered,
                cookie: Some(&cookie),
                session: None,
                client: Some(&client),
                caller: &alice(),
                registrant: None,
            };
            let outcome = decide(&click, &token_rules().authorize, NOW, &mut Counting::default());
            assert!(matches!(outcome, Outcome::Page(ConsentError::TooOld)), "{choice:?}");
        }
    }
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
                node_id: "nAlice".into(),
                ..bob()
            },
            NOW,
        ),
        (
            Some(cookie.as_str()),
            Caller {
                node_id: "nAlice".into(),
                ..tagged()
            },
            NOW,
        ),
        (
            Some(cookie.as_str()),
            Caller {
                node_id: "nAlice2".into(),
                ..alice()
            },
            NOW,
        ),
        (Some(cookie.as_str()), alice(), NOW + TICKET_LIFETIME),
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
    let Outcome::Refused { answer, declined } = click(Choice::Allow, &ticket, Some(&cookie), &alice(), NOW) else {
        panic!()
    };
    assert!(answer.location.contains("error=access_denied"));
    assert!(declined.spent && declined.id == ticket.code);
    assert!(matches!(
        click(Choice::Allow, &ticket, Some(&cookie), &allowed, NOW),
        Outcome::Allowed { .. }
    ));
}

#[test]
fn nobody_is_sent_to_an_address_that_was_taken_back_meanwhile() {
    let (ticket, cookie) = shown("", &alice());
    let client = Client {
        redirect_uris: vec![RedirectUri::parse("http://localhost/other").unwrap()],
        ..public_client()
    };
    for choice in [Choice::Allow, Choice::Deny] {
        let click = Click {
            pushed: None,
            choice,
            remember: false,
            ticket: Some(&ticket),
            answered: false,
            cookie: Some(&cookie),
            session: None,
            client: Some(&client),
            caller: &alice(),
            registrant: None,
        };
        let outcome = decide(&click, &token_rules().authorize, NOW, &mut Counting::default());
        assert!(
            matches!(outcome, Outcome::Page(ConsentError::Page(PageError::Redirect))),
            "{choice:?}: {outcome:?}"
        );
    }
}

/// What a click leaves behind in a browser with this session, a while after the page was shown.
fn records(extra: &str, session: Option<&Session>) -> Records {
    let (ticket, cookie) = shown(extra, &alice());
    let client = public_client();
    let click = Click {
        pushed: None,
        choice: Choice::Allow,
        remember: false,
        ticket: Some(&ticket),
        answered: false,
        cookie: Some(&cookie),
        session,
        client: Some(&client),
        caller: &alice(),
        registrant: None,
    };
    match decide(&click, &token_rules().authorize, LATER, &mut Counting::default()) {
        Outcome::Allowed { records, .. } => *records,
        other => panic!("{other:?}"),
    }
}

const LATER: OffsetDateTime = datetime!(2026-11-24 12:01 UTC);

#[test]
fn a_click_begins_a_session_unless_an_earlier_one_serves() {
    let earlier = Session::begin(&alice(), NOW, &mut Counting::default()).0;
    let first = records("", None);
    let (session, secret) = first.session.unwrap();
    assert!(session.is_live(&alice(), LATER) && session.hash.verify(secret.reveal()));
    assert_eq!(
        (session.auth_time, session.expires_at),
        (LATER, LATER + SESSION_LIFETIME)
    );
    assert_eq!(first.code.authorization.auth_time, LATER);

    for extra in ["", "&prompt=consent", "&max_age=60"] {
        let rests = records(extra, Some(&earlier));
        assert!(rests.session.is_none(), "{extra}");
        assert_eq!(rests.code.authorization.auth_time, NOW, "{extra}");
    }
    for extra in ["&prompt=login", "&max_age=0", "&max_age=59"] {
        let renewed = records(extra, Some(&earlier));
        assert_eq!(renewed.code.authorization.auth_time, LATER, "{extra}");
        assert_eq!(renewed.session.unwrap().0.auth_time, LATER, "{extra}");
    }
    let bobs = Session::begin(&bob(), NOW, &mut Counting::default()).0;
    let other = records("", Some(&bobs));
    assert_eq!(
        other.code.authorization.subject,
        Subject::of(&alice()),
        "never the cookie's"
    );
    assert_eq!(other.code.authorization.auth_time, LATER);
}

#[test]
fn consent_is_remembered_on_the_users_wish_for_a_published_client_behind_a_web_server() {
    let publisher = alice_with(&[r#"{"countersign":{"publish_clients":true}}"#]);
    let remembered = |uri: &str, remember: bool, registrant: Option<&Caller>| {
        let (mut ticket, cookie) = shown("&scope=openid", &alice());
        ticket.request.redirect_uri = uri.into();
        let client = Client {
            redirect_uris: vec![RedirectUri::parse(uri).unwrap()],
            ..public_client()
        };
        let click = Click {
            pushed: None,
            choice: Choice::Allow,
            remember,
            ticket: Some(&ticket),
            answered: false,
            cookie: Some(&cookie),
            session: None,
            client: Some(&client),
            caller: &alice(),
            registrant,
        };
        match decide(&click, &token_rules().authorize, NOW, &mut Counting::default()) {
            Outcome::Allowed { records, .. } => {
                records.remembered.map(|had| had.covers(&ticket.request, &alice(), NOW))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(remembered("https://app.example/cb", true, Some(&publisher)), Some(true));
    assert_eq!(remembered("https://app.example/cb", false, Some(&publisher)), None);
    assert_eq!(remembered("https://app.example/cb", true, None), None);
    assert_eq!(remembered("http://localhost/cb", true, Some(&publisher)), None);
    assert_eq!(remembered("cursor://app/cb", true, Some(&publisher)), None);
}
