//! Batches on their way to the task.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use connect_api::TopicPartition;
use connect_api::sink::Offsets;
use tokio::time::{Instant, sleep_until};

use super::{Held, IDLE_PUT, SinkPump, answered};
use crate::backend::ReadBatch;
use crate::pipeline::control::Directive;
use crate::pipeline::phase::{Failure, Phase};

/// How long a pump waits before a failed `put` is tried again, unless the task says otherwise.
const PUT_RETRY: Duration = Duration::from_millis(100);

impl SinkPump {
    /// Converts a batch, puts it, and only then moves on.
    pub(super) async fn deliver(&mut self, batch: &mut ReadBatch) -> Result<(), Failure> {
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
        self.put(offsets).await
    }

    /// Makes `state.records` of a batch.
    fn convert(&mut self, batch: &mut ReadBatch) -> Result<(), Failure> {
        self.enter(Phase::Convert);
        let topics: Vec<ByteString> = batch.partitions.iter().map(|origin| ByteString::from(&*origin.topic)).collect();
        // Kept from batch to batch: it is large, and its memory would be asked for and given back each time.
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

    /// Hands over `state.records`. When the task cannot take them now they are held for another attempt: nothing else is
    /// read meanwhile, and what was put before may be committed.
    async fn put(&mut self, offsets: Offsets) -> Result<(), Failure> {
        self.enter(Phase::Put);
        match self.task.put(&self.state.records).await {
            Ok(()) => {
                let next = self.state.context.take_timeout().map_or(IDLE_PUT, |asked| asked.min(IDLE_PUT));
                self.state.idle_put_at = Some(Instant::now() + next);
                self.metrics.written(self.state.records.len() as u64, 0);
                self.state.records.clear();
                // Records that a transformation dropped are done as well.
                self.state.current.extend(offsets);
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "put failed and is called again with the same records");
                let wait = self.state.context.take_timeout().unwrap_or(PUT_RETRY);
                self.state.held = Some(Held { offsets, retry_at: Instant::now() + wait });
                Ok(())
            }
            Err(error) => Err(Failure::new(Phase::Put, &error)),
        }
    }

    /// Puts the held batch when its time has come. Until then waits, but not past anything else that there is to do.
    pub(super) async fn put_again(&mut self) -> Result<(), Failure> {
        let Some(held) = &self.state.held else { return Ok(()) };
        if Instant::now() < held.retry_at {
            let retry_at = self.next_look().map_or(held.retry_at, |look| look.min(held.retry_at));
            self.enter(Phase::Idle);
            tokio::select! {
                _ = sleep_until(retry_at) => {}
                _ = self.commit.wait() => {}
                found = answered(&mut self.state.search) => self.take_found(found)?,
                _ = self.control.changed_from(Directive::Run) => {}
            }
            return Ok(());
        }
        match self.state.held.take() {
            Some(held) => self.put(held.offsets).await,
            None => Ok(()),
        }
    }

    /// The reader goes back: the held batch comes again behind what comes before it.
    pub(super) fn drop_held(&mut self) {
        if let Some(held) = self.state.held.take() {
            self.state.seeks.extend(held.offsets.into_keys());
            self.state.records.clear();
        }
    }

    /// Takes the records of partitions that are gone out of the held batch.
    pub(super) fn forget_held(&mut self, gone: &[TopicPartition]) {
        if let Some(held) = &mut self.state.held {
            held.offsets.retain(|partition, _| !gone.contains(partition));
            self.state.records.retain(|record| !gone.contains(&record.original));
        }
    }
}
