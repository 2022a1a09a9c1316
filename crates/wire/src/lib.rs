//! The formats a tailnet node speaks, as values and bytes.
//!
//! This crate owns every byte layout between a node, its control server, DERP relays and peers. Bytes come in, typed
//! values that only valid input can produce go out, and back. It reads no clock, draws no randomness and does no I/O.

pub mod control;
pub mod derp;
pub mod disco;
pub mod key;
pub mod mapframe;
pub mod nacl;
pub mod noise;
pub mod packet;
pub mod stun;
pub mod tsmp;

/// Bytes by name from `testdata/go_paths.txt`, which the Go implementation made.
#[cfg(test)]
fn go_vector(name: &str) -> Vec<u8> {
    let lines = include_str!("../testdata/go_paths.txt").lines();
    let mut named = lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(key, _)| *key == name);
    let (_, digits) = named.next().unwrap();
    hex::decode(digits).unwrap()
}
