use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::backend::{GroupDescription, memory};
use crate::cluster::MemberState;
use crate::storage::config_records::{ConfigRecord, MemberRecord, TargetState};
use crate::storage::plan;
use crate::storage::records::RawConfig;
use crate::storage::topics::{InternalTopic, TopicPurpose, create_or_check};

const LIMIT: Duration = Duration::from_secs(10);

struct Cluster {
    name: &'static str,
    backend: Arc<dyn Backend>,
    config: WorkerConfig,
}

impl Cluster {
    async fn new(name: &'static str) -> Cluster {
        let converter = "org.apache.kafka.connect.json.JsonConverter";
        let props = [
            ("bootstrap.servers", "memory:unused"),
            ("group.id", "workers"),
            ("config.storage.topic", "configs"),
            ("offset.storage.topic", "offsets"),
            ("status.storage.topic", "status"),
            ("key.converter", converter),
            ("value.converter", converter),
        ];
        let props = props.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (backend, config) = (memory::open(name), WorkerConfig::from_props(props).unwrap());
        let topic = InternalTopic {
            purpose: TopicPurpose::Config,
            name: "configs".into(),
            partitions: 1,
            replication_factor: 1,
            config: Default::default(),
        };
        create_or_check(&*backend.admin(), &topic).await.unwrap();
        Cluster { name, backend, config }
    }

    async fn store(&self) -> ConfigStore {
        ConfigStore::open(self.backend.clone(), "configs", store_settings(&self.config).unwrap()).await.unwrap()
    }

    async fn hand_back(&self) -> (Vec<String>, Result<()>) {
        let mut said = Vec::new();
        let result = hand_back(self.backend.clone(), &self.config, &mut |sentence| said.push(sentence)).await;
        (said, result)
    }

    async fn join(&self, id: &str, url: &str, nonce: u64) {
        let record = MemberRecord {
            state: MemberState::Joined,
            nonce: Nonce(nonce),
            incarnation: None,
            group_id: "workers".into(),
            rest_url: url.into(),
            gossip_address: String::new(),
            settled: false,
            fence_ms: None,
            node_version: "0".into(),
        };
        self.store().await.append(&plan::member_joined(id, record), LIMIT).await.unwrap();
    }
}

/// The URL of somebody who says that he is the worker of this nonce, for as long as the test runs.
async fn living(nonce: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let body = format!(r#"{{"worker_id":"h:1","nonce":"{nonce}"}}"#);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            _ = stream.read(&mut request).await;
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

/// The URL of nobody.
async fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

fn config(salt: &str) -> RawConfig {
    RawConfig::from([("salt".to_owned(), Some(salt.to_owned()))])
}

#[tokio::test]
async fn after_a_clean_stop_there_is_nothing_to_do() {
    let cluster = Cluster::new("hand-back-clean").await;
    let store = cluster.store().await;
    cluster.join("h:1", &dead().await, 7).await;
    store.append(&plan::member_gone("h:1"), LIMIT).await.unwrap();
    let (said, result) = cluster.hand_back().await;
    result.unwrap();
    assert!(said.iter().any(|sentence| sentence.contains("no record of a worker is left")), "{said:?}");
    assert!(said.iter().any(|sentence| sentence.contains("no aborted record")), "{said:?}");
    store.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(store.position(), 2, "nothing was written");
}

#[tokio::test]
async fn what_a_crash_left_is_put_right_once() {
    let cluster = Cluster::new("hand-back-crash").await;
    let store = cluster.store().await;
    let write = |state: &_| Ok::<_, String>(plan::put_connector(state, "a", config("0"), None));
    store.put(write).await.unwrap();
    store.put(|state| Ok::<_, String>(plan::put_tasks(state, "a", vec![config("t")]))).await.unwrap();
    let settings = store_settings(&cluster.config).unwrap();
    let id = settings.transactional_id;
    // Another process may have its address by now.
    cluster.join("h:1", &living(8).await, 7).await;
    let dying = cluster.backend.transactional_writer(&settings.transactional_writer, &id, LIMIT).await.unwrap();
    dying.begin().unwrap();
    let stop = plan::put_target_state(&store.snapshot(), "a", TargetState::Stopped);
    dying.send(&stop.iter().map(|record| record.encode("configs")).collect::<Vec<_>>()).await.unwrap();
    // Hidden behind the open transaction.
    let dead = ConfigRecord::Member("h:2".into(), store.snapshot().member("h:1").map(|entry| entry.record.clone()));
    let plain = cluster.backend.writer(&settings.transactional_writer, 1 << 20).unwrap();
    assert_eq!(plain.send(&[dead.encode("configs")]).unwrap(), 1);
    plain.flush(LIMIT).await.unwrap();

    let (said, result) = cluster.hand_back().await;
    result.unwrap();
    for part in
        ["its transaction was aborted", "worker h:1 had", "worker h:2 had", "commit-a, target-state-a", "1 task "]
    {
        assert!(said.iter().any(|sentence| sentence.contains(part)), "{part}: {said:?}");
    }
    store.log().read_to_end(LIMIT).await.unwrap();
    let state = store.snapshot();
    assert_eq!((state.members().len(), state.tasks("a").len()), (0, 1));
    assert_eq!(state.target_state("a"), TargetState::Started);
    let position = store.position();
    cluster.hand_back().await.1.unwrap();
    store.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(store.position(), position, "the second time there is nothing to do");

    // A worker that left died before that, while it waited for its turn to write.
    store.append(&ConfigRecord::Turn("h:1".into(), true), LIMIT).await.unwrap();
    cluster.hand_back().await.1.unwrap();
    store.log().read_to_end(LIMIT).await.unwrap();
    assert!(!store.snapshot().turns_wait());
}

#[tokio::test]
async fn the_living_are_named_and_nothing_is_changed() {
    let cluster = Cluster::new("hand-back-living").await;
    let store = cluster.store().await;
    cluster.join("h:1", &living(7).await, 7).await;
    cluster.join("h:2", &dead().await, 9).await;
    let error = cluster.hand_back().await.1.unwrap_err().to_string();
    assert!(error.contains("h:1 (http://127.0.0.1:") && !error.contains("h:2"), "{error}");
    let java = GroupDescription { state: "Stable".into(), protocol_type: "connect".into(), members: 2 };
    memory::hooks(cluster.name).set_group("workers", Some(java));
    let error = cluster.hand_back().await.1.unwrap_err().to_string();
    assert!(error.contains("group workers has 2 Java workers (state Stable)"), "{error}");
    store.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!((store.position(), store.snapshot().members().len()), (2, 2));
}
