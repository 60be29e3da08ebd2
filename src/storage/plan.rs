//! Which records a write of the config topic consists of, in order. Pure; the caller appends them, in one transaction where
//! the docs say so, and has checked under it what must hold.

use bytes::Bytes;
use bytestring::ByteString;

use super::cluster_state::ClusterState;
use super::config_records::{Commit, ConfigRecord, Fingerprint, MemberRecord, RestartRequest, TargetState};
use super::records::{FORMAT_VERSION, RawConfig};
use crate::backend::Header;
use crate::cluster::MemberState;

/// Creates a connector or replaces its configuration. In a transaction.
///
/// A new connector whose name has a commit in the log gets a commit of no tasks behind its record: a deleted connector of that name left
/// tasks there, and they must not become those of the new one. So for a target state that stands there without a connector: a pause that came
/// behind the records of a deletion, since it is a plain append. Java's worker lets the new connector begin with it.
pub fn put_connector(
    state: &ClusterState,
    name: &str,
    config: RawConfig,
    initial_state: Option<TargetState>,
) -> Vec<ConfigRecord> {
    let new = state.connector(name).is_none();
    let orphan = new && initial_state.is_none() && state.target_state_offset(name).is_some();
    let fingerprint = Fingerprint::of(&config);
    let mut records = Vec::new();
    records.extend(initial_state.map(|state| ConfigRecord::TargetState(name.to_owned(), Some(state))));
    records.extend(orphan.then(|| ConfigRecord::TargetState(name.to_owned(), None)));
    records.push(ConfigRecord::Connector(name.to_owned(), Some(config)));
    if new && state.last_commit(name).is_some() {
        records.push(ConfigRecord::Commit(name.to_owned(), Commit { tasks: 0, config: Some(fingerprint) }));
    }
    records
}

/// Replaces the task set. In a transaction, so that tasks and commit are there together or not at all.
pub fn put_tasks(state: &ClusterState, name: &str, configs: Vec<RawConfig>) -> Vec<ConfigRecord> {
    let config = state.connector(name).map(|connector| connector.fingerprint);
    let numbered = (0_u32..).zip(configs);
    let mut records: Vec<_> =
        numbered.map(|(task, config)| ConfigRecord::Task(name.to_owned(), task, config)).collect();
    let tasks = u32::try_from(records.len()).unwrap_or(u32::MAX);
    records.push(ConfigRecord::Commit(name.to_owned(), Commit { tasks, config }));
    records
}

/// Asks for a state. Paused and started are one plain append; stopped also takes the tasks away, in a transaction.
pub fn put_target_state(state: &ClusterState, name: &str, target: TargetState) -> Vec<ConfigRecord> {
    let mut records = if target == TargetState::Stopped { put_tasks(state, name, Vec::new()) } else { Vec::new() };
    records.push(ConfigRecord::TargetState(name.to_owned(), Some(target)));
    records
}

/// Deletes a connector. In a transaction. Its task records stay in the log, as Java leaves them.
pub fn delete_connector(name: &str) -> Vec<ConfigRecord> {
    vec![ConfigRecord::Connector(name.to_owned(), None), ConfigRecord::TargetState(name.to_owned(), None)]
}

/// Asks for a restart. A plain append.
pub fn restart(name: &str, request: RestartRequest) -> ConfigRecord {
    ConfigRecord::Restart(name.to_owned(), request)
}

/// The record with which a worker joins. A plain append; its offset becomes the incarnation, whatever `record` says.
pub fn member_joined(worker_id: &str, record: MemberRecord) -> ConfigRecord {
    let record = MemberRecord { state: MemberState::Joined, incarnation: None, settled: false, ..record };
    ConfigRecord::Member(worker_id.to_owned(), Some(record))
}

/// The record that a member is gone: a plain append by itself, or in a transaction by who evicts it.
pub fn member_gone(worker_id: &str) -> ConfigRecord {
    ConfigRecord::Member(worker_id.to_owned(), None)
}

/// The headers of an eviction's tombstone, for operators: who wrote it and why.
pub fn eviction_headers(evictor: &str, reason: &str) -> Vec<Header> {
    let header =
        |name: &'static str, text: &str| (ByteString::from_static(name), Some(Bytes::copy_from_slice(text.as_bytes())));
    vec![header("v", &FORMAT_VERSION.to_string()), header("evicted-by", evictor), header("reason", reason)]
}
