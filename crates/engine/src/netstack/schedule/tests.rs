use std::time::Duration;

use super::*;

fn id(slot: u32) -> ConnId {
    ConnId::for_test(slot)
}

#[test]
fn a_connection_stands_in_line_once() {
    let (mut schedule, mut own) = (Schedule::default(), Appointment::default());
    schedule.touch(id(1), &mut own);
    schedule.touch(id(1), &mut own);
    assert_eq!(schedule.next(), Some(id(1)));
    assert!(!schedule.is_ready());
    Schedule::leave(&mut own);
    schedule.touch(id(1), &mut own);
    assert_eq!(schedule.next(), Some(id(1)));
}

#[test]
fn a_timer_that_was_put_forward_fires_once() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let (mut schedule, mut own) = (Schedule::default(), Appointment::default());
    schedule.wake_at(id(1), &mut own, Some(now + second * 3));
    schedule.wake_at(id(1), &mut own, Some(now + second * 5));
    assert_eq!(
        schedule.poll_timeout(),
        Some(now + second * 3),
        "later is asked for when the time has come"
    );
    schedule.wake_at(id(1), &mut own, Some(now + second));
    assert_eq!(schedule.expired(now), None);
    let (at, _) = schedule.expired(now + second).unwrap();
    assert!(Schedule::fires(&mut own, at));
    let (at, _) = schedule.expired(now + second * 3).unwrap();
    assert!(!Schedule::fires(&mut own, at), "the old entry does not count");
    assert_eq!(schedule.poll_timeout(), None);
}
