//! An embeddable userspace tailnet node.
mod clock;
pub mod control;
pub mod derp;
pub mod state;
pub mod tls;
mod udp;
