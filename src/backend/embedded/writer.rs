//! Writer handles: records become bytes of rows in the thread that sends them, and wait for the writer thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::OpenStore;
use super::engine::Engine;
use super::meta::Topic;
use super::plan::NewRow;
use super::wire::{self, RowBuilder};
use crate::backend::inbox::{Inbox, InboxState, lock};
use crate::backend::rules::{AUTO_CREATED_PARTITIONS, defect, is_compacted, keyless, now_ms, partition_of};
use crate::backend::{Ack, BackendError, ProducerRecord, RecordWriter, Result};

/// A row with the sequence numbers of its records. Answers its handle when it is dropped unanswered.
pub(super) struct Batch {
    inbox: Arc<Inbox>,
    topic: Arc<str>,
    partition: i32,
    keyless: bool,
    records: RowBuilder,
    /// First sequence and count of records that follow each other, with their bytes.
    runs: Vec<Run>,
    answered: bool,
}

/// Records of one handle and one row whose sequences follow each other.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    count: u64,
    bytes: usize,
}

impl Batch {
    fn new(inbox: &Arc<Inbox>, topic: &Arc<str>, partition: i32) -> Batch {
        Batch {
            inbox: Arc::clone(inbox),
            topic: Arc::clone(topic),
            partition,
            keyless: false,
            records: RowBuilder::default(),
            runs: Vec::with_capacity(1),
            answered: false,
        }
    }

    fn push(&mut self, record: &ProducerRecord, sequence: u64, size: usize, now: i64) {
        self.keyless |= record.key.is_none();
        push(&mut self.records, record, now);
        match self.runs.last_mut() {
            Some(run) if run.first + run.count == sequence => {
                run.count += 1;
                run.bytes += size;
            }
            _ => self.runs.push(Run { first: sequence, count: 1, bytes: size }),
        }
    }

    /// The bytes of its records.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes).sum()
    }

    /// What is to be appended; the sequences stay.
    pub(super) fn take_row(&mut self) -> NewRow {
        let records = std::mem::take(&mut self.records);
        NewRow { topic: Arc::clone(&self.topic), partition: self.partition, keyless: self.keyless, records }
    }

    /// Its records are durable from offset `base` on.
    pub(super) fn delivered(mut self, base: i64) {
        self.answered = true;
        let mut offset = base;
        self.inbox.update(|state| {
            for run in &self.runs {
                state.delivered_run(run.first, run.count, run.bytes, self.partition, offset);
                offset += run.count as i64;
            }
        });
    }

    /// None of its records is stored.
    pub(super) fn failed(mut self, error: &BackendError) {
        self.answer_failed(error, |_| {});
    }

    fn answer_failed(&mut self, error: &BackendError, and: impl FnOnce(&mut InboxState)) {
        if !std::mem::replace(&mut self.answered, true) {
            self.inbox.update(|state| {
                and(state);
                for run in &self.runs {
                    state.failed_run(run.first, run.count, run.bytes, error);
                }
            });
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let ended = BackendError::Fatal("the writer thread of the store ended before it had stored it".into());
        self.answer_failed(&ended, |_| {});
    }
}

/// Appends a record to a row that has no gaps.
pub(super) fn push(records: &mut RowBuilder, record: &ProducerRecord, now: i64) {
    let timestamp = record.timestamp.unwrap_or(now);
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    records.push(records.count(), timestamp, key, value, &record.headers);
}

/// What a handle has queued.
#[derive(Default)]
pub(super) struct Queue {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    batches: Vec<Batch>,
    /// The row of each partition that is not full yet, by topic and partition.
    open: HashMap<(Arc<str>, i32), usize>,
    bytes: usize,
    /// The writer thread knows of it.
    announced: bool,
    /// For records that may go to any partition.
    turn: u64,
}

impl Queue {
    /// Hands everything over; returns how many bytes of records that are.
    pub(super) fn take(&self, batches: &mut Vec<Batch>) -> usize {
        let mut pending = lock(&self.pending);
        pending.announced = false;
        let bytes = pending.bytes;
        pending.empty(batches);
        bytes
    }

    fn purge(&self) {
        let mut batches = Vec::new();
        {
            let mut pending = lock(&self.pending);
            pending.empty(&mut batches);
        }
        batches.into_iter().for_each(|batch| batch.failed(&BackendError::Purged));
    }
}

impl Pending {
    fn empty(&mut self, batches: &mut Vec<Batch>) {
        self.open.clear();
        self.bytes = 0;
        batches.append(&mut self.batches);
    }
}

/// Gives back batches that could not be stored, with all that their handles have queued since: it must not pass them. `queues` are those of the
/// batches. As long as the owner of a handle has not taken these answers, the handle has no room.
pub(super) fn give_back(queues: &[Arc<Queue>], batches: impl Iterator<Item = Batch>, error: &BackendError) {
    let mut held: Vec<_> = queues.iter().map(|queue| lock(&queue.pending)).collect();
    batches.for_each(|mut batch| batch.answer_failed(error, InboxState::give_back));
    let mut behind = Vec::new();
    held.iter_mut().for_each(|pending| pending.empty(&mut behind));
    behind.into_iter().for_each(|batch| batch.failed(&BackendError::Purged));
}

/// What is known of the topic of the record before.
struct LastTopic {
    name: Arc<str>,
    partitions: i32,
    compacted: bool,
}

impl LastTopic {
    /// A topic that is not there comes to be with its first record.
    fn look(engine: &Engine, name: &str) -> LastTopic {
        let view = engine.view();
        match view.meta.topics.get_key_value(name) {
            Some((name, Topic { config, partitions, .. })) => LastTopic {
                name: Arc::clone(name),
                partitions: partitions.len() as i32,
                compacted: is_compacted(config),
            },
            None => LastTopic { name: name.into(), partitions: AUTO_CREATED_PARTITIONS, compacted: false },
        }
    }
}

/// Why a record itself cannot be taken.
pub(super) fn check(record: &ProducerRecord, max_record_bytes: usize) -> Result<()> {
    match defect(record, max_record_bytes.min(wire::MAX_RECORD_BYTES)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A handle.
pub(super) struct EmbeddedWriter {
    engine: Arc<OpenStore>,
    queue: Arc<Queue>,
    inbox: Arc<Inbox>,
    max_record_bytes: usize,
}

impl EmbeddedWriter {
    pub(super) fn new(engine: Arc<OpenStore>, max_bytes: usize, max_record_bytes: usize) -> EmbeddedWriter {
        EmbeddedWriter { engine, queue: Arc::default(), inbox: Arc::new(Inbox::new(max_bytes)), max_record_bytes }
    }

    /// Queues one record, or says why not. `false`: there is no room.
    fn queue_one(
        &self,
        pending: &mut Pending,
        inbox: &mut InboxState,
        record: &ProducerRecord,
        last: &LastTopic,
        now: i64,
    ) -> Result<bool> {
        check(record, self.max_record_bytes)?;
        let size = record.size();
        if !inbox.has_room(size, self.inbox.max_bytes()) {
            return Ok(false);
        }
        let partition = partition_of(record, last.partitions, &mut pending.turn)?;
        let sequence = inbox.take(size);
        if last.compacted && record.key.is_none() {
            inbox.failed(sequence, size, keyless(&last.name));
            return Ok(true);
        }
        let Pending { batches, open, bytes, .. } = pending;
        *bytes += size;
        // Mostly the row that got the record before gets this one.
        let newest = batches.last().is_some_and(|batch| batch.partition == partition && *batch.topic == *last.name);
        let at = match newest {
            true => Some(batches.len() - 1),
            false => open.get(&(Arc::clone(&last.name), partition)).copied(),
        };
        let at = match at.filter(|at| !batches[*at].records.is_full_with(size)) {
            Some(at) => at,
            None => {
                batches.push(Batch::new(&self.inbox, &last.name, partition));
                open.insert((Arc::clone(&last.name), partition), batches.len() - 1);
                batches.len() - 1
            }
        };
        batches[at].push(record, sequence, size, now);
        Ok(true)
    }
}

#[async_trait]
impl RecordWriter for EmbeddedWriter {
    fn send(&self, records: &[ProducerRecord]) -> Result<usize> {
        let Some(first) = records.first() else { return Ok(0) };
        let mut last = LastTopic::look(&self.engine, &first.topic);
        let now = now_ms();
        let (mut taken, mut refused) = (0, None);
        let mut pending = lock(&self.queue.pending);
        let announce = {
            let mut inbox = self.inbox.lock();
            if inbox.revoked() {
                return Err(BackendError::Revoked);
            }
            if inbox.gave_back() {
                return Ok(0);
            }
            for record in records {
                if *record.topic != *last.name {
                    last = LastTopic::look(&self.engine, &record.topic);
                }
                match self.queue_one(&mut pending, &mut inbox, record, &last, now) {
                    Ok(true) => taken += 1,
                    Ok(false) => break,
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            !pending.batches.is_empty() && !std::mem::replace(&mut pending.announced, true)
        };
        drop(pending);
        // A refusal of a record is an acknowledgement already.
        self.inbox.update(|_| {});
        if announce && let Err(error) = self.engine.announce(&self.queue) {
            self.queue.purge();
            return Err(error);
        }
        match refused {
            Some(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
    }

    fn take_acks(&self, acks: &mut Vec<Ack>) {
        self.inbox.take_acks(acks);
    }

    async fn changed(&self) {
        self.inbox.changed().await;
    }

    fn in_flight(&self) -> usize {
        self.inbox.in_flight()
    }

    async fn flush(&self, timeout: Duration) -> Result<()> {
        self.inbox.drained(timeout).await
    }

    fn purge(&self) {
        self.queue.purge();
    }

    fn revoke(&self) {
        self.inbox.revoke();
        self.purge();
    }
}
