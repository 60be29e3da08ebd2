//! One partition: records in order, gaps where markers stand and where compaction removed records.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::backend::{Header, Isolation};

/// Names one transaction in the cluster.
pub(super) type TransactionId = u64;

/// A record in a partition.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    pub transaction: Option<TransactionId>,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    records: Vec<Stored>,
    start: i64,
    end: i64,
    /// Open transactions with their first offset here.
    open: BTreeMap<TransactionId, i64>,
    aborted: HashSet<TransactionId>,
}

impl PartitionLog {
    /// Appends a record and returns its offset.
    pub(super) fn append(&mut self, mut record: Stored) -> i64 {
        record.offset = self.end;
        if let Some(transaction) = record.transaction {
            self.open.entry(transaction).or_insert(self.end);
        }
        self.end += 1;
        self.records.push(record);
        self.end - 1
    }

    /// Writes the marker that ends a transaction here. It takes an offset and is never delivered.
    pub(super) fn end_transaction(&mut self, transaction: TransactionId, commit: bool) {
        if self.open.remove(&transaction).is_none() {
            return;
        }
        if !commit {
            self.aborted.insert(transaction);
        }
        self.end += 1;
    }

    /// The oldest offset there is.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The high watermark, or the last stable offset: where the first open transaction begins.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end,
            Isolation::ReadCommitted => self.open.values().copied().min().unwrap_or(self.end),
        }
    }

    /// The records from `position` on that a reader of this isolation may see.
    pub(super) fn read(&self, position: i64, isolation: Isolation) -> impl Iterator<Item = &Stored> {
        let end = self.end(isolation);
        let from = self.records.partition_point(|record| record.offset < position);
        self.records[from..].iter().take_while(move |record| record.offset < end).filter(move |record| {
            isolation == Isolation::ReadUncommitted || record.transaction.is_none_or(|id| !self.aborted.contains(&id))
        })
    }

    /// Removes what Kafka's cleaner would remove of a closed segment: records of aborted transactions, and of each key all but the
    /// last record; on request also the last one, where it is a tombstone. Nothing behind the last stable offset is touched.
    pub(super) fn compact(&mut self, remove_tombstones: bool) {
        let stable = self.end(Isolation::ReadCommitted);
        let aborted = std::mem::take(&mut self.aborted);
        let is_aborted = |record: &Stored| record.transaction.is_some_and(|id| aborted.contains(&id));
        let mut last: HashMap<Bytes, i64> = HashMap::new();
        for record in self.records.iter().filter(|record| record.offset < stable && !is_aborted(record)) {
            if let Some(key) = &record.key {
                last.insert(key.clone(), record.offset);
            }
        }
        self.records.retain(|record| {
            record.offset >= stable
                || !is_aborted(record)
                    && record.key.as_ref().is_none_or(|key| last[key] == record.offset)
                    && !(remove_tombstones && record.value.is_none())
        });
        self.aborted = aborted;
    }

    /// Forgets everything below `before`, as DeleteRecords and retention do.
    pub(super) fn truncate_before(&mut self, before: i64) {
        self.start = before.clamp(self.start, self.end);
        let start = self.start;
        self.records.retain(|record| record.offset >= start);
    }

    /// Loses everything from `from` on, as an unclean election does.
    pub(super) fn lose_from(&mut self, from: i64) {
        self.end = from.clamp(self.start, self.end);
        let end = self.end;
        self.records.retain(|record| record.offset < end);
        self.open.retain(|_, first| *first < end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &'static str, value: Option<&'static str>, transaction: Option<TransactionId>) -> Stored {
        Stored {
            offset: -1,
            timestamp: 0,
            key: Some(Bytes::from_static(key.as_bytes())),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
            transaction,
        }
    }

    fn offsets(log: &PartitionLog, isolation: Isolation) -> Vec<i64> {
        log.read(0, isolation).map(|record| record.offset).collect()
    }

    #[test]
    fn an_open_transaction_holds_committed_readers_back() {
        let mut log = PartitionLog::default();
        log.append(record("a", Some("1"), None));
        log.append(record("b", Some("1"), Some(1)));
        log.append(record("c", Some("1"), None));
        assert_eq!(offsets(&log, Isolation::ReadCommitted), [0]);
        assert_eq!(log.end(Isolation::ReadCommitted), 1);
        log.end_transaction(1, false);
        assert_eq!(offsets(&log, Isolation::ReadCommitted), [0, 2]);
        assert_eq!(offsets(&log, Isolation::ReadUncommitted), [0, 1, 2]);
        assert_eq!(log.end(Isolation::ReadCommitted), 4);
        // A second end writes no second marker.
        log.end_transaction(1, false);
        assert_eq!(log.end(Isolation::ReadUncommitted), 4);
    }

    #[test]
    fn compaction_keeps_the_last_record_of_each_key_and_all_that_is_not_stable() {
        let mut log = PartitionLog::default();
        log.append(record("a", Some("1"), None)); // 0
        log.append(record("a", Some("2"), None)); // 1
        log.append(record("b", Some("1"), None)); // 2
        log.append(record("b", None, None)); // 3
        log.append(record("a", Some("3"), Some(7))); // 4
        log.end_transaction(7, false); // 5
        log.append(record("c", Some("1"), Some(8))); // 6
        log.append(record("a", Some("4"), None)); // 7
        log.compact(false);
        assert_eq!(offsets(&log, Isolation::ReadUncommitted), [1, 3, 6, 7]);
        log.compact(true);
        assert_eq!(offsets(&log, Isolation::ReadUncommitted), [1, 6, 7]);
        assert_eq!(log.append(record("d", None, None)), 8);
    }
}
