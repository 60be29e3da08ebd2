//! The pump of a sink task: read, convert, transform, put, and the order of put, flush and commit.
//!
//! The order is the invariant of this file: an offset is committed only when `put` has taken every record in front of it
//! and `pre_commit` said afterwards that it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use connect_api::sink::Offsets;
use connect_api::{Props, SinkRecord, SinkTask, SinkTaskContext, TopicPartition};
use tokio::time::{Instant, sleep};

use super::control::{CommitSignal, Control, Directive, Report};
use super::convert::SinkConverter;
use super::delivery::until;
use super::phase::{Failure, Phase};
use super::topic_tracker::TopicTracker;
use crate::backend::{BackendError, CommittedOffsets, ReadBatch, RecordReader, StartOffset, TopicAdmin};
use crate::metrics::TaskMetrics;

/// Longest wait for records before an idle task gets an empty batch and directives are looked at.
const READ_WAIT: Duration = Duration::from_millis(1000);

/// How long a pump waits before a failed `put` is tried again, unless the task says otherwise.
const PUT_RETRY: Duration = Duration::from_millis(100);

/// How long a pump waits after a broker could not be reached.
const BROKER_RETRY: Duration = Duration::from_millis(500);

/// How often new topics and partitions are looked for.
const PARTITIONS_REFRESH: Duration = Duration::from_secs(30);

/// Which partitions belong to a task, of all topics that there are.
pub type ChoosePartitions = Box<dyn Fn(&BTreeMap<String, i32>) -> Vec<TopicPartition> + Send + Sync>;

/// `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
}

/// Everything that the pump of a sink task needs.
pub struct SinkPump {
    /// The task, fresh from its factory.
    pub task: Box<dyn SinkTask>,
    /// Its configuration.
    pub props: Props,
    /// Converters and transformations.
    pub converter: SinkConverter,
    /// Hears of the topics that it reads.
    pub topics: TopicTracker,
    /// Reads its partitions.
    pub reader: Box<dyn RecordReader>,
    /// Committed offsets of its group.
    pub committed: Arc<dyn CommittedOffsets>,
    /// `connect-<name>`, unless overridden.
    pub group: String,
    /// Where a partition without a committed offset begins.
    pub reset: Reset,
    /// Most records in one `put` (`max.poll.records`).
    pub max_poll_records: usize,
    /// Says which topics there are.
    pub admin: Arc<dyn TopicAdmin>,
    /// Which partitions are this task's.
    pub choose: ChoosePartitions,
    /// Raised by its offset committer.
    pub commit: Arc<CommitSignal>,
    /// Longest time of one commit (`offset.flush.timeout.ms`).
    pub commit_timeout: Duration,
    /// The line to its actor.
    pub control: Control,
    /// Counters.
    pub metrics: Arc<TaskMetrics>,
    /// What the pump itself keeps; begins as default.
    pub state: SinkState,
}

/// What the pump keeps between two batches.
#[derive(Default)]
pub struct SinkState {
    context: SinkTaskContext,
    /// Behind the last record that `put` has taken.
    current: Offsets,
    /// The group's committed offsets, or where reading began without one: everything in front of these needs no commit.
    last_committed: Offsets,
    refreshed: Option<Instant>,
    /// The reader went back since this was last reset.
    rewound: bool,
    /// The batch that is put; empty in between.
    records: Vec<SinkRecord>,
}

impl SinkPump {
    /// Runs the task until it is stopped or fails. Everything is cleaned up when it returns.
    pub async fn run(mut self) -> Result<(), Failure> {
        let outcome = self.start_and_pump().await;
        let stopped = self.finish().await;
        match (&outcome, stopped) {
            (Ok(()), Err(failure)) => {
                tracing::warn!(failure = failure.message, "stop failed; everything was committed before");
                Ok(())
            }
            _ => outcome,
        }
    }

    async fn start_and_pump(&mut self) -> Result<(), Failure> {
        self.control.report(Report::Starting);
        if !self.wait_until_running().await? {
            return Ok(());
        }
        self.enter(Phase::Initialize);
        let context = self.state.context.clone();
        self.task.initialize(context).await.map_err(|error| Failure::new(Phase::Initialize, &error))?;
        self.enter(Phase::Start);
        let props = std::mem::take(&mut self.props);
        self.task.start(props).await.map_err(|error| Failure::new(Phase::Start, &error))?;
        let mut batch = ReadBatch::default();
        let mut last_put = Instant::now();
        while self.wait_until_running().await? {
            self.control.report(Report::Running);
            self.refresh_partitions().await?;
            self.apply_requests().await?;
            if self.commit.take() {
                self.commit_offsets().await?;
            }
            self.enter(Phase::Consume);
            // Commits interrupt the wait and do not prolong it.
            let wait = READ_WAIT.saturating_sub(last_put.elapsed());
            let read = tokio::select! {
                read = self.reader.read(&mut batch, self.max_poll_records, wait) => read,
                _ = self.commit.wait() => continue,
                _ = self.control.changed_from(Directive::Run) => continue,
            };
            match read {
                Ok(()) => {
                    // The lease may have ended, or a pause begun, while the read waited: then the batch waits as well.
                    self.state.rewound = false;
                    if !self.wait_until_running().await? {
                        return Ok(());
                    }
                    self.control.report(Report::Running);
                    if self.state.rewound {
                        self.read_again_from_current().await?;
                        continue;
                    }
                    self.deliver(&mut batch).await?;
                    last_put = Instant::now();
                }
                Err(BackendError::Retriable(reason)) => {
                    tracing::warn!(reason, "reading failed and is tried again");
                    self.pause_for(BROKER_RETRY).await;
                }
                Err(BackendError::OffsetOutOfRange(reason)) => self.reset_lost_positions(&reason).await?,
                Err(error) => return Err(Failure::new(Phase::Consume, &error)),
            }
        }
        Ok(())
    }

    /// Waits while paused or suspended. `false`: the task is to stop.
    async fn wait_until_running(&mut self) -> Result<bool, Failure> {
        loop {
            let directive = self.control.directive();
            match directive {
                Directive::Run => return Ok(true),
                Directive::Stop { .. } => return Ok(false),
                Directive::Pause | Directive::Halt => {
                    self.control.report(Report::Paused);
                    self.commit_offsets().await?;
                }
                Directive::Suspend => {}
            }
            self.enter(Phase::Idle);
            self.control.changed_from(directive).await;
        }
    }

    /// Waits, but not past a change of the directive.
    async fn pause_for(&mut self, time: Duration) {
        self.enter(Phase::Idle);
        tokio::select! {
            _ = sleep(time) => {}
            _ = self.control.changed_from(Directive::Run) => {}
        }
    }

    /// Looks for new topics and partitions and opens them; those that are read already are not disturbed.
    async fn refresh_partitions(&mut self) -> Result<(), Failure> {
        let due = self.state.refreshed.is_none_or(|last| last.elapsed() >= PARTITIONS_REFRESH);
        if !due {
            return Ok(());
        }
        self.enter(Phase::Consume);
        let topics = match self.admin.list_topics().await {
            Ok(topics) => topics,
            Err(error) => {
                tracing::warn!(%error, "topics could not be listed; tried again");
                self.pause_for(BROKER_RETRY).await;
                return Ok(());
            }
        };
        let mine = (self.choose)(&topics);
        let new: Vec<_> =
            mine.iter().filter(|partition| !self.state.current.contains_key(partition)).cloned().collect();
        if !new.is_empty() && !self.open(&new).await? {
            self.pause_for(BROKER_RETRY).await;
            return Ok(());
        }
        // A topic that is still to come is looked for often: the first records should not wait half a minute.
        self.state.refreshed = (!mine.is_empty()).then(Instant::now);
        if mine.is_empty() {
            self.pause_for(BROKER_RETRY).await;
        }
        Ok(())
    }

    /// Starts reading partitions behind their committed offsets. `false`: the broker could not say; try again.
    async fn open(&mut self, partitions: &[TopicPartition]) -> Result<bool, Failure> {
        let committed = match self.committed.committed(&self.group, partitions).await {
            Ok(committed) => committed,
            Err(BackendError::Retriable(reason)) => {
                tracing::warn!(reason, "committed offsets could not be read; tried again");
                return Ok(false);
            }
            Err(error) => return Err(Failure::new(Phase::Consume, &error)),
        };
        let resets = match self.reset_offsets(partitions).await {
            Ok(resets) => resets,
            Err(BackendError::Retriable(reason)) => {
                tracing::warn!(reason, "the bounds of partitions could not be asked for; tried again");
                return Ok(false);
            }
            Err(error) => return Err(Failure::new(Phase::Consume, &error)),
        };
        let mut starts = Vec::with_capacity(partitions.len());
        for ((partition, committed), reset) in partitions.iter().zip(committed).zip(resets) {
            let start = committed.unwrap_or(reset);
            starts.push((partition.clone(), StartOffset::At(start)));
            self.state.current.insert(partition.clone(), start);
            // What a task would begin with anyway needs no commit.
            self.state.last_committed.insert(partition.clone(), start);
        }
        self.reader.add(&starts).map_err(|error| Failure::new(Phase::Consume, &error))?;
        self.state.context.set_assignment(self.state.current.keys().cloned().collect());
        self.enter(Phase::Open);
        self.task.open(partitions).await.map_err(|error| Failure::new(Phase::Open, &error))?;
        Ok(true)
    }

    /// Where partitions without a committed offset begin, as `auto.offset.reset` says.
    async fn reset_offsets(&mut self, partitions: &[TopicPartition]) -> Result<Vec<i64>, BackendError> {
        match self.reset {
            Reset::Earliest => self.reader.beginning_offsets(partitions, self.commit_timeout).await,
            Reset::Latest => self.reader.end_offsets(partitions, self.commit_timeout).await,
        }
    }

    /// Partitions whose position is not in the log any more, or not yet, begin where `auto.offset.reset` says, as a Java
    /// consumer's do. Records that retention deleted before they were read are lost, so this is an error in the log.
    async fn reset_lost_positions(&mut self, reason: &str) -> Result<(), Failure> {
        let failed = |error: BackendError| Failure::new(Phase::Consume, &error);
        let partitions: Vec<_> = self.state.current.keys().cloned().collect();
        let begins = self.reader.beginning_offsets(&partitions, self.commit_timeout).await.map_err(failed)?;
        let ends = self.reader.end_offsets(&partitions, self.commit_timeout).await.map_err(failed)?;
        let resets = self.reset_offsets(&partitions).await.map_err(failed)?;
        let mut seeks = Vec::new();
        for (((partition, begin), end), reset) in partitions.into_iter().zip(begins).zip(ends).zip(resets) {
            let position = self.reader.position(&partition).unwrap_or(begin);
            if !(begin..=end).contains(&position) {
                tracing::error!(%partition, position, begin, end, reset, reason, "the position is not in the log; reading on elsewhere");
                seeks.push((partition, reset));
            }
        }
        if seeks.is_empty() {
            return Err(Failure::text(Phase::Consume, reason));
        }
        self.reader.seek(&seeks).await.map_err(failed)?;
        self.state.current.extend(seeks.iter().cloned());
        self.state.last_committed.extend(seeks);
        Ok(())
    }

    /// Does what the task asked for.
    async fn apply_requests(&mut self) -> Result<(), Failure> {
        let requests = self.state.context.take_requests();
        let failed = |error: BackendError| Failure::new(Phase::Consume, &error);
        if !requests.rewinds.is_empty() {
            let offsets: Vec<_> = requests.rewinds.into_iter().collect();
            self.reader.seek(&offsets).await.map_err(failed)?;
            self.state.current.extend(offsets);
            self.state.rewound = true;
        }
        if !requests.pause.is_empty() {
            self.reader.pause(&requests.pause).map_err(failed)?;
        }
        if !requests.resume.is_empty() {
            self.reader.resume(&requests.resume).map_err(failed)?;
        }
        if requests.commit {
            self.commit.raise();
        }
        Ok(())
    }

    /// Converts a batch, puts it, and only then moves on.
    async fn deliver(&mut self, batch: &mut ReadBatch) -> Result<(), Failure> {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let bytes: usize = batch.records.iter().map(|record| length(&record.key) + length(&record.value)).sum();
        self.metrics.read(batch.records.len() as u64, bytes as u64);
        let mut offsets = Offsets::new();
        for record in &batch.records {
            match offsets.get_mut(batch.partition(record)) {
                Some(next) => *next = record.offset + 1,
                None => drop(offsets.insert(batch.partition(record).clone(), record.offset + 1)),
            }
        }
        self.convert(batch)?;
        self.topics.used(offsets.keys().map(|partition| &*partition.topic));
        // Kept from batch to batch: it is large, and its memory would be asked for and given back each time.
        let mut records = std::mem::take(&mut self.state.records);
        let taken = self.put(&records).await?;
        let count = records.len();
        records.clear();
        self.state.records = records;
        if !taken {
            return Ok(());
        }
        self.metrics.written(count as u64, 0);
        // Records that a transformation dropped are done as well.
        self.state.current.extend(offsets);
        Ok(())
    }

    /// Makes `state.records` of a batch.
    fn convert(&mut self, batch: &mut ReadBatch) -> Result<(), Failure> {
        self.enter(Phase::Convert);
        let topics: Vec<ByteString> = batch.partitions.iter().map(|origin| ByteString::from(&*origin.topic)).collect();
        let records = &mut self.state.records;
        records.clear();
        records.reserve(batch.records.len());
        for record in batch.records.drain(..) {
            let source = record.source as usize;
            records.push(self.converter.decode(record, &batch.partitions[source], &topics[source])?);
        }
        if self.converter.transforms() {
            self.enter(Phase::Transform);
            for record in std::mem::take(&mut self.state.records) {
                self.state.records.extend(self.converter.transform(record)?);
            }
        }
        Ok(())
    }

    /// Hands over a batch, again and again while the error is a retriable one. `false`: the task is to stop, or the reader went back; the
    /// batch will be read again.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<bool, Failure> {
        loop {
            self.enter(Phase::Put);
            let Err(error) = self.task.put(records).await else { return Ok(true) };
            if !error.is_retriable() {
                return Err(Failure::new(Phase::Put, &error));
            }
            tracing::warn!(%error, "put failed and is called again with the same records");
            let wait = self.state.context.take_timeout().unwrap_or(PUT_RETRY);
            self.pause_for(wait).await;
            self.state.rewound = false;
            if !self.wait_until_running().await? {
                return Ok(false);
            }
            self.apply_requests().await?;
            if self.state.rewound {
                // Something in front of this batch has to be written again first: the batch comes again behind it.
                self.read_again_from_current().await?;
                return Ok(false);
            }
        }
    }

    /// Goes back to behind the last record that was put, in every partition.
    async fn read_again_from_current(&mut self) -> Result<(), Failure> {
        let offsets: Vec<_> =
            self.state.current.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect();
        self.reader.seek(&offsets).await.map_err(|error| Failure::new(Phase::Consume, &error))
    }

    /// Asks the task what is durable, and commits it. Errors are logged: the next interval tries again.
    async fn commit_offsets(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.commit_timeout;
        match self.durable_offsets().await {
            Ok(offsets) => self.commit(&offsets, deadline).await,
            Err(failure) => {
                // What was put since the last commit may be lost at the other end: it is read again from there.
                tracing::error!(
                    failure = failure.message,
                    "flush failed; the records since the last commit come again"
                );
                self.metrics.offset_commit(false, Duration::ZERO);
                self.rewind_to_committed().await?;
            }
        }
        self.enter(Phase::Idle);
        Ok(())
    }

    /// The offsets that `pre_commit` allows, of this task's partitions, none beyond what was put, and new ones only.
    async fn durable_offsets(&mut self) -> Result<Offsets, Failure> {
        self.enter(Phase::Flush);
        let current = self.uncommitted();
        if current.is_empty() {
            return Ok(current);
        }
        let allowed = self.task.pre_commit(&current).await.map_err(|error| Failure::new(Phase::Flush, &error))?;
        let known = |(partition, offset): &(TopicPartition, i64)| {
            let sound = current.get(partition).is_some_and(|put| offset <= put);
            if !sound {
                tracing::warn!(%partition, offset, "pre_commit returned an offset that was never put; ignored");
            }
            sound
        };
        Ok(allowed.into_iter().filter(known).collect())
    }

    fn uncommitted(&self) -> Offsets {
        let SinkState { current, last_committed, .. } = &self.state;
        let is_new = |(partition, offset): &(&TopicPartition, &i64)| last_committed.get(*partition) != Some(*offset);
        current.iter().filter(is_new).map(|(partition, offset)| (partition.clone(), *offset)).collect()
    }

    async fn commit(&mut self, offsets: &Offsets, deadline: Instant) {
        // Asked again at the last moment: `pre_commit` may have taken longer than the lease, or than the patience of the worker.
        if offsets.is_empty() || !self.control.may_commit() {
            return;
        }
        self.enter(Phase::OffsetCommit);
        let began = Instant::now();
        let list: Vec<_> = offsets.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect();
        let committed = match until(deadline, self.committed.commit(&self.group, &list)).await {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(%error, "offsets were not committed; tried again at the next interval");
                false
            }
            None => {
                tracing::warn!("offsets were not committed in time; tried again at the next interval");
                false
            }
        };
        self.metrics.offset_commit(committed, began.elapsed());
        if committed {
            self.state.last_committed.extend(list);
        }
    }

    /// A reader that cannot go back fails the task: records that the flush lost would be passed over, and a later commit would hide it.
    async fn rewind_to_committed(&mut self) -> Result<(), Failure> {
        let back = self.uncommitted().into_keys();
        let offsets: Vec<_> = back
            .filter_map(|partition| Some((partition.clone(), *self.state.last_committed.get(&partition)?)))
            .collect();
        let sought = self.reader.seek(&offsets).await;
        // In any case: the end of the task must not commit past them either.
        self.state.current.extend(offsets);
        self.state.rewound = true;
        sought.map_err(|error| Failure::new(Phase::Flush, &error))
    }

    /// The end, also after a failure: `pre_commit`, `close`, commit, `stop`.
    async fn finish(&mut self) -> Result<(), Failure> {
        let (deadline, commit) = match self.control.directive() {
            Directive::Stop { deadline, commit } => (deadline, commit),
            Directive::Suspend => (Instant::now(), false),
            Directive::Run | Directive::Pause | Directive::Halt => (Instant::now() + self.commit_timeout, true),
        };
        let partitions: Vec<_> = self.state.current.keys().cloned().collect();
        if !partitions.is_empty() {
            let durable = if commit { self.durable_offsets().await } else { Ok(Offsets::new()) };
            self.enter(Phase::Close);
            if let Err(error) = self.task.close(&partitions).await {
                tracing::warn!(%error, "close failed");
            }
            match durable {
                Ok(offsets) => self.commit(&offsets, deadline).await,
                Err(failure) => {
                    tracing::warn!(failure = failure.message, "the last flush failed; nothing is committed")
                }
            }
        }
        self.enter(Phase::Stop);
        let stopped = self.task.stop().await.map_err(|error| Failure::new(Phase::Stop, &error));
        self.enter(Phase::Idle);
        stopped
    }

    fn enter(&self, phase: Phase) {
        self.control.phase.enter(phase);
    }
}
