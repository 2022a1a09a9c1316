//! The journal: what was committed and is not in the database yet, in a file of fixed size.
//!
//! A batch of transactions is durable once its frame is here: one write in place, one `fdatasync`. There are two such files.
//! While what stands in one moves into the database, the other takes what comes, so nobody waits. Which file is which the
//! *epoch* says: it counts up from file to file, and the database says up to which epoch it has everything.
//!
//! A frame is `length of the changes, CRC-32, epoch, changes`, numbers big-endian; the CRC covers epoch and changes. A file
//! begins with an empty frame that names its epoch. Frames of an earlier epoch are leftovers, and the first frame that is
//! torn or of another epoch ends the file: each frame is on disk before the next is written, so only a batch that nobody
//! was told of can be torn.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::backend::Change;

/// Bytes of one file. About a thousand flows from page to token fit.
const CAPACITY: usize = 4 << 20;
/// What the changes of one frame may take.
pub(crate) const MAX_CHANGES: usize = CAPACITY - 2 * HEADER;
/// Length and CRC, which the CRC does not cover, and the epoch, which it does.
const HEADER: usize = 4 + 4 + 8;
/// Stands where the length of a value would, for a record that is deleted.
const DELETED: u32 = u32::MAX;

/// One of the two files, and where its next frame goes.
pub(crate) struct Journal {
    file: File,
    epoch: u64,
    end: usize,
    frame: Vec<u8>,
}

/// What a file holds: the batches of one epoch, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) epoch: u64,
    pub(crate) batches: Vec<Vec<Change>>,
}

/// Where the two files of a store are.
pub(crate) fn paths(folder: &Path) -> [PathBuf; 2] {
    [folder.join("journal-a"), folder.join("journal-b")]
}

impl Journal {
    /// Makes the file, whole and on disk, so that later writes change no metadata. One that is there is emptied.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let mut file = open(path, true)?;
        file.write_all(&vec![0; CAPACITY])?;
        file.sync_all()?;
        Ok(Self::at_its_beginning(file))
    }

    /// Opens a file that was made, and reads what it holds.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `UnexpectedEof` when it was cut.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Recovered>)> {
        let mut file = open(path, false)?;
        let mut bytes = Vec::with_capacity(CAPACITY);
        file.read_to_end(&mut bytes)?;
        if bytes.len() < CAPACITY {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((Self::at_its_beginning(file), recovered(&bytes)))
    }

    fn at_its_beginning(file: File) -> Self {
        Self {
            file,
            epoch: 0,
            end: 0,
            frame: Vec::new(),
        }
    }

    /// The epoch of what is appended.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Begins anew, on disk when this returns: the database has what stood here.
    pub(crate) fn restart(&mut self, epoch: u64) -> io::Result<()> {
        self.epoch = epoch;
        self.end = 0;
        self.append(&[])?;
        self.sync()
    }

    /// Whether there is room for a batch.
    pub(crate) fn fits(&self, changes: &[Change]) -> bool {
        self.end + HEADER + changes.iter().map(length).sum::<usize>() <= CAPACITY
    }

    /// Writes a batch that [fits](Self::fits). It is on disk after [`sync`](Self::sync).
    pub(crate) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; HEADER]);
        for change in changes {
            write(&mut self.frame, change);
        }
        let body = self.frame.len() - HEADER;
        self.frame[8..HEADER].copy_from_slice(&self.epoch.to_be_bytes());
        let crc = crc32fast::hash(&self.frame[8..]);
        self.frame[..4].copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes());
        self.frame[4..8].copy_from_slice(&crc.to_be_bytes());
        self.file.write_all_at(&self.frame, self.end as u64)?;
        self.end += self.frame.len();
        Ok(())
    }

    /// Returns when everything that was appended survives a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// From now on it takes what is appended, and cannot be synced.
    #[cfg(test)]
    pub(crate) fn lose_the_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/null").unwrap();
    }
}

/// What a change takes in a frame.
pub(crate) fn length((key, value): &Change) -> usize {
    8 + key.len() + value.as_ref().map_or(0, Vec::len)
}

fn open(path: &Path, make: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(make)
        .truncate(make)
        .mode(0o600)
        .open(path)
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

fn recovered(bytes: &[u8]) -> Option<Recovered> {
    let (epoch, mut changes, mut at) = frame(bytes)?;
    let mut batches = Vec::new();
    loop {
        if !changes.is_empty() {
            batches.push(changes);
        }
        match bytes.get(at..).and_then(frame) {
            Some((next, more, length)) if next == epoch => {
                changes = more;
                at += length;
            }
            _ => return Some(Recovered { epoch, batches }),
        }
    }
}

/// The frame at the beginning of `bytes`: its epoch, its changes, its length.
fn frame(bytes: &[u8]) -> Option<(u64, Vec<Change>, usize)> {
    let mut header = bytes;
    let body = number(&mut header)?;
    let crc = u32::try_from(number(&mut header)?).ok()?;
    let whole = HEADER.checked_add(body)?;
    let covered = bytes.get(8..whole)?;
    if crc32fast::hash(covered) != crc {
        return None;
    }
    let (epoch, mut rest) = covered.split_first_chunk::<8>()?;
    let mut changes = Vec::new();
    while !rest.is_empty() {
        changes.push(change(&mut rest)?);
    }
    Some((u64::from_be_bytes(*epoch), changes, whole))
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
