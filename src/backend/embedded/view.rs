//! What readers and requests see: only what is durable, with the rows that were appended a moment ago.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use connect_api::TopicPartition;
use tokio::sync::Notify;

use super::meta::{Effect, Meta, Place};
use super::wire::Row;

/// Bytes of recent rows that are kept, of all partitions together: a reader that follows the end does not ask the store.
const RECENT_BYTES: usize = 32 << 20;
/// Entries of `by_age` beyond two for each recent row, from which on those of forgotten rows are dropped.
const SPARE_AGES: usize = 1024;

/// What the lock of the engine protects.
#[derive(Debug, Default)]
pub(super) struct View {
    pub meta: Meta,
    /// The newest rows of partitions, without a gap up to the end.
    recent: HashMap<(u64, i32), VecDeque<Row>>,
    /// All rows of `recent` by age, and some that were taken out of it since, by partition and offset.
    by_age: VecDeque<((u64, i32), i64)>,
    recent_bytes: usize,
    recent_rows: usize,
    /// Readers by topic and partition, also of topics that are not there.
    watchers: HashMap<Arc<str>, HashMap<i32, Vec<Arc<Notify>>>>,
}

impl View {
    pub(super) fn new(meta: Meta) -> View {
        View { meta, ..View::default() }
    }

    /// Carries out what has become durable and wakes whom it concerns.
    pub(super) fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.meta.apply(effect);
            match effect {
                Effect::Appended { at, row } => {
                    self.keep(at, row);
                    self.wake(&at.topic, at.partition);
                }
                Effect::Marker { at, .. } => self.wake(&at.topic, at.partition),
                Effect::Truncated { at, start, .. } => {
                    self.forget((at.id, at.partition), *start);
                    self.wake(&at.topic, at.partition);
                }
                Effect::Rewritten { at, removed, .. } => {
                    if let Some(last) = removed.last() {
                        self.forget((at.id, at.partition), last + 1);
                    }
                }
                Effect::TopicCreated { name, .. } => self.wake_topic(name),
                Effect::TopicDeleted { name, id } => {
                    let partitions: Vec<_> = self.recent.keys().filter(|(topic, _)| topic == id).copied().collect();
                    partitions.into_iter().for_each(|key| self.forget(key, i64::MAX));
                    self.wake_topic(name);
                }
                _ => {}
            }
        }
        while self.recent_bytes > RECENT_BYTES
            && let Some((key, base)) = self.by_age.pop_front()
        {
            self.forget(key, base + 1);
        }
        if self.by_age.len() > 2 * self.recent_rows + SPARE_AGES {
            let recent = &self.recent;
            let is_there = |rows: &VecDeque<Row>, base: i64| rows.binary_search_by_key(&base, |row| row.base).is_ok();
            self.by_age.retain(|(key, base)| recent.get(key).is_some_and(|rows| is_there(rows, *base)));
        }
    }

    fn keep(&mut self, at: &Place, row: &Row) {
        let key = (at.id, at.partition);
        self.recent.entry(key).or_default().push_back(row.clone());
        self.by_age.push_back((key, row.base));
        self.recent_bytes += row.bytes.len();
        self.recent_rows += 1;
    }

    /// Forgets recent rows that begin below `before`.
    fn forget(&mut self, key: (u64, i32), before: i64) {
        let Some(rows) = self.recent.get_mut(&key) else { return };
        while let Some(row) = rows.pop_front_if(|row| row.base < before) {
            self.recent_bytes -= row.bytes.len();
            self.recent_rows -= 1;
        }
        if rows.is_empty() {
            self.recent.remove(&key);
        }
    }

    /// Recent rows from the one that holds `position` on; `None` where the store has to be asked.
    pub(super) fn recent(&self, id: u64, partition: i32, position: i64) -> Option<impl Iterator<Item = &Row>> {
        let rows = self.recent.get(&(id, partition))?;
        rows.front().filter(|row| row.base <= position)?;
        let from = rows.partition_point(|row| row.next() <= position);
        Some(rows.range(from..))
    }

    #[cfg(test)]
    pub(super) fn ages(&self) -> usize {
        self.by_age.len()
    }

    /// Tells `notify` about changes of a partition, until `unwatch`.
    pub(super) fn watch(&mut self, partition: &TopicPartition, notify: &Arc<Notify>) {
        let watchers = self.watchers.entry(Arc::clone(&partition.topic)).or_default();
        watchers.entry(partition.partition).or_default().push(Arc::clone(notify));
    }

    pub(super) fn unwatch(&mut self, partition: &TopicPartition, notify: &Arc<Notify>) {
        let Some(topic) = self.watchers.get_mut(&partition.topic) else { return };
        if let Some(watchers) = topic.get_mut(&partition.partition) {
            watchers.retain(|other| !Arc::ptr_eq(other, notify));
            if watchers.is_empty() {
                topic.remove(&partition.partition);
            }
        }
        if topic.is_empty() {
            self.watchers.remove(&partition.topic);
        }
    }

    #[cfg(test)]
    pub(super) fn watchers(&self) -> usize {
        self.watchers.values().flat_map(HashMap::values).map(Vec::len).sum()
    }

    fn wake(&self, topic: &str, partition: i32) {
        let watchers = self.watchers.get(topic).and_then(|watchers| watchers.get(&partition));
        watchers.into_iter().flatten().for_each(|notify| notify.notify_one());
    }

    fn wake_topic(&self, topic: &str) {
        let watchers = self.watchers.get(topic).into_iter().flat_map(HashMap::values);
        watchers.flatten().for_each(|notify| notify.notify_one());
    }
}
