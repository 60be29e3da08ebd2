//! Sink tasks: they write records elsewhere and say what is durable there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::connector::Props;
use crate::errors::Result;
use crate::record::{SinkRecord, TopicPartition};

/// The offset to read next, for each partition.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// What a sink task asked for since the runtime last looked. Taken with [`SinkTaskContext::take_requests`].
#[derive(Debug, Default)]
pub struct SinkRequests {
    /// Rewind these partitions before the next read.
    pub rewinds: Offsets,
    /// Wait this long before a failed `put` is tried again.
    pub timeout: Option<Duration>,
    /// Commit as soon as the present batch is done.
    pub commit: bool,
    /// Partitions to pause.
    pub pause: Vec<TopicPartition>,
    /// Partitions to resume.
    pub resume: Vec<TopicPartition>,
}

/// What a sink task may ask of the runtime. Requests take effect between two callbacks, in the order of the fields
/// of [`SinkRequests`]; a later request for the same partition wins.
#[derive(Clone, Default)]
pub struct SinkTaskContext {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    assignment: Vec<TopicPartition>,
    requests: SinkRequests,
}

impl SinkTaskContext {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Every write below is a single assignment, so a panic elsewhere leaves nothing half done.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read on from these offsets (Java: `SinkTaskContext.offset`).
    pub fn offset(&self, offsets: Offsets) {
        self.lock().requests.rewinds.extend(offsets);
    }

    /// Wait this long before a `put` that failed with a retriable error is tried again; behind one that succeeded, call `put` after this time even
    /// if there are no records, which otherwise happens after ten seconds (Java: `timeout`).
    pub fn timeout(&self, timeout: Duration) {
        self.lock().requests.timeout = Some(timeout);
    }

    /// Read no more from these partitions until they are resumed.
    pub fn pause(&self, partitions: &[TopicPartition]) {
        let requests = &mut self.lock().requests;
        requests.resume.retain(|resumed| !partitions.contains(resumed));
        requests.pause.extend_from_slice(partitions);
    }

    /// Read from these partitions again.
    pub fn resume(&self, partitions: &[TopicPartition]) {
        let requests = &mut self.lock().requests;
        requests.pause.retain(|paused| !partitions.contains(paused));
        requests.resume.extend_from_slice(partitions);
    }

    /// Commit offsets as soon as the present batch is done.
    pub fn request_commit(&self) {
        self.lock().requests.commit = true;
    }

    /// The partitions that this task reads.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.lock().assignment.clone()
    }

    /// For the runtime: what was asked for since the last call.
    pub fn take_requests(&self) -> SinkRequests {
        std::mem::take(&mut self.lock().requests)
    }

    /// For the runtime: the wait before the next attempt, if one was asked for. Everything else that was asked for stays.
    pub fn take_timeout(&self) -> Option<Duration> {
        self.lock().requests.timeout.take()
    }

    /// For the runtime: the partitions that this task reads from now on.
    pub fn set_assignment(&self, assignment: Vec<TopicPartition>) {
        self.lock().assignment = assignment;
    }
}

/// Writes records. One value serves one life of a task: the runtime never starts it a second time, and calls its
/// methods one after another.
#[async_trait]
pub trait SinkTask: Send {
    /// Whether callbacks block their thread. Such a task gets a named thread of its own; all others cost a future.
    fn blocking(&self) -> bool {
        false
    }

    /// Called before [`SinkTask::start`].
    async fn initialize(&mut self, context: SinkTaskContext) -> Result<()>;

    /// Opens what is written.
    async fn start(&mut self, props: Props) -> Result<()>;

    /// These partitions will be written from now on. A task may ask for other offsets with
    /// [`SinkTaskContext::offset`].
    async fn open(&mut self, _partitions: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    /// Writes a batch. The slice is handed over again unchanged when the call fails with a retriable error, so nothing of a
    /// failed call may count as written unless writing it twice does no harm. An empty batch is a chance to do periodic work.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<()>;

    /// Makes everything that was put durable.
    async fn flush(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }

    /// The offsets that may be committed, at most those given: what `put` has taken. The default flushes and
    /// returns them all.
    async fn pre_commit(&mut self, offsets: &Offsets) -> Result<Offsets> {
        self.flush(offsets).await?;
        Ok(offsets.clone())
    }

    /// These partitions are written no more. Called after `pre_commit` and before the offsets are committed.
    async fn close(&mut self, _partitions: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    /// Called once at the end, also after an error of another callback.
    async fn stop(&mut self) -> Result<()>;
}
