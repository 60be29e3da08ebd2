//! The traits in memory: named clusters that live as long as the process, for tests and for a quickstart without Kafka.
//!
//! Follows Kafka in what the rooms above can see: order, offsets with gaps where transaction markers stand, isolation and the last
//! stable offset, fencing, compaction, topics made by their first record, refusal of records without a key in compacted topics. Absent:
//! replication, retention, access rights, transaction time-outs. All waits end by a wake-up or a tokio timer, so that a test may pause the time.

mod admin;
mod cluster;
mod faults;
mod log;
mod reader;
#[cfg(test)]
mod tests;
mod transactional;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connect_api::TopicPartition;

use self::admin::MemoryAdmin;
use self::cluster::{Client, Cluster};
pub use self::faults::{Faults, Request};
use self::reader::MemoryReader;
use self::transactional::MemoryTransactionalWriter;
use self::writer::MemoryWriter;
use super::inbox::{Inbox, lock};
use super::rules::max_record_bytes;
use super::{
    Backend, ClientSettings, CommittedOffsets, GroupDescription, Isolation, RecordReader, RecordWriter, Result,
    TopicAdmin, TransactionalWriter,
};

static CLUSTERS: LazyLock<Mutex<HashMap<String, Arc<Cluster>>>> = LazyLock::new(Mutex::default);

fn cluster(name: &str) -> Arc<Cluster> {
    let mut clusters = lock(&CLUSTERS);
    Arc::clone(clusters.entry(name.to_owned()).or_insert_with(|| Arc::new(Cluster::new(name))))
}

/// The backend of this name in this process, made when it is first asked for.
pub fn open(name: &str) -> Arc<dyn Backend> {
    Arc::new(MemoryBackend { cluster: cluster(name) })
}

/// Switches faults of the cluster of this name.
pub fn faults(name: &str) -> Faults {
    Faults { cluster: cluster(name) }
}

/// Forgets the cluster of this name. Who has it open keeps it; the next `open` makes an empty one.
pub fn forget(name: &str) {
    lock(&CLUSTERS).remove(name);
}

/// What a broker does by itself or on an operator's command, done at once.
pub struct Hooks {
    cluster: Arc<Cluster>,
}

/// The hooks of the cluster of this name.
pub fn hooks(name: &str) -> Hooks {
    Hooks { cluster: cluster(name) }
}

impl Hooks {
    /// Compacts all partitions of a topic: of each key only the last record stays, tombstones too. Whatever its `cleanup.policy`.
    pub fn compact(&self, topic: &str) {
        self.compact_with(topic, false);
    }

    /// Compacts and removes tombstones as well, as Kafka does after `delete.retention.ms`.
    pub fn compact_tombstones(&self, topic: &str) {
        self.compact_with(topic, true);
    }

    fn compact_with(&self, topic: &str, remove_tombstones: bool) {
        if let Some(topic) = self.cluster.lock().topics.get_mut(topic) {
            topic.partitions.iter_mut().for_each(|log| log.compact(remove_tombstones));
        }
    }

    /// Removes the records below `before`, as DeleteRecords and retention do.
    pub fn truncate_before(&self, topic: &str, partition: i32, before: i64) {
        self.with_log(topic, partition, |log| log.truncate_before(before));
    }

    /// Loses the records from `from` on, as an unclean leader election does.
    pub fn lose_from(&self, topic: &str, partition: i32, from: i64) {
        self.with_log(topic, partition, |log| log.lose_from(from));
    }

    /// Gives a topic further partitions, so that it has `count` of them.
    pub fn grow(&self, topic: &str, count: usize) {
        if let Some(topic) = self.cluster.lock().topics.get_mut(topic) {
            topic.partitions.resize_with(count.max(topic.partitions.len()), Default::default);
        }
    }

    fn with_log(&self, topic: &str, partition: i32, change: impl FnOnce(&mut log::PartitionLog)) {
        let partition = TopicPartition::new(topic, partition);
        let mut state = self.cluster.lock();
        if let Some(log) = state.log_mut(&partition) {
            change(log);
        }
        state.wake(topic, partition.partition);
    }

    /// Whether a record makes the topic that it names. On from the start.
    pub fn set_auto_create(&self, on: bool) {
        self.cluster.lock().set_auto_create(on);
    }

    /// Lets a group look as if it had these members; `None`: as it is.
    pub fn set_group(&self, group: &str, description: Option<GroupDescription>) {
        self.cluster.lock().groups.entry(group.to_owned()).or_default().members = description;
    }
}

/// A cluster, opened.
struct MemoryBackend {
    cluster: Arc<Cluster>,
}

#[async_trait]
impl Backend for MemoryBackend {
    fn writer(&self, settings: &ClientSettings, max_bytes: usize) -> Result<Arc<dyn RecordWriter>> {
        let max_record_bytes = max_record_bytes(settings)?;
        let mut state = self.cluster.lock();
        state.clients.retain(|_, client| client.strong_count() > 0);
        let known = state.clients.get(settings).and_then(std::sync::Weak::upgrade);
        let client = match known.filter(|client| !client.broken.load(std::sync::atomic::Ordering::SeqCst)) {
            Some(client) => client,
            None => {
                let client = Arc::new(Client::default());
                state.clients.insert(settings.clone(), Arc::downgrade(&client));
                client
            }
        };
        let cluster = Arc::clone(&self.cluster);
        Ok(Arc::new(MemoryWriter { cluster, client, inbox: Arc::new(Inbox::new(max_bytes)), max_record_bytes }))
    }

    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Arc<dyn TransactionalWriter>> {
        let max_record_bytes = max_record_bytes(settings)?;
        let cluster = Arc::clone(&self.cluster);
        let writer = MemoryTransactionalWriter::open(cluster, transactional_id, max_record_bytes, timeout).await?;
        Ok(Arc::new(writer))
    }

    fn reader(&self, _settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        Ok(Box::new(MemoryReader::new(Arc::clone(&self.cluster), isolation)))
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(MemoryAdmin { cluster: Arc::clone(&self.cluster) })
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        Arc::new(MemoryAdmin { cluster: Arc::clone(&self.cluster) })
    }
}
