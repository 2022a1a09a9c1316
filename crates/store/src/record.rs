//! How a record stands in the database: the version of its last write, then JSON that says its own format.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{error::StoreError, key::Key, resting::Resting};

/// A value with a table and an id.
///
/// [`FORMAT`](Record::FORMAT) counts up with every change that an older version could not read; the new version then
/// also reads the old format in [`upgrade`](Record::upgrade).
pub trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// The table, a short name that never changes.
    const TABLE: &'static str;
    /// The format that this version writes.
    const FORMAT: u32;

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
    fn upgrade(format: u32, _json: &str) -> Result<Self, String> {
        Err(format!("format {format} is unknown to this version"))
    }
}

/// The commit that wrote a record last; 0 for a record that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u64);

impl Version {
    pub(crate) const ABSENT: Self = Self(0);
}

#[derive(Serialize)]
struct Written<'a, R> {
    f: u32,
    r: &'a R,
}

#[derive(Deserialize)]
struct Read<'a> {
    f: u32,
    #[serde(borrow)]
    r: &'a RawValue,
}

pub(crate) fn key<R: Record>(id: &[u8]) -> Key {
    Key::new(R::TABLE, id)
}

/// The JSON part of a stored record.
pub(crate) fn to_json<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(&Written {
        f: R::FORMAT,
        r: record,
    })
    .map_err(|error| unreadable::<R>(&error))
}

/// Puts the version before the JSON.
pub(crate) fn seal(version: Version, json: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(8 + json.len());
    stored.extend_from_slice(&version.0.to_be_bytes());
    stored.extend_from_slice(json);
    stored
}

/// Takes version and JSON of a stored record apart.
pub(crate) fn unseal(stored: &[u8]) -> Option<(Version, &[u8])> {
    let (version, json) = stored.split_first_chunk::<8>()?;
    Some((Version(u64::from_be_bytes(*version)), json))
}

pub(crate) fn decode<R: Record>(stored: &[u8]) -> Result<(Version, R), StoreError> {
    let (version, json) = unseal(stored).ok_or_else(|| unreadable::<R>(&"it is cut short"))?;
    let read: Read<'_> = serde_json::from_slice(json).map_err(|error| unreadable::<R>(&error))?;
    let record = if read.f == R::FORMAT {
        serde_json::from_str(read.r.get()).map_err(|error| unreadable::<R>(&error))?
    } else {
        R::upgrade(read.f, read.r.get()).map_err(|reason| unreadable::<R>(&reason))?
    };
    Ok((version, record))
}

fn unreadable<R: Record>(reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Record {
        table: R::TABLE,
        reason: reason.to_string().into(),
    }
}
