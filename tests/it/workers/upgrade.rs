//! A rolling upgrade, and the way back: workers of this version beside one that writes as a later version may.
//!
//! The later one is this version behind [`Later`], which adds to each of its records what this version does not know. It reads as this version does,
//! so that it has to make do with its own records, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use connect_node::backend::{
    self, Ack, Backend, BackendError, ClientSettings, CommittedOffsets, Isolation, ProducerRecord, RecordReader,
    RecordWriter, TopicAdmin, TopicPartition, TransactionalWriter,
};
use connect_node::config::WorkerConfig;
use connect_node::node::Node;
use connect_node::plugins::Registry;
use serde_json::Value;

use super::*;
use crate::kills::oracle::{Tail, backend};
use crate::support::process::{PATIENCE, PROPERTIES_VARIABLE, Worker};

/// Which connectors there are: two units each.
const CONNECTORS: usize = 6;
const UNITS: usize = 2 * CONNECTORS;

/// Version of the records of the later worker.
const VERSION: i64 = 99;

/// Keys of kinds that a later version may have beside, in config and status topic.
const UNKNOWN_KEYS: [&str; 4] = ["zone-b", "workers", "status-zone-b", "lease-connect-0"];

type Result<T> = std::result::Result<T, BackendError>;

/// A cluster to which records of some topics are written as a later version may.
struct Later {
    cluster: Arc<dyn Backend>,
    topics: Arc<[String]>,
}

/// Adds what this version does not know: fields at both ends and a header, a higher version, and states of its own.
fn later(topics: &[String], record: &ProducerRecord) -> ProducerRecord {
    let mut record = record.clone();
    if !topics.iter().any(|topic| *topic == *record.topic) {
        return record;
    }
    record.headers.push((ByteString::from_static("zone"), Some(Bytes::from_static(b"b"))));
    let Some(value) = &record.value else { return record };
    let mut fields = serde_json::Map::from_iter([("epoch".to_owned(), json!({"number": 7, "of": [1, null]}))]);
    let Value::Object(own) = serde_json::from_slice(value).unwrap() else { panic!("{value:?} is no object") };
    fields.extend(own);
    fields.extend([("v".to_owned(), json!(VERSION)), ("zone".to_owned(), json!("b"))]);
    for (field, from, to) in [
        ("node_version", env!("CARGO_PKG_VERSION"), "99.0.0"),
        ("state", "draining", "leaving"),
        ("state", "UNASSIGNED", "WARMING"),
    ] {
        if fields.get(field).is_some_and(|value| value == from) {
            fields.insert(field.to_owned(), json!(to));
        }
    }
    record.value = Some(serde_json::to_vec(&fields).unwrap().into());
    record
}

#[async_trait]
impl Backend for Later {
    fn writer(&self, settings: &ClientSettings, max_bytes: usize) -> Result<Arc<dyn RecordWriter>> {
        let writer = self.cluster.writer(settings, max_bytes)?;
        Ok(Arc::new(LaterWriter { writer, topics: self.topics.clone() }))
    }

    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Arc<dyn TransactionalWriter>> {
        let writer = self.cluster.transactional_writer(settings, transactional_id, timeout).await?;
        Ok(Arc::new(LaterWriter { writer, topics: self.topics.clone() }))
    }

    fn reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        self.cluster.reader(settings, isolation)
    }

    fn shared_reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        self.cluster.shared_reader(settings, isolation)
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        self.cluster.committed_offsets()
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        self.cluster.admin()
    }
}

struct LaterWriter<W: ?Sized> {
    writer: Arc<W>,
    topics: Arc<[String]>,
}

impl<W: ?Sized> LaterWriter<W> {
    fn all_later(&self, records: &[ProducerRecord]) -> Vec<ProducerRecord> {
        records.iter().map(|record| later(&self.topics, record)).collect()
    }
}

#[async_trait]
impl RecordWriter for LaterWriter<dyn RecordWriter> {
    fn send(&self, records: &[ProducerRecord]) -> Result<usize> {
        self.writer.send(&self.all_later(records))
    }

    fn take_acks(&self, acks: &mut Vec<Ack>) {
        self.writer.take_acks(acks);
    }

    async fn changed(&self) {
        self.writer.changed().await;
    }

    fn in_flight(&self) -> usize {
        self.writer.in_flight()
    }

    fn refused_login(&self) -> Option<BackendError> {
        self.writer.refused_login()
    }

    async fn flush(&self, timeout: Duration) -> Result<()> {
        self.writer.flush(timeout).await
    }

    fn purge(&self) {
        self.writer.purge();
    }

    fn revoke(&self) {
        self.writer.revoke();
    }
}

#[async_trait]
impl TransactionalWriter for LaterWriter<dyn TransactionalWriter> {
    fn begin(&self) -> Result<()> {
        self.writer.begin()
    }

    async fn send(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        self.writer.send(&self.all_later(records)).await
    }

    async fn send_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.writer.send_offsets(group, offsets).await
    }

    async fn commit(&self, timeout: Duration) -> Result<()> {
        self.writer.commit(timeout).await
    }

    async fn abort(&self, timeout: Duration) -> Result<()> {
        self.writer.abort(timeout).await
    }
}

/// Not a test of its own: what the child process of the test below runs. Without the variable there is nothing to do.
#[test]
fn a_later_worker() {
    let Some(properties) = std::env::var_os(PROPERTIES_VARIABLE) else { return };
    let config = WorkerConfig::read(properties.as_ref()).unwrap();
    connect_node::logging::init(Some("info")).unwrap();
    let cluster = backend::open(&config.bootstrap_servers, &ClientSettings::new()).unwrap();
    let topics = [config.config_storage.name.clone(), config.status_storage.name.clone()].into();
    let registry = Registry::built_in();
    Node::start_on(Arc::new(Later { cluster, topics }), config, registry).unwrap().run_until_signal().unwrap();
}

impl Group {
    /// Adds a worker of the later version.
    async fn add_later(&mut self) -> usize {
        let names = ["group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic"];
        let same = names.map(|name| (name, self.workers[0].setting(name)));
        let same: Vec<_> = same.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let test = concat!(module_path!(), "::a_later_worker").split_once("::").unwrap().1;
        self.workers.push(Worker::of_this_binary(&self.bootstrap, &same, test));
        let number = self.workers.len() - 1;
        self.start_again(number).await;
        number
    }

    async fn start_again(&mut self, number: usize) {
        self.workers[number].start();
        self.workers[number].ready().await;
    }

    /// Records of kinds that nobody here knows.
    async fn write_unknown(&self) {
        let writer = backend(&self.bootstrap).writer(&ClientSettings::new(), 1 << 20).unwrap();
        let topics = ["config.storage.topic", "status.storage.topic"].map(|name| self.workers[0].setting(name));
        let record = |topic: &String, key: &'static str| {
            ProducerRecord::keyed(topic.as_str(), key, Some(Bytes::from_static(br#"{"v":99,"zone":"b"}"#)))
        };
        let records: Vec<_> = topics.iter().flat_map(|topic| UNKNOWN_KEYS.map(|key| record(topic, key))).collect();
        assert_eq!(writer.send(&records).unwrap(), records.len());
        writer.flush(PATIENCE).await.unwrap();
    }

    /// The last value of each key of the config topic.
    async fn config_records(&self) -> BTreeMap<String, Option<Value>> {
        let mut tail = Tail::new(&backend(&self.bootstrap), &self.workers[0].setting("config.storage.topic"), 1);
        let mut last = BTreeMap::new();
        tail.read(|record| {
            let value = record.value.as_deref().map(|value| serde_json::from_slice(value).unwrap());
            last.insert(String::from_utf8_lossy(record.key.as_deref().unwrap()).into_owned(), value);
        })
        .await;
        last
    }

    /// Waits until a worker has its share of the units, and nothing moves any more; where all of them run. It may have had its share before the last
    /// connector was there.
    async fn shared(&self, with: usize, on: &[usize]) -> Places {
        let mut places = Places::new();
        self.workers[with]
            .eventually("it has its share", async || {
                let cluster = self.workers[with].get("/cluster").await;
                let members = cluster.body.json()["members"].as_array().cloned().unwrap_or_default();
                places = self.settled(with, UNITS, on).await;
                members.iter().all(|member| member["settled"] == true)
                    && self.loads(&places)[with] >= (UNITS - 2) / on.len()
            })
            .await;
        places
    }

    /// An orderly end of a worker moves what it held, and nothing else.
    async fn leaves(&mut self, number: usize, before: &Places, left: &[usize]) -> Places {
        let ended = self.workers[number].terminate().await;
        assert_eq!(ended.code(), Some(0), "{}", self.workers[number].log_tail());
        let after = self.settled(left[0], UNITS, left).await;
        assert_eq!(moved(before, &after), self.loads(before)[number], "exactly what it held");
        after
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_two_versions_share_units_and_take_over_from_each_other() {
    let mut group = Group::start(2).await;
    group.write_unknown().await;
    let names: Vec<String> = (0..CONNECTORS).map(|number| format!("c{number}")).collect();
    for name in &names[1..] {
        group.source(0, name).await;
    }
    let lines = Lines::start(names.iter().map(|name| group.file(name)).collect());
    let later = group.add_later().await;
    // One of the connectors is the later worker's record.
    group.source(later, &names[0]).await;
    let shared = group.shared(later, &[0, 1, later]).await;

    // What the later worker wrote stays as it wrote it, whoever has read it and written beside it since.
    for verb in ["pause", "resume"] {
        let reply = group.workers[1].call("PUT", &format!("/connectors/{}/{verb}", names[0]), None).await.unwrap();
        assert_eq!(reply.status, 202);
    }
    let records = group.config_records().await;
    let member = format!("worker-{}", id(&group.workers[later]));
    for key in [member.as_str(), "connector-c0"].into_iter().chain(UNKNOWN_KEYS) {
        let value = records[key].as_ref().unwrap_or_else(|| panic!("{key} was removed"));
        assert_eq!((&value["v"], &value["zone"]), (&json!(VERSION), &json!("b")), "{key}");
    }

    // Each version takes over what a killed worker of the other one held.
    let before = group.settled(0, UNITS, &[0, 1, later]).await;
    assert_eq!(moved(&shared, &before), 0, "nothing was moved by that");
    group.workers[later].kill().await;
    let after = group.settled(0, UNITS, &[0, 1]).await;
    assert_eq!(moved(&before, &after), group.loads(&before)[later], "exactly what it held");
    group.start_again(later).await;
    let before = group.shared(later, &[0, 1, later]).await;
    group.workers[1].kill().await;
    let after = group.settled(later, UNITS, &[0, later]).await;
    assert_eq!(moved(&before, &after), group.loads(&before)[1], "exactly what it held");

    // The rest of the upgrade, and the way back: the older one starts on records of the later one only.
    group.leaves(0, &after, &[later]).await;
    group.start_again(0).await;
    let before = group.shared(0, &[0, later]).await;
    group.leaves(later, &before, &[0]).await;

    let count = lines.end().await;
    for name in &names {
        let found: BTreeSet<usize> = lines_of(&group, 0, name, count).await.into_iter().collect();
        assert_eq!(found, (0..count).collect(), "{name}: none lost");
    }
    assert_eq!(group.workers[0].terminate().await.code(), Some(0), "{}", group.workers[0].log_tail());
}
