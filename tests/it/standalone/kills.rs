//! A standalone worker that is killed: nothing is lost, the offset file is whole after each kill and never ahead of the topic.

use std::fs;
use std::time::{Duration, Instant};

use connect_node::backend::{NewTopic, TopicPartition};

use super::{SINK, append, lines_worker, stored_position};
use crate::kills::oracle::{Kill, LINE_BYTES, Tail, backend, check_file, check_topic, line, number};
use crate::support::process::{PATIENCE, holds_within, random_moment};
use crate::support::{broker, unique};

const LINES: usize = 200_000;
const KILLS: usize = 10;
/// A kill comes within this time after some lines of its life have arrived.
const BATCH: Duration = Duration::from_millis(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_standalone_worker_is_killed() {
    let seed = std::env::var("CONNECT_NODE_KILL_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("standalone kills: CONNECT_NODE_KILL_SEED={seed}");
    let (mut random, began) = (fastrand::Rng::with_seed(seed), Instant::now());
    let bootstrap = broker().await.bootstrap();
    let (backend, topic) = (backend(bootstrap), unique("standalone-lines"));
    let new = NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, config: Default::default() };
    backend.admin().create_topic(&new).await.unwrap();
    let mut worker = lines_worker(bootstrap, &topic, &[("offset.flush.interval.ms", "20")]);
    let (file, output) = (worker.offset_file(), worker.directory().join("output"));
    let written = || fs::metadata(&output).unwrap().len() as usize;
    let (mut tail, mut numbers, mut appended) = (Tail::new(&backend, &topic, 1), Vec::new(), 0);
    let (group, partition) = (format!("connect-{SINK}"), [TopicPartition::new(&*topic, 0)]);
    let mut look = async |numbers: &mut Vec<usize>| {
        // In this order: what is committed must be in the topic and in the file.
        let position = stored_position(&file).await.unwrap_or(0) as usize;
        let group = backend.committed_offsets().committed(&group, &partition).await.unwrap()[0].unwrap_or(0);
        tail.read(|record| numbers.push(number(record.value.as_deref().unwrap()))).await;
        assert_eq!(position % LINE_BYTES, 0, "the position {position} is within a line");
        let committed = position / LINE_BYTES;
        assert!(committed == 0 || numbers.contains(&(committed - 1)), "{committed} is stored and not in the topic");
        Kill { committed, topic: numbers.len(), file: written(), group: group as usize }
    };
    let mut kills: Vec<Kill> = Vec::new();
    for life in 1..=KILLS {
        let before = written();
        let upto = LINES * life / (KILLS + 1);
        append(&worker, &(appended..upto).map(line).collect::<String>());
        appended = upto;
        worker.start();
        // At least as many bytes as were appended just now are still to be written, whatever came again.
        let some = before + ((LINES / (KILLS + 1)) as f64 * random.f64()) as usize * LINE_BYTES;
        worker.eventually("some lines have arrived", async || written() >= some).await;
        random_moment(BATCH.mul_f64(random.f64())).await;
        worker.kill().await;
        let seen = look(&mut numbers).await;
        println!("kill {life}: {} lines in the file, {seen:?}", seen.file / LINE_BYTES);
        assert!(kills.last().is_none_or(|last| last.committed <= seen.committed), "the offset file went back");
        kills.push(seen);
    }
    append(&worker, &(appended..LINES).map(line).collect::<String>());
    worker.start();
    let mut seen = look(&mut numbers).await;
    let through = holds_within(PATIENCE, async || {
        seen = look(&mut numbers).await;
        seen.committed == LINES && seen.group == seen.topic
    });
    assert!(through.await, "not all is committed: {seen:?}\n{}", worker.log_tail());
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    let end = look(&mut numbers).await;
    assert_eq!((end.committed, end.group), (LINES, numbers.len()), "an end commits everything");
    let in_topic = check_topic(&numbers, LINES, &kills);
    let in_file = check_file(&fs::read(&output).unwrap(), &numbers, &kills);
    println!(
        "standalone kills: {LINES} lines, {KILLS} kills, {:.1} s; none lost; again in the topic {in_topic}, in the file {in_file}",
        began.elapsed().as_secs_f64()
    );
}
