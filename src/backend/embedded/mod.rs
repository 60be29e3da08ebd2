//! The traits over one directory, durable and without Kafka: `bootstrap.servers=embedded:DIR`. For one process; it is no broker, has no
//! port and speaks no protocol.
//!
//! What is acknowledged, committed or visible to a reader has been through an fsync. A thread of its own takes all that is queued, stores it in one
//! transaction and answers (`engine`); what it decides is planned by pure functions (`plan`, `meta`) and written by `store` into
//! `tables`. Records are stored as rows of many (`wire`), and go from writer to reader as such. Retention and compaction
//! go on beside, a bounded step at a time (`upkeep`).
//!
//! Follows Kafka in what the rooms above can see, as `memory` does. Different: retention and compaction know no segments, so that the newest
//! row is subject to them, too; a transaction ends with the handle of its writer and with the process, not by a time-out; records are
//! stored uncompressed. Absent: replication, access rights, members of groups, further partitions of a topic that
//! is there.

mod admin;
mod directory;
mod disk;
mod engine;
mod in_hand;
mod meta;
mod plan;
mod policy;
mod reader;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod transactional;
mod upkeep;
mod view;
mod wire;
mod writer;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use self::admin::EmbeddedAdmin;
use self::directory::{Directory, canonical};
use self::disk::{Disk, FileDisk};
use self::engine::Engine;
use self::reader::EmbeddedReader;
use self::store::Store;
use self::transactional::EmbeddedTransactionalWriter;
use self::upkeep::{Thoroughness, Upkeep};
use self::writer::EmbeddedWriter;
use super::inbox::lock;
use super::rules::{max_record_bytes, now_ms};
use super::{
    Backend, BackendError, ClientSettings, CommittedOffsets, Isolation, RecordReader, RecordWriter, Result, TopicAdmin,
    TransactionalWriter,
};

/// Stores that this process has open, and those that are just being closed, by directory.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<OpenStore>>>> = LazyLock::new(Mutex::default);
/// A store was closed.
static CLOSED: Condvar = Condvar::new();

/// Opens the store in this directory, which is made where it is missing. In one process all share one store; it is closed when the last
/// of its handles is dropped. [`BackendError::Refused`](super::BackendError::Refused) where another process has it open.
pub fn open(directory: &Path) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(EmbeddedBackend { store: open_store(directory)? }))
}

/// Whether there is a store in this directory, open or not.
pub fn is_store(directory: &Path) -> bool {
    directory::holds_store(directory)
}

/// Does at once what the store does by itself in the background: retention, compaction however little there is to win, and removing what
/// deleted topics left. Returns when nothing is left to do.
pub fn upkeep(directory: &Path) -> Result<()> {
    let store = open_store(directory)?;
    store.upkeep.run(&store, now_ms(), Thoroughness::All)
}

fn open_store(directory: &Path) -> Result<Arc<OpenStore>> {
    let path = canonical(directory)?;
    let mut open = lock(&OPEN);
    while let Some(known) = open.get(&path) {
        match known.upgrade() {
            Some(store) => return Ok(store),
            // It is being closed, which ends with a wake-up.
            None => open = CLOSED.wait(open).unwrap_or_else(PoisonError::into_inner),
        }
    }
    let directory = Directory::lock(path.clone())?;
    let disk = Box::new(FileDisk::new(directory.store()));
    let store = Arc::new(OpenStore::start(disk, Some((path.clone(), directory)))?);
    open.insert(path, Arc::downgrade(&store));
    Ok(store)
}

/// A store with its two threads. Everything that is handed out holds it; the last one closes it.
struct OpenStore {
    engine: Arc<Engine>,
    upkeep: Arc<Upkeep>,
    threads: Vec<JoinHandle<()>>,
    /// Given back when the threads have ended.
    directory: Option<(PathBuf, Directory)>,
}

impl OpenStore {
    fn start(disk: Box<dyn Disk>, directory: Option<(PathBuf, Directory)>) -> Result<OpenStore> {
        let (store, meta) = Store::open(disk)?;
        let engine = Arc::new(Engine::new(store, meta));
        let upkeep = Arc::new(Upkeep::default());
        // Without the directory until all runs: to give that back takes a lock which who opens the store has.
        let mut open = OpenStore { engine, upkeep, threads: Vec::new(), directory: None };
        let engine = Arc::clone(&open.engine);
        open.spawn("embedded-writer", move || engine.run())?;
        let (engine, upkeep) = (Arc::clone(&open.engine), Arc::clone(&open.upkeep));
        open.spawn("embedded-upkeep", move || upkeep.run_until_stopped(&engine))?;
        open.directory = directory;
        Ok(open)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        let no_thread = |error| BackendError::Retriable(format!("the thread {name} cannot be started: {error}"));
        self.threads.push(thread.map_err(no_thread)?);
        Ok(())
    }
}

impl Deref for OpenStore {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        self.upkeep.stop();
        self.engine.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store {} panicked", self.engine.store.path().display());
            }
        }
        self.engine.store.close();
        if let Some((path, directory)) = self.directory.take() {
            let mut open = lock(&OPEN);
            drop(directory);
            // A store that was never handed out is not in the table, and neither is one that took its place.
            if open.get(&path).is_some_and(|known| known.strong_count() == 0) {
                open.remove(&path);
            }
            drop(open);
            CLOSED.notify_all();
        }
    }
}

/// A store, opened.
struct EmbeddedBackend {
    store: Arc<OpenStore>,
}

#[async_trait]
impl Backend for EmbeddedBackend {
    fn writer(&self, settings: &ClientSettings, max_bytes: usize) -> Result<Arc<dyn RecordWriter>> {
        let max_record_bytes = max_record_bytes(settings)?;
        Ok(Arc::new(EmbeddedWriter::new(Arc::clone(&self.store), max_bytes, max_record_bytes)))
    }

    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Arc<dyn TransactionalWriter>> {
        let max_record_bytes = max_record_bytes(settings)?;
        let store = Arc::clone(&self.store);
        let writer = EmbeddedTransactionalWriter::open(store, transactional_id, max_record_bytes, timeout).await?;
        Ok(Arc::new(writer))
    }

    fn reader(&self, _settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        Ok(Box::new(EmbeddedReader::new(Arc::clone(&self.store), isolation)))
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(EmbeddedAdmin { engine: Arc::clone(&self.store) })
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        Arc::new(EmbeddedAdmin { engine: Arc::clone(&self.store) })
    }
}
