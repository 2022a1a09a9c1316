//! One suite, run against every backend.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use countersign_oauth::audit::AuditRecord;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;

mod expectations;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    id: String,
    text: String,
}

impl Record for Note {
    const TABLE: &'static str = "note";
    const FORMAT: u16 = 2;
    const COPY: Option<fn(&Self) -> Self> = Some(Self::clone);

    fn id(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn upgrade(format: u16, json: &str) -> Result<Self, String> {
        assert_eq!(format, 1);
        let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(Self { id: "old".into(), text })
    }
}

/// The first format of [`Note`]: only the text.
#[derive(Serialize, Deserialize)]
struct OldNote(String);

impl Record for OldNote {
    const TABLE: &'static str = "note";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        b"old".into()
    }
}

fn note(id: &str, text: &str) -> Note {
    Note {
        id: id.into(),
        text: text.into(),
    }
}

fn options(folder: &TempDir) -> OpenOptions {
    OpenOptions {
        folder: folder.path().join("store"),
        node: "node-a".into(),
        cache_bytes: 4 << 20,
        entropy: [7; 16],
    }
}

async fn put(store: &Store, note: &Note) {
    let mut txn = Txn::new();
    txn.put(note).unwrap();
    store.commit(txn).await.unwrap();
}

async fn text_of(store: &Store, id: &str) -> Option<String> {
    store.reads().get::<Note>(id).await.unwrap().map(|note| note.text)
}

async fn what_is_committed_is_read(store: Store) {
    assert_eq!(text_of(&store, "a").await, None);
    let mut txn = Txn::new();
    txn.put(&note("a", "1")).unwrap();
    txn.put(&note("b", "2")).unwrap();
    txn.delete::<Note>("absent");
    let first = store.commit(txn).await.unwrap();
    assert_eq!(text_of(&store, "a").await.as_deref(), Some("1"));
    let mut txn = Txn::new();
    txn.delete::<Note>("a");
    let second = store.commit(txn).await.unwrap();
    assert!(second.sequence > first.sequence);
    assert_eq!(text_of(&store, "a").await, None);
    assert_eq!(text_of(&store, "b").await.as_deref(), Some("2"));
}

async fn a_changed_expectation_is_a_conflict_and_changes_nothing(store: Store) {
    put(&store, &note("a", "1")).await;
    let mut reads = store.reads();
    assert!(reads.get::<Note>("a").await.unwrap().is_some());
    assert!(reads.get::<Note>("b").await.unwrap().is_none());
    put(&store, &note("b", "appeared")).await;
    let mut txn = reads.into_txn();
    txn.put(&note("a", "2")).unwrap();
    txn.count("c", 1, None);
    assert!(matches!(store.commit(txn).await, Err(CommitError::Conflict(_))));
    assert_eq!(text_of(&store, "a").await.as_deref(), Some("1"));
    assert_eq!(store.reads().counter("c").await.unwrap(), 0);
}

async fn what_was_read_is_kept_as_a_value_until_it_changes(store: Store) {
    let key = record::key::<Note>(b"a");
    let kept = || matches!(store.recent.get(&key, Note::clone), Known::Read(..));
    put(&store, &note("a", "one")).await;
    text_of(&store, "a").await;
    assert!(kept());
    put(&store, &note("a", "two")).await;
    assert!(!kept());
}

async fn nobody_reads_what_was_before_an_acknowledged_change(store: Store) {
    const CHANGES: u64 = 300;
    let newest = Arc::new(AtomicU64::new(0));
    // On threads of their own: the suite's runtime has one.
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, newest) = (store.clone(), Arc::clone(&newest));
            std::thread::spawn(move || {
                while newest.load(SeqCst) < CHANGES {
                    let acknowledged = newest.load(SeqCst);
                    let (_, note) = store.read::<Note>(&record::key::<Note>(b"a")).unwrap();
                    let text = note.map_or(0, |note| note.text.parse().unwrap());
                    assert!(text >= acknowledged, "{text} was read after {acknowledged}");
                }
            })
        })
        .collect();
    for change in 1..=CHANGES {
        put(&store, &note("a", &change.to_string())).await;
        newest.store(change, SeqCst);
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

async fn a_record_that_was_deleted_and_made_again_is_another(store: Store) {
    put(&store, &note("a", "1")).await;
    let mut reads = store.reads();
    reads.get::<Note>("a").await.unwrap();
    let mut txn = Txn::new();
    txn.delete::<Note>("a");
    store.commit(txn).await.unwrap();
    put(&store, &note("a", "1")).await;
    let mut txn = reads.into_txn();
    txn.put(&note("a", "2")).unwrap();
    assert!(store.commit(txn).await.is_err());
}

async fn of_many_that_read_the_same_exactly_one_wins(store: Store) {
    put(&store, &note("once", "unspent")).await;
    let mut spends = tokio::task::JoinSet::new();
    for index in 0..64 {
        let store = store.clone();
        spends.spawn(async move {
            let mut reads = store.reads();
            let Some(seen) = reads.get::<Note>("once").await.unwrap() else {
                return false;
            };
            if seen.text != "unspent" {
                return false;
            }
            let mut txn = reads.into_txn();
            txn.put(&note("once", &format!("spent by {index}"))).unwrap();
            store.commit(txn).await.is_ok()
        });
    }
    let won = spends.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}

async fn counters_do_not_conflict_until_their_ceiling(store: Store) {
    let mut steps = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let store = store.clone();
        steps.spawn(async move {
            let mut txn = Txn::new();
            txn.count("c", 1, Some(25));
            store.commit(txn).await.is_ok()
        });
    }
    let done = steps.join_all().await.into_iter().filter(|done| *done).count();
    assert_eq!(done, 25);
    assert_eq!(store.reads().counter("c").await.unwrap(), 25);
    let mut txn = Txn::new();
    txn.count("c", -30, None);
    store.commit(txn).await.unwrap();
    assert_eq!(store.reads().counter("c").await.unwrap(), 0);
}

async fn scans_keep_to_their_prefix_and_page(store: Store) {
    let mut txn = Txn::new();
    for index in 0..25 {
        txn.put(&note(&format!("x/{index:02}"), "x")).unwrap();
    }
    txn.put(&note("w/zz", "w")).unwrap();
    txn.put(&note("y/00", "y")).unwrap();
    store.commit(txn).await.unwrap();
    let mut seen = Vec::new();
    let mut from = None;
    loop {
        let page = store.scan::<Note>(b"x/", from.as_deref(), 10).await.unwrap();
        seen.extend(page.records.into_iter().map(|note| note.id));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|index| format!("x/{index:02}")).collect::<Vec<_>>());
}

async fn audit_records_come_with_their_transaction_in_order(store: Store) {
    for event in ["first", "second"] {
        let mut txn = Txn::new();
        txn.audit(&AuditRecord::own(event, OffsetDateTime::UNIX_EPOCH)).unwrap();
        store.commit(txn).await.unwrap();
    }
    let lines = store.audit(None, 10).await.unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].1.contains("first") && lines[1].1.contains("second"));
    assert_eq!(store.audit(Some(&lines[0].0), 10).await.unwrap().len(), 1);
}

async fn an_old_format_is_read(store: Store) {
    let mut txn = Txn::new();
    txn.put(&OldNote("hello".into())).unwrap();
    store.commit(txn).await.unwrap();
    assert_eq!(text_of(&store, "old").await.as_deref(), Some("hello"));
}

async fn a_closed_store_refuses(store: Store) {
    put(&store, &note("a", "1")).await;
    store.close().await;
    assert!(matches!(
        store.commit(Txn::new()).await,
        Err(CommitError::Store(StoreError::Stopped))
    ));
}

macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Store::in_memory().unwrap()).await;
            })*
        }
        mod sled {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$name(super::Store::open(&super::options(&folder)).unwrap()).await;
            })*
        }
    };
}

on_every_backend!(
    what_is_committed_is_read,
    a_changed_expectation_is_a_conflict_and_changes_nothing,
    what_was_read_is_kept_as_a_value_until_it_changes,
    nobody_reads_what_was_before_an_acknowledged_change,
    a_record_that_was_deleted_and_made_again_is_another,
    of_many_that_read_the_same_exactly_one_wins,
    counters_do_not_conflict_until_their_ceiling,
    scans_keep_to_their_prefix_and_page,
    audit_records_come_with_their_transaction_in_order,
    an_old_format_is_read,
    a_closed_store_refuses,
);

async fn filled(folder: &TempDir, notes: u32) {
    let store = Store::open(&options(folder)).unwrap();
    let mut txn = Txn::new();
    for index in 0..notes {
        txn.put(&note(&format!("n{index}"), &"some text that takes room ".repeat(8)))
            .unwrap();
    }
    store.commit(txn).await.unwrap();
    store.close().await;
}

fn refusal(folder: &TempDir) -> OpenError {
    match Store::open(&options(folder)) {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_store_opens_again_with_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = Store::open(&options(&folder)).unwrap();
        assert_eq!(text_of(&store, "a").await, (round > 0).then(|| (round - 1).to_string()));
        put(&store, &note("a", &round.to_string())).await;
    }
    let text = fs::read_to_string(folder.path().join("store/store.json")).unwrap();
    assert!(text.contains("node-a"), "{text}");
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_store_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Store::open(&options(&folder)).unwrap();
    let error = refusal(&folder);
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
}

#[tokio::test]
async fn a_cut_database_is_refused_with_words_about_restoring_it() {
    for keep_snapshot in [true, false] {
        for percent in [95, 60, 20, 0] {
            let folder = tempfile::tempdir().unwrap();
            filled(&folder, 6_000).await;
            let database = folder.path().join("store/db");
            let file = fs::OpenOptions::new().write(true).open(database.join("db")).unwrap();
            file.set_len(file.metadata().unwrap().len() * percent / 100).unwrap();
            if !keep_snapshot {
                for entry in fs::read_dir(&database).unwrap().flatten() {
                    if entry.file_name().to_string_lossy().starts_with("snap") {
                        fs::remove_file(entry.path()).unwrap();
                    }
                }
            }
            let error = refusal(&folder);
            assert!(error.to_string().contains("restore"), "{percent}: {error}");
        }
    }
}

#[tokio::test]
async fn an_emptied_foreign_or_rolled_back_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    filled(&folder, 10).await;
    let store = folder.path().join("store");
    let old = fs::read(store.join("store.json")).unwrap();
    for _ in 0..2 {
        filled(&folder, 10).await;
    }
    let new = fs::read(store.join("store.json")).unwrap();

    fs::write(store.join("store.json"), &old).unwrap();
    assert!(matches!(refusal(&folder), OpenError::OtherTime { .. }));

    fs::write(store.join("store.json"), &new[..new.len() / 2]).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Manifest { .. }));

    fs::remove_file(store.join("store.json")).unwrap();
    assert!(matches!(refusal(&folder), OpenError::NoManifest { .. }));

    let text = String::from_utf8(new.clone()).unwrap();
    fs::write(store.join("store.json"), text.replace("0707", "0808")).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Foreign(_)));

    fs::write(store.join("store.json"), text.replace("\"schema\": 2", "\"schema\": 9")).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Schema { found: 9, .. }));

    fs::write(store.join("store.json"), text.replace("\"schema\": 2", "\"schema\": 1")).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Development { found: 1, .. }));

    fs::write(store.join("store.json"), text.replace("node-a", "node-b")).unwrap();
    assert!(matches!(refusal(&folder), OpenError::OtherNode { .. }));

    fs::write(store.join("store.json"), &new).unwrap();
    fs::rename(store.join("db"), store.join("away")).unwrap();
    assert!(matches!(refusal(&folder), OpenError::Emptied(_)));
    fs::rename(store.join("away"), store.join("db")).unwrap();
    assert!(
        Store::open(&options(&folder)).is_ok(),
        "nothing was changed by refusing"
    );
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = new_manifest_only(&folder);
    assert_eq!(manifest.checkpoint, 0);
    let store = Store::open(&options(&folder)).unwrap();
    put(&store, &note("a", "1")).await;
}

fn new_manifest_only(folder: &TempDir) -> Manifest {
    let options = options(folder);
    make_folder(&options.folder).unwrap();
    new_manifest(&options).unwrap()
}
