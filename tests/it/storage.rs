//! The stores over each backend: transactions, isolation and ends are what they rely on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connect_api::FieldMap;
use connect_node::backend::{
    Backend, ClientSettings, Isolation, ProducerRecord, ReadBatch, RecordReader, StartOffset, TopicPartition,
};
use connect_node::cluster::{Incarnation, MemberState, NO_SET, Nonce, Register, RegisterFields};
use connect_node::storage::ClusterState;
use connect_node::storage::config_records::{ConfigRecord, MemberRecord};
use connect_node::storage::config_store::{ConfigStore, ConfigStoreSettings};
use connect_node::storage::offset_store::{OffsetStore, TopicOffsetStore};
use connect_node::storage::plan;
use connect_node::storage::records::RawConfig;
use connect_node::storage::status_records::{StatusRecord, UnitId, UnitState};
use connect_node::storage::status_store::StatusStore;
use connect_node::storage::topic_log::{CompareError, LogError, LogSettings};
use connect_node::storage::topics::{InternalTopic, TopicPurpose, create_or_check};

use crate::support::node::{Setup, on_all};
use crate::support::unique;

const LIMIT: Duration = Duration::from_secs(20);

on_all!(
    no_write_of_several_workers_is_lost,
    a_lonely_worker_keeps_its_writer,
    a_dead_writer_blocks_nobody_for_long,
    statuses_and_offsets_are_read_by_others,
    a_topic_that_was_made_anew_is_noticed,
);

/// The topics and the transactional id of one Connect cluster.
struct Cluster {
    backend: Arc<dyn Backend>,
    prefix: String,
}

impl Cluster {
    async fn new(setup: &Setup) -> Cluster {
        let cluster = Cluster { backend: setup.backend(), prefix: unique("storage") };
        for (purpose, suffix, partitions) in [
            (TopicPurpose::Config, "configs", 1),
            (TopicPurpose::Offset, "offsets", 25),
            (TopicPurpose::Status, "status", 5),
        ] {
            let topic = InternalTopic {
                purpose,
                name: cluster.topic(suffix),
                partitions,
                replication_factor: 1,
                config: Default::default(),
            };
            let found = create_or_check(&*cluster.backend.admin(), &topic).await.unwrap();
            assert_eq!((found.partitions, found.setting("cleanup.policy")), (partitions, Some("compact")));
        }
        cluster
    }

    fn topic(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.prefix)
    }

    fn transactional_id(&self) -> String {
        format!("connect-cluster-{}", self.prefix)
    }

    fn log(&self, isolation: Isolation) -> LogSettings {
        LogSettings {
            reader: ClientSettings::new(),
            writer: ClientSettings::new(),
            writer_max_bytes: 1 << 20,
            isolation,
        }
    }

    async fn configs(&self) -> ConfigStore {
        self.open(None).await
    }

    async fn open(&self, worker: Option<&str>) -> ConfigStore {
        let settings = ConfigStoreSettings {
            log: self.log(Isolation::ReadCommitted),
            transactional_writer: ClientSettings::new(),
            transactional_id: self.transactional_id(),
            writer: worker.map(str::to_owned),
        };
        ConfigStore::open(self.backend.clone(), &self.topic("configs"), settings).await.unwrap()
    }
}

fn config(salt: &str) -> RawConfig {
    RawConfig::from([("salt".to_owned(), Some(salt.to_owned()))])
}

fn member() -> MemberRecord {
    MemberRecord {
        state: MemberState::Joined,
        nonce: Nonce(1),
        incarnation: None,
        group_id: "workers".into(),
        rest_url: "http://h/".into(),
        gossip_address: String::new(),
        settled: false,
        fence_ms: None,
        node_version: "0".into(),
    }
}

fn create(state: &ClusterState, name: &str) -> Result<Vec<ConfigRecord>, String> {
    match state.connector(name) {
        Some(_) => Err(format!("{name} exists")),
        None => Ok(plan::put_connector(state, name, config("0"), None)),
    }
}

async fn no_write_of_several_workers_is_lost(setup: Setup) {
    const WORKERS: usize = 4;
    const WRITES: usize = 6;
    let cluster = Cluster::new(&setup).await;
    let first = cluster.configs().await;
    first.put(|state| create(state, "a")).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let worker = unique("worker");
        let store = cluster.open(Some(&worker)).await;
        store.append(&plan::member_joined(&worker, member()), LIMIT).await.unwrap();
        workers.spawn(async move {
            let mut took = Vec::new();
            for _ in 0..WRITES {
                let increment = |state: &ClusterState| {
                    let old = state.connector("a").and_then(|entry| entry.config["salt"].clone()).unwrap_or_default();
                    let next = old.parse::<usize>().unwrap() + 1;
                    Ok::<_, String>(plan::put_connector(state, "a", config(&next.to_string()), None))
                };
                let before = Instant::now();
                store.put(increment).await.unwrap();
                took.push(before.elapsed());
            }
            took
        });
    }
    let mut took: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    println!("writes that raced: median {:?}, worst {:?}", took[took.len() / 2], took[took.len() - 1]);
    first.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(first.snapshot().connector("a").unwrap().config, config(&(WORKERS * WRITES).to_string()));
}

async fn a_lonely_worker_keeps_its_writer(setup: Setup) {
    let cluster = Cluster::new(&setup).await;
    let store = Arc::new(cluster.configs().await);
    let before = Instant::now();
    store.put(|state| create(state, "first")).await.unwrap();
    let first = before.elapsed();
    let before = Instant::now();
    for number in 0..10 {
        store.put(move |state| create(state, &format!("c{number}"))).await.unwrap();
    }
    let each = before.elapsed() / 10;
    let before = Instant::now();
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..200 {
        let store = store.clone();
        writes.spawn(async move { store.put(move |state| create(state, &format!("d{number}"))).await });
    }
    assert!(writes.join_all().await.iter().all(Result::is_ok));
    println!("first write {first:?}, further ones {each:?} each, 200 at once {:?}", before.elapsed());
    let rejected = store.put(|state| create(state, "d7")).await;
    assert!(matches!(rejected, Err(CompareError::Rejected(_))), "{rejected:?}");
    assert_eq!(cluster.configs().await.snapshot(), store.snapshot());
}

async fn a_dead_writer_blocks_nobody_for_long(setup: Setup) {
    let cluster = Cluster::new(&setup).await;
    let store = cluster.configs().await;
    let topic = cluster.topic("configs");
    let dead =
        cluster.backend.transactional_writer(&ClientSettings::new(), &cluster.transactional_id(), LIMIT).await.unwrap();
    dead.begin().unwrap();
    let half = |key| ProducerRecord::keyed(topic.as_str(), key, Some(r#"{"properties":{}}"#.into()));
    dead.send(&[half("connector-half"), half("connector-a")]).await.unwrap();
    let before = Instant::now();
    store.append(&ConfigRecord::LoggerLevel("a".into(), "INFO".into()), LIMIT).await.unwrap();
    println!("a plain append behind an open transaction: {:?}", before.elapsed());
    assert!(before.elapsed() < Duration::from_secs(5));
    store.put(|state| create(state, "a")).await.unwrap();
    assert_eq!(store.snapshot().connectors().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
    // The end is a transaction marker; a reader that is opened now gets there.
    let fresh = cluster.configs().await;
    assert_eq!(fresh.log().positions(), fresh.log().ends(LIMIT).await.unwrap().offsets);
    // The write took the id over, which ended the dead writer's transaction: connector-half has no committed record.
    assert_eq!(store.restate_aborted(LIMIT).await.unwrap(), 1);
    let raw = cluster.backend.reader(&ClientSettings::new(), Isolation::ReadUncommitted).unwrap();
    assert!(last_value(raw, &topic, "connector-half").await.is_none());
    assert_eq!(store.restate_aborted(LIMIT).await.unwrap(), 0);
}

/// The value of the last record of a key, aborted ones included; `None` for a tombstone. There has to be one.
async fn last_value(mut reader: Box<dyn RecordReader>, topic: &str, key: &str) -> Option<bytes::Bytes> {
    let partition = TopicPartition::new(topic, 0);
    let end = reader.end_offsets(std::slice::from_ref(&partition), LIMIT).await.unwrap()[0];
    reader.assign(&[(partition.clone(), StartOffset::Beginning)]).unwrap();
    let (mut batch, mut last) = (ReadBatch::default(), None);
    let deadline = Instant::now() + LIMIT;
    while reader.position(&partition).is_none_or(|position| position < end) {
        assert!(Instant::now() < deadline, "the topic cannot be read to its end");
        reader.read(&mut batch, 1000, Duration::from_millis(100)).await.unwrap();
        let of_key = batch.records.drain(..).filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        last = of_key.last().map(|record| record.value).or(last);
    }
    last.expect("the topic has a record of this key")
}

async fn statuses_and_offsets_are_read_by_others(setup: Setup) {
    let cluster = Cluster::new(&setup).await;
    let open = async || {
        let settings = cluster.log(Isolation::ReadUncommitted);
        StatusStore::open(cluster.backend.clone(), &cluster.topic("status"), settings).await.unwrap()
    };
    let (store, other) = (open().await, open().await);
    let unit = UnitId::Task("a".into(), 0);
    let (_, _, mut updates) = other.subscribe();
    let register = RegisterFields { incarnation: Incarnation(7), claim: 1, held: true, at: 40, set: NO_SET };
    let status = StatusRecord {
        state: UnitState::Running,
        trace: None,
        worker_id: "h:1".into(),
        generation: 0,
        version: None,
        register: Some(register),
        restart: None,
    };
    store.put(&unit, Some(status), LIMIT).await.unwrap();
    let read = loop {
        let update = tokio::time::timeout(LIMIT, updates.recv()).await.unwrap().unwrap();
        if let Some(read) = update.reads.into_iter().next() {
            break read;
        }
    };
    assert_eq!((read.unit, read.register), (unit.clone(), Register::Ours(register)));
    let before = Instant::now();
    for _ in 0..20 {
        store.put(&unit, None, LIMIT).await.unwrap();
    }
    println!("a status write: {:?}", before.elapsed() / 20);

    let settings = cluster.log(Isolation::ReadUncommitted);
    let offsets =
        TopicOffsetStore::open(cluster.backend.clone(), &cluster.topic("offsets"), settings.clone()).await.unwrap();
    let partition = Arc::new(FieldMap::new().with("zeta", 1).with("alpha", "x"));
    let offset = Arc::new(FieldMap::new().with("n", 3_i64));
    offsets.write("c", &[(partition.clone(), Some(offset.clone()))], LIMIT).await.unwrap();
    let other = TopicOffsetStore::open(cluster.backend.clone(), &cluster.topic("offsets"), settings).await.unwrap();
    assert_eq!(other.read("c", std::slice::from_ref(&partition)).await.unwrap(), [Some(offset)]);
    let before = Instant::now();
    for _ in 0..20 {
        other.read("c", std::slice::from_ref(&partition)).await.unwrap();
    }
    println!("a read of offsets: {:?}", before.elapsed() / 20);
}

async fn a_topic_that_was_made_anew_is_noticed(setup: Setup) {
    let cluster = Cluster::new(&setup).await;
    let store = cluster.configs().await;
    for level in ["INFO", "WARN", "ERROR"] {
        store.append(&ConfigRecord::LoggerLevel("a".into(), level.into()), LIMIT).await.unwrap();
    }
    let (admin, name) = (cluster.backend.admin(), cluster.topic("configs"));
    admin.delete_topic(&name).await.unwrap();
    let deadline = Instant::now() + LIMIT;
    let topic = InternalTopic {
        purpose: TopicPurpose::Config,
        name: name.clone(),
        partitions: 1,
        replication_factor: 1,
        config: Default::default(),
    };
    while admin.describe_topic(&name).await.unwrap().is_some() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    create_or_check(&*admin, &topic).await.unwrap();
    while !matches!(store.log().ends(LIMIT).await, Err(LogError::Lost { .. })) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::timeout(LIMIT, store.log().lost()).await.unwrap();
}
