//! The plug-in interface of connect-node, in Kafka Connect's words.
//!
//! A connector author depends on this crate alone. It names no actor, no HTTP, no Kafka client and no async runtime,
//! so the compiler proves that none of them leaks into the interface. A whole small connector stands in
//! `CONTRIBUTING.md`.
//!
//! # What there is
//!
//! | To write a | implement | and get |
//! |---|---|---|
//! | source | [`Connector`], [`SourceConnector`], [`SourceTask`] | [`ConnectorContext`], [`SourceTaskContext`] |
//! | sink | [`Connector`], [`SinkConnector`], [`SinkTask`] | [`ConnectorContext`], [`SinkTaskContext`] |
//! | converter | [`Converter`] or [`HeaderConverter`] | |
//! | transformation | [`Transformation`], [`Predicate`] | |
//!
//! Settings are declared with [`ConfigDef`] and read through [`ParsedConfig`]. Data is a [`Value`] with or without a
//! [`Schema`]; both are cheap to clone, and long values are shared, not copied. Errors are [`ConnectError`]s, whose
//! [`ErrorKind`] decides what the runtime does.
//!
//! # How it is called
//!
//! * Where Java blocks, the methods here are `async`; a plug-in that cannot be async says so with `blocking()` and gets
//!   a named thread of its own.
//! * Everything moves in batches: no call of this interface happens once per record, except
//!   [`SourceTask::commit_record`], which a task has to ask for, and the calls of transformations and converters.
//! * A connector or task is made fresh for each start. Its methods are called one after another, never at the same time.
//! * `stop` is called at the end, also after an error of another callback.
//!
//! # Differences from Java
//!
//! * The logical types Decimal, Date, Time and Timestamp are variants of [`Value`], so a value says what it is even without a
//!   schema.
//! * Configurations have no nulls; a missing setting is missing.
//! * Commits upstream ([`SourceTask::commit`], [`SourceTask::commit_record`]) come after the offset is durable, not before.

pub mod config_def;
pub mod connector;
pub mod connector_utils;
pub mod converter;
pub mod errors;
pub mod java_text;
pub mod offsets;
pub mod record;
pub mod schema;
pub mod sink;
pub mod source;
pub mod structs;
pub mod transformation;
pub mod value;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use bytestring::ByteString;

pub use config_def::{
    ConfigDef, ConfigKey, ConfigValue, Importance, ParsedConfig, ParsedValue, Password, Recommender, Type, Validator,
    Width,
};
pub use connector::{
    Connector, ConnectorContext, ExactlyOnceSupport, Props, SinkConnector, SourceConnector, SourceOffsetChange,
};
pub use converter::{Converter, HeaderConverter};
pub use errors::{ConnectError, ErrorKind, Result};
pub use offsets::{FieldMap, OffsetStorageReader, SourceOffset, SourcePartition};
pub use record::{Header, Headers, Record, SchemaAndValue, SinkRecord, SourceRecord, TimestampType, TopicPartition};
pub use schema::{Field, Logical, Schema, SchemaBuilder, SchemaRef, SchemaType};
pub use sink::{SinkTask, SinkTaskContext};
pub use source::{RecordMetadata, SourceTask, SourceTaskContext};
pub use structs::Struct;
pub use transformation::{Predicate, Transformation};
pub use value::{Decimal, Value};

/// Compiles the connector in CONTRIBUTING.md.
#[cfg(doctest)]
#[doc = include_str!("../../CONTRIBUTING.md")]
struct Contributing;
