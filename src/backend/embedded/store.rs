//! The tables of the store: how effects are written in one transaction, and read back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use connect_api::TopicPartition;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::disk::{Boxed, Disk};
use super::meta::{Effect, Meta, Partition, Place, Topic};
use super::wire::{
    PartitionValue, Row, TopicValue, TransactionValue, WireError, decode_value, encode_value, header_of,
};
use crate::backend::{BackendError, Result};

/// Rows by topic id, partition and base offset.
const ROWS: TableDefinition<(u64, i32, i64), &[u8]> = TableDefinition::new("rows");
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
/// Bytes that the store's own cache of pages may take; half of it holds what is not written yet.
const CACHE_BYTES: usize = 32 << 20;
/// Bytes that are left free on the disk, so that what deletes can still be written.
const RESERVED_BYTES: u64 = 4 << 20;

/// What a commit of one group could not do.
type StoreResult<T> = std::result::Result<T, StoreError>;

/// An error below, in words; all of redb's kinds mean the same here.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Below(#[from] Box<redb::Error>),
    #[error("{what} is damaged: {error}")]
    Damaged { what: String, error: WireError },
    #[error("{0}")]
    Other(String),
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

fn damaged(what: String) -> impl FnOnce(WireError) -> StoreError {
    move |error| StoreError::Damaged { what, error }
}

/// A row without its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub base: i64,
    /// The offset behind its last record.
    pub next: i64,
    pub max_timestamp: i64,
    pub bytes: u64,
}

/// The store. Reads may come from any thread, commits from one.
#[derive(Debug)]
pub(super) struct Store {
    disk: Box<dyn Disk>,
    /// `None` after an error of the disk, until it could be opened again.
    database: RwLock<Option<Database>>,
    cluster_id: u64,
    /// The number of the last commit that is known to be on the disk; each has the next one.
    commits: AtomicU64,
}

impl Store {
    /// Opens or makes the store and reads everything but rows.
    pub(super) fn open(disk: Box<dyn Disk>) -> Result<(Store, Meta)> {
        let mut store = Store { disk, database: RwLock::new(None), cluster_id: 0, commits: AtomicU64::new(0) };
        let opened = store.open_database().and_then(|database| {
            store.cluster_id = prepare(&database)?;
            *store.commits.get_mut() = last_commit(&database)?;
            let meta = load(&database)?;
            *store.database.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(database);
            Ok(meta)
        });
        let meta = opened.map_err(|error| store.retriable("cannot be opened", &error))?;
        Ok((store, meta))
    }

    fn open_database(&self) -> StoreResult<Database> {
        let file = self.disk.open().map_err(|error| StoreError::Other(error.to_string()))?;
        Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Boxed(file))?)
    }

    /// The id that the store got when it was made.
    pub(super) fn cluster_id(&self) -> String {
        format!("embedded-{:016x}", self.cluster_id)
    }

    pub(super) fn path(&self) -> &std::path::Path {
        self.disk.path()
    }

    fn retriable(&self, what: &str, error: &dyn std::fmt::Display) -> BackendError {
        BackendError::Retriable(format!("the store {} {what}: {error}", self.disk.path().display()))
    }

    /// Writes the effects in one transaction and returns when they are on the disk. `meta` is what they lead to. After an error all of it
    /// or nothing is there; [`Store::reopen`] says which.
    pub(super) fn commit(&self, effects: &[Effect], meta: &Meta, row_bytes: usize) -> Result<()> {
        self.check_room(row_bytes, meta)?;
        let number = self.commits.load(Ordering::Relaxed) + 1;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_ref() else { return Err(self.closed()) };
        let written = write(open, effects, meta, number);
        drop(database);
        match written {
            Ok(()) => self.commits.store(number, Ordering::Relaxed),
            Err(error) => {
                // After an error of the disk redb answers nothing any more. What was committed is there when it is opened again.
                self.close();
                return Err(self.retriable("cannot be written", &error));
            }
        }
        Ok(())
    }

    /// Rows need room: on the disk, or within the file where rows were removed. Looked at before, because a write that fails half way costs a
    /// reading of the whole file.
    fn check_room(&self, row_bytes: usize, meta: &Meta) -> Result<()> {
        if row_bytes == 0 {
            return Ok(());
        }
        let ask =
            |found: std::io::Result<u64>| found.map_err(|error| self.retriable("cannot be asked for its room", &error));
        // Pages come in powers of two, and the tree above them is copied.
        let needed = 2 * row_bytes as u64 + RESERVED_BYTES;
        let free = ask(self.disk.free_bytes())?;
        if free >= needed {
            return Ok(());
        }
        let partitions = meta.topics.values().flat_map(|topic| &topic.partitions);
        let used = 2 * partitions.map(|partition| partition.bytes).sum::<u64>();
        if ask(self.disk.file_bytes())?.saturating_sub(used) >= needed {
            return Ok(());
        }
        let what = format!("cannot grow: {free} bytes are free on the disk, {needed} are needed");
        Err(self.retriable(&what, &"No space left on device"))
    }

    /// Opens the store where an error of the disk has closed it. Returns whether the commit that met the error is there all the same.
    pub(super) fn reopen(&self) -> Result<bool> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return Ok(false);
        }
        let opened = self.open_database().and_then(|open| Ok((last_commit(&open)?, open)));
        let (found, open) = opened.map_err(|error| self.retriable("cannot be opened again", &error))?;
        *database = Some(open);
        Ok(found > self.commits.swap(found, Ordering::Relaxed))
    }

    pub(super) fn is_open(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn closed(&self) -> BackendError {
        self.retriable("is closed", &"an earlier write failed, and it is about to be opened again")
    }

    /// Closes the file, in good order where no error came before: the next opening is quicker by that.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn read<T>(&self, read: impl FnOnce(&Database) -> StoreResult<T>) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match database.as_ref() {
            Some(open) => read(open).map_err(|error| match error {
                StoreError::Damaged { .. } => {
                    BackendError::Refused(format!("the store {}: {error}", self.disk.path().display()))
                }
                error => self.retriable("cannot be read", &error),
            }),
            None => Err(self.closed()),
        }
    }

    /// The rows that hold `from` and what is behind it, below `to`, about `max_bytes` of them, at least one where there is one.
    pub(super) fn rows(&self, id: u64, partition: i32, from: i64, to: i64, max_bytes: usize) -> Result<Vec<Row>> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(ROWS)?;
            // The row before may reach over `from`.
            let before = table.range((id, partition, i64::MIN)..(id, partition, from))?.next_back().transpose()?;
            let behind = table.range((id, partition, from)..(id, partition, to))?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for entry in before.into_iter().map(Ok).chain(behind) {
                let (key, value) = entry?;
                let base = key.value().2;
                let what = || format!("the row of topic {id}, partition {partition}, at offset {base}");
                let header = header_of(value.value()).map_err(damaged(what()))?;
                if base.saturating_add(i64::from(header.last_delta)) < from {
                    continue;
                }
                let row = Row::parse(base, Bytes::copy_from_slice(value.value())).map_err(damaged(what()))?;
                bytes += row.bytes.len();
                rows.push(row);
                if bytes >= max_bytes {
                    break;
                }
            }
            Ok(rows)
        })
    }

    /// What rows from `from` on say of themselves, below `to`, at most `max`.
    pub(super) fn heads(&self, id: u64, partition: i32, from: i64, to: i64, max: usize) -> Result<Vec<Head>> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(ROWS)?;
            let range = table.range((id, partition, from)..(id, partition, to))?;
            let head = |entry: std::result::Result<(redb::AccessGuard<_>, redb::AccessGuard<&[u8]>), _>| {
                let (key, value) = entry?;
                let (_, _, base): (u64, i32, i64) = key.value();
                let what = || format!("the row of topic {id}, partition {partition}, at offset {base}");
                let header = header_of(value.value()).map_err(damaged(what()))?;
                let next = base.saturating_add(i64::from(header.last_delta) + 1);
                let bytes = value.value().len() as u64;
                Ok(Head { base, next, max_timestamp: header.max_timestamp, bytes })
            };
            range.take(max).map(head).collect()
        })
    }

    /// Keys of rows of a topic that was deleted, at most `max`.
    pub(super) fn rows_left(&self, id: u64, max: usize) -> Result<Vec<(i32, i64)>> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(ROWS)?;
            let range = table.range((id, i32::MIN, i64::MIN)..(id + 1, i32::MIN, i64::MIN))?;
            range
                .take(max)
                .map(|entry| entry.map(|(key, _)| (key.value().1, key.value().2)).map_err(Into::into))
                .collect()
        })
    }
}

/// Makes the tables where they are missing and returns the id of the cluster.
fn prepare(database: &Database) -> StoreResult<u64> {
    let transaction = database.begin_write()?;
    let cluster_id = {
        let mut numbers = transaction.open_table(NUMBERS)?;
        let layout = numbers.get("layout")?.map(|value| value.value());
        match layout {
            Some(LAYOUT) => {}
            Some(other) => {
                let message =
                    format!("its layout is {other}, this program knows {LAYOUT}; take the program that wrote it");
                return Err(StoreError::Other(message));
            }
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
fn last_commit(database: &Database) -> StoreResult<u64> {
    let numbers = database.begin_read()?.open_table(NUMBERS)?;
    Ok(numbers.get("commits")?.map_or(0, |value| value.value()))
}

fn load(database: &Database) -> StoreResult<Meta> {
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
    for entry in transaction.open_table(DELETED)?.iter()? {
        meta.deleted.insert(entry?.0.value());
    }
    let last_id = transaction.open_table(NUMBERS)?.get("last id")?.map_or(0, |value| value.value());
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

fn write(database: &Database, effects: &[Effect], meta: &Meta, number: u64) -> StoreResult<()> {
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
                transaction.open_table(DELETED)?.insert(*id, ())?;
                let mut partitions = transaction.open_table(PARTITIONS)?;
                partitions.retain_in((*id, i32::MIN)..=(*id, i32::MAX), |_, _| false)?;
                let mut transactions = transaction.open_table(TRANSACTIONS)?;
                transactions.retain_in((*id, i32::MIN, 0)..=(*id, i32::MAX, u64::MAX), |_, _| false)?;
            }
            Effect::TopicSwept { id, last: true, .. } => {
                transaction.open_table(DELETED)?.remove(*id)?;
            }
            _ => continue,
        }
        transaction.open_table(NUMBERS)?.insert("last id", meta.last_id)?;
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
