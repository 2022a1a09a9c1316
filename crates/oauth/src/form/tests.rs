use time::macros::datetime;

use super::*;
use crate::{
    tests_support::{Counting, alice, bob, tagged},
    ticket::Ticket,
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

#[test]
fn an_answer_comes_from_the_browser_node_and_user_that_saw_the_page() {
    let secret = ServerSecret::draw(&mut Counting(7));
    let shown = Form::show(Purpose::Me, &alice(), NOW, &secret, &mut Counting::default()).unwrap();
    let form = Form::open(&shown.ticket, &secret).unwrap();
    let admit =
        |cookie: Option<&str>, caller: &Caller, now| Form::admit(Some(form.clone()), false, cookie, caller, now);
    let cookie = Some(shown.cookie.reveal());
    assert_eq!(admit(cookie, &alice(), NOW), Ok(form.clone()));
    assert_eq!(admit(cookie, &alice(), NOW + FORM_LIFETIME), Err(FormError::TooOld));
    let spent = Form::admit(Some(form.clone()), true, cookie, &alice(), NOW);
    assert_eq!(spent, Err(FormError::TooOld));
    assert_eq!(Form::admit(None, false, cookie, &alice(), NOW), Err(FormError::TooOld));
    let here = |caller: Caller| Caller {
        node_id: "nAlice".into(),
        ..caller
    };
    let elsewhere = Caller {
        node_id: "nAlice2".into(),
        ..alice()
    };
    for (cookie, caller) in [
        (None, alice()),
        (Some(shown.ticket.as_str()), alice()),
        (cookie, here(bob())),
        (cookie, here(tagged())),
        (cookie, elsewhere),
    ] {
        assert_eq!(admit(cookie, &caller, NOW), Err(FormError::NotThePage), "{caller:?}");
    }
}

#[test]
fn nobody_else_makes_reads_or_changes_one() {
    let secret = ServerSecret::draw(&mut Counting(7));
    let purpose = Purpose::Logout(Logout {
        state: Some("a state that nobody else reads".into()),
        ..Logout::default()
    });
    let shown = Form::show(purpose, &alice(), NOW, &secret, &mut Counting::default()).unwrap();
    assert!(Form::open(&shown.ticket, &ServerSecret::draw(&mut Counting(8))).is_none());
    assert!(Ticket::open(&shown.ticket, &secret).is_none(), "under the same key");
    for at in 0..shown.ticket.len() {
        for other in ["A", "_", "=", ""] {
            let changed = [&shown.ticket[..at], other, &shown.ticket[at + 1..]].concat();
            assert!(
                changed == shown.ticket || Form::open(&changed, &secret).is_none(),
                "{other:?} at {at}"
            );
        }
    }
}
