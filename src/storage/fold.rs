//! Applies one record of the config topic to the state (Java: `KafkaConfigBackingStore`, `ConsumeCallback`). Pure.
//!
//! Where this differs from Java's reader: a commit in front of its connector record counts, since compaction may have moved the
//! connector record behind it; and a bad commit costs nothing but itself.

use std::sync::Arc;

use super::cluster_state::{At, ClusterState, ConnectorEntry, Inner, MemberEntry, TaskSet};
use super::config_records::{Commit, ConfigRecord, Fingerprint, is_turn};
use super::records::RecordError;
use crate::backend::ConsumerRecord;

/// A record that changed nothing, or not all that it says, and why.
pub type FoldIssue = RecordError;

/// The state after a record. What cannot be read is reported and leaves the state as it was.
pub fn fold(mut state: ClusterState, record: &ConsumerRecord) -> (ClusterState, Vec<FoldIssue>) {
    let inner = Arc::make_mut(&mut state.inner);
    inner.next_offset = record.offset + 1;
    if !record.key.as_deref().is_some_and(is_turn) {
        inner.moved_to = inner.next_offset;
    }
    let issues = match ConfigRecord::decode(record.offset, record.key.as_ref(), record.value.as_ref()) {
        Ok(decoded) => apply(inner, decoded, record.offset).into_iter().collect(),
        Err(error) => vec![error],
    };
    (state, issues)
}

fn apply(state: &mut Inner, record: ConfigRecord, offset: i64) -> Option<FoldIssue> {
    match record {
        ConfigRecord::Connector(name, Some(config)) => {
            let fingerprint = Fingerprint::of(&config);
            state.connectors.insert(name.into(), Arc::new(ConnectorEntry { config, fingerprint, offset }));
        }
        ConfigRecord::Connector(name, None) => delete_connector(state, &name),
        ConfigRecord::TargetState(name, Some(value)) => state.target_states.insert(name.into(), At { value, offset }),
        ConfigRecord::TargetState(name, None) => state.target_states.remove(&*name),
        ConfigRecord::Task(name, task, config) => {
            state.deferred.entry(name.into()).or_default().insert(task, Arc::new(config));
        }
        ConfigRecord::Commit(name, commit) => return apply_commit(state, name, commit, offset),
        ConfigRecord::TaskCount(name, value) => state.task_counts.insert(name.into(), At { value, offset }),
        ConfigRecord::Restart(name, value) => state.restarts.insert(name.into(), At { value, offset }),
        ConfigRecord::SessionKey(value) => state.session_key = Some(Arc::new(At { value, offset })),
        ConfigRecord::LoggerLevel(namespace, level) => {
            state.logger_levels.insert(namespace.into(), At { value: level.into(), offset });
        }
        ConfigRecord::Member(id, Some(record)) => {
            state.members.insert(id.into(), Arc::new(MemberEntry { record, offset }));
        }
        ConfigRecord::Member(id, None) => _ = state.members.remove(&*id),
        ConfigRecord::Turn(worker, true) => state.turns.wait(&worker),
        ConfigRecord::Turn(worker, false) => state.turns.end(&worker),
    }
    None
}

/// Forgets the tasks with the connector. That a commit is in the log is remembered: who creates the name again must write one
/// behind it, or else a reader for whom this tombstone has vanished would give the new connector the old tasks.
fn delete_connector(state: &mut Inner, name: &str) {
    state.connectors.remove(name);
    state.deferred.remove(name);
    if let Some(commit_offset) = state.task_sets.get(name).map(|set| set.commit_offset) {
        let none = TaskSet { count: 0, configs: Vec::new(), commit_offset, inconsistent: false, applied: None };
        state.task_sets.insert(name.into(), Arc::new(none));
    }
}

/// Applies the deferred task records when they hold every number below `commit.tasks`; there may be more of them, left over from a larger set.
fn apply_commit(state: &mut Inner, name: String, commit: Commit, offset: i64) -> Option<FoldIssue> {
    let mut deferred = state.deferred.remove(&*name).unwrap_or_default();
    let leftover = deferred.split_off(&commit.tasks);
    drop(leftover);
    let missing = (0..commit.tasks).find(|task| !deferred.contains_key(task));
    let applied = commit.config.or_else(|| state.connectors.get(&*name).map(|connector| connector.fingerprint));
    let configs = if missing.is_none() { deferred.into_values().collect() } else { Vec::new() };
    let issue = missing.map(|task| FoldIssue {
        key: format!("commit-{name}"),
        offset,
        reason: format!(
            "it names {} tasks and the record of task {task} is not in the log; the connector has no tasks until it is started \
             and writes them anew",
            commit.tasks
        ),
    });
    let set = TaskSet { count: commit.tasks, configs, commit_offset: offset, inconsistent: missing.is_some(), applied };
    state.task_sets.insert(name.into(), Arc::new(set));
    issue
}

#[cfg(test)]
mod tests;
