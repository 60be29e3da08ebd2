//! Retention, compaction and the removal of deleted topics, a bounded step at a time. A step reads by itself and hands its effect to the
//! writer thread, so that appends wait for one step at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::engine::Engine;
use super::meta::{Effect, Partition, Place};
use super::plan::Command;
use super::policy::{LastOffsets, Policy, compacted};
use super::wire::{Row, WireError};
use crate::backend::inbox::lock;
use crate::backend::rules::now_ms;
use crate::backend::{BackendError, Isolation, Result};

/// How often all partitions are looked at, as Kafka's `log.cleaner.backoff.ms`.
const INTERVAL: Duration = Duration::from_secs(15);
/// Rows that one step of retention or of removal takes at most.
const STEP_ROWS: usize = 64;
/// Bytes of rows that one step of compaction reads and writes.
const STEP_BYTES: usize = 1 << 20;
/// Bytes of keys that one pass of compaction remembers; more of them take further passes.
const MAX_KEY_BYTES: usize = 32 << 20;

/// How little is worth a pass of compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoroughness {
    /// As `min.cleanable.dirty.ratio` says.
    AsConfigured,
    /// All that may be compacted.
    All,
}

/// The upkeep of one store.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    stopping: Mutex<bool>,
    stopped: Condvar,
    /// Held by the one who is at it.
    working: Mutex<()>,
}

impl Upkeep {
    /// Lets the thread end after its step.
    pub(super) fn stop(&self) {
        *lock(&self.stopping) = true;
        self.stopped.notify_all();
    }

    fn is_stopping(&self) -> bool {
        *lock(&self.stopping)
    }

    /// The life of the thread.
    pub(super) fn run_until_stopped(&self, engine: &Engine) {
        let mut stopping = lock(&self.stopping);
        while !*stopping {
            let waited = self.stopped.wait_timeout(stopping, INTERVAL).unwrap_or_else(PoisonError::into_inner);
            stopping = waited.0;
            if waited.1.timed_out() {
                drop(stopping);
                if let Err(error) = self.run(engine, now_ms(), Thoroughness::AsConfigured) {
                    tracing::warn!("upkeep of the store goes on in {} s: {error}", INTERVAL.as_secs());
                }
                stopping = lock(&self.stopping);
            }
        }
    }

    /// Looks at everything once. A partition that it cannot work on keeps it from no other one; the first error is returned.
    pub(super) fn run(&self, engine: &Engine, now: i64, thoroughness: Thoroughness) -> Result<()> {
        let _working = lock(&self.working);
        let mut outcome = Ok(());
        for (at, config) in places(engine) {
            outcome = outcome.and(self.look_after(engine, &at, &config, now, thoroughness));
        }
        let deleted: Vec<u64> = engine.view().meta.deleted.keys().copied().collect();
        for id in deleted {
            outcome = outcome.and(self.sweep(engine, id));
        }
        outcome
    }

    fn look_after(
        &self,
        engine: &Engine,
        at: &Place,
        config: &BTreeMap<String, String>,
        now: i64,
        thoroughness: Thoroughness,
    ) -> Result<()> {
        let policy = Policy::parse(&at.topic, config)?;
        self.retain(engine, at, &policy, now)?;
        self.compact(engine, at, &policy, now, thoroughness)
    }

    /// Removes the oldest rows, as long as there is something to remove.
    fn retain(&self, engine: &Engine, at: &Place, policy: &Policy, now: i64) -> Result<()> {
        // One row tells whether there is anything to do.
        let mut max = 1;
        while !self.is_stopping() {
            let Some(partition) = partition(engine, at) else { return Ok(()) };
            let heads = engine.read(|store| store.heads(at.id, at.partition, partition.start, partition.end, max))?;
            let expired = &heads[..policy.expired(&partition, &heads, now)];
            let Some(last) = expired.last() else { return Ok(()) };
            let bytes = expired.iter().map(|head| head.bytes).sum();
            let rows = expired.iter().map(|head| head.base).collect();
            self.hand_over(engine, Effect::Truncated { at: at.clone(), start: last.next, rows, bytes })?;
            max = STEP_ROWS;
        }
        Ok(())
    }

    /// Passes of compaction, until nothing more may be compacted.
    fn compact(&self, engine: &Engine, at: &Place, policy: &Policy, now: i64, how: Thoroughness) -> Result<()> {
        while policy.compact && !self.is_stopping() {
            let Some(partition) = partition(engine, at) else { return Ok(()) };
            let worth = policy.is_dirty(&partition) || how == Thoroughness::All;
            if !worth || partition.cleaned >= partition.end(Isolation::ReadCommitted) {
                return Ok(());
            }
            let (last, limit) = self.survey(engine, at, &partition, policy, now)?;
            if limit <= partition.cleaned {
                return Ok(());
            }
            self.rewrite(engine, at, &partition, policy, now, &last, limit)?;
        }
        Ok(())
    }

    /// Reads what compaction has not seen: the last offset of each key, and how far that goes. It ends before the first
    /// row with a record that is too young, at the last stable offset, or where the keys are too many.
    fn survey(
        &self,
        engine: &Engine,
        at: &Place,
        partition: &Partition,
        policy: &Policy,
        now: i64,
    ) -> Result<(LastOffsets, i64)> {
        let (mut last, mut limit) = (LastOffsets::default(), partition.cleaned);
        let stable = partition.end(Isolation::ReadCommitted);
        while !self.is_stopping() {
            let rows = engine.read(|store| store.rows(at.id, at.partition, limit, stable, STEP_BYTES))?;
            if rows.is_empty() {
                return Ok((last, stable));
            }
            for row in rows {
                let is_full = last.bytes() >= MAX_KEY_BYTES;
                if is_full || policy.is_young(row.header.max_timestamp, now) {
                    return Ok((last, limit));
                }
                if !partition.hides(row.header.transaction, Isolation::ReadCommitted) {
                    last.note(&row).map_err(|error| damaged(at, &row, &error))?;
                }
                limit = row.next();
            }
        }
        Ok((last, partition.cleaned))
    }

    /// Puts compacted rows in the place of all rows below `limit`.
    #[allow(clippy::too_many_arguments)] // what a pass is about; a struct for one call would name them twice
    fn rewrite(
        &self,
        engine: &Engine,
        at: &Place,
        partition: &Partition,
        policy: &Policy,
        now: i64,
        last: &LastOffsets,
        limit: i64,
    ) -> Result<()> {
        let (mut from, mut clean_bytes) = (partition.start, 0);
        loop {
            if self.is_stopping() {
                return Ok(());
            }
            let rows = engine.read(|store| store.rows(at.id, at.partition, from, limit, STEP_BYTES))?;
            let Some(newest) = rows.last() else { break };
            from = newest.next();
            let compacted = compacted(&rows, partition, last, policy, now);
            let compacted = compacted.map_err(|error| damaged(at, &rows[0], &error))?;
            let size = |rows: &[Row]| rows.iter().map(|row| row.bytes.len() as u64).sum::<u64>();
            clean_bytes += compacted.as_deref().map_or(size(&rows), size);
            if let Some(added) = compacted {
                let removed_bytes = size(&rows);
                let removed = rows.iter().map(|row| row.base).collect();
                let effect = Effect::Rewritten { at: at.clone(), removed, removed_bytes, added, cleaned: None };
                self.hand_over(engine, effect)?;
            }
        }
        let cleaned = Some((limit, clean_bytes));
        let (removed, added) = (Vec::new(), Vec::new());
        self.hand_over(engine, Effect::Rewritten { at: at.clone(), removed, removed_bytes: 0, added, cleaned })
    }

    /// Removes the rows of a deleted topic.
    fn sweep(&self, engine: &Engine, id: u64) -> Result<()> {
        while !self.is_stopping() {
            let (rows, bytes) = engine.read(|store| store.rows_left(id, STEP_ROWS))?;
            let last = rows.len() < STEP_ROWS;
            self.hand_over(engine, Effect::TopicSwept { id, rows, bytes, last })?;
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives an effect to the writer thread and waits until it is stored.
    fn hand_over(&self, engine: &Engine, effect: Effect) -> Result<()> {
        let stored = engine.command(|reply| Command::Upkeep { effect, reply })?.blocking_recv();
        stored.unwrap_or_else(|_| Err(BackendError::Fatal("the writer thread of the store has ended".into())))
    }
}

fn places(engine: &Engine) -> Vec<(Place, BTreeMap<String, String>)> {
    let view = engine.view();
    let mut places = Vec::new();
    for (name, topic) in &view.meta.topics {
        for partition in 0..topic.partitions.len() as i32 {
            places.push((Place { topic: Arc::clone(name), id: topic.id, partition }, topic.config.clone()));
        }
    }
    places
}

fn partition(engine: &Engine, at: &Place) -> Option<Partition> {
    engine.view().meta.at(at).cloned()
}

fn damaged(at: &Place, row: &Row, error: &WireError) -> BackendError {
    BackendError::Refused(format!("the stored records of {} from {} on are damaged: {error}", at.name(), row.base))
}
