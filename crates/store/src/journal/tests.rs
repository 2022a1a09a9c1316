use tempfile::TempDir;

use super::*;

fn made() -> (TempDir, PathBuf, Journal) {
    let folder = tempfile::tempdir().unwrap();
    let [path, _] = paths(folder.path());
    let mut journal = Journal::make(&path).unwrap();
    journal.restart(3).unwrap();
    (folder, path, journal)
}

fn put(key: &str, value: &str) -> Change {
    (key.into(), Some(value.into()))
}

fn read(path: &Path) -> Recovered {
    Journal::open(path).unwrap().1.unwrap()
}

#[test]
fn what_was_appended_comes_back_in_order() {
    let (_folder, path, mut journal) = made();
    let first = vec![put("a", "1"), ("b".into(), None), put("c", "")];
    let second = vec![put("a", "2")];
    journal.append(&first).unwrap();
    journal.append(&second).unwrap();
    let batches = vec![first, second];
    assert_eq!(read(&path), Recovered { epoch: 3, batches });
}

#[test]
fn a_new_file_holds_nothing_and_a_restarted_one_its_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let [path, _] = paths(folder.path());
    let mut journal = Journal::make(&path).unwrap();
    assert_eq!(Journal::open(&path).unwrap().1, None);
    journal.restart(7).unwrap();
    let batches = Vec::new();
    assert_eq!(read(&path), Recovered { epoch: 7, batches });
}

#[test]
fn frames_of_another_epoch_are_leftovers() {
    let (_folder, path, mut journal) = made();
    for value in ["1", "2", "3"] {
        journal.append(&[put("a", value)]).unwrap();
    }
    journal.restart(5).unwrap();
    journal.append(&[put("b", "9")]).unwrap();
    let batches = vec![vec![put("b", "9")]];
    assert_eq!(read(&path), Recovered { epoch: 5, batches });
}

#[test]
fn a_torn_frame_and_what_follows_it_never_were() {
    let (_folder, path, mut journal) = made();
    let batches = [[put("a", "1")], [put("bb", "22")], [put("ccc", "333")]];
    for batch in &batches {
        journal.append(batch).unwrap();
    }
    let bytes = std::fs::read(path).unwrap();
    for at in 0..journal.end {
        let mut torn = bytes.clone();
        torn[at] ^= 0x40;
        for read in [recovered(&torn), recovered(&bytes[..at])] {
            let read = read.map(|read| read.batches).unwrap_or_default();
            assert!(read.len() < 3 && read == batches[..read.len()], "byte {at}");
        }
    }
}

#[test]
fn what_does_not_fit_is_known_before() {
    let (_folder, path, mut journal) = made();
    let large = vec![("k".into(), Some(vec![7; CAPACITY / 3]))];
    for _ in 0..2 {
        assert!(journal.fits(&large));
        journal.append(&large).unwrap();
    }
    assert!(!journal.fits(&large));
    assert_eq!(read(&path).batches.len(), 2);
    journal.restart(4).unwrap();
    let largest = vec![(vec![1; 8], Some(vec![7; MAX_CHANGES - 16]))];
    assert_eq!(largest.iter().map(length).sum::<usize>(), MAX_CHANGES);
    assert!(journal.fits(&largest));
    journal.append(&largest).unwrap();
    assert_eq!(read(&path).batches, [largest]);
}

#[test]
fn a_file_that_was_cut_or_is_gone_is_an_error() {
    let (_folder, path, journal) = made();
    journal.file.set_len(100).unwrap();
    let error = Journal::open(&path).map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    std::fs::remove_file(&path).unwrap();
    let error = Journal::open(&path).map(drop).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
