//! What a database must offer: ordered bytes, and atomic batches that are on disk before anybody sees them.

pub(crate) mod buffered;
pub(crate) mod memory;
pub(crate) mod sled;

use crate::error::StoreError;

/// A key with its new value, or with `None` to delete it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// A key with its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// A moment of a backend's life. Only that backend can tell what it means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// An ordered map of bytes. Only the writer thread calls `apply`, `tidy` and `close`.
pub(crate) trait Backend: Send + Sync + 'static {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The present, for [`is_unchanged`](Self::is_unchanged).
    fn moment(&self) -> Moment {
        Moment::default()
    }

    /// Whether it knows without reading that nothing was applied to `key` since `moment`. `false` says nothing.
    fn is_unchanged(&self, _key: &[u8], _since: Moment) -> bool {
        false
    }

    /// Up to `limit` entries whose keys begin with `prefix` and sort after `after`, in order and of one moment.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// The first entries whose keys begin with `prefix`, of those that stay under their key until they are deleted.
    fn settled(&self, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Makes all changes survive a power cut, and only then visible, at once: an answer may rest on what was read and
    /// leave without a write of its own.
    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// Begins to bring in order what was left for later.
    fn tidy(&self) -> Result<(), StoreError>;

    /// Brings everything in order; nothing is applied afterwards.
    fn close(&self) -> Result<(), StoreError>;

    /// Bytes on disk, 0 where there is none.
    fn size(&self) -> u64;
}

/// Where a scan begins.
pub(crate) fn start<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> std::ops::Bound<&'a [u8]> {
    after.map_or(std::ops::Bound::Included(prefix), std::ops::Bound::Excluded)
}
