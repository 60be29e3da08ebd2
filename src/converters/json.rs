//! `org.apache.kafka.connect.json.JsonConverter`: JSON with or without schemas.
//!
//! With `schemas.enable` a record is an envelope `{"schema":..,"payload":..}`, else it is the payload alone and types are lost.
//! What is lenient or surprising here is so in Java: a number of the wrong size wraps around, a text where a number
//! should stand is 0, trailing bytes are ignored.

use connect_api::converter::RawHeader;
use connect_api::{
    Bytes, ConfigDef, ConfigKey, ConnectError, Converter, Header, HeaderConverter, Importance, Props, Result, Schema,
    SchemaAndValue, SchemaRef, Type, Validator, Value, Width,
};

use super::json_encoding::in_utf8;
use super::json_schema::SchemaReader;
use super::json_writer::{self, SchemaWriter};
use super::{json_reader, settings};
use crate::json::Json;
use crate::json::writer::{write_name, write_object};

/// Java's class name.
pub const CLASS: &str = "org.apache.kafka.connect.json.JsonConverter";

/// Setting: whether records are envelopes with a schema; `true` unless set.
pub const SCHEMAS_ENABLE_CONFIG: &str = "schemas.enable";
/// Setting: how many schemas are remembered in either direction; 1000 unless set, none with 0 or less.
pub const SCHEMAS_CACHE_SIZE_CONFIG: &str = "schemas.cache.size";
/// Setting: `BASE64` (default) or `NUMERIC`, in any case: how decimals are written. Both are read.
pub const DECIMAL_FORMAT_CONFIG: &str = "decimal.format";
/// Setting: whether the default of a schema stands for null; `true` unless set.
pub const REPLACE_NULL_WITH_DEFAULT_CONFIG: &str = "replace.null.with.default";
/// Setting: the schema, as JSON, of all records that are read; they are payloads alone then (KIP-1054). Only with
/// `schemas.enable`.
pub const SCHEMA_CONTENT_CONFIG: &str = "schema.content";

const DEFAULT_CACHE_SIZE: i32 = 1000;
const BASE64: &str = "BASE64";
const NUMERIC: &str = "NUMERIC";
const SCHEMA: &str = "schema";
const PAYLOAD: &str = "payload";

/// What both directions need to know of the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) numeric_decimals: bool,
    pub(super) replace_null_with_default: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub struct JsonConverter {
    schemas_enable: bool,
    options: Options,
    /// From `schema.content`.
    fixed_schema: Option<SchemaRef>,
    schemas_read: SchemaReader,
    schemas_written: SchemaWriter,
}

impl Default for JsonConverter {
    fn default() -> Self {
        JsonConverter {
            schemas_enable: true,
            options: Options { numeric_decimals: false, replace_null_with_default: true },
            fixed_schema: None,
            schemas_read: SchemaReader::new(DEFAULT_CACHE_SIZE as usize),
            schemas_written: SchemaWriter::new(DEFAULT_CACHE_SIZE as usize),
        }
    }
}

/// Java: `JsonConverterConfig`.
fn definition() -> ConfigDef {
    use Importance::{High, Low};
    let key = ConfigKey::new;
    let schemas = |key: ConfigKey, order, display: &str| key.group("Schemas", order, Width::Medium, display);
    let serialization =
        |key: ConfigKey, order, display: &str| key.group("Serialization", order, Width::Medium, display);
    let enable = key(SCHEMAS_ENABLE_CONFIG, Type::Boolean, High, "Whether each record carries its schema.");
    let cache = key(SCHEMAS_CACHE_SIZE_CONFIG, Type::Int, High, "How many schemas are remembered in each direction.");
    let content = key(SCHEMA_CONTENT_CONFIG, Type::String, High, "The schema, as JSON, of all records that are read.");
    let decimals =
        key(DECIMAL_FORMAT_CONFIG, Type::String, Low, "How decimals are written: as base64 text or as numbers.");
    let replace =
        key(REPLACE_NULL_WITH_DEFAULT_CONFIG, Type::Boolean, Low, "Whether the default of a schema stands for null.");
    settings::definition()
        .define(schemas(enable.default_value(true), 0, "Schemas in records"))
        .define(schemas(cache.default_value(DEFAULT_CACHE_SIZE), 1, "Schemas remembered"))
        .define(schemas(content.optional(), 2, "Schema of all records"))
        .define(serialization(
            decimals.default_value(BASE64).validator(Validator::one_of_ignoring_case(&[NUMERIC, BASE64])),
            0,
            "Decimals",
        ))
        .define(serialization(replace.default_value(true), 1, "Defaults for nulls"))
}

impl JsonConverter {
    fn set(&mut self, props: &Props, converter_type: &str) -> Result<()> {
        let config = settings::parse(&definition(), props, converter_type)?;
        self.schemas_enable = config.bool(SCHEMAS_ENABLE_CONFIG);
        let cache_size = usize::try_from(config.int(SCHEMAS_CACHE_SIZE_CONFIG)).unwrap_or(0);
        self.options = Options {
            numeric_decimals: config.string(DECIMAL_FORMAT_CONFIG).eq_ignore_ascii_case(NUMERIC),
            replace_null_with_default: config.bool(REPLACE_NULL_WITH_DEFAULT_CONFIG),
        };
        self.schemas_read = SchemaReader::new(cache_size);
        self.schemas_written = SchemaWriter::new(cache_size);
        self.fixed_schema = match config.opt_string(SCHEMA_CONTENT_CONFIG).filter(|text| !text.is_empty()) {
            Some(text) => {
                let json = read_json(&Bytes::copy_from_slice(text.as_bytes())).map_err(|error| {
                    ConnectError::data(format!("{SCHEMA_CONTENT_CONFIG} is not JSON")).caused_by(error)
                })?;
                self.schemas_read.schema(&json, self.options)?
            }
            None => None,
        };
        Ok(())
    }

    fn write(&mut self, schema: Option<&Schema>, value: &Value) -> Result<Option<Bytes>> {
        if schema.is_none() && value.is_null() {
            return Ok(None);
        }
        let options = self.options;
        let mut out = Vec::new();
        if self.schemas_enable {
            let schema_json = match schema {
                Some(schema) => self.schemas_written.json(schema, options)?,
                None => Bytes::from_static(b"null"),
            };
            out.reserve(schema_json.len() + 64);
            write_object(&mut out, 0, [SCHEMA, PAYLOAD], |out, name, depth| {
                write_name(out, name);
                if name == SCHEMA {
                    out.extend_from_slice(&schema_json);
                    return Ok(());
                }
                json_writer::write_value(out, schema, value, options, depth)
            })
            .map_err(ConnectError::from)?;
        } else {
            json_writer::write_value(&mut out, schema, value, options, 0).map_err(ConnectError::from)?;
        }
        Ok(Some(out.into()))
    }

    fn read(&mut self, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        let Some(bytes) = bytes else { return Ok(SchemaAndValue::NULL) };
        let json = read_json(bytes)?;
        if !self.schemas_enable {
            return Ok(SchemaAndValue { schema: None, value: json.into_value() });
        }
        if let Some(schema) = &self.fixed_schema {
            let value = json_reader::read_value(schema, &json, self.options)?;
            return Ok(SchemaAndValue { schema: Some(schema.clone()), value });
        }
        let Json::Object(mut envelope) = json else { return Err(no_envelope()) };
        if envelope.len() != 2 {
            return Err(no_envelope());
        }
        let (Some(schema), Some(payload)) = (envelope.take(SCHEMA), envelope.take(PAYLOAD)) else {
            return Err(no_envelope());
        };
        match self.schemas_read.schema(&schema, self.options)? {
            Some(schema) => {
                let value = json_reader::read_value(&schema, &payload, self.options)?;
                Ok(SchemaAndValue { schema: Some(schema), value })
            }
            None => Ok(SchemaAndValue { schema: None, value: payload.into_value() }),
        }
    }
}

/// Nothing at all counts as null.
fn read_json(bytes: &Bytes) -> Result<Json> {
    match Json::read(&in_utf8(bytes)?) {
        Ok(json) => Ok(json.unwrap_or_default()),
        Err(error) => Err(ConnectError::data("the bytes of the record are not JSON").caused_by(error)),
    }
}

fn no_envelope() -> ConnectError {
    ConnectError::data(format!(
        "with {SCHEMAS_ENABLE_CONFIG} a record must be an object of '{SCHEMA}' and '{PAYLOAD}' and nothing else; for JSON \
         without schemas set {SCHEMAS_ENABLE_CONFIG}=false"
    ))
}

impl Converter for JsonConverter {
    fn config(&self) -> ConfigDef {
        definition()
    }

    fn configure(&mut self, props: &Props, is_key: bool) -> Result<()> {
        self.set(props, settings::key_or_value(is_key))
    }

    fn from_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[Header],
        schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        self.write(schema, value)
    }

    fn to_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[RawHeader],
        bytes: Option<&Bytes>,
    ) -> Result<SchemaAndValue> {
        self.read(bytes)
    }
}

impl HeaderConverter for JsonConverter {
    fn config(&self) -> ConfigDef {
        definition()
    }

    fn configure(&mut self, props: &Props) -> Result<()> {
        self.set(props, settings::HEADER)
    }

    fn from_connect_header(&mut self, _topic: &str, _key: &str, value: &SchemaAndValue) -> Result<Option<Bytes>> {
        self.write(value.schema.as_deref(), &value.value)
    }

    fn to_connect_header(&mut self, _topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
        self.read(bytes)
    }
}

#[cfg(test)]
mod tests {
    use connect_api::{SchemaBuilder, SchemaType};

    use super::super::json_schema::MAX_SCHEMA_DEPTH;
    use super::*;

    fn converter(settings: &[(&str, &str)]) -> JsonConverter {
        let mut converter = JsonConverter::default();
        converter
            .set(&settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), "value")
            .unwrap();
        converter
    }

    fn nested(depth: usize, open: &str, inner: &str, close: &str) -> String {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    }

    /// A record must not be able to exhaust the stack: that would end the process.
    #[test]
    fn the_deepest_documents_fit_in_a_small_stack() {
        const STACK_BYTES: usize = 1024 * 1024;
        let check = || {
            let depth = MAX_SCHEMA_DEPTH - 1;
            let mut converter = converter(&[]);
            let schema = nested(depth, r#"{"type":"array","items":"#, r#"{"type":"int8"}"#, "}");
            let arrays = format!("{{\"schema\":{schema},\"payload\":{}}}", nested(depth, "[", "1", "]"));
            let schema =
                nested(depth, r#"{"type":"struct","field":"f","fields":["#, r#"{"type":"int8","field":"f"}"#, "]}");
            let structs = format!("{{\"schema\":{schema},\"payload\":{}}}", nested(depth, "{\"f\":", "1", "}"));
            for envelope in [arrays, structs] {
                let read = converter.read(Some(&envelope.into())).unwrap();
                assert!(converter.write(read.schema.as_deref(), &read.value).unwrap().is_some());
            }
            let deeper = nested(depth + 1, r#"{"type":"array","items":"#, r#"{"type":"int8"}"#, "}");
            assert!(converter.read(Some(&format!("{{\"schema\":{deeper},\"payload\":[]}}").into())).is_err());
            // The payload stands one level below the envelope.
            let payload = nested(crate::json::MAX_DEPTH - 1, "[", "1", "]");
            let schemaless = format!("{{\"schema\":null,\"payload\":{payload}}}");
            let read = converter.read(Some(&schemaless.clone().into())).unwrap();
            assert_eq!(converter.write(None, &read.value).unwrap().unwrap(), schemaless);
        };
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn equal_schemas_are_read_once_and_shared() {
        let mut converter = converter(&[(SCHEMAS_CACHE_SIZE_CONFIG, "1")]);
        let int = Bytes::from_static(br#"{"schema":{"type":"int32"},"payload":1}"#);
        let text = Bytes::from_static(br#"{"schema":{"type":"string"},"payload":"x"}"#);
        let first = converter.read(Some(&int)).unwrap().schema.unwrap();
        assert!(SchemaRef::ptr_eq(&first, &converter.read(Some(&int)).unwrap().schema.unwrap()));
        converter.read(Some(&text)).unwrap();
        assert!(!SchemaRef::ptr_eq(&first, &converter.read(Some(&int)).unwrap().schema.unwrap()));
    }

    #[test]
    fn texts_are_not_copied() {
        let bytes = Bytes::from_static(br#"{"name":"a value"}"#);
        let read = converter(&[(SCHEMAS_ENABLE_CONFIG, "false")]).read(Some(&bytes)).unwrap();
        let Value::Map(entries) = read.value else { panic!() };
        assert_eq!(entries[0].1.as_str().unwrap().as_ptr(), bytes[9..].as_ptr());
    }

    #[test]
    fn errors_do_not_show_the_record() {
        let mut converter = converter(&[]);
        for record in [r#"{"schema":{"type":"struct","fields":[]},"payload":"secret"}"#, r#"{"secret":1}"#, "secret"] {
            let error = converter.read(Some(&Bytes::from(record))).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        let schema = SchemaBuilder::new(SchemaType::Int8).build();
        let error = converter.write(Some(&schema), &Value::text("secret")).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
