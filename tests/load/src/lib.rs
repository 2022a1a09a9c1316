//! Load on `countersign serve`, a process of its own on the in-process tailnet.
//!
//! The load lives in the test's process, so what it was told survives the server. Two things use it: `tests/kill.rs`
//! kills the server under it and holds the next one to every answer that was given, and `oauth-bench` divides the
//! server's CPU time by the operations it answered.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod http;
mod journey;
pub mod oauth;
mod person;
mod work;

pub use self::{
    http::{Answer, Connection, Gone, Target},
    journey::Journey,
    person::{Busy, Person},
    work::{Book, Load},
};
