//! Readers.
//!
//! A batch is copied once, into one block that all its keys, values and headers are slices of. So the client's buffers are free at once, and
//! whoever keeps a record keeps its batch. No thread waits: the client's queue wakes the reading task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use connect_api::TopicPartition;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::asker::Asker;
use super::catch_up::{CatchUp, Move};
use super::intake::Intake;
use super::native::{Edge, Message, What};
use super::pool::Pool;
use crate::backend::{
    BackendError, ClientSettings, ConsumerRecord, Header, ReadBatch, RecordReader, Result, StartOffset,
};

/// Messages that one call of the client returns at most, whatever the caller asks for.
const MAX_MESSAGES: usize = 10_000;
/// The client's names for places in a log.
const BEGINNING: i64 = -2;
const END: i64 = -1;

/// The client hands over an answer of a broker piece by piece. A reader that catches up is faster than that, and would be woken for every piece: it
/// gathers for so long after it has emptied the queue.
const GATHER: std::time::Duration = std::time::Duration::from_millis(1);

/// What a reader knows of one of its partitions.
#[derive(Debug, Clone, Copy)]
struct Assigned {
    /// `None` until a start at the beginning or the end is resolved by the first message.
    position: Option<i64>,
    paused: bool,
    /// Nothing more comes of it until a seek, and the client has said why. It must not be made to say so again.
    failed: bool,
}

impl Assigned {
    fn at(start: StartOffset) -> Assigned {
        Assigned { position: start_of(start).1, paused: false, failed: false }
    }
}

/// What the client says once and does not repeat: one of each kind, since whoever hears of a kind looks after all partitions.
#[derive(Default)]
struct Problems(VecDeque<BackendError>);

impl Problems {
    fn note(&mut self, problem: BackendError) {
        if !self.0.iter().any(|known| std::mem::discriminant(known) == std::mem::discriminant(&problem)) {
            self.0.push_back(problem);
        }
    }
}

/// A reader.
pub(super) struct KafkaReader {
    /// The last read filled its batch.
    catching_up: bool,
    intake: Intake,
    wake: Arc<Notify>,
    asker: Asker,
    assigned: HashMap<TopicPartition, Assigned>,
    /// Errors that came behind records of the same batch.
    delayed: Problems,
    /// Whether it should have a client of its own, where it shares one.
    catch_up: CatchUp,
}

impl KafkaReader {
    /// With a client of its own.
    pub(super) fn new(settings: &ClientSettings, asker: Asker) -> Result<KafkaReader> {
        let wake = Arc::<Notify>::default();
        let intake = Intake::own(settings, &wake)?;
        Ok(KafkaReader::over(intake, wake, asker))
    }

    /// At the clients of a pool, which has the isolation of the asker.
    pub(super) fn shared(pool: Arc<Pool>, asker: Asker) -> Result<KafkaReader> {
        let wake = Arc::<Notify>::default();
        let intake = Intake::shared(pool, &wake)?;
        Ok(KafkaReader::over(intake, wake, asker))
    }

    fn over(intake: Intake, wake: Arc<Notify>, asker: Asker) -> KafkaReader {
        KafkaReader {
            intake,
            wake,
            asker,
            assigned: HashMap::new(),
            delayed: Problems::default(),
            catching_up: false,
            catch_up: CatchUp::new(Instant::now()),
        }
    }

    fn check_assigned<'a>(&self, partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Result<()> {
        match partitions.into_iter().find(|partition| !self.assigned.contains_key(*partition)) {
            Some(partition) => Err(BackendError::Refused(format!("{partition} is not assigned to this reader"))),
            None => Ok(()),
        }
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) {
        for partition in partitions {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                assigned.paused = paused;
            }
        }
    }

    /// Lets the client deliver all that is paused: it remembers that beyond the end of an assignment, and whoever gets the partition next would
    /// wait for ever.
    fn resume_all(&self, of: impl Fn(&TopicPartition) -> bool) -> Result<Vec<TopicPartition>> {
        let paused = self.assigned.iter().filter(|(partition, assigned)| assigned.paused && of(partition));
        let paused: Vec<TopicPartition> = paused.map(|(partition, _)| partition.clone()).collect();
        if !paused.is_empty() {
            self.intake.resume(&paused)?;
        }
        Ok(paused)
    }

    /// Goes to a client of its own, or back, where that is better and all positions are known. Where it cannot be done it goes on where it is.
    fn move_where_better(&mut self) {
        let Intake::Shared(legs) = &self.intake else { return };
        let now = Instant::now();
        let out = match self.catch_up.at_rest(now) {
            Move::Stay => return,
            Move::Out if !legs.is_crowded() => return self.catch_up.moved(false, now),
            Move::Out => true,
            Move::Back => false,
        };
        let known = |(partition, assigned): (&TopicPartition, &Assigned)| {
            let position = assigned.position.filter(|_| !assigned.failed)?;
            Some((partition.clone(), position))
        };
        let Some(offsets) = self.assigned.iter().map(known).collect::<Option<Vec<_>>>() else { return };
        if let Err(error) = self.move_to(out, &offsets) {
            tracing::debug!(%error, out, "a reader could not go to another client");
        }
        if let Intake::Shared(legs) = &self.intake {
            self.catch_up.moved(legs.is_alone(), now);
        }
    }

    fn move_to(&mut self, out: bool, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let paused = self.resume_all(|_| true)?;
        let Intake::Shared(legs) = &mut self.intake else { return Ok(()) };
        let moved = if out { legs.move_out(offsets) } else { legs.move_back(offsets) };
        // Wherever they are now.
        if !paused.is_empty() {
            self.intake.pause(&paused)?;
        }
        moved
    }

    /// Takes what is there; whether there was anything at all.
    fn fill(&mut self, batch: &mut ReadBatch, max: usize) -> Result<bool> {
        // What came with them was delivered by the call before.
        if let Some(error) = self.delayed.0.pop_front() {
            return Err(error);
        }
        let (assigned, delayed) = (&mut self.assigned, &mut self.delayed);
        let taken = self.intake.take(max, |messages| copy(messages, batch, assigned, delayed));
        if let Some(error) = self.intake.listen() {
            self.delayed.note(error);
        }
        match self.delayed.0.pop_front_if(|_| batch.records.is_empty() && batch.ends.is_empty()) {
            Some(error) => Err(error),
            None => Ok(taken > 0),
        }
    }
}

fn start_of(start: StartOffset) -> (i64, Option<i64>) {
    match start {
        StartOffset::Beginning => (BEGINNING, None),
        StartOffset::End => (END, None),
        StartOffset::At(offset) => (offset, Some(offset)),
    }
}

/// With the client's names for offsets.
fn starts_of(partitions: &[(TopicPartition, StartOffset)]) -> Vec<(TopicPartition, i64)> {
    partitions.iter().map(|(partition, start)| (partition.clone(), start_of(*start).0)).collect()
}

/// Copies messages into the batch and moves the positions.
fn copy(
    messages: &[Message<'_>],
    batch: &mut ReadBatch,
    assigned: &mut HashMap<TopicPartition, Assigned>,
    problems: &mut Problems,
) {
    let size = messages.iter().map(|it| it.key().map_or(0, <[u8]>::len) + it.value().map_or(0, <[u8]>::len)).sum();
    let mut block = BytesMut::with_capacity(size);
    batch.records.reserve(messages.len());
    for run in messages.chunk_by(|one, next| one.source() == next.source()) {
        let partition = run[0].partition();
        let mut known = partition.as_ref().and_then(|partition| assigned.get_mut(partition));
        let mut source = None;
        let mut last = None;
        for message in run {
            match message.what() {
                // What the client read ahead of a partition that was removed since.
                What::Record if known.is_none() => {}
                What::Record => {
                    let source = *source.get_or_insert_with(|| source_of(batch, partition.as_ref()));
                    let (timestamp_type, timestamp) = message.timestamp();
                    batch.records.push(ConsumerRecord {
                        source,
                        offset: message.offset(),
                        timestamp,
                        timestamp_type,
                        key: message.key().map(|key| append(&mut block, key)),
                        value: message.value().map(|value| append(&mut block, value)),
                        headers: headers_of(message, &mut block),
                    });
                    last = Some(message.offset() + 1);
                }
                What::EndOfPartition => {
                    if let Some(partition) = &partition
                        && known.is_some()
                    {
                        batch.ends.push((partition.clone(), message.offset()));
                        last = Some(message.offset());
                    }
                }
                // Of a partition that was removed since.
                What::Error(problem) if partition.is_some() && known.is_none() => tracing::debug!("{problem}"),
                What::Error(problem) => match problem {
                    // Of connections: the client goes on by itself.
                    BackendError::Retriable(reason) => tracing::debug!("{reason}"),
                    problem => {
                        if let Some(known) = &mut known {
                            known.failed = true;
                        }
                        problems.note(problem);
                    }
                },
            }
        }
        if let (Some(known), Some(last)) = (known, last) {
            known.position = Some(last);
        }
    }
}

/// The bytes, as a slice of the block.
fn append(block: &mut BytesMut, bytes: &[u8]) -> Bytes {
    block.extend_from_slice(bytes);
    block.split().freeze()
}

fn headers_of(message: &Message<'_>, block: &mut BytesMut) -> Vec<Header> {
    let mut headers = Vec::new();
    message.headers(|name, value| {
        let name = append(block, name);
        let name = ByteString::try_from(name).unwrap_or_else(|_| ByteString::from_static("\u{fffd}"));
        headers.push((name, value.map(|value| append(block, value))));
    });
    headers
}

/// The index of a partition in a batch, which is added where it is new.
fn source_of(batch: &mut ReadBatch, partition: Option<&TopicPartition>) -> u32 {
    let Some(partition) = partition else { return 0 };
    let known = batch.partitions.iter().position(|other| other == partition);
    known.unwrap_or_else(|| {
        batch.partitions.push(partition.clone());
        batch.partitions.len() - 1
    }) as u32
}

#[async_trait]
impl RecordReader for KafkaReader {
    fn assign(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        self.resume_all(|_| true)?;
        self.intake.assign(&starts_of(partitions))?;
        self.delayed = Problems::default();
        self.assigned = partitions.iter().map(|(partition, start)| (partition.clone(), Assigned::at(*start))).collect();
        Ok(())
    }

    fn add(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        if let Some((partition, _)) = partitions.iter().find(|(it, _)| self.assigned.contains_key(it)) {
            return Err(BackendError::Refused(format!("{partition} is assigned to this reader already")));
        }
        self.intake.add(&starts_of(partitions))?;
        for (partition, start) in partitions {
            self.assigned.insert(partition.clone(), Assigned::at(*start));
        }
        Ok(())
    }

    fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_assigned(partitions)?;
        self.resume_all(|partition| partitions.contains(partition))?;
        self.intake.remove(partitions)?;
        for partition in partitions {
            self.assigned.remove(partition);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_assigned(partitions)?;
        self.intake.pause(partitions)?;
        self.set_paused(partitions, true);
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_assigned(partitions)?;
        // A client that is paused at the end of a partition goes on one record behind it (librdkafka up to 2.13.1): so it is told where to go on.
        let paused =
            |partition: &&TopicPartition| self.assigned.get(*partition).is_some_and(|it| it.paused && !it.failed);
        let position = |it: &TopicPartition| Some((it.clone(), self.position(it)?));
        let positions: Vec<_> = partitions.iter().filter(paused).filter_map(position).collect();
        self.intake.replace(&positions)?;
        self.intake.resume(partitions)?;
        self.set_paused(partitions, false);
        Ok(())
    }

    async fn seek(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.check_assigned(offsets.iter().map(|(partition, _)| partition))?;
        self.intake.replace(offsets)?;
        let mut paused = Vec::new();
        for (partition, offset) in offsets {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                (assigned.position, assigned.failed) = (Some(*offset), false);
                if assigned.paused {
                    paused.push(partition.clone());
                }
            }
        }
        if paused.is_empty() { Ok(()) } else { self.pause(&paused) }
    }

    async fn read(&mut self, batch: &mut ReadBatch, max_records: usize, max_wait: Duration) -> Result<()> {
        batch.clear();
        let deadline = Instant::now() + max_wait;
        let max = max_records.clamp(1, MAX_MESSAGES);
        loop {
            let taken = self.fill(batch, max)?;
            if !batch.records.is_empty() || !batch.ends.is_empty() {
                self.catching_up |= batch.records.len() == max;
                self.catch_up.read(batch.records.len(), max, Instant::now());
                return Ok(());
            }
            if taken {
                continue;
            }
            self.move_where_better();
            if tokio::time::timeout_at(deadline, self.wake.notified()).await.is_err() {
                return Ok(());
            }
            if std::mem::take(&mut self.catching_up) {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.assigned.get(partition)?.position
    }

    async fn end_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>> {
        self.asker.ask(partitions, Edge::End, timeout).await
    }

    async fn beginning_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>> {
        self.asker.ask(partitions, Edge::Beginning, timeout).await
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        if matches!(self.intake, Intake::Shared(_))
            && let Err(error) = self.resume_all(|_| true)
        {
            tracing::debug!(%error, "a paused partition could not be resumed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_hides_no_other_kind() {
        let mut problems = Problems::default();
        problems.note(BackendError::OffsetOutOfRange("q".into()));
        problems.note(BackendError::UnknownPartition("p".into()));
        problems.note(BackendError::UnknownPartition("r".into()));
        assert!(matches!(
            problems.0.make_contiguous(),
            [BackendError::OffsetOutOfRange(_), BackendError::UnknownPartition(_)]
        ));
    }
}
