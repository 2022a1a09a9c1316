//! When an outage of control is said.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_outage_is_said_after_five_minutes_and_when_the_netmap_is_too_old() {
    let start = Instant::now();
    let mut silence = Silence::new(60 * MINUTE);
    assert_eq!(silence.poll_timeout(), None);
    assert_eq!(silence.handle_control(false, start), None);
    // Each failed attempt says so again.
    assert_eq!(silence.handle_control(false, start + MINUTE), None);
    assert_eq!(silence.poll_timeout(), Some(start + 5 * MINUTE));
    assert_eq!(silence.poll_word(start + 4 * MINUTE), None);
    assert_eq!(silence.poll_word(start + 5 * MINUTE), Some(Word::Warning));
    assert_eq!(silence.poll_word(start + 6 * MINUTE), None);
    assert_eq!(silence.poll_timeout(), Some(start + 60 * MINUTE));
    assert_eq!(silence.poll_word(start + 60 * MINUTE), Some(Word::TooOld));
    assert_eq!(silence.poll_timeout(), None);
    assert_eq!(silence.handle_control(true, start + 90 * MINUTE), Some(90 * MINUTE));
    assert_eq!(silence.poll_timeout(), None);
}

#[test]
fn a_short_outage_is_not_worth_a_word() {
    let start = Instant::now();
    let mut silence = Silence::new(60 * MINUTE);
    silence.handle_control(false, start);
    assert_eq!(silence.handle_control(true, start + MINUTE), None);
    silence.handle_control(false, start + 10 * MINUTE);
    assert_eq!(silence.poll_word(start + 11 * MINUTE), None);
}

#[test]
fn a_short_maximum_age_needs_no_warning_before() {
    let start = Instant::now();
    let mut silence = Silence::new(MINUTE);
    silence.handle_control(false, start);
    assert_eq!(silence.poll_timeout(), Some(start + MINUTE));
    assert_eq!(silence.poll_word(start + MINUTE), Some(Word::TooOld));
}
