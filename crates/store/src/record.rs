//! How a record stands in the database: the version of its last write (8 bytes), its format (2 bytes), then JSON. Numbers
//! are big-endian.

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::StoreError, key::Key, resting::Resting};

/// A value with a table and an id.
///
/// [`FORMAT`](Record::FORMAT) counts up with every change that an older version could not read; the new version then
/// also reads the old format in [`upgrade`](Record::upgrade).
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The table, a short name that never changes.
    const TABLE: &'static str;
    /// The format that this version writes.
    const FORMAT: u16;
    /// How to copy a record of a table that is read again and again: what was read of it lately is kept in memory, also
    /// that there is nothing.
    const COPY: Option<fn(&Self) -> Self> = None;

    /// The id within its table.
    fn id(&self) -> Vec<u8>;

    /// What it stands or falls with; `None` for a record that nobody was given.
    fn resting(&self) -> Option<Resting<'_>> {
        None
    }

    /// Reads an older format.
    ///
    /// # Errors
    /// A phrase that says why it cannot.
    fn upgrade(format: u16, _json: &str) -> Result<Self, String> {
        Err(format!("format {format} is unknown to this version"))
    }
}

/// The commit that wrote a record last; 0 for a record that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u64);

impl Version {
    pub(crate) const ABSENT: Self = Self(0);
}

pub(crate) fn key<R: Record>(id: &[u8]) -> Key {
    Key::new(R::TABLE, id)
}

/// What is stored of a record behind its version.
pub(crate) fn to_body<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    let mut body = R::FORMAT.to_be_bytes().to_vec();
    serde_json::to_writer(&mut body, record).map_err(|error| unreadable::<R>(&error))?;
    Ok(body)
}

/// Puts the version before what is stored.
pub(crate) fn seal(version: Version, body: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(8 + body.len());
    stored.extend_from_slice(&version.0.to_be_bytes());
    stored.extend_from_slice(body);
    stored
}

/// Takes a stored record apart again.
pub(crate) fn unseal(stored: &[u8]) -> Option<(Version, &[u8])> {
    let (version, body) = stored.split_first_chunk::<8>()?;
    Some((Version(u64::from_be_bytes(*version)), body))
}

pub(crate) fn decode<R: Record>(stored: &[u8]) -> Result<(Version, R), StoreError> {
    let cut = || unreadable::<R>(&"it is cut short");
    let (version, body) = unseal(stored).ok_or_else(cut)?;
    let (format, json) = body.split_first_chunk::<2>().ok_or_else(cut)?;
    let format = u16::from_be_bytes(*format);
    let record = if format == R::FORMAT {
        serde_json::from_slice(json).map_err(|error| unreadable::<R>(&error))?
    } else {
        let json = std::str::from_utf8(json).map_err(|error| unreadable::<R>(&error))?;
        R::upgrade(format, json).map_err(|reason| unreadable::<R>(&reason))?
    };
    Ok((version, record))
}

fn unreadable<R: Record>(reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Record {
        table: R::TABLE,
        reason: reason.to_string().into(),
    }
}
