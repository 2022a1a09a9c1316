//! Names of records: the table, a zero byte, the id. Ids of one table sort together, so that a prefix can be scanned.

use std::{borrow::Borrow, fmt};

/// The name of one record.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The record `id` of `table`. A table's name holds no zero byte.
    pub fn new(table: &'static str, id: impl AsRef<[u8]>) -> Self {
        let id = id.as_ref();
        let mut bytes = Vec::with_capacity(table.len() + 1 + id.len());
        bytes.extend_from_slice(table.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(id);
        Self(bytes.into())
    }

    /// A key as a scan gave it.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Hashes and compares as its bytes do.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ids may be hashes of secrets: the table says enough.
        let table = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        write!(f, "Key({}/…)", String::from_utf8_lossy(table))
    }
}
