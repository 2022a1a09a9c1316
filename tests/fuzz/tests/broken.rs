//! Feeds broken messages to every reader.
//!
//! `FUZZ_SECONDS=N` gives each reader N seconds of random breaks instead of a fixed number; `FUZZ_SEED=N` makes other
//! ones; `FUZZ_TARGET=name FUZZ_INPUT=hex` replays one.

use std::{
    env,
    time::{Duration, Instant},
};

use countersign_fuzz::{
    TARGETS, Target,
    mutate::{Mutator, every_simple_break},
};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn chosen() -> impl Iterator<Item = &'static Target> {
    static ALL: [Target; TARGETS.len()] = TARGETS;
    let name = env::var("FUZZ_TARGET").ok();
    ALL.iter()
        .filter(move |target| name.as_deref().is_none_or(|name| name == target.name))
}

#[test]
fn no_truncation_and_no_flipped_bit_of_a_real_message_panics() {
    for target in chosen() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no message to begin with", target.name);
        let mut count = 0;
        for seed in &seeds {
            count += every_simple_break(seed, |input| target.survive(input)).unwrap_or_else(|fault| panic!("{fault}"));
        }
        println!("{:>14}: {count} simple breaks of {} messages", target.name, seeds.len());
    }
}

#[test]
fn no_random_break_panics() {
    if let Ok(hex) = env::var("FUZZ_INPUT") {
        let byte = |at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or("00"), 16).unwrap_or(0);
        let input: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        chosen().for_each(|target| (target.run)(&input));
        return;
    }
    let limit = number("FUZZ_SECONDS").map(Duration::from_secs);
    for target in chosen() {
        let seeds = (target.seeds)();
        let mut mutator = Mutator::new(number("FUZZ_SEED").unwrap_or(1));
        let (began, mut count) = (Instant::now(), 0u64);
        while limit.map_or(count < 3000, |limit| began.elapsed() < limit) {
            let input = mutator.next(&seeds);
            target.survive(&input).unwrap_or_else(|fault| panic!("{fault}"));
            count += 1;
        }
        println!("{:>14}: {count} random breaks in {:.1?}", target.name, began.elapsed());
    }
}
