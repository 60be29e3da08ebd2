//! A server on a free port, a herder with canned answers, and a client that sends exactly what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connect_api::{ConfigKey, ConfigValue, Importance, Type, Width};
use connect_node::actors::handle::{
    ClusterView, ConfigInfo, ConfigInfos, ConnectorInfo, ConnectorOffset, ConnectorOffsets, ConnectorStateInfo,
    ConnectorStatus, ConnectorTaskId, ConnectorType, Evicted, HerderError, HerderHandle, HerderRequest, HerderResult,
    HolderView, MemberView, Precondition, Reaches, ServerInfo, TaskInfo, TaskStateInfo, UnitView, WorkerIdentity,
    WorkerView,
};
use connect_node::metrics::Metrics;
use connect_node::plugins::Registry;
use connect_node::rest::{Limits, RestState, serve};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// No answer of these tests takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The version of every connector.
const VERSION: i64 = 42;

/// A running REST server.
pub struct Server {
    pub address: SocketAddr,
    pub metrics: Metrics,
    /// What reached the herder, in Debug form and without the reply channels.
    pub seen: Arc<Mutex<Vec<String>>>,
    pub stop: Option<oneshot::Sender<()>>,
    pub served: JoinHandle<()>,
}

/// Everything as the worker has it.
pub async fn server() -> Server {
    server_with(Limits::default(), fake_herder).await
}

/// With other limits, and with a herder of the test's own.
pub async fn server_with<F>(
    limits: Limits,
    herder: impl FnOnce(mpsc::Receiver<HerderRequest>, Arc<Mutex<Vec<String>>>) -> F,
) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let (handle, queue) = HerderHandle::channel();
    let seen = Arc::default();
    tokio::spawn(herder(queue, Arc::clone(&seen)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new();
    let mut state = RestState::new(handle, Registry::built_in(), "http://worker.example:8083/", metrics.clone());
    state.limits = limits;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, state, async { drop(stopped.await) }));
    Server { address, metrics, seen, stop: Some(stop), served }
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Answer {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer but {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Answer { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Checks the shape that all errors share and returns the message.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body = self.json();
        assert_eq!(body["error_code"], status, "{body}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(!message.trim().is_empty());
        message.to_owned()
    }
}

impl Server {
    /// Sends bytes and reads until the server closes.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        // both at once: the server may answer before it has read everything
        let exchange = async {
            tokio::join!(async { drop(write.write_all(request.as_ref()).await) }, async {
                drop(read.read_to_end(&mut answer).await)
            })
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
        Answer::parse(&answer)
    }

    /// Sends everything before it looks for an answer, as simple clients do. A reset on the way loses the answer.
    pub async fn send_then_read(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut answer = Vec::new();
        let exchange = async {
            stream.write_all(request.as_ref()).await.expect("the server reads everything");
            stream.read_to_end(&mut answer).await.expect("the server does not reset the connection");
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
        Answer::parse(&answer)
    }

    /// A request with further header lines (each with its line end) and a body.
    pub async fn send(&self, method: &str, target: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{headers}\r\n");
        self.raw([head.as_bytes(), body].concat()).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "", "").await
    }

    /// A request with a JSON body.
    pub async fn json(&self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(method, target, "Content-Type: application/json\r\n", body).await
    }

    /// What reached the herder since the last call.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Knows every connector but those whose name is that of an error.
pub async fn fake_herder(mut queue: mpsc::Receiver<HerderRequest>, seen: Arc<Mutex<Vec<String>>>) {
    let note = |what: String| seen.lock().unwrap().push(what);
    while let Some(request) = queue.recv().await {
        match request {
            HerderRequest::Connectors(reply) => drop(reply.send(Ok(vec!["b".into(), "a".into(), "none".into()]))),
            HerderRequest::ConnectorInfo(name, reply) => answer(&name.clone(), reply, || info(&name, BTreeMap::new())),
            HerderRequest::ConnectorStatus(name, reply) => answer(&name.clone(), reply, || status(&name)),
            HerderRequest::Tasks(name, reply) => answer(&name.clone(), reply, || {
                let config = [("task.class".to_owned(), "T".to_owned())].into();
                vec![TaskInfo { id: ConnectorTaskId { connector: name, task: 0 }, config }]
            }),
            HerderRequest::TaskStatus(name, task, reply) => {
                answer(&name, reply, || TaskStateInfo { id: task, state: state("RUNNING", None) });
            }
            write @ (HerderRequest::Create { .. }
            | HerderRequest::PutConfig { .. }
            | HerderRequest::PatchConfig { .. }
            | HerderRequest::Delete(..)) => write_config(write, note),
            HerderRequest::SetTargetState(name, target, reply) => {
                note(format!("target {name:?} {target:?}"));
                answer(&name, reply, || ());
            }
            HerderRequest::RestartConnector(name, reply) => {
                note(format!("restart {name:?}"));
                answer(&name, reply, || ());
            }
            HerderRequest::Restart(name, plan, reply) => {
                note(format!("restart {name:?} tasks={} failed={}", plan.include_tasks, plan.only_failed));
                answer(&name.clone(), reply, || status(&name));
            }
            HerderRequest::RestartTask(name, task, reply) => {
                note(format!("restart task {name:?} {task}"));
                answer(&name, reply, || ());
            }
            HerderRequest::ServerInfo(reply) => {
                let info = ServerInfo { version: "1".into(), commit: "c".into(), kafka_cluster_id: "k".into() };
                drop(reply.send(Ok(info)));
            }
            HerderRequest::Health(reply) => drop(reply.send(Ok("all is well".into()))),
            other @ (HerderRequest::Identity(_)
            | HerderRequest::Reaches { .. }
            | HerderRequest::Cluster(..)
            | HerderRequest::Evict(..)) => ask_the_cluster(other, note),
            HerderRequest::Validate { plugin, config, reply } => {
                note(format!("validate {plugin:?} {config:?}"));
                answer(&plugin, reply, checked);
            }
            HerderRequest::PluginDefinition(plugin, version, reply) => {
                note(format!("definition {plugin:?} {version:?}"));
                answer(&plugin, reply, || vec![setting()]);
            }
            HerderRequest::Offsets(name, reply) => answer(&name, reply, offsets),
            HerderRequest::ActiveTopics(name, reply) => answer(&name, reply, || vec!["t".to_owned(), "u".to_owned()]),
            HerderRequest::ResetActiveTopics(name, reply) => {
                note(format!("reset topics {name:?}"));
                answer(&name, reply, || ());
            }
        }
    }
}

/// What concerns workers.
fn ask_the_cluster(request: HerderRequest, note: impl Fn(String)) {
    match request {
        HerderRequest::Identity(reply) => {
            let identity = WorkerIdentity { worker_id: "w:1".into(), nonce: "7".into(), process: "p".into() };
            drop(reply.send(Ok(identity)));
        }
        HerderRequest::Reaches { worker_id, nonce, reply } => {
            note(format!("reaches {worker_id:?} {nonce}"));
            answer(&worker_id, reply, || Reaches { reaches: true });
        }
        HerderRequest::Cluster(page, reply) => {
            note(format!("cluster {:?}", page.as_ref().map(|page| &page.after)));
            drop(reply.send(Ok(cluster(page.is_some()))));
        }
        HerderRequest::Evict(worker, reply) => {
            note(format!("evict {worker:?}"));
            answer(&worker.clone(), reply, || Evicted { worker_id: worker, incarnation: 7 });
        }
        other => panic!("it does not concern workers: {other:?}"),
    }
}

/// What writes or deletes a configuration.
fn write_config(request: HerderRequest, note: impl Fn(String)) {
    match request {
        HerderRequest::Create { name, config, initial_state, reply } => {
            note(format!("create {name:?} {initial_state:?} {config:?}"));
            answer(&name, reply, || info(&name, config));
        }
        HerderRequest::PutConfig { name, config, precondition, reply } => {
            note(format!("put {name:?} {config:?}{}", demands(&precondition)));
            answer(&name, reply, || (name.starts_with("new"), info(&name, config)));
        }
        HerderRequest::PatchConfig { name, changes, precondition, reply } => {
            note(format!("patch {name:?} {changes:?}{}", demands(&precondition)));
            answer(&name, reply, || info(&name, changes));
        }
        HerderRequest::Delete(name, precondition, reply) => {
            note(format!("delete {name:?}{}", demands(&precondition)));
            answer(&name, reply, || ());
        }
        other => unreachable!("{other:?} writes no configuration"),
    }
}

fn answer<T>(name: &str, reply: oneshot::Sender<HerderResult<T>>, value: impl FnOnce() -> T) {
    let text = || format!("about {name}");
    let result = match name {
        "none" => Err(HerderError::NotFound(text())),
        "bad" => Err(HerderError::BadRequest(text())),
        "forbidden" => Err(HerderError::Forbidden(text())),
        "taken" => Err(HerderError::Conflict(text())),
        "changed" => Err(HerderError::PreconditionFailed(text())),
        "busy" => Err(HerderError::Busy),
        "starting" => Err(HerderError::Unavailable(text())),
        "late" => Err(HerderError::Timeout),
        "broken" => Err(HerderError::Internal(text())),
        // as when the herder crashes with the request in its hands
        "crash" => return,
        _ => Ok(value()),
    };
    drop(reply.send(result));
}

fn info(name: &str, config: BTreeMap<String, Option<String>>) -> ConnectorInfo {
    ConnectorInfo {
        name: name.to_owned(),
        config: config.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        tasks: vec![],
        connector_type: ConnectorType::Source,
        version: VERSION,
    }
}

/// What is demanded of a connector, if anything.
fn demands(precondition: &Precondition) -> String {
    match precondition {
        Precondition { present: None, absent: false } => String::new(),
        Precondition { present, absent } => format!(" if {present:?} {absent}"),
    }
}

fn cluster(units: bool) -> ClusterView {
    let worker_id = "w:1".to_owned();
    let holder = HolderView { worker_id: Some(worker_id.clone()), incarnation: 3 };
    let unit = UnitView {
        name: "status-task-a-0".into(),
        owner: Some(worker_id.clone()),
        holder: Some(holder),
        state: Some("RUNNING"),
        waiting: None,
        restart: None,
    };
    ClusterView {
        worker: WorkerView {
            worker_id: worker_id.clone(),
            incarnation: None,
            lease_age_ms: Some(5),
            config_position: 9,
        },
        members: vec![MemberView {
            worker_id,
            incarnation: 3,
            state: "joined",
            settled: true,
            load: 1,
            version: "1".into(),
            heard: None,
            rest_url: "http://w:1/".into(),
        }],
        units: units.then(|| vec![unit]),
        next: units.then(|| "status-task-a-0".into()),
    }
}

fn setting() -> ConfigKey {
    ConfigKey::new("limit", Type::Int, Importance::High, "The end.").default_value(7).dependents(&["x"]).group(
        "G",
        1,
        Width::Short,
        "Limit",
    )
}

fn checked() -> ConfigInfos {
    let value = ConfigValue { errors: vec!["limit: no".into()], ..ConfigValue::new("limit") };
    let unknown = ConfigInfo { definition: None, value: ConfigValue { visible: false, ..ConfigValue::new("y") } };
    let configs = vec![ConfigInfo { definition: Some(setting()), value }, unknown];
    ConfigInfos { name: "C".into(), error_count: 1, groups: vec!["G".into()], configs }
}

fn offsets() -> ConnectorOffsets {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let offset = ConnectorOffset { partition: raw(r#"{"filename":"f"}"#), offset: raw(r#"{"position":1.0E10}"#) };
    ConnectorOffsets { offsets: vec![offset] }
}

fn state(state: &str, trace: Option<&str>) -> ConnectorStateInfo {
    let version = Some("1".to_owned());
    ConnectorStateInfo {
        state: state.into(),
        worker_id: "x:1".into(),
        version,
        trace: trace.map(str::to_owned),
        restart: None,
    }
}

fn status(name: &str) -> ConnectorStatus {
    ConnectorStatus {
        name: name.to_owned(),
        connector: state("RUNNING", None),
        tasks: vec![TaskStateInfo { id: 0, state: state("FAILED", Some("it broke")) }],
        connector_type: ConnectorType::Sink,
    }
}
