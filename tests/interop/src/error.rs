//! What can go wrong in the lab, told so that the reader of a failed CI run knows where to look.

use std::path::PathBuf;

/// The lab's result.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// A failure of the lab itself or of a peer; assertions about our own server are made by the tests.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something; `tests/run` reports such tests as "could not run".
    #[error("the lab cannot run here: {0}")]
    CannotRun(String),
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A command ended with a failure.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote on stderr.
        stderr: String,
    },
    /// Something that should have happened did not.
    #[error("not within {seconds} s: {what}; last seen: {last}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: f32,
        /// The last observation.
        last: String,
    },
    /// A peer ended that should be running.
    #[error("{name} ended early; its log {log} closes with:\n{tail}")]
    Ended {
        /// The process.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A peer's answer could not be read.
    #[error("{what} is not as expected: {found}")]
    Unexpected {
        /// What was read.
        what: String,
        /// What was found.
        found: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    pub(crate) fn unexpected(what: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Unexpected {
            what: what.into(),
            found: found.into(),
        }
    }
}
