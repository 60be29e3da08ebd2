//! Source tasks: they read from elsewhere and say how far they got.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::connector::Props;
use crate::errors::Result;
use crate::offsets::OffsetStorageReader;
use crate::record::SourceRecord;

/// What a source task may ask of the runtime.
#[derive(Clone)]
pub struct SourceTaskContext {
    offset_storage_reader: Arc<dyn OffsetStorageReader>,
}

impl SourceTaskContext {
    /// Wraps the runtime's side.
    pub fn new(offset_storage_reader: Arc<dyn OffsetStorageReader>) -> Self {
        SourceTaskContext { offset_storage_reader }
    }

    /// Reads the committed offsets of this connector.
    pub fn offset_storage_reader(&self) -> &Arc<dyn OffsetStorageReader> {
        &self.offset_storage_reader
    }
}

/// Where Kafka stored a record (Java: `RecordMetadata`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The Kafka partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

/// Reads records. One value serves one life of a task: the runtime never starts it a second time, and calls its
/// methods one after another.
#[async_trait]
pub trait SourceTask: Send {
    /// Whether callbacks block their thread. Such a task gets a named thread of its own; all others cost a future.
    fn blocking(&self) -> bool {
        false
    }

    /// Whether [`SourceTask::commit_record`] is wanted. The runtime then keeps every record until its offset is
    /// durable, which costs memory; the default is not to.
    fn wants_commit_record(&self) -> bool {
        false
    }

    /// Called before [`SourceTask::start`].
    async fn initialize(&mut self, context: SourceTaskContext) -> Result<()>;

    /// Opens what is read and looks up the committed offsets.
    async fn start(&mut self, props: Props) -> Result<()>;

    /// The next records, in the order of their offsets within each source partition; an empty batch when there is
    /// nothing new. It may wait for data, but should return within about a second: upstream commits and an orderly
    /// stop happen between two calls. A retriable error is logged and `poll` is called again.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>>;

    /// How long the runtime waits before it polls again after an empty batch. A task that waits for data inside of
    /// `poll` returns zero.
    fn poll_interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Everything whose offset is durable by now may be released upstream. Called after each flush of offsets, also
    /// when there was nothing to flush. Errors are logged; the task goes on.
    async fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    /// One record and where Kafka stored it, or `None` where it was dropped by a transformation or a tolerated error.
    /// Called in order, after the offset of the record is durable and before [`SourceTask::commit`] (Java calls it
    /// earlier, at the acknowledgement, when a crash may still lose the offset). Only with
    /// [`SourceTask::wants_commit_record`].
    async fn commit_record(&mut self, _record: &SourceRecord, _metadata: Option<RecordMetadata>) -> Result<()> {
        Ok(())
    }

    /// Called once at the end, also after an error of another callback.
    async fn stop(&mut self) -> Result<()>;
}
