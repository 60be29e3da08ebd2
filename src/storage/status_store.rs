//! The status topic: what each unit does, and its register.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::shared_map::SharedMap;
use super::status_records::{StatusRecord, StatusTopicRecord, TopicUse, UnitId, UnitState};
use super::strays::Strays;
use super::topic_log::{Fold, LogError, LogSettings, Subscribers, TopicLog, send_to_all};
use crate::backend::partitioner::partition_for_key;
use crate::backend::{Backend, ProducerRecord, ReadBatch};
use crate::cluster::Register;

/// What is known of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// What REST shows. Not always the last record: Java's reader ignores a task's UNASSIGNED of a worker that has lost the task to
    /// another one already.
    pub shown: StatusRecord,
    /// What the last record says of the holder; before the unit was claimed in its own partition, perhaps a record elsewhere.
    pub register: Register,
    /// What the last record in its own partition says of the holder.
    home: Register,
    /// The partition that the unit belongs to.
    pub partition: i32,
    /// Offset of its last record there; before it has one there, elsewhere.
    pub offset: i64,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The partition that its key belongs to, by as many as are read.
    pub home: i32,
}

impl Place {
    /// That of a record which stands where its key belongs.
    pub fn at_home(partition: i32, offset: i64) -> Self {
        Place { partition, offset, home: partition }
    }

    fn is_home(&self) -> bool {
        self.partition == self.home
    }
}

/// What the record of a unit says.
enum Said {
    Tombstone,
    Status(StatusRecord),
    /// Nobody can tell. A reader that goes on with the record before it would differ from one that starts when that is compacted away.
    Unreadable,
}

impl Said {
    fn register(&self) -> Register {
        match self {
            Said::Tombstone => Register::Empty,
            Said::Status(record) => record.register.map_or(Register::Foreign, Register::Ours),
            Said::Unreadable => Register::Foreign,
        }
    }
}

/// A snapshot of the status topic. Clones share everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusState {
    inner: Arc<Inner>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Inner {
    units: SharedMap<UnitId, Arc<UnitStatus>>,
    /// Of those units that have any.
    strays: SharedMap<UnitId, Arc<Strays>>,
    /// By connector, then topic.
    topics: SharedMap<String, Arc<BTreeMap<String, TopicUse>>>,
}

impl StatusState {
    /// A unit's status; `None` without a record or after a tombstone.
    pub fn unit(&self, unit: &UnitId) -> Option<&Arc<UnitStatus>> {
        self.inner.units.get(unit)
    }

    /// All units that have a status.
    pub fn units(&self) -> impl ExactSizeIterator<Item = (&UnitId, &Arc<UnitStatus>)> {
        self.inner.units.iter()
    }

    /// The tasks of a connector that have a status, by number.
    pub fn tasks<'a>(&'a self, connector: &str) -> impl Iterator<Item = (u32, &'a Arc<UnitStatus>)> + use<'a> {
        let first = UnitId::Task(connector.to_owned(), 0);
        self.inner.units.iter_from(&first).map_while(move |(unit, status)| match unit {
            UnitId::Task(name, task) if *name == first.connector() => Some((*task, status)),
            _ => None,
        })
    }

    /// The register of a unit.
    pub fn register(&self, unit: &UnitId) -> Register {
        self.unit(unit).map_or(Register::Empty, |status| status.register)
    }

    /// Whether a connector used a topic since they were reset.
    pub fn uses_topic(&self, connector: &str, topic: &str) -> bool {
        self.inner.topics.get(connector).is_some_and(|topics| topics.contains_key(topic))
    }

    /// The topics that a connector used since they were reset.
    pub fn topics(&self, connector: &str) -> impl Iterator<Item = (&str, &TopicUse)> {
        self.inner
            .topics
            .get(connector)
            .into_iter()
            .flat_map(|topics| topics.iter())
            .map(|(topic, value)| (topic.as_str(), value))
    }

    /// Applies one record (Java: `KafkaStatusBackingStore.read`). Pure.
    pub fn apply(&mut self, record: StatusTopicRecord, place: Place) -> Option<StatusRead> {
        let inner = Arc::make_mut(&mut self.inner);
        match record {
            // A topic that is used is noted again where it belongs.
            StatusTopicRecord::TopicUse { .. } if !place.is_home() => None,
            StatusTopicRecord::TopicUse { topic, connector, value: Some(value) } => {
                let mut topics = inner.topics.get(&connector).cloned().unwrap_or_default();
                Arc::make_mut(&mut topics).insert(topic, value);
                inner.topics.insert(connector, topics);
                None
            }
            StatusTopicRecord::TopicUse { topic, connector, value: None } => {
                if let Some(mut topics) = inner.topics.get(&connector).cloned() {
                    Arc::make_mut(&mut topics).remove(&topic);
                    if topics.is_empty() {
                        inner.topics.remove(&connector);
                    } else {
                        inner.topics.insert(connector, topics);
                    }
                }
                None
            }
            StatusTopicRecord::Status(unit, record) => {
                Some(inner.apply_status(unit, record.map_or(Said::Tombstone, Said::Status), place))
            }
        }
    }

    /// Applies a record whose value cannot be read: `None` where its key names no unit either. Such a record holds nothing, but is the last of its unit.
    pub fn apply_unreadable(&mut self, key: Option<&Bytes>, place: Place) -> Option<StatusRead> {
        let unit = StatusTopicRecord::unit_of(key)?;
        Some(Arc::make_mut(&mut self.inner).apply_status(unit, Said::Unreadable, place))
    }

    /// The partitions in which a unit has records that belong elsewhere.
    fn strays(&self, unit: &UnitId) -> Vec<i32> {
        self.inner.strays.get(unit).map_or_else(Vec::new, |strays| strays.partitions().collect())
    }
}

impl Inner {
    fn apply_status(&mut self, unit: UnitId, said: Said, place: Place) -> StatusRead {
        let known = self.units.get(&unit).cloned();
        let mut home = known.as_ref().map_or(Register::Empty, |known| known.home);
        // What was written elsewhere is shown as long as nothing was written where it belongs.
        let is_shown = place.is_home() || home == Register::Empty;
        let mut strays = self.strays.get(&unit).cloned().unwrap_or_default();
        if place.is_home() {
            home = said.register();
        } else {
            Arc::make_mut(&mut strays).read(place.partition, said.register());
        }
        let register = strays.register(home);
        let shown = match (said, &known) {
            (Said::Status(record), Some(known)) if !is_shown || is_outdated(&unit, &record, &known.shown) => {
                known.shown.clone()
            }
            (Said::Status(record), _) => record,
            (Said::Tombstone | Said::Unreadable, Some(known)) => known.shown.clone(),
            (Said::Tombstone | Said::Unreadable, None) => StatusRecord::unknown(),
        };
        let partition = place.home;
        let offset = known.as_ref().filter(|_| !is_shown).map_or(place.offset, |known| known.offset);
        let status =
            (register != Register::Empty).then(|| Arc::new(UnitStatus { shown, register, home, partition, offset }));
        match &status {
            Some(status) => self.units.insert(unit.clone(), status.clone()),
            None => self.units.remove(&unit),
        }
        if !strays.is_empty() {
            self.strays.insert(unit.clone(), strays);
        } else if !place.is_home() {
            self.strays.remove(&unit);
        }
        StatusRead { unit, register, partition, offset: place.offset, status }
    }
}

/// Java's rule for a task that was moved: its old worker's UNASSIGNED may come after the new one's RUNNING. Ours come in the order of the
/// register and are never outdated.
fn is_outdated(unit: &UnitId, record: &StatusRecord, shown: &StatusRecord) -> bool {
    matches!(unit, UnitId::Task(..))
        && record.register.is_none()
        && record.state == UnitState::Unassigned
        && shown.state == UnitState::Running
        && shown.generation >= record.generation
}

/// A status record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRead {
    /// Its unit.
    pub unit: UnitId,
    /// The unit's register after it.
    pub register: Register,
    /// The partition that the unit belongs to.
    pub partition: i32,
    /// Where it stands, in whatever partition.
    pub offset: i64,
    /// The status after it; `None` for a tombstone.
    pub status: Option<Arc<UnitStatus>>,
}

/// What a batch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Each status record, in order of its partition. Those of used topics are left out.
    pub reads: Vec<StatusRead>,
    /// The positions behind the batch, by partition number.
    pub positions: Vec<i64>,
}

#[derive(Default)]
struct Core {
    state: StatusState,
    positions: Vec<i64>,
    subscribers: Subscribers<StatusUpdate>,
}

/// The lock is held for plain calculations only, which do not panic half-way.
fn lock(core: &Mutex<Core>) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

struct StatusFold {
    core: Arc<Mutex<Core>>,
    topic_resets: Arc<AtomicU64>,
    snapshots: watch::Sender<StatusState>,
}

#[async_trait]
impl Fold for StatusFold {
    async fn fold(&mut self, batch: &ReadBatch, positions: &[i64]) {
        let (subscribers, reads) = self.apply(batch, positions);
        send_to_all(&subscribers, StatusUpdate { reads, positions: positions.to_vec() }).await;
    }
}

impl StatusFold {
    fn apply(&self, batch: &ReadBatch, positions: &[i64]) -> (Vec<mpsc::Sender<StatusUpdate>>, Vec<StatusRead>) {
        let mut core = lock(&self.core);
        let mut reads = Vec::new();
        for record in &batch.records {
            let at = batch.partition(record);
            let home = record.key.as_ref().map_or(at.partition, |key| home(key, positions.len()));
            let place = Place { partition: at.partition, offset: record.offset, home };
            match StatusTopicRecord::decode(record.offset, record.key.as_ref(), record.value.as_ref()) {
                Ok(decoded) => {
                    if matches!(decoded, StatusTopicRecord::TopicUse { value: None, .. }) {
                        self.topic_resets.fetch_add(1, Ordering::Relaxed);
                    }
                    reads.extend(core.state.apply(decoded, place));
                }
                Err(error) => {
                    tracing::warn!(topic = %at.topic, partition = at.partition, "{error}");
                    reads.extend(core.state.apply_unreadable(record.key.as_ref(), place));
                }
            }
        }
        core.positions = positions.to_vec();
        self.snapshots.send_replace(core.state.clone());
        (core.subscribers.current(), reads)
    }
}

/// The partition that a key belongs to in a topic that was opened with so many. Java's producers put it there as well.
fn home(key: &[u8], count: usize) -> i32 {
    // Kafka counts partitions in 32 bits.
    partition_for_key(key, i32::try_from(count).unwrap_or(i32::MAX))
}

/// The status topic.
pub struct StatusStore {
    log: TopicLog,
    core: Arc<Mutex<Core>>,
    topic_resets: Arc<AtomicU64>,
    state: watch::Receiver<StatusState>,
}

impl StatusStore {
    /// Reads the topic to its end and goes on following it.
    pub async fn open(backend: Arc<dyn Backend>, topic: &str, settings: LogSettings) -> Result<StatusStore, LogError> {
        let core = Arc::<Mutex<Core>>::default();
        let (snapshots, state) = watch::channel(StatusState::default());
        let topic_resets = Arc::<AtomicU64>::default();
        let fold = StatusFold { core: core.clone(), topic_resets: topic_resets.clone(), snapshots };
        let log = TopicLog::open(backend, topic, settings, fold).await?;
        {
            // Partitions that are empty have no batch that would say where they stand.
            let mut core = lock(&core);
            if core.positions.is_empty() {
                core.positions = log.positions();
            }
        }
        Ok(StatusStore { log, core, topic_resets, state })
    }

    /// The log itself: positions, ends, its loss.
    pub fn log(&self) -> &TopicLog {
        &self.log
    }

    /// What is folded now.
    pub fn snapshot(&self) -> StatusState {
        self.state.borrow().clone()
    }

    /// Counts the tombstones of used topics that were read: after each, a task that uses such a topic says so again.
    pub fn topic_resets(&self) -> Arc<AtomicU64> {
        self.topic_resets.clone()
    }

    /// Wakes for each new snapshot; those in between may be missed.
    pub fn snapshots(&self) -> watch::Receiver<StatusState> {
        self.state.clone()
    }

    /// The state and positions now, and every update after that, none missed. A subscriber that does not take them holds up the reader.
    /// [`StatusStore::put`] does not wait for the reader.
    pub fn subscribe(&self) -> (StatusState, Vec<i64>, mpsc::Receiver<StatusUpdate>) {
        let mut core = lock(&self.core);
        let updates = core.subscribers.add();
        (core.state.clone(), core.positions.clone(), updates)
    }

    /// Appends a status, or a tombstone for `None`, and waits until it is stored (not until it is read). Returns partition and offset.
    /// The caller has at most one write of a unit under way. What stands of the unit in other partitions, where it does not belong, is removed
    /// behind it, which may take as long again.
    pub async fn put(
        &self,
        unit: &UnitId,
        status: Option<StatusRecord>,
        limit: Duration,
    ) -> Result<(i32, i64), LogError> {
        let record = self.to_home(&StatusTopicRecord::Status(unit.clone(), status));
        let tombstone = ProducerRecord { value: None, ..record.clone() };
        let stored = self.log.append(vec![record], limit).await?;
        // One record was given, so one was stored.
        let place = stored.first().copied().unwrap_or((-1, -1));
        let strays = self.state.borrow().strays(unit);
        if strays.is_empty() {
            return Ok(place);
        }
        let removed = strays.into_iter().map(|at| ProducerRecord { partition: Some(at), ..tombstone.clone() });
        // Not in front of it: without either, the unit would look as if nobody had held it.
        if let Err(error) = self.log.append(removed.collect(), limit).await {
            tracing::warn!(%unit, %error, "what stands of a unit in other partitions was not removed; tried again with its next status");
        }
        Ok(place)
    }

    /// Appends a record to this partition that no reader does anything for, and waits until it is stored: the tombstone of a connector without a name, which there
    /// is none of. Java's workers pass over it with a line in their log.
    pub async fn put_nothing(&self, partition: i32, limit: Duration) -> Result<(), LogError> {
        let nobody = StatusTopicRecord::Status(UnitId::Connector(String::new()), None);
        let record = ProducerRecord { partition: Some(partition), ..nobody.encode(self.log.topic()) };
        self.log.append(vec![record], limit).await.map(drop)
    }

    /// Notes that a connector used topics, or forgets them for `None`. Returns partition and offset of each.
    pub async fn put_topic_uses(
        &self,
        connector: &str,
        topics: &[String],
        value: Option<TopicUse>,
        limit: Duration,
    ) -> Result<Vec<(i32, i64)>, LogError> {
        let record = |topic: &String| {
            let (topic, connector) = (topic.clone(), connector.to_owned());
            self.to_home(&StatusTopicRecord::TopicUse { topic, connector, value: value.clone() })
        };
        self.log.append(topics.iter().map(record).collect(), limit).await
    }

    /// Goes to the partition that readers expect it in, also when the topic has more by now.
    fn to_home(&self, record: &StatusTopicRecord) -> ProducerRecord {
        let partition = Some(home(&record.key(), self.log.partition_count()));
        ProducerRecord { partition, ..record.encode(self.log.topic()) }
    }
}
