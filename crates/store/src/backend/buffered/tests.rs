use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::manifest::{Manifest, SCHEMA};

fn manifest(checkpoint: u64) -> Manifest {
    Manifest {
        store_id: "store".into(),
        schema: SCHEMA,
        node: "node".into(),
        checkpoint,
    }
}

/// As the store opens it, with the checkpoint that `store.json` names.
fn open(folder: &TempDir) -> Result<Buffered, OpenError> {
    let checkpoint = crate::manifest::load(folder.path())
        .unwrap()
        .map_or(0, |manifest| manifest.checkpoint);
    let database = Sled::open(&folder.path().join("db"), 4 << 20).unwrap();
    let settler = Settler::new(folder.path().to_owned(), manifest(checkpoint));
    Buffered::open(folder.path(), database, settler)
}

fn opened() -> (TempDir, Buffered) {
    let folder = tempfile::tempdir().unwrap();
    let buffered = open(&folder).unwrap();
    (folder, buffered)
}

fn put(buffered: &Buffered, key: &str, value: &str) {
    buffered.apply(vec![(key.into(), Some(value.into()))]).unwrap();
}

fn delete(buffered: &Buffered, key: &str) {
    buffered.apply(vec![(key.into(), None)]).unwrap();
}

fn turn(buffered: &Buffered) {
    buffered.turn(&mut buffered.writing.lock()).unwrap();
}

fn settle(buffered: &Buffered) {
    turn(buffered);
    buffered.writing.lock().mover.as_mut().unwrap().wait().unwrap();
}

fn text(buffered: &Buffered, key: &str) -> Option<String> {
    let value = buffered.get(key.as_bytes()).unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

fn keys(buffered: &Buffered) -> Vec<String> {
    let entries = buffered.scan(b"k", None, 100).unwrap();
    entries
        .into_iter()
        .map(|(key, _)| String::from_utf8(key).unwrap())
        .collect()
}

#[test]
fn what_was_applied_since_a_moment_is_known_for_two_layers() {
    let (_folder, buffered) = opened();
    put(&buffered, "k1", "old");
    settle(&buffered);
    let before = buffered.moment();
    let unchanged = |key: &str, since| buffered.is_unchanged(key.as_bytes(), since);
    assert!(unchanged("k1", before) && unchanged("k2", before));
    put(&buffered, "k1", "new");
    delete(&buffered, "k2");
    assert!(!unchanged("k1", before) && !unchanged("k2", before) && unchanged("k3", before));
    turn(&buffered);
    // Either the layer still moves, and has them, or it has moved, and nothing is said of before it.
    assert!(!unchanged("k1", before) && !unchanged("k2", before));
    buffered.writing.lock().mover.as_mut().unwrap().wait().unwrap();
    assert!(!unchanged("k1", before) && !unchanged("k3", before));
    assert!(unchanged("k1", buffered.moment()));
}

#[test]
fn the_newest_of_layer_moving_layer_and_database_counts() {
    let (_folder, buffered) = opened();
    for key in ["k1", "k2", "k3", "k4"] {
        put(&buffered, key, "database");
    }
    settle(&buffered);
    put(&buffered, "k2", "moving");
    delete(&buffered, "k3");
    turn(&buffered);
    put(&buffered, "k3", "active");
    delete(&buffered, "k4");
    let state = || ["k1", "k2", "k3", "k4"].map(|key| text(&buffered, key));
    let expected = [Some("database"), Some("moving"), Some("active"), None].map(|text| text.map(str::to_owned));
    assert_eq!(state(), expected);
    assert_eq!(keys(&buffered), ["k1", "k2", "k3"]);
    settle(&buffered);
    assert_eq!(state(), expected);
    assert_eq!(keys(&buffered), ["k1", "k2", "k3"]);
    assert_eq!(buffered.scan(b"k", Some(b"k1"), 1).unwrap()[0].0, b"k2");
}

#[test]
fn what_lives_briefly_never_reaches_the_database() {
    let (_folder, buffered) = opened();
    put(&buffered, "k1", "for a moment");
    delete(&buffered, "k1");
    for round in 0..50 {
        put(&buffered, "k2", &round.to_string());
    }
    settle(&buffered);
    let stored = buffered.settled(b"k", 9).unwrap();
    assert_eq!(stored, [(b"k2".to_vec(), b"49".to_vec())]);
}

#[test]
fn what_a_crash_left_in_either_journal_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let buffered = open(&folder).unwrap();
        assert_eq!(keys(&buffered).len(), 3 * round);
        put(&buffered, &format!("k{round}a"), "1");
        turn(&buffered);
        put(&buffered, &format!("k{round}b"), "2");
        turn(&buffered);
        put(&buffered, &format!("k{round}c"), "3");
        // Dropped as it is: nothing moves what the last journal holds.
    }
    assert_eq!(keys(&open(&folder).unwrap()).len(), 12);
}

#[test]
fn what_is_not_on_disk_is_never_seen() {
    let (_folder, buffered) = opened();
    put(&buffered, "k1", "kept");
    {
        let writing = &mut *buffered.writing.lock();
        writing.journals[writing.current].lose_the_disk();
    }
    let lost = [("k1", "lost"), ("k2", "lost")].map(|(key, value)| (key.into(), Some(value.into())));
    assert!(buffered.apply(lost.into()).is_err());
    assert_eq!(text(&buffered, "k1").as_deref(), Some("kept"));
    assert_eq!(keys(&buffered), ["k1"]);
}

#[test]
fn a_move_that_fails_stops_what_comes_and_loses_nothing() {
    let (folder, buffered) = opened();
    put(&buffered, "k1", "moving");
    // The last step of a move fails, and then that of none.
    let obstacle = folder.path().join("store.json.new");
    std::fs::create_dir(&obstacle).unwrap();
    turn(&buffered);
    let mut refused = Err(StoreError::Stopped);
    // Long before the next layer is full.
    for round in 0..1000 {
        let key = format!("k2-{round:05}");
        refused = buffered.apply(vec![(key.into(), Some("acknowledged".into()))]);
        if refused.is_err() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(refused.is_err());
    let acknowledged = keys(&buffered);
    std::fs::remove_dir(&obstacle).unwrap();
    for _ in 0..2 {
        // The journal of the layer that did not move is not written over, whoever asks.
        assert!(buffered.turn(&mut buffered.writing.lock()).is_err());
        assert!(buffered.apply(vec![(b"k3".into(), Some(b"late".into()))]).is_err());
    }
    assert_eq!(keys(&buffered), acknowledged, "it is still read");
    drop(buffered);
    assert_eq!(keys(&open(&folder).unwrap()), acknowledged);
}

#[test]
fn a_layer_that_was_moved_in_part_is_moved_again() {
    let (folder, buffered) = opened();
    for index in 0..300 {
        put(&buffered, &format!("k{index:03}"), "value");
    }
    // As a crash in the middle leaves it: some records are there, the database's own epoch is not.
    for index in 0..100 {
        let key = format!("k{index:03}");
        buffered
            .shared
            .database
            .apply([(key.as_bytes(), Some(b"value".as_slice()))])
            .unwrap();
    }
    buffered.shared.database.sync().unwrap();
    drop(buffered);
    let buffered = open(&folder).unwrap();
    assert_eq!(buffered.scan(b"k", None, 1000).unwrap().len(), 300);
}

#[test]
fn a_large_layer_moves_by_itself_and_a_small_one_when_tidied_for_a_while() {
    let (_folder, buffered) = opened();
    let value = "x".repeat(60_000);
    for index in 0..80 {
        put(&buffered, &format!("k{index:02}"), &value);
    }
    assert!(!buffered.settled(b"k", 1).unwrap().is_empty());
    assert!(buffered.settled(b"k", 100).unwrap().len() < 80);
    for _ in 0..TIDIES {
        buffered.tidy().unwrap();
    }
    buffered.writing.lock().mover.as_mut().unwrap().wait().unwrap();
    assert_eq!(buffered.settled(b"k", 100).unwrap().len(), 80);
    assert_eq!(keys(&buffered).len(), 80);
}

fn refusal(folder: &TempDir) -> String {
    match open(folder) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_journal_that_is_gone_cut_or_of_another_time_is_refused() {
    let (folder, buffered) = opened();
    let paths: [PathBuf; 2] = journal::paths(folder.path());
    let of_then = paths.each_ref().map(|path| std::fs::read(path).unwrap());
    for round in 0..3 {
        put(&buffered, &format!("k{round}"), "1");
        settle(&buffered);
    }
    put(&buffered, "k9", "the last");
    drop(buffered);
    let of_now = paths.each_ref().map(|path| std::fs::read(path).unwrap());

    for path in &paths {
        std::fs::remove_file(path).unwrap();
        assert!(refusal(&folder).contains("restore"), "gone");
        std::fs::write(path, b"short").unwrap();
        assert!(refusal(&folder).contains("restore"), "cut");
        for (path, bytes) in paths.iter().zip(&of_now) {
            std::fs::write(path, bytes).unwrap();
        }
    }
    for (path, bytes) in paths.iter().zip(&of_then) {
        std::fs::write(path, bytes).unwrap();
    }
    assert!(refusal(&folder).contains("restore"), "of another time");
    for (path, bytes) in paths.iter().zip(&of_now) {
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(keys(&open(&folder).unwrap()), ["k0", "k1", "k2", "k9"]);
}
