//! What the settings of a topic say of how long its records stay. Pure.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use bytes::Bytes;

use super::meta::Partition;
use super::store::Head;
use super::wire::{Row, RowBuilder, WireError};
use crate::backend::{BackendError, Isolation, Result};

/// Settings of a topic, with Kafka's names and defaults.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    pub delete: bool,
    pub compact: bool,
    /// -1: no bound.
    pub retention_ms: i64,
    /// -1: no bound.
    pub retention_bytes: i64,
    pub min_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
}

impl Policy {
    /// The policy of a topic; refused where a value cannot be what it says.
    pub(super) fn parse(topic: &str, config: &BTreeMap<String, String>) -> Result<Policy> {
        let cleanup = config.get("cleanup.policy").map_or("delete", String::as_str);
        let (mut delete, mut compact) = (false, false);
        for part in cleanup.split(',').map(str::trim) {
            match part {
                "delete" => delete = true,
                "compact" => compact = true,
                _ => return Err(refused(topic, "cleanup.policy", cleanup, "delete, compact, or both")),
            }
        }
        let at_least = |name: &str, least: i64, default: i64| number(topic, config, name, least, default);
        let ratio = config.get("min.cleanable.dirty.ratio").map_or(Ok(0.5), |text| text.trim().parse::<f64>());
        let ratio = ratio.ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        let text = config.get("min.cleanable.dirty.ratio").map_or("", String::as_str);
        Ok(Policy {
            delete,
            compact,
            retention_ms: at_least("retention.ms", -1, 7 * 24 * 3_600_000)?,
            retention_bytes: at_least("retention.bytes", -1, -1)?,
            min_compaction_lag_ms: at_least("min.compaction.lag.ms", 0, 0)?,
            delete_retention_ms: at_least("delete.retention.ms", 0, 24 * 3_600_000)?,
            min_cleanable_dirty_ratio: ratio
                .ok_or_else(|| refused(topic, "min.cleanable.dirty.ratio", text, "a number from 0 to 1"))?,
        })
    }

    /// Whether compaction of this partition is worth its work.
    pub(super) fn is_dirty(&self, partition: &Partition) -> bool {
        let dirty = partition.bytes.saturating_sub(partition.clean_bytes);
        self.compact && dirty > 0 && dirty as f64 >= self.min_cleanable_dirty_ratio * partition.bytes as f64
    }

    /// Whether compaction must leave a row alone as yet, because of a record in it.
    pub(super) fn is_young(&self, max_timestamp: i64, now: i64) -> bool {
        max_timestamp > now.saturating_sub(self.min_compaction_lag_ms) && self.min_compaction_lag_ms > 0
    }

    /// How many of the oldest rows retention removes. `heads` begin with the oldest row of the partition.
    pub(super) fn expired(&self, partition: &Partition, heads: &[Head], now: i64) -> usize {
        if !self.delete {
            return 0;
        }
        let stable = partition.end(Isolation::ReadCommitted);
        let mut left = partition.bytes;
        let is_expired = |head: &&Head| {
            let too_old = self.retention_ms >= 0 && head.max_timestamp < now.saturating_sub(self.retention_ms);
            // As Kafka: a row goes when what stays has the bound even without it.
            let too_much = u64::try_from(self.retention_bytes)
                .is_ok_and(|bound| left.checked_sub(head.bytes).is_some_and(|rest| rest >= bound));
            left = left.saturating_sub(head.bytes);
            head.next <= stable && (too_old || too_much)
        };
        heads.iter().take_while(is_expired).count()
    }
}

fn refused(topic: &str, setting: &str, value: &str, expected: &str) -> BackendError {
    BackendError::Refused(format!("topic {topic}: {setting}={value}: expected is {expected}"))
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    topic: &str,
    config: &BTreeMap<String, String>,
    name: &str,
    least: T,
    default: T,
) -> Result<T> {
    let Some(text) = config.get(name) else { return Ok(default) };
    let parsed = text.trim().parse().ok().filter(|value| *value >= least);
    parsed.ok_or_else(|| refused(topic, name, text, &format!("a whole number from {least}")))
}

/// The last offset of each key in the part of a partition that compaction has not seen, bounded in bytes.
#[derive(Debug, Default)]
pub(super) struct LastOffsets {
    offsets: HashMap<Bytes, i64>,
    bytes: usize,
}

/// Bytes that an entry takes beside its key, roughly.
const ENTRY_BYTES: usize = 96;

impl LastOffsets {
    /// Notes the keys of a row.
    pub(super) fn note(&mut self, row: &Row) -> Result<(), WireError> {
        let mut records = row.records();
        while let Some(record) = records.next()? {
            let Some(key) = record.key else { continue };
            match self.offsets.get_mut(&key) {
                Some(last) => *last = record.offset,
                None => {
                    self.bytes += key.len() + ENTRY_BYTES;
                    // A copy: a slice would keep the whole row in memory.
                    self.offsets.insert(Bytes::copy_from_slice(&key), record.offset);
                }
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_superseded(&self, key: &Bytes, offset: i64) -> bool {
        self.offsets.get(key).is_some_and(|last| *last > offset)
    }
}

/// What becomes of rows that follow each other: the rows in their place, or `None` where nothing would change. Removed are records of
/// aborted transactions, records with a later one of their key, and tombstones whose time is over. Rows that became small are joined.
pub(super) fn compacted(
    rows: &[Row],
    partition: &Partition,
    last: &LastOffsets,
    policy: &Policy,
    now: i64,
) -> Result<Option<Vec<Row>>, WireError> {
    let (mut out, mut builder) = (Vec::new(), Open::default());
    let mut changed = false;
    for row in rows {
        if partition.hides(row.header.transaction, Isolation::ReadCommitted) {
            changed = true;
            continue;
        }
        let horizon = row.header.delete_horizon;
        let mut records = row.records();
        while let Some(record) = records.next()? {
            let is_tombstone = record.key.is_some() && record.value.is_none();
            let is_over = is_tombstone && horizon != 0 && now >= horizon;
            if is_over || record.key.as_ref().is_some_and(|key| last.is_superseded(key, record.offset)) {
                changed = true;
                continue;
            }
            // The time of a tombstone begins when compaction meets it.
            let wanted = match is_tombstone {
                true if horizon == 0 => now.saturating_add(policy.delete_retention_ms).max(1),
                true => horizon,
                false => 0,
            };
            changed |= wanted != horizon && is_tombstone;
            if !builder.takes(record.offset, wanted) {
                out.extend(builder.finish()?);
            }
            builder.push(record, wanted);
        }
    }
    out.extend(builder.finish()?);
    Ok((changed || out.len() < rows.len()).then_some(out))
}

/// A row that is being put together.
#[derive(Default)]
struct Open {
    base: i64,
    /// The horizon of its tombstones, where it has some.
    horizon: i64,
    records: RowBuilder,
}

impl Open {
    fn takes(&self, offset: i64, horizon: i64) -> bool {
        let reaches = u32::try_from(offset - self.base).is_ok();
        let agrees = horizon == 0 || self.horizon == 0 || horizon == self.horizon;
        self.records.is_empty() || reaches && agrees && !self.records.is_full()
    }

    fn push(&mut self, record: super::wire::RowRecord, horizon: i64) {
        if self.records.is_empty() {
            self.base = record.offset;
        }
        self.horizon = self.horizon.max(horizon);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        self.records.push((record.offset - self.base) as u32, record.timestamp, key, value, &record.headers);
    }

    fn finish(&mut self) -> Result<Option<Row>, WireError> {
        let Open { base, horizon, records } = std::mem::take(self);
        match records.is_empty() {
            true => Ok(None),
            false => Row::trusted(base, records.finish(0, horizon)).map(Some),
        }
    }
}
