//! What the config topic says: an immutable value, cheap to clone (Java: `ClusterConfigState`; ours also holds the members).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config_records::{Fingerprint, MemberRecord, RestartRequest, SessionKey, TargetState};
use super::records::RawConfig;
use super::shared_map::SharedMap;
use super::turns::Turns;
use crate::cluster::Incarnation;

/// A connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorEntry {
    /// Its configuration as it stands in the topic.
    pub config: RawConfig,
    /// Tells whether it is the one that a task set was made for.
    pub fingerprint: Fingerprint,
    /// Offset of its record; also the ETag of the configuration.
    pub offset: i64,
}

/// What the last commit of a connector applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSet {
    /// How many tasks the commit named.
    pub count: u32,
    /// Their configurations, by number. Empty when inconsistent.
    pub configs: Vec<Arc<RawConfig>>,
    /// Offset of the commit record: the name of this set.
    pub commit_offset: i64,
    /// The commit named tasks that were not in the log: there are no tasks until they are written anew.
    pub inconsistent: bool,
    /// The connector config that it was made for; `None` where that is not known, since compaction removed it.
    pub applied: Option<Fingerprint>,
}

/// A value and the offset of the record that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The offset of its record.
    pub offset: i64,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEntry {
    /// Its last record.
    pub record: MemberRecord,
    /// The offset of that record.
    pub offset: i64,
}

impl MemberEntry {
    /// The offset of the `joined` record of this life.
    pub fn incarnation(&self) -> Incarnation {
        self.record.incarnation.unwrap_or(Incarnation(self.offset))
    }
}

/// A snapshot of the config topic. Clones share everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterState {
    pub(super) inner: Arc<Inner>,
}

/// The maps behind a snapshot. Those that grow with the connectors share what a record does not change.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inner {
    pub connectors: SharedMap<Arc<str>, Arc<ConnectorEntry>>,
    pub target_states: SharedMap<Arc<str>, At<TargetState>>,
    /// Also those of names without a connector: their commit may stand in front of it, or be left over from a deleted one.
    pub task_sets: SharedMap<Arc<str>, Arc<TaskSet>>,
    /// Task records that no commit has applied yet.
    pub deferred: BTreeMap<Arc<str>, BTreeMap<u32, Arc<RawConfig>>>,
    pub task_counts: SharedMap<Arc<str>, At<u32>>,
    pub restarts: SharedMap<Arc<str>, At<RestartRequest>>,
    pub session_key: Option<Arc<At<SessionKey>>>,
    pub logger_levels: BTreeMap<Arc<str>, At<Arc<str>>>,
    pub members: BTreeMap<Arc<str>, Arc<MemberEntry>>,
    pub turns: Turns,
    pub next_offset: i64,
    pub moved_to: i64,
}

impl ClusterState {
    /// The offset behind the last record that was folded.
    pub fn next_offset(&self) -> i64 {
        self.inner.next_offset
    }

    /// The same without the records by which workers take turns.
    pub(super) fn moved_to(&self) -> i64 {
        self.inner.moved_to
    }

    /// All connectors by name.
    pub fn connectors(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<ConnectorEntry>)> {
        self.inner.connectors.iter().map(|(name, connector)| (&**name, connector))
    }

    /// A connector.
    pub fn connector(&self, name: &str) -> Option<&Arc<ConnectorEntry>> {
        self.inner.connectors.get(name)
    }

    /// The state asked for; STARTED where there is no record.
    pub fn target_state(&self, name: &str) -> TargetState {
        self.inner.target_states.get(name).map_or(TargetState::Started, |at| at.value)
    }

    /// The offset of the target-state record, where there is one.
    pub fn target_state_offset(&self, name: &str) -> Option<i64> {
        self.inner.target_states.get(name).map(|at| at.offset)
    }

    /// The task set of a connector that exists.
    pub fn task_set(&self, name: &str) -> Option<&Arc<TaskSet>> {
        self.inner.task_sets.get(name).filter(|_| self.inner.connectors.get(name).is_some())
    }

    /// The task configs in force, by number; none for an inconsistent set.
    pub fn tasks(&self, name: &str) -> &[Arc<RawConfig>] {
        self.task_set(name).map_or(&[], |set| &set.configs)
    }

    /// The offset of the last commit of this name in the log, whether or not its connector exists.
    pub fn last_commit(&self, name: &str) -> Option<i64> {
        self.inner.task_sets.get(name).map(|set| set.commit_offset)
    }

    /// Whether these task configs have to be written: they differ from those in force, or those were made for another or an
    /// unknown connector config (Java: `taskConfigsChanged`).
    pub fn task_configs_changed(&self, name: &str, configs: &[RawConfig]) -> bool {
        let (Some(connector), Some(set)) = (self.connector(name), self.task_set(name)) else { return true };
        let equal =
            set.configs.len() == configs.len() && set.configs.iter().zip(configs).all(|(old, new)| **old == *new);
        set.inconsistent || !equal || set.applied != Some(connector.fingerprint)
    }

    /// For how many tasks older producers were fenced last, where that was recorded.
    pub fn task_count_record(&self, name: &str) -> Option<u32> {
        self.inner.task_counts.get(name).map(|at| at.value)
    }

    /// Whether a commit came after the last task-count record: an exactly-once source has to fence before its tasks start.
    pub fn pending_fencing(&self, name: &str) -> bool {
        let fenced = self.inner.task_counts.get(name).map(|at| at.offset);
        self.task_set(name).is_some_and(|set| fenced < Some(set.commit_offset))
    }

    /// The last restart request of a connector with its offset. One before the reader's incarnation must not act.
    pub fn restart(&self, name: &str) -> Option<&At<RestartRequest>> {
        self.inner.restarts.get(name)
    }

    /// The session key of Java workers.
    pub fn session_key(&self) -> Option<&At<SessionKey>> {
        self.inner.session_key.as_deref()
    }

    /// The last level of each logger namespace with its offset. Those before the reader's start must not act.
    pub fn logger_levels(&self) -> impl ExactSizeIterator<Item = (&str, &At<Arc<str>>)> {
        self.inner.logger_levels.iter().map(|(namespace, at)| (&**namespace, at))
    }

    /// All members by worker id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<MemberEntry>)> {
        self.inner.members.iter().map(|(id, member)| (&**id, member))
    }

    /// Who waits for the shared transactional id.
    pub(super) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    /// Whether a worker waits for its turn to write, or has ended without.
    pub fn turns_wait(&self) -> bool {
        !self.inner.turns.waiting().is_empty()
    }

    /// A member.
    pub fn member(&self, worker_id: &str) -> Option<&Arc<MemberEntry>> {
        self.inner.members.get(worker_id)
    }
}
