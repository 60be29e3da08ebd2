//! Several workers of one group, as processes on a real broker: they share connectors, hand them over, and take each other's place.

mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::kills::oracle::{Tail, backend};
use crate::support::broker;
use crate::support::process::Worker;
use crate::support::unique;

/// Between two lines of a file.
const LINE_INTERVAL: Duration = Duration::from_millis(20);

/// Workers of one group, and the files that their connectors read.
struct Group {
    workers: Vec<Worker>,
    bootstrap: String,
    topic: String,
}

/// Where a unit runs: its worker and state.
type Places = BTreeMap<String, (String, String)>;

impl Group {
    async fn start(count: usize) -> Group {
        let bootstrap = broker().await.bootstrap().to_owned();
        let mut group = Group { workers: vec![Worker::new(&bootstrap, &[])], bootstrap, topic: unique("workers") };
        while group.workers.len() < count {
            group.workers.push(group.workers[0].beside(&group.bootstrap, &[]));
        }
        for worker in &mut group.workers {
            worker.start();
        }
        for worker in &group.workers {
            worker.ready().await;
        }
        group
    }

    async fn add(&mut self) -> usize {
        let mut worker = self.workers[0].beside(&self.bootstrap, &[]);
        worker.start();
        worker.ready().await;
        self.workers.push(worker);
        self.workers.len() - 1
    }

    fn topic_of(&self, name: &str) -> String {
        format!("{}-{name}", self.topic)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.workers[0].directory().join(format!("{name}.txt"))
    }

    /// A source from a file of its own into a topic of its own, created at one of the workers.
    async fn source(&self, at: usize, name: &str) {
        let (file, topic) = (self.file(name).display().to_string(), self.topic_of(name));
        File::options().create(true).append(true).open(&file).unwrap();
        self.workers[at]
            .put(name, &[("connector.class", "FileStreamSource"), ("file", &file), ("topic", &topic)])
            .await;
    }

    /// What one of the workers says of all connectors and tasks.
    async fn places(&self, at: usize) -> Places {
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
    async fn settled(&self, at: usize, units: usize, on: &[usize]) -> Places {
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

    /// How many units each of the workers holds.
    fn loads(&self, places: &Places) -> Vec<usize> {
        let load = |worker: &Worker| places.values().filter(|(at, _)| at == id(worker)).count();
        self.workers.iter().map(load).collect()
    }

    /// How often all workers have said that a unit runs.
    fn starts(&self) -> usize {
        let of = |worker: &Worker| worker.log().lines().filter(|line| line.ends_with(": running")).count();
        self.workers.iter().map(of).sum()
    }
}

fn id(worker: &Worker) -> &str {
    worker.url().trim_start_matches("http://")
}

fn moved(before: &Places, after: &Places) -> usize {
    after.iter().filter(|(unit, (worker, _))| before.get(*unit).is_some_and(|(other, _)| other != worker)).count()
}

/// Numbers that are appended to files, a line each time, until it is told to end: how many each has.
struct Lines {
    end: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Lines {
    fn start(files: Vec<PathBuf>) -> Lines {
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let write = async move {
            let open = |file: &PathBuf| File::options().create(true).append(true).open(file).unwrap();
            let mut files: Vec<File> = files.iter().map(open).collect();
            let (mut interval, mut count) = (tokio::time::interval(LINE_INTERVAL), 0);
            while !ended.load(Ordering::Relaxed) {
                files.iter_mut().for_each(|file| writeln!(file, "{count}").unwrap());
                count += 1;
                interval.tick().await;
            }
            count
        };
        Lines { end, task: tokio::spawn(write) }
    }

    async fn end(self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Waits until the topic has so many different lines; all that it has, in order.
async fn lines_of(group: &Group, at: usize, name: &str, count: usize) -> Vec<usize> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_worker_takes_its_share_and_one_that_leaves_loses_nothing() {
    let mut group = Group::start(3).await;
    let names: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    for (at, name) in names.iter().enumerate() {
        group.source(at % 3, name).await;
    }
    let lines = Lines::start(names.iter().map(|name| group.file(name)).collect());
    let before = group.settled(0, 24, &[0, 1, 2]).await;
    let loads = group.loads(&before);
    assert!(loads.iter().all(|load| (6..=9).contains(load)), "{loads:?}");

    let starts = group.starts();
    let fourth = group.add().await;
    let mut joined = Places::new();
    group.workers[fourth]
        .eventually("the fourth has its share", async || {
            joined = group.settled(fourth, 24, &[0, 1, 2, 3]).await;
            group.loads(&joined)[fourth] == 6
        })
        .await;
    assert_eq!(moved(&before, &joined), 6, "exactly its share");
    assert_eq!(group.starts() - starts, 6, "what was not moved was not touched");

    let held = group.loads(&joined)[0];
    assert_eq!(group.workers[0].terminate().await.code(), Some(0), "{}", group.workers[0].log_tail());
    let left = group.settled(1, 24, &[1, 2, 3]).await;
    assert_eq!(moved(&joined, &left), held, "exactly what it held");
    let count = lines.end().await;
    for name in &names {
        let found = lines_of(&group, 1, name, count).await;
        assert_eq!(found, (0..count).collect::<Vec<_>>(), "{name}: none lost, none twice");
    }
    for worker in &mut group.workers[1..] {
        assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_worker_ran_goes_on_elsewhere() {
    let mut group = Group::start(3).await;
    let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    for (at, name) in names.iter().enumerate() {
        group.source(at % 3, name).await;
    }
    let lines = Lines::start(names.iter().map(|name| group.file(name)).collect());
    let before = group.settled(0, 12, &[0, 1, 2]).await;
    group.workers[2].kill().await;
    let after = group.settled(0, 12, &[0, 1]).await;
    assert_eq!(moved(&before, &after), group.loads(&before)[2]);
    let count = lines.end().await;
    for name in &names {
        let found: BTreeSet<usize> = lines_of(&group, 0, name, count).await.into_iter().collect();
        assert_eq!(found, (0..count).collect(), "{name}: none lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_workers_that_create_one_name_at_once_one_succeeds() {
    let group = Group::start(3).await;
    let config =
        json!({"connector.class": "FileStreamSource", "topic": "t", "file": group.file("x").display().to_string()});
    for round in 0..10 {
        let body = json!({"name": format!("same-{round}"), "config": config});
        let create = |worker: usize| group.workers[worker].call("POST", "/connectors", Some(&body));
        let (one, two, three) = tokio::join!(create(0), create(1), create(2));
        let mut statuses: Vec<u16> = [one, two, three].map(|reply| reply.unwrap().status).into();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409], "round {round}");
    }
    group.settled(0, 20, &[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_worker_restarts_pauses_and_deletes_what_another_runs() {
    let group = Group::start(2).await;
    for number in 0..4 {
        group.source(0, &format!("c{number}")).await;
    }
    let places = group.settled(1, 8, &[0, 1]).await;
    for number in 0..4 {
        let starts = group.starts();
        let other = usize::from(places[&format!("c{number}/0")].0 == id(&group.workers[0]));
        let (name, worker) = (format!("c{number}"), &group.workers[other]);
        let path = format!("/connectors/{name}/tasks/0/restart");
        let reply = worker.call("POST", &path, None).await.unwrap();
        assert_eq!(reply.status, 204, "{reply:?}");
        assert_eq!(group.starts() - starts, 1, "it was restarted once when that was answered");
        let reply = worker.call("PUT", &format!("/connectors/{name}/pause"), None).await.unwrap();
        assert_eq!(reply.status, 202);
        worker.eventually("it is paused", async || worker.states(&name).await == ["PAUSED", "PAUSED"]).await;
        let reply = worker.call("DELETE", &format!("/connectors/{name}"), None).await.unwrap();
        assert_eq!(reply.status, 204);
        let listed = worker.get("/connectors").await;
        assert!(
            !listed.body.json().as_array().unwrap().contains(&json!(name)),
            "who has deleted it lists it: {listed:?}"
        );
    }
    for worker in &group.workers {
        // Each reads of what the other one has deleted when it comes to it.
        let empty = async || *worker.get("/connectors?expand=status").await.body.json() == json!({});
        worker.eventually("nothing is left", empty).await;
    }
}
