//! The formats a tailnet node speaks, as values and bytes.
//!
//! This crate owns every byte layout between a node, its control server, DERP relays and peers. Bytes come in, typed
//! values that only valid input can produce go out, and back. It reads no clock, draws no randomness and does no I/O.

pub mod derp;
pub mod disco;
pub mod key;
pub mod nacl;
pub mod packet;
pub mod stun;
