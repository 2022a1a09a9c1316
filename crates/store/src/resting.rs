//! The index of what rests on what.
//!
//! What was given to somebody ends with the node that it was given to, and with its client. A record says so in
//! [`Record::resting`](crate::Record::resting); [`Txn::put`](crate::Txn::put) and [`Txn::remove`](crate::Txn::remove)
//! keep an entry for each [`Anchor`] in the transaction of the record itself. So the records of one node are found
//! without a look at those of others, and so are the nodes that any record rests on.

use crate::{
    error::StoreError,
    key::Key,
    records::DueKind,
    store::Store,
    txn::{RESTING, Txn, Write},
};

/// What a record stands or falls with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor<'a> {
    /// A node, by its stable id.
    Node(&'a str),
    /// A client, by its id.
    Client(&'a str),
}

/// What a record says about itself for the index.
#[derive(Debug, Clone)]
pub struct Resting<'a> {
    /// Its table.
    pub kind: DueKind,
    /// Whether there is anything left of it to end: others are not in the index.
    pub live: bool,
    /// What it rests on.
    pub on: Vec<Anchor<'a>>,
}

/// A record that the index found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its table.
    pub kind: DueKind,
    /// Its id.
    pub id: String,
    /// Where the search goes on after it.
    pub position: Vec<u8>,
}

const NODE: u8 = b'n';
const CLIENT: u8 = b'c';
/// Ends the name of an anchor; neither stable ids nor client ids hold it.
const END: u8 = 0;

impl Anchor<'_> {
    fn prefix(&self) -> Vec<u8> {
        let (tag, name) = match self {
            Self::Node(name) => (NODE, name),
            Self::Client(name) => (CLIENT, name),
        };
        let mut prefix = vec![tag];
        prefix.extend_from_slice(name.as_bytes());
        prefix.push(END);
        prefix
    }

    fn entry(&self, kind: DueKind, id: &[u8]) -> Key {
        let mut entry = self.prefix();
        entry.push(kind as u8);
        entry.extend_from_slice(id);
        Key::new(RESTING, entry)
    }
}

impl Txn {
    /// Brings the entries of a record up to date with it.
    pub(crate) fn index(&mut self, id: &[u8], resting: &Resting<'_>) {
        for anchor in &resting.on {
            let write = if resting.live { Write::Ensure } else { Write::Delete };
            self.changes.push((anchor.entry(resting.kind, id), write));
        }
    }

    /// Forgets that a record rested on `anchor`: for entries whose record is gone.
    pub fn forget_resting(&mut self, anchor: &Anchor<'_>, found: &Found) {
        let entry = anchor.entry(found.kind, found.id.as_bytes());
        self.changes.push((entry, Write::Delete));
    }
}

impl Store {
    /// Up to `limit` records that rest on `anchor`, from behind `after` (the position of one that was found earlier) on.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn resting_on(
        &self,
        anchor: &Anchor<'_>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let prefix = Key::new(RESTING, anchor.prefix());
        let entries = self.entries(&prefix, after, limit)?;
        let found = entries.into_iter().filter_map(|(position, _)| {
            let (kind, id) = position.get(prefix.as_bytes().len()..)?.split_first()?;
            Some(Found {
                kind: DueKind::from_letter(*kind)?,
                id: String::from_utf8(id.to_vec()).ok()?,
                position,
            })
        });
        Ok(found.collect())
    }

    /// The next node, in the order of stable ids, on which some record rests. One search for each node, however many
    /// records it has.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn next_anchored_node(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
        let prefix = Key::new(RESTING, [NODE]);
        let after = after.map(|node| {
            // Behind every entry of that node.
            let mut id = vec![NODE];
            id.extend_from_slice(node.as_bytes());
            id.push(END + 1);
            Key::new(RESTING, id)
        });
        let entries = self.entries(&prefix, after.as_ref().map(Key::as_bytes), 1)?;
        let Some((position, _)) = entries.first() else {
            return Ok(None);
        };
        let name = position.get(prefix.as_bytes().len()..).unwrap_or_default();
        let name = name.split(|byte| *byte == END).next().unwrap_or_default();
        Ok(Some(String::from_utf8_lossy(name).into_owned()))
    }
}

#[cfg(test)]
mod tests;
