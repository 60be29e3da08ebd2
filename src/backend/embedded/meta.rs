//! What is known of topics, groups and transactions, and how it changes: an [`Effect`] at a time.
//!
//! The same [`Meta::apply`] runs on the writer thread's own copy while it plans, and on the copy that everybody sees after
//! the effects are durable. Pure: no store, no clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use connect_api::TopicPartition;

use super::wire::Row;
use crate::backend::Isolation;

/// Names one transaction in the store. 0 is none.
pub(super) type TransactionId = u64;

/// A partition, without its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Partition {
    /// The oldest offset there is.
    pub start: i64,
    /// The offset of the next record.
    pub end: i64,
    /// Bytes of all rows.
    pub bytes: u64,
    /// Up to here compaction has been.
    pub cleaned: i64,
    /// Bytes of the rows below `cleaned` when it had been there.
    pub clean_bytes: u64,
    /// Open transactions with their first offset.
    pub open: BTreeMap<TransactionId, i64>,
    /// Aborted transactions whose records may still be there: first offset, and that of the marker.
    pub aborted: BTreeMap<TransactionId, (i64, i64)>,
}

impl Partition {
    /// The high watermark, or the last stable offset: where the first open transaction begins.
    pub(super) fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.end,
            Isolation::ReadCommitted => self.open.values().copied().min().unwrap_or(self.end),
        }
    }

    /// Whether a reader of this isolation may not see the records of a transaction that has ended.
    pub(super) fn hides(&self, transaction: TransactionId, isolation: Isolation) -> bool {
        isolation == Isolation::ReadCommitted && self.aborted.contains_key(&transaction)
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    /// New for each topic that was ever made.
    pub id: u64,
    pub config: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
}

/// A transaction that is neither committed nor aborted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OpenTransaction {
    pub id: TransactionId,
    pub partitions: Vec<TopicPartition>,
    pub offsets: Vec<(String, TopicPartition, i64)>,
}

/// What is known of a transactional id. Not stored: the process that held it ends with the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TransactionalId {
    /// Raised by each writer that takes the id over.
    pub epoch: u64,
    pub open: Option<OpenTransaction>,
}

/// Everything but rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub topics: BTreeMap<Arc<str>, Topic>,
    pub groups: BTreeMap<String, BTreeMap<TopicPartition, i64>>,
    pub transactional_ids: HashMap<String, TransactionalId>,
    /// Ids of deleted topics whose rows are still to be removed, with the bytes of these.
    pub deleted: BTreeMap<u64, u64>,
    /// The last id that a topic or a transaction got.
    pub last_id: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    TopicCreated {
        name: Arc<str>,
        id: u64,
        partitions: i32,
        config: BTreeMap<String, String>,
    },
    TopicSet {
        name: Arc<str>,
        config: BTreeMap<String, String>,
    },
    TopicDeleted {
        name: Arc<str>,
        id: u64,
    },
    /// Some rows of a deleted topic were removed, of so many bytes; `last`: all.
    TopicSwept {
        id: u64,
        rows: Vec<(i32, i64)>,
        bytes: u64,
        last: bool,
    },
    /// A row was appended.
    Appended {
        at: Place,
        row: Row,
    },
    /// A transaction has its first record in a partition coming, at the partition's end.
    Joined {
        at: Place,
        transactional_id: String,
        transaction: TransactionId,
    },
    /// A transaction will commit these offsets.
    OffsetsJoined {
        transactional_id: String,
        transaction: TransactionId,
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
    },
    /// The marker that ends a transaction in a partition. It takes an offset and is never delivered.
    Marker {
        at: Place,
        transaction: TransactionId,
        commit: bool,
    },
    /// The end of a transaction, behind its markers; `offsets` where it was committed.
    Ended {
        transactional_id: String,
        offsets: Vec<(String, TopicPartition, i64)>,
    },
    TakenOver {
        transactional_id: String,
        epoch: u64,
    },
    OffsetsCommitted {
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
    },
    OffsetsDeleted {
        group: String,
        partitions: Vec<TopicPartition>,
    },
    /// Retention removed the oldest rows.
    Truncated {
        at: Place,
        start: i64,
        rows: Vec<i64>,
        bytes: u64,
    },
    /// Compaction put rows in the place of others. `cleaned`: the pass has ended, where, and how many bytes are below.
    Rewritten {
        at: Place,
        removed: Vec<i64>,
        removed_bytes: u64,
        added: Vec<Row>,
        cleaned: Option<(i64, u64)>,
    },
}

/// A partition of one topic that was ever made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub topic: Arc<str>,
    pub id: u64,
    pub partition: i32,
}

impl Place {
    pub(super) fn name(&self) -> TopicPartition {
        TopicPartition::new(&*self.topic, self.partition)
    }
}

impl Meta {
    pub(super) fn partition(&self, name: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&name.topic)?.partitions.get(usize::try_from(name.partition).ok()?)
    }

    /// The partition, if its topic was not made anew in the meantime.
    pub(super) fn at(&self, place: &Place) -> Option<&Partition> {
        let topic = self.topics.get(&place.topic).filter(|topic| topic.id == place.id)?;
        topic.partitions.get(usize::try_from(place.partition).ok()?)
    }

    fn at_mut(&mut self, place: &Place) -> Option<&mut Partition> {
        let topic = self.topics.get_mut(&place.topic).filter(|topic| topic.id == place.id)?;
        topic.partitions.get_mut(usize::try_from(place.partition).ok()?)
    }

    /// Whether a transaction is open that will change offsets of this group.
    pub(super) fn offsets_pending(&self, group: &str) -> bool {
        let open = self.transactional_ids.values().filter_map(|id| id.open.as_ref());
        open.flat_map(|open| &open.offsets).any(|(name, _, _)| name == group)
    }

    fn open_transaction(&mut self, transactional_id: &str, transaction: TransactionId) -> &mut OpenTransaction {
        self.last_id = self.last_id.max(transaction);
        let known = self.transactional_ids.entry(transactional_id.to_owned()).or_default();
        known.open.get_or_insert_with(|| OpenTransaction { id: transaction, ..OpenTransaction::default() })
    }

    /// Carries one change out. Changes of what is not there any more concern nobody.
    pub(super) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::TopicCreated { name, id, partitions, config } => {
                self.last_id = self.last_id.max(*id);
                let partitions = (0..*partitions).map(|_| Partition::default()).collect();
                self.topics.insert(Arc::clone(name), Topic { id: *id, config: config.clone(), partitions });
            }
            Effect::TopicSet { name, config } => {
                if let Some(topic) = self.topics.get_mut(name) {
                    topic.config.clone_from(config);
                }
            }
            Effect::TopicDeleted { name, id } => {
                let topic = self.topics.remove(name);
                let bytes = topic.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.bytes).sum();
                self.deleted.insert(*id, bytes);
                for open in self.transactional_ids.values_mut().filter_map(|known| known.open.as_mut()) {
                    open.offsets.retain(|(_, partition, _)| partition.topic != *name);
                }
            }
            Effect::TopicSwept { id, bytes, last, .. } => {
                if *last {
                    self.deleted.remove(id);
                } else if let Some(left) = self.deleted.get_mut(id) {
                    *left = left.saturating_sub(*bytes);
                }
            }
            Effect::TakenOver { transactional_id, epoch } => {
                self.transactional_ids.entry(transactional_id.clone()).or_default().epoch = *epoch;
            }
            Effect::OffsetsJoined { transactional_id, transaction, group, offsets } => {
                let open = self.open_transaction(transactional_id, *transaction);
                open.offsets.extend(offsets.iter().map(|(at, offset)| (group.clone(), at.clone(), *offset)));
            }
            Effect::Ended { transactional_id, offsets } => {
                if let Some(known) = self.transactional_ids.get_mut(transactional_id) {
                    known.open = None;
                }
                for (group, partition, offset) in offsets {
                    self.groups.entry(group.clone()).or_default().insert(partition.clone(), *offset);
                }
            }
            Effect::OffsetsCommitted { group, offsets } => {
                self.groups.entry(group.clone()).or_default().extend(offsets.iter().cloned());
            }
            Effect::OffsetsDeleted { group, partitions } => {
                if let Some(known) = self.groups.get_mut(group) {
                    known.retain(|partition, _| !partitions.contains(partition));
                }
            }
            Effect::Appended { .. }
            | Effect::Joined { .. }
            | Effect::Marker { .. }
            | Effect::Truncated { .. }
            | Effect::Rewritten { .. } => self.apply_to_partition(effect),
        }
    }

    fn apply_to_partition(&mut self, effect: &Effect) {
        match effect {
            Effect::Appended { at, row } => {
                if let Some(partition) = self.at_mut(at) {
                    partition.end = row.next();
                    partition.bytes += row.bytes.len() as u64;
                }
            }
            Effect::Joined { at, transactional_id, transaction } => {
                if let Some(partition) = self.at_mut(at) {
                    partition.open.insert(*transaction, partition.end);
                }
                self.open_transaction(transactional_id, *transaction).partitions.push(at.name());
            }
            Effect::Marker { at, transaction, commit } => {
                if let Some(partition) = self.at_mut(at)
                    && let Some(first) = partition.open.remove(transaction)
                {
                    if !commit {
                        partition.aborted.insert(*transaction, (first, partition.end));
                    }
                    partition.end += 1;
                }
            }
            Effect::Truncated { at, start, bytes, .. } => {
                if let Some(partition) = self.at_mut(at) {
                    partition.start = *start;
                    partition.bytes = partition.bytes.saturating_sub(*bytes);
                    partition.clean_bytes = partition.clean_bytes.min(partition.bytes);
                    partition.cleaned = partition.cleaned.max(*start);
                    partition.aborted.retain(|_, (_, marker)| *marker >= *start);
                }
            }
            Effect::Rewritten { at, removed_bytes, added, cleaned, .. } => {
                if let Some(partition) = self.at_mut(at) {
                    let added_bytes: u64 = added.iter().map(|row| row.bytes.len() as u64).sum();
                    partition.bytes = (partition.bytes + added_bytes).saturating_sub(*removed_bytes);
                    if let Some((cleaned, clean_bytes)) = cleaned {
                        partition.cleaned = *cleaned;
                        partition.clean_bytes = *clean_bytes;
                        partition.aborted.retain(|_, (_, marker)| *marker >= *cleaned);
                    }
                }
            }
            _ => {}
        }
    }
}
