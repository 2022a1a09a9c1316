//! The journal: every commit since the last checkpoint of the database, in one file of fixed size.
//!
//! A batch of transactions is durable once its frame is here, after one write in place and one `fdatasync`; the
//! database then learns of it in memory and writes its own file in its own time. A checkpoint makes the database durable
//! and starts the journal anew at its beginning. What the database lost in a crash is put back from here before anybody
//! reads: frames say which records stand how, so those that it had already do no harm when they come again.
//!
//! A frame is `length, CRC-32, epoch, changes`, numbers big-endian. The epoch is the checkpoint that the frame follows:
//! frames of an earlier one are leftovers, and the first frame that is torn or of another epoch ends the journal. Only an
//! unacknowledged batch can be torn.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::backend::Change;

/// Bytes of the file. Some 800 flows from page to token fit between two checkpoints.
const CAPACITY: usize = 4 << 20;
/// Length and CRC, which the CRC does not cover, and the epoch, which it does.
const HEADER: usize = 4 + 4 + 8;
/// Stands where the length of a value would, for a record that is deleted.
const DELETED: u32 = u32::MAX;

const NAME: &str = "journal";

/// The open file, and where its next frame goes.
pub(crate) struct Journal {
    file: File,
    epoch: u64,
    end: usize,
    frame: Vec<u8>,
}

/// A journal, with the batches that a database at its checkpoint may lack, in order.
pub(crate) type Recovered = (Journal, Vec<Vec<Change>>);

/// Where the journal of a store is.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Whether the file is there as it was made.
pub(crate) fn is_whole(folder: &Path) -> bool {
    path(folder).metadata().is_ok_and(|meta| meta.len() >= CAPACITY as u64)
}

impl Journal {
    /// Makes the file, whole and on disk, so that later writes change no metadata. One that is there is kept as it is.
    pub(crate) fn make(folder: &Path) -> io::Result<()> {
        if is_whole(folder) {
            return Ok(());
        }
        let mut file = open(&path(folder))?;
        file.write_all(&vec![0; CAPACITY])?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }

    /// Opens the file beside a database that stands at the checkpoint `epoch`.
    pub(crate) fn open(folder: &Path, epoch: u64) -> io::Result<Recovered> {
        let mut file = open(&path(folder))?;
        let mut bytes = Vec::with_capacity(CAPACITY);
        file.read_to_end(&mut bytes)?;
        let (batches, end) = frames(&bytes, epoch);
        let journal = Self {
            file,
            epoch,
            end,
            frame: Vec::new(),
        };
        Ok((journal, batches))
    }

    /// Writes a batch and waits until it is on disk. `false`: there is no room, and nothing was written.
    pub(crate) fn append(&mut self, changes: &[Change]) -> io::Result<bool> {
        let body: usize = changes.iter().map(length).sum();
        if self.end + HEADER + body > CAPACITY {
            return Ok(false);
        }
        self.frame.clear();
        self.frame.extend_from_slice(&[0; HEADER]);
        for change in changes {
            write(&mut self.frame, change);
        }
        self.frame[8..HEADER].copy_from_slice(&self.epoch.to_be_bytes());
        let crc = crc32fast::hash(&self.frame[8..]);
        self.frame[..4].copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes());
        self.frame[4..8].copy_from_slice(&crc.to_be_bytes());
        self.file.write_all_at(&self.frame, self.end as u64)?;
        self.file.sync_data()?;
        self.end += self.frame.len();
        Ok(true)
    }

    /// Begins anew: the database is on disk as of the checkpoint `epoch`.
    pub(crate) fn restart(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.end = 0;
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn length((key, value): &Change) -> usize {
    8 + key.len() + value.as_ref().map_or(0, Vec::len)
}

fn write(out: &mut Vec<u8>, (key, value): &Change) {
    // Keys and values are far below 4 GiB: a whole frame fits the file.
    let number = |length: usize| u32::try_from(length).unwrap_or(DELETED - 1).to_be_bytes();
    out.extend_from_slice(&number(key.len()));
    match value {
        Some(value) => {
            out.extend_from_slice(&number(value.len()));
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        None => {
            out.extend_from_slice(&DELETED.to_be_bytes());
            out.extend_from_slice(key);
        }
    }
}

/// The batches of one epoch, and where the frames of it end.
fn frames(bytes: &[u8], epoch: u64) -> (Vec<Vec<Change>>, usize) {
    let mut batches = Vec::new();
    let mut at = 0;
    while let Some((changes, length)) = bytes.get(at..).and_then(|rest| frame(rest, epoch)) {
        batches.push(changes);
        at += length;
    }
    (batches, at)
}

fn frame(bytes: &[u8], epoch: u64) -> Option<(Vec<Change>, usize)> {
    let mut header = bytes;
    let body = number(&mut header)?;
    let crc = u32::try_from(number(&mut header)?).ok()?;
    let whole = HEADER.checked_add(body)?;
    let covered = bytes.get(8..whole)?;
    if body == 0 || crc32fast::hash(covered) != crc {
        return None;
    }
    let (stored, mut rest) = covered.split_first_chunk::<8>()?;
    if u64::from_be_bytes(*stored) != epoch {
        return None;
    }
    let mut changes = Vec::new();
    while !rest.is_empty() {
        changes.push(change(&mut rest)?);
    }
    Some((changes, whole))
}

fn change(rest: &mut &[u8]) -> Option<Change> {
    let (key, value) = (number(rest)?, number(rest)?);
    let key = take(rest, key)?.to_vec();
    let deleted = value == DELETED as usize;
    let value = if deleted {
        None
    } else {
        Some(take(rest, value)?.to_vec())
    };
    Some((key, value))
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests;
