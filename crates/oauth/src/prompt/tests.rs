use proptest::prelude::*;
use time::{Duration, macros::datetime};

use super::*;
use crate::{
    authorize,
    hint::Hint,
    tests_support::{Counting, alice, bob, public_client, token_rules},
    ticket::TICKET_LIFETIME,
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const LATER: OffsetDateTime = datetime!(2026-11-24 12:01 UTC);

/// A browser of alice's that has everything a code without a click needs.
struct Scene {
    caller: Caller,
    session: Option<Session>,
    remembered: Option<Remembered>,
    may_be_remembered: bool,
    navigates: bool,
    hint: Hint,
}

fn request(extra: &str) -> Request {
    let form = format!(
        "response_type=code&client_id=c1&redirect_uri=http%3A%2F%2Flocalhost%3A5000%2Fcb%3Fx%3D1&state=s&scope=openid\
         &code_challenge_method=S256&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM{extra}"
    );
    let params = Params::parse(form.as_bytes());
    match authorize::authorize(
        &params,
        None,
        Some(&public_client()),
        &alice(),
        None,
        &token_rules().authorize,
        NOW,
    ) {
        authorize::Outcome::Valid(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn scene() -> Scene {
    Scene {
        caller: alice(),
        session: Some(Session::begin(&alice(), NOW, &mut Counting::default()).0),
        remembered: Some(Remembered::to(&request(""), &alice(), NOW)),
        may_be_remembered: true,
        navigates: true,
        hint: Hint::Absent,
    }
}

impl Scene {
    fn decide(&self, extra: &str) -> Outcome {
        let browser = Browser {
            session: self.session.as_ref(),
            remembered: self.remembered.as_ref(),
            may_be_remembered: self.may_be_remembered,
            navigates: self.navigates,
            hint: &self.hint,
        };
        let rules = token_rules().authorize;
        decide(
            request(extra),
            &browser,
            &self.caller,
            &rules,
            LATER,
            &mut Counting::default(),
        )
    }

    /// `code`, `page` or the error.
    fn comes_to(&self, extra: &str) -> String {
        match self.decide(extra) {
            Outcome::Ask(_) => "page".into(),
            Outcome::Answered { .. } => "code".into(),
            Outcome::Refused(answer) => {
                assert!(answer.location.contains("iss=") && answer.location.contains("state=s"));
                answer.error.unwrap().code().as_str().into()
            }
        }
    }

    /// What comes of `prompt=none`, and of a request that leaves the page to us.
    fn both(&self) -> (String, String) {
        (self.comes_to("&prompt=none"), self.comes_to(""))
    }
}

fn errors(none: &str) -> (String, String) {
    (none.into(), "page".into())
}

#[test]
fn a_question_is_bound_to_node_owner_and_cookie() {
    let Outcome::Ask(question) = scene().decide("&prompt=consent") else {
        panic!()
    };
    let ticket = question.ticket;
    assert_eq!(ticket.node_id, "nAlice");
    assert_eq!(ticket.owner, alice().owner());
    assert!(ticket.cookie.verify(question.cookie_secret.reveal()));
    assert_eq!(ticket.expires_at, LATER + TICKET_LIFETIME);
}

#[test]
fn a_session_and_a_remembered_consent_give_a_code_that_rests_on_the_earlier_click() {
    assert_eq!(scene().both(), ("code".into(), "code".into()));
    let Outcome::Answered { answer, code } = scene().decide("&prompt=none&nonce=n2") else {
        panic!()
    };
    assert!(answer.location.starts_with("http://localhost:5000/cb?x=1&code="));
    assert_eq!(code.authorization.auth_time, NOW);
    assert_eq!(code.authorization.subject, Subject::of(&alice()));
    assert_eq!(code.nonce.as_deref(), Some("n2"));
}

#[test]
fn without_a_live_session_of_this_user_on_this_node_it_is_login_required() {
    let none = Scene {
        session: None,
        ..scene()
    };
    assert_eq!(none.both(), errors("login_required"));
    let over = Session::begin(&alice(), NOW - Duration::hours(12), &mut Counting::default()).0;
    let bobs = Session::begin(&bob(), NOW, &mut Counting::default()).0;
    for session in [over, bobs] {
        let other = Scene {
            session: Some(session),
            ..scene()
        };
        assert_eq!(other.both(), errors("login_required"));
    }
}

#[test]
fn without_a_consent_to_exactly_this_it_is_consent_required() {
    let none = Scene {
        remembered: None,
        ..scene()
    };
    assert_eq!(none.both(), errors("consent_required"));
    let withdrawn = Scene {
        may_be_remembered: false,
        ..scene()
    };
    assert_eq!(withdrawn.both(), errors("consent_required"));
    let of_another_scope = Scene {
        remembered: Some(Remembered::to(
            &Request {
                scopes: vec!["openid".into(), "email".into()],
                ..request("")
            },
            &alice(),
            NOW,
        )),
        ..scene()
    };
    assert_eq!(of_another_scope.both(), errors("consent_required"));
    let bobs = Scene {
        remembered: Some(Remembered::to(&request(""), &bob(), NOW)),
        ..scene()
    };
    assert_eq!(bobs.both(), errors("consent_required"));
}

#[test]
fn a_browser_that_does_not_say_it_navigates_gets_no_code_without_a_click() {
    let silent = Scene {
        navigates: false,
        ..scene()
    };
    assert_eq!(silent.both(), errors("interaction_required"));
}

#[test]
fn login_consent_and_an_old_click_always_show_the_page() {
    for extra in [
        "&prompt=login",
        "&prompt=consent",
        "&prompt=select_account",
        "&prompt=login+consent",
        "&prompt=create",
        "&max_age=0",
        "&max_age=59",
    ] {
        assert_eq!(scene().comes_to(extra), "page", "{extra}");
    }
    assert_eq!(scene().comes_to("&max_age=60"), "code");
    assert_eq!(scene().comes_to("&prompt=none&max_age=59"), "login_required");
    assert_eq!(scene().comes_to("&prompt=none&max_age=60"), "code");
}

#[test]
fn a_hint_at_somebody_else_is_refused_with_and_without_a_page() {
    let hint = |sub: &str| {
        let claims = format!(r#"{{"iss":"https://idp.example.ts.net","sub":"{sub}","aud":"c1"}}"#);
        Hint::verified(Some(claims.as_bytes()), "https://idp.example.ts.net")
    };
    let ours = Scene {
        hint: hint("userid:1"),
        ..scene()
    };
    assert_eq!(ours.both(), ("code".into(), "code".into()));
    for (hint, error) in [(hint("userid:2"), "login_required"), (Hint::Foreign, "invalid_request")] {
        let other = Scene { hint, ..scene() };
        for extra in ["", "&prompt=none", "&prompt=login"] {
            assert_eq!(other.comes_to(extra), error, "{extra}");
        }
    }
}

#[test]
fn words_of_prompt() {
    let read = |text: &str| Prompt::read(&Params::parse(format!("prompt={text}").as_bytes()));
    assert_eq!(read("").unwrap(), Prompt::AsNeeded);
    assert_eq!(read("none").unwrap(), Prompt::Never);
    assert_eq!(read("consent+login").unwrap(), Prompt::Login);
    for contradiction in ["none+login", "consent+none", "none+none"] {
        assert_eq!(read(contradiction).unwrap_err().code(), ErrorCode::InvalidRequest);
    }
}

proptest! {
    /// Whatever else is true: no code without a click unless every condition holds, and then only for the Caller.
    #[test]
    fn no_code_without_a_click_unless_everything_holds(
        holder in 0..4_u8, consent in 0..4_u8, may_be_remembered: bool, navigates: bool, hinted: bool, prompt in 0..5_usize,
        max_age in prop::option::of(0..120_u64),
    ) {
        let second_laptop = Caller { node_id: "nAlice2".into(), ..alice() };
        let session = |caller: &Caller, at| Session::begin(caller, at, &mut Counting::default()).0;
        let words = ["", "&prompt=none", "&prompt=login", "&prompt=consent", "&prompt=select_account"];
        let extra = words[prompt].to_owned() + &max_age.map(|age| format!("&max_age={age}")).unwrap_or_default();
        let other = Request { redirect_uri: "http://localhost:5001/cb?x=1".into(), ..request("") };
        let claims = r#"{"iss":"https://idp.example.ts.net","sub":"userid:2","aud":"c1"}"#;
        let scene = Scene {
            caller: alice(),
            session: match holder {
                0 => Some(session(&alice(), NOW)),
                1 => Some(session(&bob(), NOW)),
                2 => Some(session(&second_laptop, NOW)),
                _ => None,
            },
            remembered: match consent {
                0 => Some(Remembered::to(&request(""), &alice(), NOW)),
                1 => Some(Remembered::to(&request(""), &second_laptop, NOW)),
                2 => Some(Remembered::to(&other, &alice(), NOW)),
                _ => None,
            },
            may_be_remembered,
            navigates,
            hint: if hinted {
                Hint::verified(Some(claims.as_bytes()), "https://idp.example.ts.net")
            } else {
                Hint::Absent
            },
        };
        let everything = holder == 0
            && consent == 0
            && may_be_remembered
            && navigates
            && !hinted
            && prompt < 2
            && max_age.is_none_or(|age| age >= 60);
        match scene.decide(&extra) {
            Outcome::Answered { code, .. } => {
                prop_assert!(everything, "{extra}");
                prop_assert_eq!(code.authorization.subject, Subject::of(&alice()));
                prop_assert_eq!(code.authorization.auth_time, NOW);
            }
            Outcome::Ask(_) => prop_assert!(!everything && prompt != 1, "{extra}"),
            Outcome::Refused(_) => prop_assert!(!everything && (prompt == 1 || hinted), "{extra}"),
        }
    }
}
