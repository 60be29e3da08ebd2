//! Records of the offset topic (Java: `ConnectorOffsetBackingStore`, `OffsetUtils`): the key is `["connector",{partition}]`,
//! and its bytes are the identity.

use bytes::Bytes;
use bytestring::ByteString;
use connect_api::FieldMap;

use super::records::{Reason, RecordError, kind, parse_value};
use crate::json::writer::{write_fields, write_string};
use crate::json::{Json, Object};

/// Longest key that is read. Keys name a file, a table, a shard.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// Most fields of a partition or offset that is read.
const MAX_FIELDS: usize = 1000;

/// A key of the offset topic.
#[derive(Debug, Clone, PartialEq)]
pub struct OffsetKey {
    /// The connector.
    pub connector: ByteString,
    /// What it read; `None` for the legal key with a null partition, which is listed nowhere.
    pub partition: Option<FieldMap>,
}

impl OffsetKey {
    /// Reads a key.
    pub fn decode(offset: i64, key: &Bytes) -> Result<OffsetKey, RecordError> {
        decode_key(key).map_err(|reason| error(offset, key, reason))
    }

    /// The bytes that Java writes for this key. An error for data that a partition cannot hold.
    pub fn encode(connector: &str, partition: Option<&FieldMap>) -> Result<Bytes, Reason> {
        let mut key = vec![b'['];
        write_string(&mut key, connector);
        key.push(b',');
        match partition {
            Some(partition) => write_fields(&mut key, partition).map_err(|error| error.to_string())?,
            None => key.extend_from_slice(b"null"),
        }
        key.push(b']');
        Ok(Bytes::from(key))
    }
}

fn decode_key(key: &Bytes) -> Result<OffsetKey, Reason> {
    if key.len() > MAX_KEY_BYTES {
        return Err(format!("the key has {} bytes; at most {MAX_KEY_BYTES} are read", key.len()));
    }
    match Json::read(key).map_err(|error| error.to_string())? {
        Some(Json::Array(parts)) => match &parts[..] {
            [Json::String(connector), Json::Object(fields)] => {
                Ok(OffsetKey { connector: connector.clone(), partition: Some(field_map(fields)?) })
            }
            [Json::String(connector), Json::Null] => Ok(OffsetKey { connector: connector.clone(), partition: None }),
            [connector, partition] => {
                let (connector, partition) = (kind(connector), kind(partition));
                Err(format!("the key should hold text and an object, and holds {connector} and {partition}"))
            }
            parts => Err(format!("the key should be an array of 2 elements and has {}", parts.len())),
        },
        _ => Err("the key should be a JSON array of connector and partition".to_owned()),
    }
}

/// Reads an offset; `None` for a tombstone. Integers come back with 64 bits, as from Java.
pub fn decode_offset(offset: i64, key: &Bytes, value: Option<&Bytes>) -> Result<Option<FieldMap>, RecordError> {
    let fields = parse_value(value).and_then(|fields| fields.as_ref().map(field_map).transpose());
    fields.map_err(|reason| error(offset, key, reason))
}

/// The bytes that Java writes for an offset. An error for data that an offset cannot hold.
pub fn encode_offset(offset: &FieldMap) -> Result<Bytes, Reason> {
    let mut value = Vec::new();
    write_fields(&mut value, offset).map_err(|error| error.to_string())?;
    Ok(Bytes::from(value))
}

/// What tells partitions of equal content, whatever the order of their fields and the width of their numbers: the bytes with sorted fields. A
/// 32-bit and a 64-bit number of the same text are the same.
pub fn content_of(partition: &FieldMap) -> Result<Bytes, Reason> {
    let read = Json::read(&encode_offset(partition)?).map_err(|error| error.to_string())?;
    sorted(&read.unwrap_or_default()).to_bytes().map_err(|error| error.to_string())
}

fn sorted(json: &Json) -> Json {
    match json {
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let sorted_fields = fields
                .into_iter()
                .fold(Object::new(), |object, (name, value)| object.with(name.clone(), sorted(value)));
            Json::Object(sorted_fields)
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn field_map(fields: &Object) -> Result<FieldMap, Reason> {
    if fields.len() > MAX_FIELDS {
        return Err(format!("it has {} fields; at most {MAX_FIELDS} are read", fields.len()));
    }
    Ok(fields.iter().map(|(name, value)| (name.clone(), value.clone().into_value())).collect())
}

fn error(offset: i64, key: &Bytes, reason: Reason) -> RecordError {
    RecordError { key: String::from_utf8_lossy(key).into_owned(), offset, reason }
}
