//! True time, and the clocks of workers, which differ from it.

use crate::cluster::Millis;

/// A point in true time, or a span of it, in microseconds.
pub(super) type Micros = u64;

/// Microseconds in a millisecond.
pub(super) const MS: Micros = 1_000;

/// How much faster or slower than true time a worker's clock may run, in millionths. Far more than a quartz does: what is shown with it holds for
/// clocks that are steered as well.
pub(super) const MAX_DEVIATION_PPM: u64 = 30_000;

/// Millionths of a millisecond in a microsecond of a clock that runs true, times a million.
const TRUE_RATE: u64 = 1_000_000;

/// The clock of a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// What it shows at the beginning of true time, in milliseconds.
    origin_ms: u64,
    /// Millionths of a second that it counts in a second.
    rate: u64,
}

impl Clock {
    pub(super) fn random(rng: &mut fastrand::Rng) -> Clock {
        // The extremes are where a fence breaks, if it does.
        let rate = match rng.u8(0..4) {
            0 => TRUE_RATE - MAX_DEVIATION_PPM,
            1 => TRUE_RATE + MAX_DEVIATION_PPM,
            _ => rng.u64(TRUE_RATE - MAX_DEVIATION_PPM..=TRUE_RATE + MAX_DEVIATION_PPM),
        };
        Clock { origin_ms: rng.u64(0..1_000_000_000), rate }
    }

    /// What it shows at a true time.
    pub(super) fn read(self, at: Micros) -> Millis {
        Millis(self.origin_ms + at * self.rate / (TRUE_RATE * MS))
    }

    /// The first true time at which it shows this.
    pub(super) fn when(self, local: Millis) -> Micros {
        let span = u128::from(local.0.saturating_sub(self.origin_ms)) * u128::from(TRUE_RATE * MS);
        Micros::try_from(span.div_ceil(u128::from(self.rate))).unwrap_or(Micros::MAX)
    }
}
