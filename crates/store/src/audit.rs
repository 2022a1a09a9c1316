//! The audit trail: one line for each thing that a transaction says, in the order of commits.
//!
//! A line stands under its position, the number of its commit and its place in it. When it moves into the database it
//! becomes part of a [`Bundle`], which stands under the position of its last line: so the bundle that holds what
//! comes after a position is the first one behind it.

use std::collections::BTreeMap;

use crate::{
    backend::Entry,
    error::StoreError,
    key::Key,
    record::{self, Version},
    store::Store,
    txn::{AUDIT, AUDIT_COUNT, Txn, Write},
};

/// The table of bundles.
const BUNDLES: &str = "audit-bundle";
/// Bytes of lines from which on a bundle is whole.
const BUNDLE: usize = 4096;
/// Bundles that are read at once.
const PAGE: usize = 16;
/// Commit (8 bytes) and place (2 bytes), big-endian.
const POSITION: usize = 10;

/// The position of the line at a place of a commit.
pub(crate) fn position(sequence: u64, place: usize) -> Key {
    let mut id = sequence.to_be_bytes().to_vec();
    id.extend_from_slice(&u16::try_from(place).unwrap_or(u16::MAX).to_be_bytes());
    Key::new(AUDIT, id)
}

/// Lines that are forgotten together.
#[derive(Debug)]
pub struct Oldest {
    key: Key,
    /// The lines, oldest first, as JSON.
    pub lines: Vec<String>,
}

impl Store {
    /// The audit records, oldest first, as JSON, from `after` (a position that an earlier call gave) on.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn audit(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, String)>, StoreError> {
        let mut lines = BTreeMap::new();
        // Lines by themselves first: one that moves into a bundle meanwhile is then seen twice, not never.
        let key = after.map(|after| Key::new(AUDIT, after));
        for entry in self.entries(&Key::new(AUDIT, ""), key.as_ref().map(Key::as_bytes), limit)? {
            if let Some((position, line)) = alone(&entry) {
                lines.insert(position.to_vec(), line);
            }
        }
        let mut key = after.map(|after| Key::new(BUNDLES, after));
        let mut bundled = 0;
        while bundled < limit {
            let entries = self.entries(&Key::new(BUNDLES, ""), key.as_ref().map(Key::as_bytes), PAGE)?;
            let Some((last, _)) = entries.last() else { break };
            key = Some(Key::raw(last));
            for (position, line) in entries.iter().flat_map(|(_, bundle)| unbundled(bundle)) {
                if after.is_none_or(|after| position > after) {
                    lines.insert(position.to_vec(), line.to_owned());
                    bundled += 1;
                }
            }
        }
        Ok(lines.into_iter().take(limit).collect())
    }

    /// How many audit records are kept.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn audit_count(&self) -> Result<u64, StoreError> {
        self.reads().counter(AUDIT_COUNT).await
    }

    /// The oldest audit records, as they can be forgotten. The latest are not among them.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn oldest_audit(&self, limit: usize) -> Result<Vec<Oldest>, StoreError> {
        let bundles = self.settled(&Key::new(BUNDLES, ""), limit)?;
        let bundles = bundles.iter().map(|(key, value)| Oldest {
            key: Key::raw(key),
            lines: unbundled(value).map(|(_, line)| line.to_owned()).collect(),
        });
        let alone = self.settled(&Key::new(AUDIT, ""), limit)?;
        let alone = alone.iter().filter_map(|entry| {
            Some(Oldest {
                key: Key::raw(&entry.0),
                lines: vec![self::alone(entry)?.1],
            })
        });
        // A database has either: lines by themselves stay so only in memory.
        Ok(bundles.chain(alone).take(limit).collect())
    }
}

impl Txn {
    /// Forgets audit records.
    pub fn forget_audit(&mut self, oldest: &Oldest) {
        self.changes.push((oldest.key.clone(), Write::Delete));
        let lines = i64::try_from(oldest.lines.len()).unwrap_or(i64::MAX);
        self.count(AUDIT_COUNT, -lines, None);
    }
}

/// Lines on their way into one record.
#[derive(Default)]
pub(crate) struct Bundle {
    last: Vec<u8>,
    lines: Vec<u8>,
}

impl Bundle {
    /// The position of an audit line with this key.
    pub(crate) fn position(key: &[u8]) -> Option<&[u8]> {
        key.strip_prefix(AUDIT.as_bytes())?.strip_prefix(&[0])
    }

    /// Adds a stored line; gives the record when it is whole.
    pub(crate) fn add(&mut self, position: &[u8], stored: &[u8]) -> Option<(Key, Vec<u8>)> {
        let (_, line) = record::unseal(stored)?;
        self.last = position.to_vec();
        self.lines.extend_from_slice(position);
        self.lines
            .extend_from_slice(&u32::try_from(line.len()).ok()?.to_be_bytes());
        self.lines.extend_from_slice(line);
        if self.lines.len() < BUNDLE { None } else { self.end() }
    }

    /// What there is, if there is anything.
    pub(crate) fn end(&mut self) -> Option<(Key, Vec<u8>)> {
        let Self { last, lines } = std::mem::take(self);
        (!lines.is_empty()).then(|| (Key::new(BUNDLES, last), record::seal(Version(0), &lines)))
    }
}

fn alone((key, value): &Entry) -> Option<(&[u8], String)> {
    let (_, line) = record::unseal(value)?;
    Some((Bundle::position(key)?, String::from_utf8_lossy(line).into_owned()))
}

/// The lines of a stored bundle with their positions.
fn unbundled(stored: &[u8]) -> impl Iterator<Item = (&[u8], &str)> {
    let mut rest = record::unseal(stored).map_or(&[][..], |(_, lines)| lines);
    std::iter::from_fn(move || {
        let (position, after) = rest.split_at_checked(POSITION)?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (line, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = after;
        Some((position, std::str::from_utf8(line).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests;
