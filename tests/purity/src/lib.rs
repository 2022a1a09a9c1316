//! Reads the sources of this repository as a reviewer would who looks for one thing only.
//!
//! [`source`] turns a Rust file into the paths it names, without comments, strings and test code. [`manifest`] reads
//! which crates a crate depends on. The rules themselves are the tests in `tests/`.

pub mod manifest;
pub mod source;

use std::path::{Path, PathBuf};

/// The top folder of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
