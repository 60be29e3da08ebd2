//! Records of the status topic: Kafka Connect's (class `KafkaStatusBackingStore`), with our fields beside Java's, which ignores them.

use bytes::Bytes;

use super::records::{
    FORMAT_VERSION, Reason, RecordError, count_field, int_field, optional_int, optional_text, parse_value, split_task,
    text_field, to_bytes,
};
use crate::backend::ProducerRecord;
use crate::cluster::{Incarnation, NO_SET, RegisterFields};
use crate::json::{Json, Object};

const TASK: &str = "status-task-";
const CONNECTOR: &str = "status-connector-";
const TOPIC: &str = "status-topic-";
const TOPIC_CONNECTOR: &str = ":connector-";

/// A connector or a task: what is placed, claimed and reported on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitId {
    /// A connector.
    Connector(String),
    /// A task of a connector.
    Task(String, u32),
}

impl UnitId {
    /// The name of the connector, also of a task's.
    pub fn connector(&self) -> &str {
        match self {
            UnitId::Connector(name) | UnitId::Task(name, _) => name,
        }
    }

    /// The key of its status.
    pub fn key(&self) -> Bytes {
        Bytes::from(match self {
            UnitId::Connector(name) => format!("{CONNECTOR}{name}"),
            UnitId::Task(name, task) => format!("{TASK}{name}-{task}"),
        })
    }
}

/// `orders` or `orders-3`.
impl std::fmt::Display for UnitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnitId::Connector(name) => f.write_str(name),
            UnitId::Task(name, task) => write!(f, "{name}-{task}"),
        }
    }
}

/// The state of a unit (Java: `AbstractStatus.State`; DESTROYED is the tombstone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitState {
    /// Nobody runs it.
    Unassigned,
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// It failed and stays failed until it is restarted.
    Failed,
    /// It is about to be restarted.
    Restarting,
    /// Connectors only: stopped, without tasks.
    Stopped,
}

impl UnitState {
    /// The word in the topic and in REST answers.
    pub fn word(self) -> &'static str {
        match self {
            UnitState::Unassigned => "UNASSIGNED",
            UnitState::Running => "RUNNING",
            UnitState::Paused => "PAUSED",
            UnitState::Failed => "FAILED",
            UnitState::Restarting => "RESTARTING",
            UnitState::Stopped => "STOPPED",
        }
    }

    fn parse(word: &str) -> Result<UnitState, Reason> {
        use UnitState::{Failed, Paused, Restarting, Running, Stopped, Unassigned};
        let known = [Unassigned, Running, Paused, Failed, Restarting, Stopped];
        known.into_iter().find(|state| state.word() == word).ok_or_else(|| format!("{word:?} is no state of a unit"))
    }
}

/// The status of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRecord {
    /// What it does.
    pub state: UnitState,
    /// What failed.
    pub trace: Option<String>,
    /// host:port of the worker that wrote it.
    pub worker_id: String,
    /// Generation of Java's group; ours write 0, so that it never outranks a Java worker after a rollback.
    pub generation: i64,
    /// Version of the plug-in, where known.
    pub version: Option<String>,
    /// Our fields, which make the last record of a unit its register; `None` in a record of Java.
    pub register: Option<RegisterFields>,
    /// What the restart policy of its connector makes of a unit that failed lately; `None` where there is none, or it did not.
    pub restart: Option<RestartStatus>,
}

/// What `restart.policy` makes of a unit that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartStatus {
    /// It failed too often and is not started again by itself.
    pub breaker_open: bool,
    /// Which failure within the window the last one was, from 1.
    pub attempt: u32,
    /// When it failed last, milliseconds since 1970. Since then a breaker is open.
    pub since_ms: i64,
    /// When it is started again, milliseconds since 1970; `None` where it was already, or is not.
    pub next_at_ms: Option<i64>,
    /// Why, in a sentence.
    pub reason: String,
}

/// How an open breaker is called in the topic and in REST answers.
const BREAKER_OPEN: &str = "open";

impl RestartStatus {
    /// The word in the topic and in REST answers.
    pub fn breaker(&self) -> &'static str {
        if self.breaker_open { BREAKER_OPEN } else { "closed" }
    }
}

impl StatusRecord {
    /// Of a unit of which nothing can be read.
    pub(super) fn unknown() -> StatusRecord {
        StatusRecord {
            state: UnitState::Unassigned,
            trace: None,
            worker_id: String::new(),
            generation: 0,
            version: None,
            register: None,
            restart: None,
        }
    }
}

/// The value of `status-topic-TOPIC:connector-NAME`: a topic that a connector used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicUse {
    /// The task that used it first.
    pub task: u32,
    /// When, milliseconds since 1970.
    pub discovered_at: i64,
}

/// A record of the status topic. `None` in place of a value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusTopicRecord {
    /// `status-connector-NAME` or `status-task-NAME-N`.
    Status(UnitId, Option<StatusRecord>),
    /// `status-topic-TOPIC:connector-NAME`.
    TopicUse {
        /// The topic.
        topic: String,
        /// The connector that used it.
        connector: String,
        /// First use; the tombstone resets it.
        value: Option<TopicUse>,
    },
}

impl StatusTopicRecord {
    /// Reads a record. A record that Java would drop is an error here.
    pub fn decode(offset: i64, key: Option<&Bytes>, value: Option<&Bytes>) -> Result<StatusTopicRecord, RecordError> {
        let key = String::from_utf8_lossy(key.map_or(&[], |key| &key[..]));
        Self::decode_parts(&key, value).map_err(|reason| RecordError { key: key.into_owned(), offset, reason })
    }

    /// The unit that a record is about, whatever its value is.
    pub fn unit_of(key: Option<&Bytes>) -> Option<UnitId> {
        match Self::decode(0, key, None) {
            Ok(StatusTopicRecord::Status(unit, _)) => Some(unit),
            _ => None,
        }
    }

    fn decode_parts(key: &str, value: Option<&Bytes>) -> Result<StatusTopicRecord, Reason> {
        let status = || parse_value(value)?.map(|value| decode_status(&value)).transpose();
        if let Some(name) = key.strip_prefix(CONNECTOR) {
            Ok(StatusTopicRecord::Status(UnitId::Connector(name.to_owned()), status()?))
        } else if let Some(rest) = key.strip_prefix(TASK) {
            let (name, task) = split_task(rest)?;
            Ok(StatusTopicRecord::Status(UnitId::Task(name, task), status()?))
        } else if let Some(rest) = key.strip_prefix(TOPIC) {
            // A topic's name cannot hold a colon.
            let (topic, connector) = rest
                .find(':')
                .and_then(|colon| Some((&rest[..colon], rest[colon..].strip_prefix(TOPIC_CONNECTOR)?)))
                .ok_or_else(|| format!("the key should be {TOPIC}TOPIC{TOPIC_CONNECTOR}NAME"))?;
            let value = parse_value(value)?.map(|value| decode_topic_use(&value)).transpose()?;
            Ok(StatusTopicRecord::TopicUse { topic: topic.to_owned(), connector: connector.to_owned(), value })
        } else {
            Err("no kind of record is known that has such a key".to_owned())
        }
    }

    /// The key.
    pub fn key(&self) -> Bytes {
        match self {
            StatusTopicRecord::Status(unit, _) => unit.key(),
            StatusTopicRecord::TopicUse { topic, connector, .. } => {
                Bytes::from(format!("{TOPIC}{topic}{TOPIC_CONNECTOR}{connector}"))
            }
        }
    }

    /// The value; `None` for a tombstone.
    pub fn value(&self) -> Option<Bytes> {
        let value = match self {
            StatusTopicRecord::Status(_, status) => status_value(status.as_ref()?),
            StatusTopicRecord::TopicUse { topic, connector, value } => {
                topic_use_value(topic, connector, value.as_ref()?)
            }
        };
        Some(to_bytes(value))
    }

    /// The record to write.
    pub fn encode(&self, topic: &str) -> ProducerRecord {
        ProducerRecord::keyed(topic, self.key(), self.value())
    }
}

fn decode_status(value: &Object) -> Result<StatusRecord, Reason> {
    let register = decode_register(value)?;
    let state = match (UnitState::parse(&text_field(value, "state")?), register) {
        // A later version may know more states. Its register counts whatever they are: who passes over a claim runs what another worker runs.
        (Err(_), Some(_)) => UnitState::Unassigned,
        (state, _) => state?,
    };
    Ok(StatusRecord {
        state,
        trace: optional_text(value, "trace")?,
        worker_id: optional_text(value, "worker_id")?.unwrap_or_default(),
        generation: int_field(value, "generation")?,
        version: optional_text(value, "version")?,
        register,
        restart: decode_restart(value),
    })
}

/// It only tells something to people, so one that cannot be read is none: the register beside it counts.
fn decode_restart(value: &Object) -> Option<RestartStatus> {
    let restart = value.get("restart")?.as_object()?;
    Some(RestartStatus {
        breaker_open: restart.get("breaker")?.as_str()? == BREAKER_OPEN,
        attempt: count_field(restart, "attempt").ok()?,
        since_ms: int_field(restart, "since_ms").ok()?,
        next_at_ms: optional_int(restart, "next_at_ms").ok()?,
        reason: text_field(restart, "reason").ok()?,
    })
}

fn restart_value(restart: &RestartStatus) -> Object {
    Object::new()
        .with("breaker", restart.breaker())
        .with("attempt", i64::from(restart.attempt))
        .with("since_ms", restart.since_ms)
        .with("next_at_ms", restart.next_at_ms)
        .with("reason", restart.reason.as_str())
}

/// `None` for a record without our fields. One with some of them odd is an error: it names no holder, and replaces what stood before.
fn decode_register(value: &Object) -> Result<Option<RegisterFields>, Reason> {
    let Some(incarnation) = optional_int(value, "incarnation")? else { return Ok(None) };
    let claim = int_field(value, "claim")?;
    Ok(Some(RegisterFields {
        incarnation: Incarnation(incarnation),
        claim: u64::try_from(claim).map_err(|_| format!("field \"claim\" should not be negative and is {claim}"))?,
        held: match value.get("held") {
            Some(Json::Boolean(held)) => *held,
            _ => return Err("field \"held\" should be true or false".to_owned()),
        },
        at: int_field(value, "at")?,
        set: optional_int(value, "set")?.unwrap_or(NO_SET),
    }))
}

fn status_value(status: &StatusRecord) -> Object {
    let value = Object::new()
        .with("state", status.state.word())
        .with("trace", status.trace.clone())
        .with("worker_id", status.worker_id.as_str())
        .with("generation", status.generation)
        .with("version", status.version.clone());
    let value = match &status.register {
        None => value,
        Some(register) => value
            .with("v", FORMAT_VERSION)
            .with("incarnation", register.incarnation.0)
            // Claims are counted by one process; they do not reach 2^63.
            .with("claim", i64::try_from(register.claim).unwrap_or(i64::MAX))
            .with("held", register.held)
            .with("at", register.at)
            .with("set", register.set),
    };
    match &status.restart {
        None => value,
        Some(restart) => value.with("restart", restart_value(restart)),
    }
}

fn decode_topic_use(value: &Object) -> Result<TopicUse, Reason> {
    let Some(Json::Object(topic)) = value.get("topic") else {
        return Err("field \"topic\" should be an object".to_owned());
    };
    Ok(TopicUse { task: count_field(topic, "task")?, discovered_at: int_field(topic, "discoverTimestamp")? })
}

fn topic_use_value(topic: &str, connector: &str, value: &TopicUse) -> Object {
    let fields = Object::new()
        .with("name", topic)
        .with("connector", connector)
        .with("task", i64::from(value.task))
        .with("discoverTimestamp", value.discovered_at);
    Object::new().with("topic", fields)
}
