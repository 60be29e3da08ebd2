//! Readers: whole rows from the recent ones or from the store, cut into records.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::{TimestampType, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::OpenStore;
use super::engine::Engine;
use super::in_hand::{InHand, Share};
use super::meta::Partition;
use super::view::View;
use super::wire::{Records, Row, RowRecord};
use crate::backend::rules::{assigned_already, made_anew, not_assigned, out_of_range, unknown};
use crate::backend::{BackendError, ConsumerRecord, Isolation, ReadBatch, RecordReader, Result, StartOffset};

/// Bytes of rows that are read from the store at once; one row may have more. Of one row at a time where readers have much in hand.
const READ_AHEAD_BYTES: usize = 1 << 20;
/// Rows that are taken from the recent ones at once; they share their memory with the engine.
const READ_AHEAD_ROWS: usize = 16;

/// What a reader knows of one of its partitions.
struct Assigned {
    partition: TopicPartition,
    start: StartOffset,
    /// `None` until the topic was seen.
    position: Option<i64>,
    /// The topic that the position belongs to.
    topic_id: u64,
    paused: bool,
    /// The end that was reported last.
    reported_end: Option<i64>,
    /// Said once that there is no such partition.
    reported_unknown: bool,
    /// Said once that the position is not in the log; as Kafka's client it rests there then, and keeps no other partition from being read.
    reported_lost: bool,
    /// The row that is being delivered.
    records: Option<Records>,
    /// Rows behind it. What is here may be delivered: it was below the end that this reader may reach.
    ahead: VecDeque<Row>,
    /// The bytes of both.
    share: Option<Share>,
    /// They were among the recent ones: to take them again costs little.
    is_recent: bool,
}

/// What came of looking at a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Done,
    /// Its next rows are in the store only, from here to there.
    Store {
        id: u64,
        from: i64,
        to: i64,
        /// Up to where compaction had been when the rows were asked for.
        cleaned: i64,
    },
}

/// A reader.
pub(super) struct EmbeddedReader {
    engine: Arc<OpenStore>,
    isolation: Isolation,
    assigned: Vec<Assigned>,
    index: HashMap<TopicPartition, usize>,
    /// Who is served first by the next read.
    turn: usize,
    wake: Arc<Notify>,
    /// Whose rows have to be read from the store, when the last read had others to deliver. They come first in the next one, or else a partition with new
    /// records would hold up one with old ones.
    owed: Option<(usize, Look)>,
}

impl EmbeddedReader {
    pub(super) fn new(engine: Arc<OpenStore>, isolation: Isolation) -> EmbeddedReader {
        EmbeddedReader {
            engine,
            isolation,
            assigned: Vec::new(),
            index: HashMap::new(),
            turn: 0,
            wake: Arc::new(Notify::new()),
            owed: None,
        }
    }

    fn reindex(&mut self) {
        self.owed = None;
        self.index = self.assigned.iter().enumerate().map(|(at, it)| (it.partition.clone(), at)).collect();
    }

    fn each(&mut self, partitions: &[TopicPartition], change: impl Fn(&mut Assigned)) -> Result<()> {
        for partition in partitions {
            let at = *self.index.get(partition).ok_or_else(|| not_assigned(partition))?;
            change(&mut self.assigned[at]);
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Fills the batch with what is in memory. Returns whose rows have to be read from the store first. An error only where nothing was
    /// delivered.
    pub(super) fn fill(&mut self, batch: &mut ReadBatch, max_records: usize) -> Result<Vec<(usize, Look)>> {
        let count = self.assigned.len();
        let mut missing = Vec::new();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let room = max_records.saturating_sub(batch.records.len());
            let assigned = &mut self.assigned[at];
            match assigned.fill(&self.engine, self.isolation, batch, room) {
                Ok(Look::Done) => {}
                Ok(store) => missing.push((at, store)),
                Err(error) => {
                    if batch.records.is_empty() && batch.ends.is_empty() {
                        return Err(error);
                    }
                    // The next read meets it again; what was read before it is delivered first.
                    (assigned.reported_unknown, assigned.reported_lost) = (false, false);
                    self.wake.notify_one();
                    break;
                }
            }
        }
        self.turn = self.turn.wrapping_add(1) % count.max(1);
        Ok(missing)
    }

    /// Reads rows of one partition from the store, away from the threads of the runtime.
    async fn read_ahead(&mut self, at: usize, look: Look) -> Result<()> {
        let Look::Store { id, from, to, .. } = look else { return Ok(()) };
        if self.assigned[at].paused {
            return Ok(());
        }
        let engine = Arc::clone(&self.engine);
        let number = self.assigned[at].partition.partition;
        let max_bytes = if engine.in_hand.is_full() { 1 } else { READ_AHEAD_BYTES };
        // Counted from now on, since others are about to read as well.
        let _share = engine.in_hand.share(max_bytes);
        let read = move || engine.read(|store| store.rows(id, number, from, to, max_bytes));
        let rows = tokio::task::spawn_blocking(read).await;
        let rows = rows.map_err(|error| BackendError::Fatal(format!("reading the store ended: {error}")))??;
        self.accept(at, look, rows);
        Ok(())
    }

    /// Takes what was read in hand, if it may still be delivered. If not, the next look says what is to be done.
    pub(super) fn accept(&mut self, at: usize, look: Look, rows: Vec<Row>) {
        let Look::Store { id, from, to, cleaned } = look else { return };
        let assigned = &mut self.assigned[at];
        let view = self.engine.view();
        // Retention may have been faster: then the position is out of range, which the next look says.
        let topic = view.meta.topics.get(&assigned.partition.topic).filter(|topic| topic.id == id);
        // And what compaction has passed meanwhile is read again: it has forgotten which of the transactions were aborted.
        let as_it_was = |log: &Partition| log.start <= from && (log.cleaned <= from || log.cleaned == cleaned);
        if topic.is_none() || !view.meta.partition(&assigned.partition).is_some_and(as_it_was) {
            return;
        }
        assigned.is_recent = false;
        assigned.take_in(rows, to, &view, self.isolation, &self.engine.in_hand);
    }

    /// Whether rows may be read from the store: also where readers have much in hand one that has nothing to deliver goes on.
    fn may_read_ahead(&self) -> bool {
        !self.engine.in_hand.is_full() || !self.assigned.iter().any(|assigned| !assigned.paused && assigned.has_rows())
    }

    fn unwatch(&self, which: impl Fn(&TopicPartition) -> bool) {
        let mut view = self.engine.view();
        let partitions = self.assigned.iter().map(|assigned| &assigned.partition);
        partitions.filter(|partition| which(partition)).for_each(|partition| view.unwatch(partition, &self.wake));
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        self.unwatch(|_| true);
    }
}

impl Assigned {
    fn new(partition: &TopicPartition, start: StartOffset) -> Assigned {
        Assigned {
            partition: partition.clone(),
            start,
            position: None,
            topic_id: 0,
            paused: false,
            reported_end: None,
            reported_unknown: false,
            reported_lost: false,
            records: None,
            ahead: VecDeque::new(),
            share: None,
            is_recent: false,
        }
    }

    /// Finds out where to start, as soon as the topic is there.
    fn settle(&mut self, view: &View, isolation: Isolation) {
        if self.position.is_none()
            && let (Some(topic), Some(log)) =
                (view.meta.topics.get(&self.partition.topic), view.meta.partition(&self.partition))
        {
            self.topic_id = topic.id;
            self.position = Some(match self.start {
                StartOffset::Beginning => log.start,
                StartOffset::End => log.end(isolation),
                StartOffset::At(offset) => offset,
            });
        }
    }

    fn go_to(&mut self, position: i64, topic_id: u64) {
        self.position = Some(position);
        self.topic_id = topic_id;
        self.reported_end = None;
        self.reported_lost = false;
        self.let_go();
    }

    fn has_rows(&self) -> bool {
        self.records.is_some() || !self.ahead.is_empty()
    }

    /// Forgets the rows in hand; the position says where to take them again.
    fn let_go(&mut self) {
        self.records = None;
        self.ahead.clear();
        self.share = None;
    }

    /// Takes rows in hand, all that there are below `to` or some. There may be none: compaction or markers left nothing.
    fn take_in(
        &mut self,
        rows: impl IntoIterator<Item = Row>,
        to: i64,
        view: &View,
        isolation: Isolation,
        in_hand: &Arc<InHand>,
    ) {
        self.ahead.extend(rows);
        if self.ahead.is_empty() {
            self.position = Some(to);
        }
        self.drop_hidden(view, isolation);
        self.share = Some(in_hand.share(self.ahead.iter().map(|row| row.bytes.len()).sum()));
    }

    /// Delivers what is in memory, up to `room` records.
    fn fill(&mut self, engine: &Engine, isolation: Isolation, batch: &mut ReadBatch, room: usize) -> Result<Look> {
        let mut left = room;
        loop {
            if self.position.is_none() {
                self.settle(&engine.view(), isolation);
            }
            if self.paused {
                return Ok(Look::Done);
            }
            // Rows in hand do without the lock that all share.
            self.deliver(batch, &mut left)?;
            if left == 0 && self.has_rows() {
                if self.is_recent && engine.in_hand.is_full() {
                    self.let_go();
                }
                return Ok(Look::Done);
            }
            let view = engine.view();
            let Some((id, log, position)) = self.look(&view, isolation)? else { return Ok(Look::Done) };
            let end = log.end(isolation);
            if position >= end {
                self.report_end(batch, position);
                return Ok(Look::Done);
            }
            if left == 0 {
                return Ok(Look::Done);
            }
            let Some(recent) = view.recent(id, self.partition.partition, position) else {
                return Ok(Look::Store { id, from: position, to: end, cleaned: log.cleaned });
            };
            let below = recent.take_while(|row| row.base < end).take(READ_AHEAD_ROWS);
            self.is_recent = true;
            self.take_in(below.cloned(), end, &view, isolation, &engine.in_hand);
        }
    }

    /// The id of the topic, the partition and the position in it. `None` where there is nothing to do.
    fn look<'a>(&mut self, view: &'a View, isolation: Isolation) -> Result<Option<(u64, &'a Partition, i64)>> {
        self.settle(view, isolation);
        let partition = &self.partition;
        let topic = view.meta.topics.get(&partition.topic);
        let (Some(topic), Some(log)) = (topic, view.meta.partition(partition)) else {
            return match std::mem::replace(&mut self.reported_unknown, true) {
                true => Ok(None),
                false => Err(unknown(partition)),
            };
        };
        let Some(position) = self.position else { return Ok(None) };
        let anew = topic.id != self.topic_id;
        if anew || !(log.start..=log.end).contains(&position) {
            return match std::mem::replace(&mut self.reported_lost, true) {
                true => Ok(None),
                false if anew => Err(made_anew(partition)),
                false => Err(out_of_range(partition, log.start, log.end, position)),
            };
        }
        Ok(Some((topic.id, log, position)))
    }

    /// Drops rows of aborted transactions. What is ahead lies below the last stable offset, so each transaction has ended.
    fn drop_hidden(&mut self, view: &View, isolation: Isolation) {
        if let Some(log) = view.meta.partition(&self.partition)
            && !log.aborted.is_empty()
        {
            let hidden = |row: &Row| log.hides(row.header.transaction, isolation);
            while let Some(row) = self.ahead.pop_front_if(|row| hidden(row)) {
                self.position = Some(row.next());
            }
            // Those between others are passed over when the rows before them are delivered.
            self.ahead.retain(|row| !hidden(row));
        }
    }

    fn deliver(&mut self, batch: &mut ReadBatch, left: &mut usize) -> Result<()> {
        let mut source = None;
        while *left > 0 {
            let Some(position) = self.position else { return Ok(()) };
            let records = match &mut self.records {
                Some(records) => records,
                None => match self.ahead.pop_front() {
                    Some(row) => self.records.insert(row.records()),
                    None => return Ok(()),
                },
            };
            let read = records.next().map_err(|error| {
                let partition = &self.partition;
                BackendError::Refused(format!(
                    "the stored records of {partition} from {position} on are damaged: {error}"
                ))
            })?;
            match read {
                None => {
                    self.position = Some(position.max(records.next_offset()));
                    self.records = None;
                }
                Some(record) if record.offset < position => {}
                Some(record) => {
                    let source = *source.get_or_insert_with(|| batch.source_of(&self.partition));
                    self.position = Some(record.offset + 1);
                    batch.records.push(consumer_record(source, record));
                    *left -= 1;
                }
            }
        }
        // A row that is done is put aside, so that the position is behind it.
        if self.records.as_ref().is_some_and(Records::is_done) {
            self.position = self.position.max(self.records.take().map(|records| records.next_offset()));
        }
        if !self.has_rows() {
            self.share = None;
        }
        Ok(())
    }

    fn report_end(&mut self, batch: &mut ReadBatch, position: i64) {
        if self.reported_end != Some(position) {
            self.reported_end = Some(position);
            batch.ends.push((self.partition.clone(), position));
        }
    }
}

fn consumer_record(source: u32, record: RowRecord) -> ConsumerRecord {
    let RowRecord { offset, timestamp, key, value, headers } = record;
    ConsumerRecord { source, offset, timestamp, timestamp_type: TimestampType::CreateTime, key, value, headers }
}

#[async_trait]
impl RecordReader for EmbeddedReader {
    fn assign(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        self.unwatch(|_| true);
        self.assigned.clear();
        self.index.clear();
        self.add(partitions)
    }

    fn add(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        if let Some((partition, _)) = partitions.iter().find(|(partition, _)| self.index.contains_key(partition)) {
            return Err(assigned_already(partition));
        }
        let mut view = self.engine.view();
        for (partition, start) in partitions {
            let mut assigned = Assigned::new(partition, *start);
            assigned.settle(&view, self.isolation);
            view.watch(partition, &self.wake);
            self.assigned.push(assigned);
        }
        drop(view);
        self.reindex();
        self.wake.notify_one();
        Ok(())
    }

    fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if let Some(partition) = partitions.iter().find(|partition| !self.index.contains_key(partition)) {
            return Err(not_assigned(partition));
        }
        self.unwatch(|partition| partitions.contains(partition));
        self.assigned.retain(|assigned| !partitions.contains(&assigned.partition));
        self.reindex();
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let is_full = self.engine.in_hand.is_full();
        self.each(partitions, |assigned| {
            assigned.paused = true;
            if is_full {
                assigned.let_go();
            }
        })
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.each(partitions, |assigned| assigned.paused = false)
    }

    async fn seek(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.owed = None;
        let view = self.engine.view();
        for (partition, offset) in offsets {
            let at = *self.index.get(partition).ok_or_else(|| not_assigned(partition))?;
            let topic_id = view.meta.topics.get(&partition.topic).ok_or_else(|| unknown(partition))?.id;
            self.assigned[at].go_to(*offset, topic_id);
        }
        drop(view);
        self.wake.notify_one();
        Ok(())
    }

    async fn read(&mut self, batch: &mut ReadBatch, max_records: usize, max_wait: Duration) -> Result<()> {
        batch.clear();
        let deadline = Instant::now() + max_wait;
        // Before anything is delivered: a read that is dropped must not lose it.
        let mut missing: Vec<_> = self.owed.take().into_iter().collect();
        loop {
            let mut put_off = Vec::new();
            for (at, look) in missing {
                match self.may_read_ahead() {
                    true => self.read_ahead(at, look).await?,
                    false => put_off.push((at, look)),
                }
            }
            let mut found = self.fill(batch, max_records)?;
            // Those that were put off come first.
            found.retain(|(at, _)| put_off.iter().all(|(other, _)| other != at));
            missing = put_off;
            missing.append(&mut found);
            if !batch.records.is_empty() || !batch.ends.is_empty() {
                self.owed = missing.into_iter().next();
                return Ok(());
            }
            if missing.is_empty() || !self.may_read_ahead() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(deadline) => return Ok(()),
                }
            }
        }
    }

    fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.assigned[*self.index.get(partition)?].position
    }

    async fn end_offsets(&self, partitions: &[TopicPartition], _timeout: Duration) -> Result<Vec<i64>> {
        let view = self.engine.view();
        let end = |log: &Partition| log.end(self.isolation);
        partitions.iter().map(|it| view.meta.partition(it).map(end).ok_or_else(|| unknown(it))).collect()
    }

    async fn beginning_offsets(&self, partitions: &[TopicPartition], _timeout: Duration) -> Result<Vec<i64>> {
        let view = self.engine.view();
        let start = |log: &Partition| log.start;
        partitions.iter().map(|it| view.meta.partition(it).map(start).ok_or_else(|| unknown(it))).collect()
    }
}
