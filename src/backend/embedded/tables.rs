//! The tables of the store: how effects are written in one transaction, and everything but rows is read back.

use std::collections::BTreeSet;
use std::sync::Arc;

use connect_api::TopicPartition;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::meta::{Effect, Meta, Partition, Place, Topic};
use super::wire::{PartitionValue, TopicValue, TransactionValue, WireError, decode_value, encode_value};

/// Rows by topic id, partition and base offset.
pub(super) const ROWS: TableDefinition<(u64, i32, i64), &[u8]> = TableDefinition::new("rows");
/// Topics by name.
const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
/// Partitions by topic id and number; one that is still empty may be absent.
const PARTITIONS: TableDefinition<(u64, i32), &[u8]> = TableDefinition::new("partitions");
/// Open and aborted transactions by topic id, partition and their own id.
const TRANSACTIONS: TableDefinition<(u64, i32, u64), &[u8]> = TableDefinition::new("transactions");
/// Committed offsets by group, topic and partition.
const OFFSETS: TableDefinition<(&str, &str, i32), i64> = TableDefinition::new("offsets");
/// Ids of deleted topics whose rows are still there.
const DELETED: TableDefinition<u64, ()> = TableDefinition::new("deleted");
/// Numbers of the store itself.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// The layout of these tables.
const LAYOUT: u64 = 1;
/// What a commit of one group could not do.
pub(super) type StoreResult<T> = std::result::Result<T, StoreError>;

/// An error below, in words; all of redb's kinds mean the same here.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Below(#[from] Box<redb::Error>),
    #[error("{what} is damaged: {error}")]
    Damaged { what: String, error: WireError },
    #[error("its layout is {0}, this program knows {LAYOUT}; take the program that wrote it")]
    Layout(u64),
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    /// Whether it comes from the disk. redb answers nothing any more after such an error, also where a read met it.
    pub(super) fn is_of_the_disk(&self) -> bool {
        matches!(self, StoreError::Below(error) if matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo))
    }
}

macro_rules! from_below {
    ($($kind:ty),*) => {
        $(impl From<$kind> for StoreError {
            fn from(error: $kind) -> StoreError {
                StoreError::Below(Box::new(error.into()))
            }
        })*
    };
}
from_below!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError, redb::DatabaseError);

pub(super) fn damaged(what: String) -> impl FnOnce(WireError) -> StoreError {
    move |error| StoreError::Damaged { what, error }
}

/// The number that says how many bytes a deleted topic still has.
fn deleted_bytes(id: u64) -> String {
    format!("bytes of deleted {id}")
}

/// Makes the tables where they are missing and returns the id of the cluster.
pub(super) fn prepare(database: &Database) -> StoreResult<u64> {
    let transaction = database.begin_write()?;
    let cluster_id = {
        let mut numbers = transaction.open_table(NUMBERS)?;
        let layout = numbers.get("layout")?.map(|value| value.value());
        match layout {
            Some(LAYOUT) => {}
            Some(other) => return Err(StoreError::Layout(other)),
            None => {
                numbers.insert("layout", LAYOUT)?;
                numbers.insert("cluster", fastrand::u64(..))?;
            }
        }
        transaction.open_table(ROWS)?;
        transaction.open_table(TOPICS)?;
        transaction.open_table(PARTITIONS)?;
        transaction.open_table(TRANSACTIONS)?;
        transaction.open_table(OFFSETS)?;
        transaction.open_table(DELETED)?;
        numbers.get("cluster")?.map_or(0, |value| value.value())
    };
    transaction.commit()?;
    Ok(cluster_id)
}

/// The number of the last commit that is there.
pub(super) fn last_commit(database: &Database) -> StoreResult<u64> {
    let numbers = database.begin_read()?.open_table(NUMBERS)?;
    Ok(numbers.get("commits")?.map_or(0, |value| value.value()))
}

pub(super) fn load(database: &Database) -> StoreResult<Meta> {
    let transaction = database.begin_read()?;
    let mut meta = Meta::default();
    for entry in transaction.open_table(TOPICS)?.iter()? {
        let (name, value) = entry?;
        let name = name.value();
        let topic: TopicValue = decode_value(value.value()).map_err(damaged(format!("topic {name}")))?;
        let mut partitions = Vec::new();
        for partition in 0..topic.partitions as i32 {
            partitions.push(load_partition(&transaction, topic.id, partition)?);
        }
        meta.last_id = meta.last_id.max(topic.id);
        meta.topics.insert(name.into(), Topic { id: topic.id, config: topic.config.into_iter().collect(), partitions });
    }
    for entry in transaction.open_table(OFFSETS)?.iter()? {
        let (key, offset) = entry?;
        let (group, topic, partition) = key.value();
        let offsets = meta.groups.entry(group.to_owned()).or_default();
        offsets.insert(TopicPartition::new(topic, partition), offset.value());
    }
    let numbers = transaction.open_table(NUMBERS)?;
    for entry in transaction.open_table(DELETED)?.iter()? {
        let id = entry?.0.value();
        let bytes = numbers.get(&*deleted_bytes(id))?.map_or(0, |value| value.value());
        meta.deleted.insert(id, bytes);
    }
    let last_id = numbers.get("last id")?.map_or(0, |value| value.value());
    meta.last_id = meta.last_id.max(last_id);
    Ok(meta)
}

fn load_partition(transaction: &redb::ReadTransaction, id: u64, number: i32) -> StoreResult<Partition> {
    let what = || format!("partition {number} of topic {id}");
    let mut partition = match transaction.open_table(PARTITIONS)?.get((id, number))? {
        None => Partition::default(),
        Some(value) => {
            let value: PartitionValue = decode_value(value.value()).map_err(damaged(what()))?;
            let PartitionValue { start, end, bytes, cleaned, clean_bytes } = value;
            Partition { start, end, bytes, cleaned, clean_bytes, ..Partition::default() }
        }
    };
    for entry in transaction.open_table(TRANSACTIONS)?.range((id, number, 0)..=(id, number, u64::MAX))? {
        let (key, value) = entry?;
        let value: TransactionValue = decode_value(value.value()).map_err(damaged(what()))?;
        match value.aborted_at {
            None => drop(partition.open.insert(key.value().2, value.first)),
            Some(marker) => drop(partition.aborted.insert(key.value().2, (value.first, marker))),
        }
    }
    Ok(partition)
}

pub(super) fn write(database: &Database, effects: &[Effect], meta: &Meta, number: u64) -> StoreResult<()> {
    let mut transaction = database.begin_write()?;
    transaction
        .set_durability(Durability::Immediate)
        .map_err(|error| StoreError::Other(format!("durability: {error}")))?;
    write_rows(&transaction, effects)?;
    write_topics(&transaction, effects, meta)?;
    write_partitions(&transaction, effects, meta)?;
    write_offsets(&transaction, effects)?;
    transaction.open_table(NUMBERS)?.insert("commits", number)?;
    transaction.commit()?;
    Ok(())
}

fn write_rows(transaction: &WriteTransaction, effects: &[Effect]) -> StoreResult<()> {
    let mut rows = transaction.open_table(ROWS)?;
    for effect in effects {
        match effect {
            Effect::Appended { at, row } => {
                rows.insert((at.id, at.partition, row.base), &*row.bytes)?;
            }
            Effect::Truncated { at, rows: removed, .. } => {
                for base in removed {
                    rows.remove((at.id, at.partition, *base))?;
                }
            }
            Effect::Rewritten { at, removed, added, .. } => {
                for base in removed {
                    rows.remove((at.id, at.partition, *base))?;
                }
                for row in added {
                    rows.insert((at.id, at.partition, row.base), &*row.bytes)?;
                }
            }
            Effect::TopicSwept { id, rows: removed, .. } => {
                for (partition, base) in removed {
                    rows.remove((*id, *partition, *base))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_topics(transaction: &WriteTransaction, effects: &[Effect], meta: &Meta) -> StoreResult<()> {
    for effect in effects {
        match effect {
            Effect::TopicCreated { name, .. } | Effect::TopicSet { name, .. } => {
                // It may be deleted again in the same group.
                if let Some(topic) = meta.topics.get(name) {
                    let config = topic.config.clone().into_iter().collect();
                    let value = TopicValue { id: topic.id, partitions: topic.partitions.len() as u32, config };
                    transaction.open_table(TOPICS)?.insert(&**name, &*encode_value(&value))?;
                }
            }
            Effect::TopicDeleted { name, id } => {
                if !meta.topics.contains_key(name) {
                    transaction.open_table(TOPICS)?.remove(&**name)?;
                }
                write_deleted(transaction, *id, meta)?;
                let mut partitions = transaction.open_table(PARTITIONS)?;
                partitions.retain_in((*id, i32::MIN)..=(*id, i32::MAX), |_, _| false)?;
                let mut transactions = transaction.open_table(TRANSACTIONS)?;
                transactions.retain_in((*id, i32::MIN, 0)..=(*id, i32::MAX, u64::MAX), |_, _| false)?;
            }
            Effect::TopicSwept { id, .. } => write_deleted(transaction, *id, meta)?,
            _ => continue,
        }
        transaction.open_table(NUMBERS)?.insert("last id", meta.last_id)?;
    }
    Ok(())
}

/// What is left of a deleted topic after all effects.
fn write_deleted(transaction: &WriteTransaction, id: u64, meta: &Meta) -> StoreResult<()> {
    let mut deleted = transaction.open_table(DELETED)?;
    let mut numbers = transaction.open_table(NUMBERS)?;
    match meta.deleted.get(&id) {
        Some(bytes) => {
            deleted.insert(id, ())?;
            numbers.insert(&*deleted_bytes(id), *bytes)?;
        }
        None => {
            deleted.remove(id)?;
            numbers.remove(&*deleted_bytes(id))?;
        }
    }
    Ok(())
}

/// Partitions as they are after all effects, each once.
fn write_partitions(transaction: &WriteTransaction, effects: &[Effect], meta: &Meta) -> StoreResult<()> {
    let mut changed: BTreeSet<(&Arc<str>, u64, i32)> = BTreeSet::new();
    for effect in effects {
        match effect {
            Effect::Joined { at, transaction: id, .. } | Effect::Marker { at, transaction: id, .. } => {
                changed.insert((&at.topic, at.id, at.partition));
                let mut transactions = transaction.open_table(TRANSACTIONS)?;
                let key = (at.id, at.partition, *id);
                match meta.at(at).and_then(|partition| transaction_value(partition, *id)) {
                    Some(value) => drop(transactions.insert(key, &*encode_value(&value))?),
                    None => drop(transactions.remove(key)?),
                }
                transaction.open_table(NUMBERS)?.insert("last id", meta.last_id)?;
            }
            Effect::Truncated { at, .. } | Effect::Rewritten { at, .. } => {
                changed.insert((&at.topic, at.id, at.partition));
                let range = (at.id, at.partition, 0)..=(at.id, at.partition, u64::MAX);
                let known = meta.at(at);
                let mut transactions = transaction.open_table(TRANSACTIONS)?;
                transactions
                    .retain_in(range, |(_, _, id), _| known.is_some_and(|it| transaction_value(it, id).is_some()))?;
            }
            Effect::Appended { at, .. } => {
                changed.insert((&at.topic, at.id, at.partition));
            }
            _ => {}
        }
    }
    let mut partitions = transaction.open_table(PARTITIONS)?;
    for (topic, id, partition) in changed {
        let at = Place { topic: Arc::clone(topic), id, partition };
        if let Some(partition) = meta.at(&at) {
            let Partition { start, end, bytes, cleaned, clean_bytes, .. } = *partition;
            let value = PartitionValue { start, end, bytes, cleaned, clean_bytes };
            partitions.insert((at.id, at.partition), &*encode_value(&value))?;
        }
    }
    Ok(())
}

fn transaction_value(partition: &Partition, id: u64) -> Option<TransactionValue> {
    let open = partition.open.get(&id).map(|first| TransactionValue { first: *first, aborted_at: None });
    let aborted =
        || partition.aborted.get(&id).map(|(first, at)| TransactionValue { first: *first, aborted_at: Some(*at) });
    open.or_else(aborted)
}

fn write_offsets(transaction: &WriteTransaction, effects: &[Effect]) -> StoreResult<()> {
    for effect in effects {
        match effect {
            Effect::OffsetsCommitted { group, offsets } => {
                let mut table = transaction.open_table(OFFSETS)?;
                for (at, offset) in offsets {
                    table.insert((&**group, &*at.topic, at.partition), *offset)?;
                }
            }
            Effect::Ended { offsets, .. } => {
                let mut table = transaction.open_table(OFFSETS)?;
                for (group, at, offset) in offsets {
                    table.insert((&**group, &*at.topic, at.partition), *offset)?;
                }
            }
            Effect::OffsetsDeleted { group, partitions } => {
                let mut table = transaction.open_table(OFFSETS)?;
                for at in partitions {
                    table.remove((&**group, &*at.topic, at.partition))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
