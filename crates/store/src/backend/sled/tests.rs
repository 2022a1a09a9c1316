use super::*;

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
