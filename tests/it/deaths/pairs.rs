//! Files that go through topics into files, by several workers: what is lost, repeated and out of order in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use connect_node::backend::{NewTopic, TopicPartition};

use crate::kills::oracle::{Kill, LINE_BYTES, SourceOffset, Tail, backend, line, number};
use crate::support::group::{Group, Lines, Places, id};
use crate::support::process::Worker;

/// Sources, and as many sinks that read what these write.
pub const PAIRS: usize = 3;
/// Connectors and tasks of all of them.
pub const UNITS: usize = 4 * PAIRS;

/// A group at work.
pub struct Pairs {
    pub group: Group,
    pub lines: Lines,
}

/// What a pair has written.
pub struct Written {
    /// The numbers of the lines in the topic.
    pub topic: Vec<usize>,
    /// What is in the sink's file.
    pub file: Vec<u8>,
}

pub fn source(pair: usize) -> String {
    format!("source-{pair}")
}

pub fn sink(pair: usize) -> String {
    format!("sink-{pair}")
}

impl Pairs {
    /// Makes the connectors and waits until all run.
    pub async fn start(group: Group) -> (Pairs, Places) {
        let admin = backend(&group.bootstrap).admin();
        for pair in 0..PAIRS {
            let topic = group.topic_of(&source(pair));
            let of_one_partition =
                NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, config: Default::default() };
            admin.create_topic(&of_one_partition).await.unwrap();
            group.source(pair, &source(pair)).await;
            let file = group.file(&sink(pair));
            fs::write(&file, "").unwrap();
            let file = file.display().to_string();
            let config = [("connector.class", "FileStreamSink"), ("file", &*file), ("topics", &*topic)];
            group.workers[pair].put(&sink(pair), &config).await;
        }
        let lines = Lines::of((0..PAIRS).map(|pair| group.file(&source(pair))).collect(), line);
        let pairs = Pairs { group, lines };
        let all = pairs.group.all();
        pairs.group.settled(0, UNITS, &all).await;
        pairs.flows(0, 0..PAIRS).await;
        let places = pairs.group.settled(0, UNITS, &all).await;
        (pairs, places)
    }

    /// Where the sink of a pair writes.
    fn output(&self, pair: usize) -> PathBuf {
        self.group.file(&sink(pair))
    }

    /// Bytes that the sink of a pair has written.
    pub fn length(&self, pair: usize) -> usize {
        fs::metadata(self.output(pair)).unwrap().len() as usize
    }

    /// Waits until lines that were not made yet have gone through these pairs.
    pub async fn flows(&self, at: usize, pairs: impl IntoIterator<Item = usize>) {
        self.reaches(at, self.lines.begun(), pairs).await;
    }

    /// Waits until this line, or a later one, has gone through these pairs.
    pub async fn reaches(&self, at: usize, next: usize, pairs: impl IntoIterator<Item = usize>) {
        for pair in pairs {
            let what = format!("line {next} is in the file of {}", sink(pair));
            self.group.workers[at].eventually(&what, async || self.ends_behind(pair, next)).await;
        }
    }

    fn ends_behind(&self, pair: usize, least: usize) -> bool {
        // Lines of one length; that a kill broke one off does not matter here.
        let text = fs::read(self.output(pair)).unwrap();
        text.split(|byte| *byte == b'\n').rev().take(3).any(|last| is_whole(last) && number(last) >= least)
    }

    /// What is durable now of a pair.
    pub async fn look(&self, pair: usize) -> Kill {
        let (backend, topic) = (backend(&self.group.bootstrap), self.group.topic_of(&source(pair)));
        let mut offset = SourceOffset::new(&backend, &self.group.workers[0], &source(pair), "position");
        let committed = offset.read().await as usize / LINE_BYTES;
        let (mut length, mut tail) = (0, Tail::new(&backend, &topic, 1));
        tail.read(|_| length += 1).await;
        let offsets = backend.committed_offsets();
        let group = offsets.committed(&format!("connect-{}", sink(pair)), &[TopicPartition::new(&*topic, 0)]).await;
        Kill { committed, topic: length, file: 0, group: group.unwrap()[0].unwrap_or(0) as usize }
    }

    /// Ends the lines, and waits until each is in its topic and file: none is lost. How many there are, and what was written.
    pub async fn finish(self, at: usize) -> (usize, Vec<Written>) {
        let Pairs { group, lines } = self;
        let count = lines.end().await;
        let mut written = Vec::new();
        for pair in 0..PAIRS {
            let topic = topic_of(&group, at, pair, count).await;
            let path = group.file(&sink(pair));
            let mut file = Vec::new();
            let has_all = async || {
                file = fs::read(&path).unwrap();
                numbers(&file).into_iter().collect::<BTreeSet<_>>().len() == count
            };
            group.workers[at].eventually(&format!("{count} lines in the file of {}", sink(pair)), has_all).await;
            written.push(Written { topic, file });
        }
        (count, written)
    }
}

async fn topic_of(group: &Group, at: usize, pair: usize, count: usize) -> Vec<usize> {
    let mut tail = Tail::new(&backend(&group.bootstrap), &group.topic_of(&source(pair)), 1);
    let mut found = Vec::new();
    let has_all = async || {
        tail.read(|record| found.push(number(record.value.as_deref().unwrap()))).await;
        found.iter().collect::<BTreeSet<_>>().len() == count
    };
    group.workers[at].eventually(&format!("{count} lines in the topic of {}", source(pair)), has_all).await;
    found
}

fn is_whole(line: &[u8]) -> bool {
    line.len() == LINE_BYTES - 1
}

/// The lines of a file, but for what a kill broke off.
pub fn numbers(file: &[u8]) -> Vec<usize> {
    file.split(|byte| *byte == b'\n').filter(|line| is_whole(line)).map(number).collect()
}

/// Checks that there is one runner: who takes over begins with lines that were made before, so every later one is there once and in order.
/// Returns how many came again.
pub fn check_one_runner(what: &str, numbers: &[usize], taken_over_at: usize) -> usize {
    let later: Vec<usize> = numbers.iter().copied().filter(|number| *number >= taken_over_at).collect();
    let odd = later.iter().zip(taken_over_at..).find(|(found, expected)| *found != expected);
    assert_eq!(odd, None, "{what}: found, expected; all from {taken_over_at} on: {later:?}");
    numbers.len() - numbers.iter().collect::<BTreeSet<_>>().len()
}

/// Checks that what is there again begins no further back than at the last commit, and goes on from there line by line: nobody writes between
/// the lines of another one, and none is missing.
pub fn check_order(what: &str, numbers: &[usize], committed: usize) {
    let (mut expected, mut highest) = (0, None);
    for (at, &number) in numbers.iter().enumerate() {
        let comes_again = highest.is_some_and(|highest| (committed..=highest).contains(&number));
        assert!(
            number == expected || comes_again,
            "{what}: line {at} is {number}, not {expected}; {committed} is committed"
        );
        (expected, highest) = (number + 1, highest.max(Some(number)));
    }
}

/// The pairs whose source, and those whose sink, has its task at a worker.
pub fn held_by(worker: &Worker, places: &Places) -> (Vec<usize>, Vec<usize>) {
    let at = |name: String| places[&format!("{name}/0")].0 == id(worker);
    ((0..PAIRS).filter(|pair| at(source(*pair))).collect(), (0..PAIRS).filter(|pair| at(sink(*pair))).collect())
}

/// The worker with tasks of both kinds, or else with a task.
pub fn busiest(group: &Group, places: &Places) -> usize {
    let kinds = |at: &usize| {
        let (sources, sinks) = held_by(&group.workers[*at], places);
        (usize::from(!sources.is_empty()) + usize::from(!sinks.is_empty()), sources.len() + sinks.len())
    };
    (0..group.workers.len()).max_by_key(kinds).expect("there are workers")
}

#[test]
fn lines_out_of_order_are_found() {
    for right in [&[0, 1, 2][..], &[0, 1, 2, 1, 2, 3], &[0, 1, 2, 3, 2, 3, 1, 2, 3, 4]] {
        check_order("again from the last commit on", right, 1);
    }
    for odd in [&[0, 1, 2, 0, 1, 2, 3][..], &[0, 1, 3], &[0, 1, 2, 3, 1, 4], &[1, 2]] {
        let check = || check_order("odd", odd, 1);
        assert!(std::panic::catch_unwind(check).is_err(), "{odd:?}");
    }
}

#[test]
fn a_second_runner_is_found() {
    assert_eq!(check_one_runner("behind the last commit", &[0, 1, 2, 3, 2, 3, 4, 5], 4), 2);
    // What was on the wire when it was frozen.
    assert_eq!(check_one_runner("late", &[0, 1, 2, 1, 2, 3, 4, 3, 5], 4), 3);
    for odd in [&[0, 1, 2, 3, 4, 4, 5][..], &[0, 1, 3, 2], &[0, 1, 2, 3, 5]] {
        let check = || check_one_runner("odd", odd, 2);
        assert!(std::panic::catch_unwind(check).is_err(), "{odd:?}");
    }
}
