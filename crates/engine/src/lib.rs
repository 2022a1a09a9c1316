//! State machines of a tailnet node: netmap, packet filter, paths, WireGuard tunnels, TCP/IP, control session.
//!
//! Everything here is sans-IO: events come in through `handle_*`, work goes out through `poll_*`, and `poll_timeout`
//! says when to come back. Time and randomness are arguments; nothing in this crate reads a clock (boringtun, behind
//! [`tunnel`], is the listed exception) or touches a socket.

pub mod caps;
pub mod control;
pub mod filter;
pub mod netcheck;
pub mod netmap;
pub mod netstack;
pub mod path;
pub mod peer;
pub mod strangers;
pub mod tunnel;
