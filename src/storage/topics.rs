//! Creates or checks the three internal topics (Java: `TopicAdmin`, `KafkaTopicBasedBackingStore`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{BackendError, NewTopic, TopicAdmin, TopicDescription};

/// The policy that all three need: the last record of a key stays for ever.
const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";

/// How old a record has to be before compaction may remove it.
const MIN_COMPACTION_LAG: &str = "min.compaction.lag.ms";

/// Who waits for a lease to end counts on having seen every record of that time, also those that another one has replaced. The active
/// segment keeps them, unless a small `segment.ms` or `segment.bytes` closes it; this setting keeps them in any case. Well above any sensible
/// `worker.fence.timeout.ms`.
pub const COMPACTION_LAG_MS: u64 = 60_000;

/// How long a topic may take to show up after it was created.
pub const TOPIC_CREATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What an internal topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicPurpose {
    /// Connectors, tasks, target states, members. One partition, always.
    Config,
    /// Source offsets.
    Offset,
    /// States of connectors and tasks, and who may run them.
    Status,
}

impl TopicPurpose {
    /// The worker setting that names the topic.
    fn setting(self) -> &'static str {
        match self {
            TopicPurpose::Config => "config.storage.topic",
            TopicPurpose::Offset => "offset.storage.topic",
            TopicPurpose::Status => "status.storage.topic",
        }
    }

    /// Whether its records decide who may run what.
    fn has_registers(self) -> bool {
        matches!(self, TopicPurpose::Config | TopicPurpose::Status)
    }
}

/// An internal topic as the worker settings want it.
#[derive(Debug, Clone)]
pub struct InternalTopic {
    /// What it is for.
    pub purpose: TopicPurpose,
    /// Its name.
    pub name: String,
    /// Partitions at creation; -1: the broker's default. Of no effect for a config topic.
    pub partitions: i32,
    /// Replicas at creation; -1: the broker's default.
    pub replication_factor: i16,
    /// Topic settings at creation, from `config.storage.*` and so on. A `cleanup.policy` is ignored.
    pub config: BTreeMap<String, String>,
}

/// Why a worker cannot use its internal topic.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopicError {
    /// Its policy would delete records.
    #[error(
        "topic {name} ({setting}) has cleanup.policy={found}, which would delete what connect-node still needs; set it to \
         cleanup.policy=compact, or name another topic"
    )]
    Policy {
        /// The topic.
        name: String,
        /// The setting that names it.
        setting: &'static str,
        /// Its policy.
        found: String,
    },
    /// It has several partitions and must have one.
    #[error(
        "topic {name} ({setting}) has {found} partitions and must have exactly one, since its records need one order; name \
         another topic, or delete this one if nothing in it is needed"
    )]
    Partitions {
        /// The topic.
        name: String,
        /// The setting that names it.
        setting: &'static str,
        /// How many it has.
        found: i32,
    },
    /// It was created and did not show up.
    #[error("topic {name} ({setting}) was created and does not show up after {} s", TOPIC_CREATION_TIMEOUT.as_secs())]
    Absent {
        /// The topic.
        name: String,
        /// The setting that names it.
        setting: &'static str,
    },
    /// The backend failed.
    #[error("topic {name} ({setting}): {error}")]
    Backend {
        /// The topic.
        name: String,
        /// The setting that names it.
        setting: &'static str,
        /// How.
        error: BackendError,
    },
}

/// Creates the topic where there is none, and checks the one that is there.
pub async fn create_or_check(admin: &dyn TopicAdmin, topic: &InternalTopic) -> Result<TopicDescription, TopicError> {
    let (name, setting) = (topic.name.clone(), topic.purpose.setting());
    let failed = |error| TopicError::Backend { name: name.clone(), setting, error };
    if let Some(found) = admin.describe_topic(&topic.name).await.map_err(failed)? {
        let found = check(topic, found)?;
        keep_young_records(admin, topic, &found).await;
        return Ok(found);
    }
    admin.create_topic(&new_topic(topic)).await.map_err(failed)?;
    tracing::info!(topic = %topic.name, setting, "created");
    let deadline = Instant::now() + TOPIC_CREATION_TIMEOUT;
    loop {
        // Another worker may have created it, in its own way.
        if let Some(found) = admin.describe_topic(&topic.name).await.map_err(failed)? {
            return check(topic, found);
        }
        if Instant::now() >= deadline {
            return Err(TopicError::Absent { name, setting });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Raises the compaction lag of a topic that was made by somebody else. Where that is not allowed, the operator hears of it.
async fn keep_young_records(admin: &dyn TopicAdmin, topic: &InternalTopic, found: &TopicDescription) {
    let lag = found.setting(MIN_COMPACTION_LAG).and_then(|lag| lag.parse::<u64>().ok());
    if !topic.purpose.has_registers() || lag.is_some_and(|lag| lag >= COMPACTION_LAG_MS) {
        return;
    }
    let name = &topic.name;
    match admin.set_topic_setting(name, MIN_COMPACTION_LAG, &COMPACTION_LAG_MS.to_string()).await {
        Ok(()) => tracing::info!(topic = %name, "set {MIN_COMPACTION_LAG}={COMPACTION_LAG_MS}"),
        Err(error) => tracing::warn!(
            topic = %name,
            segment_ms = found.setting("segment.ms"),
            %error,
            "{MIN_COMPACTION_LAG} could not be set; with segments that close often, compaction may remove records that a \
             starting worker has to see: set it to {COMPACTION_LAG_MS} yourself"
        ),
    }
}

fn new_topic(topic: &InternalTopic) -> NewTopic {
    let mut config = topic.config.clone();
    if topic.purpose.has_registers() {
        config.entry(MIN_COMPACTION_LAG.to_owned()).or_insert_with(|| COMPACTION_LAG_MS.to_string());
    }
    if let Some(ignored) = config.insert(CLEANUP_POLICY.to_owned(), COMPACT.to_owned()).filter(|old| old != COMPACT) {
        tracing::warn!(topic = %topic.name, ignored, "an internal topic is always created with cleanup.policy=compact");
    }
    let partitions = match topic.purpose {
        TopicPurpose::Config => {
            if !matches!(topic.partitions, 1 | -1) {
                tracing::warn!(topic = %topic.name, ignored = topic.partitions, "a config topic always has one partition");
            }
            1
        }
        TopicPurpose::Offset | TopicPurpose::Status => topic.partitions,
    };
    NewTopic { name: topic.name.clone(), partitions, replication_factor: topic.replication_factor, config }
}

fn check(topic: &InternalTopic, found: TopicDescription) -> Result<TopicDescription, TopicError> {
    let (name, setting) = (topic.name.clone(), topic.purpose.setting());
    match found.setting(CLEANUP_POLICY) {
        Some(COMPACT) => {}
        None => tracing::warn!(topic = %name, setting, "its cleanup.policy may not be described; it has to be compact"),
        Some(policy) => return Err(TopicError::Policy { name, setting, found: policy.to_owned() }),
    }
    if topic.purpose == TopicPurpose::Config && found.partitions != 1 {
        return Err(TopicError::Partitions { name, setting, found: found.partitions });
    }
    Ok(found)
}
