//! What the node tests share: nodes of ours on the in-process tailnet, and the pinned real peers beside them.
#![allow(clippy::expect_used, reason = "helpers of tests")]

pub mod fleet;
pub mod mallory;
pub mod real;
pub mod victim;
