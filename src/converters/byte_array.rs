//! `org.apache.kafka.connect.converters.ByteArrayConverter`: bytes pass as they are.

use std::sync::LazyLock;

use connect_api::converter::RawHeader;
use connect_api::{
    Bytes, ConfigDef, ConnectError, Converter, Header, HeaderConverter, Props, Result, Schema, SchemaAndValue,
    SchemaType, Value, schema,
};

use super::settings;

/// Java's class name.
pub const CLASS: &str = "org.apache.kafka.connect.converters.ByteArrayConverter";

/// See the head of this file. What is read has an optional BYTES schema; only bytes can be written.
#[derive(Debug, Default)]
pub struct ByteArrayConverter {}

fn write(schema: Option<&Schema>, value: &Value) -> Result<Option<Bytes>> {
    if schema.is_some_and(|schema| *schema.schema_type() != SchemaType::Bytes) {
        return Err(ConnectError::data("the ByteArrayConverter writes BYTES alone, but the schema is of another type"));
    }
    match value {
        Value::Null => Ok(None),
        Value::Bytes(bytes) => Ok(Some(bytes.clone())),
        _ => Err(ConnectError::data("the ByteArrayConverter writes bytes alone, but the value is of another type")),
    }
}

fn read(bytes: Option<&Bytes>) -> SchemaAndValue {
    SchemaAndValue::new(LazyLock::force(&schema::OPTIONAL_BYTES).clone(), bytes.cloned())
}

impl Converter for ByteArrayConverter {
    fn config(&self) -> ConfigDef {
        settings::definition()
    }

    fn configure(&mut self, _props: &Props, _is_key: bool) -> Result<()> {
        Ok(())
    }

    fn from_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[Header],
        schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        write(schema, value)
    }

    fn to_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[RawHeader],
        bytes: Option<&Bytes>,
    ) -> Result<SchemaAndValue> {
        Ok(read(bytes))
    }
}

impl HeaderConverter for ByteArrayConverter {
    fn config(&self) -> ConfigDef {
        settings::definition()
    }

    fn configure(&mut self, _props: &Props) -> Result<()> {
        Ok(())
    }

    fn from_connect_header(&mut self, _topic: &str, _key: &str, value: &SchemaAndValue) -> Result<Option<Bytes>> {
        write(value.schema.as_deref(), &value.value)
    }

    fn to_connect_header(&mut self, _topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        Ok(read(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_without_a_copy() {
        let bytes = Bytes::from(vec![1, 2, 3]);
        let read = read(Some(&bytes));
        let written = write(read.schema.as_deref(), &read.value).unwrap().unwrap();
        assert_eq!(written.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn other_types_are_refused() {
        assert!(write(None, &Value::text("x")).is_err());
        assert!(write(Some(&schema::OPTIONAL_STRING), &Value::Null).is_err());
    }
}
