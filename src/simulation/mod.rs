//! `connect-node simulate`: any number of workers, as they are, over a simulated log, with everything going wrong that may. One seed is one history.
//!
//! What runs is the real [`ControlPlane`](crate::cluster::ControlPlane) of each worker. Around it everything is made up here: true time and clocks that
//! differ from it, topics with compaction, readers that lag, messages that are slow, lost or late, workers that crash, stand still, leave and
//! join, and connectors that come, go and change. docs/simulator.md says what is checked, and what is not simulated.

mod actions;
mod checks;
mod clock;
mod command;
mod faults;
mod fold;
mod gossip;
mod history;
mod log;
mod names;
mod phases;
mod process;
mod reasons;
mod rules;
mod transactions;
mod world;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use clock::{MS, Micros};
pub use command::{Arguments, run};
pub use history::Figures;
use rules::Switches;
use world::World;

#[cfg(test)]
mod tests;

/// How large a history is.
#[derive(Debug, Clone, Copy)]
struct Setup {
    workers: usize,
    /// There are never more wanted units, up to the change at the end.
    units: usize,
    /// The fence time of the workers.
    fence_ms: u64,
    /// For how long things go wrong.
    faults_ms: u64,
    /// Little but the change of task sets is disturbed; otherwise so in one history of eight. Some coincidences hardly come about beside other faults.
    squeezed: bool,
}

impl Setup {
    const fn new(workers: usize, units: usize) -> Self {
        // A shorter fence time than the default: more of them in a simulated second.
        Setup { workers, units, fence_ms: 400, faults_ms: 20_000, squeezed: false }
    }

    /// Compaction leaves records alone that are younger: what `min.compaction.lag.ms` has to be at least, the wait for a lease of somebody else.
    fn compaction_lag(&self) -> Micros {
        (self.fence_ms * 21 / 20 + 50) * MS
    }

    /// How long it may take until all units run when the faults are over and the members are there.
    fn bound(&self) -> Micros {
        (10_000 + 10 * self.fence_ms) * MS
    }
}

/// What must not happen, and did.
#[derive(Debug, Clone)]
struct Failure {
    /// True time of the history.
    at_ms: u64,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {} ms)", self.text, self.at_ms)
    }
}

/// One history, as figures.
fn simulate(seed: u64, setup: Setup, switches: Switches) -> (Figures, Result<(), Failure>) {
    let mut world = World::new(seed, setup, switches, false);
    let result = world.run();
    (world.figures, result)
}

/// The same history, in words.
fn tell(seed: u64, setup: Setup, switches: Switches) -> String {
    let mut world = World::new(seed, setup, switches, true);
    // It ends as it did without being told.
    let _ = world.run();
    world.history.map(history::History::into_text).unwrap_or_default()
}

/// Many histories, on so many threads, up to the first one whose failure counts: of several, the one with the lowest seed.
fn simulate_many(
    first: u64,
    seeds: u64,
    threads: usize,
    setup: Setup,
    switches: Switches,
    counts: impl Fn(&Failure) -> bool + Sync,
) -> (Figures, Result<(), (u64, Failure)>) {
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(u64::MAX));
    let work = || {
        let (mut figures, mut failures) = (Figures::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= seeds || seed > failed.load(Ordering::Relaxed) {
                return (figures, failures);
            }
            let (of_seed, result) = simulate(seed, setup, switches);
            figures.add(&of_seed);
            if let Some(failure) = result.err().filter(&counts) {
                failed.fetch_min(seed, Ordering::Relaxed);
                failures.push((seed, failure));
            }
        }
    };
    let (mut figures, mut failures) = (Figures::default(), Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok((of_thread, failed)) => {
                    figures.add(&of_thread);
                    failures.extend(failed);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let first = failures.into_iter().min_by_key(|(seed, _)| *seed);
    (figures, first.map_or(Ok(()), Err))
}
