//! Programs that believe in a later time than the machine's, by Debian's libfaketime: what takes an hour in the real
//! world is waited for in no time. Only the wall clock moves; timers and time limits stay true.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Error, Result};

/// Lets `command` run ahead of the true time.
pub(crate) fn ahead(command: &mut Command, by: Duration) -> Result {
    if by.is_zero() {
        return Ok(());
    }
    command
        .env("LD_PRELOAD", library()?)
        .env("FAKETIME", format!("+{}", by.as_secs()))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    Ok(())
}

/// Its file, in the folder of the machine's architecture.
fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").map_err(Error::io("reading /usr/lib"))?;
    let files = folders.filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    let found = files.into_iter().find(|file| file.exists());
    found.ok_or_else(|| Error::CannotRun("libfaketime is missing: apt-get install faketime".to_owned()))
}
