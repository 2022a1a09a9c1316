use super::*;

fn key(number: usize) -> NodePublic {
    let mut raw = [0; 32];
    raw[..8].copy_from_slice(&number.to_le_bytes());
    NodePublic::from_bytes(raw)
}

#[test]
fn a_knock_is_answered_once_and_only_while_it_is_fresh() {
    let start = Instant::now();
    let mut strangers = Strangers::default();
    strangers.note(key(1), start);
    strangers.note(key(2), start);
    assert!(!strangers.take(&key(3), start));
    assert!(strangers.take(&key(1), start + MEMORY / 2));
    assert!(!strangers.take(&key(1), start + MEMORY / 2));
    assert!(!strangers.take(&key(2), start + MEMORY));
}

#[test]
fn a_flood_is_bounded_and_makes_room_after_its_time() {
    let start = Instant::now();
    let mut strangers = Strangers::default();
    for number in 0..MAX_STRANGERS {
        strangers.note(key(number), start);
    }
    strangers.note(key(MAX_STRANGERS), start);
    assert_eq!(strangers.0.len(), MAX_STRANGERS);
    assert!(!strangers.take(&key(MAX_STRANGERS), start));
    assert!(strangers.take(&key(0), start));
    let later = start + MEMORY;
    strangers.note(key(MAX_STRANGERS), later - MEMORY / 2);
    strangers.note(key(MAX_STRANGERS + 1), later);
    assert!(strangers.take(&key(MAX_STRANGERS + 1), later));
    assert!(strangers.0.len() <= 2);
}
