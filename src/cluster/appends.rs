//! Own appends that are not answered, and what their answers say of the leaders: one that was replaced still answers questions, but cannot acknowledge.
//!
//! The lease of a partition ends some time after the oldest of them to it (see `lease`): another partition has another leader, and what one does not take must not
//! stop the units of all. An append that was *given up* without an answer counts on until a later one to the same partition is acknowledged. Who has no lease
//! writes nothing, so a partition in *doubt* is asked by a record that changes nothing. A comparison waits for its turn and for the coordinator of transactions as well: that it is late says nothing of the leader, but makes it doubtful.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::Millis;
use super::protocol::Token;

/// How long ago a write began that was given up, or hangs behind others, until the partition is in doubt: less than it takes to end the lease.
const DOUBT_MS: u64 = 1_000;

/// Between two such records to one partition.
const DOUBT_INTERVAL_MS: u64 = 2_000;

/// A partition of the status topic, or, with `None`, of the config topic.
pub(super) type Partition = Option<i32>;

/// One that is not answered.
struct Append {
    since: Millis,
    partition: Partition,
    /// The unit whose status it is; `None`: it is about members.
    unit: Option<Arc<str>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Appends {
    /// Tokens grow with time: the first one is the oldest.
    plain: BTreeMap<Token, Append>,
    /// The same by partition.
    by_partition: BTreeMap<Partition, BTreeSet<Token>>,
    comparisons: BTreeMap<Token, Millis>,
    /// When the first append began that was given up, if none that began later was acknowledged there.
    given_up: BTreeMap<Partition, Millis>,
    /// When a partition in doubt was asked last.
    asked: BTreeMap<Partition, Millis>,
}

/// What answered a request.
pub(super) enum Answered {
    /// A status of this unit.
    Unit(Arc<str>),
    /// A record about members.
    Member,
}

impl Appends {
    /// A record goes to a partition; with the unit whose status it is.
    pub(super) fn add(&mut self, token: Token, partition: Partition, unit: Option<Arc<str>>, now: Millis) {
        self.by_partition.entry(partition).or_default().insert(token);
        self.plain.insert(token, Append { since: now, partition, unit });
    }

    /// A record goes to a partition in doubt, to see whether it takes one.
    pub(super) fn add_question(&mut self, token: Token, partition: Partition, now: Millis) {
        self.asked.insert(partition, now);
        self.add(token, partition, None, now);
    }

    /// A comparison begins, which may end in a record of the config topic.
    pub(super) fn add_comparison(&mut self, token: Token, now: Millis) {
        self.comparisons.insert(token, now);
    }

    /// A record is stored. What it was; `None` where nobody asked for it.
    pub(super) fn acknowledged(&mut self, token: Token) -> Option<Answered> {
        let (partition, since, answered) = self.take(token)?;
        if self.given_up.get(&partition).is_some_and(|failed| since >= *failed) {
            self.given_up.remove(&partition);
        }
        Some(answered)
    }

    /// It is not known to be stored. `is_silence`: nobody said so.
    pub(super) fn failed(&mut self, token: Token, is_silence: bool) -> Option<Answered> {
        let is_plain = self.plain.contains_key(&token);
        let (partition, since, answered) = self.take(token)?;
        if is_plain && is_silence {
            self.give_up(partition, since);
        }
        Some(answered)
    }

    /// A write that began then was given up.
    pub(super) fn give_up(&mut self, partition: Partition, since: Millis) {
        self.given_up.entry(partition).or_insert(since);
    }

    /// This worker is no member: it holds nothing that a lease is for, and needs one to join.
    pub(super) fn forget_given_up(&mut self) {
        self.given_up.clear();
        self.asked.clear();
    }

    fn take(&mut self, token: Token) -> Option<(Partition, Millis, Answered)> {
        if let Some(since) = self.comparisons.remove(&token) {
            return Some((None, since, Answered::Member));
        }
        let Append { since, partition, unit } = self.plain.remove(&token)?;
        if let Some(tokens) = self.by_partition.get_mut(&partition) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.by_partition.remove(&partition);
            }
        }
        Some((partition, since, unit.map_or(Answered::Member, Answered::Unit)))
    }

    /// How many are not answered.
    pub(super) fn count(&self) -> usize {
        self.plain.len() + self.comparisons.len()
    }

    /// When the oldest to this partition began that counts against its lease.
    pub(super) fn oldest_in(&self, partition: Partition) -> Option<Millis> {
        let first = self.by_partition.get(&partition).and_then(BTreeSet::first);
        let under_way = first.and_then(|token| self.plain.get(token)).map(|append| append.since);
        under_way.into_iter().chain(self.given_up.get(&partition).copied()).min()
    }

    /// The same of all partitions.
    pub(super) fn oldest(&self) -> Option<Millis> {
        let under_way = self.plain.first_key_value().map(|(_, append)| append.since);
        under_way.into_iter().chain(self.given_up.values().copied()).min()
    }

    /// Partitions of which it is not known whether they take records, and to which nothing is under way that would show it.
    pub(super) fn doubts(&self, now: Millis) -> Vec<Partition> {
        let given_up = self.given_up.iter().map(|(partition, since)| (*partition, *since));
        let hangs = self.comparisons.first_key_value().map(|(_, since)| (None, *since));
        let due = given_up.chain(hangs).filter(|(_, since)| now.since(*since) >= DOUBT_MS);
        let due: BTreeSet<Partition> = due.map(|(partition, _)| partition).collect();
        let is_asked = |partition: &Partition| {
            let asked = self.asked.get(partition).is_some_and(|at| now.since(*at) < DOUBT_INTERVAL_MS);
            asked || self.by_partition.contains_key(partition)
        };
        due.into_iter().filter(|partition| !is_asked(partition)).collect()
    }
}
