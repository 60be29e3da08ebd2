//! The plug-in interface of connect-node, in Kafka Connect's words.
//!
//! A connector author depends on this crate alone. It names no actor, no HTTP, no Kafka client and no async runtime,
//! so the compiler proves that none of them leaks into the interface.
//!
//! Where Java blocks, the methods here are `async`; a plug-in that cannot be async says so with `blocking()` and gets
//! a named thread of its own. Everything moves in batches: no call of this interface happens once per record, except
//! [`SourceTask::commit_record`], which a task has to ask for.

pub mod config_def;
pub mod connector;
pub mod connector_utils;
pub mod converter;
pub mod errors;
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

pub use config_def::{ConfigDef, ConfigValue, Importance, Type, Width};
pub use connector::{Connector, ConnectorContext, Props, SinkConnector, SourceConnector};
pub use converter::{Converter, HeaderConverter};
pub use errors::{ConnectError, ErrorKind, Result};
pub use offsets::{FieldMap, OffsetStorageReader, SourceOffset, SourcePartition};
pub use record::{Header, Headers, Record, SchemaAndValue, SinkRecord, SourceRecord, TimestampType, TopicPartition};
pub use schema::{Field, Schema, SchemaBuilder, SchemaRef, SchemaType};
pub use sink::{SinkTask, SinkTaskContext};
pub use source::{RecordMetadata, SourceTask, SourceTaskContext};
pub use structs::Struct;
pub use transformation::{Predicate, Transformation};
pub use value::{Decimal, Value};
