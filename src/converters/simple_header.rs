//! `org.apache.kafka.connect.storage.SimpleHeaderConverter`, the worker's default for headers: texts whose type is guessed
//! when they are read.

use connect_api::{Bytes, ConfigDef, HeaderConverter, Props, Result, SchemaAndValue};

use super::string::decode_utf8;
use super::values::{convert_to_string, parse_string};

/// Java's class name.
pub const CLASS: &str = "org.apache.kafka.connect.storage.SimpleHeaderConverter";

/// See the head of this file. It has no settings.
#[derive(Debug, Default)]
pub struct SimpleHeaderConverter {}

impl HeaderConverter for SimpleHeaderConverter {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, _props: &Props) -> Result<()> {
        Ok(())
    }

    fn from_connect_header(&mut self, _topic: &str, _key: &str, value: &SchemaAndValue) -> Result<Option<Bytes>> {
        Ok(convert_to_string(&value.value)?.map(Bytes::from))
    }

    fn to_connect_header(&mut self, _topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        Ok(bytes.map_or(SchemaAndValue::NULL, |bytes| parse_string(&decode_utf8(bytes))))
    }
}
