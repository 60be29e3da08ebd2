//! `bin/`: the command lines of Kafka's scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{append, lines_worker, output};
use crate::support::broker;
use crate::support::process::Worker;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bin").join(name)
}

fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(script(name));
    command.args(arguments).env("CONNECT_NODE_BIN", "/no/such/program").output().unwrap()
}

#[test]
fn wrong_command_lines_are_refused() {
    for (name, arguments, words) in [
        ("connect-standalone.sh", &[][..], "USAGE"),
        ("connect-standalone", &["-daemon"], "connector1.properties"),
        ("connect-distributed.sh", &["a.properties", "b.properties"], "USAGE"),
        ("connect-distributed", &["--help"], "USAGE"),
        ("connect-standalone.sh", &["-x", "a.properties"], "unknown option -x"),
        ("connect-standalone.sh", &["a.properties"], "/no/such/program"),
        ("connect-node.sh", &["a.properties"], "connect-standalone.sh"),
    ] {
        let Output { status, stderr, .. } = run(name, arguments);
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(1), "{name} {arguments:?}: {said}");
        assert!(said.contains(words), "{name} {arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_runs_a_standalone_worker_in_the_foreground() {
    let mut worker = lines_worker("memory:standalone", "lines", &[]);
    // Called through a link, as from /usr/local/bin.
    let link = worker.directory().join("connect-standalone");
    std::os::unix::fs::symlink(script("connect-standalone.sh"), &link).unwrap();
    let program = format!("CONNECT_NODE_BIN={}", env!("CARGO_BIN_EXE_connect-node"));
    worker.become_program(&["env", &program, link.to_str().unwrap(), "-name", "x", "-loggc"]);
    worker.start();
    append(&worker, "one\n");
    worker.eventually("a line has arrived", async || output(&worker) == "one\n").await;
    // The shell has become the worker, so the signal reaches it.
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
}

/// Ends what the script left in the background, also when the test fails.
struct Background(PathBuf);

impl Drop for Background {
    fn drop(&mut self) {
        if let Ok(process) = fs::read_to_string(&self.0) {
            drop(Command::new("kill").args(["-KILL", &process]).status());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_runs_a_standalone_worker_in_the_background() {
    let worker = lines_worker("memory:standalone", "lines", &[]);
    let lock = worker.directory().join("connect.offsets.lock");
    let logs = worker.directory().join("logs");
    let file = |name: &str| worker.directory().join(name);
    let status = Command::new(script("connect-standalone.sh"))
        .args(["-daemon", worker.properties().to_str().unwrap()])
        .args([file("source.properties"), file("sink.json")])
        .env("CONNECT_NODE_BIN", env!("CARGO_BIN_EXE_connect-node"))
        .env("LOG_DIR", &logs)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let background = Background(lock);
    append(&worker, "one\n");
    worker.eventually("a line has arrived", async || output(&worker) == "one\n").await;
    assert!(fs::read_to_string(logs.join("connectStandalone.out")).unwrap().contains("REST API is listening"));
    drop(background);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_runs_a_distributed_worker() {
    let mut worker = Worker::new(broker().await.bootstrap(), &[]);
    let program = format!("CONNECT_NODE_BIN={}", env!("CARGO_BIN_EXE_connect-node"));
    worker.become_program(&["env", &program, script("connect-distributed.sh").to_str().unwrap()]);
    worker.start();
    worker.ready().await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
}

/// Where the checker is installed.
#[test]
fn the_script_has_no_faults_that_shellcheck_knows() {
    let Ok(output) = Command::new("shellcheck").arg(script("connect-node.sh")).output() else {
        println!("shellcheck is not installed: not checked");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
