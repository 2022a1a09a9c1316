//! What the demo prints: sections of steps, each with what came out and the milliseconds it took, in columns.
//!
//! Colour and the line that shows a step in progress appear on a terminal only, so that a transcript in a file is the
//! same text without them. `NO_COLOR` is honoured.

use std::{
    error::Error,
    fmt::Display,
    future::Future,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Columns of a step: what is done, what came out, and how long it took, 80 in all.
const LABEL: usize = 38;
const OUTCOME: usize = 28;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// A step failed; the transcript says which and why.
#[derive(Debug, thiserror::Error)]
#[error("a step failed")]
pub(super) struct StepFailed;

/// What a step gives: a value to go on with, and the words that stand beside the step.
pub(super) type Outcome<T> = Result<(T, String), Box<dyn Error + Send + Sync>>;

/// See the module's description.
pub(super) struct Transcript<W> {
    out: W,
    colour: bool,
    sections: u32,
    steps: u32,
    started: Instant,
}

impl Transcript<io::Stdout> {
    /// One for people, on standard output.
    pub(super) fn on_stdout() -> Self {
        let out = io::stdout();
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::new(out, colour)
    }
}

impl<W: Write> Transcript<W> {
    pub(super) fn new(out: W, colour: bool) -> Self {
        Self {
            out,
            colour,
            sections: 0,
            steps: 0,
            started: Instant::now(),
        }
    }

    /// Time since the transcript began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Steps that went well.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// A line in bold.
    pub(super) fn title(&mut self, text: &str) {
        let text = self.paint(BOLD, text);
        self.line(&text);
    }

    /// A numbered heading.
    pub(super) fn section(&mut self, text: &str) {
        self.sections += 1;
        let number = self.paint(CYAN, &self.sections.to_string());
        let text = self.paint(BOLD, text);
        self.line("");
        self.line(&format!("{number}  {text}"));
    }

    /// A line of its own.
    pub(super) fn line(&mut self, text: &str) {
        // A closed pipe is no reason to stop: the exit code still tells how it went.
        let _ = writeln!(self.out, "{text}");
    }

    /// Indented words below a step.
    pub(super) fn note(&mut self, text: impl Display) {
        let text = self.paint(DIM, &text.to_string());
        self.line(&format!("     {text}"));
    }

    /// Runs one step and writes its line.
    ///
    /// # Errors
    /// [`StepFailed`] when `work` failed; what went wrong has then been written.
    pub(super) async fn step<T>(
        &mut self,
        label: &str,
        work: impl Future<Output = Outcome<T>>,
    ) -> Result<T, StepFailed> {
        if self.colour {
            let _ = write!(self.out, "   … {label}");
            let _ = self.out.flush();
        }
        let start = Instant::now();
        let outcome = work.await;
        let took = start.elapsed();
        let erase = if self.colour { "\r\x1b[K" } else { "" };
        let took = self.paint(DIM, &format!("{:>5} ms", millis(took)));
        match outcome {
            Ok((value, words)) => {
                self.steps += 1;
                let mark = self.paint(GREEN, "✓");
                self.line(&format!("{erase}   {mark} {label:<LABEL$} {words:<OUTCOME$}{took}"));
                Ok(value)
            }
            Err(error) => {
                let mark = self.paint(RED, "✗");
                self.line(&format!(
                    "{erase}   {mark} {label:<LABEL$} {:<OUTCOME$}{took}",
                    "failed"
                ));
                for cause in causes(&*error) {
                    let cause = self.paint(RED, &cause);
                    self.line(&format!("     {cause}"));
                }
                Err(StepFailed)
            }
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("{colour}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }
}

/// With a decimal below ten, where it matters.
fn millis(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1000.0;
    if millis < 9.95 {
        format!("{millis:.1}")
    } else {
        format!("{millis:.0}")
    }
}

/// The error and what caused it, without saying the same twice.
fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|said| said.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts
}

#[cfg(test)]
mod tests;
