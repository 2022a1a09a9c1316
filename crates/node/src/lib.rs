//! An embeddable userspace tailnet node.
mod clock;
pub mod control;
pub mod state;
pub mod tls;
mod udp;
