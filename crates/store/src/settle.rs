//! How a layer moves into the database: in order, in steps, and with a last one that says so.
//!
//! The database's own record of its [epoch](crate::journal) comes in the last step, is synced, and only then goes into
//! `store.json`. A crash before that leaves a part of the layer behind; the journal still has all of it, and moving it
//! again changes nothing that is there already.
//!
//! Audit lines are put together here, some 4 KiB of them in one record: each by itself would cost as much as a grant.

use std::path::PathBuf;

use crate::{
    audit::Bundle,
    backend::sled::Sled,
    error::StoreError,
    layer::Layer,
    manifest::{self, Manifest},
    record::{self, Version},
    store::Meta,
};

/// Records of one step, and bytes from which on it takes no more. Each is synced: sled writes over a segment of its log once
/// what it held stands in a later one and 512 KiB more were written, and does not see to it that a file which grew keeps
/// its new length. A step writes less than that.
const STEP: usize = 128;
const STEP_BYTES: usize = 64 << 10;

/// Where the layers go, and the files that say how far they got.
pub(crate) struct Settler {
    folder: PathBuf,
    manifest: Manifest,
}

impl Settler {
    /// For a database that stands at the checkpoint of `manifest`.
    pub(crate) fn new(folder: PathBuf, manifest: Manifest) -> Self {
        Self { folder, manifest }
    }

    /// The last epoch that is settled, 0 in a new store.
    pub(crate) fn epoch(&self) -> u64 {
        self.manifest.checkpoint
    }

    /// Moves all of `layer`; when this returns, its journal is no longer needed.
    pub(crate) fn settle(&mut self, database: &Sled, layer: &Layer, epoch: u64) -> Result<(), StoreError> {
        let mut bundle = Bundle::default();
        let mut bundles = Vec::new();
        let mut step = Vec::with_capacity(STEP);
        let mut bytes = 0;
        for (key, value) in layer.iter() {
            match Bundle::position(key).zip(value) {
                Some((position, line)) => bundles.extend(bundle.add(position, line)),
                None => {
                    bytes += key.len() + value.map_or(0, <[u8]>::len);
                    step.push((key, value));
                }
            }
            if step.len() == STEP || bytes >= STEP_BYTES {
                database.apply(step.drain(..))?;
                database.sync()?;
                bytes = 0;
            }
        }
        bundles.extend(bundle.end());
        let meta = record::to_body(&Meta {
            store_id: self.manifest.store_id.clone(),
            schema: manifest::SCHEMA,
            checkpoint: epoch,
        })?;
        let meta = (record::key::<Meta>(Meta::ID), record::seal(Version(0), &meta));
        step.extend(
            bundles
                .iter()
                .chain([&meta])
                .map(|(key, value)| (key.as_bytes(), Some(value.as_slice()))),
        );
        database.apply(step)?;
        database.sync()?;
        self.manifest.checkpoint = epoch;
        self.manifest.schema = manifest::SCHEMA;
        Ok(manifest::save(&self.folder, &self.manifest)?)
    }
}
