//! Logging: the journal's native protocol under systemd, readable text anywhere else.
//!
//! Under systemd each field of an event or of a span around it becomes a field of the journal entry with
//! `COUNTERSIGN_` before it, so that `journalctl COUNTERSIGN_USER=alice` lists what alice did. The fields that the
//! server sets are `event`, `user`, `node`, `client`, `decision` and `request_id`. Standard output stays free: text
//! goes to standard error, with colour only on a terminal.

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    io::IsTerminal,
    os::fd::{AsFd, BorrowedFd},
};

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tracing::field::Field;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{
        format::{self, Writer},
        time::FormatTime,
    },
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// Before the name of every field of ours in the journal.
const FIELD_PREFIX: &str = "COUNTERSIGN";

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// systemd says that standard error is the journal, but its socket does not answer.
    #[error("cannot reach the journal at /run/systemd/journal/socket ({0}): is systemd-journald running?")]
    Journal(#[source] io::Error),
    /// A second logger in one process.
    #[error("cannot install the logger: {0}")]
    Install(#[from] tracing_subscriber::util::TryInitError),
    /// The filter was accepted as a setting but not here.
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The logger is gone.
    #[error("cannot change the log filter: {0}")]
    Reload(#[from] reload::Error),
}

/// Where log entries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Journal,
    Terminal,
    Text,
}

/// Changes the filter of the running logger.
#[derive(Clone)]
pub(crate) struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Puts a new filter in force.
    pub(crate) fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogHandle")
    }
}

/// Starts logging for this process, and logs panics as errors.
pub(crate) fn start(filter: &str) -> Result<LogHandle, LogError> {
    let journal_stream = std::env::var("JOURNAL_STREAM").ok();
    let stderr = io::stderr();
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    match sink(journal_stream.as_deref(), stderr.as_fd(), stderr.is_terminal()) {
        Sink::Journal => registry.with(journal()?).try_init()?,
        Sink::Terminal => registry.with(text(true)).try_init()?,
        Sink::Text => registry.with(text(false)).try_init()?,
    }
    log_panics();
    Ok(LogHandle(handle))
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    // boringtun reports every session that ends for want of traffic as an error, with nobody to act on it. Who names it in
    // the setting hears it all the same: the later directive counts.
    Ok(EnvFilter::builder().parse(format!("boringtun=off,{filter}"))?)
}

/// `JOURNAL_STREAM` names the device and inode of the journal's stream. It is inherited by children whose output goes
/// elsewhere, hence the comparison (systemd.exec(5)).
fn sink(journal_stream: Option<&str>, stderr: BorrowedFd<'_>, terminal: bool) -> Sink {
    let names_stderr = |stream: &str| {
        let (device, inode) = stream.split_once(':')?;
        let stat = rustix::fs::fstat(stderr).ok()?;
        Some(device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
    };
    match journal_stream.and_then(names_stderr) {
        Some(true) => Sink::Journal,
        _ if terminal => Sink::Terminal,
        _ => Sink::Text,
    }
}

fn journal() -> Result<tracing_journald::Layer, LogError> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer().map_err(LogError::Journal)?;
    let layer = layer
        .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
        .with_priority_mappings(priorities);
    Ok(layer.with_syslog_identifier("countersign".to_owned()))
}

fn text<S>(terminal: bool) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .with_timer(Clock { terminal })
        .fmt_fields(format::debug_fn(write_field))
}

/// The message, then the fields that say something. `event` names the entry for machines; the message does for people.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = printable(format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{text}"),
        "event" => Ok(()),
        // Where a record of the `log` crate was made, which no reader of text needs.
        name if name.starts_with("log.") => Ok(()),
        _ if text == "\"\"" => Ok(()),
        name if writer.has_ansi_escapes() => write!(writer, " \x1b[2m{name}=\x1b[0m{text}"),
        name => write!(writer, " {name}={text}"),
    }
}

/// Names in messages are chosen by others: no line break and no escape sequence of theirs reaches the reader.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut printable = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Time of day for a person at a terminal, RFC 3339 for a file. UTC both.
struct Clock {
    terminal: bool,
}

const TIME_OF_DAY: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
const RFC_3339: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let format = if self.terminal { TIME_OF_DAY } else { RFC_3339 };
        writer.write_str(&OffsetDateTime::now_utc().format(format).map_err(|_| fmt::Error)?)
    }
}

/// A panic is a bug that a person must see, also where standard error is not read.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            event = "panic",
            thread = thread.name().unwrap_or("?"),
            location,
            "panic: {}",
            text.unwrap_or("no message")
        );
    }));
}
