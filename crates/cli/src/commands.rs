//! One file per subcommand.

pub(crate) mod ca;
pub(crate) mod issuer;
mod offline;
pub(crate) mod serve;
pub(crate) mod status;

/// Prints a line for the person at the terminal, on standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    eprintln!("countersign: {text}");
}
