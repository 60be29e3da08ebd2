//! Connect data and schemas to JSON.

use connect_api::schema::logical;
use connect_api::{Bytes, ConnectError, Result, Schema, SchemaType, Struct, Value};

use super::json::Options;
use super::json_reader::describe;
use super::json_schema::RecentlyUsed;
use crate::json::WriteError;
use crate::json::writer::{
    write_array, write_base64, write_bool, write_f32, write_f64, write_i64, write_name, write_object, write_string,
    write_value_at,
};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Why data has no JSON form.
#[derive(Debug)]
pub(super) enum Error {
    Json(WriteError),
    Data(ConnectError),
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        Error::Json(error)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Error::Data(error)
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        match error {
            Error::Json(error) => ConnectError::data("the value has no JSON form").caused_by(error),
            Error::Data(error) => error,
        }
    }
}

/// Remembers the JSON of schemas.
#[derive(Debug)]
pub(super) struct SchemaWriter {
    known: RecentlyUsed<Schema, Bytes>,
}

impl SchemaWriter {
    pub(super) fn new(size: usize) -> Self {
        SchemaWriter { known: RecentlyUsed::new(size) }
    }

    /// The JSON of a schema, written to stand within an envelope.
    pub(super) fn json(&mut self, schema: &Schema, options: Options) -> Result<Bytes> {
        if let Some(json) = self.known.get(|known| known == schema) {
            return Ok(json.clone());
        }
        let mut out = Vec::new();
        write_schema(&mut out, schema, None, options, 1).map_err(ConnectError::from)?;
        let json = Bytes::from(out);
        self.known.insert(schema.clone(), json.clone());
        Ok(json)
    }
}

/// Parts of the JSON form of a schema in the order in which Java writes them.
enum Part<'a> {
    Type(&'static str),
    Inner(&'static str, Option<&'a Schema>),
    Fields,
    Optional,
    Name(&'a str),
    Version(i32),
    Doc(&'a str),
    Parameters,
    Default(&'a Value),
    Field(&'a str),
}

fn write_schema(
    out: &mut Vec<u8>,
    schema: &Schema,
    field: Option<&str>,
    options: Options,
    depth: usize,
) -> std::result::Result<(), Error> {
    let mut parts = Vec::with_capacity(8);
    parts.push(Part::Type(type_name(schema.schema_type())));
    match schema.schema_type() {
        SchemaType::Array(items) => parts.push(Part::Inner("items", items.as_deref())),
        SchemaType::Map(keys, values) => {
            parts.extend([Part::Inner("keys", keys.as_deref()), Part::Inner("values", values.as_deref())]);
        }
        SchemaType::Struct(_) => parts.push(Part::Fields),
        _ => {}
    }
    parts.push(Part::Optional);
    parts.extend(schema.name().map(Part::Name));
    parts.extend(schema.version().map(Part::Version));
    parts.extend(schema.doc().map(Part::Doc));
    if !schema.parameters().is_empty() {
        parts.push(Part::Parameters);
    }
    parts.extend(schema.default_value().map(Part::Default));
    parts.extend(field.map(Part::Field));
    write_object(out, depth, parts, |out, part, depth| write_part(out, schema, part, options, depth))
}

fn write_part(
    out: &mut Vec<u8>,
    schema: &Schema,
    part: Part<'_>,
    options: Options,
    depth: usize,
) -> std::result::Result<(), Error> {
    fn write_text(out: &mut Vec<u8>, name: &str, text: &str) {
        write_name(out, name);
        write_string(out, text);
    }
    match part {
        Part::Type(name) => write_text(out, "type", name),
        Part::Inner(name, inner) => {
            write_name(out, name);
            match inner {
                Some(inner) => write_schema(out, inner, None, options, depth)?,
                None => out.extend_from_slice(b"null"),
            }
        }
        Part::Fields => {
            write_name(out, "fields");
            write_array(out, depth, schema.fields(), |out, field, depth| {
                write_schema(out, &field.schema, Some(&field.name), options, depth)
            })?;
        }
        Part::Optional => {
            write_name(out, "optional");
            write_bool(out, schema.is_optional());
        }
        Part::Name(name) => write_text(out, "name", name),
        Part::Version(version) => {
            write_name(out, "version");
            write_i64(out, version.into());
        }
        Part::Doc(doc) => write_text(out, "doc", doc),
        Part::Parameters => {
            write_name(out, "parameters");
            write_object(out, depth, schema.parameters(), |out, (name, value), _| {
                write_text(out, name, value);
                Ok::<(), Error>(())
            })?;
        }
        Part::Default(value) => {
            write_name(out, "default");
            write_value(out, Some(schema), value, options, depth)?;
        }
        Part::Field(name) => write_text(out, "field", name),
    }
    Ok(())
}

fn type_name(schema_type: &SchemaType) -> &'static str {
    match schema_type {
        SchemaType::Int8 => "int8",
        SchemaType::Int16 => "int16",
        SchemaType::Int32 => "int32",
        SchemaType::Int64 => "int64",
        SchemaType::Float32 => "float",
        SchemaType::Float64 => "double",
        SchemaType::Boolean => "boolean",
        SchemaType::String => "string",
        SchemaType::Bytes => "bytes",
        SchemaType::Array(_) => "array",
        SchemaType::Map(..) => "map",
        SchemaType::Struct(_) => "struct",
    }
}

/// Appends the JSON of a value; `depth` arrays and objects are open around it.
pub(super) fn write_value(
    out: &mut Vec<u8>,
    schema: Option<&Schema>,
    value: &Value,
    options: Options,
    depth: usize,
) -> std::result::Result<(), Error> {
    let Some(schema) = schema else { return Ok(write_value_at(out, value, depth)?) };
    if value.is_null() {
        return match schema.default_value() {
            Some(default) if options.replace_null_with_default && !default.is_null() => {
                write_value(out, Some(schema), default, options, depth)
            }
            _ if schema.is_optional() => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            _ => Err(ConnectError::data(format!("null stands where {} is required", describe(schema))).into()),
        };
    }
    if let Some(written) = write_logical(out, schema, value, options) {
        return Ok(written?);
    }
    match (schema.schema_type(), value) {
        (SchemaType::Boolean, Value::Boolean(_))
        | (SchemaType::Int8, Value::Int8(_))
        | (SchemaType::Int16, Value::Int16(_))
        | (SchemaType::Int32, Value::Int32(_))
        | (SchemaType::Int64, Value::Int64(_))
        | (SchemaType::String, Value::String(_)) => Ok(write_value_at(out, value, depth)?),
        (SchemaType::Float32, Value::Float32(number)) => {
            write_f32(out, *number);
            Ok(())
        }
        (SchemaType::Float64, Value::Float64(number)) => {
            write_f64(out, *number);
            Ok(())
        }
        (SchemaType::Bytes, Value::Bytes(bytes)) => {
            write_base64(out, bytes);
            Ok(())
        }
        (SchemaType::Array(schema), Value::Array(items)) => {
            write_array(out, depth, items.iter(), |out, item, depth| {
                write_value(out, schema.as_deref(), item, options, depth)
            })
        }
        (SchemaType::Map(Some(keys), values), Value::Map(entries)) => {
            write_map(out, keys, values.as_deref(), entries, options, depth)
        }
        // As in Java, which asks for the type of the keys even where there is no entry.
        (SchemaType::Map(None, _), Value::Map(_)) => {
            Err(ConnectError::data("the schema of a map does not say what its keys are").into())
        }
        (SchemaType::Struct(_), Value::Struct(data)) => write_struct(out, schema, data, options, depth),
        _ => Err(mismatch(schema, value).into()),
    }
}

fn write_map(
    out: &mut Vec<u8>,
    keys: &Schema,
    values: Option<&Schema>,
    entries: &[(Value, Value)],
    options: Options,
    depth: usize,
) -> std::result::Result<(), Error> {
    if *keys.schema_type() != SchemaType::String {
        return write_array(out, depth, entries, |out, (key, value), depth| {
            write_array(out, depth, [(Some(keys), key), (values, value)], |out, (schema, value), depth| {
                write_value(out, schema, value, options, depth)
            })
        });
    }
    write_object(out, depth, entries, |out, (key, value), depth| {
        let key = match key {
            Value::Null => keys.default_value().filter(|_| options.replace_null_with_default).unwrap_or(key),
            key => key,
        };
        // A STRING schema with the name of a logical type holds nothing that could be written.
        let is_logical =
            matches!(keys.name(), Some(logical::DECIMAL | logical::DATE | logical::TIME | logical::TIMESTAMP));
        match key {
            Value::String(_) if is_logical => return Err(mismatch(keys, key).into()),
            Value::String(text) => write_name(out, text),
            // Java asks the null node for its text.
            Value::Null if keys.is_optional() => write_name(out, "null"),
            other => return Err(mismatch(keys, other).into()),
        }
        write_value(out, values, value, options, depth)
    })
}

fn write_struct(
    out: &mut Vec<u8>,
    schema: &Schema,
    data: &Struct,
    options: Options,
    depth: usize,
) -> std::result::Result<(), Error> {
    if !std::ptr::eq(&**data.schema(), schema) && **data.schema() != *schema {
        return Err(
            ConnectError::data(format!("a struct has another schema than its place: {}", describe(schema))).into()
        );
    }
    write_object(out, depth, schema.fields().iter().zip(data.values()), |out, (field, value), depth| {
        write_name(out, &field.name);
        write_value(out, Some(&field.schema), value, options, depth)
    })
}

/// `None` where the name of the schema is not that of a logical type. Java goes by the name alone.
fn write_logical(out: &mut Vec<u8>, schema: &Schema, value: &Value, options: Options) -> Option<Result<()>> {
    Some(match schema.name()? {
        logical::DECIMAL => write_decimal(out, schema, value, options),
        logical::DATE => instant(schema, value).and_then(|millis| match millis % DAY_MS {
            0 => {
                write_i64(out, millis / DAY_MS);
                Ok(())
            }
            _ => Err(ConnectError::data("a Date must not have a time of the day")),
        }),
        logical::TIME => instant(schema, value).and_then(|millis| match millis {
            0..=DAY_MS => {
                write_i64(out, millis);
                Ok(())
            }
            _ => Err(ConnectError::data(format!("a Time must lie between 0 and {DAY_MS} ms, but is {millis}"))),
        }),
        logical::TIMESTAMP => instant(schema, value).map(|millis| write_i64(out, millis)),
        _ => return None,
    })
}

/// Milliseconds since 1970 of what Java keeps in a `java.util.Date`, whichever of the three types it is.
fn instant(schema: &Schema, value: &Value) -> Result<i64> {
    match value {
        Value::Date(days) => Ok(i64::from(*days) * DAY_MS),
        Value::Time(millis) => Ok((*millis).into()),
        Value::Timestamp(millis) => Ok(*millis),
        other => Err(mismatch(schema, other)),
    }
}

fn write_decimal(out: &mut Vec<u8>, schema: &Schema, value: &Value, options: Options) -> Result<()> {
    let Value::Decimal(number) = value else { return Err(mismatch(schema, value)) };
    if options.numeric_decimals {
        out.extend_from_slice(number.to_string().as_bytes());
        return Ok(());
    }
    let scale = logical::scale_of(schema)?;
    if number.scale != scale {
        return Err(ConnectError::data(format!(
            "a Decimal has {} digits behind the point, but its schema says {scale}",
            number.scale
        )));
    }
    write_base64(out, &number.to_bytes());
    Ok(())
}

/// The values of a record stay out of messages, since messages are logged.
fn mismatch(schema: &Schema, value: &Value) -> ConnectError {
    let found = value.type_name();
    ConnectError::data(format!("the schema says {}, but the value is {found}", describe(schema)))
}
