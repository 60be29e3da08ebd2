//! Starts that a standalone worker has to refuse: exit code 1, a sentence that names what is wrong, and nothing left running.

use std::fs;
use std::time::Duration;

use connect_node::plugins::Registry;
use connect_node::standalone::start;

use super::{SINK, SOURCE, append, lines_worker, output};
use crate::support::process::{PATIENCE, Worker, holds_within};
use crate::support::{faulty, unique};

const REFUSAL: Duration = Duration::from_secs(30);

async fn refuses(worker: &mut Worker, words: &[&str]) {
    worker.start();
    let status = worker.exit(REFUSAL).await;
    assert_eq!(status.code(), Some(1), "{}", worker.log_tail());
    let log = worker.log();
    // It may have several lines: one for each setting that is wrong.
    let sentence = log.rsplit_once("\nconnect-node: ").or_else(|| log.split_once("connect-node: "));
    let (_, sentence) = sentence.unwrap_or_else(|| panic!("no sentence\n{}", worker.log_tail()));
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in {sentence:?}");
    }
}

#[tokio::test]
async fn a_broken_offset_file_is_refused_and_not_touched() {
    let golden = include_bytes!("../../golden/offset-files/java-worker.offsets");
    let mut flipped = golden.to_vec();
    flipped[9] ^= 0x20;
    for broken in [&golden[..golden.len() - 1], b"{}", &flipped] {
        let mut worker = lines_worker("memory:standalone", "lines", &[]);
        fs::write(worker.offset_file(), broken).unwrap();
        let file = worker.offset_file().display().to_string();
        refuses(&mut worker, &[&file, "broken", "byte"]).await;
        assert_eq!(fs::read(worker.offset_file()).unwrap(), broken);
    }
}

#[tokio::test]
async fn an_empty_offset_file_holds_no_offsets() {
    let mut worker = lines_worker("memory:standalone", "lines", &[]);
    fs::write(worker.offset_file(), "").unwrap();
    worker.start();
    append(&worker, "one\n");
    worker.eventually("a line has arrived", async || output(&worker) == "one\n").await;
}

#[tokio::test]
async fn a_second_process_with_the_same_offset_file_is_refused() {
    let mut first = lines_worker("memory:standalone", "lines", &[]);
    first.start();
    first.ready().await;
    let file = first.offset_file().display().to_string();
    let mut second = lines_worker("memory:standalone", "lines", &[]);
    let text = fs::read_to_string(second.properties()).unwrap();
    fs::write(second.properties(), format!("{text}offset.storage.file.filename={file}\n")).unwrap();
    refuses(&mut second, &[&file, "another process", "offset.storage.file.filename"]).await;
    first.kill().await;
    // A lock of the dead holds nobody up.
    second.start();
    second.ready().await;
}

#[tokio::test]
async fn settings_without_an_offset_file_are_refused() {
    let mut worker = Worker::standalone("memory:standalone", &[]);
    let text = fs::read_to_string(worker.properties()).unwrap();
    fs::write(worker.properties(), text.replace("offset.storage.file.filename", "offset.storage.x")).unwrap();
    refuses(&mut worker, &["offset.storage.file.filename", "not set"]).await;
}

#[tokio::test]
async fn one_broken_connector_file_stops_the_start() {
    for (name, content, words) in [
        ("bad.json", "{\"name\":\"x\",", &["bad.json", "JSON"][..]),
        ("nameless.properties", "connector.class=FileStreamSink\n", &["nameless.properties", "name is missing"]),
        ("twice.properties", &format!("name={SINK}\n"), &["twice.properties", "sink.json", SINK]),
        ("classless.properties", "name=x\n", &["classless.properties", "connector.class"]),
        ("unknown.json", r#"{"name":"x","connector.class":"no.such.Class"}"#, &["unknown.json", "no.such.Class"]),
        ("invalid.json", r#"{"name":"x","connector.class":"FileStreamSource"}"#, &["invalid.json", "topic"]),
    ] {
        let mut worker = lines_worker("memory:standalone", "lines", &[]);
        worker.with_connector(name, content);
        refuses(&mut worker, words).await;
    }
    let mut worker = lines_worker("memory:standalone", "lines", &[]);
    fs::remove_file(worker.directory().join("source.properties")).unwrap();
    refuses(&mut worker, &["source.properties", "No such file"]).await;
}

/// Settings that are good, and a connector that fails all the same when it is started: Java ends as well.
#[tokio::test]
async fn a_connector_that_fails_at_its_start_ends_the_worker() {
    for kind in ["error", "panic"] {
        let worker = Worker::standalone("memory:standalone", &[]);
        let file = worker.directory().join("faulty.properties");
        let settings = [("name", &*unique("faulty")), ("connector.class", faulty::SOURCE), ("fault.kind", kind)];
        let text: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(&file, text + "fault.phase=connector.start\n").unwrap();
        let plugins = Registry::built_in().iter().copied().chain(faulty::plugins()).collect();
        let (node, connectors) = start(&worker.properties(), &[file], Registry::new(plugins)).unwrap();
        assert!(holds_within(PATIENCE, async || !node.is_running()).await, "{kind}: the worker ends");
        node.wait().unwrap();
        let error = format!("{:#}", connectors.outcome().unwrap_err());
        assert!(error.contains("faulty.properties") && error.contains("connector.start"), "{error}");
    }
}

/// A signal before the brokers have answered ends it in order.
#[tokio::test]
async fn a_signal_ends_a_worker_that_waits_for_kafka() {
    let mut worker = lines_worker("127.0.0.1:1", "lines", &[]);
    worker.start();
    let answers = async || worker.call("GET", "/health", None).await.is_ok_and(|reply| reply.status == 503);
    worker.eventually("it waits", answers).await;
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    assert!(tokio::time::timeout(PATIENCE, worker.states(SOURCE)).await.is_ok_and(|states| states.is_empty()));
}
