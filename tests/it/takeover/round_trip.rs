//! Java, connect-node, Java, connect-node: on the same topics with the same file of settings, while lines are written all the time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use connect_node::backend::{Backend, Isolation, NewTopic, ProducerRecord};
use serde_json::{Value, json};

use super::topics::{Row, Topics, appended, is_worker_record};
use super::view::{View, await_states, delete, restart, steer};
use super::{PATIENCE, phase};
use crate::support::java_worker::{EitherWorker, Kind};
use crate::support::process::holds_within;
use crate::support::{broker, unique};

const FILE_SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
const FILE_SINK: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";
/// Lines of one part of the transfer.
pub const PART: usize = 200;

/// Lines from a file through a topic into a file.
pub struct Lines {
    backend: Arc<dyn Backend>,
    pub topic: String,
    input: PathBuf,
    output: PathBuf,
    written: usize,
}

impl Lines {
    pub fn append(&mut self, count: usize) {
        let text: String = (self.written..self.written + count).map(|number| format!("line {number:06}\n")).collect();
        File::options().create(true).append(true).open(&self.input).unwrap().write_all(text.as_bytes()).unwrap();
        self.written += count;
    }

    fn received(&self) -> Vec<String> {
        fs::read_to_string(&self.output).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Waits until the sink has written everything.
    pub async fn arrive(&self, cluster: &EitherWorker) {
        let arrived = holds_within(PATIENCE, async || self.received().len() >= self.written).await;
        let (have, want) = (self.received().len(), self.written);
        assert!(arrived, "A6, A7, B4: {have} of {want} lines arrived\n{}", cluster.worker.log_tail());
    }

    /// A6, A7, B4: every line once, in the topic and in the file.
    pub async fn check(&self, topics: &Topics) {
        let expected: Vec<_> = (0..self.written).map(|number| format!("line {number:06}")).collect();
        let rows = topics.read(&self.topic, Isolation::ReadCommitted).await;
        // The JSON converter of the worker wraps nothing: its schemas are off.
        let text = |row: &Row| row.json().as_str().unwrap_or_default().to_owned();
        let mut in_topic: Vec<_> = rows.iter().map(text).collect();
        let mut in_file = self.received();
        in_topic.sort();
        in_file.sort();
        assert_eq!(in_topic, expected, "A6, B4: in the topic");
        assert_eq!(in_file, expected, "A7, B4: in the file");
    }
}

/// The cluster of one round trip.
pub struct Trip {
    pub cluster: EitherWorker,
    pub topics: Topics,
    pub lines: Lines,
}

impl Trip {
    pub async fn new(settings: &[(&str, &str)]) -> Trip {
        let bootstrap = broker().await.bootstrap();
        let json = "org.apache.kafka.connect.json.JsonConverter";
        let usual = [
            ("key.converter", json),
            ("value.converter", json),
            ("key.converter.schemas.enable", "false"),
            ("value.converter.schemas.enable", "false"),
            ("offset.storage.partitions", "25"),
        ];
        let cluster = EitherWorker::new(bootstrap, &[&usual, settings].concat());
        let topics = Topics::of(&cluster.worker);
        let topic = unique("lines");
        let new = NewTopic { name: topic.clone(), partitions: 2, replication_factor: 1, config: Default::default() };
        topics.backend.admin().create_topic(&new).await.unwrap();
        let file = |name: &str| cluster.worker.directory().join(name);
        let backend = topics.backend.clone();
        let lines = Lines { backend, topic, input: file("input"), output: file("output"), written: 0 };
        Trip { cluster, topics, lines }
    }

    pub fn source(&self, file: &str) -> Vec<(&'static str, String)> {
        let file = self.cluster.worker.directory().join(file).display().to_string();
        let (class, topic) = (FILE_SOURCE.to_owned(), self.lines.topic.clone());
        vec![("connector.class", class), ("tasks.max", "1".to_owned()), ("file", file), ("topic", topic)]
    }

    pub fn sink(&self, file: &str, topic: &str, tasks: u32) -> Vec<(&'static str, String)> {
        let file = self.cluster.worker.directory().join(file).display().to_string();
        let (class, topic) = (FILE_SINK.to_owned(), topic.to_owned());
        vec![("connector.class", class), ("tasks.max", tasks.to_string()), ("file", file), ("topics", topic)]
    }

    pub async fn put(&self, name: &str, config: &[(&'static str, String)]) {
        let config: Vec<_> = config.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.cluster.worker.put(name, &config).await;
    }

    async fn states(&self, expected: &[(&str, &[&str])]) {
        for (name, states) in expected {
            await_states(&self.cluster.worker, name, states).await;
        }
    }

    /// A4, by the offset topic itself.
    async fn source_offsets(&self, view: &View) -> BTreeMap<String, Vec<Value>> {
        let mut offsets = BTreeMap::new();
        for name in view.names() {
            offsets.insert(name.to_owned(), self.topics.source_offsets(name).await);
        }
        offsets
    }

    /// Lines come in until the end, and while nobody runs.
    pub async fn stop(&mut self, kind: Kind) {
        self.lines.append(PART);
        self.cluster.stop(kind).await;
        self.lines.append(PART);
    }
}

/// What stands in the internal topics between two workers.
struct Between {
    view: View,
    config: Vec<Row>,
    offset_keys: BTreeMap<String, usize>,
}

impl Between {
    async fn of(trip: &Trip, view: View) -> Between {
        trip.topics.check_partitions().await;
        Between { view, config: trip.topics.config().await, offset_keys: trip.topics.offset_keys().await }
    }
}

const JAVA_MADE: &[(&str, &[&str])] = &[
    ("source", &["RUNNING", "RUNNING"]),
    ("sink", &["RUNNING", "RUNNING"]),
    ("wide", &["RUNNING", "RUNNING", "RUNNING"]),
    ("paused", &["PAUSED", "PAUSED"]),
    ("stopped", &["STOPPED"]),
];
const OURS_ADDED: &[(&str, &[&str])] = &[
    ("mine", &["RUNNING", "RUNNING"]),
    ("mine-paused", &["PAUSED", "PAUSED"]),
    ("mine-stopped", &["STOPPED"]),
    ("mine-wide", &["RUNNING", "RUNNING", "RUNNING", "RUNNING"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java_and_connect_node_take_turns() {
    let mut trip = Trip::new(&[]).await;
    let first = java_begins(&mut trip).await;
    let second = connect_node_takes_over(&mut trip, first).await;
    leave_what_a_crash_leaves(&trip).await;
    let third = java_comes_back(&mut trip, second).await;
    connect_node_again(&mut trip, third).await;
    drop(trip.lines.backend);
}

/// Makes connectors of all kinds, and what must not act again.
async fn java_begins(trip: &mut Trip) -> Between {
    let _phase = phase("Java makes connectors");
    trip.cluster.start(Kind::Java).await;
    let worker = &trip.cluster.worker;
    trip.lines.append(PART);
    trip.put("source", &trip.source("input")).await;
    trip.put("sink", &trip.sink("output", &trip.lines.topic, 1)).await;
    let quiet = format!("{}-quiet", trip.lines.topic);
    trip.put("wide", &trip.sink("wide", &quiet, 3)).await;
    for name in ["paused", "stopped", "gone"] {
        trip.put(name, &trip.source(&format!("none-{name}"))).await;
        await_states(worker, name, &["RUNNING", "RUNNING"]).await;
    }
    trip.states(&JAVA_MADE[..2]).await;
    await_states(worker, "wide", &["RUNNING"; 4]).await;
    trip.put("wide", &trip.sink("wide", &quiet, 2)).await;
    steer(worker, "paused", "pause").await;
    steer(worker, "stopped", "stop").await;
    delete(worker, "gone").await;
    restart(worker, "source").await;
    let level = json!({"level": "TRACE"});
    let answer = worker.call("PUT", "/admin/loggers/connect_node?scope=cluster", Some(&level)).await.unwrap();
    assert_eq!(answer.status, 204, "{:?}", answer.body);
    trip.states(JAVA_MADE).await;
    trip.lines.arrive(&trip.cluster).await;
    let view = View::of(worker).await;
    assert_eq!(view.names(), ["paused", "sink", "source", "stopped", "wide"]);
    trip.stop(Kind::Java).await;
    Between::of(trip, view).await
}

/// A1 to A12.
async fn connect_node_takes_over(trip: &mut Trip, before: Between) -> Between {
    let _phase = phase("connect-node takes over");
    let java_offsets = trip.source_offsets(&before.view).await;
    // A10: of a connector that is not there.
    let ghost = r#"{"state":"RUNNING","trace":null,"worker_id":"elsewhere:1","generation":9}"#;
    let status_topic = trip.cluster.worker.setting("status.storage.topic");
    trip.topics.write(&[ProducerRecord::keyed(status_topic, "status-task-gone-7", Some(ghost.into()))]).await;
    let statuses_before = trip.topics.statuses().await;

    trip.cluster.start(Kind::ConnectNode).await;
    let view = View::of(&trip.cluster.worker).await;
    assert_eq!(view, before.view, "A1, A2");
    trip.states(JAVA_MADE).await;
    let gone = trip.cluster.worker.get("/connectors/gone/status").await;
    assert_eq!(gone.status, 404, "A11");
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.append(PART);
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.check(&trip.topics).await;
    check_nothing_written_by_the_start(trip, &before.config).await;
    check_old_requests_did_not_act(trip, &statuses_before).await;
    let source: &Value = &java_offsets["source"][0];
    assert!(source["offset"]["position"].as_i64().unwrap() > 0, "A4: Java left a position: {java_offsets:?}");

    connect_node_makes_its_own(trip).await;
    let view = View::of(&trip.cluster.worker).await;
    trip.stop(Kind::ConnectNode).await;
    let now = Between::of(trip, view).await;
    assert_eq!(now.offset_keys["source"], before.offset_keys["source"], "A8");
    let workers: Vec<_> = last_of_each(&now.config).into_values().filter(is_worker_record).collect();
    assert!(!workers.is_empty() && workers.iter().all(|row| row.value.is_none()), "a clean stop leaves: {workers:?}");
    now
}

/// A5.
async fn check_nothing_written_by_the_start(trip: &Trip, before: &[Row]) {
    let config = trip.topics.config().await;
    let added: Vec<_> = appended(before, &config).iter().filter(|row| !is_worker_record(row)).collect();
    assert!(added.is_empty(), "A5: {added:?}");
}

/// A10, A12.
async fn check_old_requests_did_not_act(trip: &Trip, before: &[Row]) {
    let ghost_is_gone = async || {
        let statuses = trip.topics.statuses().await;
        last_of_each(&statuses).values().any(|row| row.key() == "status-task-gone-7" && row.value.is_none())
    };
    assert!(holds_within(PATIENCE, ghost_is_gone).await, "A10: a status without a connector is tombstoned");
    let statuses = trip.topics.statuses().await;
    let new = statuses.iter().filter(|row| !before.contains(row));
    let restarting: Vec<_> = new.filter(|row| row.json()["state"] == "RESTARTING").collect();
    assert!(restarting.is_empty(), "A12: an old restart request acted: {restarting:?}");
    let log = trip.cluster.log();
    assert!(!log.contains("TRACE"), "A12: an old level of a logger acted");
}

/// What Java is to find: all kinds of connectors and changes.
async fn connect_node_makes_its_own(trip: &Trip) {
    let worker = &trip.cluster.worker;
    let quiet = format!("{}-quiet", trip.lines.topic);
    for name in ["mine", "mine-paused", "mine-stopped", "mine-gone"] {
        trip.put(name, &trip.source(&format!("none-{name}"))).await;
        await_states(worker, name, &["RUNNING", "RUNNING"]).await;
    }
    trip.put("mine-wide", &trip.sink("mine-wide", &quiet, 3)).await;
    steer(worker, "mine-paused", "pause").await;
    steer(worker, "mine-stopped", "stop").await;
    delete(worker, "mine-gone").await;
    // Nothing changes, and the record of the connector stands behind its commit.
    trip.put("source", &trip.source("input")).await;
    let mut changed = trip.sink("output", &trip.lines.topic, 1);
    changed.push(("errors.log.enable", "true".to_owned()));
    trip.put("sink", &changed).await;
    trip.put("wide", &trip.sink("wide", &quiet, 2)).await;
    trip.states(JAVA_MADE).await;
    trip.states(OURS_ADDED).await;
}

/// The last record of each key.
fn last_of_each(rows: &[Row]) -> BTreeMap<String, Row> {
    rows.iter().map(|row| (row.key(), row.clone())).collect()
}

/// A worker that was killed in the middle of a write, and of which nobody took notice.
async fn leave_what_a_crash_leaves(trip: &Trip) {
    let _phase = phase("hand back");
    let before = trip.topics.config().await;
    let clean = trip.cluster.hand_back().await;
    let said = String::from_utf8_lossy(&clean.stdout).into_owned();
    assert!(clean.status.success(), "{said}{}", String::from_utf8_lossy(&clean.stderr));
    assert!(said.contains("no record of a worker is left"), "{said}");
    assert_eq!(trip.topics.config().await, before, "after a clean stop there is nothing to do");

    let topic = trip.topics.config_topic();
    let record =
        |key: &'static str, value: Option<&'static str>| ProducerRecord::keyed(topic, key, value.map(Into::into));
    let joined = r#"{"v":1,"state":"joined","nonce":"0000000000000001","rest_url":"http://127.0.0.1:1/","gossip_address":"","settled":false,"node_version":"0"}"#;
    trip.topics.write(&[record("worker-127.0.0.1:1", Some(joined))]).await;
    let stopped = Some(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#);
    let aborted = [
        record("commit-paused", Some(r#"{"tasks":0}"#)),
        record("target-state-paused", stopped),
        record("connector-mine-paused", None),
        record("target-state-mine-paused", None),
        record("connector-source", Some(r#"{"properties":{"connector.class":"none","name":"source"}}"#)),
        record("connector-aborted", Some(r#"{"properties":{"connector.class":"none","name":"aborted"}}"#)),
    ];
    let group = trip.cluster.worker.setting("group.id");
    trip.topics.write_aborted(&format!("connect-cluster-{group}"), &aborted).await;
    let handed = trip.cluster.hand_back().await;
    let said = String::from_utf8_lossy(&handed.stdout).into_owned();
    println!("{said}");
    assert!(handed.status.success(), "{said}{}", String::from_utf8_lossy(&handed.stderr));
    for part in
        ["worker 127.0.0.1:1 had not left", "connector-mine-paused", "commit-paused", "Java workers can be started"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// B1 to B5.
async fn java_comes_back(trip: &mut Trip, before: Between) -> Between {
    let _phase = phase("Java comes back");
    let config = trip.topics.config().await;
    let raw = trip.topics.config_raw().await;
    let worker_records = raw.iter().filter(|row| is_worker_record(row)).count();
    trip.cluster.start(Kind::Java).await;
    assert_eq!(View::of(&trip.cluster.worker).await, before.view, "B2: A1, A2");
    trip.states(JAVA_MADE).await;
    trip.states(OURS_ADDED).await;
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.append(PART);
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.check(&trip.topics).await;
    for name in before.view.names() {
        if name.contains("sink") || name.contains("wide") {
            continue;
        }
        let (mut served, mut stored) = (Vec::new(), Vec::new());
        // The source commits meanwhile; once it is done, both are the same.
        let same = holds_within(PATIENCE, async || {
            let answer = trip.cluster.worker.get(&super::view::path(name, "offsets")).await;
            served = answer.body.json()["offsets"].as_array().cloned().unwrap_or_default();
            stored = trip.topics.source_offsets(name).await;
            served.sort_by_key(Value::to_string);
            stored.sort_by_key(Value::to_string);
            served == stored
        });
        assert!(same.await, "B2: A4 of {name}");
    }
    let complaints = trip.cluster.storage_complaints();
    let unexpected: Vec<_> = complaints.iter().filter(|line| !line.contains("worker-")).collect();
    assert!(unexpected.is_empty(), "B1: {unexpected:#?}");
    assert_eq!(complaints.len(), worker_records, "B1: one line for each worker record\n{complaints:#?}");
    println!("B1: {worker_records} lines about worker-* records, no other");
    let now = trip.topics.config().await;
    let added: Vec<_> = appended(&config, &now).iter().filter(|row| row.key() != "session-key").collect();
    assert!(added.is_empty(), "B3: {added:?}");
    both_refuse_to_share(trip).await;
    java_steers_ours(trip).await;
    let view = View::of(&trip.cluster.worker).await;
    trip.stop(Kind::Java).await;
    let now = Between::of(trip, view).await;
    assert_eq!(now.offset_keys, before.offset_keys, "B4: A8");
    now
}

/// While Java workers live there is nothing to give back, and nothing to join.
async fn both_refuse_to_share(trip: &Trip) {
    let group = trip.cluster.worker.setting("group.id");
    let refused = trip.cluster.hand_back().await;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains(&format!("group {group} has 1 Java worker")), "{error}");
    let before = trip.topics.config_raw().await;
    let mut beside = super::beside(&trip.cluster.worker);
    beside.start();
    let status = beside.exit(PATIENCE).await;
    let reason = "Java workers of the same group.id are alive";
    assert!(!status.success() && beside.log().contains(reason), "{status}\n{}", beside.log_tail());
    assert_eq!(trip.topics.config_raw().await, before, "who is refused writes nothing");
}

/// B5.
async fn java_steers_ours(trip: &Trip) {
    let worker = &trip.cluster.worker;
    steer(worker, "mine", "pause").await;
    await_states(worker, "mine", &["PAUSED", "PAUSED"]).await;
    steer(worker, "mine", "resume").await;
    await_states(worker, "mine", &["RUNNING", "RUNNING"]).await;
    restart(worker, "mine").await;
    steer(worker, "mine", "stop").await;
    await_states(worker, "mine", &["STOPPED"]).await;
    steer(worker, "mine", "resume").await;
    await_states(worker, "mine", &["RUNNING", "RUNNING"]).await;
    delete(worker, "mine-stopped").await;
    delete(worker, "mine-wide").await;
    trip.put("wide", &trip.sink("wide", &format!("{}-quiet", trip.lines.topic), 1)).await;
    await_states(worker, "wide", &["RUNNING", "RUNNING"]).await;
}

/// B6.
async fn connect_node_again(trip: &mut Trip, before: Between) {
    let _phase = phase("connect-node again");
    trip.cluster.start(Kind::ConnectNode).await;
    assert_eq!(View::of(&trip.cluster.worker).await, before.view, "B6: A1, A2");
    for (name, states) in [
        ("source", &["RUNNING", "RUNNING"]),
        ("sink", &["RUNNING", "RUNNING"]),
        ("wide", &["RUNNING", "RUNNING"]),
        ("paused", &["PAUSED", "PAUSED"]),
        ("mine", &["RUNNING", "RUNNING"]),
        ("mine-paused", &["PAUSED", "PAUSED"]),
    ] {
        await_states(&trip.cluster.worker, name, states).await;
    }
    await_states(&trip.cluster.worker, "stopped", &["STOPPED"]).await;
    assert_eq!(before.view.names(), ["mine", "mine-paused", "paused", "sink", "source", "stopped", "wide"], "B6: A11");
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.append(PART);
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.check(&trip.topics).await;
    check_nothing_written_by_the_start(trip, &before.config).await;
    trip.cluster.stop(Kind::ConnectNode).await;
    trip.lines.check(&trip.topics).await;
    let now = Between::of(trip, before.view.clone()).await;
    assert_eq!(now.offset_keys, before.offset_keys, "B6: A8");
}
