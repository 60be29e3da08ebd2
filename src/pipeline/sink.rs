//! The pump of a sink task: read, convert, transform, put, and the order of put, flush and commit.
//!
//! The order is the invariant of this room: an offset is committed only when `put` has taken every record in front of it
//! and `pre_commit` said afterwards that it is durable.
//!
//! `partitions`: which partitions are read, and from where. `batches`: conversion and `put`. `commits`: what may be
//! committed, and the commit. Whatever has to wait for a broker is kept in [`SinkState`] and taken up again by the loop, so
//! that a stop, a pause and the end of the lease never wait for it.

mod batches;
mod commits;
mod partitions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use connect_api::sink::Offsets;
use connect_api::{Props, SinkRecord, SinkTask, SinkTaskContext, TopicPartition};
use tokio::time::{Instant, sleep};

use super::control::{CommitSignal, Control, Directive, Report};
use super::convert::SinkConverter;
use super::phase::{Failure, Phase};
use super::task_partitions::Selection;
use super::topic_tracker::TopicTracker;
use crate::backend::{BackendError, CommittedOffsets, FoundTopic, ReadBatch, RecordReader, TopicAdmin};
use crate::metrics::TaskMetrics;

/// How long after a `put` an idle task gets an empty batch, unless it asked for one sooner. Java's interval is that of offset commits, a minute.
const IDLE_PUT: Duration = Duration::from_secs(10);

/// How long a pump waits before it asks a broker again that gave no answer: first, doubled each time up to the last.
const BROKER_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
    /// Nowhere: the task fails.
    None,
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
    pub selection: Arc<Selection>,
    /// How often new topics and partitions are looked for (`metadata.max.age.ms`).
    pub refresh_interval: Duration,
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

/// An answer that is waited for.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, BackendError>> + Send>>;

/// What the pump keeps between two batches.
#[derive(Default)]
pub struct SinkState {
    context: SinkTaskContext,
    /// Behind the last record that `put` has taken. Its keys are the partitions that are read.
    current: Offsets,
    /// The group's committed offsets, or where reading began without one: everything in front of these needs no commit.
    last_committed: Offsets,
    /// The topics of the partitions that are read.
    topics: BTreeMap<String, FoundTopic>,
    /// Partitions that are still to be opened, of topics that were made anew: what is committed for them is of the former ones.
    fresh: BTreeSet<TopicPartition>,
    /// A search for topics that is under way.
    search: Option<Answer<BTreeMap<String, FoundTopic>>>,
    /// When to search again; at once in the beginning.
    search_at: Option<Instant>,
    /// What a search found, until partitions are opened and closed accordingly.
    found: Option<BTreeMap<String, FoundTopic>>,
    /// Rewinds that the task asked for, of partitions of its own that are still to come.
    rewinds: Offsets,
    /// Some position is not in the log any more.
    lost: Option<Lost>,
    /// Where the reader has to go to `current` before anything is read.
    seeks: BTreeSet<TopicPartition>,
    /// Requests in a row that got no answer.
    unanswered: u32,
    /// When an idle task gets an empty batch; from the last `put` on.
    idle_put_at: Option<Instant>,
    /// The batch that is put; empty in between.
    records: Vec<SinkRecord>,
    /// The batch could not be put: it waits for the next attempt.
    held: Option<Held>,
    /// The commit that is under way, also when its answer did not come in time.
    committing: Option<Committing>,
}

/// A commit that is under way.
struct Committing {
    answer: Answer<()>,
    offsets: Vec<(TopicPartition, i64)>,
}

/// A position that is not in the log any more.
struct Lost {
    /// What the reader said.
    reason: String,
    /// A search since then showed that its topic was not made anew, or closed what was.
    searched: bool,
    /// When to look again; at once in the beginning.
    look_at: Option<Instant>,
}

/// A batch that waits for the next attempt of `put`.
struct Held {
    /// Behind its last records.
    offsets: Offsets,
    retry_at: Instant,
}

impl SinkPump {
    /// Runs the task until it is stopped or fails. Everything is cleaned up when it returns.
    pub async fn run(mut self) -> Result<(), Failure> {
        let outcome = self.start_and_pump().await;
        if let Err(failure) = &outcome {
            self.control.phase.fail(failure);
        }
        let stopped = self.finish().await;
        if let (Ok(()), Err(failure)) = (&outcome, stopped) {
            tracing::warn!(failure = failure.message, "stop failed; everything was committed before");
        }
        outcome
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
        while self.wait_until_running().await? {
            self.control.report(Report::Running);
            if !self.settle_partitions().await? {
                continue;
            }
            if self.commit.take() {
                self.commit_offsets().await;
                // A flush that failed asks for records again.
                continue;
            }
            if self.state.held.is_some() {
                self.put_again().await?;
                continue;
            }
            if self.read(&mut batch).await? {
                self.deliver(&mut batch).await?;
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
                    self.commit_offsets().await;
                }
                Directive::Suspend => {}
            }
            self.enter(Phase::Idle);
            tokio::select! {
                _ = self.control.changed_from(directive) => {}
                // A commit that failed is tried again at the next interval, as while it runs.
                _ = self.commit.wait(), if directive != Directive::Suspend => drop(self.commit.take()),
            }
        }
    }

    /// Waits for records, at most until an idle task is due. `false`: something else has to be done first.
    async fn read(&mut self, batch: &mut ReadBatch) -> Result<bool, Failure> {
        self.enter(Phase::Consume);
        // Commits interrupt the wait and do not prolong it.
        let put = *self.state.idle_put_at.get_or_insert_with(|| Instant::now() + IDLE_PUT);
        let due = self.next_look().map_or(put, |look| look.min(put));
        let wait = due.saturating_duration_since(Instant::now());
        let read = tokio::select! {
            read = self.reader.read(batch, self.max_poll_records, wait) => read,
            _ = self.commit.wait() => return Ok(false),
            found = answered(&mut self.state.search) => {
                self.take_found(found)?;
                return Ok(false);
            }
            _ = self.control.idle_changed_from(Directive::Run) => return Ok(false),
        };
        match read {
            Ok(()) => self.state.unanswered = 0,
            Err(BackendError::Retriable(reason)) => {
                tracing::warn!(reason, "reading failed and is tried again");
                self.wait_for_brokers().await?;
                return Ok(false);
            }
            Err(BackendError::UnknownPartition(reason)) => {
                tracing::info!(reason, "looking which topics there are");
                self.state.search_at = None;
                self.wait_for_brokers().await?;
                return Ok(false);
            }
            Err(BackendError::OffsetOutOfRange(reason)) => {
                self.state.lost = Some(Lost { reason, searched: false, look_at: None });
                // One that is under way may have begun before.
                (self.state.search, self.state.search_at) = (None, None);
                return Ok(false);
            }
            Err(error) => return Err(Failure::new(Phase::Consume, &error)),
        }
        // The lease may have ended, or a pause begun, while the read waited: then the batch waits as well.
        if !self.wait_until_running().await? {
            return Ok(false);
        }
        self.control.report(Report::Running);
        if self.state.seeks.is_empty() {
            return Ok(true);
        }
        // A flush failed in a pause, and the reader goes back: it will read this batch again, behind what comes before it.
        let read = batch.partitions.iter().filter(|partition| self.state.current.contains_key(partition));
        self.state.seeks.extend(read.cloned());
        Ok(false)
    }

    /// When partitions are to be looked after next: a search for topics, or a look at a lost position.
    fn next_look(&self) -> Option<Instant> {
        let search = self.state.search_at.filter(|_| self.state.search.is_none());
        let look = self.state.lost.as_ref().and_then(|lost| lost.look_at);
        search.into_iter().chain(look).min()
    }

    /// Waits, but not past a change of the directive. A search goes on meanwhile.
    async fn pause_for(&mut self, time: Duration) -> Result<(), Failure> {
        self.enter(Phase::Idle);
        tokio::select! {
            _ = sleep(time) => Ok(()),
            found = answered(&mut self.state.search) => self.take_found(found),
            _ = self.control.changed_from(Directive::Run) => Ok(()),
        }
    }

    /// Waits after a broker gave no answer, longer each time in a row.
    async fn wait_for_brokers(&mut self) -> Result<(), Failure> {
        let wait = self.next_backoff();
        self.pause_for(wait).await
    }

    fn next_backoff(&mut self) -> Duration {
        let (first, last) = BROKER_BACKOFF;
        let wait = first.saturating_mul(1 << self.state.unanswered.min(16)).min(last);
        self.state.unanswered += 1;
        wait
    }

    /// The end, also after a failure: `pre_commit`, `close`, commit, `stop`.
    async fn finish(&mut self) -> Result<(), Failure> {
        let (deadline, commit) = match self.control.directive() {
            Directive::Stop { deadline, .. } => (deadline, self.control.commits_allowed(deadline).await),
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
                Ok(offsets) => self.last_commit(offsets, deadline).await,
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

/// Waits for an answer that is under way; for ever where none is.
async fn answered<T>(waiting: &mut Option<Answer<T>>) -> Result<T, BackendError> {
    match waiting {
        Some(answer) => {
            let answer = answer.await;
            *waiting = None;
            answer
        }
        None => std::future::pending().await,
    }
}
