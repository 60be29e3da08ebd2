//! The future that follows a topic.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Fold, LogSettings, RECENT_OFFSETS, Shared};
use crate::backend::{Backend, BackendError, ReadBatch, RecordReader, StartOffset, TopicPartition};

/// Records of one batch at most; between batches waiters get to see what was folded.
const BATCH_RECORDS: usize = 2000;

/// How long one read waits for the first record.
const READ_WAIT: Duration = Duration::from_secs(1);

/// Wait after the first failure; it doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(50);

/// Longest wait between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Reads until its future is dropped or the log is lost.
pub(super) struct Tail<F> {
    backend: Arc<dyn Backend>,
    settings: LogSettings,
    partitions: Vec<TopicPartition>,
    shared: Arc<Shared>,
    reader: Box<dyn RecordReader>,
    fold: F,
    failures: u32,
}

impl<F: Fold> Tail<F> {
    pub(super) fn open(
        backend: Arc<dyn Backend>,
        settings: &LogSettings,
        partitions: Vec<TopicPartition>,
        shared: Arc<Shared>,
        fold: F,
    ) -> Result<Self, BackendError> {
        let reader = reader(&*backend, settings, &partitions, &shared)?;
        Ok(Tail { backend, settings: settings.clone(), partitions, shared, reader, fold, failures: 0 })
    }

    pub(super) async fn run(mut self) {
        let mut batch = ReadBatch::default();
        loop {
            match self.reader.read(&mut batch, BATCH_RECORDS, READ_WAIT).await {
                Ok(()) => {
                    self.failures = 0;
                    self.take(&batch).await;
                }
                Err(BackendError::OffsetOutOfRange(reason)) => return self.shared.lose(&reason),
                Err(error) => self.recover(error).await,
            }
        }
    }

    /// Gives the batch to the fold, and says how far the reader is only then.
    async fn take(&mut self, batch: &ReadBatch) {
        let known = self.shared.progress.borrow().positions.clone();
        let positions: Vec<i64> = self
            .partitions
            .iter()
            .zip(&known)
            .map(|(partition, known)| self.position(partition, batch).max(*known))
            .collect();
        if batch.records.is_empty() && positions == known {
            return;
        }
        {
            let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.extend(batch.records.iter().map(|record| (batch.partition(record).partition, record.offset)));
            let surplus = recent.len().saturating_sub(RECENT_OFFSETS);
            recent.drain(..surplus);
        }
        self.fold.fold(batch, &positions).await;
        self.shared.progress.send_modify(|progress| {
            progress.positions = positions;
            progress.moved_at = tokio::time::Instant::now();
        });
    }

    fn position(&self, partition: &TopicPartition, batch: &ReadBatch) -> i64 {
        let at_end = batch.ends.iter().filter(|(at, _)| at == partition).map(|(_, position)| *position).max();
        self.reader.position(partition).max(at_end).unwrap_or(-1)
    }

    /// Waits a while, longer each time. A client that is broken for good is replaced; the new one goes on where this one stood.
    async fn recover(&mut self, error: BackendError) {
        let backoff = (MIN_BACKOFF * 2_u32.saturating_pow(self.failures)).min(MAX_BACKOFF);
        self.failures = (self.failures + 1).min(16);
        tracing::warn!(topic = %self.shared.topic, %error, wait_ms = backoff.as_millis(), "reading failed, again after a wait");
        tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        if matches!(error, BackendError::Fatal(_) | BackendError::Revoked)
            && let Err(error) = self.replace_reader()
        {
            tracing::warn!(topic = %self.shared.topic, %error, "a new reader could not be opened");
        }
    }

    fn replace_reader(&mut self) -> Result<(), BackendError> {
        self.reader = reader(&*self.backend, &self.settings, &self.partitions, &self.shared)?;
        Ok(())
    }
}

/// A reader that stands where everything before is folded. The offsets are named: `beginning` would cost the client a question of its own to
/// each leader, and half a second where it does not know the leader yet.
fn reader(
    backend: &dyn Backend,
    settings: &LogSettings,
    partitions: &[TopicPartition],
    shared: &Shared,
) -> Result<Box<dyn RecordReader>, BackendError> {
    let positions = shared.progress.borrow().positions.clone();
    let start = partitions.iter().cloned().zip(positions.into_iter().map(StartOffset::At));
    let mut reader = backend.reader(&settings.reader, settings.isolation)?;
    reader.assign(&start.collect::<Vec<_>>())?;
    Ok(reader)
}
