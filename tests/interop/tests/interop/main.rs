//! Countersign among real peers. Needs root, the peers of `peers.sh` and the built binary; `tests/run` brings all three.
//! The tests share one lab and run one after the other, each from a policy of its own.

#![allow(missing_docs, reason = "a test is documented by its name")]

mod lab;
