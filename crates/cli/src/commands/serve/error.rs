//! Why the server cannot go on, and whether trying again can help.

use std::{io, path::PathBuf};

use countersign_server::issuer::{IssuerError, IssuerSyntax};
use countersign_store::OpenError;
use tailnet_node::{ListenError, control::FatalError};

use crate::{exit::Exit, socket::SocketError};

/// Why the server cannot go on. Each text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The state folder cannot be made or used.
    #[error("cannot use the state folder {}: {error}; make it writable for this user or set state_dir", path.display())]
    StateDir { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refuses a signal handler.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// The node cannot join.
    #[error(transparent)]
    Join(#[from] tailnet_node::StartError),
    /// The database.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system gave no random bytes.
    #[error("the system has no random bytes to give: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The assigned name makes no issuer.
    #[error("no issuer can be made of the name that the tailnet gave: {0}; set issuer")]
    Name(#[from] IssuerSyntax),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Keys or certificates.
    #[error(transparent)]
    Start(#[from] countersign_server::StartError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The server stopped by itself.
    #[error(transparent)]
    Serve(#[from] countersign_server::ServeError),
    /// The tailnet has ruled the node out.
    #[error("the node has left the tailnet: {0}")]
    Left(String),
    /// A task that must not end has ended.
    #[error("{0} has panicked; this is a bug, please report it with the log")]
    Panicked(&'static str),
}

impl ServeError {
    /// The exit code by which a supervisor knows whether to try again.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Join(tailnet_node::StartError::Refused(FatalError::Session(_))) => Exit::Refused,
            Self::Issuer(IssuerError::NodeRenamed { .. } | IssuerError::Configured { .. }) => Exit::Refused,
            Self::Join(tailnet_node::StartError::Control(_)) | Self::Name(_) | Self::Listen(_) => Exit::Usage,
            Self::Join(tailnet_node::StartError::Panicked) | Self::Panicked(_) => Exit::Bug,
            _ => Exit::Failed,
        }
    }
}
