//! Records of a Java worker, recorded in `tests/golden` (see its README), read and folded.
//!
//! `CONNECT_NODE_GOLDEN` names another directory of the same form. The general rules below hold for every `*.jsonl` in it; what a file folds
//! to is compared with `expected-<file>.json`, where there is one. Steps named `input` were made by hand and may be bad.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connect_api::{FieldMap, TimestampType};
use connect_node::backend::ConsumerRecord;
use connect_node::json::Json;
use connect_node::storage::ClusterState;
use connect_node::storage::config_records::{ConfigRecord, TargetState};
use connect_node::storage::fold::{FoldIssue, fold};
use connect_node::storage::offset_records::{OffsetKey, content_of, decode_offset, encode_offset};
use connect_node::storage::records::RawConfig;
use connect_node::storage::status_records::{StatusTopicRecord, UnitId, UnitState};
use connect_node::storage::status_store::{Place, StatusState};
use serde_json::Value;

/// One line of a golden file.
struct Row {
    step: String,
    topic: String,
    partition: i32,
    record: ConsumerRecord,
}

impl Row {
    fn is_input(&self) -> bool {
        self.step == "input"
    }

    fn key(&self) -> &Bytes {
        self.record.key.as_ref().expect("records of the internal topics have keys")
    }
}

fn directory() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    std::env::var_os("CONNECT_NODE_GOLDEN").map_or_else(|| PathBuf::from(default), PathBuf::from)
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory()).unwrap_or_else(|error| panic!("{:?}: {error}", directory()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    assert!(!files.is_empty(), "no *.jsonl in {:?}", directory());
    files
}

fn rows(path: &PathBuf) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

fn row(line: &str) -> Row {
    let row: Value = serde_json::from_str(line).unwrap();
    let bytes = |field: &str| row[field].as_str().map(|text| Bytes::from(STANDARD.decode(text).unwrap()));
    Row {
        step: row["step"].as_str().unwrap().to_owned(),
        topic: row["topic"].as_str().unwrap().to_owned(),
        partition: row["partition"].as_i64().unwrap() as i32,
        record: ConsumerRecord {
            source: 0,
            offset: row["offset"].as_i64().unwrap(),
            timestamp: row["timestamp"].as_i64().unwrap_or(-1),
            timestamp_type: TimestampType::CreateTime,
            key: bytes("key_b64"),
            value: bytes("value_b64"),
            headers: Vec::new(),
        },
    }
}

/// The rows of a file of the usual directory; `None` where another directory has no such file.
fn named(name: &str) -> Option<Vec<Row>> {
    let path = directory().join(name);
    (path.exists() || std::env::var_os("CONNECT_NODE_GOLDEN").is_none()).then(|| rows(&path))
}

fn fold_rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> (ClusterState, Vec<FoldIssue>) {
    rows.into_iter().filter(|row| row.topic == "config").fold(
        Default::default(),
        |(state, mut issues): (_, Vec<_>), row| {
            let (state, more) = fold(state, &row.record);
            issues.extend(more);
            (state, issues)
        },
    )
}

fn statuses<'a>(rows: impl IntoIterator<Item = &'a Row>) -> StatusState {
    let mut state = StatusState::default();
    for row in rows.into_iter().filter(|row| row.topic == "status") {
        let Row { partition, record, .. } = row;
        if let Ok(decoded) = StatusTopicRecord::decode(record.offset, record.key.as_ref(), record.value.as_ref()) {
            state.apply(decoded, Place::at_home(*partition, record.offset));
        }
    }
    state
}

/// The last offset of each key of the offset topic, by connector.
fn offsets(rows: &[Row]) -> BTreeMap<String, Vec<(FieldMap, FieldMap)>> {
    let mut by_key = BTreeMap::new();
    for row in rows.iter().filter(|row| row.topic == "offset") {
        if let Ok(key) = OffsetKey::decode(row.record.offset, row.key()) {
            let value = decode_offset(row.record.offset, row.key(), row.record.value.as_ref()).unwrap();
            by_key.insert(row.key().clone(), (key, value));
        }
    }
    let mut by_connector: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (OffsetKey { connector, partition }, value) in by_key.into_values() {
        if let (Some(partition), Some(value)) = (partition, value) {
            by_connector.entry(connector.to_string()).or_default().push((partition, value));
        }
    }
    by_connector
}

/// A value whose bytes may differ in the order of the properties only.
fn with_sorted_properties(value: &Bytes) -> Value {
    let mut value: Value = serde_json::from_slice(value).unwrap();
    if let Some(properties) = value.get_mut("properties") {
        properties.as_object_mut().unwrap().sort_keys();
    }
    value
}

fn assert_same_bytes(row: &Row, key: Bytes, value: Option<Bytes>) {
    assert_eq!(*row.key(), key, "{}", row.step);
    match (&row.record.value, value) {
        (Some(java), Some(ours)) if java.starts_with(b"{\"properties\"") => {
            // The text compares the order of everything else.
            assert_eq!(with_sorted_properties(java).to_string(), with_sorted_properties(&ours).to_string());
        }
        (java, ours) => assert_eq!(*java, ours, "{key:?}"),
    }
}

#[test]
fn what_java_wrote_is_written_again_byte_for_byte() {
    let mut compared = 0;
    for row in files().iter().flat_map(rows).filter(|row| !row.is_input()) {
        let ConsumerRecord { offset, key, value, .. } = &row.record;
        match row.topic.as_str() {
            "config" => {
                let record = ConfigRecord::decode(*offset, key.as_ref(), value.as_ref()).unwrap();
                assert_same_bytes(&row, record.key(), record.value());
            }
            "status" => {
                let record = StatusTopicRecord::decode(*offset, key.as_ref(), value.as_ref()).unwrap();
                assert_same_bytes(&row, record.key(), record.value());
            }
            topic if topic.starts_with("offset") => {
                let OffsetKey { connector, partition } = OffsetKey::decode(*offset, row.key()).unwrap();
                let key = OffsetKey::encode(&connector, partition.as_ref()).unwrap();
                let value = decode_offset(*offset, row.key(), value.as_ref()).unwrap();
                assert_same_bytes(&row, key, value.map(|value| encode_offset(&value).unwrap()));
            }
            _ => continue,
        }
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn what_java_wrote_folds_without_complaint() {
    for path in files() {
        let rows = rows(&path);
        let (_, issues) = fold_rows(&rows);
        let by_hand: BTreeSet<_> =
            rows.iter().filter(|row| row.is_input() && row.topic == "config").map(|row| row.record.offset).collect();
        let unexpected: Vec<_> = issues.iter().filter(|issue| !by_hand.contains(&issue.offset)).collect();
        assert!(unexpected.is_empty(), "{path:?}: {unexpected:?}");
    }
}

#[test]
fn keys_lie_in_the_partition_that_murmur2_names() {
    const PARTITIONS: [(&str, i32); 3] = [("config", 1), ("offset", 25), ("status", 5)];
    for row in files().iter().flat_map(rows) {
        if let Some((_, count)) = PARTITIONS.iter().find(|(topic, _)| *topic == row.topic) {
            let partition = connect_node::backend::partitioner::partition_for_key(row.key(), *count);
            assert_eq!(partition, row.partition, "{:?}", row.key());
        }
    }
}

fn json_of(config: &RawConfig) -> Value {
    Value::Object(config.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect())
}

fn json_of_fields(fields: &FieldMap) -> Value {
    serde_json::from_slice(&encode_offset(fields).unwrap()).unwrap()
}

/// The answers that a REST path gives, from the folds; `None` for a path that needs more than the topics.
fn answer(path: &str, rows: &[Row]) -> Option<Value> {
    let (state, _) = fold_rows(rows);
    let ids = |name: &str| {
        let id = |task| serde_json::json!({"connector": name, "task": task});
        (0..state.tasks(name).len()).map(id).collect::<Vec<_>>()
    };
    let parts: Vec<_> = path.split('/').collect();
    match parts[..] {
        ["connectors"] => Some(state.connectors().map(|(name, _)| name).collect()),
        ["connectors?expand=info"] => {
            let info =
                |(name, entry): (&str, &std::sync::Arc<connect_node::storage::cluster_state::ConnectorEntry>)| {
                    let tasks = ids(name);
                    let info = serde_json::json!({"name": name, "config": json_of(&entry.config), "tasks": tasks});
                    (name.to_owned(), serde_json::json!({ "info": info }))
                };
            Some(Value::Object(state.connectors().map(info).collect()))
        }
        ["connectors", name, "tasks"] => {
            let tasks = state.tasks(name).iter().zip(ids(name));
            Some(tasks.map(|(config, id)| serde_json::json!({"id": id, "config": json_of(config)})).collect())
        }
        ["connectors", name, "offsets"] => {
            let mut offsets = offsets(rows).remove(name).unwrap_or_default();
            offsets.sort_by_key(|(partition, _)| content_of(partition).unwrap());
            let entry = |(partition, offset): (FieldMap, FieldMap)| serde_json::json!({"partition": json_of_fields(&partition), "offset": json_of_fields(&offset)});
            Some(serde_json::json!({"offsets": offsets.into_iter().map(entry).collect::<Value>()}))
        }
        ["connectors", name, "topics"] => {
            let statuses = statuses(rows);
            let topics: Value = statuses.topics(name).map(|(topic, _)| topic).collect();
            Some(serde_json::json!({name: {"topics": topics}}))
        }
        _ => None,
    }
}

/// Removes what only the plug-ins know.
fn without_types(mut answer: Value) -> Value {
    for connector in answer.as_object_mut().into_iter().flat_map(|object| object.values_mut()) {
        if let Some(info) = connector.get_mut("info").and_then(Value::as_object_mut) {
            info.remove("type");
        }
    }
    answer
}

#[test]
fn the_folds_give_the_answers_that_java_gave() {
    let mut compared = 0;
    for path in files() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(path.with_file_name(format!("expected-{stem}.json"))) else { continue };
        let expected: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        let rows = rows(&path);
        for (request, expected) in expected {
            if let Some(answer) = answer(&request, &rows) {
                assert_eq!(answer, without_types(expected), "{path:?} {request}");
                compared += 1;
            }
        }
    }
    assert!(compared > 0 || std::env::var_os("CONNECT_NODE_GOLDEN").is_some());
}

#[test]
fn unchanged_tasks_of_a_java_cluster_are_not_written_anew() {
    for path in files().into_iter().filter(|path| !path.to_string_lossy().contains("foreign-input")) {
        let (state, _) = fold_rows(&rows(&path));
        for (name, _) in state.connectors().filter(|(name, _)| state.task_set(name).is_some_and(|set| set.count > 0)) {
            let tasks: Vec<_> = state.tasks(name).iter().map(|task| RawConfig::clone(task)).collect();
            assert!(!state.task_configs_changed(name, &tasks), "{path:?} {name}");
        }
    }
}

/// The table of what a Java worker made of odd records, where ours is not deliberately better.
#[test]
fn odd_records_are_read_as_java_reads_them() {
    let Some(rows) = named("foreign-input-mixed.jsonl") else { return };
    let (state, issues) = fold_rows(rows.iter().filter(|row| row.is_input()));
    let ignored: BTreeSet<_> = issues.iter().map(|issue| issue.key.as_str()).collect();
    let expected = ["x-claim-src1", "epoch", "tombstoned-unknown", "task-src1", "task-src1-x", "target-state-src1"];
    let expected = expected.into_iter().chain(["connector-badjson", "connector-badshape", "commit-incons"]);
    assert_eq!(ignored, expected.collect());
    let names: Vec<_> = state.connectors().map(|(name, _)| name).collect();
    assert_eq!(names, ["", "incons", "paused1", "src1", "stopped1", "uncommitted"]);
    assert_eq!(state.target_state("src1"), TargetState::Started);
    assert_eq!(state.target_state("paused1"), TargetState::Paused);
    assert_eq!(state.target_state("stopped1"), TargetState::Stopped);
    let counts: Vec<_> = names.iter().map(|name| state.tasks(name).len()).collect();
    assert_eq!(counts, [0, 0, 0, 1, 0, 0]);
    assert!(state.task_set("incons").unwrap().inconsistent);
    let tasks: Vec<_> = state.tasks("src1").iter().map(|task| RawConfig::clone(task)).collect();
    assert!(!state.task_configs_changed("src1", &tasks), "Java wrote no task of src1 anew");
    assert!(state.task_configs_changed("incons", &[]) && state.task_configs_changed("uncommitted", &[]));
    assert_eq!(state.task_count_record("src1"), Some(1));

    let (state, _) = fold_rows(&rows);
    assert_eq!((state.tasks("incons").len(), state.tasks("uncommitted").len()), (1, 1));
    let source = &offsets(&rows)["src1"];
    assert_eq!(source.len(), 1);
    assert_eq!(source[0].1.get("position").and_then(connect_api::Value::as_i64), Some(12));
    let statuses = statuses(&rows);
    let task = statuses.unit(&UnitId::Task("src1".into(), 0)).unwrap();
    assert_eq!((task.shown.state, task.shown.generation), (UnitState::Running, 1));
    for gone in [UnitId::Connector("gone".into()), UnitId::Task("src1".into(), 7), UnitId::Connector("bad".into())] {
        assert!(statuses.unit(&gone).is_none(), "{gone}");
    }
}

#[test]
fn reordered_records_are_read_at_least_as_well_as_java_reads_them() {
    let Some(rows) = named("foreign-input-reorder.jsonl") else { return };
    let (state, issues) = fold_rows(rows.iter().filter(|row| row.is_input()));
    assert_eq!(issues.iter().map(|issue| issue.key.as_str()).collect::<Vec<_>>(), ["target-state-v2unknown"]);
    assert!(state.connector("deleted1").is_none() && state.tasks("deleted1").is_empty());
    assert_eq!(state.tasks("shrunk").len(), 1);
    assert_eq!(state.target_state("order-paused"), TargetState::Paused);
    assert_eq!(state.tasks("order-paused").len(), 1);
    assert_eq!(state.target_state("v2unknown"), TargetState::Started);
    assert_eq!(state.target_state("v2type"), TargetState::Paused);
    // Better than Java, which shows none until the connector runs: the commit in front of the connector record counts.
    assert_eq!(state.target_state("reord-paused"), TargetState::Paused);
    assert_eq!((state.tasks("reord-paused").len(), state.tasks("reord-run").len()), (1, 1));
    // As Java, which wrote them anew: for which configuration they were made is not known.
    let tasks: Vec<_> = state.tasks("reord-run").iter().map(|task| RawConfig::clone(task)).collect();
    assert!(state.task_configs_changed("reord-run", &tasks));
}

/// After an orderly end of a worker, Java ignores its tasks' UNASSIGNED and shows them RUNNING until they are moved.
#[test]
fn an_outdated_unassigned_of_java_is_ignored() {
    let Some(rows) = named("two-workers.jsonl") else { return };
    let mut shown = BTreeMap::new();
    let mut state = StatusState::default();
    for row in rows.iter().filter(|row| row.topic == "status") {
        let ConsumerRecord { offset, key, value, .. } = &row.record;
        let decoded = StatusTopicRecord::decode(*offset, key.as_ref(), value.as_ref()).unwrap();
        let StatusTopicRecord::Status(unit, Some(record)) = decoded.clone() else { continue };
        state.apply(decoded, Place::at_home(row.partition, *offset));
        let now = state.unit(&unit).unwrap().shown.clone();
        if matches!(unit, UnitId::Task(..)) && record.state == UnitState::Unassigned {
            let before: Option<StatusRecordAt> = shown.get(&unit).cloned();
            let outdated = before
                .as_ref()
                .is_some_and(|(state, generation)| *state == UnitState::Running && *generation >= record.generation);
            assert_eq!(now.state, if outdated { UnitState::Running } else { UnitState::Unassigned }, "{unit}");
        }
        shown.insert(unit, (now.state, now.generation));
    }
    assert!(!shown.is_empty());
}

type StatusRecordAt = (UnitState, i64);

/// Keys that Java's converter wrote for partition values of every kind.
#[test]
fn offset_keys_have_the_bytes_that_java_writes() {
    let path = directory().join("json-edge-cases.txt");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("CONNECT_NODE_GOLDEN").is_some(), "{path:?} is missing");
        return;
    };
    let mut compared = 0;
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let case: Value = serde_json::from_str(line).unwrap();
        let key = Bytes::from(STANDARD.decode(case["key_b64"].as_str().unwrap()).unwrap());
        let OffsetKey { connector, partition } = OffsetKey::decode(0, &key).unwrap();
        let partition = partition.unwrap();
        // Java reads a negative zero back without its sign, so that this one key cannot be made from what was read.
        if case["case"] != "d6" {
            assert_eq!(OffsetKey::encode(&connector, Some(&partition)).unwrap(), key, "{line}");
        }
        let value = partition.get("k").unwrap();
        if case["class"] == "Float" {
            let json = Json::read(&key).unwrap().unwrap();
            let Some(Json::Object(fields)) = json.as_array().unwrap().get(1) else { panic!("{line}") };
            let float = fields.get("k").unwrap().to_f32();
            let written = OffsetKey::encode("n", Some(&FieldMap::new().with("k", float))).unwrap();
            assert_eq!(written, key, "{line}");
        }
        assert_eq!(read_back(value), case["read_back"].as_str().unwrap(), "{line}");
        compared += 1;
    }
    assert!(compared > 0);
    assert_eq!(&OffsetKey::encode("n", None).unwrap()[..], br#"["n",null]"#);
    assert_eq!(&OffsetKey::encode("n", Some(&FieldMap::new())).unwrap()[..], br#"["n",{}]"#);
}

/// As the recording shows what Java read back: its class and its text.
fn read_back(value: &connect_api::Value) -> String {
    use connect_api::Value::{Boolean, Float64, Int64, Null, String};
    match value {
        Null => "null".to_owned(),
        Boolean(flag) => format!("Boolean:{flag}"),
        Int64(number) => format!("Long:{number}"),
        Float64(number) => format!("Double:{}", connect_node::json::number::double_text(*number)),
        String(text) => {
            let escape = |c: char| match c {
                '"' | '\\' => format!("\\{c}"),
                ' '..='~' => c.to_string(),
                c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            };
            format!("String:{}", text.chars().map(escape).collect::<std::string::String>())
        }
        other => panic!("{other:?} has no place in an offset key"),
    }
}
