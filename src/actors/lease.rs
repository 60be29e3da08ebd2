//! The read lease as pumps see it: a point in time that they compare with the clock themselves, so that a herder that hangs
//! cannot keep them going.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::cluster::Millis;

/// Now, on the clock that goes on while the machine is suspended: a lease must not survive that.
pub fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    Millis(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
}

/// Until when units of one status partition may run. The herder moves it once for all of them.
#[derive(Debug, Clone, Default)]
pub struct PartitionLease(Arc<AtomicU64>);

impl PartitionLease {
    /// May run until then; `None`: may not run.
    pub fn set(&self, until: Option<Millis>) {
        self.0.store(until.map_or(0, |until| until.0), Ordering::Release);
    }

    /// That of one unit.
    pub fn of_unit(&self) -> Lease {
        Lease { partition: self.clone(), revoked: Arc::default() }
    }
}

/// Whether one unit may run. Shared between the herder and the unit's pump.
#[derive(Debug, Clone)]
pub struct Lease {
    partition: PartitionLease,
    revoked: Arc<AtomicBool>,
}

impl Lease {
    /// Another worker may run it: it may not run any more, whatever becomes of the partition.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// Whether it was taken for good.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Whether units may run now.
    pub fn holds(&self) -> bool {
        !self.left().is_zero()
    }

    /// For how long units may run from now on; zero: not at all.
    pub fn left(&self) -> Duration {
        if self.revoked.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.partition.0.load(Ordering::Acquire).saturating_sub(now().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_for_all_units_of_the_partition_and_is_taken_from_one_for_good() {
        let partition = PartitionLease::default();
        let (one, other) = (partition.of_unit(), partition.of_unit());
        assert!(!one.holds() && !other.holds());
        let far = Some(now().plus(60_000));
        partition.set(far);
        assert!(one.holds() && other.holds());
        one.clone().revoke();
        partition.set(far);
        assert!(!one.holds() && other.holds());
        partition.set(None);
        assert!(!other.holds());
    }
}
