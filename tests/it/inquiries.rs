//! What REST tells of settings, offsets and used topics, and what becomes of settings that connect-node does not honour yet.

use bytes::Bytes;
use connect_node::backend::ProducerRecord;
use serde_json::{Value, json};

use crate::support::faulty::{self, SINK, SOURCE};
use crate::support::node::{Setup, TestNode, settings, until};

const FILE_SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";

/// A setting that would change what is delivered and has no effect yet.
const NOT_BUILT: (&str, &str) = ("offsets.storage.topic", "elsewhere");

async fn validate(node: &TestNode, config: &[(&str, &str)]) -> (u16, Value) {
    let class = config.iter().find(|(name, _)| *name == "connector.class").expect("a class").1;
    let path = format!("/connector-plugins/{class}/config/validate");
    let reply = node.call("PUT", &path, Some(settings(config).to_string())).await;
    (reply.status, reply.body.json().clone())
}

async fn topics(node: &TestNode, name: &str) -> Value {
    node.get(&format!("/connectors/{name}/topics")).await.body.json()[name]["topics"].clone()
}

async fn until_topics(node: &TestNode, name: &str, wanted: &[&str]) {
    until("the used topics are known", async || topics(node, name).await == json!(wanted)).await;
}

#[tokio::test]
async fn a_plug_in_that_panics_in_validation_is_an_error_of_the_request() {
    let setup = Setup::memory();
    let node = setup.start().await;
    let faulty = [
        ("name", "validated"),
        ("connector.class", SOURCE),
        ("fault.phase", "connector.validate"),
        ("fault.kind", "panic"),
    ];
    let (status, body) = validate(&node, &faulty).await;
    let message = body["message"].as_str().unwrap();
    assert_eq!(status, 500, "{message}");
    assert!(message.contains("code of the plug-in failed") && !message.contains("stack backtrace"), "{message}");
    assert_eq!(node.put("validated", &faulty).await.status, 500);
    let (status, body) = validate(&node, &faulty[..2]).await;
    assert_eq!((status, body["error_count"].clone()), (200, json!(0)), "and the worker goes on");
}

#[tokio::test]
async fn a_setting_that_is_not_honoured_yet_is_refused_when_written_and_no_error_of_validation() {
    let setup = Setup::memory();
    let node = setup.start().await;
    let config =
        [("name", "unbuilt"), ("connector.class", FILE_SOURCE), ("topic", "t"), ("file", "/nowhere"), NOT_BUILT];
    let (status, body) = validate(&node, &config).await;
    assert_eq!((status, body["error_count"].clone()), (200, json!(0)));
    let refused = node.put("unbuilt", &config).await;
    let message = refused.body.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(refused.status, 400);
    assert!(message.contains(NOT_BUILT.0) && message.contains("is not supported by this version"), "{message}");
    assert_eq!(node.get("/connectors/unbuilt").await.status, 404, "nothing was written");
    // Only the log would tell.
    let logs = [&config[..4], &[("errors.log.enable", "true")]].concat();
    assert_eq!(node.put("unbuilt", &logs).await.status, 201);
    let null = json!({"connector.class": FILE_SOURCE, "topic": null}).to_string();
    assert_eq!(node.call("PUT", "/connectors/nulled/config", Some(null)).await.status, 400);
}

/// A Java worker left it; connect-node must not run it as if the setting were not there.
#[tokio::test]
async fn a_connector_that_was_taken_over_with_such_a_setting_fails_and_its_offsets_stay() {
    let setup = Setup::memory();
    setup.start().await.stop().await;
    let record = |topic: &str, key: &str, value: Value| {
        let key = Bytes::from(key.to_owned());
        ProducerRecord::keyed(setup.get(topic), key, Some(Bytes::from(value.to_string())))
    };
    let config = json!({"name": "left", "connector.class": FILE_SOURCE, "topic": "t", "file": "/f", "tasks.max": "1",
                        NOT_BUILT.0: NOT_BUILT.1});
    let task = json!({"task.class": "org.apache.kafka.connect.file.FileStreamSourceTask", "topic": "t", "file": "/f"});
    setup
        .write(&[
            record("config.storage.topic", "connector-left", json!({"properties": config})),
            record("config.storage.topic", "task-left-0", json!({"properties": task})),
            record("config.storage.topic", "commit-left", json!({"tasks": 1})),
            record("offset.storage.topic", r#"["left",{"filename":"/f"}]"#, json!({"position": 7})),
        ])
        .await;
    let node = setup.start().await;
    for task in [None, Some(0)] {
        let failed = node.wait_for_state("left", task, "FAILED").await;
        let trace = failed["trace"].as_str().unwrap();
        assert!(trace.contains(NOT_BUILT.0) && trace.contains("is not supported by this version"), "{trace}");
    }
    let offsets = json!({"offsets": [{"partition": {"filename": "/f"}, "offset": {"position": 7}}]});
    assert_eq!(*node.get("/connectors/left/offsets").await.body.json(), offsets);
    node.stop().await;
    assert_eq!(setup.values(setup.get("offset.storage.topic")).await.len(), 1, "nothing was written");
}

#[tokio::test]
async fn used_topics_are_recorded_as_java_does_and_go_with_their_connector() {
    let setup = Setup::memory();
    setup.topic("read", 1).await;
    let node = setup.start().await;
    let source = [("connector.class", SOURCE), ("topic", "written"), ("source.rate", "50"), ("tasks.max", "1")];
    node.create("uses", &source).await;
    until_topics(&node, "uses", &["written"]).await;
    node.create("reads", &[("connector.class", SINK), ("topics", "read,written"), ("tasks.max", "1")]).await;
    until_topics(&node, "reads", &["written"]).await;
    setup.write(&[ProducerRecord::keyed("read", Bytes::from_static(b"1"), Some(Bytes::from_static(b"1")))]).await;
    until_topics(&node, "reads", &["read", "written"]).await;

    let of_uses = async || {
        let records = setup.records(setup.get("status.storage.topic")).await;
        let key = &b"status-topic-written:connector-uses"[..];
        records
            .into_iter()
            .filter(|(found, _)| found.as_deref() == Some(key))
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let [Some(value)] = &of_uses().await[..] else { panic!("one record for each topic") };
    let text = String::from_utf8_lossy(value);
    let (start, rest) = text.split_at(text.find("\"discoverTimestamp\":").unwrap());
    assert_eq!(start, r#"{"topic":{"name":"written","connector":"uses","task":0,"#);
    assert!(rest.ends_with("}}") && rest.contains(':'), "{text}");

    // Forgotten, and found again by the next batch.
    let reset = node.call("PUT", "/connectors/uses/topics/reset", None).await;
    assert_eq!((reset.status, reset.body.kind()), (202, "empty"));
    until("the topic is recorded again", async || of_uses().await.len() >= 3).await;
    assert!(of_uses().await[1].is_none());
    until_topics(&node, "uses", &["written"]).await;

    node.stop().await;
    let node = setup.start().await;
    assert_eq!(topics(&node, "uses").await, json!(["written"]), "read back");
    node.delete("uses").await;
    until_topics(&node, "uses", &[]).await;
    assert!(of_uses().await.last().unwrap().is_none());
    assert_eq!(topics(&node, "none").await, json!([]));
}

#[tokio::test]
async fn topics_are_neither_shown_nor_forgotten_where_that_is_switched_off() {
    let node = Setup::memory().with("topic.tracking.allow.reset", false).start().await;
    assert_eq!(node.get("/connectors/a/topics").await.status, 200);
    assert_eq!(node.call("PUT", "/connectors/a/topics/reset", None).await.status, 403);
    let setup = Setup::memory().with("topic.tracking.enable", false);
    let node = setup.start().await;
    assert_eq!(node.get("/connectors/a/topics").await.status, 403);
    assert_eq!(node.call("PUT", "/connectors/a/topics/reset", None).await.status, 403);
    let source = [("connector.class", SOURCE), ("topic", "t"), ("source.total", "10"), ("tasks.max", "1")];
    node.create("untracked", &source).await;
    until("it has written", async || setup.values("t").await.len() >= 10).await;
    node.stop().await;
    let records = setup.records(setup.get("status.storage.topic")).await;
    assert!(!records.iter().any(|(key, _)| key.as_ref().is_some_and(|key| key.starts_with(b"status-topic-"))));
}

#[tokio::test]
async fn offsets_of_sources_and_sinks_are_shown() {
    let setup = Setup::memory();
    let node = setup.start().await;
    let offsets =
        async |name: &str| node.get(&format!("/connectors/{name}/offsets")).await.body.json()["offsets"].clone();
    let source = [("connector.class", SOURCE), ("topic", "shown"), ("source.total", "30"), ("tasks.max", "2")];
    node.create("from", &source).await;
    let entry = |task: u32| json!({"partition": {"task": task}, "offset": {"seq": 30}});
    until("both tasks are committed", async || offsets("from").await == json!([entry(0), entry(1)])).await;
    node.create("to", &[("connector.class", SINK), ("topics", "shown"), ("tasks.max", "1")]).await;
    until("the sink has all", async || faulty::sunk("to").len() == 60).await;
    let committed =
        json!([{"partition": {"kafka_topic": "shown", "kafka_partition": 0}, "offset": {"kafka_offset": 60}}]);
    until("the sink is committed", async || offsets("to").await == committed).await;
    assert_eq!(node.get("/connectors/none/offsets").await.status, 404);
}
