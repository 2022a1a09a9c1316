//! sled 0.34.7, made durable.
//!
//! Its `flush` ends in `sync_file_range`, which a power cut can undo, and never syncs the files of large pages, without
//! which a page is silently what it was before. [`Sled::sync`] therefore flushes, syncs those, then calls
//! `fdatasync` through a descriptor of its own on the log. A damaged file can make `open` panic: it runs in a
//! thread of its own, whose end is an error here. That is why the workspace must not set `panic = "abort"`.

use std::{
    fs::File,
    io,
    ops::Bound,
    panic,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use super::Change;
use crate::error::{OpenError, StoreError};

const OPEN_THREAD: &str = "store-open";
/// The folder of pages above 128 KiB, each a file that is named by its number in the log.
const BLOBS: &str = "blobs";

pub(crate) struct Sled {
    db: ::sled::Db,
    file: File,
    path: PathBuf,
    /// Up to which number the files of large pages are synced.
    synced: Mutex<Option<i64>>,
    /// Called in each sync: when all is written and nothing synced yet (`false`), and at its end.
    #[cfg(test)]
    watch: Mutex<Option<Watch>>,
}

#[cfg(test)]
type Watch = Box<dyn Fn(bool) + Send>;

/// How often, and how long after one another, a locked database is tried.
const UNLOCK_LOOKS: u32 = 50;
const UNLOCK_LOOK: Duration = Duration::from_millis(20);

impl Sled {
    /// Whether there is a database in `path` to be opened.
    pub(crate) fn exists(path: &Path) -> bool {
        path.join("db").exists()
    }

    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self, OpenError> {
        let config = ::sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            // Whoever writes flushes.
            .flush_every_ms(None);
        let db = open_patiently(&config, path)?;
        let file_path = path.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&file_path)
            .and_then(|file| {
                // The names of new files must survive as well.
                File::open(path)?.sync_all()?;
                Ok(file)
            })
            .map_err(|source| OpenError::Io {
                path: file_path,
                source,
            })?;
        Ok(Self {
            db,
            file,
            path: path.to_owned(),
            synced: Mutex::default(),
            #[cfg(test)]
            watch: Mutex::default(),
        })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    /// Its entries from `start` on, in order. A batch that is applied meanwhile may be seen in part.
    pub(crate) fn range(&self, start: Bound<&[u8]>) -> impl Iterator<Item = Result<Change, StoreError>> + use<> {
        let entries = self.db.range::<&[u8], _>((start, Bound::Unbounded));
        entries.map(|entry| {
            let (key, value) = entry?;
            Ok((key.to_vec(), Some(value.to_vec())))
        })
    }

    /// Makes all changes or, after a crash, none.
    pub(crate) fn apply<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// Returns when everything that was applied survives a power cut.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        #[cfg(test)]
        self.tell(false);
        let (blobs, last) = self.new_blobs()?;
        for blob in &blobs {
            match File::open(blob).and_then(|file| file.sync_all()) {
                // Its page was written anew meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced?,
            }
        }
        if !blobs.is_empty() {
            File::open(self.path.join(BLOBS))?.sync_all()?;
        }
        *self.synced.lock() = last;
        self.file.sync_data()?;
        #[cfg(test)]
        self.tell(true);
        Ok(())
    }

    #[cfg(test)]
    fn tell(&self, done: bool) {
        if let Some(watch) = &*self.watch.lock() {
            watch(done);
        }
    }

    /// The files of large pages that were not synced yet, and the highest number that sled gave to one.
    fn new_blobs(&self) -> io::Result<(Vec<PathBuf>, Option<i64>)> {
        let synced = *self.synced.lock();
        let (mut new, mut last) = (Vec::new(), synced);
        for entry in std::fs::read_dir(self.path.join(BLOBS))? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok());
            if number.is_some() && number > synced {
                new.push(entry.path());
                last = last.max(number);
            }
        }
        Ok((new, last))
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        // Large values stand in files beside the log, so the folder is what counts.
        let blobs = self.path.join(BLOBS);
        let folder = |path: &Path| -> u64 {
            std::fs::read_dir(path).map_or(0, |entries| {
                entries
                    .flatten()
                    .filter_map(|entry| entry.metadata().ok())
                    .filter(|meta| meta.is_file())
                    .map(|meta| meta.len())
                    .sum()
            })
        };
        folder(&self.path) + folder(&blobs)
    }
}

/// Opens, and gives whoever has the database a second to let go of it: sled unlocks the file from a thread of its own, a
/// moment after the last handle is gone.
fn open_patiently(config: &::sled::Config, path: &Path) -> Result<::sled::Db, OpenError> {
    for _ in 0..UNLOCK_LOOKS {
        match open_guarded(config.clone(), path) {
            Err(OpenError::InUse(_)) => thread::sleep(UNLOCK_LOOK),
            outcome => return outcome,
        }
    }
    open_guarded(config.clone(), path)
}

/// Opens in a thread that may panic without a word on stderr: the error says what is needed.
fn open_guarded(config: ::sled::Config, path: &Path) -> Result<::sled::Db, OpenError> {
    let hook: Arc<dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync> = panic::take_hook().into();
    let others = Arc::clone(&hook);
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(OPEN_THREAD) {
            others(info);
        }
    }));
    let opened = thread::Builder::new()
        .name(OPEN_THREAD.into())
        .spawn(move || config.open())
        .map(thread::JoinHandle::join);
    panic::set_hook(Box::new(move |info| hook(info)));
    let damaged = |reason: String| OpenError::Damaged {
        path: path.to_owned(),
        reason,
    };
    match opened {
        Err(source) => Err(OpenError::Io {
            path: path.to_owned(),
            source,
        }),
        Ok(Err(_panic)) => Err(damaged("the database library gave up on it".into())),
        Ok(Ok(Ok(db))) => Ok(db),
        Ok(Ok(Err(::sled::Error::Io(source)))) => Err(io_error(source, path)),
        Ok(Ok(Err(error))) => Err(damaged(error.to_string())),
    }
}

fn io_error(source: std::io::Error, path: &Path) -> OpenError {
    // sled wraps the failed flock in an error of its own, with the reason only in the text.
    if source.to_string().contains("lock") {
        return OpenError::InUse(path.to_owned());
    }
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
