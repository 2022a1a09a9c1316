//! A transaction as data.

use countersign_oauth::audit::AuditRecord;

use crate::{
    error::StoreError,
    key::Key,
    record::{self, Record, Version},
};

/// What is to happen at once, or not at all.
///
/// Usually made by [`Reads::into_txn`](crate::Reads::into_txn), so that everything that was read is expected unchanged.
/// A later change of the same record replaces an earlier one.
#[derive(Debug, Default)]
pub struct Txn {
    pub(crate) expects: Vec<(Key, Version)>,
    pub(crate) changes: Vec<(Key, Option<Vec<u8>>)>,
    pub(crate) counts: Vec<Count>,
    pub(crate) audit: Vec<Vec<u8>>,
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
/// The table of audit records.
pub(crate) const AUDIT: &str = "audit";

impl Txn {
    /// A transaction that expects and changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `record`, new or over the one with its id.
    ///
    /// # Errors
    /// [`StoreError::Record`] for a record that has no JSON form.
    pub fn put<R: Record>(&mut self, record: &R) -> Result<(), StoreError> {
        let json = record::to_json(record)?;
        self.changes.push((record::key::<R>(&record.id()), Some(json)));
        Ok(())
    }

    /// Deletes the record with this id, if there is one.
    pub fn delete<R: Record>(&mut self, id: impl AsRef<[u8]>) {
        self.changes.push((record::key::<R>(id.as_ref()), None));
    }

    /// Expects that no record with this id exists.
    pub fn expect_absent<R: Record>(&mut self, id: impl AsRef<[u8]>) {
        self.expects.push((record::key::<R>(id.as_ref()), Version::ABSENT));
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
        Ok(())
    }
}
