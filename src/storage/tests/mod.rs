//! The stores over the memory backend.

mod config;
mod log;
mod offsets;
mod records;
mod status;
mod topics;
mod transactions;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cluster_state::ClusterState;
use super::config_records::{ConfigRecord, MemberRecord};
use super::config_store::{ConfigStore, ConfigStoreSettings};
use super::plan;
use super::records::RawConfig;
use super::topic_log::LogSettings;
use super::topics::{InternalTopic, TopicPurpose, create_or_check};
use crate::backend::{Backend, ClientSettings, Isolation, memory};
use crate::cluster::{MemberState, Nonce};

const LIMIT: Duration = Duration::from_secs(10);
const TRANSACTIONAL_ID: &str = "connect-cluster-test";

/// A cluster that no other test uses, with the three topics.
struct Cluster {
    name: String,
    backend: Arc<dyn Backend>,
}

impl Cluster {
    async fn new() -> Cluster {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("storage-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = Cluster { backend: memory::open(&name), name };
        for (purpose, topic, partitions) in [
            (TopicPurpose::Config, "configs", 1),
            (TopicPurpose::Offset, "offsets", 25),
            (TopicPurpose::Status, "status", 5),
        ] {
            create_or_check(&*cluster.backend.admin(), &internal(purpose, topic, partitions)).await.unwrap();
        }
        cluster
    }

    async fn configs(&self) -> ConfigStore {
        open_configs(self.backend.clone()).await
    }

    fn faults(&self) -> memory::Faults {
        memory::faults(&self.name)
    }

    fn hooks(&self) -> memory::Hooks {
        memory::hooks(&self.name)
    }
}

async fn open_configs(backend: Arc<dyn Backend>) -> ConfigStore {
    open_as(backend, None).await
}

async fn open_as(backend: Arc<dyn Backend>, worker: Option<&str>) -> ConfigStore {
    let settings = ConfigStoreSettings {
        log: log_settings(Isolation::ReadCommitted),
        transactional_writer: ClientSettings::new(),
        transactional_id: TRANSACTIONAL_ID.to_owned(),
        writer: worker.map(str::to_owned),
    };
    ConfigStore::open(backend, "configs", settings).await.unwrap()
}

/// A store whose worker is a member.
async fn open_member(backend: Arc<dyn Backend>, worker: &str) -> ConfigStore {
    let store = open_as(backend, Some(worker)).await;
    store.append(&plan::member_joined(worker, member(1)), LIMIT).await.unwrap();
    store
}

fn member(nonce: u64) -> MemberRecord {
    MemberRecord {
        state: MemberState::Joined,
        nonce: Nonce(nonce),
        incarnation: None,
        group_id: "workers".into(),
        rest_url: "http://h/".into(),
        gossip_address: "h:7".into(),
        settled: false,
        fence_ms: None,
        node_version: "0".into(),
    }
}

fn create(state: &ClusterState, name: &str) -> std::result::Result<Vec<ConfigRecord>, String> {
    if state.connector(name).is_some() {
        return Err(format!("{name} exists"));
    }
    Ok(plan::put_connector(state, name, config("0"), None))
}

fn internal(purpose: TopicPurpose, name: &str, partitions: i32) -> InternalTopic {
    InternalTopic { purpose, name: name.to_owned(), partitions, replication_factor: 1, config: Default::default() }
}

fn log_settings(isolation: Isolation) -> LogSettings {
    LogSettings { reader: ClientSettings::new(), writer: ClientSettings::new(), writer_max_bytes: 1 << 20, isolation }
}

fn config(salt: &str) -> RawConfig {
    RawConfig::from([("salt".to_owned(), Some(salt.to_owned()))])
}
