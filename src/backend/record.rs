//! Records as they stand in a topic.

use bytes::Bytes;
use bytestring::ByteString;
use connect_api::{TimestampType, TopicPartition};

use super::BackendError;

/// Name and value; the value may be null.
pub type Header = (ByteString, Option<Bytes>);

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// The topic.
    pub topic: ByteString,
    /// `None`: by the key (murmur2), or any where there is no key.
    pub partition: Option<i32>,
    /// Null where `None`.
    pub key: Option<Bytes>,
    /// Null where `None`: a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970, not negative; `None`: now. The Kafka client cannot send 0: it becomes 1.
    pub timestamp: Option<i64>,
}

impl ProducerRecord {
    /// A keyed record without headers, stamped by the client.
    pub fn keyed(topic: impl Into<ByteString>, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            key: Some(key.into()),
            value,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// Bytes of key, value and headers: what counts against a bound in bytes.
    pub fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len));
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
    }
}

/// What became of records that a writer took.
#[derive(Debug, Clone)]
pub enum Ack {
    /// `count` records from sequence `first` on are stored by all in-sync replicas, one behind the other.
    Delivered {
        /// Sequence of the first.
        first: u64,
        /// How many, at least 1.
        count: u64,
        /// Their partition.
        partition: i32,
        /// The offset of the first; the others follow without a gap.
        offset: i64,
    },
    /// This record was not stored, or it is not known whether it was.
    Failed {
        /// Its sequence.
        sequence: u64,
        /// Why.
        error: BackendError,
    },
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Index of its partition in [`ReadBatch::partitions`].
    pub source: u32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 where there is none.
    pub timestamp: i64,
    /// Who set it.
    pub timestamp_type: TimestampType,
    /// Null where `None`. A slice of a block that the whole batch shares.
    pub key: Option<Bytes>,
    /// Null where `None`. A slice of a block that the whole batch shares.
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
}

/// What one call of `read` delivered. Kept and reused by the caller.
#[derive(Debug, Default)]
pub struct ReadBatch {
    /// The partitions that records refer to by index; kept from call to call, new ones are added behind.
    pub partitions: Vec<TopicPartition>,
    /// Records in order of arrival; within a partition by offset.
    pub records: Vec<ConsumerRecord>,
    /// Partitions whose end was reached, with the position there, in no order relative to the records: the
    /// position is behind all of the batch's records of that partition. Raised each time that the reader arrives at the end again.
    pub ends: Vec<(TopicPartition, i64)>,
}

impl ReadBatch {
    /// Removes records and events and keeps the memory and the partitions.
    pub fn clear(&mut self) {
        self.records.clear();
        self.ends.clear();
    }

    /// The index of a partition, which is added where it is new.
    pub(super) fn source_of(&mut self, partition: &TopicPartition) -> u32 {
        let known = self.partitions.iter().position(|other| other == partition);
        known.unwrap_or_else(|| {
            self.partitions.push(partition.clone());
            self.partitions.len() - 1
        }) as u32
    }

    /// The partition of a record.
    pub fn partition(&self, record: &ConsumerRecord) -> &TopicPartition {
        &self.partitions[record.source as usize]
    }
}
