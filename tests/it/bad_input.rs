//! Bad input from everywhere: topics that somebody else wrote to, files that are not what they should be, requests that make no sense.
//! Each has a clear error, and the worker goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use connect_node::backend::ProducerRecord;
use serde_json::json;

use crate::support::faulty::{self, SINK, SOURCE};
use crate::support::node::{Setup, TestNode, lines, on_all, pass, until};
use crate::support::unique;

const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";

/// Keys that no worker writes, or that are cut off; `NAME` stands for a connector that is there.
const KEYS: &str = r#"
x
unknown-key
connector-
task-
commit-
target-state-
session-key
restart-connector-
logger-cluster-
tasks-fencing-
member-
[
[]
[1,2]
["x",null]
["x",{}]
["x",[]]
["x",{"a":1}
status-connector-
status-task-
status-task-x
status-task-x-y
status-task-x--1
status-task-x-99999999999
status-topic-
status-topic-x
status-topic-:connector-
status-unknown-x
connector-other-NAME
task-NAME
task-NAME-x
task-NAME--1
task-NAME-4294967296
commit-NAME
commit-none-NAME
target-state-none-NAME
restart-connector-none-NAME
member-NAME
status-connector-none-NAME
status-task-none-NAME-0
["NAME",{}]
tasks-fencing-NAME
"#;

/// Values that fit to few of the keys or to none.
const VALUES: &str = r#"
null
1
"text"
[]
{}
{
{"tasks":
{"tasks":"one"}
{"tasks":-1}
{"tasks":1e99}
{"tasks":2147483648}
{"properties":null}
{"properties":[]}
{"properties":{"connector.class":1}}
{"properties":{"connector.class":{"a":[]}}}
{"state":"NONE"}
{"state":1}
{"state":"PAUSED","state.v2":"NONE"}
{"state.v2":7}
{"state":"RUNNING"}
{"state":"RUNNING","trace":1,"worker_id":[],"generation":"x"}
{"include-tasks":"yes","only-failed":3}
{"key":1,"algorithm":2,"creation-timestamp":[]}
{"topic":{"name":1}}
{"position":-1}
{"position":"x"}
"#;

/// Each key with each value, and some that are no text, huge or deep.
fn broken(name: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let entries = |table: &'static str| table.lines().filter(|line| !line.is_empty());
    let mut records: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    for key in entries(KEYS).chain([""]) {
        let key = key.replace("NAME", name).into_bytes();
        records.extend(entries(VALUES).map(|value| (key.clone(), Some(value.into()))));
        records.extend([(key.clone(), None), (key.clone(), Some(vec![])), (key, Some(vec![0, 1]))]);
    }
    let huge = format!("{{\"properties\":{{\"x\":\"{}\"}}}}", "y".repeat(900_000));
    let deep = format!("{{\"properties\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for key in [format!("connector-huge-{name}"), format!("task-huge-{name}-0"), format!("status-task-huge-{name}-0")] {
        records.push((key.clone().into_bytes(), Some(huge.clone().into_bytes())));
        records.push((key.into_bytes(), Some(deep.clone().into_bytes())));
    }
    // No UTF-8 at all.
    records.push((vec![0xff, 0xfe, 0], Some(vec![0xff, 0x80, 0])));
    records.push((format!("connector-{name}\u{0}").into_bytes(), Some(vec![0xc3, 0x28])));
    records.push((b"[\"\xff\",{}]".to_vec(), Some(b"{}".to_vec())));
    records
}

async fn write_broken(setup: &Setup, name: &str) {
    for topic in ["config", "status", "offset"] {
        let topic = setup.get(&format!("{topic}.storage.topic"));
        let record = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
            ProducerRecord::keyed(topic.to_owned(), key, value.map(Bytes::from))
        };
        setup.write(&broken(name).into_iter().map(record).collect::<Vec<_>>()).await;
    }
}

on_all!(broken_records_in_internal_topics);

/// Records that nobody understands, while the worker runs and before the next one starts.
async fn broken_records_in_internal_topics(setup: Setup) {
    let (name, topic) = (unique("there"), unique("topic"));
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("topic", &*topic), ("source.rate", "200"), ("tasks.max", "2")];
    node.create(&name, &config).await;
    node.wait_until_running(&name, 2).await;
    write_broken(&setup, &name).await;
    let later = unique("later");
    node.create(&later, &[("connector.class", SOURCE), ("topic", &later), ("source.rate", "200")]).await;
    node.wait_until_running(&later, 1).await;
    node.wait_until_running(&name, 2).await;
    assert!(node.is_running());
    assert_eq!(node.get("/health").await.status, 200);
    assert_eq!(faulty::calls(&name, "start"), 2, "what nobody understands restarts nothing");
    node.stop().await;
    write_broken(&setup, &name).await;
    let node = setup.start().await;
    node.wait_until_running(&name, 2).await;
    node.wait_until_running(&later, 1).await;
    let before = setup.values(&topic).await.len();
    node.until("records arrive", async || setup.values(&topic).await.len() > before + 20).await;
    assert_eq!(node.get("/connectors").await.status, 200);
    node.steer(&name, "pause").await;
    node.wait_for_state(&name, Some(0), "PAUSED").await;
    node.delete(&name).await;
    node.stop().await;
    let mut next = [0; 2];
    for value in setup.values(&topic).await {
        let value: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
        let task = value["task"].as_u64().unwrap() as usize;
        assert_eq!(value["seq"], next[task], "task {task}");
        next[task] += 1;
    }
}

/// A commit that names more tasks than the log holds: nobody can run such a set, so the connector says its tasks anew.
#[tokio::test]
async fn a_set_with_missing_tasks_is_written_anew() {
    let setup = Setup::memory();
    let name = unique("heals");
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("topic", &*name), ("source.rate", "200"), ("tasks.max", "2")];
    node.create(&name, &config).await;
    node.wait_until_running(&name, 2).await;
    for tasks in [3, 2_147_483_647] {
        let starts = faulty::calls(&name, "start");
        let value = format!("{{\"tasks\":{tasks}}}");
        let topic = setup.get("config.storage.topic").to_owned();
        setup.write(&[ProducerRecord::keyed(topic, format!("commit-{name}"), Some(value.into()))]).await;
        node.until("the tasks are started anew", async || faulty::calls(&name, "start") == starts + 2).await;
        node.wait_until_running(&name, 2).await;
    }
    assert_eq!(faulty::calls(&name, "connector.start"), 1);
    node.stop().await;
}

/// Records of users that the converter does not understand.
#[tokio::test]
async fn a_sink_fails_at_what_its_converter_refuses() {
    let setup = Setup::memory();
    let (name, topic) = (unique("refuses"), unique("topic"));
    setup.write(&[ProducerRecord::keyed(&*topic, "k", Some("{\"half\":".into()))]).await;
    let node = setup.start().await;
    node.create(&name, &[("connector.class", SINK), ("topics", &topic)]).await;
    let trace = node.wait_for_state(&name, Some(0), "FAILED").await["trace"].to_string();
    assert!(trace.contains("failed in convert") && trace.contains(&topic) && trace.contains("offset 0"), "{trace}");
    // With a converter that takes everything, the record is read again.
    let config =
        [("connector.class", SINK), ("topics", &*topic), ("value.converter", STRING), ("key.converter", STRING)];
    assert_eq!(node.put(&name, &config).await.status, 200);
    until("the record arrives", async || faulty::sunk(&name).len() == 1).await;
    node.wait_for_state(&name, Some(0), "RUNNING").await;
}

/// A file source and the topic that it writes to.
async fn file_source(node: &TestNode, file: &Path) -> String {
    let name = unique("file-source");
    let config = [
        ("connector.class", "FileStreamSource"),
        ("file", file.to_str().unwrap()),
        ("topic", &*name),
        ("value.converter", STRING),
    ];
    node.create(&name, &config).await;
    name
}

async fn assert_fails(node: &TestNode, name: &str, words: &[&str]) {
    let trace = node.wait_for_state(name, Some(0), "FAILED").await["trace"].to_string();
    for word in words {
        assert!(trace.contains(word), "{word:?} is not in {trace}");
    }
    assert_eq!(node.get("/health").await.status, 200);
}

#[tokio::test]
async fn input_files_may_be_anything() {
    let setup = Setup::memory();
    let node = setup.start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);

    assert_fails(
        &node,
        &file_source(&node, directory.path()).await,
        &[directory.path().to_str().unwrap(), "it is a directory"],
    )
    .await;

    // Root may read everything; then there is no such thing as an unreadable file.
    let unreadable = path("unreadable");
    fs::write(&unreadable, "x\n").unwrap();
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&unreadable).is_err() {
        assert_fails(&node, &file_source(&node, &unreadable).await, &["unreadable", "ermission"]).await;
    }

    let below_a_file = unreadable.join("x");
    assert_fails(&node, &file_source(&node, &below_a_file).await, &["unreadable/x"]).await;

    let binary = path("binary");
    fs::write(&binary, [b"a\0\xff\xfe\n".as_slice(), &[0x80; 5], b"\nend\n"].concat()).unwrap();
    let name = file_source(&node, &binary).await;
    node.until("three lines arrive", async || setup.values(&name).await.len() == 3).await;
    assert_eq!(setup.values(&name).await[2].as_deref(), Some(&b"end"[..]));
    node.wait_for_state(&name, Some(0), "RUNNING").await;

    let long = path("long");
    fs::write(&long, [b"first\n".as_slice(), &vec![b'x'; 100 << 20], b"\nlast\n"].concat()).unwrap();
    assert_fails(&node, &file_source(&node, &long).await, &["long", "line"]).await;
    fs::remove_file(&long).unwrap();

    // A line that fits into memory and not into a record of Kafka.
    let large = path("large");
    fs::write(&large, [b"first\n".as_slice(), &vec![b'x'; 2 << 20], b"\nlast\n"].concat()).unwrap();
    let name = file_source(&node, &large).await;
    assert_fails(&node, &name, &["failed in send"]).await;
    assert_eq!(setup.values(&name).await.len(), 1, "what came before has arrived");
}

#[tokio::test]
async fn input_files_may_come_late_vanish_and_shrink() {
    let setup = Setup::memory();
    let node = setup.start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("late");
    let name = file_source(&node, &file).await;
    node.wait_for_state(&name, Some(0), "RUNNING").await;
    fs::write(&file, "1\n2\n").unwrap();
    node.until("the lines arrive", async || setup.values(&name).await.len() == 2).await;
    fs::remove_file(&file).unwrap();
    // A new file of the same name is read from its start.
    fs::write(&file, "3\n4\n5\n").unwrap();
    node.until("the new file is read", async || setup.values(&name).await.len() == 5).await;
    node.wait_for_state(&name, Some(0), "RUNNING").await;
    fs::write(&file, "").unwrap();
    assert_fails(&node, &name, &["late", "was cut or replaced"]).await;
    // As it is now, a restart does not help; as it was, it goes on.
    fs::write(&file, "3\n4\n5\n6\n").unwrap();
    node.restart_task(&name, 0).await;
    node.until("it goes on", async || setup.values(&name).await.len() == 6).await;
    node.stop().await;
    let values = setup.values(&name).await;
    let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value.as_ref().unwrap())).collect();
    assert_eq!(values, ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn output_files_may_not_be_writable() {
    let setup = Setup::memory();
    let topic = unique("topic");
    setup.write(&[ProducerRecord::keyed(&*topic, "k", Some("line".into()))]).await;
    let node = setup.start().await;
    let directory = tempfile::tempdir().unwrap();
    let sink = async |file: &Path| {
        let name = unique("file-sink");
        let config = [
            ("connector.class", "FileStreamSink"),
            ("file", file.to_str().unwrap()),
            ("topics", &*topic),
            ("value.converter", STRING),
            ("key.converter", STRING),
        ];
        node.create(&name, &config).await;
        name
    };
    let nowhere = directory.path().join("none/out");
    assert_fails(&node, &sink(&nowhere).await, &["failed in start", nowhere.to_str().unwrap()]).await;
    assert_fails(&node, &sink(directory.path()).await, &["failed in start", directory.path().to_str().unwrap()]).await;
    let below_proc = Path::new("/proc/none");
    assert_fails(&node, &sink(below_proc).await, &["/proc/none"]).await;
    // A full disk may get room again: the task waits for it, and nothing is committed.
    let full = sink(Path::new("/dev/full")).await;
    node.wait_for_state(&full, Some(0), "RUNNING").await;
    pass(Duration::from_millis(500)).await;
    assert_eq!(node.state(&full, Some(0)).await["state"], "RUNNING");
    let group = format!("connect-{full}");
    assert_eq!(setup.backend().committed_offsets().all(&group).await.unwrap(), []);
    let out = directory.path().join("out");
    let config = [
        ("connector.class", "FileStreamSink"),
        ("file", out.to_str().unwrap()),
        ("topics", &*topic),
        ("value.converter", STRING),
        ("key.converter", STRING),
    ];
    assert_eq!(node.put(&full, &config).await.status, 200);
    node.until("the line is there", async || lines(&out) == ["line"]).await;
}

/// A configuration, and words of the message.
type RefusedConfig<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test]
async fn wrong_configurations_are_refused_with_the_setting() {
    let node = Setup::memory().start().await;
    let source = ("connector.class", "FileStreamSource");
    let sink = ("connector.class", "FileStreamSink");
    let cases: &[RefusedConfig] = &[
        (&[], &["connector.class"]),
        (&[("connector.class", "")], &["connector.class"]),
        (&[("connector.class", "com.example.None")], &["com.example.None", "installed"]),
        (&[("connector.class", STRING)], &["connector.class", STRING]),
        (&[source], &["topic"]),
        (&[source, ("topic", "t"), ("tasks.max", "abc")], &["tasks.max", "abc"]),
        (&[source, ("topic", "t"), ("tasks.max", "0")], &["tasks.max"]),
        (&[source, ("topic", "t"), ("tasks.max", "99999999999")], &["tasks.max"]),
        (&[source, ("topic", "t"), ("batch.size", "many")], &["batch.size", "many"]),
        (&[sink], &["topics"]),
        (&[sink, ("topics", "")], &["topics"]),
        (&[source, ("topic", "t"), ("value.converter", "None")], &["value.converter", "None"]),
        (&[source, ("topic", "t"), ("transforms", "a")], &["transforms.a.type"]),
        (&[source, ("topic", "t"), ("transforms", "a,a"), ("transforms.a.type", "x")], &["transforms"]),
        (&[source, ("topic", "t"), ("errors.tolerance", "some")], &["errors.tolerance", "some"]),
    ];
    for (config, words) in cases {
        let reply = node.put("refused", config).await;
        let message = reply.body.json()["message"].as_str().unwrap_or_default();
        assert_eq!(reply.status, 400, "{config:?}: {}", reply.body.json());
        for word in *words {
            assert!(message.contains(word), "{config:?}: {word:?} is not in {message}");
        }
    }
    assert_eq!(node.get("/connectors").await.body.json(), &json!([]));
}

#[tokio::test]
async fn requests_may_be_anything() {
    let node = Setup::memory().start().await;
    let huge = format!("{{\"name\":\"huge\",\"config\":{{\"x\":\"{}\"}}}}", "y".repeat(50 << 20));
    let deep = format!("{{\"name\":\"deep\",\"config\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for (method, path, body) in [
        ("POST", "/connectors", ""),
        ("POST", "/connectors", "{\"name\":\"half\",\"config\":{"),
        ("POST", "/connectors", "[]"),
        ("POST", "/connectors", "{\"name\":1,\"config\":[]}"),
        ("POST", "/connectors", &deep),
        ("PUT", "/connectors/x/config", ""),
        ("PUT", "/connectors/x/config", "{\"connector.class\":{}}"),
        ("POST", "/connectors/%00/restart", ""),
        ("POST", "/connectors/none/tasks/-1/restart", ""),
        ("POST", "/connectors/none/tasks/99999999999999999999/restart", ""),
    ] {
        let reply = node.call(method, path, Some(body.to_owned())).await;
        let code = reply.body.json()["error_code"].as_u64();
        assert!((400..=500).contains(&reply.status), "{method} {path}: {}", reply.status);
        assert_eq!(code, Some(u64::from(reply.status)), "{method} {path}: {}", reply.body.json());
    }
    // The server may close before it has read everything; what counts is that it goes on.
    let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
    if let Ok(reply) = crate::scenarios::client::call(&node.url, "POST", "/connectors", &headers, Some(huge)).await {
        assert_eq!(reply.status, 413, "{}", reply.body.json());
    }
    assert_eq!(node.get("/connectors").await.body.json(), &json!([]));
    let name = unique("fine");
    node.create(&name, &[("connector.class", SOURCE), ("source.rate", "1")]).await;
    node.wait_until_running(&name, 1).await;
}
