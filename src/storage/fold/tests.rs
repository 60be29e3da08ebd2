//! The fold against what Java's reader does, and against compaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use connect_api::TimestampType;
use proptest::prelude::*;

use super::super::config_records::{MemberRecord, RestartRequest, TargetState};
use super::super::{plan, records::RawConfig};
use super::*;
use crate::cluster::{MemberState, Nonce};

fn record(offset: i64, key: &str, value: Option<&str>) -> ConsumerRecord {
    ConsumerRecord {
        source: 0,
        offset,
        timestamp: 0,
        timestamp_type: TimestampType::CreateTime,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn fold_all(records: &[ConsumerRecord]) -> (ClusterState, Vec<FoldIssue>) {
    records.iter().fold(Default::default(), |(state, mut issues): (_, Vec<_>), record| {
        let (state, more) = fold(state, record);
        issues.extend(more);
        (state, issues)
    })
}

/// Folds texts; offsets count from 0.
fn log(records: &[(&str, Option<&str>)]) -> (ClusterState, Vec<FoldIssue>) {
    let records: Vec<_> = (0..).zip(records).map(|(offset, (key, value))| record(offset, key, *value)).collect();
    fold_all(&records)
}

const CONFIG: Option<&str> = Some(r#"{"properties":{"name":"a","x":"1"}}"#);
const TASK: Option<&str> = Some(r#"{"properties":{"task.class":"T"}}"#);

#[test]
fn a_commit_in_front_of_its_connector_counts() {
    let (state, issues) = log(&[("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":1}"#)), ("connector-a", CONFIG)]);
    assert_eq!(issues, []);
    assert_eq!(state.tasks("a").len(), 1);
    // For which config they were made is not known: they are written anew when the connector starts.
    let tasks: Vec<_> = state.tasks("a").iter().map(|task| RawConfig::clone(task)).collect();
    assert!(state.task_configs_changed("a", &tasks));
}

#[test]
fn unchanged_tasks_of_an_unchanged_connector_are_not_rewritten() {
    let mut records = vec![("connector-a", CONFIG), ("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":1}"#))];
    records.push(("connector-a", CONFIG));
    let (state, _) = log(&records);
    let tasks: Vec<_> = state.tasks("a").iter().map(|task| RawConfig::clone(task)).collect();
    assert!(!state.task_configs_changed("a", &tasks));
    records.push(("connector-a", Some(r#"{"properties":{"x":"2"}}"#)));
    assert!(log(&records).0.task_configs_changed("a", &tasks));
}

#[test]
fn an_incomplete_commit_takes_the_tasks_away_until_the_next_one() {
    let mut records = vec![("connector-a", CONFIG), ("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":1}"#))];
    records.extend([("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":2}"#))]);
    let (state, issues) = log(&records);
    assert_eq!(issues.len(), 1);
    assert!(issues[0].reason.contains("task 1"), "{}", issues[0]);
    assert!(state.task_set("a").is_some_and(|set| set.inconsistent));
    assert!(state.tasks("a").is_empty());
    // Deferred records went with the bad commit.
    records.extend([("task-a-1", TASK), ("commit-a", Some(r#"{"tasks":2}"#))]);
    assert!(log(&records).0.task_set("a").is_some_and(|set| set.inconsistent));
    records.extend([("task-a-1", TASK), ("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":2}"#))]);
    assert_eq!(log(&records).0.tasks("a").len(), 2);
}

#[test]
fn uncommitted_tasks_are_not_applied() {
    let (state, _) = log(&[("connector-a", CONFIG), ("task-a-0", TASK)]);
    assert!(state.tasks("a").is_empty());
    assert!(state.task_configs_changed("a", &[]));
}

#[test]
fn a_commit_that_names_billions_of_tasks_is_only_incomplete() {
    let (state, issues) =
        log(&[("connector-a", CONFIG), ("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":2147483647}"#))]);
    assert!(state.task_set("a").is_some_and(|set| set.inconsistent));
    assert_eq!(issues.len(), 1);
}

#[test]
fn a_deleted_connector_takes_its_tasks_along_and_leaves_the_commit_known() {
    let mut records = vec![("connector-a", CONFIG), ("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":1}"#))];
    records.extend([("connector-a", None), ("target-state-a", None)]);
    let (state, _) = log(&records);
    assert!(state.connector("a").is_none() && state.task_set("a").is_none());
    assert_eq!(state.last_commit("a"), Some(2));
    records.push(("connector-a", CONFIG));
    assert!(log(&records).0.tasks("a").is_empty());
}

#[test]
fn a_bad_record_costs_nothing_but_itself() {
    for (key, value) in [
        ("commit-a", Some(r#"{"tasks":1.0}"#)),
        ("commit-a", Some(r#"{"tasks":-1}"#)),
        ("commit-a", None),
        ("task-a-0", None),
        ("task-a", TASK),
        ("connector-a", Some("{not json")),
        ("connector-a", Some(r#"{"props":{}}"#)),
        ("connector-a", Some(r#"{"properties":{"x":[1]}}"#)),
        ("connector-a", Some("7")),
        ("target-state-a", Some(r#"{"state":"WHATEVER"}"#)),
        ("target-state-a", Some(r#"{"state":"STARTED","state.v2":"HIBERNATING"}"#)),
        ("restart-connector-a", None),
        ("logger-cluster-x", Some("{}")),
        ("session-key", Some("{}")),
        ("worker-w1", Some(r#"{"state":"dancing"}"#)),
        ("epoch", Some("{}")),
    ] {
        let before = [("connector-a", CONFIG), ("target-state-a", Some(r#"{"state":"PAUSED"}"#))];
        let (mut expected, _) = log(&before);
        let (state, issues) = log(&[before[0], before[1], (key, value)]);
        let inner = Arc::make_mut(&mut expected.inner);
        (inner.next_offset, inner.moved_to) = (3, 3);
        assert_eq!(state, expected, "{key} {value:?}");
        assert_eq!(issues.len(), 1, "{key} {value:?}");
        assert_eq!((issues[0].key.as_str(), issues[0].offset), (key, 2));
    }
}

#[test]
fn an_empty_value_and_a_json_null_are_tombstones() {
    for value in ["", "null"] {
        assert!(log(&[("connector-a", CONFIG), ("connector-a", Some(value))]).0.connector("a").is_none());
    }
}

#[test]
fn an_exactly_once_source_fences_after_each_commit() {
    let mut records = vec![("connector-a", CONFIG), ("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":1}"#))];
    assert!(log(&records).0.pending_fencing("a"));
    records.push(("tasks-fencing-a", Some(r#"{"task-count":1}"#)));
    let (state, _) = log(&records);
    assert!(!state.pending_fencing("a"));
    assert_eq!(state.task_count_record("a"), Some(1));
    records.extend([("task-a-0", TASK), ("commit-a", Some(r#"{"tasks":1}"#))]);
    assert!(log(&records).0.pending_fencing("a"));
}

#[test]
fn a_snapshot_does_not_change_behind_its_holder() {
    let (before, _) = log(&[("connector-a", CONFIG)]);
    let held = before.clone();
    let (after, _) = fold(before, &record(1, "connector-a", None));
    assert!(held.connector("a").is_some() && after.connector("a").is_none());
}

/// What a worker or an operator does.
#[derive(Debug, Clone)]
enum Op {
    Put { name: usize, salt: u8, initial: Option<TargetState> },
    Tasks { name: usize, count: u8, salt: u8 },
    Target { name: usize, target: TargetState },
    Delete { name: usize },
    Restart { name: usize, task: Option<u32> },
    Fence { name: usize, count: u32 },
    Join { worker: usize, nonce: u64 },
    Settle { worker: usize },
    Drain { worker: usize },
    Gone { worker: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let target = || prop_oneof![Just(TargetState::Started), Just(TargetState::Paused), Just(TargetState::Stopped)];
    let op = prop_oneof![
        4 => (0..2_usize, 0..3_u8, prop::option::of(target()))
            .prop_map(|(name, salt, initial)| Op::Put { name, salt, initial }),
        5 => (0..2_usize, 0..4_u8, 0..2_u8).prop_map(|(name, count, salt)| Op::Tasks { name, count, salt }),
        2 => (0..2_usize, target()).prop_map(|(name, target)| Op::Target { name, target }),
        2 => (0..2_usize).prop_map(|name| Op::Delete { name }),
        1 => (0..2_usize, prop::option::of(0..2_u32)).prop_map(|(name, task)| Op::Restart { name, task }),
        1 => (0..2_usize, 0..3_u32).prop_map(|(name, count)| Op::Fence { name, count }),
        1 => (0..2_usize, any::<u64>()).prop_map(|(worker, nonce)| Op::Join { worker, nonce }),
        1 => (0..2_usize).prop_map(|worker| Op::Settle { worker }),
        1 => (0..2_usize).prop_map(|worker| Op::Drain { worker }),
        1 => (0..2_usize).prop_map(|worker| Op::Gone { worker }),
    ];
    prop::collection::vec(op, 1..40)
}

fn config(salt: u8) -> RawConfig {
    BTreeMap::from([("salt".to_owned(), Some(salt.to_string())), ("nothing".to_owned(), None)])
}

/// The records that connect-node writes for an operation in this state; none where it would refuse.
fn write(state: &ClusterState, op: &Op) -> Vec<ConfigRecord> {
    const NAMES: [&str; 2] = ["a", "b-1"];
    const WORKERS: [&str; 2] = ["w:1", "w:2"];
    let exists = |name: &usize| state.connector(NAMES[*name]).is_some();
    let again = |worker: &usize, record: fn(&MemberEntry) -> MemberRecord| {
        let member = |entry| ConfigRecord::Member(WORKERS[*worker].to_owned(), Some(record(entry)));
        state.member(WORKERS[*worker]).map(|entry| member(entry)).into_iter().collect()
    };
    match op {
        Op::Put { name, salt, initial } => {
            plan::put_connector(state, NAMES[*name], config(*salt), initial.filter(|_| !exists(name)))
        }
        Op::Tasks { name, count, salt } if exists(name) => {
            let configs = (0..*count).map(|_| config(*salt)).collect();
            plan::put_tasks(state, NAMES[*name], configs)
        }
        Op::Target { name, target } if exists(name) => plan::put_target_state(state, NAMES[*name], *target),
        Op::Delete { name } if exists(name) => plan::delete_connector(NAMES[*name]),
        Op::Restart { name, task } => {
            let request = RestartRequest { include_tasks: true, only_failed: false, task: *task };
            vec![plan::restart(NAMES[*name], request)]
        }
        Op::Fence { name, count } => vec![ConfigRecord::TaskCount(NAMES[*name].to_owned(), *count)],
        Op::Join { worker, nonce } => vec![plan::member_joined(WORKERS[*worker], joined(*nonce))],
        Op::Settle { worker } => again(worker, |member| MemberRecord { settled: true, ..of_this_life(member) }),
        Op::Drain { worker } => {
            again(worker, |member| MemberRecord { state: MemberState::Draining, ..of_this_life(member) })
        }
        Op::Gone { worker } => vec![plan::member_gone(WORKERS[*worker])],
        _ => Vec::new(),
    }
}

fn joined(nonce: u64) -> MemberRecord {
    MemberRecord {
        state: MemberState::Joined,
        nonce: Nonce(nonce),
        incarnation: None,
        group_id: "workers".into(),
        rest_url: "http://h:8083/".to_owned(),
        gossip_address: String::new(),
        settled: false,
        fence_ms: None,
        node_version: "0.1.0".to_owned(),
    }
}

/// What a member says in its further records.
fn of_this_life(member: &MemberEntry) -> MemberRecord {
    MemberRecord { incarnation: Some(member.incarnation()), ..member.record.clone() }
}

/// The log of these operations, with a gap behind each as a transaction marker leaves it, and the live reader's state.
fn run(ops: &[Op]) -> (Vec<ConsumerRecord>, ClusterState) {
    let mut records = Vec::new();
    let mut state = ClusterState::default();
    let mut offset = 0;
    for op in ops {
        for written in write(&state, op) {
            let mut read = record(offset, "", None);
            (read.key, read.value) = (Some(written.key()), written.value());
            let (next, issues) = fold(state, &read);
            assert_eq!(issues, [], "connect-node writes nothing that its own fold complains about");
            state = next;
            records.push(read);
            offset += 1;
        }
        offset += 1;
    }
    (records, state)
}

/// A legal compaction: the last record of a key stays, unless it is a tombstone whose older records are all gone; of the others any may go.
fn compact(records: &[ConsumerRecord], choices: &[bool]) -> Vec<ConsumerRecord> {
    let last: HashMap<_, _> = records.iter().map(|record| (record.key.clone(), record.offset)).collect();
    let mut choice = choices.iter().cycle();
    let mut kept_older = HashSet::new();
    let mut kept = Vec::new();
    for record in records {
        let drop = *choice.next().unwrap_or(&true);
        let superseded = last[&record.key] != record.offset;
        let vanished = record.value.is_none() && !kept_older.contains(&record.key);
        if drop && (superseded || vanished) {
            continue;
        }
        kept_older.insert(record.key.clone());
        kept.push(record.clone());
    }
    kept
}

/// What must not depend on compaction: all but the end, and of names without a connector only that a commit is in the log.
fn essence(state: &ClusterState) -> Inner {
    let mut inner = Inner::clone(&state.inner);
    (inner.next_offset, inner.moved_to) = (0, 0);
    for (name, set) in state.inner.task_sets.iter() {
        if inner.connectors.get(name).is_none() {
            let commit_offset = set.commit_offset;
            let nothing = TaskSet { count: 0, configs: Vec::new(), commit_offset, inconsistent: false, applied: None };
            inner.task_sets.insert(name.clone(), Arc::new(nothing));
        }
    }
    inner
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn compaction_of_an_own_log_changes_nothing(
        before in ops(),
        after in ops(),
        choices in prop::collection::vec(any::<bool>(), 1..64),
    ) {
        // A reader of a compacted log goes on live: it must stay equal to one that has read everything.
        let both: Vec<Op> = before.iter().chain(&after).cloned().collect();
        let (prefix, live_then) = run(&before);
        let (all, live) = run(&both);
        let compacted = compact(&prefix, &choices);
        let (fresh, issues) = fold_all(&compacted);
        prop_assert_eq!(essence(&fresh), essence(&live_then));
        prop_assert!(issues.iter().all(|issue| issue.key.starts_with("commit-")), "{:?}", issues);
        let (fresh, _) = all[prefix.len()..].iter().fold((fresh, vec![]), |(state, _), record| fold(state, record));
        prop_assert_eq!(essence(&fresh), essence(&live));
        let (fresh, _) = fold_all(&compact(&all, &choices));
        prop_assert_eq!(essence(&fresh), essence(&live));
    }
}

/// A subscriber holds each state, so that each record costs a copy of the maps. It has to stay cheap with thousands of connectors.
#[test]
fn folding_while_snapshots_are_held_stays_cheap() {
    const CONNECTORS: usize = 2000;
    let mut state = ClusterState::default();
    let mut held = Vec::new();
    let before = std::time::Instant::now();
    for number in 0..CONNECTORS {
        let offset = number as i64;
        let issues;
        (state, issues) =
            fold(state, &record(offset, &format!("connector-some-long-name-of-a-connector-{number}"), CONFIG));
        assert_eq!(issues, []);
        held.push(state.clone());
    }
    println!("{CONNECTORS} connectors with all snapshots held: {:?}", before.elapsed());
    assert!(held.iter().zip(1..).all(|(state, count)| state.connectors().len() == count));
}
