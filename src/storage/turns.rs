//! Whose turn it is among workers that write to the config topic at the same time. Pure.
//!
//! The shared transactional id alone keeps writes right: who takes it over fences everybody else. But to take it over costs some hundred
//! milliseconds, and from a writer at work half a second; workers that snatch it from each other get nothing done. So a worker that is
//! not the only one says by a record `turn-<worker>` that it waits. Such records stand in the order of the log, which all see alike: first come,
//! first served. The transaction of the worker takes its record away, and the next one begins. All this is courtesy: a worker that does not know of it, or that
//! misjudges a time, costs another worker an attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How long a worker goes on writing in its turn, counted from its first transaction. To take the id over costs about as much as ten
/// transactions.
pub const HOLD: Duration = Duration::from_millis(100);

/// From the moment when a worker may begin until it does: who has the id reads meanwhile that others wait, and ends the transaction that it
/// has begun before.
pub const GRACE: Duration = Duration::from_millis(30);

/// How long one that does not use its turn is waited for. It has ended, or its records are late. Somebody may wait behind it to evict it.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The workers that wait, as the config topic says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turns {
    waiting: Vec<Arc<str>>,
    /// How many turns have ended, and whose the last one was.
    ended: u64,
    last: Option<Arc<str>>,
}

impl Turns {
    /// The worker says that it waits. Who has said so before keeps its place.
    pub fn wait(&mut self, worker: &str) {
        if !self.waiting.iter().any(|waiting| **waiting == *worker) {
            self.waiting.push(worker.into());
        }
    }

    /// The worker had its turn, or was left out.
    pub fn end(&mut self, worker: &str) {
        self.waiting.retain(|waiting| **waiting != *worker);
        self.ended += 1;
        // Those that were left out are named before the one whose turn it was.
        self.last = Some(worker.into());
    }

    /// Changes with each turn that ends.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Whether another one took the id over in its turn since this one did.
    pub fn others_had_it(&self, worker: &str) -> bool {
        self.last.as_ref().is_some_and(|last| **last != *worker)
    }

    /// All that wait, in their order.
    pub fn waiting(&self) -> &[Arc<str>] {
        &self.waiting
    }

    /// Those that come before this worker; `None` where it does not wait itself.
    pub fn before(&self, worker: &str) -> Option<&[Arc<str>]> {
        let place = self.waiting.iter().position(|waiting| **waiting == *worker)?;
        Some(&self.waiting[..place])
    }

    /// Whether another one waits.
    pub fn others_wait(&self, worker: &str) -> bool {
        self.waiting.iter().any(|waiting| **waiting != *worker)
    }
}

/// When a worker with so many before it may take the id over. `asked` is when it read its own record, `turned` when it saw a turn end last.
pub fn begins(before: usize, asked: Instant, turned: Option<Instant>) -> Instant {
    let free = turned.map_or(asked, |turned| asked.max(turned + HOLD));
    free + GRACE + PATIENCE * u32::try_from(before).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served() {
        let mut turns = Turns::default();
        for worker in ["b", "a", "c", "a"] {
            turns.wait(worker);
        }
        assert_eq!(turns.before("b"), Some(&[][..]));
        assert_eq!(turns.before("c"), Some(&["b".into(), "a".into()][..]));
        assert_eq!(turns.before("d"), None);
        turns.end("b");
        assert_eq!((turns.before("a"), turns.before("b")), (Some(&[][..]), None));
        assert!(turns.others_wait("a") && turns.others_wait("b"));
        turns.end("a");
        assert!(!turns.others_wait("c"));
        assert_eq!(turns.ended(), 2);
        assert!(turns.others_had_it("c") && !turns.others_had_it("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_leaves_the_last_one_its_time() {
        let asked = Instant::now();
        assert_eq!(begins(0, asked, None), asked + GRACE);
        assert_eq!(begins(0, asked, Some(asked - HOLD)), asked + GRACE);
        assert_eq!(begins(0, asked, Some(asked + HOLD)), asked + 2 * HOLD + GRACE);
        assert_eq!(begins(2, asked, None), asked + GRACE + 2 * PATIENCE);
    }
}
