//! JSON to Connect data with a schema.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use connect_api::schema::logical;
use connect_api::{Bytes, ConnectError, Decimal, Result, Schema, SchemaRef, SchemaType, Struct, Value};

use super::json::Options;
use crate::json::Json;

const DAY_MS: i32 = 24 * 60 * 60 * 1000;

/// The data that a JSON value stands for under a schema. Wrong JSON types become 0, false or null where Java lets them.
pub(super) fn read_value(schema: &SchemaRef, json: &Json, options: Options) -> Result<Value> {
    if matches!(json, Json::Null) {
        return match schema.default_value() {
            Some(default) if options.replace_null_with_default => Ok(default.clone()),
            _ if schema.is_optional() => Ok(Value::Null),
            _ => Err(ConnectError::data(format!("null stands where {} is required", describe(schema)))),
        };
    }
    if let Some(logical) = read_logical(schema, json) {
        return logical;
    }
    Ok(match schema.schema_type() {
        SchemaType::Boolean => Value::Boolean(matches!(json, Json::Boolean(true))),
        SchemaType::Int8 => Value::Int8(json.to_i64_wrapping() as i8),
        SchemaType::Int16 => Value::Int16(json.to_i64_wrapping() as i16),
        SchemaType::Int32 => Value::Int32(json.to_i64_wrapping() as i32),
        SchemaType::Int64 => Value::Int64(json.to_i64_wrapping()),
        SchemaType::Float32 => Value::Float32(json.to_f32()),
        SchemaType::Float64 => Value::Float64(json.to_f64()),
        SchemaType::String => match json {
            Json::String(text) => Value::String(text.clone()),
            _ => Value::Null,
        },
        SchemaType::Bytes => match json {
            Json::String(text) => Value::Bytes(decode_base64(text)?),
            _ => Value::Null,
        },
        SchemaType::Array(Some(items)) => read_array(items, json, options)?,
        SchemaType::Map(Some(keys), Some(values)) => read_map(keys, values, json, options)?,
        SchemaType::Array(_) | SchemaType::Map(..) => {
            return Err(ConnectError::data(format!("the schema {} does not say what is in it", describe(schema))));
        }
        SchemaType::Struct(_) => read_struct(schema, json, options)?,
    })
}

/// `None` where the name of the schema is not that of a logical type. Java goes by the name alone.
fn read_logical(schema: &Schema, json: &Json) -> Option<Result<Value>> {
    Some(match schema.name()? {
        logical::DECIMAL => read_decimal(schema, json),
        logical::DATE => read_i32(json, "Date").map(Value::Date),
        logical::TIME => read_i32(json, "Time").and_then(|millis| match millis {
            0..=DAY_MS => Ok(Value::Time(millis)),
            _ => Err(ConnectError::data(format!("a Time must lie between 0 and {DAY_MS} ms, but is {millis}"))),
        }),
        logical::TIMESTAMP => match json {
            Json::Integer(_) | Json::BigInteger(_) => Ok(Value::Timestamp(json.to_i64_wrapping())),
            other => Err(wrong("an integer for a Timestamp", other)),
        },
        _ => return None,
    })
}

fn read_i32(json: &Json, logical: &str) -> Result<i32> {
    match json {
        Json::Integer(number) => i32::try_from(*number).ok(),
        _ => None,
    }
    .ok_or_else(|| wrong(&format!("a 32-bit integer for a {logical}"), json))
}

fn read_decimal(schema: &Schema, json: &Json) -> Result<Value> {
    if let Some(number) = json.to_decimal() {
        return Ok(number.into());
    }
    let Json::String(text) = json else { return Err(wrong("a number or base64 for a Decimal", json)) };
    let bytes = decode_base64(text)?;
    Ok(Decimal::from_bytes(&bytes, logical::scale_of(schema)?)?.into())
}

/// Of an object the values are taken, of anything else nothing.
fn read_array(items: &SchemaRef, json: &Json, options: Options) -> Result<Value> {
    let values: Result<Vec<Value>> = match json {
        Json::Array(elements) => elements.iter().map(|element| read_value(items, element, options)).collect(),
        Json::Object(fields) => fields.iter().map(|(_, element)| read_value(items, element, options)).collect(),
        _ => Ok(Vec::new()),
    };
    values.map(Value::from)
}

fn read_map(keys: &SchemaRef, values: &SchemaRef, json: &Json, options: Options) -> Result<Value> {
    if *keys.schema_type() == SchemaType::String {
        let Json::Object(fields) = json else { return Err(wrong("an object for a map with STRING keys", json)) };
        let entry = |(name, value): (&connect_api::ByteString, &Json)| {
            Ok((Value::String(name.clone()), read_value(values, value, options)?))
        };
        return fields.iter().map(entry).collect::<Result<Vec<_>>>().map(Value::from);
    }
    let Json::Array(pairs) = json else { return Err(wrong("an array of pairs for a map", json)) };
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let Json::Array(pair) = pair else {
            return Err(wrong("an array of key and value for an entry of a map", pair));
        };
        let [key, value] = pair.as_slice() else {
            return Err(ConnectError::data(format!(
                "an entry of a map must be an array of key and value, but has {} elements",
                pair.len()
            )));
        };
        entries.push((read_value(keys, key, options)?, read_value(values, value, options)?));
    }
    Ok(last_of_each_key(entries).into())
}

/// Where a key appears again, the last value counts.
pub(super) fn last_of_each_key(entries: Vec<(Value, Value)>) -> Vec<(Value, Value)> {
    let mut places: HashMap<Value, usize> = HashMap::with_capacity(entries.len());
    let mut unique: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match places.entry(key) {
            Entry::Occupied(place) => unique[*place.get()].1 = value,
            Entry::Vacant(place) => {
                unique.push((place.key().clone(), value));
                place.insert(unique.len() - 1);
            }
        }
    }
    unique
}

/// Fields that the schema does not name are ignored; those that are missing count as null.
fn read_struct(schema: &SchemaRef, json: &Json, options: Options) -> Result<Value> {
    let Json::Object(object) = json else { return Err(wrong("an object for a struct", json)) };
    let mut data = Struct::new(schema.clone());
    for (place, field) in schema.fields().iter().enumerate() {
        let value = read_value(&field.schema, object.get_near(place, &field.name).unwrap_or(&Json::Null), options)?;
        check_nulls(&field.schema, &value).map_err(|error| {
            ConnectError::data(format!("field '{}' of a struct is wrong", field.name)).caused_by(error)
        })?;
        data.put(&field.name, value)?;
    }
    Ok(Value::Struct(Arc::new(data)))
}

/// Refuses a null where the schema requires a value. Java checks it when a value is put in a struct and for defaults,
/// and not elsewhere. Everything else about a value follows from how it was read.
pub(super) fn check_nulls(schema: &Schema, value: &Value) -> Result<()> {
    match (value, schema.schema_type()) {
        (Value::Null, _) if !schema.is_optional() => {
            Err(ConnectError::data(format!("null stands where {} is required", describe(schema))))
        }
        (Value::Array(items), SchemaType::Array(Some(schema))) => {
            items.iter().try_for_each(|item| check_nulls(schema, item))
        }
        (Value::Map(entries), SchemaType::Map(Some(keys), Some(values))) => {
            entries.iter().try_for_each(|(key, value)| {
                check_nulls(keys, key)?;
                check_nulls(values, value)
            })
        }
        _ => Ok(()),
    }
}

/// Base64 as Jackson reads it by default: padding is required, blanks may stand between groups of four, the text may go on
/// behind padding.
fn decode_base64(text: &str) -> Result<Bytes> {
    let error = || ConnectError::data("a text that should be base64 is not");
    let digit = |byte: u8| {
        Some(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text.as_bytes();
    loop {
        while let [0..=b' ', behind @ ..] = rest {
            rest = behind;
        }
        let (group, behind) = match rest {
            [] => return Ok(out.into()),
            [first, second, third, fourth, behind @ ..] => ([*first, *second, *third, *fourth], behind),
            _ => return Err(error()),
        };
        rest = behind;
        let high = digit(group[0]).zip(digit(group[1])).map(|(first, second)| first << 18 | second << 12);
        let high = high.ok_or_else(error)?;
        match (group[2], group[3]) {
            (b'=', b'=') => out.push((high >> 16) as u8),
            (third, b'=') => {
                let bits = high | digit(third).ok_or_else(error)? << 6;
                out.extend_from_slice(&bits.to_be_bytes()[1..3]);
            }
            (third, fourth) => {
                let low = digit(third).zip(digit(fourth)).map(|(third, fourth)| third << 6 | fourth);
                out.extend_from_slice(&(high | low.ok_or_else(error)?).to_be_bytes()[1..]);
            }
        }
    }
}

/// A schema in words for messages.
pub(super) fn describe(schema: &Schema) -> String {
    let kind = schema.schema_type().name();
    match schema.name() {
        Some(name) => format!("{kind} ({name})"),
        None => kind.to_owned(),
    }
}

/// The values of a record stay out of messages, since messages are logged.
fn wrong(wanted: &str, found: &Json) -> ConnectError {
    let found = match found {
        Json::Null => "null",
        Json::Boolean(_) => "a boolean",
        Json::Integer(_) | Json::BigInteger(_) => "an integer",
        Json::Fraction(_) => "a fraction",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    ConnectError::data(format!("JSON must have {wanted}, but has {found}"))
}
