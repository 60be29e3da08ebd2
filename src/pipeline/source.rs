//! The pump of a source task: poll, transform, convert, send, and the order of acknowledgement, offset write and upstream
//! commit.
//!
//! The order is the invariant of this file: an offset is written only for the acknowledged prefix of its source
//! partition, and the task hears of it (`commit_record`, `commit`) only after the offset is durable.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use connect_api::{Props, SourceRecord, SourceTask, SourceTaskContext};
use tokio::time::{Instant, sleep, sleep_until};

use super::control::{Control, Directive, Report};
use super::convert::SourceConverter;
use super::delivery::{Delivery, Outgoing, left, until};
use super::phase::{Failure, Phase};
use super::topic_tracker::TopicTracker;
use crate::metrics::TaskMetrics;
use crate::storage::offset_store::{ConnectorOffsets, OffsetError};

/// How long a pump waits before it offers records again to a writer that has no connection.
const SEND_RETRY: Duration = Duration::from_millis(100);

/// How long a pump waits after a retriable error of `poll`.
const POLL_RETRY: Duration = Duration::from_millis(100);

/// Longer waits of idle tasks end on this grid, so that a thousand of them wake in one turn of the timer and not each in its own.
const IDLE_GRID: Duration = Duration::from_millis(100);

/// When an idle task is polled again: after the interval, or up to a tenth of it sooner.
fn idle_deadline(now: Instant, interval: Duration) -> Instant {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
    let due = now + interval;
    if interval < IDLE_GRID * 10 {
        return due;
    }
    let past_grid = due.saturating_duration_since(*BEGINNING).as_nanos() % IDLE_GRID.as_nanos();
    due - Duration::from_nanos(past_grid as u64)
}

/// Everything that the pump of a source task needs.
pub struct SourcePump {
    /// The task, fresh from its factory.
    pub task: Box<dyn SourceTask>,
    /// What it may ask for.
    pub context: SourceTaskContext,
    /// Its configuration.
    pub props: Props,
    /// Transformations and converters.
    pub converter: SourceConverter,
    /// Hears of the topics that it writes to.
    pub topics: TopicTracker,
    /// Records on their way out.
    pub delivery: Arc<Delivery>,
    /// Where offsets are written.
    pub offsets: Arc<ConnectorOffsets>,
    /// Longest time of one flush of offsets (`offset.flush.timeout.ms`).
    pub flush_timeout: Duration,
    /// The line to its actor.
    pub control: Control,
    /// Counters.
    pub metrics: Arc<TaskMetrics>,
}

impl SourcePump {
    /// Runs the task until it is stopped or fails. [`SourcePump::finish`] has to follow, also where this panicked.
    pub async fn work(&mut self) -> Result<(), Failure> {
        self.control.report(Report::Starting);
        // A task that is paused from the beginning is started when it is resumed.
        if !self.wait_until_running().await? {
            return Ok(());
        }
        self.enter(Phase::Initialize);
        let context = self.context.clone();
        self.task.initialize(context).await.map_err(|error| Failure::new(Phase::Initialize, &error))?;
        self.enter(Phase::Start);
        let props = std::mem::take(&mut self.props);
        self.task.start(props).await.map_err(|error| Failure::new(Phase::Start, &error))?;
        let mut polled = Vec::new();
        while self.wait_until_running().await? {
            self.control.report(Report::Running);
            self.commit_upstream_if_due().await;
            if !self.wait_for_room().await? {
                continue;
            }
            if polled.is_empty() {
                polled = self.poll().await?;
            }
            // While `poll` ran, the lease may have ended or a pause begun: the batch waits. When a stop came, what was read is still sent.
            if !matches!(self.control.directive(), Directive::Run | Directive::Stop { commit: true, .. }) {
                continue;
            }
            if polled.is_empty() {
                self.wait_for_more().await;
            } else {
                self.send(std::mem::take(&mut polled))?;
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
                Directive::Pause | Directive::Halt => self.control.report(Report::Paused),
                Directive::Suspend => self.delivery.purge(),
            }
            self.enter(Phase::Idle);
            // Records that are under way when a pause begins still arrive, and their offsets are committed.
            let paused = directive == Directive::Pause;
            tokio::select! {
                _ = self.control.changed_from(directive) => {}
                _ = self.delivery.flush_finished(), if paused => self.commit_upstream_if_due().await,
                _ = self.delivery.changed(), if paused => { self.delivery.progress()?; }
                _ = sleep(SEND_RETRY), if paused && !self.delivery.is_idle() => { self.delivery.progress()?; }
            }
        }
    }

    /// Waits until the writer has taken all that was converted. `false`: the directive changed.
    async fn wait_for_room(&mut self) -> Result<bool, Failure> {
        self.enter(Phase::Send);
        loop {
            if self.control.directive() != Directive::Run {
                return Ok(false);
            }
            let waiting = self.delivery.progress()?;
            if self.delivery.is_full() {
                self.flush_early().await;
                return Ok(false);
            }
            if waiting == 0 {
                return Ok(true);
            }
            tokio::select! {
                _ = self.delivery.changed() => {}
                _ = sleep(SEND_RETRY) => {}
                _ = self.control.changed_from(Directive::Run) => return Ok(false),
            }
        }
    }

    /// Too many records wait for `commit_record`: writes their offsets before the interval is over.
    async fn flush_early(&mut self) {
        self.enter(Phase::OffsetWrite);
        let flushed = tokio::select! {
            flushed = flush_offsets(&self.delivery, &self.offsets, self.flush_timeout) => flushed,
            _ = self.control.changed_from(Directive::Run) => return,
        };
        if let Err(error) = &flushed {
            tracing::warn!(%error, "offsets are not written, and too many records wait for it: nothing more is read until they are");
        }
        if !matches!(flushed, Ok(1..)) {
            tokio::select! {
                _ = sleep(SEND_RETRY) => {}
                _ = self.control.changed_from(Directive::Run) => {}
            }
        }
    }

    /// The next batch. A `poll` that is under way when the task is to stop is dropped: what it has read is not committed
    /// and will be read again.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>, Failure> {
        self.enter(Phase::Poll);
        let SourcePump { task, control, delivery, .. } = self;
        let polled = {
            let mut poll = task.poll();
            loop {
                let known = control.directive();
                match known {
                    Directive::Stop { .. } => return Ok(Vec::new()),
                    // However long `poll` takes: what the client has queued must not be sent without a lease.
                    Directive::Suspend => delivery.purge(),
                    Directive::Run | Directive::Pause | Directive::Halt => {}
                }
                // What came back from the client, maybe because another task of it was suspended, is sent again.
                let under_way = known != Directive::Suspend && !delivery.is_idle();
                tokio::select! {
                    biased;
                    polled = &mut poll => break polled,
                    _ = control.changed_from(known) => {}
                    _ = delivery.changed(), if under_way => drop(delivery.progress()?),
                    _ = sleep(SEND_RETRY), if under_way => drop(delivery.progress()?),
                }
            }
        };
        match polled {
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "poll failed and is called again");
                self.enter(Phase::Idle);
                tokio::select! {
                    _ = sleep(POLL_RETRY) => {}
                    _ = self.control.changed_from(Directive::Run) => {}
                }
                Ok(Vec::new())
            }
            polled => polled.map_err(|error| Failure::new(Phase::Poll, &error)),
        }
    }

    fn send(&mut self, records: Vec<SourceRecord>) -> Result<(), Failure> {
        self.metrics.read(records.len() as u64, 0);
        let retained = self.task.wants_commit_record().then(|| records.clone());
        let batch = self.convert(records)?;
        self.topics.used(batch.iter().flatten().map(|outgoing| &*outgoing.record.topic));
        self.enter(Phase::Send);
        match retained {
            Some(retained) => self.delivery.submit_retaining(retained.into_iter().zip(batch)),
            None => self.delivery.submit(batch.into_iter().flatten()),
        }
    }

    /// One entry for each record; `None` where a transformation dropped it.
    fn convert(&mut self, records: Vec<SourceRecord>) -> Result<Vec<Option<Outgoing>>, Failure> {
        let mut records: Vec<Option<SourceRecord>> = records.into_iter().map(Some).collect();
        if self.converter.transforms() {
            self.enter(Phase::Transform);
            for slot in &mut records {
                if let Some(record) = slot.take() {
                    *slot = self.converter.transform(record)?;
                }
            }
        }
        self.enter(Phase::Convert);
        records.into_iter().map(|record| record.map(|record| self.converter.encode(record)).transpose()).collect()
    }

    /// Nothing to read: waits for time to pass, and does what may become due meanwhile.
    async fn wait_for_more(&mut self) {
        self.enter(Phase::Idle);
        let interval = self.task.poll_interval();
        if interval.is_zero() {
            // The task waits inside of `poll`; a task that does neither must not keep its thread busy.
            return tokio::task::yield_now().await;
        }
        let idle = self.delivery.is_idle();
        let told_otherwise = async {
            match idle {
                true => self.control.idle_changed_from(Directive::Run).await,
                // What the client has queued is taken back as soon as the lease ends.
                false => self.control.changed_from(Directive::Run).await,
            }
        };
        tokio::select! {
            _ = sleep_until(idle_deadline(Instant::now(), interval)) => {}
            _ = self.delivery.flush_finished() => {}
            _ = told_otherwise => {}
        }
    }

    async fn commit_upstream_if_due(&mut self) {
        let Some(records) = self.delivery.take_upstream_commit() else { return };
        self.enter(Phase::Commit);
        for (record, metadata) in &records {
            if let Err(error) = self.task.commit_record(record, *metadata).await {
                tracing::error!(%error, "commit_record failed; the task goes on");
            }
        }
        if let Err(error) = self.task.commit().await {
            tracing::error!(%error, "commit failed; the task goes on");
        }
        self.enter(Phase::Idle);
    }

    /// The end, also after a failure: waits for acknowledgements, writes offsets, tells the task, stops it. A task that panicked is not called
    /// again; what it had sent before is valid all the same (Java: `WorkerSourceTask.finalOffsetCommit`). Everything is cleaned up then.
    pub async fn finish(mut self, worked: Result<(), Failure>, panicked: bool) -> Result<(), Failure> {
        if let Err(failure) = &worked {
            self.control.phase.fail(failure);
        }
        self.commit_last(panicked).await;
        self.delivery.revoke();
        if panicked {
            return worked;
        }
        self.enter(Phase::Stop);
        let stopped = self.task.stop().await.map_err(|error| Failure::new(Phase::Stop, &error));
        self.enter(Phase::Idle);
        match stopped {
            Err(failure) if worked.is_ok() => {
                tracing::warn!(failure = failure.message, "stop failed; everything was committed before");
                Ok(())
            }
            stopped => worked.and(stopped),
        }
    }

    async fn commit_last(&mut self, panicked: bool) {
        let deadline = match self.control.directive() {
            Directive::Stop { deadline, .. } => deadline,
            // A failure. Without a lease nothing is committed, since another worker may run the task by now.
            Directive::Suspend => return,
            Directive::Run | Directive::Pause | Directive::Halt => Instant::now() + self.flush_timeout,
        };
        self.enter(Phase::Ack);
        match self.settle(deadline).await {
            // What is under way is taken back with everything else that is left.
            None => {
                tracing::warn!(
                    "there was no lease to write the last offsets; records since the last commit will be read again"
                );
                return;
            }
            Some(Ok(true)) => {}
            Some(Ok(false)) => tracing::warn!("some records were not acknowledged in time; they will be read again"),
            Some(Err(failure)) => tracing::debug!(failure = failure.message, "not all records arrived"),
        }
        self.enter(Phase::OffsetWrite);
        let time = left(deadline).min(self.flush_timeout);
        match until(deadline, flush_offsets(&self.delivery, &self.offsets, time)).await {
            Some(Ok(_)) if panicked => {}
            Some(Ok(_)) => self.commit_upstream_if_due().await,
            Some(Err(error)) => tracing::warn!(%error, "the last offsets were not written; records will be read again"),
            None => tracing::warn!("the last offsets were not written in time; records will be read again"),
        }
    }

    /// Waits for acknowledgements, and for a lease that has run out: without one nothing is sent. `None`: it did not come back.
    async fn settle(&mut self, deadline: Instant) -> Option<Result<bool, Failure>> {
        loop {
            if !self.control.may_commit() {
                self.delivery.purge();
            }
            if !self.control.commits_allowed(deadline).await {
                return None;
            }
            // A failure shows again here; it has been reported, and the acknowledged prefix stays valid.
            // Half of the time is for writing the offsets of what did arrive.
            let settled = tokio::select! {
                biased;
                _ = self.control.commits_forbidden() => continue,
                settled = self.delivery.settle(deadline - left(deadline) / 2) => settled,
            };
            if self.control.may_commit() {
                return Some(settled);
            }
        }
    }

    fn enter(&self, phase: Phase) {
        self.control.phase.enter(phase);
    }
}

/// Writes the offsets that may be written and marks them as durable. Returns how many source partitions had new ones.
/// On an error nothing changes and the next flush tries again with newer ones.
pub async fn flush_offsets(
    delivery: &Delivery,
    offsets: &ConnectorOffsets,
    timeout: Duration,
) -> Result<usize, OffsetError> {
    // One at a time: of two, the older one could be written last.
    let _turn = delivery.flush_turn().await;
    let Some(committable) = delivery.committable() else { return Ok(0) };
    if !committable.is_empty() {
        offsets.write(&committable.offsets, timeout).await?;
    }
    delivery.flushed(&committable);
    Ok(committable.offsets.len())
}

#[cfg(test)]
mod tests;
