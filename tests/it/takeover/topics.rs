//! What stands in the internal topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use connect_node::backend::partitioner;
use connect_node::backend::{
    Backend, ClientSettings, Isolation, ProducerRecord, ReadBatch, StartOffset, TopicPartition, open,
};
use serde_json::Value;

use crate::support::process::{PATIENCE, Worker};

/// The settings that name the internal topics.
pub const SETTINGS: [&str; 3] = ["config.storage.topic", "offset.storage.topic", "status.storage.topic"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub partition: i32,
    pub offset: i64,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Row {
    pub fn key(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }

    pub fn json(&self) -> Value {
        self.value.as_ref().map_or(Value::Null, |value| serde_json::from_slice(value).unwrap_or(Value::Null))
    }
}

/// The internal topics of a worker.
pub struct Topics {
    pub backend: Arc<dyn Backend>,
    names: [String; 3],
}

impl Topics {
    pub fn of(worker: &Worker) -> Topics {
        let backend = open(&worker.setting("bootstrap.servers"), &ClientSettings::new()).unwrap();
        Topics { backend, names: SETTINGS.map(|setting| worker.setting(setting)) }
    }

    /// In the order of [`SETTINGS`].
    pub fn names(&self) -> &[String; 3] {
        &self.names
    }

    pub fn config_topic(&self) -> &str {
        &self.names[0]
    }

    /// The config topic as Java without exactly-once reads it: with aborted records.
    pub async fn config_raw(&self) -> Vec<Row> {
        self.read(&self.names[0], Isolation::ReadUncommitted).await
    }

    pub async fn config(&self) -> Vec<Row> {
        self.read(&self.names[0], Isolation::ReadCommitted).await
    }

    pub async fn offsets(&self) -> Vec<Row> {
        self.read(&self.names[1], Isolation::ReadCommitted).await
    }

    pub async fn statuses(&self) -> Vec<Row> {
        self.read(&self.names[2], Isolation::ReadUncommitted).await
    }

    /// All records of a topic, by partition and offset.
    pub async fn read(&self, topic: &str, isolation: Isolation) -> Vec<Row> {
        let count = self.backend.admin().describe_topic(topic).await.unwrap().map_or(0, |topic| topic.partitions);
        let partitions: Vec<_> = (0..count).map(|partition| TopicPartition::new(topic, partition)).collect();
        let mut reader = self.backend.reader(&ClientSettings::new(), isolation).unwrap();
        let ends = reader.end_offsets(&partitions, PATIENCE).await.unwrap();
        let starts: Vec<_> = partitions.iter().map(|it| (it.clone(), StartOffset::At(0))).collect();
        reader.assign(&starts).unwrap();
        let (mut rows, mut batch) = (Vec::new(), ReadBatch::default());
        let all = async {
            while partitions.iter().zip(&ends).any(|(it, end)| reader.position(it).unwrap_or(0) < *end) {
                reader.read(&mut batch, 10_000, PATIENCE).await.unwrap();
                rows.extend(batch.records.iter().map(|record| Row {
                    partition: batch.partition(record).partition,
                    offset: record.offset,
                    key: record.key.clone().unwrap_or_default(),
                    value: record.value.clone(),
                }));
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("a topic can be read to its end");
        rows.sort_by_key(|row| (row.partition, row.offset));
        rows
    }

    /// Writes records past the worker, in partitions of choice, and waits until they are stored.
    pub async fn write(&self, records: &[ProducerRecord]) {
        let writer = self.backend.writer(&ClientSettings::new(), 64 << 20).unwrap();
        assert_eq!(writer.send(records).unwrap(), records.len());
        writer.flush(PATIENCE).await.unwrap();
        let mut acks = Vec::new();
        writer.take_acks(&mut acks);
        for ack in acks {
            assert!(matches!(ack, connect_node::backend::Ack::Delivered { .. }), "{ack:?}");
        }
    }

    /// Writes records in a transaction of this id, and aborts it. The id that the writers of a config topic share is `connect-cluster-<group.id>`.
    pub async fn write_aborted(&self, id: &str, records: &[ProducerRecord]) {
        let writer = self.backend.transactional_writer(&ClientSettings::new(), id, PATIENCE).await.unwrap();
        writer.begin().unwrap();
        writer.send(records).await.unwrap();
        writer.abort(PATIENCE).await.unwrap();
    }

    /// A8: how many keys each connector has in the offset topic.
    pub async fn offset_keys(&self) -> BTreeMap<String, usize> {
        let keys: BTreeSet<Bytes> = self.offsets().await.into_iter().map(|row| row.key).collect();
        let mut counts = BTreeMap::new();
        for key in keys {
            if let Some(name) = connector_of(&key) {
                *counts.entry(name).or_default() += 1;
            }
        }
        counts
    }

    /// A9: every record of the three topics lies in the partition of its key.
    pub async fn check_partitions(&self) {
        for name in &self.names {
            let count = self.backend.admin().describe_topic(name).await.unwrap().unwrap().partitions;
            for row in self.read(name, Isolation::ReadUncommitted).await {
                let expected = partitioner::partition_for_key(&row.key, count);
                assert_eq!(row.partition, expected, "A9: {name} has {} at offset {}", row.key(), row.offset);
            }
        }
    }

    /// A4: the source offsets of a connector, in the form that `GET /connectors/{name}/offsets` has.
    pub async fn source_offsets(&self, connector: &str) -> Vec<Value> {
        let mut last = BTreeMap::new();
        for row in self.offsets().await {
            last.insert(row.key.clone(), row.json());
        }
        let mut offsets = Vec::new();
        for (key, offset) in last {
            let key: Value = serde_json::from_slice(&key).unwrap_or(Value::Null);
            if key.as_array().is_some_and(|key| key.len() == 2) && key[0] == connector && !offset.is_null() {
                offsets.push(serde_json::json!({"partition": key[1], "offset": offset}));
            }
        }
        offsets
    }
}

fn connector_of(key: &[u8]) -> Option<String> {
    let key: Value = serde_json::from_slice(key).ok()?;
    let parts = key.as_array().filter(|parts| parts.len() == 2 && parts[1].is_object())?;
    parts[0].as_str().map(str::to_owned)
}

/// What was appended between two readings of a topic of one partition.
pub fn appended<'a>(before: &[Row], after: &'a [Row]) -> &'a [Row] {
    let start = before.last().map_or(0, |row| row.offset + 1);
    let at = after.partition_point(|row| row.offset < start);
    &after[at..]
}

/// Those that connect-node alone knows.
pub fn is_worker_record(row: &Row) -> bool {
    row.key.starts_with(b"worker-")
}
