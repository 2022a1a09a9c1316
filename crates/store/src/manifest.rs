//! `store.json`: what the database beside it must look like.
//!
//! A sled file that was cut or swapped can open empty or old without an error. The manifest, synced on its own, says
//! which store it is, of which node, and which checkpoint it reached last; the database says the same about itself.
//! The database is always written first, so it may be one checkpoint ahead, never behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::OpenError;

/// The layout of tables and keys that this version reads and writes.
pub(crate) const SCHEMA: u32 = 2;

const NAME: &str = "store.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Random name of the store.
    pub(crate) store_id: String,
    /// [`SCHEMA`] of what is in the database.
    pub(crate) schema: u32,
    /// Fingerprint of the machine key of the node whose state this is.
    pub(crate) node: String,
    /// 0 while the database is being made for the first time.
    pub(crate) checkpoint: u64,
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

pub(crate) fn load(folder: &Path) -> Result<Option<Manifest>, OpenError> {
    let path = path(folder);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    match serde_json::from_slice(&text) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) => Err(OpenError::Manifest {
            path,
            reason: error.to_string(),
        }),
    }
}

/// Replaces the file as a whole; when this returns, the new one survives a power cut.
pub(crate) fn save(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let next = folder.join("store.json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    let mut text = serde_json::to_vec_pretty(manifest)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&next, path(folder))?;
    File::open(folder)?.sync_all()
}
