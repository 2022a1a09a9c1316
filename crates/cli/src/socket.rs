//! The socket beside the running server: how the other commands ask it.
//!
//! A unix socket `countersign.sock` in the state folder, open to its owner alone. The asker sends one line of JSON, the
//! server answers with one line of JSON and closes. It is up before the tailnet is, so that a server that cannot join
//! can still say why.

pub(crate) mod client;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_oauth::explain::Explanation;
use countersign_server::{ClientList, ExplainQuery};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::status::{StatusReport, StatusSource};

/// Name of the socket in the state folder.
const NAME: &str = "countersign.sock";

/// Longest path that fits into `sun_path`, less one for the final zero (unix(7)).
const MAX_PATH: usize = 107;

/// Askers served at the same time; others wait in the kernel's backlog.
const MAX_ASKERS: usize = 8;

/// Longest question in bytes: one about 32 resources fits.
const MAX_QUESTION: u64 = 64 << 10;

/// An asker that is slower than this is dropped.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// How it is doing.
    Status,
    /// The root certificate of the internal CA.
    Ca,
    /// Who may what, and why.
    Explain(Box<ExplainQuery>),
    /// Which clients are registered.
    Clients,
    /// Let everybody use a client, or its owner alone.
    Publish {
        /// Its id.
        client: String,
        /// Everybody, or the owner alone.
        published: bool,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// To [`Question::Status`].
    Status(Box<StatusReport>),
    /// To [`Question::Ca`]: PEM.
    Ca(String),
    /// To [`Question::Explain`].
    Explained(Vec<Explanation>),
    /// To [`Question::Clients`].
    Clients(ClientList),
    /// To [`Question::Publish`]: whether that changed anything.
    Published(bool),
    /// The question cannot be answered, and why.
    Error(String),
}

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another server answers on it.
    #[error("the state folder {0} is in use by another countersign (pid {1}): stop it first, or set another state_dir")]
    InUse(PathBuf, u32),
    /// The system refuses.
    #[error("cannot open the status socket {0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

/// The open socket. Dropping it ends its tasks and removes the file.
#[derive(Debug)]
pub(crate) struct StatusSocket {
    path: PathBuf,
    _tasks: JoinSet<()>,
}

impl StatusSocket {
    /// Opens the socket in the state folder, which must exist, and serves askers from `source`.
    pub(crate) async fn open(state_dir: &Path, source: Arc<dyn StatusSource>) -> Result<Self, SocketError> {
        let path = state_dir.join(NAME);
        if let Ok(Answer::Status(report)) = client::ask(state_dir, Question::Status).await {
            return Err(SocketError::InUse(state_dir.to_owned(), report.pid));
        }
        let listener = bind(&path).map_err(|error| SocketError::Io(path.clone(), error))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, source));
        Ok(Self { path, _tasks: tasks })
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // Best effort: a file left behind is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Replaces what an earlier server left and binds. Nobody answers on the old file, or we would not be here.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (short, _guard) = short_path(path)?;
    let listener = UnixListener::bind(short)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A path that fits into `sun_path`: the path itself, or one through the open folder for as long as that is held.
fn short_path(path: &Path) -> io::Result<(PathBuf, Option<fs::File>)> {
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((path.to_owned(), None));
    }
    let folder = fs::File::open(path.parent().unwrap_or(Path::new(".")))?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
    Ok((
        PathBuf::from(format!("/proc/self/fd/{number}")).join(NAME),
        Some(folder),
    ))
}

async fn accept(listener: UnixListener, source: Arc<dyn StatusSource>) {
    let slots = Arc::new(Semaphore::new(MAX_ASKERS));
    let mut askers = JoinSet::new();
    loop {
        while askers.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                askers.spawn(async move {
                    let answered = tokio::time::timeout(PATIENCE, answer(stream, source.as_ref())).await;
                    if let Ok(Err(error)) = answered {
                        tracing::debug!(%error, "status socket");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: spinning would make it worse.
                tracing::warn!(event = "status_socket", %error, "cannot accept on the status socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, source: &dyn StatusSource) -> io::Result<()> {
    let asker = match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(0) => "root on the server".to_owned(),
        Ok(uid) => format!("uid {uid} on the server"),
        Err(_) => "somebody on the server".to_owned(),
    };
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_QUESTION)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Question::Status) => Answer::Status(Box::new(source.status())),
        Ok(Question::Ca) => match source.root_certificate() {
            Ok(pem) => Answer::Ca(pem),
            Err(text) => Answer::Error(text),
        },
        Ok(question) => source.administer(question, &asker).await,
        Err(error) => Answer::Error(format!("question not understood ({error}): is this an older server?")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    writer.shutdown().await
}
