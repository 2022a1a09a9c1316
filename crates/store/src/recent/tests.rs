use serde::{Deserialize, Serialize};

use super::*;
use crate::record;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Word(String);

impl Record for Word {
    const TABLE: &'static str = "word";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }
}

/// Another reading of the same table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Other(String);

impl Record for Other {
    const TABLE: &'static str = "word";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }
}

fn key(id: &str) -> Key {
    record::key::<Word>(id.as_bytes())
}

fn mark(recent: &Recent, key: &Key) -> Mark {
    match recent.get(key, Word::clone) {
        Known::Nothing(mark) => mark,
        Known::Read(..) => panic!("{key:?} is known"),
    }
}

fn known(recent: &Recent, id: &str) -> Option<(Version, Option<Word>)> {
    match recent.get(&key(id), Word::clone) {
        Known::Nothing(_) => None,
        Known::Read(version, word) => Some((version, word)),
    }
}

fn keep(recent: &Recent, id: &str, version: u64, stored: usize) {
    let mark = mark(recent, &key(id));
    recent.keep(mark, &key(id), Version(version), Some(Word(id.into())), stored);
}

#[test]
fn what_was_read_is_known_until_it_changes() {
    let recent = Recent::default();
    keep(&recent, "a", 3, 10);
    keep(&recent, "b", 4, 10);
    assert_eq!(known(&recent, "a"), Some((Version(3), Some(Word("a".into())))));
    recent.forget([key("a").as_bytes()].into_iter());
    assert_eq!(known(&recent, "a"), None);
    assert_eq!(known(&recent, "b"), Some((Version(4), Some(Word("b".into())))));
}

#[test]
fn absence_is_known_too() {
    let recent = Recent::default();
    let mark = mark(&recent, &key("a"));
    recent.keep::<Word>(mark, &key("a"), Version::ABSENT, None, 0);
    assert_eq!(known(&recent, "a"), Some((Version::ABSENT, None)));
    recent.forget([key("a").as_bytes()].into_iter());
    assert_eq!(known(&recent, "a"), None);
}

#[test]
fn what_was_read_before_a_change_is_not_kept() {
    let recent = Recent::default();
    let mark = mark(&recent, &key("a"));
    recent.forget([key("a").as_bytes()].into_iter());
    recent.keep(mark, &key("a"), Version(3), Some(Word("a".into())), 10);
    assert_eq!(known(&recent, "a"), None);
}

#[test]
fn another_type_of_the_same_table_is_read_again() {
    let recent = Recent::default();
    keep(&recent, "a", 3, 10);
    assert!(matches!(recent.get(&key("a"), Other::clone), Known::Nothing(_)));
}

#[test]
fn what_is_read_again_and_again_outlives_what_is_read_once() {
    let recent = Recent::default();
    keep(&recent, "often", 1, 1000);
    for number in 0..10_000 {
        keep(&recent, &format!("once {number}"), 2, 1000);
        assert!(known(&recent, "often").is_some(), "gone after {number}");
    }
    let state = recent.0.lock();
    assert!(state.young.len() + state.old.len() <= 2 * GENERATION / 1000);
    assert_eq!(state.bytes, state.young.values().map(|kept| kept.bytes).sum::<usize>());
}

#[test]
fn one_large_record_does_not_drive_out_the_others() {
    let recent = Recent::default();
    keep(&recent, "small", 1, 10);
    keep(&recent, "large", 2, GENERATION);
    assert_eq!(known(&recent, "large"), None);
    assert!(known(&recent, "small").is_some());
}
