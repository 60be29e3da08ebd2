//! The read lease: a worker acts only on a view of the log that is younger than the fence time.
//!
//! Four times per fence time F the leaders are asked for the ends of the config topic and of all status partitions. The lease for
//! a partition lasts until F after the *question* was asked whose answer the reader has reached. So whatever was visible in the log
//! more than F ago is known to a leased worker; a rival that waits a little more than F after its claim became visible
//! waits for every lease that does not show it. Taken away, a worker that lags runs its units beside their new holder.
//!
//! What other members say by gossip that they have read is an end, too: no answer that lies below it counts. So a leader that was cut off and
//! replaced, and still answers, gives no lease to its readers for longer than gossip takes.
//!
//! No lease for a partition while an own append to it, or to the config topic, is unacknowledged for [`APPEND_PATIENCE_MS`], also when it was given up, until a later one to the same partition is
//! acknowledged: a leader that was cut off and replaced still answers
//! questions for ends, but it cannot acknowledge.

use std::collections::VecDeque;

use super::member::Millis;
use super::protocol::Token;

/// How long an own append may be unacknowledged before the lease ends. Less than a broker's session (9 s), more than a
/// contended transaction.
pub(super) const APPEND_PATIENCE_MS: u64 = 5_000;

/// Questions per fence time.
const ASKS_PER_FENCE: u64 = 4;

/// Questions kept at a time. Those older than F are of no use, so more than a few means that the clock jumped.
const MAX_ASKS: usize = 16;

/// The slot of the config topic; status partition `p` is slot `p + 1`.
const CONFIG: usize = 0;

struct Ask {
    token: Token,
    asked_at: Millis,
    /// The positions at that time: an end below them means that the log lost records.
    positions: Vec<i64>,
    ends: Option<Vec<i64>>,
}

/// What the reader has reached, and until when it may be trusted.
pub(super) struct Lease {
    fence_ms: u64,
    next_ask: Millis,
    asks: VecDeque<Ask>,
    positions: Vec<i64>,
    /// For each slot, when the newest question was asked whose answer was reached.
    reached: Vec<Option<Millis>>,
    /// For each slot, what somebody who is alive has read up to.
    read_by_peers: Vec<i64>,
    /// Whether `reached` changed since that was last asked.
    moved: bool,
}

impl Lease {
    pub(super) fn new(fence_ms: u64) -> Self {
        Lease {
            fence_ms,
            next_ask: Millis(0),
            asks: VecDeque::new(),
            positions: vec![-1],
            reached: vec![None],
            read_by_peers: Vec::new(),
            moved: false,
        }
    }

    /// Whether a question is due; notes it as asked now.
    pub(super) fn ask(&mut self, now: Millis, token: impl FnOnce() -> Token) -> Option<Token> {
        if now < self.next_ask {
            return None;
        }
        self.next_ask = now.plus((self.fence_ms / ASKS_PER_FENCE).max(1));
        while self.asks.front().is_some_and(|ask| now.since(ask.asked_at) >= self.fence_ms) {
            self.asks.pop_front();
        }
        if self.asks.len() == MAX_ASKS {
            self.asks.pop_front();
        }
        let token = token();
        self.asks.push_back(Ask { token, asked_at: now, positions: self.positions.clone(), ends: None });
        Some(token)
    }

    /// When the next question is due.
    pub(super) fn next_ask(&self) -> Millis {
        self.next_ask
    }

    /// The answer. An error when an end lies below what was read before the question.
    pub(super) fn ends(&mut self, token: Token, config: i64, status: Vec<i64>) -> Result<(), String> {
        let Some(ask) = self.asks.iter_mut().find(|ask| ask.token == token) else { return Ok(()) };
        let mut ends = Vec::with_capacity(1 + status.len());
        ends.push(config);
        ends.extend(status);
        for (slot, (end, position)) in ends.iter().zip(&ask.positions).enumerate() {
            if end < position {
                let topic = if slot == CONFIG {
                    "the config topic".to_string()
                } else {
                    format!("partition {} of the status topic", slot - 1)
                };
                return Err(format!("{topic} ends at offset {end}, but it was read up to {position} before"));
            }
        }
        for (end, read) in ends.iter_mut().zip(&self.read_by_peers) {
            *end = (*end).max(*read);
        }
        ask.ends = Some(ends);
        self.update();
        Ok(())
    }

    /// What the others who are alive have read, all of them: for each the config topic and the status partitions.
    pub(super) fn peers_read<'a>(&mut self, peers: impl Iterator<Item = (i64, &'a [i64])>) {
        self.read_by_peers.clear();
        for (config, status) in peers {
            // There are no more slots than this worker reads.
            let slots = std::iter::once(config).chain(status.iter().copied()).take(self.positions.len());
            for (slot, read) in slots.enumerate() {
                match self.read_by_peers.get_mut(slot) {
                    Some(most) => *most = read.max(*most),
                    None => self.read_by_peers.push(read),
                }
            }
        }
    }

    /// No answer will come.
    pub(super) fn failed(&mut self, token: Token) {
        self.asks.retain(|ask| ask.token != token);
    }

    /// The reader and everything behind it have taken these positions into account.
    pub(super) fn progress(&mut self, config: i64, status: &[i64]) {
        let slots = (1 + status.len()).max(self.positions.len());
        self.positions.resize(slots, -1);
        self.reached.resize(slots, None);
        for (slot, position) in std::iter::once(config).chain(status.iter().copied()).enumerate() {
            self.positions[slot] = self.positions[slot].max(position);
        }
        self.update();
    }

    fn update(&mut self) {
        for ask in &self.asks {
            let Some(ends) = &ask.ends else { continue };
            for (slot, end) in ends.iter().enumerate() {
                if self.positions.get(slot).is_some_and(|position| position >= end) {
                    let reached = self.reached[slot].max(Some(ask.asked_at));
                    self.moved |= reached != self.reached[slot];
                    self.reached[slot] = reached;
                }
            }
        }
    }

    /// When the newest question was asked whose answer was reached, for the config topic and this status partition.
    pub(super) fn reached(&self, partition: i32) -> Option<Millis> {
        let status = self.reached.get(usize::try_from(partition).ok()? + 1).copied().flatten()?;
        Some(status.min(self.reached[CONFIG]?))
    }

    /// All status partitions.
    pub(super) fn partitions(&self) -> impl Iterator<Item = i32> + use<> {
        (0..).take(self.reached.len() - 1)
    }

    /// Whether something was reached since this was last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The same for the config topic alone.
    pub(super) fn config_reached(&self) -> Option<Millis> {
        self.reached[CONFIG]
    }

    /// The same for everything.
    pub(super) fn all_reached(&self) -> Option<Millis> {
        self.reached.iter().copied().min().flatten()
    }

    /// The next end of a lease for some partition, of which `append` knows the oldest unacknowledged append; `None` is the config topic.
    pub(super) fn next_end(&self, now: Millis, append: impl Fn(Option<i32>) -> Option<Millis>) -> Option<Millis> {
        let partition = |slot: usize| slot.checked_sub(1).and_then(|partition| i32::try_from(partition).ok());
        let ends = self.reached.iter().enumerate();
        let ends = ends.filter_map(|(slot, reached)| self.until(*reached, append(partition(slot))));
        ends.filter(|at| *at > now).min()
    }

    /// When a lease ends that rests on a question asked at `reached`, with the oldest unacknowledged append at `append`.
    pub(super) fn until(&self, reached: Option<Millis>, append: Option<Millis>) -> Option<Millis> {
        let until = reached?.plus(self.fence_ms);
        Some(append.map_or(until, |since| until.min(since.plus(APPEND_PATIENCE_MS))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Token = Token(1);

    fn asked(at: u64) -> Lease {
        let mut lease = Lease::new(1000);
        assert_eq!(lease.ask(Millis(at), || T), Some(T));
        lease
    }

    fn until(lease: &Lease, partition: i32) -> Option<u64> {
        lease.until(lease.reached(partition), None).map(|at| at.0)
    }

    #[test]
    fn lasts_from_the_question_and_not_from_the_answer_or_the_reading() {
        let mut lease = asked(100);
        lease.ends(T, 5, vec![3]).unwrap();
        assert_eq!(until(&lease, 0), None);
        lease.progress(5, &[2]);
        assert_eq!(until(&lease, 0), None, "one record is missing");
        lease.progress(5, &[3]);
        assert_eq!(until(&lease, 0), Some(1100));
    }

    #[test]
    fn the_config_topic_counts_for_each_unit_and_each_partition_for_its_own() {
        let mut lease = asked(0);
        lease.ends(T, 5, vec![3, 7]).unwrap();
        lease.progress(4, &[3, 6]);
        assert_eq!((until(&lease, 0), until(&lease, 1)), (None, None));
        lease.progress(5, &[3, 6]);
        assert_eq!((until(&lease, 0), until(&lease, 1)), (Some(1000), None));
        assert_eq!(lease.all_reached(), None);
        assert_eq!(until(&lease, 2), None, "nobody asked for this one");
        assert_eq!(until(&lease, -1), None);
    }

    #[test]
    fn a_reader_that_follows_a_busy_partition_keeps_its_lease_by_older_questions() {
        let mut lease = asked(0);
        lease.ends(T, 0, vec![100]).unwrap();
        assert_eq!(lease.ask(Millis(250), || Token(2)), Some(Token(2)));
        lease.ends(Token(2), 0, vec![200]).unwrap();
        lease.progress(0, &[150]);
        assert_eq!(until(&lease, 0), Some(1000));
        lease.progress(0, &[200]);
        assert_eq!(until(&lease, 0), Some(1250));
    }

    #[test]
    fn asks_four_times_per_fence_time() {
        let mut lease = asked(0);
        assert_eq!(lease.ask(Millis(249), || Token(2)), None);
        assert_eq!(lease.ask(Millis(250), || Token(2)), Some(Token(2)));
        assert_eq!(lease.next_ask(), Millis(500));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_or_that_failed_gives_nothing() {
        let mut lease = asked(0);
        lease.progress(9, &[9]);
        lease.ends(Token(7), 1, vec![1]).unwrap();
        lease.failed(T);
        lease.ends(T, 1, vec![1]).unwrap();
        assert_eq!(until(&lease, 0), None);
    }

    #[test]
    fn an_end_below_what_was_read_before_the_question_is_a_lost_log() {
        let mut lease = Lease::new(1000);
        lease.progress(10, &[4]);
        lease.ask(Millis(0), || T);
        lease.progress(12, &[4]);
        assert!(lease.ends(T, 11, vec![4]).is_ok(), "read on since the question");
        lease.ask(Millis(250), || Token(2));
        assert_eq!(
            lease.ends(Token(2), 12, vec![3]).unwrap_err(),
            "partition 0 of the status topic ends at offset 3, but it was read up to 4 before"
        );
    }

    #[test]
    fn an_answer_below_what_another_member_has_read_gives_nothing_until_that_is_read_too() {
        let mut lease = Lease::new(1000);
        lease.progress(5, &[3, 7]);
        lease.peers_read([(5, &[4][..]), (2, &[3, 7, 99])].into_iter());
        assert_eq!(lease.ask(Millis(100), || T), Some(T));
        lease.ends(T, 5, vec![3, 7]).unwrap();
        assert_eq!((until(&lease, 0), until(&lease, 1)), (None, Some(1100)));
        lease.progress(5, &[4, 7]);
        assert_eq!(until(&lease, 0), Some(1100));
        // Who is not alive any more says nothing.
        lease.peers_read([(9, &[9, 9][..])].into_iter());
        lease.peers_read(std::iter::empty());
        assert_eq!(lease.ask(Millis(400), || Token(2)), Some(Token(2)));
        lease.ends(Token(2), 5, vec![4, 7]).unwrap();
        assert_eq!((until(&lease, 0), until(&lease, 1)), (Some(1400), Some(1400)));
    }

    #[test]
    fn an_unacknowledged_append_ends_it_after_five_seconds() {
        let lease = asked(0);
        let until = |append| lease.until(Some(Millis(9_000)), append);
        assert_eq!(until(None), Some(Millis(10_000)));
        assert_eq!(until(Some(Millis(8_000))), Some(Millis(10_000)));
        assert_eq!(until(Some(Millis(4_000))), Some(Millis(9_000)));
    }

    #[test]
    fn questions_are_bounded() {
        let mut lease = Lease::new(1000);
        for at in 0..1000 {
            lease.next_ask = Millis(0);
            lease.ask(Millis(at % 900), || Token(at));
        }
        assert!(lease.asks.len() <= MAX_ASKS);
    }
}
