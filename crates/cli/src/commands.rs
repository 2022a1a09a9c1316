//! One file per subcommand.

pub(crate) mod ca;
pub(crate) mod client;
pub(crate) mod issuer;
mod offline;
pub(crate) mod policy;
pub(crate) mod serve;
pub(crate) mod status;

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::{
    exit::Exit,
    socket::{
        Answer, Question,
        client::{AskError, ask},
    },
};

/// Asks the running server, whose answer `expect` takes out of [`Answer`].
///
/// # Errors
/// How the process ends, after the person at the terminal was told why.
async fn asked<T>(state_dir: &Path, question: Question, expect: impl FnOnce(Answer) -> Option<T>) -> Result<T, Exit> {
    match ask(state_dir, question).await {
        Ok(Answer::Error(text)) => {
            complain(text);
            Err(Exit::Failed)
        }
        Ok(answer) => expect(answer).ok_or_else(|| {
            complain("the server answered another question: it is of another version");
            Exit::Failed
        }),
        Err(error) => {
            complain(&error);
            Err(match error {
                AskError::NotRunning(_) => Exit::NotRunning,
                AskError::Silent(_) | AskError::NotPermitted(_) | AskError::Io(..) => Exit::Failed,
            })
        }
    }
}

/// Prints `value` as JSON, or `text` for a person, and says how the process ends.
fn print(text: &str, json: Option<&impl Serialize>) -> Exit {
    let printed = match json {
        Some(value) => serde_json::to_string_pretty(value).map(|json| json + "\n"),
        None => Ok(text.to_owned()),
    };
    let written = printed
        .map_err(io::Error::from)
        .and_then(|text| io::stdout().write_all(text.as_bytes()));
    match written {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot print the answer: {error}"));
            Exit::Failed
        }
        _ => Exit::Done,
    }
}

/// Text of others for a terminal: without control characters, which could move its cursor.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Prints a line for the person at the terminal, on standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    eprintln!("countersign: {text}");
}
