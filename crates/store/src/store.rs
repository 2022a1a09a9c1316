//! The store as its users see it: open, read, commit.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    backend::{Backend, Entry, Moment, buffered::Buffered, memory::Memory, sled::Sled},
    error::{CommitError, OpenError, StoreError},
    key::Key,
    manifest::{self, Manifest},
    recent::{Known, Recent},
    record::{self, Record, Version},
    settle::Settler,
    txn::{COUNTERS, Expected, Txn},
    writer::{self, Handle},
};

/// Where and for whom a store is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The folder of the store, made if it does not exist.
    pub folder: PathBuf,
    /// Fingerprint of the machine key of this node: state of another node is refused.
    pub node: String,
    /// How much of the database is cached, in bytes.
    pub cache_bytes: u64,
    /// Random bytes, used only to name a new store.
    pub entropy: [u8; 16],
}

/// An open store. Clones are cheap and share it.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    recent: Arc<Recent>,
    writer: Arc<Handle>,
}

/// A transaction that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the order of all commits.
    pub sequence: u64,
}

/// One page of a scan.
#[derive(Debug)]
pub struct Page<R> {
    /// The records, in the order of their ids.
    pub records: Vec<R>,
    /// Where the next page begins; `None` when there is nothing after this one.
    pub next: Option<Vec<u8>>,
}

/// What the database says about itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) store_id: String,
    pub(crate) schema: u32,
    pub(crate) checkpoint: u64,
}

impl Record for Meta {
    const TABLE: &'static str = "meta";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        Self::ID.into()
    }
}

impl Meta {
    pub(crate) const ID: &'static [u8] = b"store";
}

/// The number of the last commit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sequence(pub(crate) u64);

impl Record for Sequence {
    const TABLE: &'static str = "meta";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        Self::ID.into()
    }
}

impl Sequence {
    pub(crate) const ID: &'static [u8] = b"sequence";
}

impl Store {
    /// Opens the store in a folder, or makes a new one there.
    ///
    /// # Errors
    /// [`OpenError`] when what is there is damaged, of another node, of another time or in use. Nothing is repaired
    /// and nothing overwritten: whoever reads the error decides.
    pub fn open(options: &OpenOptions) -> Result<Self, OpenError> {
        let folder = &options.folder;
        make_folder(folder)?;
        let database = folder.join("db");
        let manifest = match (manifest::load(folder)?, Sled::exists(&database)) {
            (Some(manifest), exists) => check_manifest(manifest, exists, options, &database)?,
            (None, true) => {
                return Err(OpenError::NoManifest {
                    path: database,
                    manifest: manifest::path(folder),
                });
            }
            (None, false) => new_manifest(options)?,
        };
        let sled = Sled::open(&database, options.cache_bytes)?;
        let checkpoint = check_database(&sled, &manifest, &database)?;
        let settler = Settler::new(folder.clone(), Manifest { checkpoint, ..manifest });
        Ok(Self::start(Arc::new(Buffered::open(folder, sled, settler)?))?)
    }

    /// A store that lives in memory only.
    ///
    /// # Errors
    /// [`StoreError`] when the writer thread cannot be started.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::start(Arc::new(Memory::default()))
    }

    fn start(backend: Arc<dyn Backend>) -> Result<Self, StoreError> {
        let recent = Arc::new(Recent::default());
        let writer = Arc::new(writer::start(Arc::clone(&backend), Arc::clone(&recent))?);
        Ok(Self {
            backend,
            recent,
            writer,
        })
    }

    /// Begins to read for a decision.
    pub fn reads(&self) -> Reads<'_> {
        Reads {
            store: self,
            since: self.backend.moment(),
            expects: Vec::new(),
        }
    }

    /// The records of a table whose ids begin with `prefix`, from `from` on (the `next` of an earlier page).
    ///
    /// A page is of one moment; two pages may be of two.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or a record cannot be read.
    pub async fn scan<R: Record>(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<R>, StoreError> {
        let prefix = record::key::<R>(prefix);
        let after = from.map(|id| record::key::<R>(id));
        let entries = self
            .backend
            .scan(prefix.as_bytes(), after.as_ref().map(Key::as_bytes), limit)?;
        let full = entries.len() == limit;
        let mut records = Vec::with_capacity(entries.len());
        for (_, value) in &entries {
            records.push(record::decode::<R>(value)?.1);
        }
        let next = if full { records.last().map(Record::id) } else { None };
        Ok(Page { records, next })
    }

    /// The record of a key, or that there is none, and since when.
    fn read<R: Record>(&self, key: &Key) -> Result<(Version, Option<R>), StoreError> {
        let mark = match R::COPY.map(|copy| (self.recent.get(key, copy), copy)) {
            Some((Known::Read(version, record), _)) => return Ok((version, record)),
            Some((Known::Nothing(mark), copy)) => Some((mark, copy)),
            None => None,
        };
        let stored = self.backend.get(key.as_bytes())?;
        let (version, record) = match stored.as_deref().map(record::decode::<R>).transpose()? {
            Some((version, record)) => (version, Some(record)),
            None => (Version::ABSENT, None),
        };
        if let Some((mark, copy)) = mark {
            let bytes = stored.map_or(0, |stored| stored.len());
            self.recent.keep(mark, key, version, record.as_ref().map(copy), bytes);
        }
        Ok((version, record))
    }

    /// Raw entries under `prefix`, from behind the key `after` on.
    pub(crate) fn entries(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.backend.scan(prefix.as_bytes(), after, limit)
    }

    /// The first raw entries under `prefix`, of those that stay under their key until they are deleted.
    pub(crate) fn settled(&self, prefix: &Key, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.backend.settled(prefix.as_bytes(), limit)
    }

    /// Makes `txn` durable as a whole, or changes nothing. When this returns `Ok`, it survives a power cut.
    ///
    /// Waits while the writer's queue is full. Dropping the future does not undo a transaction that was queued.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when an expectation does not hold; [`StoreError::Stopped`] after a failed write, from
    /// then on for ever.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.writer.commit(txn).await
    }

    /// Returns once a write has failed. The process should then end: only a restart finds out what is on disk.
    pub async fn failed(&self) {
        let mut failed: watch::Receiver<bool> = self.writer.failed();
        // An error means that the writer is gone, which is a failure too.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    /// Bytes on disk, 0 for a store in memory.
    pub fn size(&self) -> u64 {
        self.backend.size()
    }

    /// To be called once a minute or so: moves what has waited in the journal for long, also when little is written.
    pub async fn tidy(&self) {
        self.writer.tidy().await;
    }

    /// Waits for what is queued, moves the journal into the database and stops the writer. Later commits are refused.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

/// Reads for one decision. What was read is what its transaction expects.
pub struct Reads<'a> {
    store: &'a Store,
    /// Before anything was read.
    since: Moment,
    expects: Vec<Expected>,
}

impl Reads<'_> {
    /// The record with this id. Its absence is a fact that the transaction expects as well.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails or the record cannot be read.
    pub async fn get<R: Record>(&mut self, id: impl AsRef<[u8]>) -> Result<Option<R>, StoreError> {
        let key = record::key::<R>(id.as_ref());
        let (version, record) = self.store.read::<R>(&key)?;
        let since = Some(self.since);
        self.expects.push(Expected { key, version, since });
        Ok(record)
    }

    /// Where a counter stands. Not an expectation: [`Txn::count`] has a ceiling of its own.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn counter(&self, name: &str) -> Result<u64, StoreError> {
        let stored = self.store.backend.get(Key::new(COUNTERS, name).as_bytes())?;
        Ok(stored.as_deref().map_or(0, writer::counter_value))
    }

    /// A transaction that expects everything that was read.
    pub fn into_txn(self) -> Txn {
        Txn {
            expects: self.expects,
            ..Txn::default()
        }
    }
}

fn make_folder(folder: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    // Its name must survive as what is in it does.
    let kept = made.and_then(|()| match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    });
    kept.map_err(|source| OpenError::Io {
        path: folder.to_owned(),
        source,
    })
}

fn new_manifest(options: &OpenOptions) -> Result<Manifest, OpenError> {
    let manifest = Manifest {
        store_id: options.entropy.iter().map(|byte| format!("{byte:02x}")).collect(),
        schema: manifest::SCHEMA,
        node: options.node.clone(),
        checkpoint: 0,
    };
    manifest::save(&options.folder, &manifest).map_err(|source| OpenError::Io {
        path: manifest::path(&options.folder),
        source,
    })?;
    Ok(manifest)
}

fn check_manifest(
    manifest: Manifest,
    database_exists: bool,
    options: &OpenOptions,
    database: &Path,
) -> Result<Manifest, OpenError> {
    if manifest.schema > manifest::SCHEMA {
        return Err(OpenError::Schema {
            found: manifest.schema,
            known: manifest::SCHEMA,
        });
    }
    if manifest.schema < manifest::SCHEMA {
        return Err(OpenError::Development {
            path: options.folder.clone(),
            found: manifest.schema,
        });
    }
    if manifest.node != options.node {
        return Err(OpenError::OtherNode {
            path: options.folder.clone(),
            stored: manifest.node,
            ours: options.node.clone(),
        });
    }
    if !database_exists && manifest.checkpoint > 0 {
        return Err(OpenError::Emptied(database.to_owned()));
    }
    Ok(manifest)
}

/// Compares the database with its manifest; returns the checkpoint at which it stands.
fn check_database(backend: &Sled, manifest: &Manifest, database: &Path) -> Result<u64, OpenError> {
    let stored = backend.get(record::key::<Meta>(Meta::ID).as_bytes())?;
    let Some(stored) = stored else {
        if manifest.checkpoint > 0 {
            return Err(OpenError::Emptied(database.to_owned()));
        }
        return Ok(0);
    };
    let (_, meta) = record::decode::<Meta>(&stored)?;
    if meta.store_id != manifest.store_id {
        return Err(OpenError::Foreign(database.to_owned()));
    }
    if meta.schema > manifest::SCHEMA {
        return Err(OpenError::Schema {
            found: meta.schema,
            known: manifest::SCHEMA,
        });
    }
    if meta.checkpoint != manifest.checkpoint && meta.checkpoint != manifest.checkpoint + 1 {
        return Err(OpenError::OtherTime {
            path: database.to_owned(),
            database: meta.checkpoint,
            manifest: manifest.checkpoint,
        });
    }
    Ok(meta.checkpoint)
}

#[cfg(test)]
mod tests;
