//! The config topic: its state as a snapshot, and all writes to it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use super::aborted::LogMoved;
use super::aborted::Restater;
use super::cluster_state::ClusterState;
use super::committer::{Committer, Writes};
use super::config_records::{ConfigRecord, TASK, connector_of};
use super::fold::fold;
use super::plan;
use super::topic_log::{
    CompareError, Fold, LogError, LogSettings, Running, Subscribers, TopicLog, Transactions, send_to_all,
};
use crate::backend::{Backend, ClientSettings, ConsumerRecord, Isolation, ReadBatch, TopicPartition};
use crate::cluster::Incarnation;

/// How long a reader may be kept below the high watermark by an open transaction before that transaction's id is taken over: its writer
/// has died.
pub const BLOCKED_READER_TIMEOUT: Duration = Duration::from_secs(1);

/// The partition of the config topic. It has no other.
const PARTITION: i32 = 0;

/// What the config topic is opened with. It is read committed, whatever `log` says.
#[derive(Debug, Clone)]
pub struct ConfigStoreSettings {
    /// Readers and the writer of plain appends.
    pub log: LogSettings,
    /// Client settings of the transactional writer.
    pub transactional_writer: ClientSettings,
    /// `connect-cluster-<group.id>`, as that of Java's leader.
    pub transactional_id: String,
    /// The worker that takes turns with others; `None`: none, since no other worker is alive.
    pub writer: Option<String>,
}

/// Why an eviction did not take place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEvicted {
    /// Who wanted to evict is no member any more itself.
    #[error("the evictor is no member any more")]
    EvictorGone,
    /// The victim is gone or has joined again.
    #[error("the member is gone or has joined again")]
    VictimGone,
}

/// A worker has joined meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("worker {0} has joined meanwhile")]
pub struct MembersChanged(pub String);

/// The config topic.
pub struct ConfigStore {
    log: Arc<TopicLog>,
    core: Arc<Mutex<Core>>,
    transactions: Arc<Transactions>,
    writes: Writes,
    restater: Restater,
    _committer: Running,
    state: watch::Receiver<ClusterState>,
}

/// What a record made of the state.
#[derive(Debug, Clone)]
pub struct ConfigStep {
    /// The state after it.
    pub state: ClusterState,
    /// The one connector that it may have changed anything about; `None`: it is about no connector.
    pub connector: Option<String>,
}

/// What a batch made of the state.
#[derive(Debug, Clone)]
pub struct ConfigUpdate {
    /// The state after each record of the batch, in order: who compares two of them misses none between. Task records are left out, since
    /// nobody sees them before their commit. May be empty.
    pub steps: Vec<ConfigStep>,
    /// The offset behind the batch.
    pub position: i64,
}

#[derive(Default)]
struct Core {
    state: ClusterState,
    position: i64,
    subscribers: Subscribers<ConfigUpdate>,
}

struct ConfigFold {
    core: Arc<Mutex<Core>>,
    snapshots: watch::Sender<ClusterState>,
}

#[async_trait]
impl Fold for ConfigFold {
    async fn fold(&mut self, batch: &ReadBatch, positions: &[i64]) {
        let position = positions.first().copied().unwrap_or_default();
        let (subscribers, steps) = self.apply(batch, position);
        send_to_all(&subscribers, ConfigUpdate { steps, position }).await;
    }
}

impl ConfigFold {
    fn apply(&self, batch: &ReadBatch, position: i64) -> (Vec<mpsc::Sender<ConfigUpdate>>, Vec<ConfigStep>) {
        let mut core = lock(&self.core);
        let mut steps = Vec::new();
        let subscribed = core.subscribers.any();
        for record in &batch.records {
            let (state, issues) = fold(std::mem::take(&mut core.state), record);
            if subscribed && !is_deferred(record) {
                let connector = record.key.as_deref().and_then(connector_of);
                steps.push(ConfigStep { state: state.clone(), connector });
            }
            core.state = state;
            for issue in issues {
                tracing::warn!(topic = %batch.partition(record).topic, "{issue}");
            }
        }
        core.position = position;
        self.snapshots.send_replace(core.state.clone());
        (core.subscribers.current(), steps)
    }
}

/// Whether this is a task record.
fn is_deferred(record: &ConsumerRecord) -> bool {
    record.key.as_ref().is_some_and(|key| key.starts_with(TASK.as_bytes()))
}

/// The lock is held for plain calculations only, which do not panic half-way.
fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConfigStore {
    /// Reads the topic to its end and goes on following it.
    pub async fn open(
        backend: Arc<dyn Backend>,
        topic: &str,
        settings: ConfigStoreSettings,
    ) -> Result<ConfigStore, LogError> {
        let ConfigStoreSettings { log, transactional_writer, transactional_id, writer } = settings;
        let failed = |error| LogError::Backend { topic: topic.into(), error };
        let (snapshots, state) = watch::channel(ClusterState::default());
        let core = Arc::<Mutex<Core>>::default();
        let fold = ConfigFold { core: core.clone(), snapshots };
        let log = LogSettings { isolation: Isolation::ReadCommitted, ..log };
        let transactions = Transactions::new(backend.clone(), transactional_writer, &log.reader, transactional_id);
        let transactions = Arc::new(transactions.map_err(failed)?);
        let reader = log.reader.clone();
        let log = Arc::new(TopicLog::open(backend.clone(), topic, log, fold).await?);
        if log.partition_count() != 1 {
            let reason =
                format!("a config topic must have exactly one partition and this has {}", log.partition_count());
            return Err(LogError::Unusable { topic: topic.into(), reason });
        }
        {
            // An empty topic has no batch that would say where it stands.
            let mut core = lock(&core);
            core.position = core.position.max(log.position(PARTITION));
        }
        let (writes, committer) = Committer::new(log.clone(), transactions.clone(), state.clone(), writer);
        let committer = log.supervise("committer", committer.run());
        let partition = TopicPartition { topic: topic.into(), partition: PARTITION };
        let restater = Restater { backend, reader, log: log.clone(), partition, writes: writes.clone() };
        Ok(ConfigStore { log, core, transactions, writes, restater, _committer: committer, state })
    }

    /// The log itself: positions, ends, its loss.
    pub fn log(&self) -> &TopicLog {
        &self.log
    }

    /// What is folded now.
    pub fn snapshot(&self) -> ClusterState {
        self.state.borrow().clone()
    }

    /// Wakes for each new snapshot; those in between may be missed.
    pub fn snapshots(&self) -> watch::Receiver<ClusterState> {
        self.state.clone()
    }

    /// The state and position now, and every update after that, none missed. A subscriber that does not take them holds up the reader, so it
    /// must not wait for a write of this store in between.
    pub fn subscribe(&self) -> (ClusterState, i64, mpsc::Receiver<ConfigUpdate>) {
        let mut core = lock(&self.core);
        let updates = core.subscribers.add();
        (core.state.clone(), core.position, updates)
    }

    /// How far it is folded: the offset behind the last record or transaction marker.
    pub fn position(&self) -> i64 {
        self.log.position(PARTITION)
    }

    /// Checks against the whole topic and writes all records or none, before anybody else can write any (see
    /// [`TopicLog::compare_and_append`]). Returns the offset of each when they are folded. Writes that wait for each other go into one transaction; the
    /// check of each sees those before it. Whoever stops waiting does not stop a write that is under way.
    pub async fn put<E: Send + 'static>(
        &self,
        mut check: impl FnMut(&ClusterState) -> Result<Vec<ConfigRecord>, E> + Send + 'static,
    ) -> Result<Vec<i64>, CompareError<E>> {
        let topic = self.log.topic().to_owned();
        let check = move |state: &ClusterState| Ok(check(state)?.iter().map(|record| record.encode(&topic)).collect());
        self.writes.put(&self.log, false, check).await
    }

    /// Takes the transactional id, in turn with others, and writes nothing: whether that is allowed is known then, and the next write finds a writer.
    pub async fn take_id(&self) -> Result<(), CompareError<Infallible>> {
        self.writes.put(&self.log, true, |_| Ok(Vec::new())).await.map(drop)
    }

    /// Why this worker may not write with checks; `None`: it may, or has not tried yet.
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.transactions.refusal()
    }

    /// Writes the tombstone of a member in place of that member, if both are still in the life that is named. `reason` is for operators and
    /// goes into a header. Who is about to join names no life of its own.
    pub async fn evict(
        &self,
        evictor: (&str, impl Into<Option<Incarnation>>),
        victim: (&str, Incarnation),
        reason: &str,
    ) -> Result<(), CompareError<NotEvicted>> {
        let evictor = (evictor.0, evictor.1.into());
        let mut tombstone = plan::member_gone(victim.0).encode(self.log.topic());
        tombstone.headers = plan::eviction_headers(evictor.0, reason);
        let evictor = evictor.1.map(|life| (evictor.0.to_owned(), life));
        let victim = (victim.0.to_owned(), victim.1);
        let check = move |state: &ClusterState| {
            let lives =
                |(id, life): &(String, Incarnation)| state.member(id).is_some_and(|entry| entry.incarnation() == *life);
            match (evictor.as_ref().is_none_or(lives), lives(&victim)) {
                (false, _) => Err(NotEvicted::EvictorGone),
                (_, false) => Err(NotEvicted::VictimGone),
                _ => Ok(vec![tombstone.clone()]),
            }
        };
        self.writes.put(&self.log, false, check).await.map(|_| ())
    }

    /// Appends without any check and waits until it is folded. Returns its offset. A dead writer's transaction that keeps it from being
    /// read is aborted.
    pub async fn append(&self, record: &ConfigRecord, limit: Duration) -> Result<i64, LogError> {
        let deadline = Instant::now() + limit;
        let stored = self.log.append(vec![record.encode(self.log.topic())], limit).await?;
        // One record was given, so one was stored.
        let offset = stored.first().map_or(-1, |(_, offset)| *offset);
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest > BLOCKED_READER_TIMEOUT {
            match self.log.wait_until_seen(PARTITION, offset, BLOCKED_READER_TIMEOUT).await {
                Err(LogError::Timeout { .. }) => {
                    if self.blocked_at(BLOCKED_READER_TIMEOUT).await?.is_some() {
                        self.take_over(deadline.saturating_duration_since(Instant::now())).await?;
                    }
                }
                seen => return seen.map(|()| offset),
            }
        }
        let rest = deadline.saturating_duration_since(Instant::now());
        self.log.wait_until_seen(PARTITION, offset, rest).await?;
        Ok(offset)
    }

    /// Takes the transactional id over where an open transaction has kept readers below the high watermark, at one and the same offset, for
    /// [`BLOCKED_READER_TIMEOUT`]. Says whether it did. For whoever waits for the record of another worker.
    pub async fn release_blocked_readers(&self, limit: Duration) -> Result<bool, LogError> {
        let Some(first) = self.blocked_at(limit).await? else { return Ok(false) };
        tokio::time::sleep(BLOCKED_READER_TIMEOUT).await;
        if self.blocked_at(limit).await? != Some(first) {
            return Ok(false);
        }
        self.take_over(limit).await?;
        Ok(true)
    }

    /// Appends the committed record again for each key whose last record was aborted, in one transaction, so that a Java worker without
    /// exactly-once reads what is true. A connector is written as a whole. Returns how many records that took. For giving the topic back:
    /// tasks whose commit is among them restart.
    pub async fn restate_aborted(&self, patience: Duration) -> Result<usize, CompareError<LogMoved>> {
        self.restater.restate(patience).await
    }

    /// Does so from now on, a while after each time when a transaction may have been aborted. No write waits for it.
    pub async fn keep_restated(&self) {
        self.restater.run(self.transactions.aborts()).await;
    }

    /// The keys whose last record was aborted, or is part of a transaction that is open: of these a Java worker without exactly-once
    /// reads what is not true. Task records that no commit speaks of are left out, since nobody acts on them.
    pub async fn aborted_keys(&self, patience: Duration) -> Result<Vec<String>, LogError> {
        let readings = self.restater.readings(patience).await?;
        let again = readings.restatements(self.log.topic());
        let hidden = readings.hidden().filter(|(key, _)| again.iter().any(|record| record.key.as_ref() == Some(*key)));
        Ok(hidden.map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect())
    }

    /// Writes the tombstones of these members, and of all that wait for a turn, in one transaction, if they are all there are, each still in the
    /// life that is named. `reason` is for operators and goes into a header.
    pub async fn remove_members(
        &self,
        members: Vec<(String, Incarnation)>,
        by: &str,
        reason: &str,
    ) -> Result<(), CompareError<MembersChanged>> {
        let tombstone = |(id, _): &(String, Incarnation)| {
            let mut tombstone = plan::member_gone(id).encode(self.log.topic());
            tombstone.headers = plan::eviction_headers(by, reason);
            tombstone
        };
        let tombstones: Vec<_> = members.iter().map(tombstone).collect();
        let topic = self.log.topic().to_owned();
        let check = move |state: &ClusterState| {
            let is_known = |id: &str, life: Incarnation| members.iter().any(|known| known.0 == id && known.1 == life);
            match state.members().find(|(id, entry)| !is_known(id, entry.incarnation())) {
                Some((id, _)) => Err(MembersChanged(id.to_owned())),
                None => {
                    let here = |(id, _): &&(String, Incarnation)| state.member(id).is_some();
                    let pairs = members.iter().zip(&tombstones).filter(|(member, _)| here(member));
                    let gone = pairs.map(|(_, tombstone)| tombstone.clone());
                    let turns = state.turns().waiting().iter();
                    let turns = turns.map(|worker| ConfigRecord::Turn(worker.to_string(), false).encode(&topic));
                    Ok(gone.chain(turns).collect())
                }
            }
        };
        self.writes.put(&self.log, false, check).await.map(|_| ())
    }

    async fn take_over(&self, limit: Duration) -> Result<(), LogError> {
        tracing::warn!(
            topic = self.log.topic(),
            "an open transaction keeps readers from going on: its id is taken over"
        );
        let taken = self.transactions.take_over(limit).await;
        taken.map_err(|error| LogError::Backend { topic: self.log.topic().into(), error })
    }

    async fn blocked_at(&self, limit: Duration) -> Result<Option<i64>, LogError> {
        let blocked = self.log.blocked_at(&self.transactions, limit).await;
        blocked.map_err(|error| LogError::Backend { topic: self.log.topic().into(), error })
    }
}
