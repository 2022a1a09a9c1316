//! Ways to break a message.

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

/// Calls `each` with every truncation of `message` and with every copy in which one bit is flipped. Ends at the first
/// error.
///
/// # Errors
/// That of `each`.
pub fn every_simple_break<E>(message: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u64, E> {
    let mut count = 0;
    for len in 0..=message.len() {
        each(&message[..len])?;
        count += 1;
    }
    let mut broken = message.to_vec();
    for bit in 0..message.len() * 8 {
        broken[bit / 8] ^= 1 << (bit % 8);
        each(&broken)?;
        broken[bit / 8] ^= 1 << (bit % 8);
        count += 1;
    }
    Ok(count)
}

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX,
];
/// Text that readers of JSON and URIs trip over.
const WORDS: [&str; 12] = [
    "null",
    "[]",
    "{}",
    "\"\"",
    "-1",
    "1e400",
    "\\u0000",
    "\u{202e}",
    "cap:",
    "*",
    "0001-01-01T00:00:00Z",
    "%00",
];
/// The longest input that is made.
const MAX_LEN: usize = 1 << 16;

/// Breaks messages at random, the same way for the same seed.
#[derive(Debug)]
pub struct Mutator(SmallRng);

impl Mutator {
    /// A mutator whose choices follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// One of `seeds`, broken in a few places.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.choose(&mut self.0).cloned().unwrap_or_default();
        for _ in 0..self.0.random_range(1..8) {
            self.break_once(&mut input, seeds);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn break_once(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.0.random_range(0..=input.len());
        let rest = input.len() - at;
        match self.0.random_range(0..9) {
            0 if rest > 0 => input[at] ^= 1 << self.0.random_range(0..8),
            1 if rest > 0 => input[at] = self.0.random(),
            2 => input.truncate(at),
            3 => {
                let mut noise = vec![0; self.0.random_range(1..40)];
                self.0.fill_bytes(&mut noise);
                input.splice(at..at, noise);
            }
            4 if rest > 0 => {
                let len = self.0.random_range(1..=rest.min(64));
                input.drain(at..at + len);
            }
            5 => self.put_edge(input, at),
            6 => {
                let word = WORDS.choose(&mut self.0).unwrap_or(&"");
                input.splice(at..at, word.bytes());
            }
            7 => {
                // The end of another message.
                let other = seeds.choose(&mut self.0).map_or(&[][..], Vec::as_slice);
                let from = self.0.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ if rest > 0 => {
                // A part once more.
                let len = self.0.random_range(1..=rest.min(64));
                let part = input[at..at + len].to_vec();
                input.splice(at..at, part);
            }
            _ => {}
        }
    }

    /// Overwrites a number of 1, 2, 4 or 8 bytes, in either byte order.
    fn put_edge(&mut self, input: &mut [u8], at: usize) {
        let edge = *EDGES.choose(&mut self.0).unwrap_or(&0);
        let len = 1 << self.0.random_range(0..4);
        let bytes = if self.0.random() {
            edge.to_le_bytes()
        } else {
            edge.rotate_left(64 - 8 * len).to_be_bytes()
        };
        for (place, byte) in input.iter_mut().skip(at).zip(&bytes[..len as usize]) {
            *place = *byte;
        }
    }
}
