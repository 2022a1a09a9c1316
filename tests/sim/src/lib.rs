//! A deterministic simulator: two engines, a hostile network between them, a control server that changes its mind.
//!
//! [`run`] takes a seed, makes a [`scenario`] from it and lets it happen in a [`simulation`] on virtual time ([`clock`]);
//! tests can script a simulation themselves. The nodes ([`node`]) are the real `engine::Peer`s with the driver around them reduced to its essence; [`app`]lications write
//! and check bytes that only the holder of a key could have written; [`control`] grants, withdraws, removes and expires;
//! [`network`] loses, delays, reorders, duplicates, damages and replays, through routers and relays; an [`intruder`] has a key in
//! the netmap and no good intentions.
//!
//! After every step the invariants are checked:
//! - bytes that are delivered are those that the holder of the peer's key wrote, in order, without a gap;
//! - nothing is delivered, and no connection stays open, once the node knows that access was withdrawn;
//! - once the network heals, new connections succeed within seconds, and none hangs for ever;
//! - no timer is set into the past over and over: time goes on.
//!
//! The same seed gives the same run, except for the bytes of boringtun's own ephemeral keys, which decide nothing.

pub mod app;
pub mod clock;
pub mod control;
pub mod intruder;
pub mod network;
pub mod node;
mod run;
pub mod scenario;
pub mod simulation;

pub use self::run::{Outcome, run};
