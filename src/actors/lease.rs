//! The read lease as pumps see it: a point in time that they compare with the clock themselves, so that a herder that hangs
//! cannot keep them going.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::cluster::Millis;

/// Now, on the clock that goes on while the machine is suspended: a lease must not survive that.
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    Millis(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
}

/// Until when units of one status partition may run. Shared between the herder, which moves it, and their pumps.
#[derive(Debug, Clone, Default)]
pub struct Lease(Arc<AtomicU64>);

impl Lease {
    /// May run until then; `None`: may not run.
    pub fn set(&self, until: Option<Millis>) {
        self.0.store(until.map_or(0, |until| until.0), Ordering::Release);
    }

    /// Whether units may run now.
    pub fn holds(&self) -> bool {
        !self.left().is_zero()
    }

    /// For how long units may run from now on; zero: not at all.
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Acquire).saturating_sub(now().0))
    }
}
