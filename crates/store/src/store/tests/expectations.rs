//! How the writer checks what a transaction expects.

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::backend::Change;

/// Passes everything on to a backend, remembers what was searched there, and holds writes up when told to.
struct Watched<B> {
    inner: B,
    searched: Mutex<Vec<Vec<u8>>>,
    held: Mutex<bool>,
    released: Condvar,
}

impl<B: Backend> Watched<B> {
    fn over(inner: B) -> (Arc<Self>, Store) {
        let watched = Arc::new(Self {
            inner,
            searched: Mutex::default(),
            held: Mutex::new(false),
            released: Condvar::new(),
        });
        let store = Store::start(Arc::clone(&watched) as Arc<dyn Backend>).unwrap();
        (watched, store)
    }

    fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.released.notify_all();
    }

    /// Whether the commit of `txn` was made, and whether the record of this id was searched in the backend for it.
    async fn commit(&self, store: &Store, txn: Txn, id: &str) -> (bool, bool) {
        self.searched.lock().clear();
        let made = store.commit(txn).await.is_ok();
        let key = record::key::<Note>(id.as_bytes());
        (
            made,
            self.searched.lock().iter().any(|searched| searched == key.as_bytes()),
        )
    }
}

impl<B: Backend> Backend for Watched<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.searched.lock().push(key.to_owned());
        self.inner.get(key)
    }

    fn moment(&self) -> Moment {
        self.inner.moment()
    }

    fn is_unchanged(&self, key: &[u8], since: Moment) -> bool {
        self.inner.is_unchanged(key, since)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.inner.scan(prefix, after, limit)
    }

    fn settled(&self, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.inner.settled(prefix, limit)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        self.released.wait_while(&mut held, |held| *held);
        drop(held);
        self.inner.apply(changes)
    }

    fn tidy(&self) -> Result<(), StoreError> {
        self.inner.tidy()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }
}

/// Layers over a database in `folder`.
fn layered(folder: &TempDir) -> Buffered {
    let database = Sled::open(&folder.path().join("db"), 4 << 20).unwrap();
    let manifest = Manifest {
        store_id: "store".into(),
        schema: manifest::SCHEMA,
        node: "node".into(),
        checkpoint: 0,
    };
    Buffered::open(
        folder.path(),
        database,
        Settler::new(folder.path().to_owned(), manifest),
    )
    .unwrap()
}

/// Begins a new layer, as the sweep does in ten minutes.
async fn turn(store: &Store) {
    for _ in 0..10 {
        store.tidy().await;
        // Several that come at once count as one.
        store.commit(Txn::new()).await.unwrap();
    }
}

/// Waits until the layer that holds note `id` has moved.
async fn moved(watched: &Watched<Buffered>, id: &str) {
    let begun = std::time::Instant::now();
    let known = || watched.is_unchanged(record::key::<Note>(id.as_bytes()).as_bytes(), watched.moment());
    while !known() {
        assert!(begun.elapsed().as_secs() < 10, "nothing is known without a search");
        tokio::task::yield_now().await;
    }
}

/// A transaction that expects what note `id` was when it was read, and adds another.
async fn reading(store: &Store, id: &str) -> Txn {
    let mut reads = store.reads();
    reads.get::<Note>(id).await.unwrap();
    let mut txn = reads.into_txn();
    txn.put(&note("another", "1")).unwrap();
    txn
}

#[tokio::test]
async fn what_the_layers_know_to_be_unchanged_is_not_searched_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let (watched, store) = Watched::over(layered(&folder));
    put(&store, &note("a", "1")).await;
    turn(&store).await;
    moved(&watched, "a").await;
    for id in ["a", "absent"] {
        let txn = reading(&store, id).await;
        assert_eq!(watched.commit(&store, txn, id).await, (true, false), "{id}");
    }
    let mut unseen = Txn::new();
    unseen.expect_absent::<Note>("absent");
    assert_eq!(
        watched.commit(&store, unseen, "absent").await,
        (true, true),
        "nobody looked before"
    );

    let txn = reading(&store, "a").await;
    turn(&store).await;
    turn(&store).await;
    assert!(
        watched.commit(&store, txn, "a").await.0,
        "a layer that is gone is no conflict"
    );
}

#[tokio::test]
async fn a_change_is_a_conflict_whichever_layer_has_it_and_after_it_has_moved() {
    for id in ["a", "absent"] {
        for turns in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let (watched, store) = Watched::over(layered(&folder));
            put(&store, &note("a", "1")).await;
            turn(&store).await;
            let txn = reading(&store, id).await;
            put(&store, &note(id, "2")).await;
            for _ in 0..turns {
                put(&store, &note("later", "1")).await;
                turn(&store).await;
            }
            assert!(!watched.commit(&store, txn, id).await.0, "{id}, {turns} turns");
            let again = reading(&store, id).await;
            assert!(watched.commit(&store, again, id).await.0);
        }
    }
}

#[tokio::test]
async fn of_two_in_one_batch_that_read_the_same_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (watched, store) = Watched::over(layered(&folder));
    put(&store, &note("a", "unspent")).await;
    turn(&store).await;
    moved(&watched, "a").await;
    watched.hold(true);
    let commit = |txn: Txn| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(txn).await.is_ok() })
    };
    // The writer is busy with this one when both come.
    let mut first = Txn::new();
    first.put(&note("b", "1")).unwrap();
    let first = commit(first);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut spends = Vec::new();
    for text in ["spent here", "spent there"] {
        let mut txn = reading(&store, "a").await;
        txn.put(&note("a", text)).unwrap();
        spends.push(commit(txn));
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    watched.hold(false);
    assert!(first.await.unwrap());
    let mut won = Vec::new();
    for spend in spends {
        won.push(spend.await.unwrap());
    }
    assert_eq!(won, [true, false]);
}
