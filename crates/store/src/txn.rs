//! A transaction as data.

use countersign_oauth::audit::AuditRecord;

use crate::{
    backend::Moment,
    error::StoreError,
    key::Key,
    record::{self, Record, Version},
    resting::Resting,
};

/// What is to happen at once, or not at all.
///
/// Usually made by [`Reads::into_txn`](crate::Reads::into_txn), so that everything that was read is expected unchanged.
/// A later change of the same record replaces an earlier one.
#[derive(Debug, Default)]
pub struct Txn {
    pub(crate) expects: Vec<Expected>,
    pub(crate) changes: Vec<(Key, Write)>,
    pub(crate) counts: Vec<Count>,
    pub(crate) audit: Vec<Vec<u8>>,
}

/// What a record is to be when the transaction is made.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) key: Key,
    pub(crate) version: Version,
    /// A moment before it was seen to be this; `None` when nobody looked.
    pub(crate) since: Option<Moment>,
}

/// What becomes of one key.
#[derive(Debug)]
pub(crate) enum Write {
    /// It gets this value.
    Put(Vec<u8>),
    /// It is deleted, if it exists.
    Delete,
    /// It exists afterwards: an entry of an index, which has no value and is not written again.
    Ensure,
}

/// A step of a counter. Steps of several transactions do not conflict, unless the ceiling is reached.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) key: Key,
    pub(crate) by: i64,
    pub(crate) at_most: u64,
}

/// The table of counters.
pub(crate) const COUNTERS: &str = "count";
/// The table of the index of what rests on what.
pub(crate) const RESTING: &str = "resting";
/// The counter of audit records.
pub(crate) const AUDIT_COUNT: &str = "audit";
/// The table of audit records.
pub(crate) const AUDIT: &str = "audit";

/// What an entry takes beside key and value, at most.
const ENTRY: usize = 32;

impl Txn {
    /// A transaction that expects and changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `record`, new or over the one with its id, and its entries in the index of what rests on what.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that has no JSON form.
    pub fn put<R: Record>(&mut self, record: &R) -> Result<(), StoreError> {
        let body = record::to_body(record)?;
        let id = record.id();
        self.changes.push((record::key::<R>(&id), Write::Put(body)));
        if let Some(resting) = record.resting() {
            self.index(&id, &resting);
        }
        Ok(())
    }

    /// Deletes the record with this id, if there is one. For a record that rests on something use
    /// [`remove`](Self::remove).
    pub fn delete<R: Record>(&mut self, id: impl AsRef<[u8]>) {
        self.changes.push((record::key::<R>(id.as_ref()), Write::Delete));
    }

    /// Deletes `record` and its entries in the index of what rests on what.
    pub fn remove<R: Record>(&mut self, record: &R) {
        let id = record.id();
        self.delete::<R>(&id);
        if let Some(resting) = record.resting() {
            self.index(&id, &Resting { live: false, ..resting });
        }
    }

    /// Expects that no record with this id exists.
    pub fn expect_absent<R: Record>(&mut self, id: impl AsRef<[u8]>) {
        self.expects.push(Expected {
            key: record::key::<R>(id.as_ref()),
            version: Version::ABSENT,
            since: None,
        });
    }

    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.counts.is_empty() && self.audit.is_empty()
    }

    /// Adds everything that `other` expects and changes.
    pub fn append(&mut self, other: Self) {
        self.expects.extend(other.expects);
        self.changes.extend(other.changes);
        self.counts.extend(other.counts);
        self.audit.extend(other.audit);
    }

    /// Adds `by` to the counter `name`, which must not end above `at_most`; it never falls below 0.
    ///
    /// Above the ceiling the commit answers with a conflict: reading the counter again then tells why.
    pub fn count(&mut self, name: &str, by: i64, at_most: Option<u64>) {
        self.counts.push(Count {
            key: Key::new(COUNTERS, name),
            by,
            at_most: at_most.unwrap_or(u64::MAX),
        });
    }

    /// Adds a line to the audit trail.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that has no JSON form.
    pub fn audit(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        let json = serde_json::to_vec(record).map_err(|error| StoreError::Record {
            table: AUDIT,
            reason: error.to_string().into(),
        })?;
        self.audit.push(json);
        self.count(AUDIT_COUNT, 1, None);
        Ok(())
    }

    /// Bytes that it takes in the journal, about. A transaction of more than 3 MiB is refused.
    pub fn bytes(&self) -> usize {
        let changes = self.changes.iter().map(|(key, write)| match write {
            Write::Put(body) => ENTRY + key.as_bytes().len() + body.len(),
            Write::Delete | Write::Ensure => ENTRY + key.as_bytes().len(),
        });
        let audit = self.audit.iter().map(|json| 2 * ENTRY + json.len());
        let counts = self.counts.iter().map(|count| 2 * ENTRY + count.key.as_bytes().len());
        changes.chain(audit).chain(counts).sum()
    }
}
