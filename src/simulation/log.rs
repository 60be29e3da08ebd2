//! A partition of a topic: records by offset, and what compaction leaves of them.

use std::collections::BTreeSet;

use super::clock::Micros;
use super::names::UnitNumber;
use crate::cluster::{Incarnation, MemberState, Nonce, Register};

/// What a member says of itself in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberRecord {
    pub(super) nonce: Nonce,
    /// `None` in a `joined` record, whose offset it is.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) state: MemberState,
    pub(super) settled: bool,
}

/// How a connector splits its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskSet {
    pub(super) count: u32,
    /// Offset of the connector record that it was made for.
    pub(super) made_for: i64,
}

/// A record of the config topic. Tasks and their commit are one record: they come in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConfigRecord {
    /// A member, by the number of its id; `None`: gone.
    Worker(usize, Option<MemberRecord>),
    /// A connector. Its configuration counts how often it was written since it was created, so that a write that is lost shows. `None`: deleted.
    Connector(usize, Option<u64>),
    /// Its target state.
    Stopped(usize, bool),
    /// The commit of its tasks.
    Tasks(usize, TaskSet),
    /// A record that means nothing.
    Nothing,
}

impl ConfigRecord {
    /// The connector that it is about.
    pub(super) fn connector(&self) -> Option<usize> {
        match self {
            ConfigRecord::Worker(..) | ConfigRecord::Nothing => None,
            ConfigRecord::Connector(connector, _)
            | ConfigRecord::Stopped(connector, _)
            | ConfigRecord::Tasks(connector, _) => Some(*connector),
        }
    }
}

/// A record of the status topic. An empty register is a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusRecord {
    pub(super) unit: UnitNumber,
    pub(super) register: Register,
}

/// What compaction looks at.
pub(super) trait Keyed: Copy {
    type Key: Ord;
    fn key(&self) -> Self::Key;
    fn is_tombstone(&self) -> bool;
}

impl Keyed for ConfigRecord {
    type Key = (u8, usize);

    fn key(&self) -> (u8, usize) {
        match self {
            ConfigRecord::Worker(id, _) => (0, *id),
            ConfigRecord::Connector(connector, _) => (1, *connector),
            ConfigRecord::Stopped(connector, _) => (2, *connector),
            ConfigRecord::Tasks(connector, _) => (3, *connector),
            ConfigRecord::Nothing => (4, 0),
        }
    }

    fn is_tombstone(&self) -> bool {
        matches!(self, ConfigRecord::Worker(_, None) | ConfigRecord::Connector(_, None) | ConfigRecord::Nothing)
    }
}

impl Keyed for StatusRecord {
    type Key = UnitNumber;

    fn key(&self) -> UnitNumber {
        self.unit
    }

    fn is_tombstone(&self) -> bool {
        self.register == Register::Empty
    }
}

struct Entry<R> {
    at: Micros,
    /// `None` when compaction has removed it; its offset stays.
    record: Option<R>,
}

/// See the module.
pub(super) struct Log<R> {
    entries: Vec<Entry<R>>,
}

impl<R: Keyed> Log<R> {
    pub(super) fn new() -> Self {
        Log { entries: Vec::new() }
    }

    /// Returns the offset.
    pub(super) fn append(&mut self, record: R, now: Micros) -> i64 {
        self.entries.push(Entry { at: now, record: Some(record) });
        self.entries.len() as i64 - 1
    }

    pub(super) fn end(&self) -> usize {
        self.entries.len()
    }

    /// The record at an offset, unless compaction has removed it.
    pub(super) fn get(&self, offset: usize) -> Option<R> {
        self.entries.get(offset)?.record
    }

    /// Removes what Kafka's cleaner may remove: in front of the first record that is younger than the lag, all but the last record of each key, and of
    /// those the tombstones that every reader has read (`read_by_all`: the time for which they are kept is longer than any reader lags). Returns how many.
    pub(super) fn compact(&mut self, now: Micros, lag: Micros, read_by_all: usize) -> usize {
        let old = self.entries.partition_point(|entry| entry.at + lag <= now);
        let (mut seen, mut removed) = (BTreeSet::new(), 0);
        for (offset, entry) in self.entries[..old].iter_mut().enumerate().rev() {
            let Some(record) = entry.record else { continue };
            let superseded = !seen.insert(record.key());
            if superseded || (record.is_tombstone() && offset < read_by_all) {
                entry.record = None;
                removed += 1;
            }
        }
        removed
    }
}
