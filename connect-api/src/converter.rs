//! Converters: between data with schemas and the bytes in a topic.

use bytes::Bytes;

use crate::config_def::ConfigDef;
use crate::connector::Props;
use crate::errors::Result;
use crate::record::{Header, SchemaAndValue};
use crate::schema::Schema;
use crate::value::Value;

/// Between keys or values and bytes. A converter belongs to one task and is used by it alone.
#[expect(clippy::wrong_self_convention, reason = "the names are Kafka Connect's")]
pub trait Converter: Send {
    /// The settings of this converter.
    fn config(&self) -> ConfigDef;

    /// Called once before anything else.
    fn configure(&mut self, props: &Props, is_key: bool) -> Result<()>;

    /// The bytes of a value; `None` stands for a null record key or a tombstone. An unchanged value should be
    /// handed on without a copy.
    fn from_connect_data(
        &mut self,
        topic: &str,
        headers: &[Header],
        schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>>;

    /// The data that bytes stand for.
    fn to_connect_data(&mut self, topic: &str, headers: &[RawHeader], bytes: Option<&Bytes>) -> Result<SchemaAndValue>;
}

/// A header as it stands in a topic.
pub type RawHeader = (bytestring::ByteString, Option<Bytes>);

/// Between header values and bytes.
#[expect(clippy::wrong_self_convention, reason = "the names are Kafka Connect's")]
pub trait HeaderConverter: Send {
    /// The settings of this converter.
    fn config(&self) -> ConfigDef;

    /// Called once before anything else.
    fn configure(&mut self, props: &Props) -> Result<()>;

    /// The bytes of a header value.
    fn from_connect_header(&mut self, topic: &str, key: &str, value: &SchemaAndValue) -> Result<Option<Bytes>>;

    /// The header value that bytes stand for.
    fn to_connect_header(&mut self, topic: &str, key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue>;
}
