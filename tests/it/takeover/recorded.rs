//! Logs that a Java worker left (tests/golden), copied byte for byte into fresh topics: what connect-node serves and does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connect_node::backend::{Isolation, NewTopic, ProducerRecord, TopicPartition};
use serde_json::{Value, json};

use super::PATIENCE;
use super::topics::{Row, Topics, appended, is_worker_record};
use super::view::{Status, View, await_states, path};
use crate::support::broker;
use crate::support::java_worker::{EitherWorker, Kind};
use crate::support::process::holds_within;

/// Labels of the recordings, in the order of the topics' settings, with the partitions that Java gives them.
const LABELS: [(&str, i32); 3] = [("config", 1), ("offset", 25), ("status", 5)];

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

fn rows(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(golden(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A cluster on a copy of those rows of a recording that are wanted.
async fn replayed(file: &str, is_wanted: impl Fn(&Value) -> bool) -> (EitherWorker, Topics) {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let settings = [("key.converter", json), ("value.converter", json)];
    let cluster = EitherWorker::new(broker().await.bootstrap(), &settings);
    let topics = Topics::of(&cluster.worker);
    for (name, (_, partitions)) in topics.names().iter().zip(LABELS) {
        let compact = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
        let new = NewTopic { name: name.clone(), partitions, replication_factor: 1, config: compact };
        topics.backend.admin().create_topic(&new).await.unwrap();
    }
    let bytes = |row: &Value, field: &str| row[field].as_str().map(|text| Bytes::from(STANDARD.decode(text).unwrap()));
    let mut records = Vec::new();
    for row in rows(file).iter().filter(|row| is_wanted(row)) {
        let Some(place) = LABELS.iter().position(|(label, _)| row["topic"] == *label) else { continue };
        let name = topics.names()[place].clone();
        let mut record = ProducerRecord::keyed(name, bytes(row, "key_b64").unwrap(), bytes(row, "value_b64"));
        record.partition = row["partition"].as_i64().map(|partition| partition as i32);
        records.push(record);
    }
    topics.write(&records).await;
    fs::create_dir(cluster.worker.directory().join("data")).unwrap();
    (cluster, topics)
}

fn data(cluster: &EitherWorker, file: &str) -> PathBuf {
    cluster.worker.directory().join("data").join(file)
}

/// Records of a topic that anybody may have used before.
async fn end_of(topics: &Topics, topic: &str) -> usize {
    topics.read(topic, Isolation::ReadCommitted).await.len()
}

/// What was written to the config topic, without the records that connect-node alone has.
async fn written(topics: &Topics, before: &[Row]) -> BTreeSet<String> {
    let config = topics.config().await;
    appended(before, &config).iter().filter(|row| !is_worker_record(row)).map(Row::key).collect()
}

/// A1 to A12 on the end of a long session of a Java worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_session_goes_on() {
    const DATA_TOPIC: &str = "recq-src";
    let (mut cluster, topics) = replayed("plain.jsonl", |_| true).await;
    let expected: Value = serde_json::from_str(&fs::read_to_string(golden("expected-plain.json")).unwrap()).unwrap();
    let new = NewTopic { name: DATA_TOPIC.into(), partitions: 1, replication_factor: 1, config: Default::default() };
    topics.backend.admin().create_topic(&new).await.unwrap();
    let sent_before = end_of(&topics, DATA_TOPIC).await;
    // Both halves were at the end of what there was: the source at 28 bytes, the sink's group at the end of the topic.
    fs::write(data(&cluster, "src.txt"), "three\nlines\nof 28 bytes all\n").unwrap();
    let at_end = [(TopicPartition::new(DATA_TOPIC, 0), sent_before as i64)];
    topics.backend.committed_offsets().commit("connect-snk1", &at_end).await.unwrap();
    let (config, keys, statuses) = (topics.config().await, topics.offset_keys().await, topics.statuses().await);
    let offsets = topics.offsets().await;

    cluster.start(Kind::ConnectNode).await;
    let view = View::of(&cluster.worker).await;
    let mut info = expected["connectors?expand=info"].clone();
    // Of a class that is not there nobody knows what it is.
    info["multi-1"]["info"]["type"] = json!("unknown");
    assert_eq!(view.info, info, "A1");
    for name in ["multi-1", "snk1", "src1"] {
        assert_eq!(view.tasks[name], expected[&format!("connectors/{name}/tasks")], "A2: {name}");
    }
    for name in ["src1", "snk1"] {
        await_states(&cluster.worker, name, &["RUNNING", "RUNNING"]).await;
    }
    let failed = holds_within(PATIENCE, async || {
        Status::of(&cluster.worker, "multi-1").await.is_some_and(|status| status.connector == "FAILED")
    });
    assert!(failed.await, "A10: a class that is not there: {:?}", Status::of(&cluster.worker, "multi-1").await);
    for gone in ["init-stopped", "init-paused", "init-running"] {
        assert_eq!(cluster.worker.get(&path(gone, "status")).await.status, 404, "A11: {gone}");
    }
    assert_eq!(topics.offsets().await, offsets, "A4: nothing was read, and no offset written");
    for name in ["src1", "multi-1"] {
        let served = cluster.worker.get(&path(name, "offsets")).await;
        // Workers without this endpoint answer 404.
        if served.status == 200 {
            let sorted = |value: &Value| {
                let mut offsets = value["offsets"].as_array().cloned().unwrap_or_default();
                offsets.sort_by_key(|offset| offset["partition"].to_string());
                offsets
            };
            let expected = &expected[&format!("connectors/{name}/offsets")];
            assert_eq!(sorted(served.body.json()), sorted(expected), "A4: {name}");
        }
    }

    let mut source = fs::File::options().append(true).open(data(&cluster, "src.txt")).unwrap();
    source.write_all(b"one more\n").unwrap();
    let sink = data(&cluster, "snk.txt");
    let arrived = holds_within(PATIENCE, async || fs::read_to_string(&sink).is_ok_and(|text| !text.is_empty())).await;
    assert!(arrived, "A6, A7: the line did not arrive\n{}", cluster.worker.log_tail());
    cluster.stop(Kind::ConnectNode).await;
    let sent = topics.read(DATA_TOPIC, Isolation::ReadCommitted).await;
    let sent: Vec<_> = sent[sent_before..].iter().map(|row| row.json()["payload"].clone()).collect();
    assert_eq!(sent, [json!("one more")], "A6");
    assert_eq!(fs::read_to_string(&sink).unwrap(), "one more\n", "A7");
    assert_eq!(written(&topics, &config).await, BTreeSet::new(), "A5");
    assert_eq!(topics.offset_keys().await, keys, "A8");
    assert_eq!(topics.source_offsets("src1").await[0]["offset"], json!({"position": 37}), "A6");
    topics.check_partitions().await;
    let restarting = |row: &&Row| !statuses.contains(row) && row.json()["state"] == "RESTARTING";
    assert_eq!(topics.statuses().await.iter().find(restarting), None, "A12");
}

/// A13: what a worker makes of odd and broken records that others have written; see the table of differences for the one that counts here.
async fn read_foreign(file: &str, prepare: impl Fn(&EitherWorker), expected: Foreign<'_>) -> (EitherWorker, Topics) {
    let (mut cluster, topics) = replayed(file, |row| row["step"] == "input").await;
    prepare(&cluster);
    let before = topics.config().await;
    cluster.start(Kind::ConnectNode).await;
    for (name, states) in expected.states {
        await_states(&cluster.worker, name, states).await;
    }
    let view = View::of(&cluster.worker).await;
    let names: BTreeSet<_> = view.names().into_iter().collect();
    let wanted: BTreeSet<_> =
        expected.states.iter().map(|(name, _)| *name).chain(expected.broken.iter().copied()).collect();
    assert_eq!(names, wanted, "A13: what is listed");
    let java: BTreeSet<String> = rows(file)
        .iter()
        .filter(|row| row["step"] == "written-by-java" && row["topic"] == "config")
        .map(|row| row["key"].as_str().unwrap().to_owned())
        .filter(|key| key != "session-key")
        .collect();
    // Both write a session key where there is none, each at a time of its own.
    let written = async || {
        let mut keys = written(&topics, &before).await;
        keys.remove("session-key");
        keys
    };
    let done = holds_within(PATIENCE, async || written().await == java).await;
    assert!(done, "A13: written were {:?}, expected {java:?}", written().await);
    let tombstoned = async || {
        let last: BTreeMap<String, Row> = topics.statuses().await.into_iter().map(|row| (row.key(), row)).collect();
        expected.tombstoned.iter().all(|key| last.get(*key).is_some_and(|row| row.value.is_none()))
    };
    assert!(holds_within(PATIENCE, tombstoned).await, "A10: statuses of what is not there are tombstoned");
    (cluster, topics)
}

struct Foreign<'a> {
    states: &'a [(&'a str, &'a [&'a str])],
    /// Listed, and cannot be started.
    broken: &'a [&'a str],
    tombstoned: &'a [&'a str],
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_records_cost_nothing_but_themselves() {
    let prepare = |cluster: &EitherWorker| fs::write(data(cluster, "isrc.txt"), "one\ntwo\nthree\n").unwrap();
    let expected = Foreign {
        states: &[
            ("src1", &["RUNNING", "RUNNING"]),
            ("paused1", &["PAUSED"]),
            ("stopped1", &["STOPPED"]),
            ("incons", &["RUNNING", "RUNNING"]),
            ("uncommitted", &["RUNNING", "RUNNING"]),
        ],
        broken: &[""],
        tombstoned: &["status-connector-gone", "status-task-gone-0", "status-task-src1-7"],
    };
    let sent_before = {
        let cluster = EitherWorker::new(broker().await.bootstrap(), &[]);
        end_of(&Topics::of(&cluster.worker), "reci-src").await
    };
    let (mut cluster, topics) = read_foreign("foreign-input-mixed.jsonl", prepare, expected).await;
    let position = json!([{"partition": {"filename": "data/isrc.txt"}, "offset": {"position": 14}}]);
    let went_on = holds_within(PATIENCE, async || json!(topics.source_offsets("src1").await) == position).await;
    assert!(went_on, "A6: {:?}", topics.source_offsets("src1").await);
    cluster.stop(Kind::ConnectNode).await;
    let sent = topics.read("reci-src", Isolation::ReadCommitted).await;
    let sent: Vec<_> = sent[sent_before..].iter().map(|row| row.json()["payload"].clone()).collect();
    assert_eq!(sent, [json!("two"), json!("three")], "A6: what stands behind position 4");
    assert!(!cluster.log().contains("TRACE"), "A12: an old level of a logger acted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacted_orders_are_read() {
    let expected = Foreign {
        states: &[
            // Java has no task here until it is resumed: its reader skips a commit in front of its connector. For which configuration
            // that commit was made is not known, so the tasks of reord-run, which is started, are written anew here as there.
            ("reord-paused", &["PAUSED", "PAUSED"]),
            ("reord-run", &["RUNNING", "RUNNING"]),
            ("order-paused", &["PAUSED", "PAUSED"]),
            ("shrunk", &["RUNNING", "RUNNING"]),
            ("noclass", &["FAILED"]),
            ("v2unknown", &["RUNNING", "RUNNING"]),
            ("v2type", &["PAUSED"]),
        ],
        broken: &[],
        tombstoned: &[],
    };
    let (mut cluster, _) = read_foreign("foreign-input-reorder.jsonl", |_| {}, expected).await;
    cluster.stop(Kind::ConnectNode).await;
}
