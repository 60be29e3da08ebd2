//! The state that all clients of one named cluster share.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use connect_api::TopicPartition;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::{FaultState, HeldCommit};
use super::log::{PartitionLog, Stored, TransactionId};
use crate::backend::inbox::{Inbox, lock};
use crate::backend::rules::{AUTO_CREATED_PARTITIONS, is_compacted, keyless, now_ms, partition_count, partition_of};
use crate::backend::{BackendError, ClientSettings, GroupDescription, ProducerRecord, Result};

/// A topic.
pub(super) struct Topic {
    /// New for each topic that was ever made, so that a reader notices when one was made anew.
    pub id: u64,
    pub config: BTreeMap<String, String>,
    pub partitions: Vec<PartitionLog>,
}

impl Topic {
    fn compacted(&self) -> bool {
        is_compacted(&self.config)
    }
}

/// What handles of equal settings share.
#[derive(Default)]
pub(super) struct Client {
    pub broken: AtomicBool,
}

/// A record in the queue of a client.
pub(super) struct Queued {
    pub client: Arc<Client>,
    pub inbox: Arc<Inbox>,
    pub sequence: u64,
    pub partition: i32,
    pub record: ProducerRecord,
    pub due: Instant,
}

/// An answer on its way to a client.
struct Late {
    inbox: Arc<Inbox>,
    sequence: u64,
    size: usize,
    answer: Result<(i32, i64)>,
    due: Instant,
}

/// What is known of a transactional id.
#[derive(Default)]
pub(super) struct TransactionalId {
    /// Raised by each writer that takes the id over.
    pub epoch: u64,
    pub open: Option<OpenTransaction>,
}

/// A transaction that is neither committed nor aborted.
pub(super) struct OpenTransaction {
    pub id: TransactionId,
    pub partitions: Vec<TopicPartition>,
    pub offsets: Vec<(String, TopicPartition, i64)>,
}

/// A consumer group.
#[derive(Default)]
pub(super) struct Group {
    pub offsets: BTreeMap<TopicPartition, i64>,
    /// What a test says that there are members.
    pub members: Option<GroupDescription>,
}

/// What the lock of a [`Cluster`] protects.
#[derive(Default)]
pub(super) struct State {
    pub topics: BTreeMap<Arc<str>, Topic>,
    pub groups: BTreeMap<String, Group>,
    pub transactional_ids: HashMap<String, TransactionalId>,
    pub clients: HashMap<ClientSettings, Weak<Client>>,
    pub faults: FaultState,
    pub queue: VecDeque<Queued>,
    late: VecDeque<Late>,
    /// By topic and partition, also of topics that are not there.
    watchers: HashMap<Arc<str>, HashMap<i32, Vec<Weak<Notify>>>>,
    last_id: u64,
    turn: u64,
    no_auto_create: bool,
}

/// One named cluster.
pub(super) struct Cluster {
    pub name: String,
    state: Mutex<State>,
    /// Faults were switched or a transaction ended.
    pub changed: Notify,
}

fn wake_living(watchers: &mut Vec<Weak<Notify>>) {
    watchers.retain(|watcher| watcher.upgrade().inspect(|notify| notify.notify_one()).is_some());
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn set_auto_create(&mut self, on: bool) {
        self.no_auto_create = !on;
    }

    /// Makes a topic, unless there is one.
    pub(super) fn create_topic(&mut self, name: &str, partitions: i32, config: BTreeMap<String, String>) -> Result<()> {
        let partitions = partition_count(name, partitions)?;
        if !self.topics.contains_key(name) {
            let id = self.next_id();
            let partitions = (0..partitions).map(|_| PartitionLog::default()).collect();
            self.topics.insert(name.into(), Topic { id, config, partitions });
        }
        Ok(())
    }

    pub(super) fn log(&self, partition: &TopicPartition) -> Option<&PartitionLog> {
        self.topics.get(&partition.topic)?.partitions.get(usize::try_from(partition.partition).ok()?)
    }

    pub(super) fn log_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionLog> {
        self.topics.get_mut(&partition.topic)?.partitions.get_mut(usize::try_from(partition.partition).ok()?)
    }

    /// Where a record goes: its own partition, its key's, or the next in turn. Makes the topic where there is none.
    pub(super) fn place(&mut self, record: &ProducerRecord) -> Result<i32> {
        let name: &str = &record.topic;
        if !self.topics.contains_key(name) {
            if self.no_auto_create {
                return Err(BackendError::Refused(format!("there is no topic {name}")));
            }
            self.create_topic(name, AUTO_CREATED_PARTITIONS, BTreeMap::new())?;
        }
        partition_of(record, self.topics[name].partitions.len() as i32, &mut self.turn)
    }

    /// Stores a record, or says why the broker would not.
    pub(super) fn append(
        &mut self,
        record: &ProducerRecord,
        partition: i32,
        transaction: Option<TransactionId>,
    ) -> Result<(i32, i64)> {
        if let Some((left, error)) = &mut self.faults.refuse {
            let error = error.clone();
            *left -= 1;
            if *left == 0 {
                self.faults.refuse = None;
            }
            return Err(error);
        }
        let name: &str = &record.topic;
        let gone = || BackendError::Refused(format!("there is no partition {partition} of topic {name}"));
        let topic = self.topics.get_mut(name).ok_or_else(gone)?;
        if topic.compacted() && record.key.is_none() {
            return Err(keyless(name));
        }
        let log = topic.partitions.get_mut(partition as usize).ok_or_else(gone)?;
        let offset = log.append(Stored {
            offset: -1,
            timestamp: record.timestamp.unwrap_or_else(now_ms),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            transaction,
        });
        self.wake(name, partition);
        Ok((partition, offset))
    }

    /// Tells `notify` about changes of a partition, until it is dropped.
    pub(super) fn watch(&mut self, partition: &TopicPartition, notify: &Arc<Notify>) {
        let watchers = self.watchers.entry(Arc::clone(&partition.topic)).or_default();
        let watchers = watchers.entry(partition.partition).or_default();
        watchers.retain(|watcher| watcher.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, notify)));
        watchers.push(Arc::downgrade(notify));
    }

    /// Wakes the readers of a partition.
    pub(super) fn wake(&mut self, topic: &str, partition: i32) {
        if let Some(watchers) = self.watchers.get_mut(topic).and_then(|watchers| watchers.get_mut(&partition)) {
            wake_living(watchers);
        }
    }

    /// Wakes the readers of all partitions.
    pub(super) fn wake_all(&mut self) {
        self.watchers.values_mut().flat_map(HashMap::values_mut).for_each(wake_living);
    }

    /// Ends the open transaction of an id, if there is one.
    pub(super) fn end_transaction(&mut self, transactional_id: &str, commit: bool) {
        let open = self.transactional_ids.get_mut(transactional_id).and_then(|id| id.open.take());
        let Some(open) = open else { return };
        for partition in &open.partitions {
            if let Some(log) = self.log_mut(partition) {
                log.end_transaction(open.id, commit);
            }
            self.wake(&partition.topic, partition.partition);
        }
        if commit {
            for (group, partition, offset) in open.offsets {
                self.groups.entry(group).or_default().offsets.insert(partition, offset);
            }
        }
    }

    /// Carries out the commits that waited.
    pub(super) fn release_commits(&mut self) {
        for HeldCommit { group, offsets, .. } in std::mem::take(&mut self.faults.held_commits) {
            self.groups.entry(group).or_default().offsets.extend(offsets);
        }
    }

    /// Whether a transaction is open that will change offsets of this group.
    pub(super) fn offsets_pending(&self, group: &str) -> bool {
        let open = self.transactional_ids.values().filter_map(|id| id.open.as_ref());
        open.flat_map(|open| &open.offsets).any(|(name, _, _)| name == group)
    }

    /// Removes from the queue what `which` says and answers each record with `error`.
    pub(super) fn drop_queued(&mut self, which: impl Fn(&Queued) -> bool, error: &BackendError) {
        let queue = std::mem::take(&mut self.queue);
        for queued in queue {
            if which(&queued) {
                let size = queued.record.size();
                queued.inbox.update(|state| state.failed(queued.sequence, size, error.clone()));
            } else {
                self.queue.push_back(queued);
            }
        }
    }

    /// Stores a queued record and answers it, now or later.
    fn deliver(&mut self, queued: Queued) {
        let mut answer = self.append(&queued.record, queued.partition, None);
        if let Err(error @ BackendError::Fatal(_)) = &answer {
            queued.client.broken.store(true, Ordering::SeqCst);
            let error = error.clone();
            self.drop_queued(|other| Arc::ptr_eq(&other.client, &queued.client), &error);
        }
        if answer.is_ok() && self.faults.lose_acks > 0 {
            self.faults.lose_acks -= 1;
            answer = Err(BackendError::Retriable("no answer came to an append; it may be stored".into()));
        }
        let due = Instant::now() + self.faults.ack_delay;
        let size = queued.record.size();
        self.late.push_back(Late { inbox: queued.inbox, sequence: queued.sequence, size, answer, due });
    }

    /// Does what is due and returns when the next thing is.
    fn work_off(&mut self) -> Option<Instant> {
        if self.faults.down {
            return None;
        }
        let now = Instant::now();
        let mut next = None;
        while !self.faults.hold_appends
            && let Some(queued) = self.queue.pop_front()
        {
            if queued.due > now {
                next = Some(queued.due);
                self.queue.push_front(queued);
                break;
            }
            self.deliver(queued);
        }
        while !self.faults.hold_acks
            && let Some(late) = self.late.pop_front()
        {
            if late.due > now {
                next = Some(next.map_or(late.due, |next: Instant| next.min(late.due)));
                self.late.push_front(late);
                break;
            }
            let Late { inbox, sequence, size, answer, .. } = late;
            inbox.update(|state| match answer {
                Ok((partition, offset)) => state.delivered(sequence, size, partition, offset),
                Err(error) => state.failed(sequence, size, error),
            });
        }
        next
    }
}

impl Cluster {
    pub(super) fn new(name: &str) -> Cluster {
        Cluster { name: name.to_owned(), state: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Stores and answers what is due. Where a delay is switched on, a timer of the current runtime comes back for the rest.
    pub(super) fn work_off(self: &Arc<Self>) {
        let next = self.lock().work_off();
        let Some(next) = next else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let cluster = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep_until(next).await;
                cluster.work_off();
            });
        }
    }

    /// Waits until the state gives an answer, or the time is over.
    pub(super) async fn wait_for<T>(
        &self,
        timeout: Duration,
        what: &str,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let mut state = self.lock();
                    if !state.faults.down
                        && let Some(found) = look(&mut state)
                    {
                        return found;
                    }
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| {
            let message = format!("cluster {}: {what} got no answer in {} ms", self.name, timeout.as_millis());
            BackendError::Retriable(message)
        })
    }
}
