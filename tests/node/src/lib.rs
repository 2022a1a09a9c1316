//! What the node tests share: the pinned real peers, run without root on the in-process tailnet.

pub mod real;
