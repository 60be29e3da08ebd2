//! What a Java worker without exactly-once would read of the config topic, put right: it also reads records of aborted transactions.
//!
//! Not done after each lost race but before the topic is given back: a commit that is appended again is a new task set, and the
//! tasks of its connector restart.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::config_records::{Commit, ConfigRecord};
use crate::backend::{
    Backend, BackendError, ClientSettings, ConsumerRecord, Isolation, ProducerRecord, ReadBatch, StartOffset,
    TopicPartition,
};

/// Records of one read.
const BATCH_RECORDS: usize = 2000;

/// Wait of one read.
const READ_WAIT: Duration = Duration::from_millis(500);

/// The last record of each key.
type Last = BTreeMap<Bytes, ConsumerRecord>;

/// What has to be appended, so that the last record of each key is the committed one, and the end of the committed log that this was found at.
pub(super) async fn find(
    backend: &dyn Backend,
    partition: &TopicPartition,
    settings: &ClientSettings,
    limit: Duration,
) -> Result<(Vec<ProducerRecord>, i64), BackendError> {
    let deadline = Instant::now() + limit;
    let (committed, end) = scan(backend, partition, settings, Isolation::ReadCommitted, deadline).await?;
    let (raw, _) = scan(backend, partition, settings, Isolation::ReadUncommitted, deadline).await?;
    Ok((restatements(&partition.topic, &raw, &committed), end))
}

async fn scan(
    backend: &dyn Backend,
    partition: &TopicPartition,
    settings: &ClientSettings,
    isolation: Isolation,
    deadline: Instant,
) -> Result<(Last, i64), BackendError> {
    let remaining = || deadline.saturating_duration_since(Instant::now());
    let mut reader = backend.reader(settings, isolation)?;
    let end = reader.end_offsets(std::slice::from_ref(partition), remaining()).await?;
    let end = end.first().copied().unwrap_or_default();
    reader.assign(&[(partition.clone(), StartOffset::Beginning)])?;
    let mut last = Last::new();
    let mut batch = ReadBatch::default();
    while reader.position(partition).is_none_or(|position| position < end) {
        if remaining().is_zero() {
            return Err(BackendError::Retriable(format!("{partition} was not read to its end in time")));
        }
        reader.read(&mut batch, BATCH_RECORDS, READ_WAIT.min(remaining())).await?;
        last.extend(batch.records.drain(..).filter_map(|record| Some((record.key.clone()?, record))));
    }
    Ok((last, end))
}

/// In the order of the committed records, so that tasks stand before their commit.
fn restatements(topic: &str, raw: &Last, committed: &Last) -> Vec<ProducerRecord> {
    let hidden =
        raw.iter().filter(|(key, record)| committed.get(*key).is_none_or(|committed| committed.offset < record.offset));
    let mut again: Vec<(i64, ProducerRecord)> = hidden
        .filter_map(|(key, aborted)| match committed.get(key) {
            Some(record) => {
                let mut again = ProducerRecord::keyed(topic, key.clone(), record.value.clone());
                again.headers = record.headers.clone();
                Some((record.offset, again))
            }
            None => Some((aborted.offset, never_written(key, aborted)?.encode(topic))),
        })
        .collect();
    again.sort_by_key(|(offset, _)| *offset);
    again.into_iter().map(|(_, record)| record).collect()
}

/// What stands for a record that no committed one precedes. Task records without a commit do no harm.
fn never_written(key: &Bytes, aborted: &ConsumerRecord) -> Option<ConfigRecord> {
    match ConfigRecord::decode(aborted.offset, Some(key), aborted.value.as_ref()).ok()? {
        ConfigRecord::Connector(name, _) => Some(ConfigRecord::Connector(name, None)),
        ConfigRecord::TargetState(name, _) => Some(ConfigRecord::TargetState(name, None)),
        ConfigRecord::Member(id, _) => Some(ConfigRecord::Member(id, None)),
        ConfigRecord::Commit(name, _) => Some(ConfigRecord::Commit(name, Commit { tasks: 0, config: None })),
        _ => None,
    }
}
