//! What can go wrong, and who has to act.

use std::{io, path::PathBuf, sync::Arc};

use crate::key::Key;

/// Reading or writing failed. Nobody who sends a request can mend it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database under it.
    #[error("the database failed: {0}")]
    Backend(Arc<str>),
    /// A record that this version cannot read.
    #[error("a record of {table} cannot be read: {reason}")]
    Record {
        /// The table it stands in.
        table: &'static str,
        /// Why.
        reason: Arc<str>,
    },
    /// A transaction that changes more than the journal has room for.
    #[error("a transaction changes {0} bytes, which is too much for one")]
    TooLarge(usize),
    /// An earlier write failed, so what is on disk is uncertain; only a restart finds out.
    #[error("the store stopped after a failed write; restart the server")]
    Stopped,
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        Self::Backend(error.to_string().into())
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Backend(error.to_string().into())
    }
}

/// Why a transaction was not committed. Nothing of it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A record that was read has changed, or a counter stands at its ceiling: read again and decide again.
    #[error("{0:?} changed meanwhile")]
    Conflict(Key),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store does not open. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the database.
    #[error("{0} is in use: another countersign is running on this state folder")]
    InUse(PathBuf),
    /// The database cannot be read.
    #[error("{path} is damaged ({reason}); restore the whole state folder from a backup")]
    Damaged {
        /// The database's folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// `store.json` says that there was a database, but there is none, or an empty one.
    #[error("{0} is empty or missing, but store.json says it held data; restore the whole state folder from a backup")]
    Emptied(PathBuf),
    /// There is a database, but nothing says whose.
    #[error(
        "{path} holds a database but {manifest} is missing; restore the whole state folder from a backup, or move the database away to start afresh"
    )]
    NoManifest {
        /// The database's folder.
        path: PathBuf,
        /// The file that is missing.
        manifest: PathBuf,
    },
    /// `store.json` is not ours or was cut short.
    #[error("{path} cannot be read ({reason}); restore the whole state folder from a backup")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Database and `store.json` are of different stores.
    #[error(
        "the database in {0} is not the one that store.json describes; restore the whole state folder from one backup"
    )]
    Foreign(PathBuf),
    /// Database and `store.json` are of different times.
    #[error(
        "the database in {path} is of another time than store.json (checkpoint {database}, expected {manifest}): one of them was restored or cut without the other; restore the whole state folder from one backup"
    )]
    OtherTime {
        /// The database's folder.
        path: PathBuf,
        /// Checkpoint in the database.
        database: u64,
        /// Checkpoint in `store.json`.
        manifest: u64,
    },
    /// Neither journal goes on where the database ends.
    #[error(
        "the journal {path} and its sibling do not go on after checkpoint {settled}, where the database ends: one of them was restored or cut without the other; restore the whole state folder from one backup"
    )]
    Journal {
        /// One of the two files.
        path: PathBuf,
        /// Up to where the database has everything.
        settled: u64,
    },
    /// The state belongs to another node.
    #[error(
        "the state in {path} belongs to the node with machine key {stored}, this node has {ours}; use the state folder of this node, or restore its machine key"
    )]
    OtherNode {
        /// The store's folder.
        path: PathBuf,
        /// The fingerprint that was stored.
        stored: String,
        /// The fingerprint of this node.
        ours: String,
    },
    /// Written by a later version.
    #[error(
        "the database has schema {found}, this version knows up to {known}; install the version that wrote it, or a later one"
    )]
    Schema {
        /// The schema on disk.
        found: u32,
        /// The latest that this version knows.
        known: u32,
    },
    /// Written before the first release, when nothing was promised.
    #[error(
        "the database in {path} has schema {found}, of a development version, which is no longer read; move {path} away to start afresh: clients register again"
    )]
    Development {
        /// The store's folder.
        path: PathBuf,
        /// The schema on disk.
        found: u32,
    },
    /// The writer could not be started, or a first read failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
