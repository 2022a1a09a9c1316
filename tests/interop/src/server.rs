//! Our own server under test.

/// Placeholder.
#[derive(Debug)]
pub struct Server;
/// Placeholder.
#[derive(Debug)]
pub struct ServerOptions;
