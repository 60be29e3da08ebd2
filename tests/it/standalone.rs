//! The worker without a group: its connector files, its offset file, and the Java worker that reads and writes the same one.

mod kills;
mod refusals;
mod scripts;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use connect_api::{FieldMap, SourceOffset, SourcePartition};
use connect_node::storage::offset_file::FileOffsetStore;
use connect_node::storage::offset_store::OffsetStore;
use serde_json::json;

use crate::support::broker::Broker;
use crate::support::process::{PATIENCE, Worker};
use crate::support::{broker, kafka_lib, unique};

pub const SOURCE: &str = "lines-source";
pub const SINK: &str = "lines-sink";

/// A worker with a file source and a file sink, not started, and with nothing to read yet.
pub fn lines_worker(bootstrap: &str, topic: &str, settings: &[(&str, &str)]) -> Worker {
    let mut worker = Worker::standalone(bootstrap, settings);
    let input = worker.directory().join("input").display().to_string();
    let output = worker.directory().join("output").display().to_string();
    fs::write(&input, "").unwrap();
    fs::write(&output, "").unwrap();
    let source = format!("name={SOURCE}\nconnector.class=FileStreamSource\nfile={input}\ntopic={topic}\n");
    worker.with_connector("source.properties", &source);
    let sink = json!({"name": SINK, "config": {"connector.class": "FileStreamSink", "file": output, "topics": topic}});
    worker.with_connector("sink.json", &sink.to_string());
    worker
}

pub fn append(worker: &Worker, text: &str) {
    let input = worker.directory().join("input");
    File::options().append(true).open(input).unwrap().write_all(text.as_bytes()).unwrap();
}

pub fn output(worker: &Worker) -> String {
    fs::read_to_string(worker.directory().join("output")).unwrap()
}

/// What a copy of the offset file has of a connector, as another worker would read it.
async fn stored(file: &Path, connector: &str) -> Vec<(SourcePartition, SourceOffset)> {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    if file.exists() {
        fs::copy(file, &copy).unwrap();
    }
    FileOffsetStore::open(&copy).unwrap().all(connector).await.unwrap()
}

/// The position of the file source.
pub async fn stored_position(file: &Path) -> Option<i64> {
    let offsets = stored(file, SOURCE).await;
    assert!(offsets.len() <= 1, "{offsets:?}");
    offsets.first().and_then(|(_, offset)| offset.get("position")?.as_i64())
}

/// Offsets of another connector in the file: more than the least capacity of a Java map.
const OTHERS: i64 = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_java_worker_goes_on_with_the_offset_file_and_gives_it_back() {
    let topic = unique("java-and-back");
    let mut worker = lines_worker(broker().await.bootstrap(), &topic, &[("offset.flush.interval.ms", "200")]);
    let others: Vec<(SourcePartition, Option<SourceOffset>)> = (0..OTHERS)
        .map(|shard| {
            (Arc::new(FieldMap::new().with("shard", shard)), Some(Arc::new(FieldMap::new().with("n", -shard))))
        })
        .collect();
    let elsewhere = worker.directory().join("elsewhere");
    FileOffsetStore::open(&elsewhere).unwrap().write("others", &others, PATIENCE).await.unwrap();
    fs::copy(elsewhere, worker.offset_file()).unwrap();
    let binary = env!("CARGO_BIN_EXE_connect-node");
    let jars = tokio::task::spawn_blocking(kafka_lib::jars).await.unwrap().unwrap();
    let class_path = format!("{}/*", jars.display());
    let java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &class_path];
    let java = [&java[..], &["org.apache.kafka.connect.cli.ConnectStandalone"]].concat();
    let mut wanted = String::new();
    for (round, program) in [&[binary, "standalone"][..], &java, &[binary, "standalone"], &java].into_iter().enumerate()
    {
        worker.become_program(program);
        worker.start();
        let lines = format!("line {round} a\nline {round} b\n");
        append(&worker, &lines);
        wanted.push_str(&lines);
        worker.eventually("all lines have arrived", async || output(&worker).len() >= wanted.len()).await;
        assert_eq!(output(&worker), wanted, "round {round}: lost or twice\n{}", worker.log_tail());
        let status = worker.terminate().await;
        // Java ends with the number of the signal.
        assert!(matches!(status.code(), Some(0 | 143)), "{status}\n{}", worker.log_tail());
        let position = stored_position(&worker.offset_file()).await;
        assert_eq!(position, Some(wanted.len() as i64), "round {round}\n{}", worker.log_tail());
        assert_eq!(stored(&worker.offset_file(), "others").await.len() as i64, OTHERS, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rest_changes_live_until_the_next_start_which_begins_with_the_files() {
    let topic = unique("rest");
    let mut worker = lines_worker("memory:standalone", &topic, &[("offset.flush.interval.ms", "100")]);
    let other = json!({"name": "third", "initial_state": "paused", "config": {
        "connector.class": "FileStreamSink", "file": worker.directory().join("third"), "topics": topic}});
    worker.with_connector("third.json", &other.to_string());
    worker.start();
    worker.ready().await;
    worker.eventually("third is paused", async || worker.states("third").await == ["PAUSED"]).await;
    append(&worker, "one\n");
    worker.eventually("a line has arrived", async || output(&worker) == "one\n").await;
    let root = worker.get("/").await;
    assert!(root.body.json()["kafka_cluster_id"].is_string(), "{root:?}");

    let file = worker.directory().join("fourth").display().to_string();
    worker.put("fourth", &[("connector.class", "FileStreamSink"), ("file", &file), ("topics", &topic)]).await;
    worker.eventually("fourth runs", async || worker.states("fourth").await == ["RUNNING", "RUNNING"]).await;
    let deleted = worker.call("DELETE", "/connectors/third", None).await.unwrap();
    assert_eq!(deleted.status, 204, "{deleted:?}");
    let restarted =
        worker.call("POST", &format!("/connectors/{SOURCE}/restart?includeTasks=true"), None).await.unwrap();
    assert_eq!(restarted.status, 202, "{restarted:?}");
    append(&worker, "two\n");
    worker.eventually("the next line has arrived", async || output(&worker) == "one\ntwo\n").await;
    let names = |reply: crate::scenarios::client::Reply| {
        let mut names: Vec<String> = serde_json::from_value(reply.body.json().clone()).unwrap();
        names.sort();
        names
    };
    assert_eq!(names(worker.get("/connectors").await), ["fourth", SINK, SOURCE]);
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());

    worker.start();
    worker.eventually("third is there again", async || worker.states("third").await == ["PAUSED"]).await;
    assert_eq!(names(worker.get("/connectors").await), [SINK, SOURCE, "third"]);
    // The topic was in memory and is empty; the source goes on behind what it had read.
    append(&worker, "three\n");
    worker.eventually("the third line has arrived", async || output(&worker) == "one\ntwo\nthree\n").await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_cannot_be_written_are_written_later_and_tasks_go_on() {
    let topic = unique("obstacle");
    let mut worker = lines_worker("memory:standalone", &topic, &[("offset.flush.interval.ms", "50")]);
    worker.start();
    append(&worker, "one\n");
    let file = worker.offset_file();
    worker.eventually("offsets are written", async || stored_position(&file).await == Some(4)).await;
    // A directory where the new file is made: what refuses root as well.
    let obstacle = worker.directory().join("connect.offsets.new");
    fs::create_dir(&obstacle).unwrap();
    append(&worker, "two\n");
    worker.eventually("the line has arrived", async || output(&worker) == "one\ntwo\n").await;
    let named = |log: &str| log.contains("offsets were not written") && log.contains("connect.offsets");
    worker.eventually("the log names the file", async || named(&worker.log())).await;
    assert_eq!(worker.states(SOURCE).await, ["RUNNING", "RUNNING"]);
    assert_eq!(stored_position(&file).await, Some(4));
    fs::remove_dir(&obstacle).unwrap();
    worker.eventually("offsets are written again", async || stored_position(&file).await == Some(8)).await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_kafka_is_waited_for() {
    let broker = Broker::start().await;
    let topic = unique("outage");
    let mut worker = lines_worker(broker.bootstrap(), &topic, &[("offset.flush.interval.ms", "100")]);
    worker.start();
    append(&worker, "one\n");
    let file = worker.offset_file();
    worker.eventually("offsets are written", async || stored_position(&file).await == Some(4)).await;
    worker.eventually("a line has arrived", async || output(&worker) == "one\n").await;
    tokio::task::block_in_place(|| broker.stop());
    append(&worker, "two\n");
    let lost = async || worker.log().contains("Connection refused");
    worker.eventually("the worker has noticed", lost).await;
    for name in [SOURCE, SINK] {
        assert_eq!(worker.states(name).await, ["RUNNING", "RUNNING"]);
    }
    assert_eq!(stored_position(&file).await, Some(4), "nothing was acknowledged");
    broker.restart().await;
    worker.eventually("the line has arrived", async || output(&worker) == "one\ntwo\n").await;
    worker.eventually("offsets are written", async || stored_position(&file).await == Some(8)).await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
}

/// The quickstart of Kafka's documentation with a pipe in the place of the terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_becomes_standard_output() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let worker = Worker::standalone("memory:console", &[]);
    let config = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_connect-node"))
        .arg("standalone")
        .arg(worker.properties())
        .args([config("connect-console-source.properties"), config("connect-console-sink.properties")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in ["hello", "Kafka's quickstart"] {
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let read = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line arrives").unwrap();
        assert_eq!(read.as_deref(), Some(line));
    }
    // The end of the input ends nothing, as in Java.
    drop(input);
    let over = tokio::time::timeout(Duration::from_millis(300), child.wait()).await;
    assert!(over.is_err(), "{over:?}");
}
