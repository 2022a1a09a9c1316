//! sled behind a journal and a layer of memory.
//!
//! sled takes some 15 us of CPU for a record, alone or in a batch, and rewrites half a KiB for it. So a commit goes into the
//! [`Journal`](crate::journal), which makes it durable, and into a [`Layer`], where readers find it. When
//! the layer is large, the writer begins a new one with the other journal, and a thread moves the old one into sled:
//! what is left of it by then, in order. Readers look at the new layer, the old one while it moves, and sled.
//!
//! There are two layers at most: a writer that fills the second before the first has moved waits.

use std::{
    fs::File,
    io, mem,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use parking_lot::{Mutex, RwLock};

use super::{Backend, Change, Entry, Moment, sled::Sled, start};
use crate::{
    error::{OpenError, StoreError},
    journal::{self, Journal, Recovered},
    layer::{Layer, Merged},
    settle::Settler,
};

/// Bytes of a layer from which on it moves.
const LAYER: usize = 512 << 10;
/// Tidying begins a new layer no more often than each this many calls: what is deleted meanwhile need not move.
const TIDIES: u32 = 10;

pub(crate) struct Buffered {
    shared: Arc<Shared>,
    writing: Mutex<Writing>,
}

struct Shared {
    layers: RwLock<Layers>,
    /// How many layers were begun. Counted while `layers` is locked for writing.
    begun: AtomicU64,
    database: Sled,
}

#[derive(Default)]
struct Layers {
    active: Layer,
    moving: Option<Arc<Layer>>,
}

/// What only the writer thread uses.
struct Writing {
    journals: [Journal; 2],
    current: usize,
    mover: Option<Mover>,
    tidied: u32,
}

/// The thread that moves layers.
struct Mover {
    layers: mpsc::SyncSender<(Arc<Layer>, u64)>,
    moved: mpsc::Receiver<Result<(), StoreError>>,
    state: Moving,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moving {
    Idle,
    Busy,
    /// A layer is not in the database, and its journal must stay as it is.
    Failed,
}

impl Buffered {
    /// Opens the journals beside a database and moves what they hold into it.
    pub(crate) fn open(folder: &Path, database: Sled, mut settler: Settler) -> Result<Self, OpenError> {
        let settled = settler.epoch();
        let paths = journal::paths(folder);
        let (mut journals, mut held) = if settled == 0 {
            // A new store, or one whose first start was cut short: nothing was ever acknowledged.
            (make_journals(folder, &paths)?, [None, None])
        } else {
            open_journals(&paths)?
        };
        let epochs =
            |held: &[Option<Recovered>; 2]| held.each_ref().map(|held| held.as_ref().map_or(0, |held| held.epoch));
        let last = epochs(&held).into_iter().max().unwrap_or(0).max(settled + 1);
        let missing = |epoch| !epochs(&held).contains(&epoch);
        if settled > 0 && (last - settled > 2 || (settled + 1..=last).any(missing)) {
            let [path, _] = paths;
            return Err(OpenError::Journal { path, settled });
        }
        // The file that does not hold the last epoch.
        let current = usize::from(epochs(&held)[0] == last);
        for epoch in settled + 1..=last {
            if epoch == last {
                // Before the last one is settled: a journal always goes on where the database ends.
                journals[current].restart(last + 1).map_err(unusable(&paths[current]))?;
            }
            let mut layer = Layer::default();
            let from = held
                .iter_mut()
                .find(|held| held.as_ref().is_some_and(|held| held.epoch == epoch));
            for batch in from.and_then(Option::take).map(|held| held.batches).unwrap_or_default() {
                layer.put(batch);
            }
            settler.settle(&database, &layer, epoch)?;
        }
        let shared = Arc::new(Shared {
            layers: RwLock::default(),
            begun: AtomicU64::new(1),
            database,
        });
        let mover = Mover::start(Arc::clone(&shared), settler)?;
        Ok(Self {
            shared,
            writing: Mutex::new(Writing {
                journals,
                current,
                mover: Some(mover),
                tidied: 0,
            }),
        })
    }

    /// Begins a new layer with the other journal, once that is free.
    fn turn(&self, writing: &mut Writing) -> Result<(), StoreError> {
        writing.tidied = 0;
        writing.mover()?.wait()?;
        let full = &writing.journals[writing.current];
        let epoch = full.epoch();
        let other = 1 - writing.current;
        writing.journals[other].restart(epoch + 1)?;
        writing.current = other;
        let layer = {
            let mut layers = self.shared.layers.write();
            let layer = Arc::new(mem::take(&mut layers.active));
            self.shared.begun.fetch_add(1, Relaxed);
            layers.moving = Some(Arc::clone(&layer));
            layer
        };
        writing.mover()?.begin(layer, epoch)
    }
}

impl Writing {
    fn mover(&mut self) -> Result<&mut Mover, StoreError> {
        self.mover.as_mut().ok_or(StoreError::Stopped)
    }
}

fn make_journals(folder: &Path, [path_a, path_b]: &[PathBuf; 2]) -> Result<[Journal; 2], OpenError> {
    let a = Journal::make(path_a).map_err(unusable(path_a))?;
    let b = Journal::make(path_b).map_err(unusable(path_b))?;
    // Their names must be there before the database says that it goes on with them.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(unusable(folder))?;
    Ok([a, b])
}

fn open_journals([path_a, path_b]: &[PathBuf; 2]) -> Result<([Journal; 2], [Option<Recovered>; 2]), OpenError> {
    let (a, in_a) = Journal::open(path_a).map_err(|source| unreadable(path_a, &source))?;
    let (b, in_b) = Journal::open(path_b).map_err(|source| unreadable(path_b, &source))?;
    Ok(([a, b], [in_a, in_b]))
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

/// A journal that is gone or was cut: its folder is not as we left it.
fn unreadable(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

impl Backend for Buffered {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let layers = self.shared.layers.read();
            let moving = || layers.moving.as_ref().and_then(|layer| layer.get(key));
            if let Some(value) = layers.active.get(key).or_else(moving) {
                return Ok(value.map(<[u8]>::to_vec));
            }
        }
        self.shared.database.get(key)
    }

    fn moment(&self) -> Moment {
        // One that is older than it need be only makes the answer below no.
        Moment(self.shared.begun.load(Relaxed))
    }

    /// The layers hold everything that was applied since the older of them was begun.
    fn is_unchanged(&self, key: &[u8], since: Moment) -> bool {
        let layers = self.shared.layers.read();
        let begun = self.shared.begun.load(Relaxed);
        let oldest = Moment(begun - u64::from(layers.moving.is_some()));
        let moving = || layers.moving.as_ref().is_some_and(|layer| layer.get(key).is_some());
        since >= oldest && layers.active.get(key).is_none() && !moving()
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let start = start(prefix, after);
        // Held to the end: the database alone would be of several moments.
        let layers = self.shared.layers.read();
        let moving = layers.moving.iter().flat_map(|layer| layer.range(start));
        let under = Merged::new(moving, self.shared.database.range(start));
        let mut entries = Vec::new();
        for entry in Merged::new(layers.active.range(start), under) {
            let (key, value) = entry?;
            if entries.len() == limit || !key.starts_with(prefix) {
                break;
            }
            if let Some(value) = value {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    fn settled(&self, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let layers = self.shared.layers.read();
        let deleted = |key: &[u8]| {
            let moving = || layers.moving.as_ref().and_then(|layer| layer.get(key));
            layers.active.get(key).or_else(moving) == Some(None)
        };
        let mut entries = Vec::new();
        for entry in self.shared.database.range(Bound::Included(prefix)) {
            let (key, value) = entry?;
            if entries.len() == limit || !key.starts_with(prefix) {
                break;
            }
            if let Some(value) = value.filter(|_| !deleted(&key)) {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let writing = &mut *self.writing.lock();
        writing.mover()?.look()?;
        let large = self.shared.layers.read().active.bytes() > LAYER;
        if large || !writing.journals[writing.current].fits(&changes) {
            self.turn(writing)?;
        }
        let journal = &mut writing.journals[writing.current];
        journal.append(&changes)?;
        journal.sync()?;
        self.shared.layers.write().active.put(changes);
        Ok(())
    }

    fn tidy(&self) -> Result<(), StoreError> {
        let writing = &mut *self.writing.lock();
        writing.mover()?.look()?;
        writing.tidied += 1;
        if writing.tidied < TIDIES || self.shared.layers.read().active.is_empty() {
            return Ok(());
        }
        self.turn(writing)
    }

    fn close(&self) -> Result<(), StoreError> {
        let writing = &mut *self.writing.lock();
        self.turn(writing)?;
        writing.mover()?.wait()
    }

    fn size(&self) -> u64 {
        self.shared.database.size()
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        // The database's lock goes with the thread, so whoever drops the last store may open it again.
        if let Some(mover) = self.writing.get_mut().mover.take() {
            drop(mover.layers);
            let _ = mover.thread.join();
        }
    }
}

impl Mover {
    fn start(shared: Arc<Shared>, mut settler: Settler) -> Result<Self, StoreError> {
        let (layers, queue) = mpsc::sync_channel::<(Arc<Layer>, u64)>(1);
        let (done, moved) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("store-mover".into()).spawn(move || {
            for (layer, epoch) in queue {
                let result = settler.settle(&shared.database, &layer, epoch);
                match &result {
                    Ok(()) => shared.layers.write().moving = None,
                    Err(error) => tracing::error!(%error, "the journal could not be moved into the database"),
                }
                if done.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            layers,
            moved,
            state: Moving::Idle,
            thread,
        })
    }

    fn begin(&mut self, layer: Arc<Layer>, epoch: u64) -> Result<(), StoreError> {
        self.state = Moving::Busy;
        self.layers.send((layer, epoch)).map_err(|_| StoreError::Stopped)
    }

    /// Waits for the layer that moves, if one does. Once a move has failed, so does this for ever.
    fn wait(&mut self) -> Result<(), StoreError> {
        match self.state {
            Moving::Idle => Ok(()),
            Moving::Busy => {
                let result = self.moved.recv();
                self.ended(result.unwrap_or(Err(StoreError::Stopped)))
            }
            Moving::Failed => Err(StoreError::Stopped),
        }
    }

    /// Whether a move has failed, as far as is known by now.
    fn look(&mut self) -> Result<(), StoreError> {
        match (self.state, self.moved.try_recv()) {
            (Moving::Busy, Ok(result)) => self.ended(result),
            (_, Err(mpsc::TryRecvError::Disconnected)) => self.ended(Err(StoreError::Stopped)),
            (Moving::Failed, _) => Err(StoreError::Stopped),
            (Moving::Idle | Moving::Busy, _) => Ok(()),
        }
    }

    fn ended(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        self.state = if result.is_ok() { Moving::Idle } else { Moving::Failed };
        result
    }
}

#[cfg(test)]
mod tests;
