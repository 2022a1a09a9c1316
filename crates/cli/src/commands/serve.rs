//! `countersign serve`: from settings to a server on the tailnet, and back down in order.
//!
//! The order is: state folder, status socket, tailnet, store, issuer and keys, listener, ready. Down: no new
//! connections, those that are open get [`GRACE`] to finish, then the node leaves. A second signal ends the process at
//! once.

mod board;
mod error;
mod running;
mod signals;
mod silence;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tailnet_node::NodeState;

pub(crate) use self::{
    board::Board,
    running::{Running, store_options},
};
use self::{
    error::ServeError,
    signals::{Signal, Signals},
};
use crate::{
    args::Flags,
    config::{self, Inputs, Settings},
    exit::Exit,
    log::{self, LogHandle},
    notify,
    socket::StatusSocket,
    status::State,
};

/// How long open requests may take to finish once a signal has come.
const GRACE: Duration = Duration::from_secs(10);

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
    let reload = Reload {
        flags,
        log,
        serving: OnceLock::new(),
    };
    let outcome = runtime.block_on(serve(&settings, &reload, started));
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
    let auth_key = settings
        .auth_key
        .as_ref()
        .map_or_else(|| "none".to_owned(), |key| key.source.to_string());
    tracing::info!(
        event = "start",
        version = env!("CARGO_PKG_VERSION"),
        auth_key,
        "countersign starts"
    );
    board.enter(State::Joining);
    notify::status("joining the tailnet");
    let Some(running) = heeding(&mut signals, reload, Running::start(settings, &board)).await else {
        stopping(&board);
        return Ok(());
    };
    let mut running = running?;
    ready(&board, &running, reload);
    let ended = heeding(&mut signals, reload, running.ended(&board)).await;
    stopping(&board);
    board.clear();
    // A second signal drops what is still open.
    let stopped = heeding(&mut signals, reload, tokio::time::timeout(GRACE, running.stop())).await;
    if stopped.is_none_or(|in_time| in_time.is_err()) {
        tracing::warn!(event = "stop", "not everything could be ended in order");
    }
    ended.map_or(Ok(()), Err)
}

/// Drives `work` to its end while signals are heeded; `None` when a signal to stop came first.
async fn heeding<T>(signals: &mut Signals, reload: &Reload, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            signal = signals.next() => match signal {
                Signal::Stop => return None,
                Signal::Reload => reload.run(),
                Signal::Watchdog => notify::alive(),
            },
        }
    }
}

fn ready(board: &Board, running: &Running, reload: &Reload) {
    board.serve(running.node(), running.server());
    let issuer = running.server().issuer();
    notify::ready(reload.serving.get_or_init(|| format!("serving {issuer}")));
    let ready_after_ms = board.ready_after_ms();
    tracing::info!(
        event = "ready",
        issuer = issuer.as_str(),
        ready_after_ms,
        "ready: serving {issuer}"
    );
}

fn stopping(board: &Board) {
    board.enter(State::Stopping);
    notify::stopping("ending what is open");
    tracing::info!(event = "stop", "countersign stops; a second signal ends it at once");
}

/// What the node's state means for those who watch the server.
fn show(board: &Board, state: &NodeState) {
    match state {
        NodeState::Joining => board.enter(State::Joining),
        NodeState::NeedsLogin(url) => {
            board.needs_login(url);
            notify::status(&format!("to admit this node, open {url}"));
        }
        NodeState::NeedsApproval => {
            board.problem("an administrator of the tailnet must approve this node");
            notify::status("waiting for an administrator of the tailnet to approve this node");
        }
        NodeState::Running => board.connected(true, None),
        NodeState::Offline(reason) => board.connected(false, Some(reason)),
        NodeState::Stopped(reason) => board.problem(reason),
    }
}

/// What is needed to read the settings again.
struct Reload {
    flags: Flags,
    log: LogHandle,
    /// What systemd was told when the server became ready. Before that, no reload may tell it so.
    serving: OnceLock<String>,
}

impl Reload {
    /// Reads the settings again and puts into force what can change while running: the log filter. Certificate files
    /// need no signal, they are read again whenever they change.
    fn run(&self) {
        if self.serving.get().is_some() {
            notify::reloading();
        }
        match config::load(Inputs::from_process(self.flags.clone())) {
            Ok(settings) => match self.log.set(&settings.log) {
                Ok(()) => tracing::info!(event = "reload", log = settings.log, "log filter read again"),
                Err(error) => tracing::error!(event = "reload", "{error}"),
            },
            Err(problems) => tracing::error!(event = "reload", "settings stay as they were: {problems}"),
        }
        if let Some(serving) = self.serving.get() {
            notify::ready(serving);
        }
    }
}

/// Makes the state folder for this user alone, and proves that it can be written: the first key must not be lost.
fn make_state_dir(path: &Path) -> Result<(), ServeError> {
    let failed = |error: io::Error| ServeError::StateDir {
        path: path.to_owned(),
        error,
    };
    if path.exists() && !path.is_dir() {
        return Err(failed(io::Error::other("it is not a folder")));
    }
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
