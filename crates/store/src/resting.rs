//! What rests on a node.
//!
//! What was given to somebody ends with the node that it was given to. A record says in
//! [`Record::resting`](crate::Record::resting) on which nodes it rests; [`Txn::put`](crate::Txn::put) and
//! [`Txn::remove`](crate::Txn::remove) keep an entry for each in the transaction of the record itself. So the records of
//! one node are found without a look at those of others, and so are the nodes that any record rests on.
//!
//! A code or grant has an entry only for nodes other than the one at which it was given: its id begins with that node's
//! [tag](countersign_oauth::grant::NodeTag), so their tables are themselves sorted by what is looked for.

use countersign_oauth::grant::{Code, Grant, GrantId};
use serde::{Deserialize, Serialize};

use crate::{
    error::StoreError,
    key::Key,
    record::Record,
    records::DueKind,
    store::Store,
    txn::{RESTING, Txn, Write},
};

/// What a record says about itself for the index.
#[derive(Debug, Clone)]
pub struct Resting<'a> {
    /// Its table.
    pub kind: DueKind,
    /// Whether there is anything left of it to end: others are not in the index.
    pub live: bool,
    /// The nodes that it rests on, by their stable ids.
    pub on: Vec<&'a str>,
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

/// A node on which some record rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// Its stable id.
    pub node: String,
    /// Where the search goes on after it.
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Among the entries of the index.
    Index,
    /// Among the codes, below this tag.
    Codes(String),
    /// Among the grants, below this tag.
    Grants(String),
}

/// What every entry begins with.
const NODE: u8 = b'n';
/// Ends the name of a node; stable ids do not hold it.
const END: u8 = 0;
/// Sorts behind every character of the id of a code or grant.
const BEHIND: u8 = 0x7f;

/// As much of a [`Grant`] as says where it was given: the search for nodes reads one for each.
#[derive(Serialize, Deserialize)]
struct Given {
    id: GrantId,
    authorization: By,
}

#[derive(Serialize, Deserialize)]
struct By {
    subject: At,
}

#[derive(Serialize, Deserialize)]
struct At {
    node_id: String,
}

impl Record for Given {
    const TABLE: &'static str = Grant::TABLE;
    const FORMAT: u16 = Grant::FORMAT;

    fn id(&self) -> Vec<u8> {
        self.id.as_str().into()
    }
}

fn prefix(node: &str) -> Vec<u8> {
    let mut prefix = vec![NODE];
    prefix.extend_from_slice(node.as_bytes());
    prefix.push(END);
    prefix
}

fn entry(node: &str, kind: DueKind, id: &[u8]) -> Key {
    let mut entry = prefix(node);
    entry.push(kind as u8);
    entry.extend_from_slice(id);
    Key::new(RESTING, entry)
}

impl Txn {
    /// Brings the entries of a record up to date with it.
    pub(crate) fn index(&mut self, id: &[u8], resting: &Resting<'_>) {
        for node in &resting.on {
            let write = if resting.live { Write::Ensure } else { Write::Delete };
            self.changes.push((entry(node, resting.kind, id), write));
        }
    }

    /// Forgets that a record rested on `node`: for entries whose record is gone.
    pub fn forget_resting(&mut self, node: &str, found: &Found) {
        let entry = entry(node, found.kind, found.id.as_bytes());
        self.changes.push((entry, Write::Delete));
    }
}

impl Store {
    /// Up to `limit` records that rest on `node` by an entry of the index, from behind `after` (the position of one that
    /// was found earlier) on. The codes and grants that were given at the node are not among them: they are the records
    /// of their tables below its [tag](countersign_oauth::grant::NodeTag).
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn resting_on(&self, node: &str, after: Option<&[u8]>, limit: usize) -> Result<Vec<Found>, StoreError> {
        let wanted = Key::new(RESTING, prefix(node));
        let entries = self.entries(&wanted, after, limit)?;
        let found = entries.into_iter().filter_map(|(position, _)| {
            let (kind, id) = position.get(wanted.as_bytes().len()..)?.split_first()?;
            Some(Found {
                kind: DueKind::from_letter(*kind)?,
                id: String::from_utf8(id.to_vec()).ok()?,
                position,
            })
        });
        Ok(found.collect())
    }

    /// The next node on which some record rests: first those of the index, then those at which a code was given, then
    /// those at which a grant was. One that has several is met as often. One search for each, however many records it
    /// has. Of two nodes that share a tag, the one with the first record is met; whoever reads what is below the tag
    /// has that of both.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn next_anchored(&self, after: Option<&Anchored>) -> Result<Option<Anchored>, StoreError> {
        let (codes, grants) = match after.map(|after| &after.place) {
            None | Some(Place::Index) => {
                if let Some(next) = self.next_in_index(after.map(|after| after.node.as_str()))? {
                    return Ok(Some(next));
                }
                (Some(""), "")
            }
            Some(Place::Codes(tag)) => (Some(tag.as_str()), ""),
            Some(Place::Grants(tag)) => (None, tag.as_str()),
        };
        if let Some(tag) = codes
            && let Some(code) = self.first_behind::<Code>(tag).await?
        {
            return Ok(Some(Anchored {
                place: Place::Codes(code.id.tag().to_text()),
                node: code.authorization.subject.node_id,
            }));
        }
        let grant = self.first_behind::<Given>(grants).await?;
        Ok(grant.map(|grant| Anchored {
            place: Place::Grants(grant.id.tag().to_owned()),
            node: grant.authorization.subject.node_id,
        }))
    }

    /// The first record behind all those below `tag`; the very first where that is empty.
    async fn first_behind<R: Record>(&self, tag: &str) -> Result<Option<R>, StoreError> {
        let behind = (!tag.is_empty()).then(|| [tag.as_bytes(), &[BEHIND]].concat());
        Ok(self.scan::<R>(b"", behind.as_deref(), 1).await?.records.pop())
    }

    fn next_in_index(&self, after: Option<&str>) -> Result<Option<Anchored>, StoreError> {
        let all = Key::new(RESTING, [NODE]);
        let after = after.map(|node| {
            // Behind every entry of that node.
            let mut id = vec![NODE];
            id.extend_from_slice(node.as_bytes());
            id.push(END + 1);
            Key::new(RESTING, id)
        });
        let entries = self.entries(&all, after.as_ref().map(Key::as_bytes), 1)?;
        Ok(entries.first().map(|(position, _)| {
            let name = position.get(all.as_bytes().len()..).unwrap_or_default();
            let name = name.split(|byte| *byte == END).next().unwrap_or_default();
            Anchored {
                node: String::from_utf8_lossy(name).into_owned(),
                place: Place::Index,
            }
        }))
    }
}

#[cfg(test)]
mod tests;
