//! Plug-ins that panic, fail and hang: what becomes of them, and that nobody else notices.

use std::time::{Duration, Instant};

use connect_api::Props;
use serde_json::json;

use crate::support::faulty::{self, BLOCKING_SINK, BLOCKING_SOURCE, CONVERTER, SINK, SOURCE, TRANSFORMATION};
use crate::support::node::{Setup, TestNode, on_all, pass};
use crate::support::unique;

/// Much longer than any healthy callback of these tests takes.
const CALLBACK_TIMEOUT_MS: u64 = 400;
/// Records that a healthy source makes in a second.
const RATE: f64 = 1000.0;

on_all!(broken_tasks_leave_the_others_alone);

/// A connector that moves records all the time from a source through a topic into a sink, and the count of its records.
struct Healthy {
    source: String,
    sink: String,
    topic: String,
}

impl Healthy {
    async fn start(node: &TestNode) -> Healthy {
        let healthy =
            Healthy { source: unique("healthy"), sink: unique("healthy-sink"), topic: unique("healthy-topic") };
        let rate = RATE.to_string();
        let source = [("connector.class", SOURCE), ("topic", &healthy.topic), ("source.rate", &rate)];
        node.create(&healthy.source, &[&source[..], &[("tasks.max", "1"), ("source.batch", "100")]].concat()).await;
        node.create(&healthy.sink, &[("connector.class", SINK), ("topics", &healthy.topic)]).await;
        node.wait_until_running(&healthy.source, 1).await;
        node.wait_until_running(&healthy.sink, 1).await;
        node.until("records arrive", async || healthy.count() > 0).await;
        healthy
    }

    fn count(&self) -> usize {
        faulty::sunk(&self.sink).len()
    }

    /// Records a second over some time.
    async fn rate(&self) -> f64 {
        let (began, before) = (Instant::now(), self.count());
        pass(Duration::from_millis(1500)).await;
        (self.count() - before) as f64 / began.elapsed().as_secs_f64()
    }

    /// Nothing was lost, doubled or moved.
    fn assert_complete(&self) {
        let offsets: Vec<i64> = faulty::sunk(&self.sink).iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..offsets.len() as i64).collect::<Vec<_>>());
    }
}

async fn broken_tasks_leave_the_others_alone(setup: Setup) {
    let setup = setup.with("task.callback.timeout.ms", CALLBACK_TIMEOUT_MS);
    let node = setup.start().await;
    let healthy = Healthy::start(&node).await;
    let before = healthy.rate().await;
    let fault = |phase, kind| [("fault.phase", phase), ("fault.kind", kind)];
    let (panics, fails) = (unique("panics"), unique("fails"));
    let (pends, parks) = (unique("pends"), unique("parks"));
    node.create(&panics, &[&[("connector.class", SOURCE)], &fault("poll", "panic")[..]].concat()).await;
    node.create(&fails, &[&[("connector.class", SOURCE)], &fault("start", "error")[..]].concat()).await;
    for (name, class) in [(&pends, SINK), (&parks, BLOCKING_SINK)] {
        let sink = [("connector.class", class), ("topics", &*healthy.topic)];
        node.create(name, &[&sink[..], &fault("put", "block")].concat()).await;
    }
    for (name, phase, words) in [
        (&panics, "poll", "panics in poll on purpose"),
        (&fails, "start", "fails in start on purpose"),
        (&pends, "put", "did not return within"),
        (&parks, "put", "did not return within"),
    ] {
        let task = node.wait_for_state(name, Some(0), "FAILED").await;
        let trace = task["trace"].as_str().unwrap();
        assert!(trace.contains(phase) && trace.contains(words), "{trace}");
        assert_eq!(node.state(name, None).await["state"], "RUNNING", "the connector of a failed task runs");
    }
    let trace = node.state(&panics, Some(0)).await["trace"].to_string();
    assert!(trace.contains("faulty.rs:"), "a panic says where: {trace}");
    let during = healthy.rate().await;
    // Right after the start a sink may catch up, faster than the source is.
    assert!(during > before.min(RATE) / 2.0, "{before} records a second before, {during} beside broken tasks");
    for name in [&healthy.source, &healthy.sink] {
        assert_eq!(node.state(name, Some(0)).await["state"], "RUNNING");
    }
    let metrics = format!("{:?}", node.get("/metrics").await.body).replace("\\", "");
    for (name, state) in [(&panics, "failed"), (&pends, "failed"), (&healthy.sink, "running")] {
        let series = format!("task_status{{connector=\"{name}\",task=\"0\",status=\"{state}\"}} 1");
        assert!(metrics.contains(&series), "{series} is not in\n{metrics}");
    }
    let time = node.stop().await;
    assert!(time < Duration::from_secs(8), "the end took {time:?} although nothing healthy is slow");
    healthy.assert_complete();
}

/// What is promised of one fault.
#[derive(Debug, Clone, Copy)]
enum Promise {
    /// The task is FAILED, and its trace names this phase.
    TaskFails(&'static str),
    /// The connector is FAILED; it has no tasks where it had none before.
    ConnectorFails(&'static str),
    /// It goes on: the error is logged.
    GoesOn,
}

use Promise::{ConnectorFails, GoesOn, TaskFails};

/// A callback, and what is promised for a panic, an error and a hang in it.
type Row = (Class, &'static str, [Promise; 3]);

/// Which plug-in fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Source,
    Sink,
    SourceTransformation,
    SinkTransformation,
    SourceConverter,
    SinkConverter,
}

/// `stop` and `close` come at the end only and have tests of their own.
const TABLE: &[Row] = &[
    (Class::Source, "start", [TaskFails("start"), TaskFails("start"), TaskFails("start")]),
    (Class::Source, "poll", [TaskFails("poll"), TaskFails("poll"), TaskFails("poll")]),
    (Class::Source, "commit", [TaskFails("commit"), GoesOn, TaskFails("commit")]),
    (Class::Source, "commit_record", [TaskFails("commit"), GoesOn, TaskFails("commit")]),
    (Class::SourceTransformation, "configure", [TaskFails("configure"); 3]),
    (Class::SourceTransformation, "apply", [TaskFails("transform"); 3]),
    (Class::SourceConverter, "configure", [TaskFails("configure"); 3]),
    (Class::SourceConverter, "from_connect_data", [TaskFails("convert"); 3]),
    (Class::Sink, "start", [TaskFails("start"); 3]),
    (Class::Sink, "open", [TaskFails("open"); 3]),
    (Class::Sink, "put", [TaskFails("put"); 3]),
    (Class::Sink, "pre_commit", [TaskFails("flush"), GoesOn, TaskFails("flush")]),
    (Class::Sink, "flush", [TaskFails("flush"), GoesOn, TaskFails("flush")]),
    (Class::SinkTransformation, "configure", [TaskFails("configure"); 3]),
    (Class::SinkTransformation, "apply", [TaskFails("transform"); 3]),
    (Class::SinkConverter, "configure", [TaskFails("configure"); 3]),
    (Class::SinkConverter, "to_connect_data", [TaskFails("convert"); 3]),
    (Class::Source, "connector.start", [ConnectorFails("start"); 3]),
    (Class::Source, "connector.task_configs", [ConnectorFails("task configs"); 3]),
    (Class::Sink, "connector.start", [ConnectorFails("start"); 3]),
    (Class::Sink, "connector.task_configs", [ConnectorFails("task configs"); 3]),
];

/// The settings of a connector whose plug-in fails.
fn faulty_config(class: Class, blocking: bool, topic: &str, name: &str, phase: &str, kind: &str) -> Props {
    let is_sink = matches!(class, Class::Sink | Class::SinkTransformation | Class::SinkConverter);
    let connector = match (is_sink, blocking) {
        (false, false) => SOURCE,
        (false, true) => BLOCKING_SOURCE,
        (true, false) => SINK,
        (true, true) => BLOCKING_SINK,
    };
    let mut config = Props::new();
    let mut set = |name: &str, value: &str| drop(config.insert(name.to_owned(), value.to_owned()));
    set("connector.class", connector);
    if is_sink {
        set("topics", topic);
    } else {
        set("topic", &format!("{name}-topic"));
        set("source.rate", "50");
    }
    let prefix = match class {
        Class::Source | Class::Sink => "",
        Class::SourceTransformation | Class::SinkTransformation => {
            set("transforms", "t");
            set("transforms.t.type", TRANSFORMATION);
            "transforms.t."
        }
        Class::SourceConverter | Class::SinkConverter => {
            set("value.converter", CONVERTER);
            "value.converter."
        }
    };
    set(&format!("{prefix}fault.phase"), phase);
    set(&format!("{prefix}fault.kind"), kind);
    if !prefix.is_empty() {
        set(&format!("{prefix}fault.key"), name);
    }
    config
}

/// Waits for what is promised.
async fn assert_kept(node: &TestNode, healthy: &Healthy, name: &str, phase: &str, kind: &str, promise: Promise) {
    let words = match kind {
        "panic" => "panics in",
        "error" => "on purpose",
        _ => "did not return within",
    };
    match promise {
        TaskFails(phase) => {
            let trace = node.wait_for_state(name, Some(0), "FAILED").await["trace"].to_string();
            assert!(trace.contains(&format!("failed in {phase}: ")) && trace.contains(words), "{name}: {trace}");
            assert_eq!(node.state(name, None).await["state"], "RUNNING", "{name}");
        }
        ConnectorFails(phase) => {
            let trace = node.wait_for_state(name, None, "FAILED").await["trace"].to_string();
            assert!(trace.contains(&format!("failed in {phase}: ")) && trace.contains(words), "{name}: {trace}");
            assert_eq!(node.get(&format!("/connectors/{name}/tasks")).await.body.json(), &json!([]), "{name}");
        }
        GoesOn => {
            node.wait_until_running(name, 1).await;
            // The callback comes again, and the others are not held up meanwhile.
            node.until(&format!("{name} goes on"), async || faulty::calls(name, phase) > 2).await;
            assert_eq!(node.state(name, Some(0)).await["state"], "RUNNING", "{name}");
        }
    }
    assert!(healthy.count() > 0);
}

async fn every_callback(kind: &'static str, blocking: bool) {
    let node = Setup::memory().with("task.callback.timeout.ms", CALLBACK_TIMEOUT_MS).start().await;
    let healthy = Healthy::start(&node).await;
    let column = ["panic", "error", "block"].iter().position(|known| *known == kind).unwrap();
    let mut cases = Vec::new();
    for (class, phase, promises) in TABLE {
        let name = unique(&format!("{kind}-{class:?}-{phase}"));
        let config = faulty_config(*class, blocking, &healthy.topic, &name, phase, kind);
        let config: Vec<_> = config.iter().map(|(name, value)| (&**name, &**value)).collect();
        node.create(&name, &config).await;
        cases.push((name, *phase, promises[column]));
    }
    for (name, phase, promise) in &cases {
        assert_kept(&node, &healthy, name, phase, kind, *promise).await;
    }
    let before = healthy.count();
    node.until("the others go on", async || healthy.count() > before + 500).await;
    let time = node.stop().await;
    assert!(time < Duration::from_secs(8), "the end took {time:?}");
    healthy.assert_complete();
}

#[tokio::test]
async fn every_callback_may_panic() {
    every_callback("panic", false).await;
    every_callback("panic", true).await;
}

#[tokio::test]
async fn every_callback_may_fail() {
    every_callback("error", false).await;
}

#[tokio::test]
async fn every_callback_may_hang() {
    every_callback("block", false).await;
}

#[tokio::test]
async fn every_callback_may_park_its_thread() {
    every_callback("block", true).await;
}

/// `stop` and `close`: whatever they do, the unit is gone in time and its name is free.
async fn ends_may_go_wrong(kind: &str, blocking: bool) {
    let node = Setup::memory().start().await;
    let healthy = Healthy::start(&node).await;
    let ends =
        [(Class::Source, "stop"), (Class::Source, "connector.stop"), (Class::Sink, "close"), (Class::Sink, "stop")];
    let mut cases = Vec::new();
    for (class, phase) in ends {
        let name = unique(&format!("{kind}-{class:?}-{phase}"));
        let config = faulty_config(class, blocking, &healthy.topic, &name, phase, kind);
        cases.push((name, config));
    }
    let create = async || {
        for (name, config) in &cases {
            let config: Vec<_> = config.iter().map(|(name, value)| (&**name, &**value)).collect();
            node.create(name, &config).await;
        }
        for (name, _) in &cases {
            node.wait_until_running(name, 1).await;
        }
    };
    create().await;
    for (name, _) in &cases {
        node.delete(name).await;
    }
    for (name, _) in &cases {
        let gone = async || node.get(&format!("/connectors/{name}/status")).await.status == 404;
        node.until("a deleted connector is gone", gone).await;
    }
    // A new one of the same name does not meet the old one, and goes wrong when the worker ends.
    create().await;
    let before = healthy.count();
    node.until("the others go on", async || healthy.count() > before + 500).await;
    let time = node.stop().await;
    assert!(time < Duration::from_secs(8), "the end took {time:?}");
    healthy.assert_complete();
}

#[tokio::test]
async fn ends_may_panic() {
    ends_may_go_wrong("panic", false).await;
}

#[tokio::test]
async fn ends_may_fail() {
    ends_may_go_wrong("error", false).await;
}

#[tokio::test]
async fn ends_may_hang() {
    ends_may_go_wrong("block", false).await;
}

#[tokio::test]
async fn ends_may_park_their_thread() {
    ends_may_go_wrong("block", true).await;
}

/// A task that failed cleans up, and that may go wrong as well: the status shows what it failed of.
#[tokio::test]
async fn an_end_that_goes_wrong_hides_no_failure() {
    let node = Setup::memory().with("task.callback.timeout.ms", CALLBACK_TIMEOUT_MS).start().await;
    let healthy = Healthy::start(&node).await;
    let mut cases = Vec::new();
    for also in ["stop=block", "stop=panic", "close=block", "close=panic"] {
        for (class, phase) in [(Class::Source, "poll"), (Class::Sink, "put")] {
            if class == Class::Source && also.starts_with("close") {
                continue;
            }
            for blocking in [false, true] {
                let name = unique(&format!("{phase}-{also}-{blocking}"));
                let mut config = faulty_config(class, blocking, &healthy.topic, &name, phase, "error");
                config.insert("fault.also".into(), also.into());
                let config: Vec<_> = config.iter().map(|(name, value)| (&**name, &**value)).collect();
                node.create(&name, &config).await;
                cases.push((name, phase));
            }
        }
    }
    for (name, phase) in &cases {
        assert_kept(&node, &healthy, name, phase, "error", TaskFails(phase)).await;
    }
    node.stop().await;
    healthy.assert_complete();
}

#[tokio::test]
async fn validations_may_panic_and_hang() {
    let node = Setup::memory().start().await;
    let healthy = Healthy::start(&node).await;
    let config = |kind| [("connector.class", SOURCE), ("fault.phase", "connector.validate"), ("fault.kind", kind)];
    let reply = node.put("panics", &config("panic")).await;
    assert_eq!(reply.status, 500);
    let message = reply.body.json()["message"].as_str().unwrap();
    assert!(message.contains("panics in connector.validate on purpose"), "{message}");
    assert_eq!(node.get("/connectors/panics").await.status, 404, "nothing was written");
    let hang = config("block");
    let hanging = node.put("hangs", &hang);
    let meanwhile = async {
        let before = healthy.count();
        node.until("the others go on", async || healthy.count() > before + 500).await;
        node.create("beside", &[("connector.class", SOURCE), ("source.rate", "1")]).await;
        node.wait_until_running("beside", 1).await;
    };
    tokio::select! {
        reply = hanging => panic!("a validation that hangs was answered: {}", reply.body.json()),
        () = meanwhile => {}
    }
    let time = node.stop().await;
    assert!(time < Duration::from_secs(8), "the end took {time:?}");
}

/// A state says what has happened: RUNNING that `start` has returned.
#[tokio::test]
async fn a_task_whose_start_does_not_succeed_never_was_running() {
    let setup = Setup::memory().with("task.callback.timeout.ms", CALLBACK_TIMEOUT_MS);
    let node = setup.start().await;
    for class in [SOURCE, SINK] {
        let name = unique("never-started");
        let hang = [("fault.phase", "start"), ("fault.kind", "block")];
        node.create(&name, &[&[("connector.class", class), ("topics", "t")], &hang[..]].concat()).await;
        node.wait_for_state(&name, Some(0), "FAILED").await;
        // The answer does not wait for the start, which may take long.
        assert_eq!(node.restart_task(&name, 0).await.status, 204);
        node.until("it is started again", async || faulty::calls(&name, "start") == 2).await;
        node.wait_for_state(&name, Some(0), "FAILED").await;
        let key = format!("status-task-{name}-0");
        let states: Vec<String> = setup
            .records(setup.get("status.storage.topic"))
            .await
            .into_iter()
            .filter(|(found, _)| found.as_deref() == Some(key.as_bytes()))
            .filter_map(|(_, value)| {
                serde_json::from_slice::<serde_json::Value>(&value?).unwrap()["state"].as_str().map(str::to_owned)
            })
            .collect();
        assert!(!states.contains(&"RUNNING".to_owned()), "{states:?}");
        assert!(states.contains(&"FAILED".to_owned()), "{states:?}");
    }
}

/// Back-offs as short as they may be.
const ON_FAILURE: &[(&str, &str)] =
    &[("restart.policy", "on-failure"), ("restart.backoff.initial.ms", "100"), ("restart.backoff.max.ms", "100")];

/// What goes wrong for a while heals without anybody: a task or connector that fails three times and then works.
#[tokio::test]
async fn under_a_restart_policy_what_fails_for_a_while_comes_back() {
    let node = Setup::memory().with("task.callback.timeout.ms", CALLBACK_TIMEOUT_MS).start().await;
    let healthy = Healthy::start(&node).await;
    let mut cases = Vec::new();
    for (class, phase, kind) in [
        (Class::Source, "poll", "panic"),
        (Class::Source, "start", "error"),
        (Class::Source, "poll", "block"),
        (Class::Sink, "put", "error"),
        (Class::SourceTransformation, "configure", "error"),
        (Class::Source, "connector.start", "panic"),
        (Class::Sink, "connector.task_configs", "error"),
    ] {
        let name = unique(&format!("heals-{class:?}-{phase}-{kind}"));
        let mut config = faulty_config(class, false, &healthy.topic, &name, phase, kind);
        config.extend(ON_FAILURE.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let times = if class == Class::SourceTransformation { "transforms.t.fault.times" } else { "fault.times" };
        config.insert(times.to_owned(), "3".to_owned());
        let config: Vec<_> = config.iter().map(|(name, value)| (&**name, &**value)).collect();
        node.create(&name, &config).await;
        cases.push((name, phase));
    }
    for (name, phase) in &cases {
        node.until(&format!("{name} is started again"), async || faulty::calls(name, phase) > 3).await;
        node.wait_until_running(name, 1).await;
        let unit = if phase.starts_with("connector") { None } else { Some(0) };
        let restart = &node.state(name, unit).await["restart"];
        assert_eq!((&restart["breaker"], &restart["attempt"]), (&json!("closed"), &json!(3)), "{name}: {restart}");
        assert_eq!(restart.get("next_at_ms"), None, "{name}: {restart}");
        // A hang is no fault of the plug-in's own words.
        let reason = restart["reason"].as_str().unwrap();
        assert!(reason.contains("on purpose") || reason.contains("did not return"), "{name}: {reason}");
    }
    let metrics = format!("{:?}", node.get("/metrics").await.body).replace("\\", "");
    let series = format!("automatic_restart_total{{connector=\"{}\",phase=\"poll\"}} 3", cases[0].0);
    assert!(metrics.contains(&series), "{series} is not in\n{metrics}");
    assert_eq!(node.state(&healthy.source, Some(0)).await.get("restart"), None, "there is no policy");
    node.stop().await;
    healthy.assert_complete();
}

/// A plug-in that always panics is started again as often as it may be, and not once more until somebody asks for it.
#[tokio::test]
async fn under_a_restart_policy_what_fails_too_often_stays_failed() {
    let node = Setup::memory().start().await;
    let name = unique("hopeless");
    let fault = [("connector.class", SOURCE), ("fault.phase", "poll"), ("fault.kind", "panic")];
    node.create(&name, &[&fault[..], ON_FAILURE, &[("restart.max.attempts", "3")]].concat()).await;
    let is_open = async || node.state(&name, Some(0)).await["restart"]["breaker"] == "open";
    for starts in [4, 8] {
        node.until("the breaker opens", is_open).await;
        let task = node.state(&name, Some(0)).await;
        assert_eq!((&task["state"], &task["restart"]["attempt"]), (&json!("FAILED"), &json!(4)), "{task}");
        let reason = task["restart"]["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("POST /connectors/{name}/tasks/0/restart")), "{reason}");
        assert!(task["restart"]["since_ms"].as_i64() > Some(0), "{task}");
        assert!(task["trace"].as_str().unwrap().contains("panics in poll on purpose"), "{task}");
        let cluster = node.get("/cluster").await;
        let units = cluster.body.json()["units"].as_array().cloned().unwrap_or_default();
        let unit = units.iter().find(|unit| unit["name"] == format!("status-task-{name}-0")).unwrap();
        assert_eq!(unit["restart"], task["restart"], "{unit}");
        // Three times the longest back-off.
        pass(Duration::from_millis(300)).await;
        assert_eq!(faulty::calls(&name, "poll"), starts, "it is not started any more");
        assert_eq!(node.restart_task(&name, 0).await.status, 204);
        node.until("it is started again", async || faulty::calls(&name, "poll") > starts).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_restart_policy_is_refused() {
    let node = Setup::memory().start().await;
    for (setting, value, words) in [
        ("restart.policy", "always", "on-failure"),
        ("restart.backoff.initial.ms", "10", "from 100 to 86400000"),
        ("restart.backoff.initial.ms", "400000", "is below the first, 400000 ms"),
        ("restart.max.attempts", "many", "restart.max.attempts"),
    ] {
        let config = [("connector.class", SOURCE), ("name", "wrong"), (setting, value)];
        let reply = node.put("wrong", &config).await;
        let message = reply.body.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 400, "{message}");
        assert!(message.contains(setting) && message.contains(words), "{message}");
        let body = crate::support::node::settings(&config).to_string();
        let path = format!("/connector-plugins/{SOURCE}/config/validate");
        let checked = node.call("PUT", &path, Some(body)).await;
        let configs = checked.body.json()["configs"].as_array().cloned().unwrap_or_default();
        let own: Vec<_> = configs.iter().filter(|config| config["value"]["name"] == setting).collect();
        assert_eq!((checked.status, own.len()), (200, 1), "{}", checked.body.json());
        assert!(own[0]["value"]["errors"][0].as_str().unwrap().contains(words), "{}", own[0]);
    }
    node.stop().await;
}
