//! [`Json`] and Connect data to bytes, as Jackson's UTF-8 generator writes them: no blanks, `/` and characters up to
//! U+FFFF raw, control characters escaped in capitals (`\u001F`), characters beyond U+FFFF as two escapes in capitals, numbers
//! in Java's text form.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connect_api::{FieldMap, Value};

use super::{Json, MAX_DEPTH, number};

/// Why data has no JSON form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Data of this kind needs a schema to be written.
    NeedsSchema(&'static str),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::TooDeep => write!(f, "arrays and objects are nested deeper than {MAX_DEPTH} levels"),
            WriteError::NeedsSchema(kind) => write!(f, "a {kind} without a schema has no JSON form"),
        }
    }
}

impl std::error::Error for WriteError {}

impl Json {
    /// Appends the bytes.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        write_json(out, self, 0)
    }

    /// The bytes.
    pub fn to_bytes(&self) -> Result<Bytes, WriteError> {
        let mut out = Vec::new();
        self.write(&mut out)?;
        Ok(out.into())
    }
}

fn write_json(out: &mut Vec<u8>, json: &Json, depth: usize) -> Result<(), WriteError> {
    match json {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Boolean(flag) => write_bool(out, *flag),
        Json::Integer(number) => write_i64(out, *number),
        Json::BigInteger(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Json::Fraction(text) => out.extend_from_slice(text.as_bytes()),
        Json::String(text) => write_string(out, text),
        Json::Array(items) => write_array(out, depth, items, write_json)?,
        Json::Object(fields) => {
            write_object(out, depth, fields.iter(), |out, (name, value), depth| {
                write_name(out, name);
                write_json(out, value, depth)
            })?;
        }
    }
    Ok(())
}

/// Appends Connect data without a schema, as the JSON converter and the offset store write it: bytes as base64, maps as objects
/// where all keys are strings and else as arrays of pairs. Structs, decimals and dates need a schema.
pub fn write_value(out: &mut Vec<u8>, value: &Value) -> Result<(), WriteError> {
    write_value_at(out, value, 0)
}

/// Appends a source partition or offset as an object, in its order.
pub fn write_fields(out: &mut Vec<u8>, fields: &FieldMap) -> Result<(), WriteError> {
    write_object(out, 0, fields.iter(), |out, (name, value), depth| {
        write_name(out, name);
        write_value_at(out, value, depth)
    })
}

/// See [`write_value`]; `depth` containers are open already.
pub fn write_value_at(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), WriteError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(flag) => write_bool(out, *flag),
        Value::Int8(number) => write_i64(out, (*number).into()),
        Value::Int16(number) => write_i64(out, (*number).into()),
        Value::Int32(number) => write_i64(out, (*number).into()),
        Value::Int64(number) => write_i64(out, *number),
        Value::Float32(number) => write_f32(out, *number),
        Value::Float64(number) => write_f64(out, *number),
        Value::String(text) => write_string(out, text),
        Value::Bytes(bytes) => write_base64(out, bytes),
        Value::Array(items) => write_array(out, depth, items.iter(), write_value_at)?,
        Value::Map(entries) if entries.iter().all(|(key, _)| matches!(key, Value::String(_))) => {
            write_object(out, depth, entries.iter(), |out, (key, value), depth| {
                write_name(out, key.as_str().unwrap_or_default());
                write_value_at(out, value, depth)
            })?;
        }
        Value::Map(entries) => write_array(out, depth, entries.iter(), |out, (key, value), depth| {
            write_array(out, depth, [key, value], write_value_at)
        })?,
        Value::Struct(_) => return Err(WriteError::NeedsSchema("struct")),
        Value::Decimal(_) => return Err(WriteError::NeedsSchema("decimal")),
        Value::Date(_) | Value::Time(_) | Value::Timestamp(_) => return Err(WriteError::NeedsSchema("date")),
    }
    Ok(())
}

/// Appends an array; `write` appends an element, told how many containers are open around it.
pub fn write_array<T, E: From<WriteError>>(
    out: &mut Vec<u8>,
    depth: usize,
    items: impl IntoIterator<Item = T>,
    write: impl FnMut(&mut Vec<u8>, T, usize) -> Result<(), E>,
) -> Result<(), E> {
    write_container(out, depth, *b"[]", items, write)
}

/// Appends an object; `write` appends a field with [`write_name`] and its value, told how many containers are open
/// around it.
pub fn write_object<T, E: From<WriteError>>(
    out: &mut Vec<u8>,
    depth: usize,
    fields: impl IntoIterator<Item = T>,
    write: impl FnMut(&mut Vec<u8>, T, usize) -> Result<(), E>,
) -> Result<(), E> {
    write_container(out, depth, *b"{}", fields, write)
}

fn write_container<T, E: From<WriteError>>(
    out: &mut Vec<u8>,
    depth: usize,
    [open, close]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T, usize) -> Result<(), E>,
) -> Result<(), E> {
    if depth >= MAX_DEPTH {
        return Err(WriteError::TooDeep.into());
    }
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item, depth + 1)?;
    }
    out.push(close);
    Ok(())
}

/// Appends the name of a field and the colon.
pub fn write_name(out: &mut Vec<u8>, name: &str) {
    write_string(out, name);
    out.push(b':');
}

/// Appends `true` or `false`.
pub fn write_bool(out: &mut Vec<u8>, flag: bool) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// Appends an integer.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    // 19 digits and a sign.
    let mut text = [0; 20];
    let mut at = text.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        text[at] = b'-';
    }
    out.extend_from_slice(&text[at..]);
}

/// Appends a double in Java's text form; what is not finite becomes a string.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    write_float_text(out, number.is_finite(), &number::double_text(number));
}

/// Appends a float in Java's text form; what is not finite becomes a string.
pub fn write_f32(out: &mut Vec<u8>, number: f32) {
    write_float_text(out, number.is_finite(), &number::float_text(number));
}

fn write_float_text(out: &mut Vec<u8>, finite: bool, text: &str) {
    match finite {
        true => out.extend_from_slice(text.as_bytes()),
        false => write_string(out, text),
    }
}

/// Appends bytes as a string of base64 with padding.
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len() + 1;
    out.push(b'"');
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    // The room is exactly what padded base64 needs.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

/// Appends a string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    let mut at = 0;
    // Looks at bytes: only a quote, a backslash, a control character or the first byte of four ends a plain run.
    while at < bytes.len() {
        let byte = bytes[at];
        if byte >= b' ' && byte != b'"' && byte != b'\\' && byte < 0xf0 {
            at += 1;
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        at += if byte < 0x80 { write_ascii_escape(out, byte) } else { write_surrogates(out, &text[at..]) };
        written = at;
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn write_ascii_escape(out: &mut Vec<u8>, byte: u8) -> usize {
    let short = match byte {
        b'"' | b'\\' => byte,
        8 => b'b',
        9 => b't',
        10 => b'n',
        12 => b'f',
        13 => b'r',
        _ => {
            write_unit(out, byte.into());
            return 1;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    1
}

/// The first character of the text, which lies beyond U+FFFF.
fn write_surrogates(out: &mut Vec<u8>, text: &str) -> usize {
    let Some(char) = text.chars().next() else { return 0 };
    for unit in char.encode_utf16(&mut [0; 2]) {
        write_unit(out, *unit);
    }
    char.len_utf8()
}

fn write_unit(out: &mut Vec<u8>, unit: u16) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |shift: u16| DIGITS[usize::from(unit >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}
