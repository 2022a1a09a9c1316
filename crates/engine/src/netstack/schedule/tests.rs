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
fn timers_of_the_departed_do_not_pile_up() {
    let now = Instant::now();
    let mut schedule = Schedule::default();
    let mut last = Appointment::default();
    for slot in 0..10_000 {
        last = Appointment::default();
        schedule.wake_at(id(slot), &mut last, Some(now + Duration::from_secs(10)));
        schedule.tidy(1, |live| last.timer().filter(|_| live == id(slot)));
    }
    assert!(schedule.timers.len() <= TIDY + 4);
    let mut kept = false;
    while let Some((at, live)) = schedule.expired(now + Duration::from_secs(10)) {
        kept |= live == id(9_999) && Schedule::fires(&mut last, at);
    }
    assert!(kept, "what still counts stays");
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
