//! Connectors beside the file source and sink, in running workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;

use crate::kills::oracle::{Tail, backend};
use crate::support::node::{Setup, TestNode, on_all};
use crate::support::process::{Worker, random_moment};
use crate::support::{broker, unique};

const DIRECTORY: &str = "DirectorySource";

/// As they stand in a topic.
type KeyAndValue = (Option<Bytes>, Option<Bytes>);

/// Files that are written to, and what the topic must have of them.
struct Files {
    directory: PathBuf,
    /// How many lines each file got so far.
    lines: BTreeMap<String, usize>,
}

impl Files {
    fn new(directory: &Path) -> Files {
        fs::create_dir_all(directory).unwrap();
        Files { directory: directory.into(), lines: BTreeMap::new() }
    }

    /// Appends so many lines to a file.
    fn append(&mut self, name: &str, count: usize) {
        let written = self.lines.entry(name.to_owned()).or_default();
        let text: String = (*written..*written + count).map(|number| format!("{name} {number}\n")).collect();
        *written += count;
        let file = File::options().append(true).create(true).open(self.directory.join(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.directory.join(name)).unwrap();
    }

    /// All lines of all files, also of those that were removed.
    fn expected(&self) -> BTreeSet<String> {
        let lines = |(name, count): (&String, &usize)| (0..*count).map(|at| format!("{name} {at}")).collect::<Vec<_>>();
        self.lines.iter().flat_map(lines).collect()
    }
}

/// A directory of a test that runs in this process.
struct Reading {
    setup: Setup,
    files: Files,
    name: String,
    topic: String,
    _directory: tempfile::TempDir,
}

impl Reading {
    fn new(setup: Setup) -> Reading {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        let setup = setup.with("value.converter", "org.apache.kafka.connect.storage.StringConverter");
        Reading { setup, files, name: unique("directory"), topic: unique("directory-lines"), _directory: directory }
    }

    async fn create(&self, node: &TestNode) {
        let path = self.files.directory.display().to_string();
        let config = [
            ("connector.class", DIRECTORY),
            ("tasks.max", "3"),
            ("directory", &path),
            ("file.pattern", "*.log"),
            ("topic", &self.topic),
            ("scan.interval.ms", "50"),
        ];
        node.create(&self.name, &config).await;
    }

    async fn lines(&self) -> Vec<String> {
        let values = self.setup.values(&self.topic).await;
        values.into_iter().map(|value| String::from_utf8(value.unwrap().to_vec()).unwrap()).collect()
    }

    /// Waits until every line is in the topic, and checks that each is there once, in the order of its file.
    async fn arrived_once(&self, node: &TestNode, what: &str) {
        let expected = self.files.expected();
        node.until(what, async || self.lines().await.len() >= expected.len()).await;
        let lines = self.lines().await;
        assert_eq!(lines.len(), expected.len(), "{what}: something came twice");
        assert_eq!(lines.iter().cloned().collect::<BTreeSet<_>>(), expected, "{what}");
        let mut next: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &lines {
            let (file, number) = line.split_once(' ').unwrap();
            let next = next.entry(file).or_default();
            assert_eq!(number.parse(), Ok(*next), "{what}: lines of {file} are out of order");
            *next += 1;
        }
    }

    /// How many tasks there are.
    async fn tasks(&self, node: &TestNode) -> usize {
        let reply = node.get(&format!("/connectors/{}/status", self.name)).await;
        reply.body.json()["tasks"].as_array().map_or(0, Vec::len)
    }
}

on_all!(files_come_and_go, made_up_records_are_the_same_after_a_restart);

async fn files_come_and_go(setup: Setup) {
    let mut reading = Reading::new(setup);
    reading.setup.topic(&reading.topic, 1).await;
    let node = reading.setup.start().await;
    reading.create(&node).await;
    node.wait_for_state(&reading.name, None, "RUNNING").await;
    assert_eq!(reading.tasks(&node).await, 0, "no file, no task");

    for name in ["a.log", "b.log", "ignored.txt"] {
        reading.files.append(name, 10);
    }
    reading.files.lines.remove("ignored.txt");
    reading.arrived_once(&node, "the first files").await;
    for number in 0..20 {
        reading.files.append(&format!("more-{number:02}.log"), 50);
        reading.files.append("a.log", 5);
    }
    reading.arrived_once(&node, "files that came while it ran").await;
    node.until("the files are divided over three tasks", async || reading.tasks(&node).await == 3).await;
    node.wait_until_running(&reading.name, 3).await;

    for name in ["a.log", "more-07.log"] {
        reading.files.remove(name);
    }
    for name in ["b.log", "more-08.log", "late.log"] {
        reading.files.append(name, 30);
    }
    reading.arrived_once(&node, "lines of the others after two vanished").await;
    node.wait_until_running(&reading.name, 3).await;

    node.stop().await;
    for name in ["b.log", "more-08.log", "while-away.log"] {
        reading.files.append(name, 7);
    }
    let node = reading.setup.start().await;
    reading.arrived_once(&node, "what was written while no worker ran").await;
    node.stop().await;
    assert_eq!(reading.lines().await.len(), reading.files.expected().len(), "the end repeats nothing");
}

/// Values of a topic as JSON.
async fn json_values(setup: &Setup, topic: &str) -> Vec<Value> {
    let parse = |value: Option<Bytes>| serde_json::from_slice(&value.unwrap()).unwrap();
    setup.values(topic).await.into_iter().map(parse).collect()
}

/// The records whose field `by` says this task.
fn of_task(records: &[KeyAndValue], task: i64) -> Vec<KeyAndValue> {
    let task_of =
        |value: &Option<Bytes>| serde_json::from_slice::<Value>(value.as_ref().unwrap()).unwrap()["by"].clone();
    records.iter().filter(|(_, value)| task_of(value) == task).cloned().collect()
}

async fn made_up_records_are_the_same_after_a_restart(setup: Setup) {
    const COUNT: i64 = 200;
    let (name, topic) = (unique("datagen"), unique("made-up"));
    setup.topic(&topic, 1).await;
    let node = setup.start().await;
    let config = [
        ("connector.class", "DatagenSource"),
        ("tasks.max", "2"),
        ("topic", &*topic),
        ("template", "orders"),
        ("fields", "order_id,user_id,item,quantity,price,express,ordered_at,by"),
        ("field.by.type", "task"),
        ("rate", "100"),
        ("count", "200"),
    ];
    let reply = node.put(&name, &[&config[..], &[("field.price.max", "0")]].concat()).await;
    assert!(reply.status == 400 && reply.body.json().to_string().contains("field.price.min: "), "{reply:?}");
    node.create(&name, &config).await;
    node.until("some records", async || setup.values(&topic).await.len() > 20).await;
    node.stop().await;

    let node = setup.start().await;
    node.until("all records", async || setup.values(&topic).await.len() >= 2 * COUNT as usize).await;
    node.steer(&name, "stop").await;
    node.wait_for_state(&name, None, "STOPPED").await;
    let records = setup.records(&topic).await;
    for task in 0..2 {
        let keys: Vec<Value> = of_task(&records, task)
            .iter()
            .map(|(key, _)| serde_json::from_slice(key.as_ref().unwrap()).unwrap())
            .collect();
        assert_eq!(keys, (1..=COUNT).map(Value::from).collect::<Vec<_>>(), "task {task}: a gap or a repetition");
    }
    let first = String::from_utf8(of_task(&records, 0)[0].1.as_ref().unwrap().to_vec()).unwrap();
    assert_eq!(
        first,
        concat!(
            r#"{"order_id":1,"user_id":"user-53","item":"pen","quantity":2,"price":44.6,"express":true,"#,
            r#""ordered_at":1767225600000,"by":0}"#
        )
    );

    // Another connector, which makes the first few again.
    let (other, topic) = (unique("datagen"), unique("made-up-again"));
    setup.topic(&topic, 1).await;
    let few: Vec<_> = config.iter().filter(|(name, _)| !["topic", "count"].contains(name)).copied().collect();
    node.create(&other, &[&few[..], &[("topic", &*topic), ("count", "5")]].concat()).await;
    node.until("the first few again", async || setup.values(&topic).await.len() >= 10).await;
    node.stop().await;
    let again = setup.records(&topic).await;
    assert_eq!(again.len(), 10, "more than the count");
    for task in 0..2 {
        assert_eq!(of_task(&again, task), of_task(&records, task)[..5], "the same seed, but other records");
    }
}

#[tokio::test]
async fn a_made_up_record_says_what_it_is_in_json_with_schemas() {
    let setup = Setup::memory();
    let node = setup.start().await;
    setup.topic("typed", 1).await;
    let config = [
        ("connector.class", "DatagenSource"),
        ("topic", "typed"),
        ("fields", "number,day,time,note"),
        ("field.number.type", "counter"),
        ("field.day.type", "date"),
        ("field.time.type", "timestamp"),
        ("field.note.type", "word"),
        ("field.note.null.percent", "100"),
        ("count", "1"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
    ];
    node.create("typed", &config).await;
    node.until("a record", async || !setup.values("typed").await.is_empty()).await;
    let expected = serde_json::json!({
        "schema": {"type": "struct", "optional": false, "fields": [
            {"type": "int64", "optional": false, "field": "number"},
            {"type": "int32", "optional": false, "name": "org.apache.kafka.connect.data.Date", "version": 1, "field": "day"},
            {"type": "int64", "optional": false, "name": "org.apache.kafka.connect.data.Timestamp", "version": 1,
                "field": "time"},
            {"type": "string", "optional": true, "field": "note"},
        ]},
        "payload": {"number": 0, "day": 20454, "time": 1_767_225_600_000_i64, "note": null},
    });
    assert_eq!(json_values(&setup, "typed").await, [expected]);
    node.stop().await;
}

/// Reads a topic of texts until a condition holds of all that it has.
async fn read_until(worker: &Worker, topic: &mut Tail, found: &mut Vec<String>, wanted: &BTreeSet<String>) {
    let deadline = std::time::Instant::now() + crate::support::process::PATIENCE;
    loop {
        topic.read(|record| found.push(String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned())).await;
        let seen: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        if wanted.iter().all(|line| seen.contains(line.as_str())) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "lines are missing\n{}", worker.log_tail());
        random_moment(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_no_line_of_a_directory() {
    const KILLS: usize = 4;
    let bootstrap = broker().await.bootstrap().to_owned();
    let (backend, topic) = (backend(&bootstrap), unique("killed-directory"));
    Setup::on(&bootstrap).topic(&topic, 1).await;
    let mut worker = Worker::new(&bootstrap, &[("offset.flush.interval.ms", "50")]);
    let mut files = Files::new(&worker.directory().join("in"));
    files.append("first.log", 100);
    worker.start();
    worker.ready().await;
    let path = files.directory.display().to_string();
    let config = [
        ("connector.class", DIRECTORY),
        ("tasks.max", "3"),
        ("directory", &*path),
        ("topic", &*topic),
        ("batch.size", "100"),
        ("scan.interval.ms", "50"),
    ];
    worker.put("killed", &config).await;
    let (mut tail, mut found) = (Tail::new(&backend, &topic, 1), Vec::new());
    for life in 0..KILLS {
        if life > 0 {
            worker.start();
            worker.ready().await;
        }
        let before = files.expected();
        for number in 0..5 {
            files.append(&format!("life-{life}-{number}.log"), 2000);
            files.append("first.log", 500);
        }
        // What an earlier life was asked for has arrived; of the rest some has.
        read_until(&worker, &mut tail, &mut found, &before).await;
        random_moment(std::time::Duration::from_millis(fastrand::u64(..400))).await;
        worker.kill().await;
    }
    worker.start();
    read_until(&worker, &mut tail, &mut found, &files.expected()).await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &found {
        let (file, number) = line.split_once(' ').unwrap();
        let (number, next) = (number.parse::<usize>().unwrap(), last.get(file).map_or(0, |last| last + 1));
        assert!(number <= next, "{file}: {number} came before {next}");
        last.insert(file, number);
    }
    let expected = files.expected().len();
    println!("directory: {expected} lines, {KILLS} kills; none lost, {} again", found.len() - expected);
}

/// The JSON lines of a connector on the standard output of a worker, as Kafka's system tests look for them.
fn printed(worker: &Worker, name: &str) -> Vec<Value> {
    let log = worker.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["name"] == name).collect()
}

/// The numbers of each task.
fn seqnos<'a>(lines: impl Iterator<Item = &'a Value>) -> BTreeMap<i64, Vec<i64>> {
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for line in lines {
        found.entry(line["task"].as_i64().unwrap()).or_default().push(line["seqno"].as_i64().unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifiable_connectors_agree_through_clean_restarts() {
    let bootstrap = broker().await.bootstrap().to_owned();
    let topic = unique("verifiable");
    Setup::on(&bootstrap).topic(&topic, 3).await;
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let converters = [("offset.flush.interval.ms", "100"), ("key.converter", json), ("value.converter", json)];
    let mut worker = Worker::new(&bootstrap, &converters);
    worker.start();
    worker.ready().await;
    let package = "org.apache.kafka.connect.tools";
    let (source, sink) = (format!("{package}.VerifiableSourceConnector"), format!("{package}.VerifiableSinkConnector"));
    let settings = [("tasks.max", "2"), ("topic", &*topic), ("throughput", "200"), ("complete.record.data", "false")];
    worker.put("numbers", &[&[("connector.class", &*source)], &settings[..]].concat()).await;
    worker.put("printer", &[("connector.class", &*sink), ("tasks.max", "2"), ("topics", &*topic)]).await;
    for _ in 0..2 {
        let before = printed(&worker, "printer").len();
        worker.eventually("numbers arrive", async || printed(&worker, "printer").len() > before + 400).await;
        assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
        worker.start();
        worker.ready().await;
    }
    // No more is made, so that the sink can reach the end.
    let reply = worker.call("PUT", "/connectors/numbers/stop", None).await.unwrap();
    assert!(matches!(reply.status, 202 | 204), "{reply:?}");
    let is = |line: &Value, flag: &str| line[flag] == true;
    // What `poll` was about to hand out when a stop came is made again by the next task; so each number counts once, and the last ones that were
    // made may be missing from what was sent.
    let once = |mut found: BTreeMap<i64, Vec<i64>>| {
        found.values_mut().for_each(|seqnos| seqnos.sort_unstable());
        found.values_mut().for_each(Vec::dedup);
        found
    };
    let of = |worker: &Worker, name: &str, wanted: &dyn Fn(&Value) -> bool| {
        once(seqnos(printed(worker, name).iter().filter(|line| wanted(line))))
    };
    let committed = |worker: &Worker| of(worker, "numbers", &|line| is(line, "committed"));
    let flushed = |worker: &Worker| of(worker, "printer", &|line| is(line, "flushed"));
    let made = |worker: &Worker| of(worker, "numbers", &|line| !is(line, "committed"));
    worker
        .eventually("all is committed and flushed", async || {
            let (made, committed) = (made(&worker), committed(&worker));
            let begins = |task: &i64| made[task].starts_with(&committed[task]);
            committed.keys().all(begins) && committed == flushed(&worker)
        })
        .await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    let flushed = flushed(&worker);
    assert_eq!(flushed.keys().copied().collect::<Vec<_>>(), [0, 1]);
    for seqnos in flushed.values() {
        assert_eq!(*seqnos, (0..seqnos.len() as i64).collect::<Vec<_>>(), "no number is missing");
    }
}
