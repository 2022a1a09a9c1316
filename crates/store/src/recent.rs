//! Records that were read lately, as values: a flow reads its client and its session five times.
//!
//! In come what [`Reads`](crate::Reads) decoded and the keys that the writer has changed; out go copies with their versions. A
//! record is forgotten after a commit that changes it is visible and before that commit is acknowledged, so whoever was
//! told of a change never reads what was before it.

use std::{any::Any, collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    key::Key,
    record::{Record, Version},
};

/// Bytes of stored records that a generation may hold: there are two, and values take some three times as much.
const GENERATION: usize = 256 << 10;
/// What an entry takes beside its key and record, about; also all that the absence of a record takes.
const OVERHEAD: usize = 128;

/// See the module's description.
#[derive(Default)]
pub(crate) struct Recent(Mutex<State>);

#[derive(Default)]
struct State {
    /// How often the writer has changed the database.
    changes: u64,
    /// What was read since `old` was replaced. When it is full it becomes `old`.
    young: HashMap<Key, Kept>,
    bytes: usize,
    old: HashMap<Key, Kept>,
}

/// A record, or that there is none, with what it takes.
#[derive(Clone)]
struct Kept {
    version: Version,
    record: Option<Arc<dyn Any + Send + Sync>>,
    bytes: usize,
}

/// What is known of a record.
pub(crate) enum Known<R> {
    /// Its version and value as they are now.
    Read(Version, Option<R>),
    /// Nothing. What is read from the database now may be [kept](Recent::keep) under this mark.
    Nothing(Mark),
}

/// A moment between two changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Recent {
    /// The record of this key, copied with `copy`.
    pub(crate) fn get<R: Record>(&self, key: &Key, copy: fn(&R) -> R) -> Known<R> {
        let (found, mark) = {
            let mut state = self.0.lock();
            (state.find(key), Mark(state.changes))
        };
        let Some(kept) = found else { return Known::Nothing(mark) };
        match kept.record.as_deref().map(|record| record.downcast_ref::<R>()) {
            None => Known::Read(kept.version, None),
            Some(Some(record)) => Known::Read(kept.version, Some(copy(record))),
            // Read as another type before.
            Some(None) => Known::Nothing(mark),
        }
    }

    /// Keeps what the database said after `mark`, unless it was changed since: then that may be old by now. `stored` is
    /// what the record takes there, in bytes.
    pub(crate) fn keep<R: Record>(&self, mark: Mark, key: &Key, version: Version, record: Option<R>, stored: usize) {
        let bytes = OVERHEAD + key.as_bytes().len() + stored;
        let record = record.map(|record| Arc::new(record) as Arc<dyn Any + Send + Sync>);
        let mut state = self.0.lock();
        if mark == Mark(state.changes) && bytes <= GENERATION / 4 {
            state.insert(key.clone(), Kept { version, record, bytes });
        }
    }

    /// Forgets records that were changed. To be called when the change is visible.
    pub(crate) fn forget<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let mut state = self.0.lock();
        state.changes += 1;
        for key in keys {
            if let Some(kept) = state.young.remove(key) {
                state.bytes -= kept.bytes;
            }
            state.old.remove(key);
        }
    }
}

impl State {
    fn find(&mut self, key: &Key) -> Option<Kept> {
        if let Some(kept) = self.young.get(key) {
            return Some(kept.clone());
        }
        let (key, kept) = self.old.remove_entry(key)?;
        self.insert(key, kept.clone());
        Some(kept)
    }

    fn insert(&mut self, key: Key, kept: Kept) {
        if self.bytes + kept.bytes > GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += kept.bytes;
        if let Some(before) = self.young.insert(key, kept) {
            self.bytes -= before.bytes;
        }
    }
}

#[cfg(test)]
mod tests;
