//! The one thread that writes: a batch of transactions becomes durable with one sync, then visible, then all of them are
//! acknowledged. So nobody is told, by an acknowledgement or by an answer that only reads, what a power cut could undo.
//!
//! The queue holds [`QUEUE`] transactions; a commit beyond that waits for room. Expectations are checked here, against
//! the database and what the batch has changed so far, so two transactions of one batch conflict as any others do.

use std::{
    collections::HashMap,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    audit,
    backend::{Backend, Change},
    error::{CommitError, StoreError},
    journal,
    key::Key,
    recent::Recent,
    record::{self, Version},
    store::{Committed, Sequence},
    txn::{Expected, Txn, Write},
};

const QUEUE: usize = 1024;
/// Transactions of one batch at most, and bytes of changes from which on it takes no more.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// What one transaction may change, in bytes: with a batch that takes no more, and the last sequence, it fits the journal.
const MAX_TXN: usize = journal::MAX_CHANGES - BATCH_BYTES - 4096;

/// How long the next commit waits for others after one that was not alone: to sync costs what a dozen commits cost
/// otherwise, and whoever commits alone never waits.
const GATHER: Duration = Duration::from_micros(500);

/// The transaction goes back to who made it: that its many small pieces are freed where they were allocated keeps the
/// threads of the allocator out of each other's way.
type Reply = oneshot::Sender<(Txn, Result<Committed, CommitError>)>;

enum Job {
    Commit(Txn, Reply),
    Tidy,
    Close(oneshot::Sender<()>),
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
        let (_txn, result) = answer.await.map_err(|_| stopped())?;
        result
    }

    pub(crate) fn failed(&self) -> watch::Receiver<bool> {
        self.failed.clone()
    }

    pub(crate) async fn tidy(&self) {
        // A writer that is gone has nothing to tidy.
        let _ = self.jobs.send(Job::Tidy).await;
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

pub(crate) fn start(backend: Arc<dyn Backend>, recent: Arc<Recent>) -> Result<Handle, StoreError> {
    let sequence = match backend.get(record::key::<Sequence>(Sequence::ID).as_bytes())? {
        Some(stored) => record::decode::<Sequence>(&stored)?.1.0,
        None => 0,
    };
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (failing, failed) = watch::channel(false);
    let writer = Writer {
        backend,
        recent,
        sequence,
    };
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
    recent: Arc<Recent>,
    sequence: u64,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>, failing: &watch::Sender<bool>) {
        let mut closing = None;
        let mut in_company = false;
        while closing.is_none() {
            let Some(first) = queue.blocking_recv() else { break };
            if in_company {
                thread::sleep(GATHER);
            }
            let jobs = std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok()));
            match self.work(jobs.take(BATCH), &mut closing) {
                Ok(commits) => in_company = commits > 1,
                Err(error) => {
                    tracing::error!(%error, "a write to the database failed; the server stops, restart it");
                    failing.send_replace(true);
                    return;
                }
            }
        }
        if let Some(reply) = closing {
            if let Err(error) = self.backend.close() {
                tracing::error!(%error, "the database could not be closed; the journal keeps what it lacks");
            }
            let _ = reply.send(());
        }
    }

    /// Does these jobs; says how many of them were commits.
    fn work(
        &mut self,
        jobs: impl Iterator<Item = Job>,
        closing: &mut Option<oneshot::Sender<()>>,
    ) -> Result<usize, StoreError> {
        let (backend, recent) = (Arc::clone(&self.backend), Arc::clone(&self.recent));
        let batch_of = || Batch::new(&*backend, &recent);
        let mut batch = batch_of();
        let (mut commits, mut tidies) = (0, false);
        for job in jobs {
            match job {
                Job::Commit(txn, reply) => {
                    commits += 1;
                    if batch.bytes >= BATCH_BYTES {
                        std::mem::replace(&mut batch, batch_of()).commit(self.sequence)?;
                    }
                    batch.take(txn, reply, &mut self.sequence)?;
                }
                Job::Tidy => tidies = true,
                Job::Close(reply) => *closing = Some(reply),
            }
        }
        batch.commit(self.sequence)?;
        if tidies {
            self.backend.tidy()?;
        }
        Ok(commits)
    }
}

/// Transactions that become durable together.
struct Batch<'a> {
    pending: Pending<'a>,
    recent: &'a Recent,
    accepted: Vec<(Reply, Txn, Committed)>,
    conflicts: Vec<(Reply, Txn, Key)>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(backend: &'a dyn Backend, recent: &'a Recent) -> Self {
        Self {
            pending: Pending::new(backend),
            recent,
            accepted: Vec::new(),
            conflicts: Vec::new(),
            bytes: 0,
        }
    }

    /// Admits a transaction as the one after `sequence`, or refuses it.
    fn take(&mut self, txn: Txn, reply: Reply, sequence: &mut u64) -> Result<(), StoreError> {
        let bytes = txn.bytes();
        if bytes > MAX_TXN {
            let _ = reply.send((txn, Err(StoreError::TooLarge(bytes).into())));
            return Ok(());
        }
        match self.pending.admit(&txn, *sequence + 1) {
            Ok(()) => {
                *sequence += 1;
                self.bytes += bytes;
                self.accepted.push((reply, txn, Committed { sequence: *sequence }));
            }
            Err(CommitError::Conflict(key)) => self.conflicts.push((reply, txn, key)),
            Err(CommitError::Store(error)) => return Err(error),
        }
        Ok(())
    }

    /// On an error some of it may be on disk; its replies are dropped, which their owners see as `Stopped`.
    fn commit(mut self, sequence: u64) -> Result<(), StoreError> {
        let backend = self.pending.backend;
        if !self.accepted.is_empty() {
            let last = record::to_body(&Sequence(sequence))?;
            let key = record::key::<Sequence>(Sequence::ID);
            self.pending.set(key, Some(record::seal(Version(sequence), &last)));
            let keys: Vec<Key> = self.pending.changes.keys().cloned().collect();
            backend.apply(self.pending.into_changes())?;
            self.recent.forget(keys.iter().map(Key::as_bytes));
        }
        // Only now: whoever decides again must see what it conflicted with.
        for (reply, txn, key) in self.conflicts {
            let _ = reply.send((txn, Err(CommitError::Conflict(key))));
        }
        for (reply, txn, committed) in self.accepted {
            let _ = reply.send((txn, Ok(committed)));
        }
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

    /// Whether a record still is what it was read as.
    fn holds(&self, expected: &Expected) -> Result<bool, StoreError> {
        let key = &expected.key;
        if let Some(since) = expected.since
            && !self.changes.contains_key(key)
            && self.backend.is_unchanged(key.as_bytes(), since)
        {
            return Ok(true);
        }
        let stored = self.get(key)?;
        let sealed = stored.as_deref().and_then(record::unseal);
        Ok(sealed.map_or(Version::ABSENT, |(version, _)| version) == expected.version)
    }

    fn set(&mut self, key: Key, value: Option<Vec<u8>>) {
        self.changes.insert(key, value);
    }

    /// Adds all of `txn`, as the commit `sequence`, or nothing.
    fn admit(&mut self, txn: &Txn, sequence: u64) -> Result<(), CommitError> {
        for expected in &txn.expects {
            if !self.holds(expected)? {
                return Err(CommitError::Conflict(expected.key.clone()));
            }
        }
        let version = Version(sequence);
        let mut counters: HashMap<&Key, u64> = HashMap::new();
        for count in &txn.counts {
            let before = match counters.get(&count.key) {
                Some(value) => *value,
                None => self.get(&count.key)?.as_deref().map_or(0, counter_value),
            };
            let after = before.saturating_add_signed(count.by);
            if count.by > 0 && after > count.at_most {
                return Err(CommitError::Conflict(count.key.clone()));
            }
            counters.insert(&count.key, after);
        }
        for (key, value) in counters {
            let stored = (value > 0).then(|| record::seal(version, &value.to_be_bytes()));
            self.set(key.clone(), stored);
        }
        for (key, write) in &txn.changes {
            let value = match write {
                Write::Put(body) => Some(record::seal(version, body)),
                Write::Delete => None,
                Write::Ensure if self.get(key)?.is_some() => continue,
                Write::Ensure => Some(record::seal(version, &[])),
            };
            self.set(key.clone(), value);
        }
        for (place, json) in txn.audit.iter().enumerate() {
            self.set(audit::position(sequence, place), Some(record::seal(version, json)));
        }
        Ok(())
    }

    fn into_changes(self) -> Vec<Change> {
        let changes = self.changes.into_iter();
        changes.map(|(key, value)| (key.into_bytes(), value)).collect()
    }
}

/// Where a stored counter stands.
pub(crate) fn counter_value(stored: &[u8]) -> u64 {
    let value = record::unseal(stored).and_then(|(_, value)| value.first_chunk::<8>().copied());
    value.map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
