//! Records of the config topic: Kafka Connect's (class `KafkaConfigBackingStore`) byte for byte, and `worker-<id>` and `turn-<id>`.

use bytes::Bytes;

use super::records::{
    FORMAT_VERSION, RawConfig, Reason, RecordError, count_field, int_field, optional_int, optional_text, parse_value,
    properties, properties_value, split_task, text_field, to_bytes,
};
use crate::backend::ProducerRecord;
use crate::cluster::{Incarnation, MemberState, Nonce};
use crate::json::{Json, Object};

const TARGET_STATE: &str = "target-state-";
const CONNECTOR: &str = "connector-";
pub(super) const TASK: &str = "task-";
const COMMIT: &str = "commit-";
const RESTART: &str = "restart-connector-";
const TASK_COUNT: &str = "tasks-fencing-";
const SESSION_KEY: &str = "session-key";
const LOGGER: &str = "logger-cluster-";
const WORKER: &str = "worker-";
const TURN: &str = "turn-";

/// The state that an operator asked for (Java: `TargetState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TargetState {
    /// Run. Also what holds without a record.
    #[default]
    Started,
    /// Keep everything open and move nothing.
    Paused,
    /// Stop the connector and have no tasks.
    Stopped,
}

impl TargetState {
    /// The word in the topic.
    pub fn word(self) -> &'static str {
        match self {
            TargetState::Started => "STARTED",
            TargetState::Paused => "PAUSED",
            TargetState::Stopped => "STOPPED",
        }
    }

    fn parse(word: &str) -> Result<TargetState, Reason> {
        match word {
            "STARTED" => Ok(TargetState::Started),
            "PAUSED" => Ok(TargetState::Paused),
            "STOPPED" => Ok(TargetState::Stopped),
            _ => Err(format!("{word:?} is no target state; known are STARTED, PAUSED and STOPPED")),
        }
    }
}

/// 64-bit FNV-1a of a configuration: tells whether task configs were made for the connector config that is in force,
/// whatever compaction left of the older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint of a configuration; the order of its properties does not matter.
    pub fn of(config: &RawConfig) -> Fingerprint {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut feed = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for (name, value) in config {
            feed(&(name.len() as u64).to_le_bytes());
            feed(name.as_bytes());
            match value {
                None => feed(&[0]),
                Some(text) => {
                    feed(&[1]);
                    feed(&(text.len() as u64).to_le_bytes());
                    feed(text.as_bytes());
                }
            }
        }
        Fingerprint(hash)
    }
}

/// A commit: the task records before it are a whole set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// How many tasks the set has.
    pub tasks: u32,
    /// For which connector config it was made; not in Java's records.
    pub config: Option<Fingerprint>,
}

/// A request to restart a connector and tasks, or a single task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestartRequest {
    /// Tasks, too.
    pub include_tasks: bool,
    /// Only what is FAILED.
    pub only_failed: bool,
    /// This task alone; not in Java's records.
    pub task: Option<u32>,
}

/// The key with which Java workers sign requests among each other. connect-node does not use it and must not lose it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// The key in base64.
    pub key: String,
    /// For example `HmacSHA256`.
    pub algorithm: String,
    /// Milliseconds since 1970.
    pub creation_timestamp: i64,
}

/// Without the key: it is a secret.
impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKey")
            .field("algorithm", &self.algorithm)
            .field("creation_timestamp", &self.creation_timestamp)
            .finish_non_exhaustive()
    }
}

/// The value of `worker-<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// Joined or draining.
    pub state: MemberState,
    /// Made anew for each join; by it a worker knows its own record.
    pub nonce: Nonce,
    /// The life that it belongs to; `None` in the `joined` record, whose offset becomes the incarnation.
    pub incarnation: Option<Incarnation>,
    /// Its `group.id`; empty in a record that does not say.
    pub group_id: String,
    /// Where its REST API is reached.
    pub rest_url: String,
    /// Where its gossip is reached, `host:port`; empty without gossip.
    pub gossip_address: String,
    /// Whether it has held its share of units once since it joined.
    pub settled: bool,
    /// Version of connect-node.
    pub node_version: String,
}

/// A record of the config topic. `None` in place of a value is a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigRecord {
    /// `connector-NAME`: its configuration; the tombstone deletes it.
    Connector(String, Option<RawConfig>),
    /// `target-state-NAME`; the tombstone is STARTED.
    TargetState(String, Option<TargetState>),
    /// `task-NAME-N`: counts with the next commit.
    Task(String, u32, RawConfig),
    /// `commit-NAME`.
    Commit(String, Commit),
    /// `tasks-fencing-NAME`: for how many tasks of an exactly-once source older producers were fenced.
    TaskCount(String, u32),
    /// `restart-connector-NAME`.
    Restart(String, RestartRequest),
    /// `session-key`.
    SessionKey(SessionKey),
    /// `logger-cluster-NAMESPACE`: the level.
    LoggerLevel(String, String),
    /// `worker-ID`: the tombstone says that it is gone.
    Member(String, Option<MemberRecord>),
    /// `turn-ID`: the worker waits for the shared transactional id; the tombstone says that it had its turn.
    Turn(String, bool),
}

impl ConfigRecord {
    /// Reads a record. A record that Java would drop is an error here.
    pub fn decode(offset: i64, key: Option<&Bytes>, value: Option<&Bytes>) -> Result<ConfigRecord, RecordError> {
        let key = String::from_utf8_lossy(key.map_or(&[], |key| &key[..]));
        Self::decode_parts(&key, value).map_err(|reason| RecordError { key: key.into_owned(), offset, reason })
    }

    /// The prefixes are tested in Java's order.
    fn decode_parts(key: &str, value: Option<&Bytes>) -> Result<ConfigRecord, Reason> {
        let value = || parse_value(value);
        let required = || value()?.ok_or_else(|| "a tombstone means nothing for this key".to_owned());
        if let Some(name) = key.strip_prefix(TARGET_STATE) {
            let state = value()?.map(|value| decode_target_state(&value)).transpose()?;
            Ok(ConfigRecord::TargetState(name.to_owned(), state))
        } else if let Some(name) = key.strip_prefix(CONNECTOR) {
            let config = value()?.map(|value| properties(&value)).transpose()?;
            Ok(ConfigRecord::Connector(name.to_owned(), config))
        } else if let Some(rest) = key.strip_prefix(TASK) {
            let (name, task) = split_task(rest)?;
            Ok(ConfigRecord::Task(name, task, properties(&required()?)?))
        } else if let Some(name) = key.strip_prefix(COMMIT) {
            Ok(ConfigRecord::Commit(name.to_owned(), decode_commit(&required()?)?))
        } else if let Some(name) = key.strip_prefix(RESTART) {
            Ok(ConfigRecord::Restart(name.to_owned(), decode_restart(&required()?)?))
        } else if let Some(name) = key.strip_prefix(TASK_COUNT) {
            Ok(ConfigRecord::TaskCount(name.to_owned(), count_field(&required()?, "task-count")?))
        } else if key == SESSION_KEY {
            decode_session_key(&required()?).map(ConfigRecord::SessionKey)
        } else if let Some(namespace) = key.strip_prefix(LOGGER) {
            Ok(ConfigRecord::LoggerLevel(namespace.to_owned(), text_field(&required()?, "level")?))
        } else if let Some(id) = key.strip_prefix(WORKER) {
            let member = value()?.map(|value| decode_member(&value)).transpose()?;
            Ok(ConfigRecord::Member(id.to_owned(), member))
        } else if let Some(id) = key.strip_prefix(TURN) {
            Ok(ConfigRecord::Turn(id.to_owned(), value()?.is_some()))
        } else {
            Err("no kind of record is known that has such a key".to_owned())
        }
    }

    /// The key.
    pub fn key(&self) -> Bytes {
        let key = match self {
            ConfigRecord::Connector(name, _) => connector_key(name),
            ConfigRecord::TargetState(name, _) => format!("{TARGET_STATE}{name}"),
            ConfigRecord::Task(name, task, _) => task_key(name, *task),
            ConfigRecord::Commit(name, _) => commit_key(name),
            ConfigRecord::TaskCount(name, _) => format!("{TASK_COUNT}{name}"),
            ConfigRecord::Restart(name, _) => format!("{RESTART}{name}"),
            ConfigRecord::SessionKey(_) => SESSION_KEY.to_owned(),
            ConfigRecord::LoggerLevel(namespace, _) => format!("{LOGGER}{namespace}"),
            ConfigRecord::Member(id, _) => format!("{WORKER}{id}"),
            ConfigRecord::Turn(id, _) => format!("{TURN}{id}"),
        };
        Bytes::from(key)
    }

    /// The value; `None` for a tombstone.
    pub fn value(&self) -> Option<Bytes> {
        let value = match self {
            ConfigRecord::Connector(_, config) => properties_value(config.as_ref()?),
            ConfigRecord::TargetState(_, state) => target_state_value((*state)?),
            ConfigRecord::Task(_, _, config) => properties_value(config),
            ConfigRecord::Commit(_, commit) => commit_value(*commit),
            ConfigRecord::TaskCount(_, count) => Object::new().with("task-count", i64::from(*count)),
            ConfigRecord::Restart(_, request) => restart_value(*request),
            ConfigRecord::SessionKey(key) => session_key_value(key),
            ConfigRecord::LoggerLevel(_, level) => Object::new().with("level", level.as_str()),
            ConfigRecord::Member(_, member) => member_value(member.as_ref()?),
            ConfigRecord::Turn(_, waits) => waits.then(|| Object::new().with("v", FORMAT_VERSION))?,
        };
        Some(to_bytes(value))
    }

    /// The record to write.
    pub fn encode(&self, topic: &str) -> ProducerRecord {
        ProducerRecord::keyed(topic, self.key(), self.value())
    }
}

/// Whether this key is that of a record by which workers take turns. Nothing but speed depends on these.
pub(super) fn is_turn(key: &[u8]) -> bool {
    key.starts_with(TURN.as_bytes())
}

/// Whether this key is that of a member. Only its worker writes it, and who has it removed.
pub(super) fn is_member(key: &[u8]) -> bool {
    key.starts_with(WORKER.as_bytes())
}

/// The connector whose state a record with this key is part of. Task records are part of none before their commit.
pub(super) fn connector_of(key: &[u8]) -> Option<String> {
    let key = String::from_utf8_lossy(key);
    let kinds = [TARGET_STATE, CONNECTOR, COMMIT, RESTART];
    kinds.iter().find_map(|kind| key.strip_prefix(kind)).map(ToOwned::to_owned)
}

pub(super) fn connector_key(name: &str) -> String {
    format!("{CONNECTOR}{name}")
}

pub(super) fn task_key(name: &str, task: u32) -> String {
    format!("{TASK}{name}-{task}")
}

pub(super) fn commit_key(name: &str) -> String {
    format!("{COMMIT}{name}")
}

/// `state.v2` counts where it is text; else `state`, which workers before 3.5 wrote alone.
fn decode_target_state(value: &Object) -> Result<TargetState, Reason> {
    match value.get("state.v2") {
        Some(Json::String(word)) => TargetState::parse(word),
        _ => TargetState::parse(&text_field(value, "state")?),
    }
}

fn target_state_value(state: TargetState) -> Object {
    let before_3_5 = if state == TargetState::Stopped { TargetState::Paused } else { state };
    Object::new().with("state", before_3_5.word()).with("state.v2", state.word())
}

fn decode_commit(value: &Object) -> Result<Commit, Reason> {
    let tasks = count_field(value, "tasks")?;
    let config = match value.get("config") {
        Some(Json::String(text)) => u64::from_str_radix(text, 16).ok().map(Fingerprint),
        _ => None,
    };
    Ok(Commit { tasks, config })
}

fn commit_value(commit: Commit) -> Object {
    let value = Object::new().with("tasks", i64::from(commit.tasks));
    match commit.config {
        None => value,
        Some(Fingerprint(hash)) => value.with("v", FORMAT_VERSION).with("config", format!("{hash:016x}")),
    }
}

/// A missing or odd flag counts as false.
fn decode_restart(value: &Object) -> Result<RestartRequest, Reason> {
    let flag = |name: &str| value.get(name) == Some(&Json::Boolean(true));
    let task = match value.get("task") {
        None | Some(Json::Null) => None,
        Some(_) => Some(count_field(value, "task")?),
    };
    Ok(RestartRequest { include_tasks: flag("include-tasks"), only_failed: flag("only-failed"), task })
}

fn restart_value(request: RestartRequest) -> Object {
    let value = Object::new().with("include-tasks", request.include_tasks).with("only-failed", request.only_failed);
    match request.task {
        None => value,
        Some(task) => value.with("v", FORMAT_VERSION).with("task", i64::from(task)),
    }
}

fn decode_session_key(value: &Object) -> Result<SessionKey, Reason> {
    Ok(SessionKey {
        key: text_field(value, "key")?,
        algorithm: text_field(value, "algorithm")?,
        creation_timestamp: int_field(value, "creation-timestamp")?,
    })
}

fn session_key_value(key: &SessionKey) -> Object {
    Object::new()
        .with("key", key.key.as_str())
        .with("algorithm", key.algorithm.as_str())
        .with("creation-timestamp", key.creation_timestamp)
}

fn decode_member(value: &Object) -> Result<MemberRecord, Reason> {
    let state = match text_field(value, "state")?.as_str() {
        "joined" => MemberState::Joined,
        // Or a state that a later version knows: a member, whose units nobody takes, and to whom nobody gives any. To pass over the record would
        // leave its life to what was read before, which is not the same for all: compaction may have removed that.
        _ => MemberState::Draining,
    };
    Ok(MemberRecord {
        state,
        nonce: decode_nonce(&text_field(value, "nonce")?)?,
        incarnation: optional_int(value, "incarnation")?.map(Incarnation),
        group_id: optional_text(value, "group_id")?.unwrap_or_default(),
        rest_url: text_field(value, "rest_url")?,
        gossip_address: optional_text(value, "gossip_address")?.unwrap_or_default(),
        settled: value.get("settled") == Some(&Json::Boolean(true)),
        node_version: optional_text(value, "node_version")?.unwrap_or_default(),
    })
}

fn decode_nonce(text: &str) -> Result<Nonce, Reason> {
    u64::from_str_radix(text, 16).map(Nonce).map_err(|_| "field \"nonce\" should be a hexadecimal number".to_owned())
}

fn member_value(member: &MemberRecord) -> Object {
    let state = match member.state {
        MemberState::Joined => "joined",
        MemberState::Draining => "draining",
    };
    // The nonce as text: it does not fit into a signed 64-bit integer.
    let mut value =
        Object::new().with("v", FORMAT_VERSION).with("state", state).with("nonce", format!("{:016x}", member.nonce.0));
    if let Some(Incarnation(offset)) = member.incarnation {
        value.insert("incarnation", offset);
    }
    value
        .with("group_id", member.group_id.as_str())
        .with("rest_url", member.rest_url.as_str())
        .with("gossip_address", member.gossip_address.as_str())
        .with("settled", member.settled)
        .with("node_version", member.node_version.as_str())
}
