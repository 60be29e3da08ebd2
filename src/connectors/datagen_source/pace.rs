//! How many records are due.

use std::time::Duration;

/// The shortest wait for more records to be due: fewer would be in a batch than it costs.
const MIN_WAIT: Duration = Duration::from_millis(5);
/// The longest wait, after which it is looked again.
const MAX_WAIT: Duration = Duration::from_millis(1000);

/// What the rate allows.
#[derive(Debug, PartialEq)]
pub enum Due {
    /// So many records, at least one.
    Now(u64),
    /// Nothing before this time is over; it may still be nothing then.
    In(Duration),
}

/// The first record is due at the start, and the record number `made` (from 0) `made / rate` seconds after it: an average, so
/// that what a slow topic or a pause held back is made up for. `rate` is in records a second, 0 without bound; `at_most` is
/// how many there may be now.
pub fn due(elapsed: Duration, made: u64, rate: f64, at_most: u64) -> Due {
    if at_most == 0 {
        return Due::In(MAX_WAIT);
    }
    if rate == 0.0 {
        return Due::Now(at_most);
    }
    // The cast saturates.
    let allowed = ((elapsed.as_secs_f64() * rate) as u64).saturating_add(1);
    match allowed.saturating_sub(made) {
        0 => {
            let next = Duration::try_from_secs_f64(made as f64 / rate).unwrap_or(Duration::MAX);
            Due::In(next.saturating_sub(elapsed).clamp(MIN_WAIT, MAX_WAIT))
        }
        count => Due::Now(count.min(at_most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_an_average_since_the_start() {
        let ms = Duration::from_millis;
        for (elapsed, made, rate, at_most, expected) in [
            (ms(0), 0, 10.0, 500, Due::Now(1)),
            (ms(0), 1, 10.0, 500, Due::In(ms(100))),
            (ms(60), 1, 10.0, 500, Due::In(ms(40))),
            (ms(99), 1, 10.0, 500, Due::In(MIN_WAIT)),
            (ms(100), 1, 10.0, 500, Due::Now(1)),
            (ms(1000), 1, 10.0, 500, Due::Now(10)),
            (ms(10_000), 1, 10.0, 500, Due::Now(100)),
            (ms(100_000), 1, 10.0, 500, Due::Now(500)),
            (ms(100_000), 1, 10.0, 7, Due::Now(7)),
            (ms(5000), 1, 0.1, 500, Due::In(MAX_WAIT)),
            (ms(10_000), 1, 0.1, 500, Due::Now(1)),
            (ms(0), 1_000_000, 0.0, 500, Due::Now(500)),
            (ms(1000), 0, 10.0, 0, Due::In(MAX_WAIT)),
            (ms(1000), 0, 0.0, 0, Due::In(MAX_WAIT)),
            (ms(0), u64::MAX, 1e-300, 500, Due::In(MAX_WAIT)),
            (Duration::MAX, u64::MAX - 7, 1e9, 500, Due::Now(7)),
        ] {
            assert_eq!(due(elapsed, made, rate, at_most), expected, "{elapsed:?} {made} {rate} {at_most}");
        }
    }

    #[test]
    fn no_rate_is_left_behind_or_passed() {
        for rate in [0.5, 3.0, 7.7, 1000.0, 123_456.0] {
            let (mut now, mut made) = (Duration::ZERO, 0);
            while now < Duration::from_secs(20) {
                match due(now, made, rate, 1000) {
                    Due::Now(count) => made += count,
                    Due::In(wait) => now += wait,
                }
            }
            let behind = now.as_secs_f64() * rate - made as f64;
            assert!((-1.0..=rate).contains(&behind), "{rate}: {behind} behind");
        }
    }
}
