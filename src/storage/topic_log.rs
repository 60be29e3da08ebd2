//! One internal topic: read to the end, then followed for ever; appended to, and waited for (Java: `KafkaBasedLog`).

mod appender;
mod loss;
mod subscribers;
mod tail;
mod transactions;
mod turn;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::backend::{
    Backend, BackendError, ClientSettings, Isolation, ProducerRecord, ReadBatch, RecordReader, TopicPartition,
};

use appender::AppendRequest;
pub use loss::PARTITIONS_LOOK_INTERVAL;
use loss::{PartitionsWatch, grown, supervised};
pub(super) use subscribers::{Subscribers, send_to_all};
pub use transactions::{COMPARE_AND_APPEND_TIMEOUT, CompareError, Transactions};
pub use turn::TurnTaker;

/// A topic that is read at the start may take as long as it needs, but not stand still for longer than this.
pub const OPEN_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the leaders may take to name the ends at the start.
const OPEN_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a topic may be unknown to a broker when it is opened: another one has just said that it is there.
const SHOWS_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait before a request that failed for now is repeated.
const RETRY_WAIT: Duration = Duration::from_millis(100);

/// How long the broker holds back an answer without records. The client learns only from such an answer that a partition is empty, or that it
/// has passed the marker at the end of a transaction; with the client's own 500 ms a start takes 1.5 s and each checked write 0.5 s.
pub(super) const FETCH_WAIT: (&str, &str) = ("fetch.wait.max.ms", "40");

/// Appends that may wait for the writer.
const APPEND_QUEUE: usize = 1024;

/// How many offsets are remembered, newest last, to tell whether a transaction of unknown outcome was committed.
const RECENT_OFFSETS: usize = 4096;

/// What a topic is read and written with.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Client settings of the readers.
    pub reader: ClientSettings,
    /// Client settings of the writer of plain appends. With a `client.id` of their own: handles of equal settings share a client, and the purge
    /// of a suspended task would take these records along.
    pub writer: ClientSettings,
    /// Bytes that may wait in the writer.
    pub writer_max_bytes: usize,
    /// Which records count.
    pub isolation: Isolation,
}

/// Why a topic cannot be read or written now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// It took too long. An append may or may not have been stored.
    #[error("topic {topic}: {what} took longer than {} ms", limit.as_millis())]
    Timeout {
        /// The topic.
        topic: Arc<str>,
        /// What was waited for.
        what: &'static str,
        /// How long it could take.
        limit: Duration,
    },
    /// The log does not hold any more what was read from it, so that nothing known about it counts.
    #[error("topic {topic}: {reason}; it has to be read anew from its beginning")]
    Lost {
        /// The topic.
        topic: Arc<str>,
        /// What was seen.
        reason: Arc<str>,
    },
    /// There is no such topic, or it has changed its shape.
    #[error("topic {topic}: {reason}")]
    Unusable {
        /// The topic.
        topic: Arc<str>,
        /// What was found.
        reason: String,
    },
    /// The backend failed.
    #[error("topic {topic}: {error}")]
    Backend {
        /// The topic.
        topic: Arc<str>,
        /// How.
        error: BackendError,
    },
}

impl LogError {
    /// Whether the same call may succeed later, by another client where this one broke.
    pub fn is_retriable(&self) -> bool {
        match self {
            LogError::Timeout { .. } => true,
            LogError::Backend { error, .. } => {
                error.is_retriable() || matches!(error, BackendError::Purged | BackendError::Fatal(_))
            }
            LogError::Lost { .. } | LogError::Unusable { .. } => false,
        }
    }
}

/// Takes what was read, in order. The state that it makes of a batch must be visible when the call returns: waiters for a
/// position are woken after it.
#[async_trait]
pub trait Fold: Send + 'static {
    /// The records of one batch, perhaps none, and the positions behind them, by partition number. Reading goes on when this returns.
    async fn fold(&mut self, batch: &ReadBatch, positions: &[i64]);
}

/// Ends of all partitions, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// When the request began: the leaders named these ends at that time or later.
    pub asked_at: Instant,
    /// The ends that a reader of this isolation can reach.
    pub offsets: Vec<i64>,
}

/// How far the reader is.
#[derive(Debug, Clone)]
struct Progress {
    /// By partition; -1 before the first answer of the leader.
    positions: Vec<i64>,
    /// Why the log is lost.
    lost: Option<Arc<str>>,
    /// When something was read last.
    moved_at: Instant,
}

/// What the reading future and the handle share.
struct Shared {
    topic: Arc<str>,
    progress: watch::Sender<Progress>,
    recent: Mutex<VecDeque<(i32, i64)>>,
}

impl Shared {
    fn lose(&self, reason: &str) {
        // The first reason counts: the others follow from it.
        self.progress.send_if_modified(|progress| {
            let is_news = progress.lost.is_none();
            if is_news {
                tracing::error!(topic = %self.topic, reason, "the log is lost");
                progress.lost = Some(reason.into());
            }
            is_news
        });
    }

    fn backend_error(&self, error: BackendError) -> LogError {
        LogError::Backend { topic: self.topic.clone(), error }
    }

    fn timeout(&self, what: &'static str, limit: Duration) -> LogError {
        LogError::Timeout { topic: self.topic.clone(), what, limit }
    }
}

/// Stops its future when it is dropped.
pub(super) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One internal topic. Dropping it ends its reader and its writer.
pub struct TopicLog {
    shared: Arc<Shared>,
    partitions: Vec<TopicPartition>,
    progress: watch::Receiver<Progress>,
    /// Asks the leaders for ends. A reader of its own, so that a slow leader does not hold up what others deliver.
    asker: tokio::sync::Mutex<Box<dyn RecordReader>>,
    appends: mpsc::Sender<AppendRequest>,
    /// Asks for a count of the partitions.
    look: Arc<Notify>,
    _parts: [Running; 3],
}

impl TopicLog {
    /// Reads the topic from its beginning to the ends that the leaders name now, gives everything to `fold`, and goes on following it.
    pub async fn open(
        backend: Arc<dyn Backend>,
        topic: &str,
        mut settings: LogSettings,
        fold: impl Fold,
    ) -> Result<TopicLog, LogError> {
        let (name, wait) = FETCH_WAIT;
        settings.reader.entry(name.to_owned()).or_insert_with(|| wait.to_owned());
        let topic: Arc<str> = topic.into();
        let failed = |error| LogError::Backend { topic: topic.clone(), error };
        let Some(count) = partition_count(&*backend, &topic).await.map_err(failed)? else {
            let reason = "it does not exist; it has to be created before it is read".to_owned();
            return Err(LogError::Unusable { topic, reason });
        };
        let partitions: Vec<_> =
            (0..count).map(|partition| TopicPartition { topic: (&*topic).into(), partition }).collect();
        let asker = backend.reader(&settings.reader, settings.isolation).map_err(failed)?;
        let asker = tokio::sync::Mutex::new(asker);
        let (begins, ends) = first_bounds(&asker, &partitions).await.map_err(failed)?;
        // Nothing stands below the beginnings: an empty partition is read already.
        let start = Progress { positions: begins, lost: None, moved_at: Instant::now() };
        let (sender, progress) = watch::channel(start);
        let shared = Arc::new(Shared { topic: topic.clone(), progress: sender, recent: Mutex::default() });

        let tail = tail::Tail::open(backend.clone(), &settings, partitions.clone(), shared.clone(), fold);
        let tail = supervised(&shared, "reader", tail.map_err(failed)?.run());
        let (appends, requests) = mpsc::channel(APPEND_QUEUE);
        let look = Arc::<Notify>::default();
        let (admin, asked) = (backend.admin(), look.clone());
        let watch = PartitionsWatch { admin, shared: shared.clone(), count: partitions.len(), asked };
        let watch = supervised(&shared, "count of partitions", watch.run());
        let appender = appender::Appender::open(backend, settings, shared.clone(), requests).map_err(failed)?;
        let appender = supervised(&shared, "writer", appender.run());
        let log = TopicLog { shared, partitions, progress, asker, appends, look, _parts: [tail, appender, watch] };
        log.wait_while_it_moves(&ends).await?;
        Ok(log)
    }

    /// Its name.
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// The offset behind what was folded of this partition; -1 where there is no such partition.
    pub fn position(&self, partition: i32) -> i64 {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        self.progress.borrow().positions.get(index).copied().unwrap_or(-1)
    }

    /// The positions of all partitions, by number.
    pub fn positions(&self) -> Vec<i64> {
        self.progress.borrow().positions.clone()
    }

    /// Waits until something more is folded, or the log is lost.
    pub async fn moved(&self) {
        let mut progress = self.progress.clone();
        progress.mark_unchanged();
        // The sender lives in `shared` as long as this handle.
        _ = progress.changed().await;
    }

    /// Counts the partitions soon, and not only after [`PARTITIONS_LOOK_INTERVAL`]: somebody may read more of them.
    pub fn look_at_partitions(&self) {
        self.look.notify_one();
    }

    /// Runs a part of what is built upon this log; when it panics, the log is lost.
    pub(super) fn supervise(&self, part: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Running {
        supervised(&self.shared, part, future)
    }

    /// Waits until the log is lost: it was truncated, emptied or made anew, it got more partitions, or a part of it crashed. Whoever acted on its records has to stop, read it anew, and begin
    /// again.
    pub async fn lost(&self) -> LogError {
        let mut progress = self.progress.clone();
        loop {
            if let Err(error) = self.check_not_lost(&progress.borrow_and_update()) {
                return error;
            }
            if progress.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks the leaders, never a cache, for the ends that this reader can reach.
    pub async fn ends(&self, limit: Duration) -> Result<Ends, LogError> {
        let asked_at = Instant::now();
        let deadline = asked_at + limit;
        let before = self.positions();
        let request = async { self.asker.lock().await.end_offsets(&self.partitions, limit).await };
        let offsets = timeout_at(deadline, request)
            .await
            .map_err(|_| self.shared.timeout("asking for the ends", limit))?
            .map_err(|error| self.shared.backend_error(error))?;
        if let Some((index, (end, position))) =
            offsets.iter().zip(&before).enumerate().find(|(_, (end, position))| end < position)
        {
            self.shared.lose(&format!("partition {index} was read up to {position} and ends at {end} now"));
        }
        self.check_not_lost(&self.progress.borrow())?;
        Ok(Ends { asked_at, offsets })
    }

    /// Waits until everything is folded that stood in the log when this was called.
    pub async fn read_to_end(&self, limit: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + limit;
        let ends = loop {
            match self.ends(deadline.saturating_duration_since(Instant::now())).await {
                Err(LogError::Backend { error, .. })
                    if error.is_retriable() && Instant::now() + RETRY_WAIT < deadline =>
                {
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                ends => break ends?,
            }
        };
        self.wait_for(deadline, limit, |positions| reached(positions, &ends.offsets)).await
    }

    /// Waits until the record at this offset is folded.
    pub async fn wait_until_seen(&self, partition: i32, offset: i64, limit: Duration) -> Result<(), LogError> {
        let Some(index) = usize::try_from(partition).ok().filter(|index| *index < self.partitions.len()) else {
            return Err(self.not_read(partition));
        };
        self.wait_for(Instant::now() + limit, limit, |positions| positions[index] > offset).await
    }

    /// Appends records and waits until all are stored. Returns partition and offset of each, in order. After an error some may be stored.
    pub async fn append(&self, records: Vec<ProducerRecord>, limit: Duration) -> Result<Vec<(i32, i64)>, LogError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        let request = AppendRequest::new(records, reply);
        let stored = async {
            // The writing future ends only with this handle.
            self.appends.send(request).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(limit, stored).await {
            Err(_) => Err(self.shared.timeout("an append", limit)),
            Ok(Some(result)) => {
                let stored = result.map_err(|error| self.shared.backend_error(error))?;
                let known =
                    |partition: i32| usize::try_from(partition).is_ok_and(|index| index < self.partitions.len());
                match stored.iter().find(|(partition, _)| !known(*partition)) {
                    Some((partition, _)) => Err(self.not_read(*partition)),
                    None => Ok(stored),
                }
            }
            Ok(None) => Err(self.writer_ended()),
        }
    }

    /// The error for a record in a partition that is not read, which is also the end of this log.
    fn not_read(&self, partition: i32) -> LogError {
        let count = usize::try_from(partition).map_or(0, |index| index + 1);
        let reason = grown(count, self.partitions.len());
        self.shared.lose(&reason);
        LogError::Lost { topic: self.shared.topic.clone(), reason: reason.into() }
    }

    /// The error for a wait that took too long.
    pub(super) fn timeout(&self, what: &'static str, limit: Duration) -> LogError {
        self.shared.timeout(what, limit)
    }

    /// The error for a future of this log that has ended while its handle lives.
    pub(super) fn writer_ended(&self) -> LogError {
        self.shared.backend_error(BackendError::Fatal("the writer ended".into()))
    }

    /// Whether a record of this offset was delivered lately.
    fn delivered_lately(&self, at: (i32, i64)) -> bool {
        self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner).contains(&at)
    }

    async fn wait_for(
        &self,
        deadline: Instant,
        limit: Duration,
        done: impl Fn(&[i64]) -> bool,
    ) -> Result<(), LogError> {
        let mut progress = self.progress.clone();
        loop {
            {
                let now = progress.borrow_and_update();
                self.check_not_lost(&now)?;
                if done(&now.positions) {
                    return Ok(());
                }
            }
            match timeout_at(deadline, progress.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(self.shared.timeout("reading", limit)),
            }
        }
    }

    async fn wait_while_it_moves(&self, ends: &[i64]) -> Result<(), LogError> {
        let mut progress = self.progress.clone();
        loop {
            {
                let now = progress.borrow_and_update();
                self.check_not_lost(&now)?;
                if reached(&now.positions, ends) {
                    return Ok(());
                }
            }
            let changed = tokio::time::timeout(OPEN_STALL_TIMEOUT, progress.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Err(self.shared.timeout("reading the next part of it", OPEN_STALL_TIMEOUT));
            }
        }
    }

    fn check_not_lost(&self, progress: &Progress) -> Result<(), LogError> {
        match &progress.lost {
            None => Ok(()),
            Some(reason) => Err(LogError::Lost { topic: self.shared.topic.clone(), reason: reason.clone() }),
        }
    }
}

/// How many partitions the topic has; `None` where there is no topic. Brokers hear of a new one at different times.
async fn partition_count(backend: &dyn Backend, topic: &str) -> Result<Option<i32>, BackendError> {
    let deadline = Instant::now() + SHOWS_UP_TIMEOUT;
    loop {
        let found = backend.admin().describe_topic(topic).await?;
        let count = found.map(|found| found.partitions).filter(|count| *count > 0);
        if count.is_some() || Instant::now() + RETRY_WAIT > deadline {
            return Ok(count);
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
}

/// Where all partitions begin and end. A topic that was created a moment ago may not have leaders yet.
async fn first_bounds(
    asker: &tokio::sync::Mutex<Box<dyn RecordReader>>,
    partitions: &[TopicPartition],
) -> Result<(Vec<i64>, Vec<i64>), BackendError> {
    let deadline = Instant::now() + OPEN_REQUEST_TIMEOUT;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let asker = asker.lock().await;
        let begins = asker.beginning_offsets(partitions, rest).await;
        let bounds = match begins {
            Ok(begins) => asker.end_offsets(partitions, rest).await.map(|ends| (begins, ends)),
            Err(error) => Err(error),
        };
        match bounds {
            Err(error) if error.is_retriable() && Instant::now() + RETRY_WAIT < deadline => {}
            bounds => return bounds,
        }
        drop(asker);
        tokio::time::sleep(RETRY_WAIT).await;
    }
}

fn reached(positions: &[i64], ends: &[i64]) -> bool {
    positions.iter().zip(ends).all(|(position, end)| position >= end)
}
