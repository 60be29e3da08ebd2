//! What a Java worker without exactly-once would read of the config topic, put right: it also reads records of aborted transactions.
//!
//! Not done after each lost race but before the topic is given back: a commit that is appended again is a new task set, and the
//! tasks of its connector restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::config_records::{Commit, ConfigRecord, commit_key, connector_key, task_key};
use super::topic_log::FETCH_WAIT;
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

/// Both readings of the topic.
pub(super) struct Readings {
    committed: Last,
    raw: Last,
    /// The end of the committed log that they were made at.
    pub end: i64,
}

/// Reads the topic twice: what is committed, and what a reader sees that takes everything.
pub(super) async fn read(
    backend: &dyn Backend,
    partition: &TopicPartition,
    settings: &ClientSettings,
    limit: Duration,
) -> Result<Readings, BackendError> {
    let deadline = Instant::now() + limit;
    let mut settings = settings.clone();
    let (name, wait) = FETCH_WAIT;
    settings.entry(name.to_owned()).or_insert_with(|| wait.to_owned());
    let settings = &settings;
    let committed = scan(backend, partition, settings, Isolation::ReadCommitted, deadline);
    let raw = scan(backend, partition, settings, Isolation::ReadUncommitted, deadline);
    let ((committed, end), (raw, _)) = tokio::try_join!(committed, raw)?;
    Ok(Readings { committed, raw, end })
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
    let asked = std::slice::from_ref(partition);
    let end = reader.end_offsets(asked, remaining()).await?.first().copied().unwrap_or_default();
    // Kafka's client takes half a second to find out by itself where the beginning is.
    let begin = reader.beginning_offsets(asked, remaining()).await?.first().copied().unwrap_or_default();
    reader.assign(&[(partition.clone(), StartOffset::At(begin))])?;
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

impl Readings {
    /// The aborted records that are the last of their keys, in the order of keys.
    pub fn hidden(&self) -> impl Iterator<Item = (&Bytes, &ConsumerRecord)> {
        let is_last = |key: &Bytes, raw: &ConsumerRecord| {
            self.committed.get(key).is_none_or(|committed| committed.offset < raw.offset)
        };
        self.raw.iter().filter(move |(key, raw)| is_last(key, raw))
    }

    /// What has to be appended, so that the last record of each key is the committed one.
    ///
    /// Where the record of a connector or its commit is among them, the connector, all its tasks and the commit are written again in this
    /// order: a commit counts for the task records before it and since the last commit only, and Java takes a commit for nothing
    /// that its reader meets without a connector. The rest comes in the order in which it was committed.
    pub fn restatements(&self, topic: &str) -> Vec<ProducerRecord> {
        let whole: BTreeSet<String> =
            self.hidden().filter_map(|(key, raw)| self.existing_connector(key, raw)).collect();
        let mut again: Vec<_> = whole.iter().flat_map(|name| self.whole_connector(topic, name)).collect();
        let written: BTreeSet<Bytes> = again.iter().filter_map(|record| record.key.clone()).collect();
        let mut rest: Vec<_> = self
            .hidden()
            .filter(|(key, _)| !written.contains(*key))
            .filter_map(|(key, raw)| match self.committed.get(key) {
                Some(record) => Some((record.offset, repeated(topic, record))),
                None => Some((raw.offset, never_written(key, raw)?.encode(topic))),
            })
            .collect();
        rest.sort_by_key(|(offset, _)| *offset);
        again.extend(rest.into_iter().map(|(_, record)| record));
        again
    }

    /// The connector whose own record or commit this is, if it exists by what is committed.
    fn existing_connector(&self, key: &Bytes, raw: &ConsumerRecord) -> Option<String> {
        let (ConfigRecord::Connector(name, _) | ConfigRecord::Commit(name, _)) =
            ConfigRecord::decode(raw.offset, Some(key), raw.value.as_ref()).ok()?
        else {
            return None;
        };
        self.committed.get(connector_key(&name).as_bytes())?.value.as_ref()?;
        Some(name)
    }

    fn whole_connector(&self, topic: &str, name: &str) -> Vec<ProducerRecord> {
        let committed = |key: String| self.committed.get(key.as_bytes());
        let commit = committed(commit_key(name));
        let tasks = commit.and_then(|record| {
            match ConfigRecord::decode(record.offset, record.key.as_ref(), record.value.as_ref()) {
                Ok(ConfigRecord::Commit(_, commit)) => Some(commit.tasks),
                _ => None,
            }
        });
        let tasks = (0..tasks.unwrap_or(0)).filter_map(|task| committed(task_key(name, task)));
        let records = committed(connector_key(name)).into_iter().chain(tasks).chain(commit);
        records.map(|record| repeated(topic, record)).collect()
    }
}

fn repeated(topic: &str, record: &ConsumerRecord) -> ProducerRecord {
    let key = record.key.clone().unwrap_or_default();
    ProducerRecord { headers: record.headers.clone(), ..ProducerRecord::keyed(topic, key, record.value.clone()) }
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
