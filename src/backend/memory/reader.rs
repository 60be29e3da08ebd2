//! Readers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::{TimestampType, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cluster::{Cluster, State};
use super::faults::Request;
use crate::backend::rules::{assigned_already, made_anew, not_assigned, out_of_range, unknown};
use crate::backend::{ConsumerRecord, Isolation, ReadBatch, RecordReader, Result, StartOffset};

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
}

/// A reader.
pub(super) struct MemoryReader {
    cluster: Arc<Cluster>,
    isolation: Isolation,
    assigned: Vec<Assigned>,
    index: HashMap<TopicPartition, usize>,
    /// Who is served first by the next read.
    turn: usize,
    wake: Arc<Notify>,
}

impl MemoryReader {
    pub(super) fn new(cluster: Arc<Cluster>, isolation: Isolation) -> MemoryReader {
        MemoryReader {
            cluster,
            isolation,
            assigned: Vec::new(),
            index: HashMap::new(),
            turn: 0,
            wake: Arc::new(Notify::new()),
        }
    }

    fn reindex(&mut self) {
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

    /// Fills the batch with what is there. An error only where nothing was delivered.
    fn fill(&mut self, batch: &mut ReadBatch, max_records: usize) -> Result<()> {
        let cluster = Arc::clone(&self.cluster);
        let state = cluster.lock();
        if state.faults.down {
            return Ok(());
        }
        let count = self.assigned.len();
        for step in 0..count {
            let room = max_records.saturating_sub(batch.records.len());
            let assigned = &mut self.assigned[(self.turn + step) % count];
            if let Err(error) = assigned.fill(&state, self.isolation, batch, room) {
                if batch.records.is_empty() && batch.ends.is_empty() {
                    return Err(error);
                }
                // The next read meets it again; what was read before it is delivered first.
                (assigned.reported_unknown, assigned.reported_lost) = (false, false);
                self.wake.notify_one();
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1) % count.max(1);
        Ok(())
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
        }
    }

    /// Finds out where to start, as soon as the topic is there.
    fn settle(&mut self, state: &State, isolation: Isolation) {
        if self.position.is_none()
            && let (Some(topic), Some(log)) = (state.topics.get(&self.partition.topic), state.log(&self.partition))
        {
            self.topic_id = topic.id;
            self.position = Some(match self.start {
                StartOffset::Beginning => log.start(),
                StartOffset::End => log.end(isolation),
                StartOffset::At(offset) => offset,
            });
        }
    }

    fn fill(&mut self, state: &State, isolation: Isolation, batch: &mut ReadBatch, room: usize) -> Result<()> {
        self.settle(state, isolation);
        if self.paused {
            return Ok(());
        }
        let (Some(topic), Some(log)) = (state.topics.get(&self.partition.topic), state.log(&self.partition)) else {
            return match std::mem::replace(&mut self.reported_unknown, true) {
                true => Ok(()),
                false => Err(unknown(&self.partition)),
            };
        };
        let Some(position) = self.position else { return Ok(()) };
        let (start, end) = (log.start(), log.end(Isolation::ReadUncommitted));
        let partition = &self.partition;
        let anew = topic.id != self.topic_id;
        if anew || !(start..=end).contains(&position) {
            return match std::mem::replace(&mut self.reported_lost, true) {
                true => Ok(()),
                false if anew => Err(made_anew(partition)),
                false => Err(out_of_range(partition, start, end, position)),
            };
        }
        let mut source = None;
        let mut position = position;
        let mut delivered = 0;
        for stored in log.read(position, isolation).take(room) {
            let source = *source.get_or_insert_with(|| batch.source_of(partition));
            batch.records.push(ConsumerRecord {
                source,
                offset: stored.offset,
                timestamp: stored.timestamp,
                timestamp_type: TimestampType::CreateTime,
                key: stored.key.clone(),
                value: stored.value.clone(),
                headers: stored.headers.clone(),
            });
            position = stored.offset + 1;
            delivered += 1;
        }
        let end = log.end(isolation);
        if delivered < room || position >= end {
            position = position.max(end);
            if self.reported_end != Some(position) {
                self.reported_end = Some(position);
                batch.ends.push((partition.clone(), position));
            }
        }
        self.position = Some(position);
        Ok(())
    }
}

#[async_trait]
impl RecordReader for MemoryReader {
    fn assign(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        self.assigned.clear();
        self.index.clear();
        self.add(partitions)
    }

    fn add(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        if let Some((partition, _)) = partitions.iter().find(|(partition, _)| self.index.contains_key(partition)) {
            return Err(assigned_already(partition));
        }
        let cluster = Arc::clone(&self.cluster);
        let mut state = cluster.lock();
        for (partition, start) in partitions {
            let mut assigned = Assigned::new(partition, *start);
            assigned.settle(&state, self.isolation);
            state.watch(partition, &self.wake);
            self.assigned.push(assigned);
        }
        drop(state);
        self.reindex();
        self.wake.notify_one();
        Ok(())
    }

    fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if let Some(partition) = partitions.iter().find(|partition| !self.index.contains_key(partition)) {
            return Err(not_assigned(partition));
        }
        self.assigned.retain(|assigned| !partitions.contains(&assigned.partition));
        self.reindex();
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.each(partitions, |assigned| assigned.paused = true)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.each(partitions, |assigned| assigned.paused = false)
    }

    async fn seek(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let cluster = Arc::clone(&self.cluster);
        let mut state = cluster.lock();
        if let Some(error) = state.faults.failure_of(Request::Seek) {
            return Err(error);
        }
        for (partition, offset) in offsets {
            let at = *self.index.get(partition).ok_or_else(|| not_assigned(partition))?;
            let topic_id = state.topics.get(&partition.topic).ok_or_else(|| unknown(partition))?.id;
            let assigned = &mut self.assigned[at];
            assigned.position = Some(*offset);
            assigned.topic_id = topic_id;
            assigned.reported_end = None;
            assigned.reported_lost = false;
        }
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    async fn read(&mut self, batch: &mut ReadBatch, max_records: usize, max_wait: Duration) -> Result<()> {
        batch.clear();
        let deadline = Instant::now() + max_wait;
        loop {
            self.fill(batch, max_records)?;
            if !batch.records.is_empty() || !batch.ends.is_empty() {
                return Ok(());
            }
            // Faults wake nobody's partition, they wake the cluster.
            let changed = self.cluster.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_down = self.cluster.lock().faults.down;
            tokio::select! {
                () = self.wake.notified() => {}
                () = changed, if is_down => {}
                () = tokio::time::sleep_until(deadline) => return Ok(()),
            }
        }
    }

    fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.assigned[*self.index.get(partition)?].position
    }

    async fn end_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>> {
        let isolation = self.isolation;
        let look = |state: &mut State| {
            if let Some(error) = state.faults.failure_of_bounds(partitions) {
                return Some(Err(error));
            }
            let ends =
                partitions.iter().map(|it| state.log(it).map(|log| log.end(isolation)).ok_or_else(|| unknown(it)));
            Some(ends.collect::<Result<Vec<_>>>())
        };
        self.cluster.wait_for(timeout, "asking for end offsets", look).await?
    }

    async fn beginning_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>> {
        let look = |state: &mut State| {
            if let Some(error) = state.faults.failure_of_bounds(partitions) {
                return Some(Err(error));
            }
            let starts = partitions.iter().map(|it| state.log(it).map(|log| log.start()).ok_or_else(|| unknown(it)));
            Some(starts.collect::<Result<Vec<_>>>())
        };
        self.cluster.wait_for(timeout, "asking for beginning offsets", look).await?
    }
}
