//! The store: its file opened and closed, groups committed, rows read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, ReadableDatabase};

use super::disk::{Boxed, Disk};
use super::meta::{Effect, Meta};
use super::tables::{ROWS, StoreError, StoreResult, damaged, last_commit, load, prepare, write};
use super::wire::{Row, header_of};
use crate::backend::{BackendError, Result};

/// Bytes that the store's own cache of pages may take; half of it holds what is not written yet.
pub(super) const CACHE_BYTES: usize = 32 << 20;
/// Bytes that are left free on the disk, so that what deletes can still be written.
const RESERVED_BYTES: u64 = 4 << 20;

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
    /// How often it was opened again. Changes with `database`.
    reopened: AtomicU64,
    cluster_id: u64,
    /// The number of the last commit that is known to be on the disk; each has the next one.
    commits: AtomicU64,
}

impl Store {
    /// Opens or makes the store and reads everything but rows.
    pub(super) fn open(disk: Box<dyn Disk>) -> Result<(Store, Meta)> {
        let (database, reopened, commits) = (RwLock::new(None), AtomicU64::new(0), AtomicU64::new(0));
        let mut store = Store { disk, database, reopened, cluster_id: 0, commits };
        let opened = store.open_database().and_then(|database| {
            store.cluster_id = prepare(&database)?;
            *store.commits.get_mut() = last_commit(&database)?;
            let meta = load(&database)?;
            *store.database.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(database);
            Ok(meta)
        });
        let meta = opened.map_err(|error| store.named("cannot be opened", &error))?;
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

    /// The error with what it concerns; refused where trying again changes nothing.
    fn named(&self, what: &str, error: &StoreError) -> BackendError {
        match error {
            StoreError::Damaged { .. } | StoreError::Layout(_) => {
                BackendError::Refused(format!("the store {} {what}: {error}", self.disk.path().display()))
            }
            error => self.retriable(what, error),
        }
    }

    /// Writes the effects in one transaction and returns when they are on the disk. `meta` is what they lead to. After an error all of it
    /// or nothing is there; [`Store::reopen`] says which.
    pub(super) fn commit(&self, effects: &[Effect], meta: &Meta) -> Result<()> {
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
    pub(super) fn check_room(&self, row_bytes: usize, meta: &Meta) -> Result<()> {
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
        let rows = partitions.map(|partition| partition.bytes).sum::<u64>() + meta.deleted.values().sum::<u64>();
        let used = 2 * rows;
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
        self.reopened.fetch_add(1, Ordering::Relaxed);
        Ok(found > self.commits.swap(found, Ordering::Relaxed))
    }

    pub(super) fn is_open(&self) -> bool {
        self.database.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn closed(&self) -> BackendError {
        self.retriable("is closed", &"the disk met an error, and it is about to be opened again")
    }

    /// Closes the file, in good order where no error came before: the next opening is quicker by that.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads. After an error of the disk it is closed, as after that of a commit: until it is opened again there would be no other answer.
    fn read<T>(&self, read: impl FnOnce(&Database) -> StoreResult<T>) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_ref() else { return Err(self.closed()) };
        let (found, reopened) = (read(open), self.reopened.load(Ordering::Relaxed));
        drop(database);
        found.map_err(|error| {
            if error.is_of_the_disk() {
                let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
                // Unless it was opened again in between.
                database.take_if(|_| self.reopened.load(Ordering::Relaxed) == reopened);
            }
            self.named("cannot be read", &error)
        })
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

    /// Keys of rows of a topic that was deleted, at most `max`, and their bytes.
    pub(super) fn rows_left(&self, id: u64, max: usize) -> Result<(Vec<(i32, i64)>, u64)> {
        self.read(|database| {
            let table = database.begin_read()?.open_table(ROWS)?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for entry in table.range((id, i32::MIN, i64::MIN)..(id + 1, i32::MIN, i64::MIN))?.take(max) {
                let (key, value) = entry?;
                rows.push((key.value().1, key.value().2));
                bytes += value.value().len() as u64;
            }
            Ok((rows, bytes))
        })
    }
}
