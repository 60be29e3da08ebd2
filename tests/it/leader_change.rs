//! A broker dies, and another one leads what it has led: two workers go on with everything, by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kills::oracle::{Tail, backend};
use crate::scenarios::client::call;
use crate::support::broker::Cluster;
use crate::support::process::Worker;
use crate::support::unique;

/// Between two lines of a file.
const LINE_INTERVAL: Duration = Duration::from_millis(10);
/// Connectors that carry lines.
const SOURCES: [&str; 2] = ["lines-0", "lines-1"];
const SINK: &str = "copy";
/// Connectors that get one configuration after the other, through both workers.
const EDITED: [&str; 2] = ["edited-0", "edited-1"];

/// Numbers that are appended to files, a line each time, until it is told to end.
struct Lines {
    end: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Lines {
    fn start(files: Vec<PathBuf>) -> Lines {
        let (end, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ended, counted) = (end.clone(), count.clone());
        let write = async move {
            let open = |file: &PathBuf| File::options().append(true).open(file).unwrap();
            let mut files: Vec<File> = files.iter().map(open).collect();
            let mut interval = tokio::time::interval(LINE_INTERVAL);
            while !ended.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed);
                for (source, file) in files.iter_mut().enumerate() {
                    writeln!(file, "{source} {number}").unwrap();
                }
                counted.store(number + 1, Ordering::Relaxed);
                interval.tick().await;
            }
        };
        Lines { end, count, task: tokio::spawn(write) }
    }

    /// How many each file has.
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    async fn end(self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.count.load(Ordering::Relaxed)
    }
}

/// A configuration that was answered with success.
struct Accepted {
    connector: &'static str,
    salt: String,
    /// Of its record, as the answer says.
    offset: i64,
    at: Instant,
}

/// A client of one worker that gives a connector one configuration after the other.
struct Editor {
    end: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<Vec<Accepted>>,
}

impl Editor {
    fn start(url: String, connector: &'static str) -> Editor {
        let (end, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ended, counted) = (end.clone(), accepted.clone());
        let edit = async move {
            let mut edits = Vec::new();
            for number in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                match put(&url, connector, &format!("{url} {number}")).await {
                    Ok(edit) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        edits.push(edit);
                    }
                    Err(error) => println!("{connector} at {url}: {error}"),
                }
            }
            edits
        };
        Editor { end, accepted, task: tokio::spawn(edit) }
    }

    async fn end(self) -> Vec<Accepted> {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// One configuration with this salt.
async fn put(url: &str, connector: &'static str, salt: &str) -> Result<Accepted, String> {
    let config = json!({
        "connector.class": "FileStreamSource", "topic": "nothing", "file": "/nothing/to/read/for/a/test", "salt": salt
    });
    let json = [("Content-Type".to_owned(), "application/json".to_owned())];
    let path = format!("/connectors/{connector}/config");
    let reply = call(url, "PUT", &path, &json, Some(config.to_string())).await?;
    match (reply.status, &reply.etag) {
        (200 | 201, Some(tag)) => {
            let offset = tag.trim_matches('"').parse().expect("the version is an offset");
            Ok(Accepted { connector, salt: salt.to_owned(), offset, at: Instant::now() })
        }
        _ => Err(format!("{reply:?}")),
    }
}

/// Two workers, and files that they read and write.
struct Group {
    workers: [Worker; 2],
    bootstrap: String,
}

impl Group {
    async fn start(cluster: &Cluster) -> Group {
        let settings = ["config", "offset", "status"].map(|topic| format!("{topic}.storage.replication.factor"));
        let settings: Vec<_> = settings.iter().map(|name| (&**name, "2")).collect();
        let first = Worker::new(cluster.bootstrap(), &settings);
        let second = first.beside(cluster.bootstrap(), &settings);
        let mut group = Group { workers: [first, second], bootstrap: cluster.bootstrap().to_owned() };
        group.workers.iter_mut().for_each(Worker::start);
        for worker in &group.workers {
            worker.ready().await;
        }
        let mut topics = Vec::new();
        for (at, name) in SOURCES.into_iter().enumerate() {
            fs::write(group.file(name), "").unwrap();
            let (file, topic) = (group.file(name).display().to_string(), unique(name));
            let source = [("connector.class", "FileStreamSource"), ("file", &file), ("topic", &topic)];
            group.workers[at].put(name, &source).await;
            topics.push(topic);
        }
        let (file, topics) = (group.file(SINK).display().to_string(), topics.join(","));
        group.workers[0]
            .put(SINK, &[("connector.class", "FileStreamSink"), ("file", &file), ("topics", &topics)])
            .await;
        group
    }

    fn file(&self, name: &str) -> PathBuf {
        self.workers[0].directory().join(name)
    }

    /// An editor for each of the edited connectors at each worker.
    fn edit(&self) -> Vec<Editor> {
        let at = |worker: &Worker| EDITED.map(|connector| Editor::start(worker.url().to_owned(), connector));
        self.workers.iter().flat_map(at).collect()
    }

    /// The numbers of the lines that the sink has written, by source, in their order.
    fn copied(&self) -> [Vec<usize>; 2] {
        let text = fs::read_to_string(self.file(SINK)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut copied = [Vec::new(), Vec::new()];
        for line in whole.lines() {
            let (source, number) = line.split_once(' ').unwrap();
            copied[source.parse::<usize>().unwrap()].push(number.parse().unwrap());
        }
        copied
    }

    /// Waits until lines that were written from now on are copied, and each editor has success with what it begins from now on.
    async fn goes_on(&self, lines: &Lines, editors: &[Editor]) {
        let now = lines.count();
        let copied = async || self.copied().iter().all(|numbers| numbers.iter().any(|number| *number > now));
        // The first may have begun before.
        let accepted = |editor: &Editor| editor.accepted.load(Ordering::Relaxed);
        let enough: Vec<usize> = editors.iter().map(|editor| accepted(editor) + 2).collect();
        let edited = async || editors.iter().zip(&enough).all(|(editor, enough)| accepted(editor) >= *enough);
        for worker in &self.workers {
            worker.eventually("new lines are copied", copied).await;
            worker.eventually("configurations are accepted", edited).await;
            worker.ready().await;
        }
    }

    /// Waits until both workers say the same of all connectors, and that all of them run.
    async fn agrees(&self) -> Value {
        let mut seen = Value::Null;
        for worker in &self.workers {
            let agree = async || {
                let [one, other] = [0, 1].map(|at| self.workers[at].call("GET", "/connectors?expand=info", None));
                let (Ok(one), Ok(other)) = tokio::join!(one, other) else { return false };
                seen = one.body.json().clone();
                one.body == other.body
            };
            worker.eventually("both workers say the same", agree).await;
            for name in SOURCES.iter().chain(&EDITED).chain([&SINK]) {
                let running = async || worker.states(name).await == ["RUNNING", "RUNNING"];
                worker.eventually(&format!("{name} runs"), running).await;
            }
        }
        seen
    }

    /// Checks that every accepted configuration is in the config topic, where its answer says, and that the last one is in force.
    async fn check_edits(&self, edits: &[Accepted], info: &Value) {
        let mut tail = Tail::new(&backend(&self.bootstrap), &self.workers[0].setting("config.storage.topic"), 1);
        let mut topic = BTreeMap::new();
        tail.read(|record| {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            if let (Some(connector), Some(value)) = (key.strip_prefix("connector-"), &record.value) {
                let value: Value = serde_json::from_slice(value).unwrap();
                topic.insert(record.offset, (connector.to_owned(), value["properties"]["salt"].clone()));
            }
        })
        .await;
        for Accepted { connector, salt, offset, .. } in edits {
            let expected = ((*connector).to_owned(), Value::from(salt.as_str()));
            assert_eq!(topic.get(offset), Some(&expected), "at {offset}");
        }
        for connector in EDITED {
            let last = edits.iter().filter(|edit| edit.connector == connector).max_by_key(|edit| edit.offset).unwrap();
            assert_eq!(info[connector]["info"]["config"]["salt"], last.salt.as_str(), "{connector}");
        }
    }
}

/// Checks that no line is lost, and that they came in their order where they came first. Returns how many came again.
fn check_lines(copied: &[Vec<usize>; 2], count: usize) -> usize {
    let mut again = 0;
    for numbers in copied {
        let mut seen = BTreeSet::new();
        let first: Vec<usize> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
        assert_eq!(first, (0..count).collect::<Vec<_>>());
        again += numbers.len() - count;
    }
    again
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_move_and_everything_goes_on_by_itself() {
    let cluster = Cluster::start().await;
    let mut group = Group::start(&cluster).await;
    let lines = Lines::start(SOURCES.map(|name| group.file(name)).into());
    let editors = group.edit();
    for round in 1..=2 {
        group.goes_on(&lines, &editors).await;
        // Who dies out of sync may take along what it has acknowledged.
        let partitions = cluster.in_sync().await;
        let leader = |setting: &str| {
            let topic = group.workers[0].setting(setting);
            partitions.iter().filter(move |partition| partition.topic == topic).filter_map(|partition| partition.leader)
        };
        let broker = leader("config.storage.topic").next().expect("the config topic has a leader");
        let statuses = leader("status.storage.topic").filter(|leader| *leader == broker).count();
        assert_ne!(statuses, 0, "it leads no partition of the status topic");
        cluster.stop(broker);
        let gone = Instant::now();
        group.goes_on(&lines, &editors).await;
        println!(
            "round {round}: broker {broker}, which led {statuses} status partitions: all goes on {:?} later",
            gone.elapsed()
        );
        cluster.restart(broker);
    }
    cluster.in_sync().await;
    group.goes_on(&lines, &editors).await;

    let mut edits = Vec::new();
    for editor in editors {
        let accepted = editor.end().await;
        let gap = accepted.windows(2).map(|pair| pair[1].at - pair[0].at).max();
        println!("{}: {} configurations, the longest gap {gap:?}", accepted[0].connector, accepted.len());
        assert!(accepted.is_sorted_by_key(|edit| edit.offset));
        edits.extend(accepted);
    }
    // One whose answer was an error may have been written behind the last accepted one.
    for (worker, connector) in group.workers.iter().zip(EDITED) {
        edits.push(put(worker.url(), connector, "last").await.unwrap());
    }
    let count = lines.end().await;
    let complete = async || group.copied().iter().all(|numbers| numbers.contains(&(count - 1)));
    group.workers[0].eventually("all lines are copied", complete).await;
    println!("{count} lines of each source, {} came again", check_lines(&group.copied(), count));
    let info = group.agrees().await;
    group.check_edits(&edits, &info).await;
    for worker in &mut group.workers {
        let joined = worker.log().lines().filter(|line| line.contains("joined incarnation=")).count();
        assert_eq!(joined, 1, "it stayed a member\n{}", worker.log_tail());
        assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    }
}
