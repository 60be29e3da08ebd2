//! The store under faults that a real disk shows rarely, and what upkeep may remove.

mod cuts;
mod doubt;
mod full;
mod order;
mod readers;
mod requests;
mod simulated_disk;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::simulated_disk::SimulatedDisk;
use super::store::CACHE_BYTES;
use super::{EmbeddedBackend, OpenStore};
use crate::backend::{
    Ack, Backend, ClientSettings, Isolation, NewTopic, ProducerRecord, ReadBatch, RecordWriter, Result, StartOffset,
    TopicPartition,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TOPIC: &str = "topic";
/// Bytes of a value that fills a row.
const LARGE_BYTES: usize = 100_000;

fn start(disk: &SimulatedDisk) -> Result<EmbeddedBackend> {
    Ok(EmbeddedBackend { store: Arc::new(OpenStore::start(Box::new(disk.clone()), None)?) })
}

fn writer(backend: &EmbeddedBackend) -> Arc<dyn RecordWriter> {
    backend.writer(&ClientSettings::new(), 1 << 20).unwrap()
}

fn keyed(key: &str, value: Option<&str>, timestamp: i64) -> ProducerRecord {
    let value = value.map(|value| Bytes::from(value.to_owned()));
    ProducerRecord { timestamp: Some(timestamp), ..ProducerRecord::keyed(TOPIC, key.to_owned(), value) }
}

/// Sends and waits for all answers.
async fn send(writer: &Arc<dyn RecordWriter>, records: &[ProducerRecord]) -> Vec<Ack> {
    assert_eq!(writer.send(records).unwrap(), records.len());
    writer.flush(PATIENCE).await.unwrap();
    let mut acks = Vec::new();
    writer.take_acks(&mut acks);
    acks
}

/// Writes more rows into another topic than the store has cache for: those before them have to be read from the disk also after redb has read
/// the whole file, which it does in a debug build when it opens it.
async fn fill_cache(backend: &EmbeddedBackend) {
    let (writer, value) = (writer(backend), "v".repeat(LARGE_BYTES));
    let record = ProducerRecord { topic: "filler".into(), ..keyed("k", Some(&value), 1) };
    for _ in 0..CACHE_BYTES / LARGE_BYTES / 8 {
        send(&writer, &vec![record.clone(); 10]).await;
    }
}

async fn create(backend: &EmbeddedBackend, settings: &[(&str, &str)]) {
    let config = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let topic = NewTopic { name: TOPIC.into(), partitions: 1, replication_factor: 1, config };
    backend.admin().create_topic(&topic).await.unwrap();
}

/// Offset, key and value of all records that a reader gets to see.
async fn all(backend: &EmbeddedBackend, isolation: Isolation) -> Vec<(i64, String, Option<String>)> {
    let at = TopicPartition::new(TOPIC, 0);
    let mut reader = backend.reader(&ClientSettings::new(), isolation).unwrap();
    reader.assign(&[(at.clone(), StartOffset::Beginning)]).unwrap();
    let end = reader.end_offsets(std::slice::from_ref(&at), PATIENCE).await.unwrap()[0];
    let (mut batch, mut all) = (ReadBatch::default(), Vec::new());
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    while reader.position(&at) < Some(end) {
        reader.read(&mut batch, 100, PATIENCE).await.unwrap();
        all.extend(batch.records.iter().map(|record| {
            (record.offset, record.key.as_ref().map(text).unwrap_or_default(), record.value.as_ref().map(text))
        }));
    }
    all
}

async fn values(backend: &EmbeddedBackend, isolation: Isolation) -> Vec<String> {
    all(backend, isolation).await.into_iter().filter_map(|(.., value)| value).collect()
}

#[tokio::test]
async fn all_is_there_after_it_was_closed_and_what_was_open_is_aborted() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    create(&backend, &[("retention.ms", "-1"), ("cleanup.policy", "delete")]).await;
    send(&writer(&backend), &[keyed("k", Some("plain"), 1)]).await;
    let (settings, at) = (ClientSettings::new(), TopicPartition::new(TOPIC, 0));
    let done = backend.transactional_writer(&settings, "done", PATIENCE).await.unwrap();
    done.begin().unwrap();
    done.send(&[keyed("k", Some("committed"), 2)]).await.unwrap();
    done.send_offsets("group", &[(at.clone(), 17)]).await.unwrap();
    done.commit(PATIENCE).await.unwrap();
    let open = backend.transactional_writer(&settings, "open", PATIENCE).await.unwrap();
    open.begin().unwrap();
    open.send(&[keyed("k", Some("open"), 3)]).await.unwrap();
    open.send_offsets("group", &[(at.clone(), 99)]).await.unwrap();
    let cluster = backend.admin().cluster_id().await.unwrap();
    let meta = backend.store.view().meta.clone();
    // As after a kill: the handle of the open transaction is not dropped before.
    let backend = start(&disk.cut(|_| true)).unwrap();
    assert_eq!(backend.admin().cluster_id().await.unwrap(), cluster);
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["plain", "committed"]);
    assert_eq!(values(&backend, Isolation::ReadUncommitted).await, ["plain", "committed", "open"]);
    assert_eq!(backend.committed_offsets().committed("group", &[at]).await.unwrap(), [Some(17)]);
    let described = backend.admin().describe_topic(TOPIC).await.unwrap().unwrap();
    assert_eq!(described.setting("retention.ms"), Some("-1"));
    // A new transaction has an id of its own.
    assert!(backend.store.view().meta.last_id >= meta.last_id);
    send(&writer(&backend), &[keyed("k", Some("next"), 4)]).await;
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["plain", "committed", "next"]);
}

#[tokio::test]
async fn what_was_set_and_deleted_stays_so_after_a_kill() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    create(&backend, &[]).await;
    let (admin, offsets) = (backend.admin(), backend.committed_offsets());
    let (at, beside) = (TopicPartition::new(TOPIC, 0), TopicPartition::new("beside", 0));
    offsets.commit("group", &[(at.clone(), 17), (beside.clone(), 3)]).await.unwrap();
    let open = backend.transactional_writer(&ClientSettings::new(), "open", PATIENCE).await.unwrap();
    open.begin().unwrap();
    open.send_offsets("group", &[(at.clone(), 99), (beside.clone(), 4)]).await.unwrap();
    let wanted = [TOPIC.to_owned()];
    let first = admin.find_topics(&wanted).await.unwrap()[TOPIC];
    admin.delete_topic(TOPIC).await.unwrap();
    open.commit(PATIENCE).await.unwrap();
    create(&backend, &[]).await;
    admin.set_topic_setting(TOPIC, "min.compaction.lag.ms", "60000").await.unwrap();
    let disk = disk.cut(|_| false);
    let backend = start(&disk).unwrap();
    let admin = backend.admin();
    assert_eq!(backend.committed_offsets().all("group").await.unwrap(), [(beside, 4)], "another topic of that name");
    assert_ne!(admin.find_topics(&wanted).await.unwrap()[TOPIC].id, first.id);
    let described = admin.describe_topic(TOPIC).await.unwrap().unwrap();
    assert_eq!(described.setting("min.compaction.lag.ms"), Some("60000"));
    assert_eq!(described.setting("cleanup.policy"), Some("delete"));
    // The id of a topic that was deleted last is not given again.
    admin.delete_topic(TOPIC).await.unwrap();
    let second = backend.store.view().meta.last_id;
    let backend = start(&disk.cut(|_| false)).unwrap();
    create(&backend, &[]).await;
    assert!(backend.admin().find_topics(&wanted).await.unwrap()[TOPIC].id > second.into());
}

#[tokio::test]
async fn a_transaction_ends_with_the_handle_of_its_writer() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    let open = backend.transactional_writer(&ClientSettings::new(), "id", PATIENCE).await.unwrap();
    open.begin().unwrap();
    open.send(&[keyed("k", Some("lost"), 1)]).await.unwrap();
    drop(open);
    send(&writer(&backend), &[keyed("k", Some("kept"), 2)]).await;
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["kept"]);
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    create(&backend, &[]).await;
    for (name, value) in [("cleanup.policy", "forget"), ("retention.ms", "soon"), ("min.cleanable.dirty.ratio", "2")] {
        let error = backend.admin().set_topic_setting(TOPIC, name, value).await.unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(value), "{error}");
    }
}
