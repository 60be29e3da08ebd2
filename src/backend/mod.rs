//! Where records live: few traits that the runtime sees Kafka through.
//!
//! Everything above this room works on the traits alone and does not know which implementation runs. `kafka` is the only
//! place that names the Kafka client; `embedded` keeps records in a directory, for one process without Kafka; `memory` keeps everything in the
//! process, with the same order, compaction and failure rules, for tests. One suite holds all three to it: tests/it/backend.rs.

pub mod embedded;
mod inbox;
pub mod kafka;
pub mod memory;
pub mod partitioner;
mod record;
mod rules;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use connect_api::TopicPartition;

pub use record::{Ack, ConsumerRecord, Header, ProducerRecord, ReadBatch};

/// Client settings in librdkafka's names, as they reach the client after all prefixes and overrides are resolved. Equal
/// settings share a client.
pub type ClientSettings = BTreeMap<String, String>;

/// What the backend could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// The same call may succeed later: no connection, no leader, a time-out.
    #[error("{0}")]
    Retriable(String),
    /// The record or request itself is refused and will be refused again: too large, not authorized, unknown topic.
    #[error("{0}")]
    Refused(String),
    /// The principal may not write under the transactional id. The same call succeeds once it may.
    #[error("{0}")]
    TransactionalIdAuthorization(String),
    /// Another writer took over the transactional id. The writer is of no use any more.
    #[error("another writer took over the transactional id: {0}")]
    Fenced(String),
    /// The client is broken for good and has to be built anew.
    #[error("the client cannot go on: {0}")]
    Fatal(String),
    /// The record was purged from the queue before it was sent.
    #[error("purged before it was sent")]
    Purged,
    /// The handle was revoked: its owner was abandoned and may write no more.
    #[error("this writer was revoked")]
    Revoked,
    /// The log does not hold what the reader stands at: it was truncated, emptied or made anew.
    #[error("{0}")]
    OffsetOutOfRange(String),
    /// A reader's topic or partition is not there, not yet or not any more.
    #[error("{0}")]
    UnknownPartition(String),
}

impl BackendError {
    /// Whether the same request may succeed later. A partition that is not there may be one whose leader nobody knows at the moment.
    pub fn is_retriable(&self) -> bool {
        matches!(self, BackendError::Retriable(_) | BackendError::UnknownPartition(_))
    }
}

/// The result of a call of this room.
pub type Result<T, E = BackendError> = std::result::Result<T, E>;

/// Opens readers and writers of one Kafka cluster, or of what stands for it.
#[async_trait]
pub trait Backend: Send + Sync {
    /// A handle to the writer of these settings. Handles of equal settings share one client; each has its own bound:
    /// at most `max_bytes` of keys, values and headers taken and not acknowledged; a single larger record
    /// is taken when nothing else is in flight.
    fn writer(&self, settings: &ClientSettings, max_bytes: usize) -> Result<Arc<dyn RecordWriter>>;

    /// A writer of its own for a transactional id. Fences every other writer of that id before it returns.
    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Arc<dyn TransactionalWriter>>;

    /// A reader that is assigned by hand and belongs to no group.
    fn reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>>;

    /// As [`Backend::reader`], for one of many: readers of equal settings share clients, where the backend has any. Each has its own bound of what is
    /// read ahead, and one that does not read holds up nobody.
    fn shared_reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        self.reader(settings, isolation)
    }

    /// Committed offsets of consumer groups.
    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets>;

    /// Topics, groups and the cluster.
    fn admin(&self) -> Arc<dyn TopicAdmin>;
}

/// Which records a reader gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// All, also those of open and aborted transactions; the end is the high watermark.
    ReadUncommitted,
    /// Those of no or of committed transactions; the end is the last stable offset.
    ReadCommitted,
}

/// Writes records in batches: idempotent, acknowledged by all in-sync replicas, keyed records by Java's murmur2.
///
/// Each record taken gets the next sequence number of this handle, from 0. Its [`Ack`] arrives exactly once. Order of records of one
/// partition is kept. All calls are cheap and none blocks a thread.
#[async_trait]
pub trait RecordWriter: Send + Sync {
    /// Queues records from the front of `records` until a bound is reached, and returns how many were taken. `Ok(0)`
    /// for a full queue: wait for [`RecordWriter::changed`]. An error concerns the first record that was not taken and takes none behind it;
    /// records taken before it in the same call are reported by `Ok` and the error comes with the next call.
    fn send(&self, records: &[ProducerRecord]) -> Result<usize>;

    /// Appends the acknowledgements that arrived since the last call to `acks`. Within one partition
    /// deliveries come in order; failures, purges among them, may not: sort by sequence before sending again.
    fn take_acks(&self, acks: &mut Vec<Ack>);

    /// Waits until there may be acknowledgements to take. Cancel safe; one waiter at a time. An
    /// acknowledgement that arrived since the last `take_acks` ends the wait at once.
    async fn changed(&self);

    /// How many records are taken and not yet acknowledged (acknowledgements not taken yet count as acknowledged).
    fn in_flight(&self) -> usize;

    /// Why the brokers do not let the client in, where they have refused its login since this handle was opened; it goes on trying. Those who can
    /// end for that reason ask; a record does not fail of it. A client that was let in before is refused for 20 s before this says so.
    fn refused_login(&self) -> Option<BackendError> {
        None
    }

    /// Hands the queue to the wire now instead of waiting for `linger.ms`, and waits until nothing is in flight.
    async fn flush(&self, timeout: Duration) -> Result<()>;

    /// Removes what is queued and not on the wire. Those records get an ack with [`BackendError::Purged`]. With a
    /// shared client this purges the records of all its handles. It takes effect a moment after it returns: what is sent in between may be
    /// purged as well, and gets that ack. No record passes one of its partition that was sent before it and is purged.
    fn purge(&self);

    /// Closes this handle for good, from any thread: its queued records are purged as far as they are not on the wire and every later
    /// `send` is refused with [`BackendError::Revoked`].
    fn revoke(&self);
}

/// Writes in transactions. One transaction at a time; nothing can be sent outside of one. After an error of `send` or `send_offsets`, or a
/// dropped `send`, only an abort is left.
#[async_trait]
pub trait TransactionalWriter: Send + Sync {
    /// Begins a transaction.
    fn begin(&self) -> Result<()>;

    /// Sends records inside the transaction, as many as given, waiting for room; returns when all are acknowledged, with the
    /// partition and offset of each.
    async fn send(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>>;

    /// Adds consumer offsets of a group to the transaction.
    async fn send_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()>;

    /// Commits. [`BackendError::Fenced`] when another writer took the id over: then nothing was committed. After
    /// [`BackendError::Retriable`] the same call may be made again. A transaction without records and offsets never reaches the broker:
    /// its commit succeeds for a fenced writer, too, and proves nothing.
    async fn commit(&self, timeout: Duration) -> Result<()>;

    /// Aborts: purges, and tells the broker. Where no transaction is open there is nothing to do.
    async fn abort(&self, timeout: Duration) -> Result<()>;
}

/// Where to start reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOffset {
    /// The oldest record there is.
    Beginning,
    /// Behind the newest one.
    End,
    /// This offset.
    At(i64),
}

/// Reads assigned partitions in batches. Joins no group and commits nothing.
#[async_trait]
pub trait RecordReader: Send {
    /// Reads these partitions and no others from now on.
    fn assign(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()>;

    /// Adds partitions without disturbing the others.
    fn add(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()>;

    /// Stops reading these partitions without disturbing the others.
    fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Delivers nothing of these partitions until they are resumed; nothing is lost.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Delivers again.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()>;

    /// Goes on reading at these offsets; works on paused partitions, too. Nothing read ahead is delivered any more.
    async fn seek(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()>;

    /// Clears `batch` and fills it with what is there, waiting up to `max_wait` for the first record or event. At most `max_records`. Cancel
    /// safe. [`BackendError::OffsetOutOfRange`] when the position is not in the log (no silent reset),
    /// [`BackendError::UnknownPartition`] when a partition is not there; the others can be read on.
    async fn read(&mut self, batch: &mut ReadBatch, max_records: usize, max_wait: Duration) -> Result<()>;

    /// The offset behind the last record that [`RecordReader::read`] delivered (or where it starts) for each assigned partition; behind a
    /// transaction marker only after the end-of-partition event.
    fn position(&self, partition: &TopicPartition) -> Option<i64>;

    /// Asks the leaders now, never a cache, for the ends that this reader can reach under its isolation.
    async fn end_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>>;

    /// Asks the leaders for the oldest offsets there are.
    async fn beginning_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>>;
}

/// Offsets of consumer groups, read and written without being a member.
#[async_trait]
pub trait CommittedOffsets: Send + Sync {
    /// The committed offset of each partition; `None` where there is none. Waits for open transactions.
    async fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>>;

    /// Every committed offset of the group.
    async fn all(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>>;

    /// Commits. Refused while the group has members that do not know us.
    async fn commit(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()>;

    /// Forgets the offsets of these partitions.
    async fn delete(&self, group: &str, partitions: &[TopicPartition]) -> Result<()>;
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its settings with their defaults, as far as the backend has them; `None` where they may not be described.
    pub settings: Option<BTreeMap<String, String>>,
}

impl TopicDescription {
    /// One of its settings, if it has it and it may be described.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(|value| value.trim())
    }
}

/// What tells one topic from another of the same name, and how many partitions it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundTopic {
    /// A topic that was deleted and made anew has another one.
    pub id: u128,
    /// How many partitions it has.
    pub partitions: i32,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// -1: the broker's default.
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    /// Topic settings.
    pub config: BTreeMap<String, String>,
}

/// A consumer or Connect group as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// `Empty`, `Stable`, `PreparingRebalance`, `Dead` and so on.
    pub state: String,
    /// `connect` for a group of Java Connect workers.
    pub protocol_type: String,
    /// How many members it has.
    pub members: usize,
}

/// Topics, groups and the cluster.
#[async_trait]
pub trait TopicAdmin: Send + Sync {
    /// The id of the cluster. Also the first sign that it can be reached.
    async fn cluster_id(&self) -> Result<String>;

    /// `None` where the topic does not exist.
    async fn describe_topic(&self, name: &str) -> Result<Option<TopicDescription>>;

    /// Those of these topics that there are now. Asks the brokers, never a cache, and makes no topic.
    async fn find_topics(&self, names: &[String]) -> Result<BTreeMap<String, FoundTopic>>;

    /// Partition counts of all topics that can be seen.
    async fn list_topics(&self) -> Result<BTreeMap<String, i32>>;

    /// Creates a topic; one that exists already is no error.
    async fn create_topic(&self, topic: &NewTopic) -> Result<()>;

    /// Sets one setting of a topic and leaves the others alone.
    async fn set_topic_setting(&self, name: &str, setting: &str, value: &str) -> Result<()>;

    /// Deletes a topic; one that does not exist is no error.
    async fn delete_topic(&self, name: &str) -> Result<()>;

    /// `None` where there is no such group.
    async fn describe_group(&self, group: &str) -> Result<Option<GroupDescription>>;
}

/// Whether there is something to look at. To open an embedded store makes it where it is missing; brokers are not asked.
pub fn exists(bootstrap_servers: &str) -> bool {
    bootstrap_servers.strip_prefix("embedded:").is_none_or(|directory| embedded::is_store(directory.as_ref()))
}

/// Whether all that is there is of the process that has it open, so that nobody else can write to it.
pub fn is_of_one_process(bootstrap_servers: &str) -> bool {
    matches!(bootstrap_servers.split_once(':'), Some(("memory" | "embedded", _)))
}

/// Opens the backend that `bootstrap.servers` names: `memory:NAME`, `embedded:DIR` or Kafka brokers.
pub fn open(bootstrap_servers: &str, settings: &ClientSettings) -> Result<Arc<dyn Backend>> {
    match bootstrap_servers.split_once(':') {
        Some(("memory", name)) => Ok(memory::open(name)),
        Some(("embedded", directory)) => embedded::open(std::path::Path::new(directory)),
        _ => kafka::open(bootstrap_servers, settings),
    }
}
