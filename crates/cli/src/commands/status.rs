//! `countersign status`: how the running server is doing, for a person, a script or a supervisor that waits for it.

#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    time::Duration,
};

use tokio::time::Instant;

use super::complain;
use crate::{
    args::StatusArgs,
    exit::Exit,
    socket::{
        Answer, Question,
        client::{AskError, ask},
    },
    status::{StatusReport, render},
};

/// Pause between two looks while waiting: the socket is local and an answer costs microseconds.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks, waits if told to, prints, and says how it is by the exit code.
pub(crate) async fn run(args: &StatusArgs, state_dir: &Path) -> Exit {
    let wait = Duration::from_secs(args.wait.unwrap_or(0).into());
    let report = match wait_for(state_dir, wait).await {
        Ok(report) => report,
        Err(error) => {
            complain(&error);
            return match error {
                AskError::NotRunning(_) => Exit::NotRunning,
                AskError::Silent(_) => Exit::NotReady,
                AskError::NotPermitted(_) | AskError::Io(..) => Exit::Failed,
            };
        }
    };
    if let Err(error) = print(&report, args.json) {
        // A reader that has seen enough, such as `head`, is no failure.
        if error.kind() != io::ErrorKind::BrokenPipe {
            complain(format_args!("cannot print the report: {error}"));
            return Exit::Failed;
        }
    }
    if report.ready { Exit::Done } else { Exit::NotReady }
}

/// The report once the server is ready, or the last one (or error) when the time is up.
async fn wait_for(state_dir: &Path, wait: Duration) -> Result<StatusReport, AskError> {
    let deadline = Instant::now() + wait;
    loop {
        let last = match ask(state_dir, Question::Status).await {
            Ok(Answer::Status(report)) if report.ready => return Ok(*report),
            Ok(Answer::Status(report)) => Ok(*report),
            Ok(_) => Err(AskError::Silent(state_dir.display().to_string())),
            Err(error @ (AskError::NotPermitted(_) | AskError::Io(..))) => return Err(error),
            Err(error) => Err(error),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return last;
        }
        tokio::time::sleep(left.min(PAUSE)).await;
    }
}

fn print(report: &StatusReport, json: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut stdout, report)?;
        return writeln!(stdout);
    }
    let colour = stdout.is_terminal();
    stdout.write_all(render(report, colour).as_bytes())
}
