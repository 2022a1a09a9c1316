use super::*;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Journal::make(folder.path()).unwrap();
    folder
}

fn put(key: &str, value: &str) -> Change {
    (key.into(), Some(value.into()))
}

fn recovered(folder: &Path, epoch: u64) -> Vec<Vec<Change>> {
    Journal::open(folder, epoch).unwrap().1
}

#[test]
fn what_was_appended_comes_back_in_order() {
    let folder = folder();
    let (mut journal, batches) = Journal::open(folder.path(), 3).unwrap();
    assert!(batches.is_empty());
    let first = vec![put("a", "1"), ("b".into(), None), put("c", "")];
    let second = vec![put("a", "2")];
    assert!(journal.append(&first).unwrap());
    assert!(journal.append(&second).unwrap());
    assert_eq!(recovered(folder.path(), 3), [first.clone(), second.clone()]);

    // A journal that is opened again goes on where it ended.
    let (mut journal, _) = Journal::open(folder.path(), 3).unwrap();
    let third = vec![put("d", "4")];
    assert!(journal.append(&third).unwrap());
    assert_eq!(recovered(folder.path(), 3), [first, second, third]);
}

#[test]
fn frames_of_another_epoch_are_leftovers() {
    let folder = folder();
    let (mut journal, _) = Journal::open(folder.path(), 3).unwrap();
    for value in ["1", "2", "3"] {
        assert!(journal.append(&[put("a", value)]).unwrap());
    }
    assert!(recovered(folder.path(), 4).is_empty());
    journal.restart(4);
    assert!(journal.append(&[put("b", "9")]).unwrap());
    assert_eq!(recovered(folder.path(), 4), [[put("b", "9")]]);
    assert!(recovered(folder.path(), 3).is_empty());
}

#[test]
fn a_torn_frame_and_what_follows_it_never_were() {
    let folder = folder();
    let (mut journal, _) = Journal::open(folder.path(), 1).unwrap();
    let batches = [[put("a", "1")], [put("bb", "22")], [put("ccc", "333")]];
    for batch in &batches {
        assert!(journal.append(batch).unwrap());
    }
    let bytes = std::fs::read(path(folder.path())).unwrap();
    let end = journal.end;
    for at in 0..end {
        let mut torn = bytes.clone();
        torn[at] ^= 0x40;
        let (read, _) = frames(&torn, 1);
        assert!(read.len() < 3 && read == batches[..read.len()], "byte {at}");
        let (read, _) = frames(&bytes[..at], 1);
        assert!(read.len() < 3 && read == batches[..read.len()], "cut at {at}");
    }
}

#[test]
fn a_full_journal_takes_nothing_more_until_it_is_restarted() {
    let folder = folder();
    let (mut journal, _) = Journal::open(folder.path(), 1).unwrap();
    let large = vec![("k".into(), Some(vec![7; CAPACITY / 3]))];
    assert!(journal.append(&large).unwrap());
    assert!(journal.append(&large).unwrap());
    assert!(!journal.append(&large).unwrap());
    assert_eq!(recovered(folder.path(), 1).len(), 2);
    journal.restart(2);
    assert!(journal.append(&large).unwrap());
    assert!(!journal.append(&[("k".into(), Some(vec![7; CAPACITY]))]).unwrap());
    assert_eq!(recovered(folder.path(), 2).len(), 1);
}

#[test]
fn making_it_keeps_one_that_is_there() {
    let folder = folder();
    let (mut journal, _) = Journal::open(folder.path(), 1).unwrap();
    assert!(journal.append(&[put("a", "1")]).unwrap());
    Journal::make(folder.path()).unwrap();
    assert_eq!(recovered(folder.path(), 1).len(), 1);
}
