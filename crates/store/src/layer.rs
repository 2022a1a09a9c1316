//! What was committed and is not in the database yet, in memory and in order.
//!
//! Most of what an authorization server writes lives for seconds: a code is made, redeemed and gone. Here the later change of
//! a key replaces the earlier one, so such a record never reaches the database, and a record that is written again and
//! again reaches it once.

use std::{cmp::Ordering, collections::BTreeMap, iter::Peekable, ops::Bound};

use crate::{backend::Change, error::StoreError};

/// Changes over a database, or over another layer. `None` stands for a record that is deleted.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

/// What an entry of the tree takes beside key and value, about.
const OVERHEAD: usize = 80;

impl Layer {
    /// Makes `changes`, in order.
    pub(crate) fn put(&mut self, changes: Vec<Change>) {
        for (key, value) in changes {
            let length = OVERHEAD + key.len();
            self.bytes += length + value.as_ref().map_or(0, Vec::len);
            if let Some(before) = self.changes.insert(key, value) {
                self.bytes -= length + before.map_or(0, |before| before.len());
            }
        }
    }

    /// What it says of a key: nothing, that the record is deleted, or its value.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.get(key).map(Option::as_deref)
    }

    /// Its changes from `start` on, in order.
    pub(crate) fn range(&self, start: Bound<&[u8]>) -> impl Iterator<Item = Change> {
        let changes = self.changes.range::<[u8], _>((start, Bound::Unbounded));
        changes.map(|(key, value)| (key.clone(), value.clone()))
    }

    /// All its changes, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Two ordered sources as one; where both have a key, the first counts.
pub(crate) struct Merged<A: Iterator<Item = Change>, B: Iterator<Item = Result<Change, StoreError>>> {
    over: Peekable<A>,
    under: Peekable<B>,
}

impl<A: Iterator<Item = Change>, B: Iterator<Item = Result<Change, StoreError>>> Merged<A, B> {
    pub(crate) fn new(over: A, under: B) -> Self {
        Self {
            over: over.peekable(),
            under: under.peekable(),
        }
    }
}

impl<A: Iterator<Item = Change>, B: Iterator<Item = Result<Change, StoreError>>> Iterator for Merged<A, B> {
    type Item = Result<Change, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.over.peek(), self.under.peek()) {
            (Some(over), Some(Ok(under))) => over.0.cmp(&under.0),
            (Some(_), None) => Ordering::Less,
            (_, _) => Ordering::Greater,
        };
        if order == Ordering::Greater {
            return self.under.next();
        }
        if order == Ordering::Equal {
            self.under.next();
        }
        self.over.next().map(Ok)
    }
}

#[cfg(test)]
mod tests;
