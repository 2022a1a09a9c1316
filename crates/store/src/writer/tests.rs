use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::{
    backend::{Entry, memory::Memory},
    store::Meta,
};

/// A backend whose writes can be held up, and counted.
#[derive(Default)]
struct Slow {
    memory: Memory,
    disk: Mutex<()>,
    batches: AtomicUsize,
}

impl Backend for Slow {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.memory.scan(prefix, after, limit)
    }

    fn settled(&self, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.memory.settled(prefix, limit)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let _disk = self.disk.lock();
        self.batches.fetch_add(1, SeqCst);
        self.memory.apply(changes)
    }

    fn tidy(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size(&self) -> u64 {
        0
    }
}

fn started() -> (Arc<Slow>, Handle) {
    let slow = Arc::new(Slow::default());
    let handle = start(Arc::clone(&slow) as Arc<dyn Backend>, Arc::default()).unwrap();
    (slow, handle)
}

fn txn(id: &str) -> Txn {
    let mut txn = Txn::new();
    txn.changes
        .push((record::key::<Meta>(id.as_bytes()), Write::Put(vec![1])));
    txn
}

type Answer = oneshot::Receiver<(Txn, Result<Committed, CommitError>)>;

fn queued(handle: &Handle, id: &str) -> Answer {
    let (reply, answer) = oneshot::channel();
    assert!(handle.jobs.blocking_send(Job::Commit(txn(id), reply)).is_ok());
    answer
}

fn acknowledged(answer: Answer) {
    answer.blocking_recv().unwrap().1.unwrap();
}

/// How many batches two commits are of which the second comes when the writer has the first, after a batch of `company`
/// or of one.
fn batches_of_two(slow: &Slow, handle: &Handle, company: usize) -> usize {
    let disk = slow.disk.lock();
    let mut answers = vec![queued(handle, "first")];
    // The writer has it by then, and the others wait until it is written.
    thread::sleep(2 * GATHER);
    answers.extend((0..company).map(|number| queued(handle, &format!("company {number}"))));
    drop(disk);
    answers.into_iter().for_each(acknowledged);
    let before = slow.batches.load(SeqCst);
    let one = queued(handle, "one");
    thread::sleep(GATHER / 5);
    let other = queued(handle, "other");
    acknowledged(one);
    acknowledged(other);
    slow.batches.load(SeqCst) - before
}

#[test]
fn after_company_a_commit_waits_for_more_and_alone_it_does_not() {
    const ROUNDS: usize = 40;
    let (slow, handle) = started();
    let (mut together, mut alone) = (0, 0);
    for _ in 0..ROUNDS {
        together += usize::from(batches_of_two(&slow, &handle, 2) == 1);
        alone += usize::from(batches_of_two(&slow, &handle, 0) == 1);
    }
    // On a busy machine either of them may be late.
    assert!(together > ROUNDS / 4, "{together} of {ROUNDS} found company");
    assert!(
        alone < ROUNDS / 4,
        "{alone} of {ROUNDS} waited, with no company before them"
    );
}
