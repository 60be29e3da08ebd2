//! REST scenarios as data: `tests/scenarios/*.json`, recorded from Kafka Connect, run against a worker.
//!
//! A scenario is a list of steps. A step is either a request with the answer that it must get, maybe after polling
//! (`until`), or an action on files that connectors read and write. `${p}` is a prefix of this run, `${dir}` a
//! directory of its own. Texts that differ between workers (messages, versions, ids) are hidden, lists have no order.
//! Steps marked `quirk` are those where Kafka Connect answers by accident, mostly 500 to a bad body; another fitting
//! error code is accepted there.
//!
//! `CONNECT_NODE_SCENARIOS` names another directory.

pub mod client;
mod compare;
mod reduce;
mod runner;
mod variables;

use std::path::{Path, PathBuf};

pub use runner::{Failure, run_scenario};

use crate::rest;
use crate::support::node::{Setup, on_all};

/// The directory of the scenarios.
pub fn directory() -> PathBuf {
    std::env::var_os("CONNECT_NODE_SCENARIOS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios"), PathBuf::from)
}

/// All scenario files, sorted by name.
pub fn files() -> Vec<PathBuf> {
    let directory = directory();
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no scenario", directory.display());
    files
}

/// Runs all scenarios, one after the other, and panics with every failure. `workdir` must be visible to the worker.
pub async fn run_all(base_url: &str, workdir: &Path) {
    let (files, mut failures) = (files(), Vec::new());
    for file in &files {
        failures.extend(run_scenario(base_url, workdir, file).await.err());
    }
    let texts: Vec<_> = failures.iter().map(Failure::to_string).collect();
    assert!(texts.is_empty(), "{} of {} scenarios failed:\n{}", texts.len(), files.len(), texts.join("\n"));
}

on_all!(a_worker_passes_all_scenarios);

async fn a_worker_passes_all_scenarios(setup: Setup) {
    let node = setup.start().await;
    run_all(&node.url, tempfile::tempdir().unwrap().path()).await;
}

#[tokio::test]
#[ignore = "needs a worker at the URL in CONNECT_NODE_REST_URL, be it ours or Kafka's"]
async fn a_running_worker_passes_all_scenarios() {
    let url = std::env::var("CONNECT_NODE_REST_URL").expect("CONNECT_NODE_REST_URL names a running worker");
    run_all(&url, tempfile::tempdir().unwrap().path()).await;
}

#[tokio::test]
async fn scenarios_about_requests_alone_pass_without_a_herder() {
    let server = rest::support::server().await;
    let workdir = tempfile::tempdir().unwrap();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    for name in ["create-bad-body", "methods-connectors", "root-info", "unknown-paths"] {
        let file = own.join(name).with_extension("json");
        let result = run_scenario(&format!("http://{}", server.address), workdir.path(), &file).await;
        assert!(result.is_ok(), "{}", result.unwrap_err());
    }
    assert_eq!(std::fs::read_dir(workdir.path()).unwrap().count(), 0, "a scenario leaves nothing behind");
}

#[tokio::test]
async fn a_failing_scenario_is_reported_with_its_step() {
    let server = rest::support::server().await;
    let workdir = tempfile::tempdir().unwrap();
    let file = workdir.path().join("wrong.json");
    let scenario = r#"{"name": "wrong", "steps": [
        {"id": "file", "action": "write_file", "path": "${dir}/sub/x", "text": "1"},
        {"id": "more", "action": "append_file", "path": "${dir}/sub/x", "text": "2"},
        {"id": "there", "action": "await_file", "path": "${dir}/sub/x", "text": "12", "timeout": 0.1},
        {"id": "fine", "request": {"method": "GET", "path": "/connectors/${p}/config"},
         "expect": {"status": 200, "kind": "json", "content_type": "application/json", "body": {}}},
        {"id": "code", "request": {"method": "GET", "path": "/connectors/none"},
         "expect": {"status": 200, "kind": "json"}},
        {"id": "body", "request": {"method": "GET", "path": "/connectors/${p}"},
         "expect": {"status": 200, "kind": "json",
                    "body": {"name": "${p}x", "config": {}, "tasks": [], "type": "source"}}},
        {"id": "never", "request": {"method": "GET", "path": "/connectors/a/status"},
         "until": {"status": 200, "where": [["tasks.*.state", "eq", "RUNNING"]], "timeout": 0.3},
         "expect": {"status": 200, "kind": "json"}},
        {"id": "unreached", "action": "await_file", "path": "${dir}/none", "text": ""}
    ]}"#;
    std::fs::write(&file, scenario).unwrap();
    let failure =
        run_scenario(&format!("http://{}", server.address), workdir.path(), &file).await.unwrap_err().to_string();
    let lines: Vec<_> = failure.lines().collect();
    let parts = [
        "wrong / code: status: expected 200, got 404",
        "wrong / body: body.name: expected \"${p}x\", got \"${p}\"",
        "wrong / never: the condition was not met within 0.3 s",
        "wrong / unreached: not run",
    ];
    assert_eq!(lines.len(), parts.len(), "{failure}");
    for (line, part) in lines.iter().zip(parts) {
        assert!(line.starts_with(part), "{part:?} is not in {failure}");
    }
}

#[test]
fn every_scenario_can_be_read() {
    for file in files() {
        runner::Scenario::read(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}
