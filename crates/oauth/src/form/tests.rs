use time::macros::datetime;

use super::*;
use crate::tests_support::{Counting, alice, bob, tagged};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

#[test]
fn an_answer_comes_from_the_browser_node_and_user_that_saw_the_page() {
    let shown = Form::show(Purpose::Me, &alice(), NOW, &mut Counting::default());
    let admit =
        |cookie: Option<&str>, caller: &Caller, now| Form::admit(Some(&shown.form), cookie, caller, now).map(drop);
    let cookie = Some(shown.cookie.reveal());
    assert!(shown.form.hash.verify(shown.ticket.reveal()));
    assert_eq!(admit(cookie, &alice(), NOW), Ok(()));
    assert_eq!(admit(cookie, &alice(), NOW + FORM_LIFETIME), Err(FormError::TooOld));
    assert_eq!(Form::admit(None, cookie, &alice(), NOW), Err(FormError::TooOld));
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
        (Some(shown.ticket.reveal()), alice()),
        (cookie, here(bob())),
        (cookie, here(tagged())),
        (cookie, elsewhere),
    ] {
        assert_eq!(admit(cookie, &caller, NOW), Err(FormError::NotThePage), "{caller:?}");
    }
}
