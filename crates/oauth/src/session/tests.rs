use time::macros::datetime;

use super::*;
use crate::tests_support::{Counting, alice, bob, tagged};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn begun() -> Session {
    Session::begin(&alice(), NOW, &mut Counting::default()).0
}

#[test]
fn a_session_is_its_users_on_its_node_until_it_is_over() {
    let (session, secret) = Session::begin(&alice(), NOW, &mut Counting::default());
    assert!(session.hash.verify(secret.reveal()));
    assert!(session.is_live(&alice(), NOW + Duration::hours(11)));
    assert!(!session.is_live(&alice(), NOW + SESSION_LIFETIME));
    let second_laptop = Caller {
        node_id: "nAlice2".into(),
        ..alice()
    };
    let handed_over = Caller {
        node_id: "nAlice".into(),
        ..bob()
    };
    let tagged_later = Caller {
        node_id: "nAlice".into(),
        ..tagged()
    };
    for other in [bob(), second_laptop, handed_over, tagged_later] {
        assert!(!session.is_live(&other, NOW), "{other:?}");
    }
}

#[test]
fn max_age_counts_from_the_click_and_0_asks_for_a_new_one() {
    let session = begun();
    let later = NOW + Duration::seconds(10);
    for (max_age, fresh) in [
        (None, true),
        (Some(9), false),
        (Some(10), true),
        (Some(0), false),
        (Some(u64::MAX), true),
    ] {
        assert_eq!(session.is_fresh(max_age, later), fresh, "{max_age:?}");
    }
    assert!(!session.is_fresh(Some(0), NOW));
    assert!(
        session.is_fresh(Some(1), NOW - Duration::seconds(5)),
        "a clock that went back ages nothing"
    );
}
