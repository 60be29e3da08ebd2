//! Several workers of one group, as processes on a real broker, and the files that their connectors read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::process::Worker;
use super::relay::Relay;
use super::{broker, unique};
use crate::kills::oracle::{Tail, backend};

/// Between two lines of a file.
const LINE_INTERVAL: Duration = Duration::from_millis(20);

/// Workers of one group, and the files that their connectors read.
pub struct Group {
    pub workers: Vec<Worker>,
    pub bootstrap: String,
    topic: String,
}

/// Where a unit runs: its worker and state.
pub type Places = BTreeMap<String, (String, String)>;

impl Group {
    pub async fn start(count: usize) -> Group {
        Group::start_with(&vec![Vec::new(); count]).await
    }

    /// With settings of each worker.
    pub async fn start_with(settings: &[Vec<(&str, &str)>]) -> Group {
        Group::start_behind(settings, &[]).await
    }

    /// Each behind a relay whose port it advertises by its settings.
    pub async fn start_behind(settings: &[Vec<(&str, &str)>], relays: &[Relay]) -> Group {
        let place = |number: usize, worker: &Worker| {
            if let Some(relay) = relays.get(number) {
                relay.pass_on_to(worker.port());
            }
        };
        Group::start_at(broker().await.bootstrap(), settings, place).await
    }

    /// On a broker of the caller's, who learns of each worker before any is started.
    pub async fn start_at(
        bootstrap: &str,
        settings: &[Vec<(&str, &str)>],
        mut place: impl FnMut(usize, &Worker),
    ) -> Group {
        let workers = vec![Worker::new(bootstrap, &settings[0])];
        let mut group = Group { workers, bootstrap: bootstrap.to_owned(), topic: unique("workers") };
        for settings in &settings[1..] {
            group.workers.push(group.workers[0].beside(bootstrap, settings));
        }
        for (number, worker) in group.workers.iter().enumerate() {
            place(number, worker);
        }
        for worker in &mut group.workers {
            worker.start();
        }
        for worker in &group.workers {
            worker.ready().await;
        }
        group
    }

    pub async fn add(&mut self) -> usize {
        let added = self.launch();
        self.workers[added].ready().await;
        added
    }

    /// Another worker, which is not waited for.
    pub fn launch(&mut self) -> usize {
        let mut worker = self.workers[0].beside(&self.bootstrap, &[]);
        worker.start();
        self.workers.push(worker);
        self.workers.len() - 1
    }

    /// All workers.
    pub fn all(&self) -> Vec<usize> {
        (0..self.workers.len()).collect()
    }

    /// All workers but these.
    pub fn others(&self, than: &[usize]) -> Vec<usize> {
        self.all().into_iter().filter(|worker| !than.contains(worker)).collect()
    }

    pub fn topic_of(&self, name: &str) -> String {
        format!("{}-{name}", self.topic)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.workers[0].directory().join(format!("{name}.txt"))
    }

    /// A source from a file of its own into a topic of its own, created at one of the workers.
    pub async fn source(&self, at: usize, name: &str) {
        let (file, topic) = (self.file(name).display().to_string(), self.topic_of(name));
        File::options().create(true).append(true).open(&file).unwrap();
        self.workers[at]
            .put(name, &[("connector.class", "FileStreamSource"), ("file", &file), ("topic", &topic)])
            .await;
    }

    /// What one of the workers says of all connectors and tasks.
    pub async fn places(&self, at: usize) -> Places {
        let Ok(reply) = self.workers[at].call("GET", "/connectors?expand=status", None).await else {
            return Places::new();
        };
        let mut places = Places::new();
        for (name, connector) in reply.body.json().as_object().into_iter().flatten() {
            let status = &connector["status"];
            let tasks = status["tasks"].as_array().into_iter().flatten();
            for (unit, at) in std::iter::once(("connector".to_owned(), &status["connector"]))
                .chain(tasks.map(|task| (task["id"].to_string(), task)))
            {
                let word = |key: &str| at[key].as_str().unwrap_or_default().to_owned();
                places.insert(format!("{name}/{unit}"), (word("worker_id"), word("state")));
            }
        }
        places
    }

    /// Waits until so many units run, all of them on the workers `on`; where.
    pub async fn settled(&self, at: usize, units: usize, on: &[usize]) -> Places {
        let ids: BTreeSet<&str> = on.iter().map(|worker| id(&self.workers[*worker])).collect();
        let mut places = Places::new();
        let what = format!("{units} units run on {on:?}");
        self.workers[at]
            .eventually(&what, async || {
                places = self.places(at).await;
                let right = |(worker, state): &(String, String)| ids.contains(&**worker) && state == "RUNNING";
                places.len() == units && places.values().all(right)
            })
            .await;
        places
    }

    /// The members as one of the workers sees them: the incarnation of each worker, none of who is no member.
    pub async fn lives(&self, at: usize) -> Vec<Option<i64>> {
        self.members(at, |member| member["incarnation"].as_i64()).await
    }

    /// Whom gossip hears at one of the workers.
    pub async fn heard(&self, at: usize) -> Vec<bool> {
        let heard = self.members(at, |member| member["heard"].as_bool()).await;
        heard.into_iter().map(|heard| heard == Some(true)).collect()
    }

    /// Something of each worker that is a member, as one of them sees it.
    async fn members<T>(&self, at: usize, of: impl Fn(&Value) -> Option<T>) -> Vec<Option<T>> {
        let reply = self.workers[at].get("/cluster").await;
        let members = reply.body.json()["members"].as_array().cloned().unwrap_or_default();
        let entry = |worker: &Worker| of(members.iter().find(|member| member["worker_id"] == id(worker))?);
        self.workers.iter().map(entry).collect()
    }

    /// How many units each of the workers holds.
    pub fn loads(&self, places: &Places) -> Vec<usize> {
        let load = |worker: &Worker| places.values().filter(|(at, _)| at == id(worker)).count();
        self.workers.iter().map(load).collect()
    }

    /// How often all workers have said that a unit runs.
    pub fn starts(&self) -> usize {
        let of = |worker: &Worker| worker.log().lines().filter(|line| line.ends_with(": running")).count();
        self.workers.iter().map(of).sum()
    }
}

pub fn id(worker: &Worker) -> &str {
    worker.id()
}

pub fn moved(before: &Places, after: &Places) -> usize {
    after.iter().filter(|(unit, (worker, _))| before.get(*unit).is_some_and(|(other, _)| other != worker)).count()
}

/// Lines that are appended to files until it is told to end: how many each has.
pub struct Lines {
    end: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Lines {
    /// Mere numbers.
    pub fn start(files: Vec<PathBuf>) -> Lines {
        Lines::of(files, |number| format!("{number}\n"))
    }

    /// Lines by their number.
    pub fn of(files: Vec<PathBuf>, line: fn(usize) -> String) -> Lines {
        let (end, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, written) = (end.clone(), count.clone());
        let write = async move {
            let open = |file: &PathBuf| File::options().create(true).append(true).open(file).unwrap();
            let mut files: Vec<File> = files.iter().map(open).collect();
            let mut interval = tokio::time::interval(LINE_INTERVAL);
            while !ended.load(Ordering::Relaxed) {
                let line = line(written.load(Ordering::Relaxed));
                files.iter_mut().for_each(|file| file.write_all(line.as_bytes()).unwrap());
                written.fetch_add(1, Ordering::Relaxed);
                interval.tick().await;
            }
        };
        Lines { end, count, task: tokio::spawn(write) }
    }

    /// How many each file has now, or will have in a moment.
    pub fn begun(&self) -> usize {
        self.count.load(Ordering::Relaxed) + 1
    }

    pub async fn end(self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.count.load(Ordering::Relaxed)
    }
}

/// Waits until the topic has so many different lines; all that it has, in order.
pub async fn lines_of(group: &Group, at: usize, name: &str, count: usize) -> Vec<usize> {
    let (backend, topic) = (backend(&group.bootstrap), group.topic_of(name));
    let mut tail = Tail::new(&backend, &topic, 1);
    let mut lines = Vec::new();
    group.workers[at]
        .eventually(&format!("{count} lines of {name}"), async || {
            let number = |value: &[u8]| String::from_utf8_lossy(value).parse::<usize>().unwrap();
            tail.read(|record| lines.push(number(record.value.as_deref().unwrap()))).await;
            lines.iter().collect::<BTreeSet<_>>().len() >= count
        })
        .await;
    lines
}
