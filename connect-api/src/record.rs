//! Records on their way between a plug-in and a topic.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytestring::ByteString;

use crate::offsets::{SourceOffset, SourcePartition};
use crate::schema::SchemaRef;
use crate::value::Value;

/// A value and the schema that describes it; no schema means schemaless data. Both are cheap to clone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchemaAndValue {
    /// `None`: schemaless.
    pub schema: Option<SchemaRef>,
    /// `Value::Null` where there is none.
    pub value: Value,
}

impl SchemaAndValue {
    /// Neither schema nor value.
    pub const NULL: SchemaAndValue = SchemaAndValue { schema: None, value: Value::Null };

    /// A value with its schema.
    pub fn new(schema: impl Into<Option<SchemaRef>>, value: impl Into<Value>) -> Self {
        SchemaAndValue { schema: schema.into(), value: value.into() }
    }
}

/// One header; names may repeat and the order counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its name.
    pub key: ByteString,
    /// Schema and value.
    pub value: SchemaAndValue,
}

/// Headers in order. Empty headers cost no allocation.
pub type Headers = Vec<Header>;

/// What source and sink records have in common, and what a transformation sees (Java: `ConnectRecord`).
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The Kafka topic.
    pub topic: ByteString,
    /// The Kafka partition; `None` in a source record lets the producer choose.
    pub kafka_partition: Option<i32>,
    /// Position in the Kafka partition; `None` in source records.
    pub kafka_offset: Option<i64>,
    /// Schema and value of the key.
    pub key: SchemaAndValue,
    /// Schema and value of the record; a null value is a tombstone.
    pub value: SchemaAndValue,
    /// Milliseconds since 1970; `None` lets the producer set the present time.
    pub timestamp: Option<i64>,
    /// Headers in order.
    pub headers: Headers,
}

impl Record {
    /// A record with a value for a topic, everything else absent.
    pub fn new(topic: impl Into<ByteString>, value: SchemaAndValue) -> Self {
        Record {
            topic: topic.into(),
            kafka_partition: None,
            kafka_offset: None,
            key: SchemaAndValue::NULL,
            value,
            timestamp: None,
            headers: Headers::new(),
        }
    }
}

/// A record that a source task read, with the place where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRecord {
    /// Where it was read.
    pub source_partition: SourcePartition,
    /// Where to go on after it.
    pub source_offset: SourceOffset,
    /// What goes to Kafka.
    pub record: Record,
}

impl Deref for SourceRecord {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.record
    }
}

impl DerefMut for SourceRecord {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

/// What the timestamp of a sink record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The broker did not say.
    NoTimestamp,
    /// Set by the producer.
    CreateTime,
    /// Set by the broker on append.
    LogAppendTime,
}

/// A topic and one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// A topic and one of its partitions.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A record that was read from Kafka for a sink task.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkRecord {
    /// Topic, partition, offset, key, value, timestamp and headers after all transformations.
    pub record: Record,
    /// Who set the timestamp.
    pub timestamp_type: TimestampType,
    /// Where the record really stands, before any transformation renamed its topic (KIP-793). The offset that is
    /// committed belongs to this partition.
    pub original: TopicPartition,
    /// Its offset in [`SinkRecord::original`].
    pub original_offset: i64,
}

impl Deref for SinkRecord {
    type Target = Record;
    fn deref(&self) -> &Record {
        &self.record
    }
}

impl DerefMut for SinkRecord {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}
