//! What REST asks of the herder, and how it is asked.
//!
//! A handle is cheap to clone. Each call sends one request through a bounded queue and waits for its answer, at most
//! [`REQUEST_TIMEOUT`]. No rule of the domain lives on the caller's side.

use std::collections::BTreeMap;
use std::time::Duration;

use connect_api::{ConfigKey, Props};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

pub use super::cluster_view::{
    ClusterView, Evicted, HolderView, MemberView, RestartView, UNITS_MAX, UnitView, UnitsPage, WorkerView,
};
pub use super::precondition::{Precondition, Versions};
pub use super::probe::{Reaches, WorkerIdentity};
pub use crate::config::connector::{ConfigInfo, ConfigInfos};
pub use crate::storage::config_records::TargetState;

/// Requests that may wait for the herder. More are refused with [`HerderError::Busy`].
pub const REQUEST_QUEUE: usize = 1024;

/// How long a request may take (Java: 90 s, then 500).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a request was not carried out. REST maps it to a status in one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HerderError {
    /// No such connector, task or plug-in: 404.
    #[error("{0}")]
    NotFound(String),
    /// The worker's settings do not allow it: 403.
    #[error("{0}")]
    Forbidden(String),
    /// The request cannot be carried out as it stands: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The name is taken, or the same thing was changed by somebody else at the same time: 409.
    #[error("{0}")]
    Conflict(String),
    /// What the client demands of the connector does not hold: 412.
    #[error("{0}")]
    PreconditionFailed(String),
    /// Too many requests wait already: 503.
    #[error("the worker is busy: {REQUEST_QUEUE} requests are waiting; try again later")]
    Busy,
    /// The worker is starting, suspended without Kafka, or stopping: 503.
    #[error("{0}")]
    Unavailable(String),
    /// No answer within [`REQUEST_TIMEOUT`]: 500.
    #[error("the request did not finish within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// The herder crashed with the request in its hands, or the worker ended; whether it was carried out is not known: 500.
    #[error("the request was lost with a crash of the herder; try again")]
    Lost,
    /// Anything else, for example a plug-in callback that failed: 500.
    #[error("{0}")]
    Internal(String),
}

impl HerderError {
    /// Whether the same request may succeed later: nothing is wrong with it.
    pub fn is_passing(&self) -> bool {
        use HerderError::{Busy, Lost, Timeout, Unavailable};
        matches!(self, Busy | Lost | Timeout | Unavailable(_))
    }
}

/// The result of a request.
pub type HerderResult<T> = Result<T, HerderError>;

/// `source` or `sink`; `unknown` where the class is not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectorType {
    /// Its tasks read from elsewhere.
    Source,
    /// Its tasks write to elsewhere.
    Sink,
    /// Its class is not installed here.
    Unknown,
}

/// A task's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConnectorTaskId {
    /// Its connector.
    pub connector: String,
    /// Its number, from 0.
    pub task: u32,
}

/// A connector as `GET /connectors/{n}` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectorInfo {
    /// Its name.
    pub name: String,
    /// Its configuration with `name`, as the user wrote it.
    pub config: Props,
    /// Its tasks by number.
    pub tasks: Vec<ConnectorTaskId>,
    /// source, sink or unknown.
    #[serde(rename = "type")]
    pub connector_type: ConnectorType,
    /// Offset of its record in the config topic: the version of its configuration. A header in REST.
    #[serde(skip)]
    pub version: i64,
}

/// State of a connector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectorStateInfo {
    /// RUNNING, PAUSED, STOPPED, FAILED, UNASSIGNED, RESTARTING.
    pub state: String,
    /// host:port of the worker that wrote it.
    pub worker_id: String,
    /// Version of the plug-in, where known.
    pub version: Option<String>,
    /// What failed, where, with its backtrace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What its restart policy makes of it. Absent without one, as Kafka Connect has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartView>,
}

/// State of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskStateInfo {
    /// Its number.
    pub id: u32,
    /// As for the connector.
    #[serde(flatten)]
    pub state: ConnectorStateInfo,
}

/// `GET /connectors/{n}/status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: String,
    /// State of the connector itself.
    pub connector: ConnectorStateInfo,
    /// States of the tasks by number.
    pub tasks: Vec<TaskStateInfo>,
    /// source, sink or unknown.
    #[serde(rename = "type")]
    pub connector_type: ConnectorType,
}

/// One entry of `GET /connectors/{n}/tasks`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskInfo {
    /// Its name.
    pub id: ConnectorTaskId,
    /// Its configuration, with `task.class`.
    pub config: Props,
}

/// `POST /connectors/{n}/restart?includeTasks=..&onlyFailed=..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestartRequest {
    /// Tasks, too.
    pub include_tasks: bool,
    /// Only what is FAILED.
    pub only_failed: bool,
}

/// `GET /`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerInfo {
    /// Version of connect-node.
    pub version: String,
    /// Commit that it was built from.
    pub commit: String,
    /// Id of the Kafka cluster.
    pub kafka_cluster_id: String,
}

/// `GET /connectors/{n}/offsets`.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectorOffsets {
    /// One entry for each partition.
    pub offsets: Vec<ConnectorOffset>,
}

/// How far a partition of a source was read, or the committed offset of a sink's group in a partition of Kafka.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectorOffset {
    /// The partition, with Java's spelling of numbers.
    pub partition: Box<RawValue>,
    /// The offset.
    pub offset: Box<RawValue>,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<HerderResult<T>>;

/// A request to the herder.
#[derive(Debug)]
pub enum HerderRequest {
    /// Names of all connectors.
    Connectors(Reply<Vec<String>>),
    /// One connector.
    ConnectorInfo(String, Reply<ConnectorInfo>),
    /// Its status.
    ConnectorStatus(String, Reply<ConnectorStatus>),
    /// Its tasks.
    Tasks(String, Reply<Vec<TaskInfo>>),
    /// State of one task.
    TaskStatus(String, u32, Reply<TaskStateInfo>),
    /// Creates a connector; refused when the name is taken.
    Create {
        /// Its name, trimmed.
        name: String,
        /// Its configuration.
        config: BTreeMap<String, Option<String>>,
        /// In which state it begins.
        initial_state: Option<TargetState>,
        /// What was created.
        reply: Reply<ConnectorInfo>,
    },
    /// Creates or replaces a configuration. The answer says whether the connector is new.
    PutConfig {
        /// Its name.
        name: String,
        /// The whole configuration; a `None` is a configuration error.
        config: BTreeMap<String, Option<String>>,
        /// What has to hold of the present one.
        precondition: Precondition,
        /// Whether it is new, and what was written.
        reply: Reply<(bool, ConnectorInfo)>,
    },
    /// Changes some settings of a connector that exists (KIP-477).
    PatchConfig {
        /// Its name.
        name: String,
        /// The settings to change; a `None` removes one.
        changes: BTreeMap<String, Option<String>>,
        /// What has to hold of the present configuration.
        precondition: Precondition,
        /// What was written.
        reply: Reply<ConnectorInfo>,
    },
    /// Deletes a connector of which something holds.
    Delete(String, Precondition, Reply<()>),
    /// Pauses, resumes or stops it.
    SetTargetState(String, TargetState, Reply<()>),
    /// Restarts the connector alone and waits for it (204 in REST).
    RestartConnector(String, Reply<()>),
    /// Restarts a connector and tasks by plan; answers with the planned states.
    Restart(String, RestartRequest, Reply<ConnectorStatus>),
    /// Restarts one task.
    RestartTask(String, u32, Reply<()>),
    /// What is wrong with a configuration.
    Validate {
        /// The plug-in that the path names; `connector.class` must end alike.
        plugin: String,
        /// The configuration; a `None` is an error of most settings.
        config: BTreeMap<String, Option<String>>,
        /// All settings with their values and errors.
        reply: Reply<ConfigInfos>,
    },
    /// The settings of a plug-in of any kind, in one version if one is named.
    PluginDefinition(String, Option<String>, Reply<Vec<ConfigKey>>),
    /// Where a connector got to.
    Offsets(String, Reply<ConnectorOffsets>),
    /// The topics that a connector used, by name. Also for one that does not exist.
    ActiveTopics(String, Reply<Vec<String>>),
    /// Forgets them.
    ResetActiveTopics(String, Reply<()>),
    /// What `GET /` shows.
    ServerInfo(Reply<ServerInfo>),
    /// Whether the worker has joined and holds its lease.
    Health(Reply<String>),
    /// Who this process is, for other workers that probe it.
    Identity(Reply<WorkerIdentity>),
    /// Whether this worker reaches another one, for a third that does not.
    Reaches {
        /// The worker to probe.
        worker_id: String,
        /// With which it joined; another life of it is another worker.
        nonce: u64,
        /// Whether it answered.
        reply: Reply<Reaches>,
    },
    /// The members, what this worker knows of the units, and what they wait for; without a page no units.
    Cluster(Option<UnitsPage>, Reply<ClusterView>),
    /// Removes another worker from the members.
    Evict(String, Reply<Evicted>),
}

/// Asks the herder.
#[derive(Clone)]
pub struct HerderHandle {
    requests: mpsc::Sender<HerderRequest>,
}

impl HerderHandle {
    /// A handle and the queue that the herder reads.
    pub fn channel() -> (HerderHandle, mpsc::Receiver<HerderRequest>) {
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        (HerderHandle { requests }, queue)
    }

    /// Requests that wait for the herder.
    pub fn queue_length(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Sends the request that `make` builds and waits for its answer. A herder that crashed with the request in its hands
    /// answers [`HerderError::Lost`].
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> HerderRequest) -> HerderResult<T> {
        let (reply, answer) = oneshot::channel();
        match self.requests.try_send(make(reply)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(HerderError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(HerderError::Unavailable("the worker is stopping".into()));
            }
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HerderError::Lost),
            Err(_) => Err(HerderError::Timeout),
        }
    }
}
