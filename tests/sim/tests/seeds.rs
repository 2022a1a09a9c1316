//! A thousand runs. `SIM_SEED=N` replays one, `SIM_TRACE=1` prints all that happens in it. `SIM_SEEDS=N` makes more or
//! fewer, `SIM_FIRST=N` others.

use std::{
    env,
    panic::catch_unwind,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use countersign_sim::{Outcome, run};

fn setting(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")),
    )
}

#[test]
fn a_thousand_seeds_hold_the_invariants() {
    if let Some(seed) = setting("SIM_SEED") {
        let outcome = run(seed);
        println!("seed {seed}: {outcome:#?}");
        assert!(outcome.faults.is_empty(), "seed {seed} fails");
        return;
    }
    let seeds = setting("SIM_SEEDS").unwrap_or(1000);
    let started = Instant::now();
    let outcomes = run_all(setting("SIM_FIRST").unwrap_or(1), seeds);
    let sum = |what: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| what(outcome)).sum::<u64>();
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| !outcome.faults.is_empty())
        .collect();
    println!(
        "{seeds} seeds in {:.1?}: {} steps, {} connections completed, {} broken, {} answers, {} attacks, \
         {} seeds failed",
        started.elapsed(),
        sum(|o| o.steps),
        sum(|o| o.completed),
        sum(|o| o.broken),
        sum(|o| o.answers),
        sum(|o| o.attacks),
        failed.len(),
    );
    for (seed, outcome) in failed.iter().take(20) {
        println!("seed {seed}: {}", outcome.faults[0]);
        println!("  replay: SIM_SEED={seed} SIM_TRACE=1 cargo test -p countersign-sim --test seeds -- --nocapture");
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed", failed.len());
    assert!(sum(|o| o.completed) > seeds * 3, "too little happened");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1..=5 {
        assert_eq!(run(seed), run(seed), "seed {seed} differs from itself");
    }
}

/// Runs `count` seeds from `first` on, on all processors.
fn run_all(first: u64, count: u64) -> Vec<(u64, Outcome)> {
    let next = AtomicU64::new(first);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return outcomes;
            }
            outcomes.push((seed, survive(seed)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    outcomes.sort_by_key(|(seed, _)| *seed);
    assert_eq!(outcomes.len() as u64, count, "a worker ended early");
    outcomes
}

/// Runs a seed; a panic is a fault like any other.
fn survive(seed: u64) -> Outcome {
    catch_unwind(|| run(seed)).unwrap_or_else(|_| Outcome {
        faults: vec!["a panic, see above".into()],
        ..Outcome::default()
    })
}
