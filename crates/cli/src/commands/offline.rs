//! The state folder of a server that is not running, for the commands that read or mend it.

use std::path::{Path, PathBuf};

use countersign_store::{OpenError, Store};
use tailnet_node::state::{State, StateError};

use super::serve::store_options;
use crate::exit::Exit;

/// Why there is nothing to work on.
#[derive(Debug, thiserror::Error)]
pub(super) enum OfflineError {
    /// No server ever joined from there.
    #[error("no countersign server is running on the state folder {}, and none ever joined from it", .0.display())]
    Nothing(PathBuf),
    /// A server is starting, or another process is at work there.
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A bug.
    #[error("opening the store has panicked; this is a bug, please report it")]
    Panicked,
}

impl OfflineError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Nothing(_) => Exit::NotRunning,
            Self::State(_) | Self::Store(_) => Exit::Failed,
            Self::Panicked => Exit::Bug,
        }
    }
}

/// The open store, and the lock that keeps a server from starting meanwhile.
pub(super) struct Offline {
    store: Store,
    _state: State,
}

/// Opens what a server left. Makes nothing where there was none.
pub(super) async fn open(state_dir: &Path) -> Result<Offline, OfflineError> {
    let nothing = || OfflineError::Nothing(state_dir.to_owned());
    let state = State::open_existing(state_dir)?.ok_or_else(nothing)?;
    // The entropy would only name a new store, and none is made.
    let options = store_options(state_dir, state.machine_key().public(), [0; 16]);
    if !options.folder.exists() {
        return Err(nothing());
    }
    match tokio::task::spawn_blocking(move || Store::open(&options)).await {
        Ok(opened) => Ok(Offline {
            store: opened?,
            _state: state,
        }),
        Err(_) => Err(OfflineError::Panicked),
    }
}

impl Offline {
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Makes what was written durable and lets go of it.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}
