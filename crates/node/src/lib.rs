//! An embeddable userspace tailnet node.
mod clock;
mod udp;
