//! An embeddable userspace tailnet node.
mod clock;
pub mod state;
pub mod tls;
mod udp;
