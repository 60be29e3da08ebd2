//! What a worker answers over REST, in a form in which the answers of both can be compared.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::process::Worker;

/// Connectors with configuration, type and task ids (A1), and the configurations of their tasks (A2).
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub info: Value,
    pub tasks: BTreeMap<String, Value>,
}

impl View {
    pub async fn of(worker: &Worker) -> View {
        let info = worker.get("/connectors?expand=info").await.body.json().clone();
        let mut names: Vec<_> = info.as_object().expect("it is a map of connectors").keys().cloned().collect();
        let listed = worker.get("/connectors").await.body.json().clone();
        let mut listed: Vec<String> = serde_json::from_value(listed).expect("it is a list of names");
        names.sort();
        listed.sort();
        assert_eq!(names, listed, "both lists have the same names");
        let mut tasks = BTreeMap::new();
        // Names that no path can hold, in Java neither: they are listed, and no more.
        for name in names.into_iter().filter(|name| !name.is_empty() && !name.contains('/')) {
            let answer = worker.get(&path(&name, "tasks")).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.body.json());
            tasks.insert(name, answer.body.json().clone());
        }
        View { info, tasks }
    }

    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.info.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// The path of something that belongs to a connector.
pub fn path(name: &str, rest: &str) -> String {
    format!("/connectors/{}/{rest}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// The status of a connector: its state, the states of its tasks, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub connector: String,
    pub tasks: Vec<String>,
    pub workers: Vec<String>,
}

impl Status {
    /// `None` where there is none yet.
    pub async fn of(worker: &Worker, name: &str) -> Option<Status> {
        let answer = worker.call("GET", &path(name, "status"), None).await.ok()?;
        let body = answer.body.json();
        let text = |unit: &Value, field: &str| unit[field].as_str().unwrap_or("none").to_owned();
        let tasks = body["tasks"].as_array()?;
        let workers = std::iter::once(&body["connector"]).chain(tasks).map(|unit| text(unit, "worker_id"));
        Some(Status {
            connector: text(&body["connector"], "state"),
            tasks: tasks.iter().map(|task| text(task, "state")).collect(),
            workers: workers.collect(),
        })
    }
}

/// Waits until a connector and its tasks have these states, the connector first, all by the worker that runs now (A3, A10).
pub async fn await_states(worker: &Worker, name: &str, states: &[&str]) {
    let id = worker.url().trim_start_matches("http://").to_owned();
    let mut last = None;
    let reached = crate::support::process::holds_within(super::PATIENCE, async || {
        last = Status::of(worker, name).await;
        last.as_ref().is_some_and(|status| {
            let found = std::iter::once(&status.connector).chain(&status.tasks);
            found.eq(states) && status.workers.iter().all(|worker| *worker == id)
        })
    });
    if !reached.await {
        panic!("A3, A10: {name} is not {states:?} by {id}: {last:?}\n{}", worker.log_tail());
    }
}

/// `pause`, `resume` or `stop`.
pub async fn steer(worker: &Worker, name: &str, verb: &str) {
    let answer = worker.call("PUT", &path(name, verb), None).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(answer.status, 202 | 204), "{verb} {name}: {} {}", answer.status, answer.body.json());
}

pub async fn delete(worker: &Worker, name: &str) {
    let answer = worker.call("DELETE", &format!("/connectors/{name}"), None).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer.status, 204, "delete {name}: {}", answer.body.json());
}

pub async fn restart(worker: &Worker, name: &str) {
    let answer = worker.call("POST", &path(name, "restart?includeTasks=true"), None).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer.status, 202, "restart {name}: {}", answer.body.json());
}
