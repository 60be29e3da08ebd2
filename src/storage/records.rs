//! What the records of all three internal topics have in common: errors, raw configurations, reading of fields.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use connect_api::Props;

use crate::json::{Json, Object};

/// Version of the fields and records that Kafka Connect does not have. A reader takes every version that has the fields it needs.
pub const FORMAT_VERSION: i64 = 1;

/// A configuration as it stands in the topic: nothing resolved, nothing parsed. A value may be null.
pub type RawConfig = BTreeMap<String, Option<String>>;

/// The settings of a configuration that have a value, as plug-ins get them.
pub fn with_values(config: &RawConfig) -> Props {
    config.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
}

/// A record that cannot be read. It is skipped and what was known before stays, as in Kafka Connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {key:?} at offset {offset} is ignored: {reason}")]
pub struct RecordError {
    /// Its key as text; what is not UTF-8 is replaced.
    pub key: String,
    /// Its offset.
    pub offset: i64,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a key or value cannot be read; [`RecordError`] adds where.
pub(super) type Reason = String;

/// Reads a value: `None` for a tombstone, and for the empty text and the JSON null, which Java's converter reads as null, too.
pub(super) fn parse_value(value: Option<&Bytes>) -> Result<Option<Object>, Reason> {
    let Some(bytes) = value else { return Ok(None) };
    match Json::read(bytes).map_err(|error| error.to_string())? {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(object)) => Ok(Some(object)),
        Some(other) => Err(format!("the value should be a JSON object and is {}", kind(&other))),
    }
}

/// The bytes of a value.
pub(super) fn to_bytes(object: Object) -> Bytes {
    // It fails for what is nested deeper than hundreds of levels; our records have three at most.
    Json::Object(object).to_bytes().expect("records of the internal topics are flat")
}

/// The text of a field that must be there.
pub(super) fn text_field(object: &Object, name: &str) -> Result<String, Reason> {
    match object.get(name) {
        Some(Json::String(text)) => Ok(text.to_string()),
        other => Err(format!("field {name:?} should be text and is {}", describe(other))),
    }
}

/// The text of a field that may be absent or null.
pub(super) fn optional_text(object: &Object, name: &str) -> Result<Option<String>, Reason> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(_) => text_field(object, name).map(Some),
    }
}

/// The integer of a field that must be there. `1.0` is no integer.
pub(super) fn int_field(object: &Object, name: &str) -> Result<i64, Reason> {
    match object.get(name) {
        Some(number @ (Json::Integer(_) | Json::BigInteger(_))) => Ok(number.to_i64_wrapping()),
        other => Err(format!("field {name:?} should be an integer and is {}", describe(other))),
    }
}

/// The integer of a field that may be absent or null.
pub(super) fn optional_int(object: &Object, name: &str) -> Result<Option<i64>, Reason> {
    match object.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(_) => int_field(object, name).map(Some),
    }
}

/// A field that counts tasks: 0 to the largest 32-bit integer.
pub(super) fn count_field(object: &Object, name: &str) -> Result<u32, Reason> {
    let number = int_field(object, name)?;
    match i32::try_from(number) {
        Ok(count @ 0..) => Ok(count.unsigned_abs()),
        _ => Err(format!("field {name:?} should be a number of tasks and is {number}")),
    }
}

/// The `properties` of a connector or task. Numbers and booleans, which Java accepts here and fails on later, are taken as their text.
pub(super) fn properties(object: &Object) -> Result<RawConfig, Reason> {
    let Some(Json::Object(fields)) = object.get("properties") else {
        return Err(format!("field \"properties\" should be an object and is {}", describe(object.get("properties"))));
    };
    let text = |(name, value): (&ByteString, &Json)| {
        let text = match value {
            Json::Null => None,
            Json::String(text) | Json::Fraction(text) => Some(text.to_string()),
            Json::Boolean(flag) => Some(flag.to_string()),
            Json::Integer(number) => Some(number.to_string()),
            Json::BigInteger(number) => Some(number.to_string()),
            Json::Array(_) | Json::Object(_) => {
                return Err(format!("property {name:?} should be text and is {}", kind(value)));
            }
        };
        Ok((name.to_string(), text))
    };
    fields.iter().map(text).collect()
}

/// `{"properties":{...}}`, the value of connector and task records.
pub(super) fn properties_value(config: &RawConfig) -> Object {
    let fields = config.iter().fold(Object::new(), |fields, (name, value)| fields.with(name.as_str(), value.clone()));
    Object::new().with("properties", fields)
}

/// Splits `NAME-N` at the last dash, as Java does: the name itself may hold dashes.
pub(super) fn split_task(rest: &str) -> Result<(String, u32), Reason> {
    let parsed = rest.rsplit_once('-').and_then(|(name, number)| Some((name.to_owned(), number.parse::<i32>().ok()?)));
    match parsed {
        Some((name, number @ 0..)) => Ok((name, number.unsigned_abs())),
        _ => Err("the key should end with a dash and the number of the task".to_owned()),
    }
}

/// What kind of value this is, for messages.
pub(super) fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Boolean(_) => "a boolean",
        Json::Integer(_) | Json::BigInteger(_) => "an integer",
        Json::Fraction(_) => "a floating-point number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

fn describe(value: Option<&Json>) -> &'static str {
    value.map_or("absent", kind)
}
