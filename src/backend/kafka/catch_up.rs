//! When a sink has so much to read that it should have a client to itself.
//!
//! A client has one request for records under way at each broker. It names the partitions that have room, and while these are idle the broker keeps
//! it for `fetch.wait.max.ms`. A partition that had no room, and has some again, waits for its return: a sink that reads faster than that stands
//! still most of the time. Alone on a client it never does, since a request without its partition is not sent.

use std::time::Duration;

use tokio::time::Instant;

/// Records that a sink has to read in [`WINDOW`] to be held up at all: as many as a client reads ahead (`queued.min.messages`), since with fewer
/// its partition is in every request.
const MANY_RECORDS: u64 = 20_000;
/// How long they may take, and how long a sink has to read so at least: what is over at once is not worth a client.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOW_AT_LEAST: Duration = Duration::from_millis(200);
/// How many of the records that its reads had room for it has to get, in percent.
const FILLED_PERCENT: u64 = 75;
/// How long after the last full read a sink gives its own client back.
const CALM: Duration = Duration::from_secs(10);

/// Where a reader should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// It stays.
    Stay,
    /// To a client of its own.
    Out,
    /// To the clients that all share.
    Back,
}

/// What a reader has read lately.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Whether it has a client of its own.
    out: bool,
    began: Instant,
    records: u64,
    room: u64,
    last_full: Instant,
}

impl CatchUp {
    pub(super) fn new(now: Instant) -> CatchUp {
        CatchUp { out: false, began: now, records: 0, room: 0, last_full: now }
    }

    /// Notes a read that got `records` of at most `room`.
    pub(super) fn read(&mut self, records: usize, room: usize, now: Instant) {
        if now.saturating_duration_since(self.began) > WINDOW {
            (self.began, self.records, self.room) = (now, 0, 0);
        }
        self.records += records as u64;
        self.room += room as u64;
        if records >= room {
            self.last_full = now;
        }
    }

    /// What is best while there is nothing to read: nothing read ahead is lost then.
    pub(super) fn at_rest(&self, now: Instant) -> Move {
        let took = now.saturating_duration_since(self.began);
        let filled = self.records * 100 >= self.room * FILLED_PERCENT;
        match self.out {
            false if self.records >= MANY_RECORDS && filled && took >= WINDOW_AT_LEAST && took <= WINDOW => Move::Out,
            true if now.saturating_duration_since(self.last_full) >= CALM => Move::Back,
            _ => Move::Stay,
        }
    }

    /// The reader went where it should, or could not: then it is not asked again for a while.
    pub(super) fn moved(&mut self, out: bool, now: Instant) {
        *self = CatchUp { out, ..CatchUp::new(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Reads, each with the time since the last one, records and room; where it should go behind them.
    fn after(reads: impl IntoIterator<Item = (u32, usize, usize)>, out: bool) -> Move {
        let mut now = Instant::now();
        let mut reader = CatchUp::new(now);
        reader.moved(out, now);
        for (since, records, room) in reads {
            now += MS * since;
            reader.read(records, room, now);
        }
        reader.at_rest(now + MS)
    }

    fn repeated(times: usize, read: (u32, usize, usize)) -> impl Iterator<Item = (u32, usize, usize)> {
        std::iter::repeat_n(read, times)
    }

    #[test]
    fn a_sink_that_is_held_up_moves_out() {
        // What the client read ahead, the rest of it, and then nothing until the request is back.
        let burst = || repeated(45, (0, 500, 500)).chain([(0, 120, 500), (100, 500, 500)]);
        assert_eq!(after(burst().chain(burst()).chain(burst()), false), Move::Out);
        assert_eq!(after([(150, 10_000, 10_000), (100, 10_000, 10_000)], false), Move::Out);
        assert_eq!(after(burst().chain(burst()).chain(burst()), true), Move::Stay);
    }

    #[test]
    fn what_is_over_soon_or_never_held_up_stays() {
        assert_eq!(after(repeated(60, (1, 500, 500)), false), Move::Stay, "over in 60 ms");
        assert_eq!(after(repeated(20, (50, 500, 500)), false), Move::Stay, "10,000 a second");
        assert_eq!(after(repeated(1000, (1, 50, 500)), false), Move::Stay, "a steady flow in small pieces");
        assert_eq!(after([], false), Move::Stay);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        assert_eq!(after(repeated(90, (5, 500, 500)).chain([(1500, 1, 500)]), false), Move::Stay);
    }

    #[test]
    fn a_calm_sink_comes_back() {
        assert_eq!(after([(0, 500, 500), (9_000, 499, 500)], true), Move::Stay);
        assert_eq!(after([(0, 500, 500), (10_000, 499, 500)], true), Move::Back);
        assert_eq!(after([(9_000, 500, 500), (9_000, 500, 500)], true), Move::Stay);
        assert_eq!(after([(11_000, 1, 500)], false), Move::Stay);
    }
}
