//! The one thread that writes: a batch of transactions becomes durable with one flush and one sync, then all of them
//! are acknowledged.
//!
//! The queue holds [`QUEUE`] transactions; a commit beyond that waits for room. Expectations are checked here, against
//! the database and what the batch has changed so far, so two transactions of one batch conflict as any others do.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    backend::Backend,
    error::{CommitError, StoreError},
    key::Key,
    manifest::{self, Manifest},
    record::{self, Version},
    store::{Committed, Meta, Sequence},
    txn::{AUDIT, Txn, Write},
};

const QUEUE: usize = 1024;
const BATCH: usize = 256;
/// How many commits may pass between two checkpoints: what a cut database could lose unnoticed.
const COMMITS_PER_CHECKPOINT: u64 = 4096;

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

enum Job {
    Commit(Txn, Reply),
    Close(oneshot::Sender<()>),
}

/// The manifest and where it is kept.
pub(crate) struct Keeper {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
}

/// The way to the writer thread, which ends when this is dropped.
pub(crate) struct Handle {
    jobs: mpsc::Sender<Job>,
    failed: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    pub(crate) async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || CommitError::Store(StoreError::Stopped);
        self.jobs.send(Job::Commit(txn, reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    pub(crate) fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    pub(crate) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.jobs.send(Job::Close(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The database's lock goes with the thread, so whoever drops the last store may open it again.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.jobs, closed));
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn start(backend: Arc<dyn Backend>, keeper: Option<Keeper>) -> Result<Handle, StoreError> {
    let sequence = match backend.get(record::key::<Sequence>(Sequence::ID).as_bytes())? {
        Some(stored) => record::decode::<Sequence>(&stored)?.1.0,
        None => 0,
    };
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (failing, failed) = watch::channel(false);
    let mut writer = Writer {
        backend,
        keeper,
        sequence,
        since_checkpoint: 0,
    };
    writer.checkpoint()?;
    let thread = thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || writer.run(queue, &failing))?;
    Ok(Handle {
        jobs,
        failed,
        thread: Mutex::new(Some(thread)),
    })
}

struct Writer {
    backend: Arc<dyn Backend>,
    keeper: Option<Keeper>,
    sequence: u64,
    since_checkpoint: u64,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>, failing: &watch::Sender<bool>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = queue.blocking_recv() else { break };
            for job in std::iter::once(first)
                .chain(std::iter::from_fn(|| queue.try_recv().ok()))
                .take(BATCH)
            {
                match job {
                    Job::Commit(txn, reply) => batch.push((txn, reply)),
                    Job::Close(reply) => closing = Some(reply),
                }
            }
            if let Err(error) = self.commit_batch(&mut batch) {
                tracing::error!(%error, "a write to the database failed; the server stops, restart it");
                failing.send_replace(true);
                return;
            }
        }
        if let Err(error) = self.checkpoint() {
            tracing::error!(%error, "the last checkpoint of the database failed");
        }
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// On an error some of the batch may be on disk; its replies are dropped, which their owners see as `Stopped`.
    fn commit_batch(&mut self, batch: &mut Vec<(Txn, Reply)>) -> Result<(), StoreError> {
        let mut pending = Pending::new(&*self.backend);
        let mut conflicts = Vec::new();
        let mut accepted = Vec::with_capacity(batch.len());
        for (txn, reply) in batch.drain(..) {
            match pending.admit(txn, self.sequence + 1) {
                Ok(()) => {
                    self.sequence += 1;
                    accepted.push((
                        reply,
                        Committed {
                            sequence: self.sequence,
                        },
                    ));
                }
                Err(CommitError::Conflict(key)) => conflicts.push((reply, key)),
                Err(CommitError::Store(error)) => return Err(error),
            }
        }
        if !accepted.is_empty() {
            let json = record::to_json(&Sequence(self.sequence))?;
            pending.set(
                record::key::<Sequence>(Sequence::ID),
                Some(record::seal(Version(self.sequence), &json)),
            );
            self.backend.apply(pending.into_changes())?;
        }
        // Only now: whoever decides again must see what it conflicted with.
        for (reply, key) in conflicts {
            let _ = reply.send(Err(CommitError::Conflict(key)));
        }
        if accepted.is_empty() {
            return Ok(());
        }
        self.backend.sync()?;
        self.since_checkpoint += accepted.len() as u64;
        for (reply, committed) in accepted {
            let _ = reply.send(Ok(committed));
        }
        if self.since_checkpoint >= COMMITS_PER_CHECKPOINT {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Counts up in the database first, then in the manifest.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        keeper.manifest.checkpoint += 1;
        keeper.manifest.schema = manifest::SCHEMA;
        let json = record::to_json(&Meta {
            store_id: keeper.manifest.store_id.clone(),
            schema: manifest::SCHEMA,
            checkpoint: keeper.manifest.checkpoint,
        })?;
        let stored = record::seal(Version(self.sequence), &json);
        self.backend
            .apply(vec![(record::key::<Meta>(Meta::ID).as_bytes().into(), Some(stored))])?;
        self.backend.sync()?;
        manifest::save(&keeper.folder, &keeper.manifest)?;
        self.since_checkpoint = 0;
        Ok(())
    }
}

/// The changes of a batch, over the database.
struct Pending<'a> {
    backend: &'a dyn Backend,
    changes: HashMap<Key, Option<Vec<u8>>>,
}

impl<'a> Pending<'a> {
    fn new(backend: &'a dyn Backend) -> Self {
        Self {
            backend,
            changes: HashMap::new(),
        }
    }

    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.backend.get(key.as_bytes()),
        }
    }

    fn set(&mut self, key: Key, value: Option<Vec<u8>>) {
        self.changes.insert(key, value);
    }

    /// Adds all of `txn`, as the commit `sequence`, or nothing.
    fn admit(&mut self, txn: Txn, sequence: u64) -> Result<(), CommitError> {
        for (key, expected) in txn.expects {
            if version_of(self.get(&key)?.as_deref()) != expected {
                return Err(CommitError::Conflict(key));
            }
        }
        let version = Version(sequence);
        let mut counters: HashMap<Key, u64> = HashMap::new();
        for count in txn.counts {
            let before = match counters.get(&count.key) {
                Some(value) => *value,
                None => self.get(&count.key)?.as_deref().map_or(0, counter_value),
            };
            let after = before.saturating_add_signed(count.by);
            if count.by > 0 && after > count.at_most {
                return Err(CommitError::Conflict(count.key));
            }
            counters.insert(count.key, after);
        }
        for (key, value) in counters {
            let stored = (value > 0).then(|| record::seal(version, &value.to_be_bytes()));
            self.set(key, stored);
        }
        for (key, write) in txn.changes {
            match write {
                Write::Put(json) => self.set(key, Some(record::seal(version, &json))),
                Write::Delete => self.set(key, None),
                Write::Ensure if self.get(&key)?.is_some() => {}
                Write::Ensure => self.set(key, Some(record::seal(version, &[]))),
            }
        }
        for (index, json) in txn.audit.iter().enumerate() {
            let mut id = sequence.to_be_bytes().to_vec();
            id.extend_from_slice(&u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes());
            self.set(Key::new(AUDIT, id), Some(record::seal(version, json)));
        }
        Ok(())
    }

    fn into_changes(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let changes = self.changes.into_iter();
        changes.map(|(key, value)| (key.as_bytes().to_vec(), value)).collect()
    }
}

/// The version of a stored record, or of its absence.
pub(crate) fn version_of(stored: Option<&[u8]>) -> Version {
    stored
        .and_then(record::unseal)
        .map_or(Version::ABSENT, |(version, _)| version)
}

/// Where a stored counter stands.
pub(crate) fn counter_value(stored: &[u8]) -> u64 {
    let value = record::unseal(stored).and_then(|(_, value)| value.first_chunk::<8>().copied());
    value.map_or(0, u64::from_be_bytes)
}
