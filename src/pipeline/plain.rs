//! Converters for tests of pumps, which do not look at what is in a record.

use bytes::Bytes;
use connect_api::converter::RawHeader;
use connect_api::{ConfigDef, Converter, Header, HeaderConverter, Props, Schema, SchemaAndValue, Value};

use super::Converters;

/// Reads nothing and writes the same for everything.
struct Plain;

/// Such converters for keys, values and headers.
pub(super) fn converters() -> Converters {
    Converters { key: Box::new(Plain), value: Box::new(Plain), header: Box::new(Plain) }
}

impl Converter for Plain {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }
    fn configure(&mut self, _: &Props, _: bool) -> connect_api::Result<()> {
        Ok(())
    }
    fn from_connect_data(
        &mut self,
        _: &str,
        _: &[Header],
        _: Option<&Schema>,
        _: &Value,
    ) -> connect_api::Result<Option<Bytes>> {
        Ok(Some(Bytes::from_static(b"v")))
    }
    fn to_connect_data(&mut self, _: &str, _: &[RawHeader], _: Option<&Bytes>) -> connect_api::Result<SchemaAndValue> {
        Ok(SchemaAndValue::NULL)
    }
}

impl HeaderConverter for Plain {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }
    fn configure(&mut self, _: &Props) -> connect_api::Result<()> {
        Ok(())
    }
    fn from_connect_header(&mut self, _: &str, _: &str, _: &SchemaAndValue) -> connect_api::Result<Option<Bytes>> {
        Ok(None)
    }
    fn to_connect_header(&mut self, _: &str, _: &str, _: Option<&Bytes>) -> connect_api::Result<SchemaAndValue> {
        Ok(SchemaAndValue::NULL)
    }
}
