//! What the implementations without a broker decide as a broker does: names, sizes, places, and the words of their refusals.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use connect_api::TopicPartition;

use super::partitioner::partition_for_key;
use super::{BackendError, ClientSettings, ProducerRecord, Result};

/// Partitions of a topic that is made by its first record, as Kafka's `num.partitions`.
pub(super) const AUTO_CREATED_PARTITIONS: i32 = 1;
/// Partitions that a topic may have at most: a slip should not eat the memory.
const MAX_PARTITIONS: i32 = 100_000;
/// Characters that a topic's name may have at most, as in Kafka.
const MAX_TOPIC_NAME: usize = 249;
/// Bytes that one record may have where `message.max.bytes` does not say otherwise: Java's `max.request.size`.
const MAX_RECORD_BYTES: usize = 1_048_576;
/// Settings of a topic that was created without them, as Kafka's defaults.
const DEFAULTS: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("min.compaction.lag.ms", "0")];

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The bound of one record in these settings, in bytes.
pub(super) fn max_record_bytes(settings: &ClientSettings) -> Result<usize> {
    match settings.get("message.max.bytes") {
        None => Ok(MAX_RECORD_BYTES),
        Some(text) => text
            .parse()
            .map_err(|_| BackendError::Refused(format!("message.max.bytes is no number of bytes: '{text}'"))),
    }
}

/// What is wrong with a record itself.
pub(super) fn defect(record: &ProducerRecord, max_record_bytes: usize) -> Option<BackendError> {
    let (size, topic) = (record.size(), &record.topic);
    if size > max_record_bytes {
        return Some(BackendError::Refused(format!(
            "a record of {size} bytes for {topic} is larger than message.max.bytes, {max_record_bytes}"
        )));
    }
    record
        .timestamp
        .filter(|timestamp| *timestamp < 0)
        .map(|timestamp| BackendError::Refused(format!("a record for {topic} has the negative timestamp {timestamp}")))
}

/// How many partitions a new topic gets: Kafka's rule for its name, and bounds. -1 is the default.
pub(super) fn partition_count(name: &str, partitions: i32) -> Result<i32> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "." || name == ".." || name.len() > MAX_TOPIC_NAME || !name.chars().all(good) {
        return Err(BackendError::Refused(format!(
            "'{name}' is no name for a topic: 1 to {MAX_TOPIC_NAME} of a-z A-Z 0-9 . _ - and neither '.' nor '..'"
        )));
    }
    match partitions {
        -1 => Ok(AUTO_CREATED_PARTITIONS),
        1..=MAX_PARTITIONS => Ok(partitions),
        _ => Err(BackendError::Refused(format!(
            "topic {name} cannot have {partitions} partitions: 1 to {MAX_PARTITIONS}, or -1"
        ))),
    }
}

/// Where a record goes in a topic of `count` partitions: its own partition, its key's, or the next in turn.
pub(super) fn partition_of(record: &ProducerRecord, count: i32, turn: &mut u64) -> Result<i32> {
    match (record.partition, &record.key) {
        (Some(partition), _) if (0..count).contains(&partition) => Ok(partition),
        (Some(partition), _) => Err(BackendError::Refused(format!(
            "there is no partition {partition} of topic {}, which has {count}",
            record.topic
        ))),
        (None, Some(key)) => Ok(partition_for_key(key, count)),
        (None, None) => {
            *turn += 1;
            Ok((*turn % count.max(1) as u64) as i32)
        }
    }
}

/// The settings of a topic, with the defaults of those it was not given.
pub(super) fn with_defaults(config: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = |(setting, value): &(&str, &str)| ((*setting).to_owned(), (*value).to_owned());
    DEFAULTS.iter().map(own).chain(config.clone()).collect()
}

/// Whether `cleanup.policy` names compaction.
pub(super) fn is_compacted(config: &BTreeMap<String, String>) -> bool {
    config.get("cleanup.policy").is_some_and(|policy| policy.split(',').any(|part| part.trim() == "compact"))
}

pub(super) fn keyless(topic: &str) -> BackendError {
    BackendError::Refused(format!("topic {topic} is compacted and takes no record without a key"))
}

pub(super) fn unknown(partition: &TopicPartition) -> BackendError {
    BackendError::UnknownPartition(format!("there is no partition {partition}"))
}

pub(super) fn not_assigned(partition: &TopicPartition) -> BackendError {
    BackendError::Refused(format!("{partition} is not assigned to this reader"))
}

pub(super) fn assigned_already(partition: &TopicPartition) -> BackendError {
    BackendError::Refused(format!("{partition} is assigned to this reader already"))
}

pub(super) fn made_anew(partition: &TopicPartition) -> BackendError {
    BackendError::OffsetOutOfRange(format!("the topic of {partition} was made anew"))
}

pub(super) fn out_of_range(partition: &TopicPartition, start: i64, end: i64, position: i64) -> BackendError {
    BackendError::OffsetOutOfRange(format!("{partition} holds offsets {start} to {end}, not {position}"))
}
