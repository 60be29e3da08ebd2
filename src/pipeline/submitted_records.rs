//! Which source offsets may be committed: a pure structure (Java: `SubmittedRecords`).
//!
//! Every record that is handed to the writer gets an ordinal within its source partition. Acknowledgements may come in any order; only
//! the offset of the last record of the acknowledged *prefix* may be written, so that no record in front of a committed
//! offset can be missing in Kafka. An unacknowledged record holds back its own source partition and no other.
//!
//! A source partition of which everything is durable is forgotten, and its place is given to another one. So the memory is that of
//! what is under way, also for tasks that see new source partitions for ever, a file each or a key each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use connect_api::{FieldMap, SourceOffset, SourcePartition};

use crate::storage::offset_store::OffsetEntry;

/// A submitted record: the place of its source partition, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Place of the source partition.
    pub partition: u32,
    /// Number of the record within its place, from 0. Numbers go on when the place is given away, so that tickets of all
    /// times can be told apart.
    pub ordinal: u64,
}

#[derive(Debug)]
struct Partition {
    name: SourcePartition,
    /// Records that are not part of the acknowledged prefix yet: whether acknowledged, and the offset behind each.
    window: VecDeque<(bool, SourceOffset)>,
    /// Ordinal of the first record of the window.
    first: u64,
    /// Offset of the last record of the acknowledged prefix.
    acknowledged: Option<SourceOffset>,
    /// How many records from the first on have a durable offset.
    durable: u64,
}

impl Partition {
    fn is_done(&self) -> bool {
        self.window.is_empty() && self.durable == self.first
    }
}

/// What may be written to the offset topic now.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Committable {
    /// One offset for each source partition that has a new one.
    pub offsets: Vec<OffsetEntry>,
    /// The same as ordinals: source partition, and how many of its records these offsets cover.
    covered: Vec<(u32, u64)>,
}

impl Committable {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct SubmittedRecords {
    partitions: Vec<Partition>,
    /// Source partitions by content. A task has few of them, and nearly every record carries the very `Arc` of the
    /// record before it, so the map is asked rarely.
    by_content: HashMap<String, u32>,
    last: Option<u32>,
    /// Places that nobody has.
    free: Vec<u32>,
}

impl SubmittedRecords {
    /// Takes down a record in the order of sending.
    pub fn submit(&mut self, partition: &SourcePartition, offset: SourceOffset) -> Ticket {
        let index = self.index_of(partition);
        let entry = &mut self.partitions[index as usize];
        entry.window.push_back((false, offset));
        Ticket { partition: index, ordinal: entry.first + entry.window.len() as u64 - 1 }
    }

    /// A record is stored in Kafka. Each ticket is acknowledged once.
    pub fn acknowledge(&mut self, ticket: Ticket) {
        let partition = &mut self.partitions[ticket.partition as usize];
        if ticket.ordinal == partition.first {
            // The usual case: acknowledgements in the order of sending.
            partition.acknowledged = partition.window.pop_front().map(|(_, offset)| offset);
            partition.first += 1;
        } else {
            partition.window[(ticket.ordinal - partition.first) as usize].0 = true;
        }
        while let Some((true, _)) = partition.window.front() {
            partition.acknowledged = partition.window.pop_front().map(|(_, offset)| offset);
            partition.first += 1;
        }
    }

    /// Offsets that are behind acknowledged records only and not durable yet. Taking them changes nothing: a failed
    /// write is simply tried again with newer ones.
    pub fn committable(&self) -> Committable {
        let mut result = Committable::default();
        for (index, partition) in self.partitions.iter().enumerate() {
            if let Some(offset) = &partition.acknowledged
                && partition.first > partition.durable
            {
                result.offsets.push((partition.name.clone(), Some(offset.clone())));
                result.covered.push((index as u32, partition.first));
            }
        }
        result
    }

    /// These offsets are in the offset topic now.
    pub fn durable(&mut self, written: &Committable) {
        for (index, covered) in &written.covered {
            let partition = &mut self.partitions[*index as usize];
            if *covered <= partition.durable {
                continue;
            }
            partition.durable = *covered;
            if partition.is_done() {
                self.by_content.remove(&content_key(&partition.name));
                self.free.push(*index);
                self.last = self.last.filter(|last| last != index);
            }
        }
    }

    /// Whether the offset of a submitted record is durable.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        ticket.ordinal < self.partitions[ticket.partition as usize].durable
    }

    fn index_of(&mut self, partition: &SourcePartition) -> u32 {
        if let Some(last) = self.last
            && Arc::ptr_eq(&self.partitions[last as usize].name, partition)
        {
            return last;
        }
        let (partitions, free) = (&mut self.partitions, &mut self.free);
        let index = *self.by_content.entry(content_key(partition)).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                partitions.push(Partition {
                    name: partition.clone(),
                    window: VecDeque::new(),
                    first: 0,
                    acknowledged: None,
                    durable: 0,
                });
                (partitions.len() - 1) as u32
            })
        });
        // The newest `Arc` is the one that the next record most likely carries.
        self.partitions[index as usize].name = partition.clone();
        self.last = Some(index);
        index
    }
}

/// A text that is equal for equal contents, whatever the order of the fields.
fn content_key(partition: &FieldMap) -> String {
    let mut fields: Vec<_> = partition.iter().map(|(name, value)| format!("{name:?}={value:?}")).collect();
    fields.sort_unstable();
    fields.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(name: &str) -> SourcePartition {
        Arc::new(FieldMap::new().with("file", name))
    }

    fn offset(position: i64) -> SourceOffset {
        Arc::new(FieldMap::new().with("position", position))
    }

    fn committable(records: &SubmittedRecords) -> Vec<(String, i64)> {
        let offsets = records.committable().offsets;
        let position =
            |offset: &Option<SourceOffset>| offset.as_ref().unwrap().get("position").unwrap().as_i64().unwrap();
        let name = |partition: &SourcePartition| partition.get("file").unwrap().as_str().unwrap().to_owned();
        offsets.iter().map(|(partition, offset)| (name(partition), position(offset))).collect()
    }

    #[test]
    fn only_the_acknowledged_prefix_counts() {
        let mut records = SubmittedRecords::default();
        let file = partition("a");
        let tickets: Vec<_> = (1..=4).map(|position| records.submit(&file, offset(position))).collect();
        assert!(records.committable().is_empty());
        records.acknowledge(tickets[1]);
        records.acknowledge(tickets[2]);
        assert!(records.committable().is_empty(), "the first record is still on its way");
        records.acknowledge(tickets[0]);
        assert_eq!(committable(&records), [("a".into(), 3)]);
        records.acknowledge(tickets[3]);
        assert_eq!(committable(&records), [("a".into(), 4)]);
    }

    #[test]
    fn a_slow_partition_holds_back_no_other() {
        let mut records = SubmittedRecords::default();
        let stuck = records.submit(&partition("a"), offset(1));
        let fast = records.submit(&partition("b"), offset(7));
        records.acknowledge(fast);
        assert_eq!(committable(&records), [("b".into(), 7)]);
        records.acknowledge(stuck);
        assert_eq!(committable(&records), [("a".into(), 1), ("b".into(), 7)]);
    }

    #[test]
    fn equal_partitions_are_one_whatever_their_order_and_identity() {
        let mut records = SubmittedRecords::default();
        let one = Arc::new(FieldMap::new().with("x", 1).with("y", 2));
        let two = Arc::new(FieldMap::new().with("y", 2).with("x", 1));
        let first = records.submit(&one, offset(1));
        let second = records.submit(&two, offset(2));
        assert_eq!(first.partition, second.partition);
        records.acknowledge(second);
        assert!(records.committable().is_empty());
    }

    #[test]
    fn what_is_durable_is_not_written_again() {
        let mut records = SubmittedRecords::default();
        let file = partition("a");
        let first = records.submit(&file, offset(1));
        records.acknowledge(first);
        let written = records.committable();
        let second = records.submit(&file, offset(2));
        records.acknowledge(second);
        assert!(!records.is_durable(first));
        records.durable(&written);
        assert!(records.is_durable(first) && !records.is_durable(second));
        assert_eq!(committable(&records), [("a".into(), 2)]);
        let written = records.committable();
        records.durable(&written);
        assert!(records.committable().is_empty());
    }

    #[test]
    fn what_is_done_is_forgotten() {
        let mut records = SubmittedRecords::default();
        let mut tickets = Vec::new();
        for name in 0..10_000 {
            let ticket = records.submit(&partition(&name.to_string()), offset(name));
            records.acknowledge(ticket);
            let written = records.committable();
            records.durable(&written);
            tickets.push(ticket);
        }
        assert!(tickets.iter().all(|ticket| ticket.partition == 0), "each takes the place of the one before");
        assert!(tickets.iter().all(|ticket| records.is_durable(*ticket)), "that they are durable is not forgotten");
        let again = records.submit(&partition("7"), offset(8));
        assert!(!records.is_durable(again));
        records.acknowledge(again);
        assert_eq!(committable(&records), [("7".into(), 8)]);
    }

    /// The same rules without any economy: all records of all time.
    #[derive(Default)]
    struct Naive {
        /// By ticket: source partition, position, whether acknowledged, whether durable.
        records: Vec<(usize, i64, bool, bool)>,
    }

    impl Naive {
        /// By source partition: the last record of the acknowledged prefix, unless it is durable.
        fn committable(&self) -> Vec<(String, i64)> {
            let mut found = Vec::new();
            for file in 0..4 {
                let of_file = self.records.iter().filter(|record| record.0 == file);
                let last = of_file.take_while(|record| record.2).last();
                found.extend(last.filter(|record| !record.3).map(|record| (file.to_string(), record.1)));
            }
            found
        }

        fn durable(&mut self, written: &[(String, i64)]) {
            for record in &mut self.records {
                record.3 |= written.iter().any(|(file, at)| *file == record.0.to_string() && record.1 <= *at);
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Submit(usize),
        /// One of those under way.
        Acknowledge(usize),
        Take,
        Written,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4usize).prop_map(Step::Submit),
            4 => any::<usize>().prop_map(Step::Acknowledge),
            1 => Just(Step::Take),
            1 => Just(Step::Written),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: as the naive model, and no more memory than what is under way needs.
        #[test]
        fn as_the_naive_model(steps in prop::collection::vec(step(), 1..200)) {
            let (mut records, mut naive) = (SubmittedRecords::default(), Naive::default());
            let (mut tickets, mut under_way) = (Vec::new(), Vec::<usize>::new());
            let mut taken: Option<(Committable, Vec<(String, i64)>)> = None;
            for step in steps {
                match step {
                    Step::Submit(file) => {
                        under_way.push(tickets.len());
                        let position = tickets.len() as i64;
                        tickets.push(records.submit(&partition(&file.to_string()), offset(position)));
                        naive.records.push((file, position, false, false));
                    }
                    Step::Acknowledge(which) if !under_way.is_empty() => {
                        let index = under_way.remove(which % under_way.len());
                        records.acknowledge(tickets[index]);
                        naive.records[index].2 = true;
                    }
                    Step::Acknowledge(_) => {}
                    Step::Take => taken = Some((records.committable(), naive.committable())),
                    Step::Written => if let Some((written, expected)) = taken.take() {
                        records.durable(&written);
                        naive.durable(&expected);
                    },
                }
                let mut found = committable(&records);
                found.sort();
                prop_assert_eq!(found, naive.committable());
                for (ticket, record) in tickets.iter().zip(&naive.records) {
                    prop_assert_eq!(records.is_durable(*ticket), record.3);
                }
                prop_assert!(tickets.iter().all(|ticket| ticket.partition < 4));
            }
        }
    }

    proptest! {
        /// Whatever the order of acknowledgements: a committable offset has no unacknowledged record in front of it,
        /// and at the end everything is committable.
        #[test]
        fn never_behind_a_gap(order in Just((0..60usize).collect::<Vec<_>>()).prop_shuffle(), split in 1..4usize) {
            let mut records = SubmittedRecords::default();
            let files: Vec<_> = (0..split).map(|index| partition(&index.to_string())).collect();
            let tickets: Vec<_> = (0..60).map(|n| records.submit(&files[n % split], offset(n as i64))).collect();
            let mut acknowledged = [false; 60];
            for index in order {
                records.acknowledge(tickets[index]);
                acknowledged[index] = true;
                for (name, position) in committable(&records) {
                    let file: usize = name.parse().unwrap();
                    prop_assert!((0..=position as usize).filter(|n| n % split == file).all(|n| acknowledged[n]));
                }
            }
            prop_assert_eq!(committable(&records).len(), split);
        }
    }
}
