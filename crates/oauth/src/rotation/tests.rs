use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const MONTH: Schedule = Schedule {
    signs_for: Duration::days(30),
    remembered_for: Duration::days(30),
};

/// A store of keys that obeys the plan, as the server does.
#[derive(Default)]
struct Ring {
    keys: Vec<Facts>,
    made: usize,
}

impl Ring {
    /// Takes at most `most` steps, as if the process were killed then; says how many there were.
    fn obey(&mut self, schedule: &Schedule, now: OffsetDateTime, most: usize) -> usize {
        for taken in 0..most {
            match next_step(&self.keys, &SigningAlg::ALL, schedule, now) {
                Some(step) => self.take(step, now),
                None => return taken,
            }
        }
        most
    }

    fn take(&mut self, step: Step, now: OffsetDateTime) {
        match step {
            Step::Make(alg, phase) => {
                self.made += 1;
                let kid = format!("{}-{}", alg.as_str(), self.made);
                self.keys.push(Facts { kid, alg, phase });
            }
            Step::Activate { next, former } => {
                self.set(&next, Phase::Signing(now));
                if let Some(former) = former {
                    self.set(&former, Phase::Retired(now));
                }
            }
            Step::Withdraw(kid) => {
                let Phase::Retired(at) = self.phase(&kid) else {
                    panic!("{kid} was not retired")
                };
                self.set(&kid, Phase::Remembered(at));
            }
            Step::Forget(kid) => self.keys.retain(|key| key.kid != kid),
        }
    }

    fn set(&mut self, kid: &str, phase: Phase) {
        self.keys.iter_mut().find(|key| key.kid == kid).unwrap().phase = phase;
    }

    fn phase(&self, kid: &str) -> Phase {
        self.keys.iter().find(|key| key.kid == kid).unwrap().phase
    }

    fn signer(&self, alg: SigningAlg) -> &str {
        &signing(&self.keys, alg).unwrap().kid
    }

    fn published(&self) -> Vec<String> {
        let published = self.keys.iter().filter(|key| key.phase.is_published());
        published.map(|key| key.kid.clone()).collect()
    }
}

#[test]
fn a_first_start_makes_one_key_for_each_algorithm_and_then_rests() {
    let mut ring = Ring::default();
    assert_eq!(ring.obey(&MONTH, START, 10), 3);
    for alg in SigningAlg::ALL {
        assert_eq!(signing(&ring.keys, alg).unwrap().phase, Phase::Signing(START));
    }
    assert_eq!(ring.obey(&MONTH, START + Duration::days(28), 10), 0);
}

#[test]
fn a_successor_is_published_a_day_ahead_takes_over_on_time_and_the_former_goes_in_steps() {
    let mut ring = Ring::default();
    ring.obey(&MONTH, START, 10);
    let former = ring.signer(SigningAlg::Es256).to_owned();
    let takes_over = START + MONTH.signs_for;
    ring.obey(&MONTH, takes_over - Duration::days(1), 10);
    assert_eq!(ring.published().len(), 6);
    assert_eq!(ring.signer(SigningAlg::Es256), former, "it is only published yet");
    ring.obey(&MONTH, takes_over, 10);
    assert_ne!(ring.signer(SigningAlg::Es256), former);
    assert_eq!(ring.phase(&former), Phase::Retired(takes_over));
    ring.obey(&MONTH, takes_over + LONGEST_TOKEN, 10);
    assert!(ring.phase(&former).is_published(), "what it signed last is just as old");
    ring.obey(&MONTH, takes_over + LONGEST_TOKEN + SKEW, 10);
    assert_eq!(ring.phase(&former), Phase::Remembered(takes_over));
    ring.obey(&MONTH, takes_over + MONTH.remembered_for, 10);
    assert!(ring.keys.iter().all(|key| key.kid != former));
}

#[test]
fn after_a_year_of_standing_still_the_old_key_signs_until_its_successor_is_known() {
    let mut ring = Ring::default();
    ring.obey(&MONTH, START, 10);
    let old = ring.signer(SigningAlg::Rs256).to_owned();
    let back = START + Duration::days(365);
    ring.obey(&MONTH, back, 10);
    assert_eq!(ring.signer(SigningAlg::Rs256), old);
    ring.obey(&MONTH, back + MONTH.ahead(), 10);
    assert_ne!(ring.signer(SigningAlg::Rs256), old);
}

#[test]
fn short_lives_do_not_heap_up_keys() {
    let hourly = Schedule {
        signs_for: Duration::hours(1),
        remembered_for: Duration::days(3650),
    };
    let mut ring = Ring::default();
    for minute in 0..(72 * 60) {
        ring.obey(&hourly, START + Duration::minutes(minute), 20);
    }
    assert!(ring.keys.len() <= SigningAlg::ALL.len() * (MAX_REMEMBERED + 4));
}

proptest! {
    /// Whatever the lengths, pauses and kills: who keeps the JWK set for as long as he may verifies every token of ours.
    #[test]
    fn a_token_verifies_with_the_published_set_for_as_long_as_it_is_good(
        signs_hours in 1_i64..400,
        remembered_days in 1_i64..60,
        visits in proptest::collection::vec((1_i64..20_000, 0_usize..4), 1..80),
    ) {
        let schedule = Schedule { signs_for: Duration::hours(signs_hours), remembered_for: Duration::days(remembered_days) };
        let mut ring = Ring::default();
        let mut now = START;
        ring.obey(&schedule, now, 10);
        let first: Vec<String> = ring.published();
        // Sets that somebody fetched, and tokens that were signed, each with its time.
        let mut fetched = vec![(now, ring.published())];
        let mut tokens = Vec::new();
        for (minutes, steps) in visits {
            now += Duration::minutes(minutes);
            ring.obey(&schedule, now, steps);
            for alg in SigningAlg::ALL {
                tokens.push((now, ring.signer(alg).to_owned()));
            }
            fetched.push((now, ring.published()));
            fetched.retain(|(at, _)| now - *at <= JWKS_MAX_AGE);
            tokens.retain(|(at, _)| now - *at <= LONGEST_TOKEN);
            for (_, kid) in &tokens {
                for (_, set) in &fetched {
                    prop_assert!(set.contains(kid) || first.contains(kid), "{kid} is not in {set:?}");
                }
                prop_assert!(ring.published().contains(kid));
            }
            for alg in SigningAlg::ALL {
                let of_alg = |wanted: fn(&Phase) -> bool| {
                    ring.keys.iter().filter(|key| key.alg == alg && wanted(&key.phase)).count()
                };
                prop_assert_eq!(of_alg(|phase| matches!(phase, Phase::Signing(_))), 1);
                prop_assert!(of_alg(|phase| matches!(phase, Phase::Next(_))) <= 1);
                prop_assert!(of_alg(|phase| matches!(phase, Phase::Remembered(_))) <= MAX_REMEMBERED + 1);
            }
        }
    }
}
