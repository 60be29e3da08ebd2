//! An upstream that forgets what was committed, and a worker that is killed between write, acknowledgement and commit.

use std::fs;
use std::time::{Duration, Instant};

use connect_node::backend::NewTopic;
use connect_node::config::WorkerConfig;
use connect_node::node::Node;
use connect_node::plugins::Registry;

use super::oracle::{Kill, SourceOffset, Tail, backend, check_topic};
use super::transfer::random;
use crate::support::faulty;
use crate::support::process::{PROPERTIES_VARIABLE, Worker, random_moment};
use crate::support::{broker, unique};

/// How often the worker is killed.
const KILLS: usize = 10;
/// Records that a life writes at least before it may be killed, and the most that it waits for.
const RECORDS_OF_A_LIFE: std::ops::Range<usize> = 1..4000;
/// A kill comes within this time after the records were seen: in all phases of a commit.
const COMMIT: Duration = Duration::from_millis(60);
/// Between two commits: as often as possible, since each is a chance to forget too much.
const COMMIT_MS: &str = "20";
/// Records a second, so that each life meets several commits.
const RATE: &str = "20000";
const BATCH: &str = "100";
const SOURCE: &str = "pruning-source";

/// Not a test of its own: what the child process of the test below runs. Without the variable there is nothing to do.
#[test]
pub fn worker_with_test_plugins() {
    let Some(properties) = std::env::var_os(PROPERTIES_VARIABLE) else { return };
    let config = WorkerConfig::read(properties.as_ref()).unwrap();
    let plugins = Registry::built_in().iter().cloned().chain(faulty::plugins()).collect();
    let registry = Registry::new(plugins);
    connect_node::logging::init(Some("info")).unwrap();
    Node::start(config, registry).unwrap().run_until_signal().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruning_upstream_shows_no_gap() {
    let (mut random, began) = (random("pruning upstream"), Instant::now());
    let bootstrap = broker().await.bootstrap();
    let (backend, topic) = (backend(bootstrap), unique("pruned"));
    let new = NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, config: Default::default() };
    backend.admin().create_topic(&new).await.unwrap();
    let test = concat!(module_path!(), "::worker_with_test_plugins").split_once("::").unwrap().1;
    let mut worker = Worker::of_this_binary(bootstrap, &[("offset.flush.interval.ms", COMMIT_MS)], test);
    let upstream = worker.directory().join("upstream");
    fs::create_dir(&upstream).unwrap();
    let upstream_text = upstream.display().to_string();
    worker.start();
    worker.ready().await;
    let config = [
        ("connector.class", faulty::SOURCE),
        ("value.converter", faulty::CONVERTER),
        ("topic", &topic),
        ("upstream.dir", &upstream_text),
        ("source.batch", BATCH),
        ("source.rate", RATE),
    ];
    worker.put(SOURCE, &config).await;
    let mut committed = SourceOffset::new(&backend, &worker, SOURCE, "seq");
    let (mut tail, mut numbers, mut kills) = (Tail::new(&backend, &topic, 1), Vec::new(), Vec::new());
    let mut forgotten = 0;
    for kill in 0..KILLS {
        if kill > 0 {
            worker.start();
        }
        let wanted = numbers.len() + random.usize(RECORDS_OF_A_LIFE);
        let deadline = Instant::now() + crate::support::process::PATIENCE;
        while numbers.len() < wanted {
            assert!(Instant::now() < deadline, "no progress in life {kill}\n{}", worker.log_tail());
            tail.read(|record| numbers.push(sequence(record.value.as_deref().unwrap()))).await;
        }
        random_moment(COMMIT.mul_f64(random.f64())).await;
        worker.kill().await;
        // The upstream first: what it has forgotten must be durable now, and not only soon.
        forgotten = pruned(&upstream);
        let committed = committed.read().await as usize;
        tail.read(|record| numbers.push(sequence(record.value.as_deref().unwrap()))).await;
        let written = numbers.iter().max().map_or(0, |last| last + 1);
        assert!(forgotten <= committed, "{forgotten} records are forgotten and only {committed} committed");
        assert!(committed <= written, "{committed} records are committed and only {written} written");
        kills.push(Kill { committed, topic: numbers.len(), ..Kill::default() });
    }
    assert!(forgotten > 0, "the upstream never forgot anything: the test shows nothing");
    // Not the largest one: the last life may have been killed while it still repeated what the one before had written.
    let total = numbers.last().unwrap() + 1;
    let again = check_topic(&numbers, total, &kills);
    println!(
        "pruning upstream: {total} records, {KILLS} kills, {:.1} s; no gap; {forgotten} forgotten; again {again}",
        began.elapsed().as_secs_f64()
    );
}

/// How far the upstream has forgotten.
fn pruned(directory: &std::path::Path) -> usize {
    match fs::read_to_string(directory.join(format!("{SOURCE}-0"))) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 0,
    }
}

/// `seq=N task=0`, as the converter of the tests writes it.
fn sequence(value: &[u8]) -> usize {
    let text = String::from_utf8_lossy(value);
    let number = text.strip_prefix("seq=").and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no record of this test: {text}"))
}
