//! Countersign among real peers: the claims that only real peers can confirm, one file for each kind.
//!
//! Needs root, the peers of `peers.sh` and the built binary; `tests/run interop` brings all three. The tests share one lab
//! and run one after the other, each from a policy of its own. Those that begin with `long_` run with `--full` only.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test is documented by its name and ends at what it does not expect"
)]

mod common;
mod discovery;
mod lab;
mod node;
mod outage;
mod paths;
mod person;
mod refusals;
mod relying_party;
mod restart;
mod revocation;
mod small_team;
mod tokens;
mod withdrawal;
