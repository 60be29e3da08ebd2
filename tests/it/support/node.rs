//! A worker in the process of the test, in memory, in a directory or on the real Kafka, and a client of its REST API.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connect_api::Props;
use connect_node::backend::{
    self, Backend, BackendError, ClientSettings, Isolation, NewTopic, ProducerRecord, ReadBatch, StartOffset,
    TopicPartition, memory,
};
use connect_node::config::WorkerConfig;
use connect_node::logging::{self, FILTER_VARIABLE};
use connect_node::node::Node;
use connect_node::plugins::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::unique;
use crate::scenarios::client::{Reply, call};
use crate::support::faulty;

/// Long enough for a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that only REST can show.
const PAUSE: Duration = Duration::from_millis(20);
/// An orderly end takes at most the graceful timeout and the time of the brokers, some seconds each.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// The same tests in a directory and on the real Kafka, each with a [`Setup`] of its own.
macro_rules! on_durable {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(crate::support::node::Setup::embedded()).await;
                }
            )*
        }

        mod kafka {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(crate::support::node::Setup::kafka().await).await;
                }
            )*
        }
    };
}

/// The same tests also in memory.
macro_rules! on_all {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::support::node::Setup::memory()).await;
                }
            )*
        }

        crate::support::node::on_durable!($($test),*);
    };
}

pub(crate) use {on_all, on_durable};

/// The settings of a worker. Workers that are started with it one after the other find what the former left.
#[derive(Clone)]
pub struct Setup {
    pub bootstrap: String,
    props: Props,
    /// Removed with the last of the clones.
    _directory: Option<Arc<TempDir>>,
}

impl Setup {
    /// On an empty cluster in memory.
    pub fn memory() -> Setup {
        Setup::on(&format!("memory:{}", unique("node")))
    }

    /// On an empty directory.
    pub fn embedded() -> Setup {
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup::on(&format!("embedded:{}", directory.path().display()));
        Setup { _directory: Some(Arc::new(directory)), ..setup }
    }

    /// On the Kafka that all tests share, with internal topics of its own.
    pub async fn kafka() -> Setup {
        Setup::on(super::broker().await.bootstrap())
    }

    /// On any cluster, with internal topics of its own.
    pub fn on(bootstrap: &str) -> Setup {
        let group = unique("workers");
        let text = |text: &str| text.to_owned();
        let settings = [
            ("bootstrap.servers", text(bootstrap)),
            ("group.id", group.clone()),
            ("config.storage.topic", format!("{group}-configs")),
            ("offset.storage.topic", format!("{group}-offsets")),
            ("status.storage.topic", format!("{group}-status")),
            ("config.storage.replication.factor", text("1")),
            ("offset.storage.replication.factor", text("1")),
            ("offset.storage.partitions", text("3")),
            ("status.storage.replication.factor", text("1")),
            ("status.storage.partitions", text("2")),
            ("listeners", text("http://127.0.0.1:0")),
            ("key.converter", text("org.apache.kafka.connect.json.JsonConverter")),
            ("key.converter.schemas.enable", text("false")),
            ("value.converter", text("org.apache.kafka.connect.json.JsonConverter")),
            ("value.converter.schemas.enable", text("false")),
            ("offset.flush.interval.ms", text("200")),
            ("task.shutdown.graceful.timeout.ms", text("2000")),
        ];
        let props = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Setup { bootstrap: text(bootstrap), props, _directory: None }
    }

    /// With another value of a worker's setting.
    pub fn with(mut self, name: &str, value: impl ToString) -> Setup {
        self.props.insert(name.to_owned(), value.to_string());
        self
    }

    /// The value of a worker's setting.
    pub fn get(&self, name: &str) -> &str {
        &self.props[name]
    }

    /// Starts a worker and does not wait for it. Its log is written where `CONNECT_NODE_LOG` says what of it.
    pub fn launch(&self) -> TestNode {
        if let Ok(filter) = std::env::var(FILTER_VARIABLE) {
            // Every worker after the first finds it set.
            drop(logging::init(Some(&filter)));
        }
        let config = WorkerConfig::from_props(self.props.clone()).expect("the settings are good");
        let plugins = Registry::built_in().iter().copied().chain(faulty::plugins()).collect();
        let registry = Registry::new(plugins);
        let node = Node::start(config, registry).expect("the worker starts");
        TestNode { url: node.url().trim_end_matches('/').to_owned(), node: Some(node) }
    }

    /// Starts a worker and waits until it has joined.
    pub async fn start(&self) -> TestNode {
        let node = self.launch();
        node.until("the worker has joined", async || node.get("/health").await.status == 200).await;
        node
    }

    /// The cluster, past the worker.
    pub fn backend(&self) -> Arc<dyn Backend> {
        backend::open(&self.bootstrap, &ClientSettings::new()).unwrap()
    }

    /// Switches faults of the cluster in memory.
    pub fn faults(&self) -> memory::Faults {
        memory::faults(self.bootstrap.strip_prefix("memory:").expect("only the cluster in memory has switches"))
    }

    /// Makes a topic.
    pub async fn topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic { name: name.into(), partitions, replication_factor: 1, config: Props::new() };
        self.backend().admin().create_topic(&topic).await.unwrap();
    }

    /// Writes records past the worker and waits until they are stored.
    pub async fn write(&self, records: &[ProducerRecord]) {
        let writer = self.backend().writer(&ClientSettings::new(), 64 << 20).unwrap();
        let mut rest = records;
        while !rest.is_empty() {
            let taken = writer.send(rest).unwrap();
            if taken == 0 {
                writer.changed().await;
                writer.take_acks(&mut Vec::new());
            }
            rest = &rest[taken..];
        }
        writer.flush(PATIENCE).await.unwrap();
    }

    /// Values of all records of a topic, by partition and offset; none where there is no such topic.
    pub async fn values(&self, topic: &str) -> Vec<Option<Bytes>> {
        self.records(topic).await.into_iter().map(|(_, value)| value).collect()
    }

    /// Keys and values of all records of a topic.
    pub async fn records(&self, topic: &str) -> Vec<(Option<Bytes>, Option<Bytes>)> {
        let backend = self.backend();
        let Some(topic) = backend.admin().describe_topic(topic).await.unwrap() else { return vec![] };
        let partitions: Vec<_> =
            (0..topic.partitions).map(|number| TopicPartition::new(&*topic.name, number)).collect();
        let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
        let ends = reader.end_offsets(&partitions, PATIENCE).await.unwrap();
        reader.assign(&partitions.iter().map(|at| (at.clone(), StartOffset::Beginning)).collect::<Vec<_>>()).unwrap();
        let mut found = Vec::new();
        let mut batch = ReadBatch::default();
        let deadline = Instant::now() + PATIENCE;
        let behind = |reader: &dyn backend::RecordReader| {
            partitions.iter().zip(&ends).any(|(at, end)| reader.position(at).is_none_or(|position| position < *end))
        };
        while ends.iter().any(|end| *end > 0) && behind(&*reader) {
            assert!(Instant::now() < deadline, "the topic cannot be read to its end");
            match reader.read(&mut batch, 10_000, Duration::from_millis(100)).await {
                Ok(()) | Err(BackendError::Retriable(_)) => {}
                Err(error) => panic!("{error}"),
            }
            for record in batch.records.drain(..) {
                let partition = batch.partitions[record.source as usize].partition;
                found.push(((partition, record.offset), (record.key, record.value)));
            }
        }
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, record)| record).collect()
    }
}

/// A worker. Dropped, it is shut down and its end is waited for.
pub struct TestNode {
    node: Option<Node>,
    pub url: String,
}

impl TestNode {
    /// One request. Panics where there is no answer at all.
    pub async fn call(&self, method: &str, path: &str, body: Option<String>) -> Reply {
        let headers: &[(String, String)] =
            if body.is_some() { &[("Content-Type".to_owned(), "application/json".to_owned())] } else { &[] };
        call(&self.url, method, path, headers, body).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None).await
    }

    /// One request with JSON, if that is demanded of its target: name and value of a header.
    pub async fn demand(&self, method: &str, path: &str, demand: (&str, &str), body: Option<Value>) -> Reply {
        let mut headers = vec![(demand.0.to_owned(), demand.1.to_owned())];
        headers.extend(body.as_ref().map(|_| ("Content-Type".to_owned(), "application/json".to_owned())));
        let body = body.map(|body| body.to_string());
        call(&self.url, method, path, &headers, body).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates a connector.
    pub async fn create(&self, name: &str, config: &[(&str, &str)]) {
        let body = json!({"name": name, "config": settings(config)}).to_string();
        let reply = self.call("POST", "/connectors", Some(body)).await;
        assert_eq!(reply.status, 201, "{name}: {}", reply.body.json());
    }

    /// Puts a whole configuration.
    pub async fn put(&self, name: &str, config: &[(&str, &str)]) -> Reply {
        self.call("PUT", &format!("/connectors/{name}/config"), Some(settings(config).to_string())).await
    }

    /// `pause`, `resume` and `stop`.
    pub async fn steer(&self, name: &str, verb: &str) {
        let reply = self.call("PUT", &format!("/connectors/{name}/{verb}"), None).await;
        assert!(matches!(reply.status, 202 | 204), "{verb} {name}: {} {}", reply.status, reply.body.json());
    }

    pub async fn restart_task(&self, name: &str, task: u32) -> Reply {
        self.call("POST", &format!("/connectors/{name}/tasks/{task}/restart"), None).await
    }

    pub async fn delete(&self, name: &str) {
        let reply = self.call("DELETE", &format!("/connectors/{name}"), None).await;
        assert_eq!(reply.status, 204, "{}", reply.body.json());
    }

    /// The status object of a connector (`None`) or of one of its tasks; null where there is none.
    pub async fn state(&self, name: &str, task: Option<u32>) -> Value {
        let reply = self.get(&format!("/connectors/{name}/status")).await;
        let status = reply.body.json();
        match task {
            None => status["connector"].clone(),
            Some(task) => {
                let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
                tasks.into_iter().find(|found| found["id"] == task).unwrap_or_default()
            }
        }
    }

    /// Waits until a connector or task is in a state, and returns its status object.
    pub async fn wait_for_state(&self, name: &str, task: Option<u32>, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.state(name, task).await;
            if found["state"] == state {
                return found;
            }
            assert!(Instant::now() < deadline, "{name} {task:?} never was {state}: {found}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until a connector and so many tasks of it run.
    pub async fn wait_until_running(&self, name: &str, tasks: u32) {
        self.wait_for_state(name, None, "RUNNING").await;
        for task in 0..tasks {
            self.wait_for_state(name, Some(task), "RUNNING").await;
        }
    }

    /// Waits for a condition, with a deadline.
    pub async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        until(what, condition).await;
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.node.as_ref().is_some_and(Node::is_running)
    }

    /// Asks for an orderly end and does not wait for it.
    pub fn ask_to_end(&self) {
        self.node.as_ref().expect("only stop and drop take it").shut_down();
    }

    /// Ends it in an orderly way and says how long that took.
    pub async fn stop(self) -> Duration {
        let (time, end) = self.try_stop().await;
        end.unwrap_or_else(|error| panic!("{error}"));
        time
    }

    /// Ends it, and says how long that took and whether it was an orderly end.
    pub async fn try_stop(mut self) -> (Duration, Result<(), String>) {
        let began = Instant::now();
        let node = self.node.take().expect("only this and drop take it");
        let end = tokio::task::spawn_blocking(move || end(node)).await.unwrap();
        (began.elapsed(), end)
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(node) = self.node.take()
            && let Err(error) = end(node)
            && !thread::panicking()
        {
            panic!("{error}");
        }
    }
}

/// Runtimes cannot be dropped where tests wait, so a thread does it.
fn end(node: Node) -> Result<(), String> {
    let (ends, ended) = mpsc::channel();
    node.shut_down();
    thread::spawn(move || ends.send(node.wait().map_err(|error| format!("{error:#}"))));
    ended.recv_timeout(END_TIMEOUT).unwrap_or_else(|_| Err("the worker did not end in time".into()))
}

/// Waits for a condition, with a deadline.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets time pass where time itself matters: a window in which records are counted, or in which something must not happen.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Settings as a JSON object.
pub fn settings(config: &[(&str, &str)]) -> Value {
    config
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The complete lines of a file; none where there is no file.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
