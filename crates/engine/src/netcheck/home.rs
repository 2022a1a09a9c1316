//! The choice of the home region (Go: `addReportHistoryAndSetPreferredDERP` in `net/netcheck/netcheck.go`).

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use tailnet_wire::control::DerpMap;

use super::Report;

/// How long a measurement counts.
const HISTORY: Duration = Duration::from_secs(5 * 60);
/// The most rounds that are remembered: one every 20 s.
const MAX_ROUNDS: usize = 16;
/// A gain below this is not worth a move.
const LEAST_GAIN: Duration = Duration::from_millis(10);

/// Chooses the home region from reports and sticks to it where another one is hardly better.
#[derive(Debug, Default)]
pub struct HomeChoice {
    history: VecDeque<(Instant, BTreeMap<u32, Duration>)>,
    current: Option<u32>,
    seed: u64,
}

impl HomeChoice {
    /// Without any answer the home is one of the map's regions, by `seed`: the same for the same node, spread over
    /// many nodes.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// The home region so far.
    pub fn current(&self) -> Option<u32> {
        self.current
    }

    /// The home region after `report`. `home_alive` says that the relay at home was heard lately, which counts as an
    /// answer of it.
    pub fn choose(&mut self, report: &Report, map: &DerpMap, home_alive: bool, now: Instant) -> Option<u32> {
        let latencies = report.latencies();
        self.history.push_back((now, latencies.clone()));
        let old = |at: &Instant| now.saturating_duration_since(*at) > HISTORY;
        while self.history.len() > MAX_ROUNDS || self.history.front().is_some_and(|(at, _)| old(at)) {
            self.history.pop_front();
        }
        let eligible = |region: &u32| {
            let entry = map.regions.get(region);
            entry.is_some_and(|entry| !entry.no_measure_no_home && (!entry.avoid || self.current == Some(*region)))
        };
        let scaled = |region: u32, latency: Duration| scale(map, region, latency);
        let best = latencies.keys().filter(|region| eligible(region));
        let best = best
            .map(|region| (scaled(*region, self.recent_best(*region)), *region))
            .min();
        let current = self.current.filter(|current| map.regions.contains_key(current));
        let chosen = match (best, current) {
            (Some((gain, best)), Some(current)) if best != current => {
                let measured = latencies.get(&current).map(|latency| scaled(current, *latency));
                let stay = match measured {
                    Some(measured) => measured.saturating_sub(gain) < LEAST_GAIN || gain > measured / 3 * 2,
                    None => home_alive,
                };
                Some(if stay { current } else { best })
            }
            (Some((_, best)), _) => Some(best),
            (None, Some(current)) => Some(current),
            (None, None) => self.fallback(map),
        };
        self.current = chosen;
        chosen
    }

    fn recent_best(&self, region: u32) -> Duration {
        let measured = self.history.iter().filter_map(|(_, round)| round.get(&region));
        measured.min().copied().unwrap_or(Duration::MAX)
    }

    fn fallback(&self, map: &DerpMap) -> Option<u32> {
        let good = map
            .regions
            .iter()
            .filter(|(_, region)| !region.no_measure_no_home && !region.avoid);
        let mut numbers: Vec<_> = good.map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            numbers = map.regions.keys().copied().collect();
        }
        let index = self.seed.checked_rem(numbers.len() as u64)?;
        numbers.get(index as usize).copied()
    }
}

/// What control's score makes of a latency.
fn scale(map: &DerpMap, region: u32, latency: Duration) -> Duration {
    let scores = map.home_params.as_ref().map(|params| &params.region_score);
    match scores.and_then(|scores| scores.get(&region)) {
        Some(score) if score.is_finite() && *score > 0.0 => {
            Duration::try_from_secs_f64(latency.as_secs_f64() * score).unwrap_or(Duration::MAX)
        }
        _ => latency,
    }
}
