//! Exit codes: what a script or systemd can rely on. Listed in `--help` and in `docs/systemd/README.md`.

use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or stopped by a signal as asked.
    Done = 0,
    /// Something failed that may go better next time.
    Failed = 1,
    /// Wrong usage or configuration (`clap` uses the same number).
    Usage = 2,
    /// `status`: running but not ready.
    NotReady = 3,
    /// `status`, `ca`, `policy`, `client`: not running. `issuer change`: nothing to change.
    NotRunning = 4,
    /// The tailnet or the stored issuer refuses; trying again does not help until a person has decided.
    Refused = 5,
    /// A bug: a task that must not end has ended.
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
