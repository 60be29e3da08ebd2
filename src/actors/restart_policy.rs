//! When a unit that failed is started again by itself, and when it is not any more: `restart.policy=on-failure`. Pure: time and chance are passed in.
//!
//! Two things are counted, since they answer two questions. Back-offs in a row say how long to wait: each doubles the one before, until the unit has run for as
//! long as the longest of them, so that even a unit that fails for ever is started no more often than that allows. Failures within the window say whether to go on: with more
//! of them than there may be the breaker opens, and somebody has to look.

use std::collections::VecDeque;

use crate::cluster::Millis;
use crate::config::connector::OnFailure;

/// Doubled more often than this, every back-off is the longest one.
const DOUBLINGS_MAX: u32 = 30;

/// What becomes of a unit that has just failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is started again.
    Wait {
        /// Which failure within the window this is, from 1.
        attempt: u32,
        /// After so many milliseconds.
        wait_ms: u64,
    },
    /// The breaker opens: it stays as it is until somebody restarts it.
    GiveUp {
        /// Failures within the window.
        failures: u32,
    },
}

/// The failures of a unit that still count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureHistory {
    /// When it failed within the window: at most one time more than it may be restarted.
    failed_at: VecDeque<Millis>,
    /// Back-offs in a row.
    backoffs: u32,
}

impl FailureHistory {
    /// The unit failed `now`, after it had run for `ran_ms`; `None`: it never ran. `chance` is from 0 to 1: units that fail together are not to be started together.
    pub fn failed(&mut self, policy: &OnFailure, ran_ms: Option<u64>, now: Millis, chance: f64) -> Verdict {
        self.failed_at.retain(|at| now.since(*at) < policy.window_ms);
        if ran_ms.is_some_and(|ran| ran >= policy.backoff_max_ms.min(policy.window_ms)) {
            self.backoffs = 0;
        }
        self.failed_at.push_back(now);
        // Not more than one beyond the attempts that there may be, which are few.
        let failures = u32::try_from(self.failed_at.len()).unwrap_or(u32::MAX);
        if failures > policy.attempts_max {
            return Verdict::GiveUp { failures };
        }
        let wait_ms = jittered(backoff(policy, self.backoffs), chance);
        self.backoffs = self.backoffs.saturating_add(1);
        Verdict::Wait { attempt: failures, wait_ms }
    }
}

fn backoff(policy: &OnFailure, before: u32) -> u64 {
    policy.backoff_initial_ms.saturating_mul(1 << before.min(DOUBLINGS_MAX)).min(policy.backoff_max_ms)
}

/// From a half of it to all of it.
fn jittered(wait_ms: u64, chance: f64) -> u64 {
    let half = wait_ms / 2;
    // Back-offs are far below 2^53.
    wait_ms - (half as f64 * (1.0 - chance.clamp(0.0, 1.0))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: OnFailure =
        OnFailure { backoff_initial_ms: 1000, backoff_max_ms: 300_000, attempts_max: 25, window_ms: 7_200_000 };

    /// A unit whose failures are given by how long it ran before each. Returns the waits, until the breaker opens, and when it was then.
    fn waits(policy: &OnFailure, runs: impl IntoIterator<Item = Option<u64>>, chance: f64) -> (Vec<u64>, Option<u64>) {
        let (mut history, mut now, mut waits) = (FailureHistory::default(), Millis(5), Vec::new());
        for ran in runs {
            now = now.plus(ran.unwrap_or(0));
            match history.failed(policy, ran, now, chance) {
                Verdict::Wait { wait_ms, .. } => {
                    waits.push(wait_ms);
                    now = now.plus(wait_ms);
                }
                Verdict::GiveUp { failures } => {
                    assert_eq!(failures, policy.attempts_max + 1);
                    return (waits, Some(now.since(Millis(5))));
                }
            }
        }
        (waits, None)
    }

    #[test]
    fn backoffs_double_up_to_the_longest() {
        let (found, open) = waits(&POLICY, [None; 11], 1.0);
        let expected: Vec<u64> = (0..9).map(|n| 1000 << n).chain([300_000, 300_000]).collect();
        assert_eq!((found, open), (expected, None));
        let even = OnFailure { backoff_max_ms: 1000, ..POLICY };
        assert_eq!(waits(&even, [None; 3], 1.0).0, [1000, 1000, 1000]);
    }

    /// With the defaults: who is away for 44 minutes is waited for by the most eager unit, and who never comes back is given up by the most patient one after 89.
    #[test]
    fn the_breaker_opens_with_one_failure_more_than_there_may_be() {
        let (slow, at_last) = waits(&POLICY, [None; 100], 1.0);
        let (fast, at_first) = waits(&POLICY, [None; 100], 0.0);
        assert_eq!((slow.len(), fast.len()), (25, 25));
        assert_eq!(at_last, Some(511_000 + 16 * 300_000));
        assert_eq!(at_first, Some((511_000 + 16 * 300_000) / 2));
        let one = OnFailure { attempts_max: 1, ..POLICY };
        assert_eq!(waits(&one, [None; 2], 1.0), (vec![1000], Some(1000)));
    }

    #[test]
    fn chance_takes_up_to_a_half_of_a_backoff() {
        for (chance, expected) in [(0.0, 500), (0.5, 750), (1.0, 1000), (-1.0, 500), (2.0, 1000), (f64::NAN, 1000)] {
            let found = jittered(1000, chance);
            assert!(found == expected || (chance.is_nan() && (500..=1000).contains(&found)), "{chance}: {found}");
        }
        assert_eq!((jittered(1, 0.0), jittered(0, 0.0)), (1, 0));
    }

    #[test]
    fn a_run_that_lasts_begins_with_the_first_backoff_again() {
        let long = POLICY.backoff_max_ms;
        let runs = [None, None, Some(long - 1), Some(long), None];
        assert_eq!(waits(&POLICY, runs, 1.0).0, [1000, 2000, 4000, 1000, 2000]);
        // A window that is shorter than that forgets everything when it is over.
        let short = OnFailure { window_ms: 10_000, attempts_max: 3, ..POLICY };
        assert_eq!(waits(&short, [None, None, Some(9_999), Some(10_000)], 1.0).0, [1000, 2000, 4000, 1000]);
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let policy = OnFailure { attempts_max: 2, ..POLICY };
        let mut history = FailureHistory::default();
        let mut at = |ms| history.failed(&policy, Some(0), Millis(ms), 1.0);
        assert!(matches!(at(0), Verdict::Wait { attempt: 1, .. }));
        assert!(matches!(at(10), Verdict::Wait { attempt: 2, .. }));
        assert!(matches!(at(policy.window_ms), Verdict::Wait { attempt: 2, .. }), "the first is just out of it");
        assert_eq!(at(policy.window_ms + 9), Verdict::GiveUp { failures: 3 }, "the second is still in it");
    }

    /// A unit that runs for longer than the window and fails, again and again, is never given up.
    #[test]
    fn a_rare_failure_never_opens_the_breaker() {
        let policy = OnFailure { attempts_max: 1, ..POLICY };
        let (found, open) = waits(&policy, [Some(policy.window_ms); 1000], 1.0);
        assert_eq!((found, open), (vec![1000; 1000], None));
    }

    #[test]
    fn whatever_happens_it_stays_within_its_bounds() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let initial = rng.u64(100..86_400_000);
            let policy = OnFailure {
                backoff_initial_ms: initial,
                backoff_max_ms: rng.u64(initial..=86_400_000),
                attempts_max: rng.u32(1..=1000),
                window_ms: rng.u64(100..=604_800_000),
            };
            let (mut history, mut now) = (FailureHistory::default(), Millis(rng.u64(..)));
            for _ in 0..50 {
                let ran = rng.bool().then(|| rng.u64(0..=2 * policy.window_ms));
                match history.failed(&policy, ran, now, rng.f64()) {
                    Verdict::Wait { attempt, wait_ms } => {
                        assert!((1..=policy.attempts_max).contains(&attempt), "{attempt} {policy:?}");
                        let least = policy.backoff_initial_ms / 2;
                        assert!((least..=policy.backoff_max_ms).contains(&wait_ms), "{wait_ms} {policy:?}");
                        now = now.plus(wait_ms);
                    }
                    Verdict::GiveUp { failures } => {
                        assert_eq!(failures, policy.attempts_max + 1);
                        history = FailureHistory::default();
                    }
                }
                assert!(history.failed_at.len() <= policy.attempts_max as usize);
                now = now.plus(ran.unwrap_or(0));
            }
        }
    }

    /// Somebody restarts it while the breaker is open: what was before does not count any more.
    #[test]
    fn a_fresh_history_knows_nothing() {
        let policy = OnFailure { attempts_max: 1, ..POLICY };
        let mut history = FailureHistory::default();
        history.failed(&policy, None, Millis(0), 1.0);
        assert_eq!(history.failed(&policy, None, Millis(1), 1.0), Verdict::GiveUp { failures: 2 });
        history = FailureHistory::default();
        assert_eq!(history.failed(&policy, None, Millis(2), 1.0), Verdict::Wait { attempt: 1, wait_ms: 1000 });
    }
}
