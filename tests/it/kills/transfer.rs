//! From a file through a topic into a file, by one worker.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connect_node::backend::{Backend, NewTopic, TopicPartition};

use super::oracle::{Kill, LINE_BYTES, SourceOffset, Tail, backend, check_file, check_topic, line, number};
use crate::support::node::{Setup, on_durable};
use crate::support::process::{Worker, random_moment};
use crate::support::unique;

/// Lines of a transfer, so that a debug build takes less than a minute.
const LINES: usize = 200_000;
/// How often a worker is killed during one transfer.
const KILLS: usize = 10;
/// A kill that waits for no progress comes within this time: while the worker starts, claims its tasks, or goes on.
const START: Duration = Duration::from_millis(2500);
/// A kill that has waited for progress comes within this time: in the middle of a batch, a flush, a commit.
const BATCH: Duration = Duration::from_millis(30);
/// Between two commits; short, so that most lives commit and what may come again is little.
const COMMIT_MS: &str = "50";

pub const SOURCE: &str = "lines-source";
pub const SINK: &str = "lines-sink";

/// One transfer: its worker, its files and its topic.
pub struct Transfer {
    pub worker: Worker,
    bootstrap: String,
    pub topic: String,
    pub input: PathBuf,
    pub output: PathBuf,
    /// Lines in the input so far.
    pub appended: usize,
    pub group: String,
    view: Option<View>,
    /// The lines in the topic, as far as they were read.
    pub numbers: Vec<usize>,
}

/// What a transfer sees of its cluster, past the worker.
struct View {
    backend: Arc<dyn Backend>,
    source_offset: SourceOffset,
    tail: Tail,
}

impl Transfer {
    /// A worker that has both connectors, and nothing to read yet.
    pub async fn new(bootstrap: &str) -> Transfer {
        let topic = unique("lines");
        let of_one_partition =
            NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, config: Default::default() };
        backend(bootstrap).admin().create_topic(&of_one_partition).await.unwrap();
        let mut worker = Worker::new(bootstrap, &[("offset.flush.interval.ms", COMMIT_MS)]);
        let (input, output) = (worker.directory().join("input"), worker.directory().join("output"));
        fs::write(&input, "").unwrap();
        fs::write(&output, "").unwrap();
        worker.start();
        worker.ready().await;
        let (input_text, output_text) = (input.display().to_string(), output.display().to_string());
        let source = [("connector.class", "FileStreamSource"), ("file", &input_text), ("topic", &topic)];
        worker.put(SOURCE, &source).await;
        let sink = [("connector.class", "FileStreamSink"), ("file", &output_text), ("topics", &topic)];
        worker.put(SINK, &sink).await;
        let (bootstrap, group) = (bootstrap.to_owned(), format!("connect-{SINK}"));
        Transfer { worker, bootstrap, topic, input, output, appended: 0, group, view: None, numbers: Vec::new() }
    }

    /// Whether it goes through a directory. One process at a time has that: it can be looked at while the worker is down only, and each
    /// time from the beginning.
    fn is_exclusive(&self) -> bool {
        self.bootstrap.starts_with("embedded:")
    }

    fn open_view(&mut self) -> View {
        self.numbers.clear();
        let backend = backend(&self.bootstrap);
        let source_offset = SourceOffset::new(&backend, &self.worker, SOURCE, "position");
        let tail = Tail::new(&backend, &self.topic, 1);
        View { backend, source_offset, tail }
    }

    /// Appends lines to the input until there are `lines`.
    pub fn append_up_to(&mut self, lines: usize) {
        let text: String = (self.appended..lines).map(line).collect();
        File::options().append(true).open(&self.input).unwrap().write_all(text.as_bytes()).unwrap();
        self.appended = lines;
    }

    /// Bytes that the sink has written.
    pub fn written(&self) -> usize {
        fs::metadata(&self.output).unwrap().len() as usize
    }

    /// Waits until the sink has written so many bytes.
    pub async fn written_at_least(&self, bytes: usize) {
        let what = format!("the output has {bytes} bytes");
        self.worker.eventually(&what, async || self.written() >= bytes).await;
    }

    /// What is durable now.
    pub async fn look(&mut self) -> Kill {
        let mut view = match self.view.take() {
            Some(view) => view,
            None => self.open_view(),
        };
        // In this order: what is committed must be in the topic and in the file.
        let position = view.source_offset.read().await as usize;
        assert_eq!(position % LINE_BYTES, 0, "the committed position {position} is within a line");
        let committed = view.backend.committed_offsets();
        let group = committed.committed(&self.group, &[TopicPartition::new(&*self.topic, 0)]).await.unwrap()[0];
        let numbers = &mut self.numbers;
        view.tail.read(|record| numbers.push(number(record.value.as_deref().unwrap()))).await;
        let committed = position / LINE_BYTES;
        if let Some(last) = committed.checked_sub(1) {
            assert!(numbers.contains(&last), "line {last} is committed and not in the topic");
        }
        let topic = numbers.len();
        self.view = Some(view).filter(|_| !self.is_exclusive());
        Kill { committed, topic, file: self.written(), group: group.unwrap_or(0) as usize }
    }

    /// What is durable now, with an orderly end and a new start of the worker where that is needed to see it.
    async fn look_in_between(&mut self) -> Kill {
        if !self.is_exclusive() {
            return self.look().await;
        }
        // A signal that comes before the worker listens for it ends the process.
        self.worker.ready().await;
        assert_eq!(self.worker.terminate().await.code(), Some(0), "{}", self.worker.log_tail());
        let seen = self.look().await;
        self.worker.start();
        self.worker.ready().await;
        seen
    }

    /// Waits until everything is through and committed at both ends.
    pub async fn complete(&mut self) {
        self.written_at_least(self.appended * LINE_BYTES).await;
        let deadline = Instant::now() + crate::support::process::PATIENCE;
        loop {
            let seen = self.look_in_between().await;
            if seen.committed == self.appended && seen.group == seen.topic {
                return;
            }
            assert!(Instant::now() < deadline, "not all is committed: {seen:?}\n{}", self.worker.log_tail());
            if self.is_exclusive() {
                // The source goes on behind what it committed, and the sink behind what its group did: so much is still to be written.
                let lines = self.appended - seen.committed + seen.topic - seen.group;
                self.written_at_least(seen.file + lines * LINE_BYTES).await;
            }
        }
    }

    /// Checks topic and file. Returns how many lines came again in each.
    pub fn check(&self, kills: &[Kill]) -> (usize, usize) {
        let in_topic = check_topic(&self.numbers, self.appended, kills);
        (in_topic, self.check_file(kills))
    }

    fn check_file(&self, kills: &[Kill]) -> usize {
        check_file(&fs::read(&self.output).unwrap(), &self.numbers, kills)
    }

    /// As [`Transfer::check`] without a kill; the topic may repeat up to `allowed` lines.
    pub fn check_repetitions(&self, allowed: usize) -> (usize, usize) {
        let (mut expected, mut again) = (0, 0);
        for &number in &self.numbers {
            assert!(number <= expected, "lost are the lines from {expected} to {number}");
            again += expected - number;
            expected = number + 1;
        }
        assert_eq!(expected, self.appended, "the end is missing");
        assert!(again <= allowed, "{again} lines came again; at most {allowed} can have been on the wire");
        (again, self.check_file(&[]))
    }
}

fn lines() -> usize {
    std::env::var("CONNECT_NODE_KILL_LINES").map_or(LINES, |lines| lines.parse().unwrap())
}

/// Random numbers of one test. The seed is printed.
pub fn random(test: &str) -> fastrand::Rng {
    let seed = std::env::var("CONNECT_NODE_KILL_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{test}: CONNECT_NODE_KILL_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

on_durable!(nothing_is_lost_when_the_worker_is_killed, an_orderly_end_loses_nothing_and_repeats_nothing);

async fn nothing_is_lost_when_the_worker_is_killed(setup: Setup) {
    let mut random = random("kills");
    let (lines, began) = (lines(), Instant::now());
    let mut transfer = Transfer::new(&setup.bootstrap).await;
    let mut kills: Vec<Kill> = Vec::new();
    for life in 1..=KILLS {
        let (before, appended) = (transfer.written(), transfer.appended);
        transfer.append_up_to(lines * life / (KILLS + 1));
        if life > 1 {
            transfer.worker.start();
        }
        if random.u8(..) < 64 {
            random_moment(START.mul_f64(random.f64())).await;
        } else {
            // At least what was appended just now is still to be written, whatever came again.
            let rest = (transfer.appended * LINE_BYTES).saturating_sub(before);
            let rest = rest.max((transfer.appended - appended) * LINE_BYTES);
            transfer.written_at_least(before + (rest as f64 * random.f64()) as usize).await;
            random_moment(BATCH.mul_f64(random.f64())).await;
        }
        transfer.worker.kill().await;
        let seen = transfer.look().await;
        println!("kill {life}: {} lines in the file, {seen:?}", seen.file / LINE_BYTES);
        kills.push(seen);
    }
    transfer.append_up_to(lines);
    transfer.worker.start();
    transfer.complete().await;
    let status = transfer.worker.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", transfer.worker.log_tail());
    transfer.look().await;
    let (in_topic, in_file) = transfer.check(&kills);
    println!(
        "kills: {lines} lines, {KILLS} kills, {:.1} s; none lost; again in the topic {in_topic}, in the file {in_file}",
        began.elapsed().as_secs_f64()
    );
}

async fn an_orderly_end_loses_nothing_and_repeats_nothing(setup: Setup) {
    const ROUNDS: usize = 3;
    let mut random = random("orderly ends");
    let (lines, began) = (lines(), Instant::now());
    let mut transfer = Transfer::new(&setup.bootstrap).await;
    for round in 1..=ROUNDS {
        let before = transfer.written();
        transfer.append_up_to(lines * round / ROUNDS);
        if round > 1 {
            transfer.worker.start();
        }
        let rest = transfer.appended * LINE_BYTES - before;
        transfer.written_at_least(before + (rest as f64 * random.f64()) as usize).await;
        random_moment(BATCH.mul_f64(random.f64())).await;
        let status = transfer.worker.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", transfer.worker.log_tail());
        let seen = transfer.look().await;
        assert_eq!((seen.committed, seen.group), (seen.topic, seen.file / LINE_BYTES), "an end commits everything");
    }
    transfer.worker.start();
    // All may be through already, and a signal that comes before the worker listens for it ends the process.
    transfer.worker.ready().await;
    transfer.complete().await;
    assert_eq!(transfer.worker.terminate().await.code(), Some(0), "{}", transfer.worker.log_tail());
    assert_eq!(transfer.check(&[]), (0, 0));
    println!("orderly ends: {lines} lines, {ROUNDS} rounds, {:.1} s", began.elapsed().as_secs_f64());
}
