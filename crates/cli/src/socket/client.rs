//! The asking side, used by every command that needs the running server.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{Answer, NAME, PATIENCE, Question, short_path};

/// Longest answer in bytes: 100,000 peers fit.
const MAX_ANSWER: u64 = 64 << 20;

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No server has its state there, or it has ended.
    #[error("no countersign server is running on the state folder {0}")]
    NotRunning(String),
    /// The socket belongs to somebody else.
    #[error("not permitted to ask the server on {0}: run this as its user or as root")]
    NotPermitted(String),
    /// It accepts but does not answer in time.
    #[error("the server on {0} does not answer: look at its log")]
    Silent(String),
    /// Anything else.
    #[error("cannot ask the server on {0}: {1}")]
    Io(String, #[source] io::Error),
}

/// Asks the server whose state is in `state_dir`; waits 5 seconds for the answer.
pub(crate) async fn ask(state_dir: &Path, question: Question) -> Result<Answer, AskError> {
    let place = || state_dir.display().to_string();
    match tokio::time::timeout(PATIENCE, exchange(state_dir, question)).await {
        Err(_) => Err(AskError::Silent(place())),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning(place()),
            io::ErrorKind::PermissionDenied => AskError::NotPermitted(place()),
            // It ended between accepting and answering.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                AskError::NotRunning(place())
            }
            _ => AskError::Io(place(), error),
        }),
    }
}

async fn exchange(state_dir: &Path, question: Question) -> io::Result<Answer> {
    let (path, _guard) = short_path(&state_dir.join(NAME))?;
    let mut stream = UnixStream::connect(path).await?;
    let mut text = serde_json::to_vec(&question)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&answer)?)
}
