use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::*;
use crate::{
    layer::Layer,
    manifest::{Manifest, SCHEMA},
    settle::Settler,
};

/// Changes three large records of one page until sled writes it as a whole.
fn change(sled: &Sled, rounds: std::ops::Range<u8>) {
    for round in rounds {
        let large = vec![round; 60_000];
        let records = ["a", "b", "c"].map(|key| (key.as_bytes(), Some(large.as_slice())));
        sled.apply(records).unwrap();
        sled.db.flush().unwrap();
    }
}

fn new(sled: &Sled) -> usize {
    sled.new_blobs().unwrap().0.len()
}

#[test]
fn files_of_large_pages_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let sled = Sled::open(folder.path(), 4 << 20).unwrap();
    sled.sync().unwrap();
    change(&sled, 0..10);
    assert!(new(&sled) > 0, "a page above 128 KiB is a file of its own");
    drop(sled);
    // What another process left behind may not be on disk either.
    let sled = Sled::open(folder.path(), 4 << 20).unwrap();
    assert!(new(&sled) > 0);
    sled.sync().unwrap();
    assert_eq!(new(&sled), 0);
    change(&sled, 10..20);
    assert!(new(&sled) > 0);
    sled.sync().unwrap();
    assert_eq!(new(&sled), 0);
}

fn settled_nothing(folder: &Path) -> (Sled, Settler) {
    let sled = Sled::open(&folder.join("db"), 4 << 20).unwrap();
    let manifest = Manifest {
        store_id: "store".into(),
        schema: SCHEMA,
        node: "node".into(),
        checkpoint: 0,
    };
    (sled, Settler::new(folder.to_owned(), manifest))
}

#[test]
fn a_layer_that_has_moved_is_synced_with_its_large_pages() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("db");
    let (sled, mut settler) = settled_nothing(folder.path());
    let mut files = 0;
    for round in 1..10_u8 {
        let mut layer = Layer::default();
        layer.put(
            ["a", "b", "c"]
                .map(|key| (key.into(), Some(vec![round; 60_000])))
                .into(),
        );
        settler.settle(&sled, &layer, u64::from(round)).unwrap();
        assert_eq!(new(&sled), 0, "after {round}");
        files += std::fs::read_dir(database.join(BLOBS)).unwrap().count();
    }
    assert!(files > 0, "a page above 128 KiB is a file of its own");
}

/// What a power cut may leave: what was written in place, and of the file no more than it had when it was synced last.
fn after_a_power_cut(from: &Path, length: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(BLOBS)).unwrap();
    for place in ["", BLOBS] {
        for entry in std::fs::read_dir(from.join(place)).unwrap().flatten() {
            if entry.metadata().unwrap().is_file() {
                std::fs::copy(entry.path(), folder.path().join(place).join(entry.file_name())).unwrap();
            }
        }
    }
    let file = File::options().write(true).open(folder.path().join("db")).unwrap();
    file.set_len(length.min(file.metadata().unwrap().len())).unwrap();
    folder
}

#[test]
fn a_power_cut_while_a_layer_moves_takes_nothing_that_has_moved() {
    const KEYS: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("db");
    let (sled, mut settler) = settled_nothing(folder.path());
    // What has moved, and what moves: the round in which each was written.
    let state: Arc<Mutex<[BTreeMap<u64, u8>; 2]>> = Arc::default();
    let cuts = Arc::new(AtomicUsize::new(0));
    let watch = {
        let (state, cuts, synced) = (Arc::clone(&state), Arc::clone(&cuts), AtomicU64::new(0));
        move |done: bool| {
            let length = std::fs::metadata(database.join("db")).unwrap().len();
            if done {
                synced.store(length, Relaxed);
            } else if length > synced.load(Relaxed) {
                cuts.fetch_add(1, Relaxed);
                let copy = after_a_power_cut(&database, synced.load(Relaxed));
                let opened = Sled::open(copy.path(), 4 << 20).unwrap();
                let [moved, moving] = &*state.lock();
                for (key, round) in moved {
                    let found = opened.get(&key.to_be_bytes()).unwrap();
                    let found = found.unwrap_or_else(|| panic!("{key} of {} is lost", moved.len()));
                    assert!(found[0] == *round || moving.get(key) == Some(&found[0]), "{key}");
                }
            }
        }
    };
    *sled.watch.lock() = Some(Box::new(watch));
    let mut random = 1_u64;
    for round in 1..=80_u8 {
        let mut layer = Layer::default();
        for _ in 0..600 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let key = (random >> 33) % KEYS;
            layer.put(vec![(key.to_be_bytes().into(), Some(vec![round; 400]))]);
            state.lock()[1].insert(key, round);
        }
        settler.settle(&sled, &layer, u64::from(round)).unwrap();
        let [moved, moving] = &mut *state.lock();
        moved.append(moving);
    }
    assert!(cuts.load(Relaxed) > 10, "the file hardly grew: {cuts:?}");
}
