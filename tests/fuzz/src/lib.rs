//! Every reader of foreign bytes, as a function that takes any bytes at all.
//!
//! A [`Target`] knows a few whole messages, as real peers send them, and feeds any bytes to the code that reads such
//! messages. It must come back: a panic, an overflow or an endless loop is the fault that is looked for. The tests
//! break the messages in every simple way ([`mutate::every_simple_break`]) and at random ([`mutate::Mutator`]); any other
//! fuzzer can call [`Target::run`] just as well.

mod engine;
pub mod mutate;
mod oauth;
mod peer;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// One reader of foreign bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, for `FUZZ_TARGET`.
    pub name: &'static str,
    /// Whole messages to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads any bytes.
    pub run: fn(&[u8]),
}

/// All readers.
pub const TARGETS: [Target; 16] = [
    wire::PACKET,
    wire::DISCO,
    wire::STUN,
    wire::DERP,
    wire::DERP_INFO,
    wire::NOISE_SERVER,
    wire::NOISE_CLIENT,
    wire::EARLY,
    wire::MAP_FRAMES,
    wire::TSMP,
    engine::MAP_MESSAGES,
    engine::FILTER_RULES,
    engine::WIREGUARD,
    peer::PEER,
    oauth::REGISTRATION,
    oauth::CREDENTIALS,
];

impl Target {
    /// Reads `input`; a panic comes back as the text to replay it by.
    ///
    /// # Errors
    /// The name of the target and the input in hexadecimal.
    pub fn survive(&self, input: &[u8]) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| (self.run)(input))).map_err(|_| {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} panics: FUZZ_TARGET={} FUZZ_INPUT={hex}", self.name, self.name)
        })
    }
}
