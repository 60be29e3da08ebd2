//! The embedded backend as a process sees it: kills, a second process, a look from the terminal, the quickstart. What a disk does to it is tested
//! beside the code.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connect_node::backend::{
    Ack, Backend, BackendError, ClientSettings, Isolation, ProducerRecord, ReadBatch, StartOffset, TopicPartition,
    embedded,
};

use crate::support::process::{binary, free_port, holds_within, random_moment};

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "killed";
/// Names the directory to a child.
const DIRECTORY: &str = "CONNECT_NODE_TEST_EMBEDDED_DIRECTORY";
/// How often a child is killed.
const KILLS: usize = 12;
/// Records of one `send` of a child.
const BATCH: usize = 500;

fn child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::the_child_that_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does nothing by itself. As a child it appends numbers where it finds the topic's end, and says which of them are acknowledged.
#[tokio::test]
async fn the_child_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let backend = embedded::open(Path::new(&directory)).unwrap();
    let mut next = read_all(&backend).await.len();
    let writer = backend.writer(&ClientSettings::new(), 1 << 20).unwrap();
    let mut acks = Vec::new();
    loop {
        let value = |number: usize| Some(Bytes::from(format!("{number:0100}")));
        let record = |number| ProducerRecord { key: None, ..ProducerRecord::keyed(TOPIC, "", value(number)) };
        let records: Vec<_> = (next..next + BATCH).map(record).collect();
        next += writer.send(&records).unwrap();
        tokio::time::timeout(PATIENCE, writer.changed()).await.unwrap();
        writer.take_acks(&mut acks);
        for ack in acks.drain(..) {
            let Ack::Delivered { count, offset, .. } = ack else { panic!("{ack:?}") };
            println!("acknowledged {}", offset + count as i64);
            std::io::stdout().flush().unwrap();
        }
    }
}

async fn read_all(backend: &Arc<dyn Backend>) -> Vec<(i64, usize)> {
    if backend.admin().describe_topic(TOPIC).await.unwrap().is_none() {
        return Vec::new();
    }
    let at = TopicPartition::new(TOPIC, 0);
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(at.clone(), StartOffset::Beginning)]).unwrap();
    let end = reader.end_offsets(std::slice::from_ref(&at), PATIENCE).await.unwrap()[0];
    let (mut batch, mut all) = (ReadBatch::default(), Vec::new());
    while reader.position(&at) < Some(end) {
        reader.read(&mut batch, 10_000, PATIENCE).await.unwrap();
        all.extend(batch.records.iter().map(|record| {
            let text = String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned();
            (record.offset, text.parse().unwrap())
        }));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kills_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..KILLS {
        let mut child = child(directory.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed while it appends, after a random number of acknowledgements; those that it said until it was dead count, too.
        let mut left = fastrand::usize(1..40);
        for line in lines {
            let Some(count) = line.unwrap().strip_prefix("acknowledged ").map(|count| count.parse::<usize>().unwrap())
            else {
                continue;
            };
            acknowledged = count;
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let backend = embedded::open(directory.path()).unwrap();
        let found = read_all(&backend).await;
        assert!(found.len() >= acknowledged && acknowledged > 0, "round {round}: {} of {acknowledged}", found.len());
        assert!(found.iter().enumerate().all(|(at, found)| *found == (at as i64, at)), "round {round}: out of order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = child(directory.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("acknowledged")), "the child appends nothing");
    let error = embedded::open(directory.path()).err().expect("the child holds it");
    child.kill().unwrap();
    child.wait().unwrap();
    let text = error.to_string();
    assert!(matches!(error, BackendError::Refused(_)) && text.contains(&format!("process {}", child.id())), "{text}");
    assert!(text.contains(&directory.path().canonicalize().unwrap().display().to_string()), "{text}");
    embedded::open(directory.path()).unwrap();
}

#[tokio::test]
async fn one_process_shares_a_directory_and_gives_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (embedded::open(directory.path()).unwrap(), embedded::open(&directory.path().join(".")).unwrap());
    let writer = one.writer(&ClientSettings::new(), 1000).unwrap();
    writer.send(&[ProducerRecord::keyed(TOPIC, "k", Some(Bytes::from_static(b"7")))]).unwrap();
    writer.flush(PATIENCE).await.unwrap();
    assert_eq!(read_all(&two).await, [(0, 7)]);
    drop((one, two));
    // A handle keeps it open.
    assert_eq!(read_all(&embedded::open(directory.path()).unwrap()).await, [(0, 7)]);
    drop(writer);
    assert_eq!(read_all(&embedded::open(directory.path()).unwrap()).await, [(0, 7)]);
}

/// `connect-node topics` over a directory.
fn start_topics(directory: &Path, arguments: &[&str]) -> Child {
    let servers = format!("embedded:{}", directory.display());
    let mut command = Command::new(binary());
    command.args(["topics", "--bootstrap-servers", &servers]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The same to its end, with `input` on its standard input.
fn topics(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = start_topics(directory, arguments);
    // One that refuses does not read it.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn topics_are_listed_written_and_read() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("data");
    let refused = topics(&directory, &["ls"], "");
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && reason.contains("there is no store at embedded:"), "{reason}");
    assert!(!directory.exists(), "who only looks makes no directory");
    said(&topics(&directory, &["produce", "lines"], "one\ntwo\n\nlast"));
    assert_eq!(said(&topics(&directory, &["ls"], "")), "lines\t1\n");
    assert_eq!(said(&topics(&directory, &["tail", "lines", "--once"], "")), "");
    let all = topics(&directory, &["tail", "lines", "--once", "--from-beginning", "--keys"], "");
    assert_eq!(said(&all), "null\tone\nnull\ttwo\nnull\t\nnull\tlast\n");
    let missing = topics(&directory, &["tail", "missing"], "");
    assert!(
        !missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("there is no topic missing")
    );
}

/// It would hold the directory and keep the worker away that writes what it waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_in_a_directory_for_what_nobody_can_write() {
    let directory = tempfile::tempdir().unwrap();
    said(&topics(directory.path(), &["produce", "lines"], "one\ntwo\n"));
    let mut child = start_topics(directory.path(), &["tail", "lines", "--from-beginning"]);
    let ended = holds_within(PATIENCE, async || child.try_wait().unwrap().is_some()).await;
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(ended, "it waits for more");
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(why.contains("as with --once"), "{why}");
    assert_eq!(said(&output), "one\ntwo\n");
}

#[test]
fn a_line_that_is_refused_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let large = "x".repeat(2 << 20);
    let refused = topics(directory.path(), &["produce", "lines"], &format!("one\n{large}\nthree\n"));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("line 2 was not stored"), "{why}");
    assert_eq!(said(&topics(directory.path(), &["tail", "lines", "--once", "--from-beginning"], "")), "one\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_goes_on_after_kills() {
    const LINES: usize = 30_000;
    let root = tempfile::tempdir().unwrap();
    let (input, output) = (root.path().join("input.txt"), root.path().join("output.txt"));
    let (lines, port) = (LINES.to_string(), free_port().to_string());
    let start = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["quickstart", "--lines", &lines, "--port", &port, "--directory"]).arg(root.path()).args(more);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    for _ in 0..3 {
        let mut child = start(&[]);
        let before = std::fs::metadata(&output).map_or(0, |found| found.len());
        random_moment(Duration::from_millis(fastrand::u64(..1500))).await;
        let more = async || std::fs::metadata(&output).is_ok_and(|found| found.len() > 0 && found.len() >= before);
        let came = holds_within(PATIENCE, more).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(came, "no line arrived");
    }
    let mut child = start(&["--once"]);
    let ended = holds_within(PATIENCE, async || child.try_wait().unwrap().is_some()).await;
    if !ended {
        child.kill().unwrap();
    }
    assert!(child.wait().unwrap().success(), "not all lines arrived");
    let (sent, arrived) = (std::fs::read_to_string(&input).unwrap(), std::fs::read_to_string(&output).unwrap());
    let arrived: std::collections::HashSet<&str> = arrived.lines().collect();
    assert_eq!(sent.lines().count(), LINES);
    assert_eq!(sent.lines().filter(|line| !arrived.contains(line)).count(), 0, "lines are lost");
}

#[tokio::test]
async fn the_quickstart_leaves_a_file_of_somebody_else_alone() {
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("output.txt");
    std::fs::write(&output, "mine").unwrap();
    let mut command = Command::new(binary());
    let refused = command.args(["quickstart", "--port", "0", "--directory"]).arg(root.path()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("output.txt") && said.contains("--directory"), "{said}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing was made");
}
