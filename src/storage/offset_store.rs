//! Where source tasks got to: the offset topic.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use bytestring::ByteString;
use connect_api::{ConnectError, OffsetStorageReader, SourceOffset, SourcePartition};

use super::offset_file::OffsetFileError;
use super::offset_records::{OffsetKey, content_of, decode_offset, encode_offset};
use super::records::RecordError;
use super::topic_log::{Fold, LogError, LogSettings, TopicLog};
use crate::backend::{Backend, ProducerRecord, ReadBatch};

/// How long a read may wait until everything that was written before it is read.
pub const OFFSET_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Why offsets could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OffsetError {
    /// A task gave a partition or offset that has no form in the topic. Nothing was written.
    #[error("connector {connector}: {what} cannot be stored: {reason}")]
    Unstorable {
        /// The connector.
        connector: String,
        /// `a source partition` or `a source offset`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The topic failed. Some of what was to be written may be stored.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The offset file of a standalone worker failed.
    #[error(transparent)]
    File(#[from] OffsetFileError),
}

impl OffsetError {
    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            OffsetError::File(error) => error.is_retriable(),
            OffsetError::Log(error) => error.is_retriable(),
            OffsetError::Unstorable { .. } => false,
        }
    }
}

/// A partition and how far it was read; `None` forgets it.
pub type OffsetEntry = (SourcePartition, Option<SourceOffset>);

/// Keeps the offsets of source connectors.
#[async_trait]
pub trait OffsetStore: Send + Sync {
    /// Writes the offsets and waits until all are stored, at most `limit`.
    async fn write(&self, connector: &str, entries: &[OffsetEntry], limit: Duration) -> Result<(), OffsetError>;

    /// The offset of each partition, in the order asked, as of now or later.
    async fn read(
        &self,
        connector: &str,
        partitions: &[SourcePartition],
    ) -> Result<Vec<Option<SourceOffset>>, OffsetError>;

    /// All partitions of a connector that have an offset, as of now or later. One that stands under several keys is there once.
    async fn all(&self, connector: &str) -> Result<Vec<(SourcePartition, SourceOffset)>, OffsetError>;
}

/// The offsets of one connector, as its tasks read them.
pub struct ConnectorOffsets {
    store: Arc<dyn OffsetStore>,
    connector: String,
}

impl ConnectorOffsets {
    /// Those of this connector.
    pub fn new(store: Arc<dyn OffsetStore>, connector: impl Into<String>) -> ConnectorOffsets {
        ConnectorOffsets { store, connector: connector.into() }
    }

    /// Writes offsets and waits until all are stored, at most `limit`.
    pub async fn write(&self, entries: &[OffsetEntry], limit: Duration) -> Result<(), OffsetError> {
        self.store.write(&self.connector, entries, limit).await
    }
}

#[async_trait]
impl OffsetStorageReader for ConnectorOffsets {
    async fn offsets(&self, partitions: &[SourcePartition]) -> connect_api::Result<Vec<Option<SourceOffset>>> {
        self.store.read(&self.connector, partitions).await.map_err(|error| {
            let retriable = error.is_retriable();
            let message = format!("the source offsets of connector {} could not be read", self.connector);
            let wrapped = if retriable { ConnectError::retriable(message) } else { ConnectError::fatal(message) };
            wrapped.caused_by(error)
        })
    }
}

/// An offset that was read.
struct Stored {
    partition: SourcePartition,
    offset: SourceOffset,
    content: Bytes,
    /// Greater for what was read later.
    order: u64,
}

/// The offsets of one connector by key. The bytes of the key are the identity; partitions of equal content may stand under several, since
/// Java orders the fields of a PATCH in its own way.
#[derive(Default)]
struct Offsets {
    by_key: HashMap<Bytes, Stored>,
    by_content: HashMap<Bytes, Vec<Bytes>>,
}

impl Offsets {
    fn put(&mut self, key: Bytes, stored: Stored) {
        if !self.by_key.contains_key(&key) {
            self.by_content.entry(stored.content.clone()).or_default().push(key.clone());
        }
        self.by_key.insert(key, stored);
    }

    fn remove(&mut self, key: &Bytes) {
        let Some(stored) = self.by_key.remove(key) else { return };
        if let Some(keys) = self.by_content.get_mut(&stored.content) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_content.remove(&stored.content);
            }
        }
    }

    /// The key under which a partition is found: that very one if it is there, else the one of equal content that was read last.
    fn find(&self, key: &Bytes, content: &Bytes) -> Option<(&Bytes, &Stored)> {
        self.by_key.get_key_value(key).or_else(|| self.last_of(self.by_content.get(content)?))
    }

    /// What was read last of these keys.
    fn last_of(&self, keys: &[Bytes]) -> Option<(&Bytes, &Stored)> {
        keys.iter().filter_map(|key| self.by_key.get_key_value(key)).max_by_key(|(_, stored)| stored.order)
    }
}

/// The offsets of all connectors, wherever they are stored.
#[derive(Default)]
pub(super) struct State {
    connectors: HashMap<ByteString, Offsets>,
    order: u64,
}

impl State {
    /// Takes in what is stored under a key; `at` is the offset of its record.
    pub(super) fn apply(&mut self, at: i64, key: &Bytes, value: Option<&Bytes>) -> Result<(), RecordError> {
        let OffsetKey { connector, partition: Some(partition) } = OffsetKey::decode(at, key)? else {
            return Ok(());
        };
        match decode_offset(at, key, value)? {
            Some(offset) => {
                let content = content_of(&partition).map_err(|reason| RecordError {
                    key: String::from_utf8_lossy(key).into_owned(),
                    offset: at,
                    reason,
                })?;
                self.order += 1;
                // Copied: a slice would keep the whole block of its batch alive.
                let key = Bytes::copy_from_slice(key);
                let (partition, offset) = (Arc::new(partition), Arc::new(offset));
                let stored = Stored { partition, offset, content, order: self.order };
                self.connectors.entry(connector).or_default().put(key, stored);
            }
            None => {
                if let Some(offsets) = self.connectors.get_mut(&connector) {
                    offsets.remove(key);
                    if offsets.by_key.is_empty() {
                        self.connectors.remove(&connector);
                    }
                }
            }
        }
        Ok(())
    }

    /// The keys and values that store these offsets. The key of a partition whose content is known is the one that was read. Forgetting a
    /// partition takes all keys of its content.
    pub(super) fn changes(&self, connector: &str, entries: &[OffsetEntry]) -> Result<Vec<Change>, OffsetError> {
        let unstorable = |what| move |reason| OffsetError::Unstorable { connector: connector.to_owned(), what, reason };
        let mut changes = Vec::with_capacity(entries.len());
        for (partition, offset) in entries {
            let (key, content) = identity(connector, partition)?;
            let value = offset.as_deref().map(encode_offset).transpose().map_err(unstorable("a source offset"))?;
            let keys = self.keys(connector, key, &content, value.is_none());
            changes.extend(keys.into_iter().map(|key| (key, value.clone())));
        }
        Ok(changes)
    }

    fn keys(&self, connector: &str, key: Bytes, content: &Bytes, all: bool) -> Vec<Bytes> {
        let Some(offsets) = self.connectors.get(connector) else { return vec![key] };
        let known = match offsets.by_content.get(content) {
            Some(keys) if all => keys.clone(),
            _ => offsets.find(&key, content).map(|(key, _)| key.clone()).into_iter().collect(),
        };
        if known.is_empty() { vec![key] } else { known }
    }

    /// The offset of each partition, in the order asked.
    pub(super) fn offsets(
        &self,
        connector: &str,
        partitions: &[SourcePartition],
    ) -> Result<Vec<Option<SourceOffset>>, OffsetError> {
        let offsets = self.connectors.get(connector);
        let find = |partition| {
            let (key, content) = identity(connector, partition)?;
            Ok(offsets.and_then(|offsets| offsets.find(&key, &content)).map(|(_, stored)| stored.offset.clone()))
        };
        partitions.iter().map(find).collect()
    }

    /// All offsets of a connector, in the order of their keys.
    pub(super) fn all(&self, connector: &str) -> Vec<(SourcePartition, SourceOffset)> {
        let Some(offsets) = self.connectors.get(connector) else { return Vec::new() };
        let mut all: Vec<_> = offsets.by_content.values().filter_map(|keys| offsets.last_of(keys)).collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, stored)| (stored.partition.clone(), stored.offset.clone())).collect()
    }
}

/// A key, and what is stored under it from now on; `None` removes it.
pub(super) type Change = (Bytes, Option<Bytes>);

/// The lock is held for plain calculations only, which do not panic half-way.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct OffsetFold(Arc<Mutex<State>>);

#[async_trait]
impl Fold for OffsetFold {
    async fn fold(&mut self, batch: &ReadBatch, _positions: &[i64]) {
        let mut state = lock(&self.0);
        for record in &batch.records {
            let Some(key) = &record.key else { continue };
            if let Err(error) = state.apply(record.offset, key, record.value.as_ref()) {
                let at = batch.partition(record);
                tracing::warn!(topic = %at.topic, partition = at.partition, "{error}");
            }
        }
    }
}

/// The offset topic (Java: `KafkaOffsetBackingStore`).
pub struct TopicOffsetStore {
    log: TopicLog,
    state: Arc<Mutex<State>>,
}

impl TopicOffsetStore {
    /// Reads the topic to its end and goes on following it.
    pub async fn open(
        backend: Arc<dyn Backend>,
        topic: &str,
        settings: LogSettings,
    ) -> Result<TopicOffsetStore, LogError> {
        let state = Arc::<Mutex<State>>::default();
        let log = TopicLog::open(backend, topic, settings, OffsetFold(state.clone())).await?;
        Ok(TopicOffsetStore { log, state })
    }

    /// The log itself: positions, ends, its loss.
    pub fn log(&self) -> &TopicLog {
        &self.log
    }

    /// The records that store these offsets; also for whoever writes them in a transaction with the data.
    pub fn records(&self, connector: &str, entries: &[OffsetEntry]) -> Result<Vec<ProducerRecord>, OffsetError> {
        let changes = lock(&self.state).changes(connector, entries)?;
        let record = |(key, value)| ProducerRecord::keyed(self.log.topic(), key, value);
        Ok(changes.into_iter().map(record).collect())
    }
}

/// The bytes that Java makes of this partition, and what tells its content.
fn identity(connector: &str, partition: &SourcePartition) -> Result<(Bytes, Bytes), OffsetError> {
    let made = OffsetKey::encode(connector, Some(partition)).and_then(|key| Ok((key, content_of(partition)?)));
    made.map_err(|reason| OffsetError::Unstorable {
        connector: connector.to_owned(),
        what: "a source partition",
        reason,
    })
}

#[async_trait]
impl OffsetStore for TopicOffsetStore {
    async fn write(&self, connector: &str, entries: &[OffsetEntry], limit: Duration) -> Result<(), OffsetError> {
        let records = self.records(connector, entries)?;
        self.log.append(records, limit).await?;
        Ok(())
    }

    async fn read(
        &self,
        connector: &str,
        partitions: &[SourcePartition],
    ) -> Result<Vec<Option<SourceOffset>>, OffsetError> {
        // What has no form in the topic is refused before anything is waited for.
        lock(&self.state).offsets(connector, partitions)?;
        self.log.read_to_end(OFFSET_READ_TIMEOUT).await?;
        lock(&self.state).offsets(connector, partitions)
    }

    async fn all(&self, connector: &str) -> Result<Vec<(SourcePartition, SourceOffset)>, OffsetError> {
        self.log.read_to_end(OFFSET_READ_TIMEOUT).await?;
        Ok(lock(&self.state).all(connector))
    }
}
