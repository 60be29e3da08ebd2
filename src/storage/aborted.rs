//! What a Java worker without exactly-once would read of the config topic, put right: it also reads records of aborted transactions.
//!
//! No write waits for it: it is done beside the writes, some time after a transaction of somebody may have been aborted, and once more when the
//! topic is given back. A commit that is appended again is a new task set, and the tasks of its connector restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster_state::ClusterState;
use super::committer::Writes;
use super::config_records::{Commit, ConfigRecord, commit_key, connector_key, is_member, is_turn, task_key};
use super::topic_log::{CompareError, FETCH_WAIT, LogError, TopicLog};
use crate::backend::{
    Backend, BackendError, ClientSettings, ConsumerRecord, Header, Isolation, ProducerRecord, ReadBatch, StartOffset,
    TopicPartition,
};

/// Records of one read.
const BATCH_RECORDS: usize = 2000;

/// Wait of one read.
const READ_WAIT: Duration = Duration::from_millis(500);

/// From a possible abort to the look: the write that it belongs to is over by then. Doubled after each look that came to nothing.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);

/// From one look to the next at least.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// How long reading may make no progress.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);

/// The last record of each key.
type Last = BTreeMap<Bytes, ConsumerRecord>;

/// Both readings of the topic.
pub(super) struct Readings {
    committed: Last,
    raw: Last,
    /// The end of the committed log that they were made at.
    pub end: i64,
}

/// Somebody wrote while the topic was examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the topic was written to while it was examined; try again")]
pub struct LogMoved;

/// Looks for what aborted records hide in the config topic, and writes it again.
pub(super) struct Restater {
    pub backend: Arc<dyn Backend>,
    pub reader: ClientSettings,
    pub log: Arc<TopicLog>,
    pub partition: TopicPartition,
    pub writes: Writes,
}

impl Restater {
    /// Restates each time after `aborts` has changed: the transaction of somebody may have been aborted.
    pub async fn run(&self, mut aborts: watch::Receiver<u64>) {
        while aborts.changed().await.is_ok() {
            let mut wait = FIRST_LOOK;
            loop {
                tokio::time::sleep(wait).await;
                match self.restate(LOOK_PATIENCE).await {
                    Ok(records) => {
                        if records > 0 {
                            let topic = self.log.topic();
                            tracing::info!(
                                topic,
                                records,
                                "appended again what aborted records hide from Java workers"
                            );
                        }
                        break;
                    }
                    Err(CompareError::Rejected(LogMoved)) => {}
                    Err(error) => {
                        tracing::warn!(topic = self.log.topic(), %error, "aborted records could not be looked for; tried again");
                    }
                }
                wait = (wait * 2).min(LOOK_INTERVAL);
            }
            // A look reads the whole topic twice: all that comes meanwhile is looked for together.
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Appends the committed record again for each key whose last record was aborted, in one transaction. Returns how many records that
    /// took. Gives up where reading makes no progress for `patience`.
    pub async fn restate(&self, patience: Duration) -> Result<usize, CompareError<LogMoved>> {
        let readings = self.readings(patience).await.map_err(CompareError::NotWritten)?;
        let (records, end) = (readings.restatements(self.log.topic()), readings.end);
        let count = records.len();
        if count == 0 {
            return Ok(0);
        }
        let check = move |state: &ClusterState| {
            if state.moved_to() > end { Err(LogMoved) } else { Ok(records.clone()) }
        };
        self.writes.put(&self.log, false, check).await.map(|_| count)
    }

    /// Reads the topic twice: what is committed, and what a reader sees that takes everything.
    pub async fn readings(&self, patience: Duration) -> Result<Readings, LogError> {
        let mut settings = self.reader.clone();
        let (name, wait) = FETCH_WAIT;
        settings.entry(name.to_owned()).or_insert_with(|| wait.to_owned());
        let committed = scan(&*self.backend, &self.partition, &settings, Isolation::ReadCommitted, patience);
        let raw = scan(&*self.backend, &self.partition, &settings, Isolation::ReadUncommitted, patience);
        let failed = |error| LogError::Backend { topic: self.log.topic().into(), error };
        let ((committed, end), (raw, _)) = tokio::try_join!(committed, raw).map_err(failed)?;
        Ok(Readings { committed, raw, end })
    }
}

async fn scan(
    backend: &dyn Backend,
    partition: &TopicPartition,
    settings: &ClientSettings,
    isolation: Isolation,
    patience: Duration,
) -> Result<(Last, i64), BackendError> {
    let mut reader = backend.reader(settings, isolation)?;
    let asked = std::slice::from_ref(partition);
    let end = reader.end_offsets(asked, patience).await?.first().copied().unwrap_or_default();
    // Kafka's client takes half a second to find out by itself where the beginning is.
    let begin = reader.beginning_offsets(asked, patience).await?.first().copied().unwrap_or_default();
    reader.assign(&[(partition.clone(), StartOffset::At(begin))])?;
    let mut last = Last::new();
    let mut batch = ReadBatch::default();
    let (mut position, mut moved) = (None, Instant::now());
    while position.is_none_or(|position| position < end) {
        if moved.elapsed() >= patience {
            return Err(BackendError::Retriable(format!("reading {partition} makes no progress")));
        }
        reader.read(&mut batch, BATCH_RECORDS, READ_WAIT.min(patience)).await?;
        last.extend(batch.records.drain(..).filter_map(|record| Some((copied(record.key.as_ref()?), owned(record)))));
        if reader.position(partition) != position {
            (position, moved) = (reader.position(partition), Instant::now());
        }
    }
    Ok((last, end))
}

/// A slice would keep the whole block of its batch alive.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn owned(record: ConsumerRecord) -> ConsumerRecord {
    let header = |(name, value): Header| (ByteString::from(&*name), value.as_ref().map(copied));
    ConsumerRecord {
        key: record.key.as_ref().map(copied),
        value: record.value.as_ref().map(copied),
        headers: record.headers.into_iter().map(header).collect(),
        ..record
    }
}

impl Readings {
    /// The aborted records that are the last of their keys, in the order of keys. Without those of members and of turns: Java passes over them, and a
    /// member whose record was said again would seem to have joined anew.
    pub fn hidden(&self) -> impl Iterator<Item = (&Bytes, &ConsumerRecord)> {
        let is_last = |key: &Bytes, raw: &ConsumerRecord| {
            self.committed.get(key).is_none_or(|committed| committed.offset < raw.offset)
        };
        self.raw.iter().filter(move |(key, raw)| is_last(key, raw) && !is_turn(key) && !is_member(key))
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
        ConfigRecord::Commit(name, _) => Some(ConfigRecord::Commit(name, Commit { tasks: 0, config: None })),
        _ => None,
    }
}
