//! `countersign serve`: from settings to a server on the tailnet, and back down in order.
//!
//! The order is: state folder, status socket, tailnet, issuer and keys, listener, ready. Down: no new connections, those
//! that are open get [`GRACE`] to finish, then the node leaves. A second signal ends the process at once.

mod board;
mod signals;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    board::Board,
    signals::{Signal, Signals},
};
use crate::{
    args::Flags,
    config::{self, Inputs, Settings},
    exit::Exit,
    log::{self, LogHandle},
    notify,
    socket::{SocketError, StatusSocket},
    status::State,
};

/// How long open requests may take to finish once a signal has come.
const GRACE: Duration = Duration::from_secs(10);

/// Why the server cannot go on.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    /// The state folder cannot be made or used.
    #[error("cannot use the state folder {}: {error}; make it writable for this user or set state_dir", path.display())]
    StateDir { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refuses a signal handler.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
}

impl ServeError {
    fn exit(&self) -> Exit {
        match self {
            Self::StateDir { .. } | Self::Socket(_) | Self::Signals(_) => Exit::Failed,
        }
    }
}

/// Serves until a signal comes or something ends that must not end.
pub(crate) fn run(flags: Flags, started: Instant) -> Exit {
    let settings = match config::load(Inputs::from_process(flags.clone())) {
        Ok(settings) => settings,
        Err(problems) => {
            super::complain(problems);
            return Exit::Usage;
        }
    };
    let log = match log::start(&settings.log) {
        Ok(log) => log,
        Err(error) => {
            super::complain(error);
            return Exit::Failed;
        }
    };
    for warning in &settings.warnings {
        tracing::warn!(event = "setting", "{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(event = "failed", "cannot start threads: {error}");
            return Exit::Failed;
        }
    };
    let outcome = runtime.block_on(serve(&settings, &Reload { flags, log }, started));
    // Tasks that ignore their parent's end must not hold up the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!(event = "failed", "{error}");
            notify::status(&error.to_string());
            error.exit()
        }
    }
}

async fn serve(settings: &Settings, reload: &Reload, started: Instant) -> Result<(), ServeError> {
    let mut signals = Signals::listen().map_err(ServeError::Signals)?;
    make_state_dir(&settings.state_dir)?;
    let board = Arc::new(Board::new(settings, started));
    let _socket = StatusSocket::open(&settings.state_dir, Arc::clone(&board) as _).await?;
    tracing::info!(
        event = "start",
        version = env!("CARGO_PKG_VERSION"),
        "countersign starts"
    );
    board.enter(State::Joining);
    notify::status("joining the tailnet");
    loop {
        match signals.next().await {
            Signal::Stop => break,
            Signal::Reload => reload.run(),
            Signal::Watchdog => notify::alive(),
        }
    }
    board.enter(State::Stopping);
    notify::stopping("ending what is open");
    tracing::info!(event = "stop", "countersign stops; a second signal ends it at once");
    Ok(())
}

/// What is needed to read the settings again.
struct Reload {
    flags: Flags,
    log: LogHandle,
}

impl Reload {
    /// Reads the settings again and puts into force what can change while running: the log filter. Certificate files
    /// need no signal, they are read again whenever they change.
    fn run(&self) {
        notify::reloading();
        match config::load(Inputs::from_process(self.flags.clone())) {
            Ok(settings) => match self.log.set(&settings.log) {
                Ok(()) => tracing::info!(event = "reload", log = settings.log, "log filter read again"),
                Err(error) => tracing::error!(event = "reload", "{error}"),
            },
            Err(problems) => tracing::error!(event = "reload", "settings stay as they were: {problems}"),
        }
        notify::ready("serving");
    }
}

/// Makes the state folder for this user alone, and proves that it can be written: the first key must not be lost.
fn make_state_dir(path: &Path) -> Result<(), ServeError> {
    let failed = |error| ServeError::StateDir {
        path: path.to_owned(),
        error,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}
