//! Opens the internal topics, in the shape that they must have.

use std::sync::Arc;
use std::time::Instant;

use crate::actors::clients;
use crate::actors::deps::Deps;
use crate::backend::{BackendError, Isolation};
use crate::config::client_settings::ClientKind;
use crate::storage::config_store::{ConfigStore, ConfigStoreSettings};
use crate::storage::offset_store::{OffsetStore, TopicOffsetStore};
use crate::storage::status_store::StatusStore;
use crate::storage::topic_log::{LogError, LogSettings};
use crate::storage::topics::{InternalTopic, TopicError, TopicPurpose, create_or_check};

/// Bytes of records of one internal topic that may wait to be sent. Java's `buffer.memory`.
const WRITER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Leaves a number to the broker.
const BROKER_DEFAULT: i32 = -1;

/// The internal topics, read to their ends.
pub struct Stores {
    /// The config topic.
    pub config: Arc<ConfigStore>,
    /// The status topic.
    pub status: Arc<StatusStore>,
    /// Source offsets.
    pub offsets: Arc<dyn OffsetStore>,
    /// The offset topic, where they are in one.
    pub offset_topic: Option<Arc<TopicOffsetStore>>,
    /// Of the Kafka cluster.
    pub cluster_id: String,
}

/// Why the internal topics are not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Waiting may help: no broker, no leader.
    #[error("{0}")]
    Unavailable(String),
    /// Waiting does not help: an operator has to do something.
    #[error("{0}")]
    Unusable(String),
}

impl OpenError {
    fn of(error: &BackendError, text: String) -> Self {
        match error {
            BackendError::Refused(_) => OpenError::Unusable(text),
            _ => OpenError::Unavailable(text),
        }
    }
}

impl From<TopicError> for OpenError {
    fn from(error: TopicError) -> Self {
        let text = error.to_string();
        match &error {
            TopicError::Backend { error, .. } => OpenError::of(error, text),
            TopicError::Absent { .. } => OpenError::Unavailable(text),
            TopicError::Policy { .. } | TopicError::Partitions { .. } => OpenError::Unusable(text),
        }
    }
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        let text = error.to_string();
        match &error {
            LogError::Backend { error, .. } => OpenError::of(error, text),
            LogError::Timeout { .. } | LogError::Lost { .. } => OpenError::Unavailable(text),
            LogError::Unusable { .. } => OpenError::Unusable(text),
        }
    }
}

/// Creates or checks the internal topics, and reads them. The cluster that is named and waited for is the one with the records.
/// `writer` is this worker's id.
pub async fn open_stores(deps: &Deps, writer: String) -> Result<Stores, OpenError> {
    let (began, config, backend) = (Instant::now(), &deps.config, &deps.internal);
    let cluster_id = deps.backend.admin().cluster_id().await;
    let cluster_id = cluster_id.map_err(|error| OpenError::of(&error, error.to_string()))?;
    let admin = backend.admin();
    for (purpose, topic) in [
        (TopicPurpose::Config, &config.config_storage),
        (TopicPurpose::Offset, &config.offset_storage),
        (TopicPurpose::Status, &config.status_storage),
    ] {
        if purpose == TopicPurpose::Offset && deps.offset_file.is_some() {
            continue;
        }
        let topic = InternalTopic {
            purpose,
            name: topic.name.clone(),
            partitions: topic.partitions.unwrap_or(BROKER_DEFAULT),
            replication_factor: topic.replication_factor.unwrap_or(BROKER_DEFAULT as i16),
            config: topic.settings.clone(),
        };
        create_or_check(&*admin, &topic).await?;
    }
    let checked = began.elapsed();
    let unusable = |error: connect_api::ConnectError| OpenError::Unusable(error.to_string());
    let consumer = clients::internal(config, ClientKind::Consumer).map_err(unusable)?;
    let producer = clients::internal(config, ClientKind::Producer).map_err(unusable)?;
    let settings = |isolation| LogSettings {
        reader: consumer.clone(),
        writer: producer.clone(),
        writer_max_bytes: WRITER_MAX_BYTES,
        isolation,
    };
    let config_settings = ConfigStoreSettings {
        log: settings(Isolation::ReadCommitted),
        transactional_writer: producer.clone(),
        transactional_id: format!("connect-cluster-{}", config.group_id),
        writer: Some(writer),
    };
    let offset_settings = settings(Isolation::ReadCommitted);
    let offsets = async {
        if let Some(file) = &deps.offset_file {
            return Ok::<(Arc<dyn OffsetStore>, _), LogError>((file.clone(), None));
        }
        let topic = TopicOffsetStore::open(backend.clone(), &config.offset_storage.name, offset_settings).await?;
        let topic = Arc::new(topic);
        Ok((topic.clone(), Some(topic)))
    };
    let (config, status, (offsets, offset_topic)) = tokio::try_join!(
        ConfigStore::open(backend.clone(), &config.config_storage.name, config_settings),
        StatusStore::open(backend.clone(), &config.status_storage.name, settings(Isolation::ReadUncommitted)),
        offsets,
    )?;
    tracing::debug!(?checked, opened = ?began.elapsed(), "the internal topics are read");
    Ok(Stores { config: Arc::new(config), status: Arc::new(status), offsets, offset_topic, cluster_id })
}
