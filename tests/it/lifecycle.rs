//! Pause, stop, resume, delete, change, restart: what goes on, what stops, and that no record is lost or doubled by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use connect_node::backend::ProducerRecord;
use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::faulty::{self, SINK, SOURCE};
use crate::support::node::{Setup, TestNode, on_all, pass, until};
use crate::support::unique;

on_all!(
    pause_outlives_the_worker,
    stop_leaves_no_tasks_and_resume_brings_them_back,
    delete_removes_everything_but_offsets,
    only_a_changed_connector_restarts,
    an_identical_configuration_restarts_the_connector_alone,
    a_sink_may_change_its_number_of_tasks,
    a_name_may_be_used_again_and_again,
    clean_restarts_lose_and_double_nothing,
    two_changes_in_a_row_end_in_the_last_one,
    twenty_connectors_may_be_created_at_once,
    a_failed_task_is_failed_until_somebody_restarts_it,
    retriable_errors_lose_nothing_and_keep_the_order,
);

/// `key=value`, the sequence number as the value, to a partition each.
fn numbered(topic: &str, partitions: i32, numbers: std::ops::Range<i64>) -> Vec<ProducerRecord> {
    let record = |number: i64| ProducerRecord {
        partition: Some((number % i64::from(partitions)) as i32),
        ..ProducerRecord::keyed(topic, number.to_string(), Some(number.to_string().into()))
    };
    numbers.map(record).collect()
}

/// The sequence numbers that a faulty source has written to its topic, in order of their partition.
async fn sequences(setup: &Setup, topic: &str) -> Vec<i64> {
    let sequence = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap()["seq"].as_i64().unwrap();
    setup.values(topic).await.iter().map(|value| sequence(value.as_ref().unwrap())).collect()
}

async fn pause_outlives_the_worker(setup: Setup) {
    let (name, topic) = (unique("pauses"), unique("topic"));
    let node = setup.start().await;
    node.create(&name, &[("connector.class", SOURCE), ("topic", &topic), ("source.rate", "200")]).await;
    node.wait_until_running(&name, 1).await;
    node.steer(&name, "pause").await;
    node.wait_for_state(&name, None, "PAUSED").await;
    node.wait_for_state(&name, Some(0), "PAUSED").await;
    let count = setup.values(&topic).await.len();
    node.stop().await;
    let node = setup.start().await;
    node.wait_for_state(&name, None, "PAUSED").await;
    node.wait_for_state(&name, Some(0), "PAUSED").await;
    assert_eq!(setup.values(&topic).await.len(), count, "a paused source writes nothing");
    node.steer(&name, "resume").await;
    node.wait_until_running(&name, 1).await;
    node.until("it goes on", async || setup.values(&topic).await.len() > count + 20).await;
    node.stop().await;
    let found = sequences(&setup, &topic).await;
    assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>());
}

async fn stop_leaves_no_tasks_and_resume_brings_them_back(setup: Setup) {
    let (name, topic) = (unique("stops"), unique("topic"));
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("topic", &topic), ("source.rate", "200"), ("tasks.max", "2")];
    node.create(&name, &config).await;
    node.wait_until_running(&name, 2).await;
    node.steer(&name, "stop").await;
    node.wait_for_state(&name, None, "STOPPED").await;
    let no_tasks = async || {
        node.get(&format!("/connectors/{name}/status")).await.body.json()["tasks"] == json!([])
            && node.get(&format!("/connectors/{name}/tasks")).await.body.json() == &json!([])
    };
    node.until("the tasks are gone", no_tasks).await;
    node.stop().await;
    let node = setup.start().await;
    node.wait_for_state(&name, None, "STOPPED").await;
    node.steer(&name, "resume").await;
    node.wait_until_running(&name, 2).await;
    node.steer(&name, "stop").await;
    node.wait_for_state(&name, None, "STOPPED").await;
    // Resuming into a pause has to work as well.
    node.steer(&name, "pause").await;
    node.wait_for_state(&name, None, "PAUSED").await;
    node.steer(&name, "resume").await;
    node.wait_until_running(&name, 2).await;
}

async fn delete_removes_everything_but_offsets(setup: Setup) {
    let (name, topic) = (unique("goes"), unique("topic"));
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("topic", &*topic), ("source.total", "50")];
    node.create(&name, &config).await;
    node.until("all is written", async || setup.values(&topic).await.len() == 50).await;
    node.delete(&name).await;
    let gone = async || node.get(&format!("/connectors/{name}/status")).await.status == 404;
    node.until("the status is gone", gone).await;
    assert_eq!(node.get(&format!("/connectors/{name}")).await.status, 404);
    assert_eq!(node.get(&format!("/connectors/{name}/tasks/0/status")).await.status, 404);
    let status_topic = setup.get("status.storage.topic").to_owned();
    let last_values = async || -> BTreeMap<_, _> { setup.records(&status_topic).await.into_iter().collect() };
    let tombstoned = async || {
        last_values().await.iter().all(|(key, value)| {
            let key = String::from_utf8_lossy(key.as_ref().unwrap());
            !key.contains(&name) || value.is_none()
        })
    };
    node.until("the statuses are tombstones", tombstoned).await;
    let config = [("connector.class", SOURCE), ("topic", &*topic), ("source.total", "80")];
    node.create(&name, &config).await;
    node.until("it goes on where it was", async || setup.values(&topic).await.len() >= 80).await;
    node.stop().await;
    assert_eq!(sequences(&setup, &topic).await, (0..80).collect::<Vec<_>>());
}

async fn only_a_changed_connector_restarts(setup: Setup) {
    let (changed, other) = (unique("changed"), unique("untouched"));
    let node = setup.start().await;
    let config = |rate| [("connector.class", SOURCE), ("source.rate", rate), ("tasks.max", "2")];
    for name in [&changed, &other] {
        node.create(name, &[&config("10")[..], &[("topic", name)]].concat()).await;
        node.wait_until_running(name, 2).await;
    }
    let starts = |name: &str| (faulty::calls(name, "connector.start"), faulty::calls(name, "start"));
    assert_eq!(starts(&changed), (1, 2));
    assert_eq!(node.put(&changed, &[&config("20")[..], &[("topic", &changed)]].concat()).await.status, 200);
    node.until("it restarts", async || starts(&changed) == (2, 4)).await;
    node.wait_until_running(&changed, 2).await;
    assert_eq!(starts(&other), (1, 2), "an untouched connector is left alone");
    node.delete(&changed).await;
    let gone = async || node.get(&format!("/connectors/{changed}/status")).await.status == 404;
    node.until("it is gone", gone).await;
    node.wait_until_running(&other, 2).await;
    assert_eq!(starts(&other), (1, 2), "an untouched connector is left alone");
}

async fn an_identical_configuration_restarts_the_connector_alone(setup: Setup) {
    let name = unique("same");
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("source.rate", "10"), ("topic", &*name)];
    node.create(&name, &config).await;
    node.wait_until_running(&name, 1).await;
    let config_topic = setup.get("config.storage.topic").to_owned();
    let task_records = async || {
        let key = |key: &Option<bytes::Bytes>| String::from_utf8_lossy(key.as_ref().unwrap()).into_owned();
        let keys: Vec<_> = setup.records(&config_topic).await.iter().map(|record| key(&record.0)).collect();
        keys.iter().filter(|key| key.starts_with("task-") || key.starts_with("commit-")).count()
    };
    let before = task_records().await;
    assert_eq!(before, 2);
    assert_eq!(node.put(&name, &config).await.status, 200);
    node.until("the connector restarts", async || faulty::calls(&name, "connector.start") == 2).await;
    node.until("it splits", async || faulty::calls(&name, "connector.task_configs") == 2).await;
    node.wait_until_running(&name, 1).await;
    assert_eq!(task_records().await, before, "unchanged task configurations are not written");
    assert_eq!(faulty::calls(&name, "start"), 1, "the task goes on");
}

async fn a_sink_may_change_its_number_of_tasks(setup: Setup) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    let (name, topic) = (unique("grows"), unique("topic"));
    setup.topic(&topic, 6).await;
    let node = setup.start().await;
    let config = |tasks| {
        [
            ("connector.class", "FileStreamSink"),
            ("topics", &*topic),
            ("file", file.to_str().unwrap()),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("tasks.max", tasks),
        ]
    };
    node.create(&name, &config("3")).await;
    let mut written = 0;
    for tasks in ["3", "1", "2"] {
        assert!(matches!(node.put(&name, &config(tasks)).await.status, 200 | 201));
        // Records come while the tasks change hands as well.
        for _ in 0..4 {
            setup.write(&numbered(&topic, 6, written..written + 300)).await;
            written += 300;
        }
        let count: u32 = tasks.parse().unwrap();
        node.wait_until_running(&name, count).await;
        let right_tasks = async || {
            let reply = node.get(&format!("/connectors/{name}/status")).await;
            reply.body.json()["tasks"].as_array().map(Vec::len) == Some(count as usize)
        };
        node.until("as many tasks as there should be", right_tasks).await;
        node.until("all is in the file", async || crate::support::node::lines(&file).len() >= written as usize).await;
    }
    node.stop().await;
    let mut numbers: Vec<i64> = crate::support::node::lines(&file).iter().map(|line| line.parse().unwrap()).collect();
    // Within a partition, the order is that of the topic.
    for partition in 0..6 {
        let of_one: Vec<_> = numbers.iter().filter(|number| **number % 6 == partition).collect();
        assert!(of_one.is_sorted(), "partition {partition} is out of order");
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..written).collect::<Vec<_>>());
}

async fn a_name_may_be_used_again_and_again(setup: Setup) {
    let (name, topic) = (unique("again"), unique("topic"));
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("topic", &*topic), ("source.rate", "500"), ("tasks.max", "1")];
    for round in 0..10 {
        node.create(&name, &config).await;
        if round % 3 == 0 {
            node.wait_until_running(&name, 1).await;
        }
        node.delete(&name).await;
        assert_eq!(node.get(&format!("/connectors/{name}")).await.status, 404);
    }
    node.create(&name, &config).await;
    node.wait_until_running(&name, 1).await;
    let before = setup.values(&topic).await.len();
    node.until("it works", async || setup.values(&topic).await.len() > before + 20).await;
    node.stop().await;
    let mut found = sequences(&setup, &topic).await;
    found.sort_unstable();
    assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>());
}

async fn clean_restarts_lose_and_double_nothing(setup: Setup) {
    let (source, sink, topic) = (unique("prunes"), unique("counts"), unique("topic"));
    let mut node = setup.start().await;
    node.create(&source, &[("connector.class", SOURCE), ("topic", &topic), ("source.rate", "1000")]).await;
    node.create(&sink, &[("connector.class", SINK), ("topics", &topic)]).await;
    for round in 0..3 {
        node.wait_until_running(&source, 1).await;
        node.wait_until_running(&sink, 1).await;
        let before = faulty::sunk(&sink).len();
        node.until("records arrive", async || faulty::sunk(&sink).len() > before + 300).await;
        if round == 1 {
            // A restart of tasks within a worker, too.
            assert_eq!(node.restart_task(&source, 0).await.status, 204);
            assert_eq!(node.restart_task(&sink, 0).await.status, 204);
            let before = faulty::sunk(&sink).len();
            node.until("records arrive", async || faulty::sunk(&sink).len() > before + 300).await;
        }
        node.stop().await;
        node = setup.start().await;
    }
    node.steer(&source, "pause").await;
    node.wait_for_state(&source, Some(0), "PAUSED").await;
    let written = sequences(&setup, &topic).await;
    until("the sink has all", async || faulty::sunk(&sink).len() >= written.len()).await;
    node.stop().await;
    assert_eq!(written, (0..written.len() as i64).collect::<Vec<_>>(), "the source lost or doubled records");
    let offsets: Vec<_> = faulty::sunk(&sink).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..written.len() as i64).collect::<Vec<_>>(), "the sink lost or doubled records");
}

async fn two_changes_in_a_row_end_in_the_last_one(setup: Setup) {
    let name = unique("hurries");
    let node = setup.start().await;
    let config =
        |tasks, rate| [("connector.class", SOURCE), ("topic", &*name), ("source.rate", rate), ("tasks.max", tasks)];
    node.create(&name, &config("2", "10")).await;
    for (tasks, rate) in [("3", "11"), ("1", "12"), ("4", "13"), ("2", "14")] {
        assert_eq!(node.put(&name, &config(tasks, rate)).await.status, 200);
    }
    let settled = async || {
        let reply = node.get(&format!("/connectors/{name}/tasks")).await;
        let tasks = reply.body.json().as_array().unwrap().clone();
        let status = node.get(&format!("/connectors/{name}/status")).await.body.json()["tasks"].clone();
        let status = status.as_array().cloned().unwrap_or_default();
        tasks.len() == 2
            && tasks.iter().all(|task| task["config"]["source.rate"] == "14")
            && status.len() == 2
            && status.iter().all(|task| task["state"] == "RUNNING")
    };
    node.until("the last configuration runs", settled).await;
}

async fn twenty_connectors_may_be_created_at_once(setup: Setup) {
    let node = setup.start().await;
    let prefix = unique("many");
    let names: Vec<String> = (0..20).map(|number| format!("{prefix}-{number}")).collect();
    let create = async |name: &String| {
        node.create(name, &[("connector.class", SOURCE), ("topic", name), ("source.rate", "10")]).await;
    };
    futures_util::future::join_all(names.iter().map(create)).await;
    let began = Instant::now();
    for name in &names {
        node.wait_until_running(name, 1).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let listed = node.get("/connectors").await;
    assert_eq!(listed.body.json().as_array().unwrap().len(), 20);
    // Only one of many with the same name is made.
    let same = unique("same");
    let body = json!({"name": same, "config": {"connector.class": SOURCE, "source.rate": "1"}}).to_string();
    let replies =
        futures_util::future::join_all((0..5).map(|_| node.call("POST", "/connectors", Some(body.clone())))).await;
    let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409]);
}

async fn a_failed_task_is_failed_until_somebody_restarts_it(setup: Setup) {
    let (name, topic) = (unique("fails"), unique("topic"));
    let node = setup.start().await;
    let config = [
        ("connector.class", SOURCE),
        ("topic", &*topic),
        ("source.rate", "300"),
        ("tasks.max", "2"),
        ("fault.phase", "poll"),
        ("fault.kind", "panic"),
        ("fault.task", "1"),
        ("fault.after", "20"),
        ("fault.times", "3"),
    ];
    node.create(&name, &config).await;
    node.wait_for_state(&name, Some(1), "FAILED").await;
    node.steer(&name, "pause").await;
    node.wait_for_state(&name, Some(0), "PAUSED").await;
    node.wait_for_state(&name, None, "PAUSED").await;
    assert_eq!(node.state(&name, Some(1)).await["state"], "FAILED", "a failed task does not become paused");
    node.steer(&name, "resume").await;
    node.wait_for_state(&name, Some(0), "RUNNING").await;
    assert_eq!(node.state(&name, Some(1)).await["state"], "FAILED");
    let starts = faulty::calls(&name, "start");
    // Its fault comes twice more.
    for fault in ["(fault 2)", "(fault 3)"] {
        assert_eq!(node.restart_task(&name, 1).await.status, 204);
        let failed_again = async || node.state(&name, Some(1)).await["trace"].to_string().contains(fault);
        node.until(&format!("it fails again {fault}"), failed_again).await;
    }
    let reply = node.call("POST", &format!("/connectors/{name}/restart?includeTasks=true&onlyFailed=true"), None).await;
    assert_eq!(reply.status, 202, "{}", reply.body.json());
    let tasks = reply.body.json()["tasks"].as_array().unwrap();
    assert_eq!(tasks[0]["state"], "RUNNING");
    assert_eq!(tasks[1]["state"], "RESTARTING");
    node.wait_for_state(&name, Some(1), "RUNNING").await;
    node.wait_for_state(&name, Some(0), "RUNNING").await;
    assert_eq!(faulty::calls(&name, "start"), starts + 3, "only the failed task was started again");
    let moves = async || {
        let values = setup.values(&topic).await;
        values.iter().flatten().any(|value| serde_json::from_slice::<Value>(value).unwrap()["task"] == 1)
    };
    node.until("the restarted task moves records", moves).await;
    node.stop().await;
    // Both tasks write to one partition. What the failed one had sent before it panicked was committed.
    let mut next = [0; 2];
    for value in setup.values(&topic).await {
        let value: Value = serde_json::from_slice(&value.unwrap()).unwrap();
        let task = value["task"].as_u64().unwrap() as usize;
        let seq = value["seq"].as_u64().unwrap();
        assert_eq!(seq, next[task], "task {task}");
        next[task] += 1;
    }
    assert!(next[0] > 0 && next[1] > 0, "{next:?}");
}

async fn retriable_errors_lose_nothing_and_keep_the_order(setup: Setup) {
    let (source, sink, topic) = (unique("retries"), unique("retries-sink"), unique("topic"));
    let node = setup.start().await;
    let retriable = [("fault.kind", "retriable"), ("fault.after", "3"), ("fault.times", "5")];
    let config = [("connector.class", SOURCE), ("topic", &*topic), ("source.total", "500"), ("fault.phase", "poll")];
    node.create(&source, &[&config[..], &retriable].concat()).await;
    // Enough batches for all faults, however late the sink looks.
    let config = [
        ("connector.class", SINK),
        ("topics", &*topic),
        ("fault.phase", "put"),
        ("consumer.override.max.poll.records", "20"),
    ];
    node.create(&sink, &[&config[..], &retriable].concat()).await;
    until("all arrived", async || faulty::sunk(&sink).len() >= 500).await;
    until("all faults came", async || faulty::calls(&sink, "put") > 9 && faulty::calls(&source, "poll") > 9).await;
    for name in [&source, &sink] {
        assert_eq!(node.state(name, Some(0)).await["state"], "RUNNING");
        assert_eq!(faulty::calls(name, "start"), 1);
    }
    node.stop().await;
    let offsets: Vec<_> = faulty::sunk(&sink).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..500).collect::<Vec<_>>());
    assert_eq!(sequences(&setup, &topic).await, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_before_the_worker_has_started_are_told_why() {
    let setup = Setup::memory();
    setup.faults().set_down(true);
    let node = setup.launch();
    for (method, path) in [("GET", "/connectors"), ("GET", "/"), ("GET", "/health"), ("POST", "/connectors/a/restart")]
    {
        let reply = node.call(method, path, None).await;
        let message = reply.body.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, 503, "{path}: {message}");
        assert!(message.contains("starting"), "{path}: {message}");
    }
    let body = json!({"name": "a", "config": {"connector.class": SOURCE}}).to_string();
    assert_eq!(node.call("POST", "/connectors", Some(body)).await.status, 503);
    setup.faults().set_down(false);
    node.until("the worker starts by itself", async || node.get("/health").await.status == 200).await;
    assert_eq!(node.get("/connectors").await.status, 200);
}

#[tokio::test]
async fn a_worker_that_never_started_ends_at_once() {
    let setup = Setup::memory();
    setup.faults().set_down(true);
    let node = setup.launch();
    assert_eq!(node.get("/health").await.status, 503);
    let time = node.stop().await;
    assert!(time < Duration::from_secs(5), "{time:?}");
}

async fn suspended(node: &TestNode) -> bool {
    node.get("/health").await.status == 503
}

#[tokio::test]
async fn without_kafka_all_waits_and_goes_on_by_itself() {
    let setup = Setup::memory();
    let (source, sink, topic) = (unique("waits"), unique("waits-sink"), unique("topic"));
    let node = setup.start().await;
    node.create(&source, &[("connector.class", SOURCE), ("topic", &topic), ("source.rate", "500")]).await;
    node.create(&sink, &[("connector.class", SINK), ("topics", &topic)]).await;
    node.wait_until_running(&source, 1).await;
    node.wait_until_running(&sink, 1).await;
    until("records arrive", async || faulty::sunk(&sink).len() > 100).await;
    for pause_ms in [300, 3000] {
        setup.faults().set_down(true);
        if pause_ms > 1000 {
            node.until("the worker says that it is suspended", async || suspended(&node).await).await;
            let reply = node.get("/health").await;
            let message = reply.body.json()["message"].as_str().unwrap();
            assert!(message.contains("suspended"), "{message}");
            // What only reads is answered.
            assert_eq!(node.get(&format!("/connectors/{source}/status")).await.status, 200);
        }
        pass(Duration::from_millis(pause_ms)).await;
        setup.faults().set_down(false);
        node.until("the lease is back", async || !suspended(&node).await).await;
        let before = faulty::sunk(&sink).len();
        until("records arrive again", async || faulty::sunk(&sink).len() > before + 100).await;
    }
    for name in [&source, &sink] {
        node.wait_until_running(name, 1).await;
        assert_eq!(faulty::calls(name, "start"), 1, "nothing was torn down");
    }
    node.stop().await;
    let mut found = sequences(&setup, &topic).await;
    found.dedup();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>(), "nothing is lost");
}

/// The upstream forgets what was committed, so an offset that is committed before its record is safe shows as a gap.
#[tokio::test]
async fn late_and_lost_acknowledgements_make_no_gap() {
    let setup = Setup::memory();
    let (name, topic) = (unique("late"), unique("topic"));
    let node = setup.start().await;
    let config = [
        ("connector.class", SOURCE),
        ("topic", &*topic),
        ("source.rate", "1000"),
        ("fault.phase", "poll"),
        ("fault.kind", "panic"),
        ("fault.after", "30"),
        ("fault.times", "3"),
    ];
    node.create(&name, &config).await;
    setup.faults().delay_acks(Duration::from_millis(50));
    for fault in 1..=3 {
        let failed =
            async || node.state(&name, Some(0)).await["trace"].to_string().contains(&format!("(fault {fault})"));
        node.until("it fails", failed).await;
        assert_eq!(node.restart_task(&name, 0).await.status, 204);
    }
    node.wait_until_running(&name, 1).await;
    setup.faults().lose_acks(20);
    let before = setup.values(&topic).await.len();
    node.until("records arrive", async || setup.values(&topic).await.len() > before + 200).await;
    let prunes = faulty::calls(&name, "commit_record");
    node.until("the upstream goes on forgetting", async || faulty::calls(&name, "commit_record") > prunes).await;
    node.stop().await;
    let found = sequences(&setup, &topic).await;
    let distinct: BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!(distinct.len() as i64, distinct.last().unwrap() + 1, "a gap: what was forgotten never arrived");
}

#[tokio::test]
async fn without_kafka_requests_end_in_time_and_so_does_the_worker() {
    // Longer than this test waits for the end: a time for tasks that could commit is no use to tasks that cannot.
    let setup = Setup::memory().with("task.shutdown.graceful.timeout.ms", 60_000);
    let name = unique("cut-off");
    let node = setup.start().await;
    let config = [("connector.class", SOURCE), ("topic", &*name), ("source.rate", "500")];
    node.create(&name, &config).await;
    node.wait_until_running(&name, 1).await;
    setup.faults().set_down(true);
    node.until("the worker says that it is suspended", async || suspended(&node).await).await;
    let began = Instant::now();
    let replies = [
        node.call("PUT", &format!("/connectors/{name}/pause"), None).await,
        node.put("new", &config).await,
        node.call("DELETE", &format!("/connectors/{name}"), None).await,
        node.restart_task(&name, 0).await,
    ];
    for reply in replies {
        let message = reply.body.json()["message"].as_str().unwrap_or_default();
        assert!(matches!(reply.status, 500 | 503) && !message.is_empty(), "{} {}", reply.status, reply.body.json());
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let (_, end) = node.try_stop().await;
    // Nobody could be told, so the exit code tells.
    let reason = end.unwrap_err();
    for words in ["could not leave in time", "does not answer", "does no harm"] {
        assert!(reason.contains(words), "{reason}");
    }
}

/// Brokers stall for longer than a lease lasts, while a worker ends.
#[tokio::test]
async fn a_worker_that_ends_while_kafka_stalls_repeats_nothing() {
    // Offsets are written at the end only.
    let setup = Setup::memory().with("offset.flush.interval.ms", 600_000);
    let (name, topic) = (unique("stalls"), unique("topic"));
    let node = setup.start().await;
    node.create(&name, &[("connector.class", SOURCE), ("topic", &topic), ("source.rate", "500")]).await;
    node.until("records arrive", async || setup.values(&topic).await.len() > 100).await;
    setup.faults().set_down(true);
    node.until("the worker says that it is suspended", async || suspended(&node).await).await;
    let stall = async {
        pass(Duration::from_secs(1)).await;
        setup.faults().set_down(false);
    };
    let ((_, end), ()) = tokio::join!(node.try_stop(), stall);
    end.unwrap();
    let written = setup.values(&topic).await.len();
    let node = setup.start().await;
    node.until("it goes on", async || setup.values(&topic).await.len() > written + 100).await;
    node.stop().await;
    let found = sequences(&setup, &topic).await;
    assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>(), "none lost, none twice");
}

#[tokio::test]
async fn what_has_failed_can_be_changed_and_deleted() {
    let setup = Setup::memory();
    let name = unique("repairs");
    let node = setup.start().await;
    let broken =
        |phase| [("connector.class", SOURCE), ("topic", &*name), ("source.rate", "100"), ("fault.phase", phase)];
    let healthy = [("connector.class", SOURCE), ("topic", &*name), ("source.rate", "100")];
    node.create(&name, &broken("connector.start")).await;
    node.wait_for_state(&name, None, "FAILED").await;
    assert_eq!(node.put(&name, &broken("start")).await.status, 200);
    node.wait_for_state(&name, None, "RUNNING").await;
    node.wait_for_state(&name, Some(0), "FAILED").await;
    assert_eq!(node.put(&name, &healthy).await.status, 200);
    node.wait_until_running(&name, 1).await;
    // A connector that fails leaves its tasks alone, and so does its restart.
    let starts = faulty::calls(&name, "start");
    assert_eq!(node.put(&name, &broken("connector.task_configs")).await.status, 200);
    node.wait_for_state(&name, None, "FAILED").await;
    assert_eq!(node.state(&name, Some(0)).await["state"], "RUNNING");
    assert_eq!(faulty::calls(&name, "start"), starts);
    let reply = node.call("POST", &format!("/connectors/{name}/restart"), None).await;
    assert_eq!(reply.status, 204, "it starts, and fails when it is asked for tasks: {}", reply.body.json());
    node.wait_for_state(&name, None, "FAILED").await;
    node.delete(&name).await;
    let gone = async || node.get(&format!("/connectors/{name}/status")).await.status == 404;
    node.until("the status is gone", gone).await;
    node.create(&name, &healthy).await;
    node.wait_until_running(&name, 1).await;
}

/// A broker of its own that is killed and comes back: tasks wait, and go on without a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_and_comes_back_costs_nothing() {
    let broker = Broker::start().await;
    let setup = Setup::on(broker.bootstrap());
    let (source, sink, topic) = (unique("outlives"), unique("outlives-sink"), unique("topic"));
    let node = setup.start().await;
    node.create(&source, &[("connector.class", SOURCE), ("topic", &topic), ("source.rate", "500")]).await;
    node.create(&sink, &[("connector.class", SINK), ("topics", &topic)]).await;
    node.wait_until_running(&source, 1).await;
    node.wait_until_running(&sink, 1).await;
    until("records arrive", async || faulty::sunk(&sink).len() > 200).await;
    tokio::task::block_in_place(|| broker.stop());
    node.until("the worker says that it is suspended", async || suspended(&node).await).await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(node.get(&format!("/connectors/{source}/status")).await.status, 200, "what only reads is answered");
    broker.restart().await;
    node.until("the lease is back", async || !suspended(&node).await).await;
    let before = faulty::sunk(&sink).len();
    until("records arrive again", async || faulty::sunk(&sink).len() > before + 200).await;
    for name in [&source, &sink] {
        node.wait_until_running(name, 1).await;
        assert_eq!(faulty::calls(name, "start"), 1, "nothing was torn down");
    }
    node.stop().await;
    let distinct: BTreeSet<i64> = sequences(&setup, &topic).await.into_iter().collect();
    assert_eq!(distinct.len() as i64, distinct.last().unwrap() + 1, "nothing is lost");
}
