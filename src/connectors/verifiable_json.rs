//! The lines of the verifiable connectors: JSON as Java's `ObjectMapper` writes it, printed to standard output, where nothing
//! else of this program is written.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connect_api::java_text::{java_double, java_float};
use connect_api::{ConnectError, Result, Value};

const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// Appends one object and a line end. The fields stand in the order of Java's `HashMap`, which is the caller's to know.
pub(super) fn append_line(out: &mut String, fields: &[(&str, &Value)]) {
    append_object(out, fields.iter().copied());
    out.push('\n');
}

fn append_object<'a>(out: &mut String, fields: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push('{');
    for (at, (name, value)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        append_string(out, name);
        out.push(':');
        append(out, value);
    }
    out.push('}');
}

/// Java has no JSON for a struct and prints a complaint instead of the line; here it is an object of its fields.
fn append(out: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Boolean(_) | Value::Int8(_) | Value::Int16(_) | Value::Int32(_) | Value::Int64(_) => {
            out.push_str(&value.to_string());
        }
        Value::Float32(number) if number.is_finite() => out.push_str(&java_float(*number)),
        Value::Float64(number) if number.is_finite() => out.push_str(&java_double(*number)),
        Value::Decimal(number) => out.push_str(&number.to_string()),
        Value::Float32(_) | Value::Float64(_) => append_string(out, &value.to_string()),
        Value::String(text) => append_string(out, text),
        Value::Bytes(bytes) => append_string(out, &STANDARD.encode(bytes)),
        Value::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                append(out, element);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let names: Vec<String> = entries.iter().map(|(key, _)| key.to_string()).collect();
            append_object(out, names.iter().map(String::as_str).zip(entries.iter().map(|(_, value)| value)));
        }
        Value::Struct(data) => {
            append_object(out, data.schema().fields().iter().map(|field| &*field.name).zip(data.values()));
        }
        Value::Date(days) => out.push_str(&(i64::from(*days) * MS_PER_DAY).to_string()),
        Value::Time(ms) => out.push_str(&ms.to_string()),
        Value::Timestamp(ms) => out.push_str(&ms.to_string()),
    }
}

fn append_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> Value {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Value::Int64(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Prints lines in one write, and returns when they are out of this process; a reader that is slow makes the caller wait.
pub(super) async fn print(lines: String) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let written = tokio::task::spawn_blocking(move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(lines.as_bytes())?;
        stdout.flush()
    });
    let failed = |error: io::Error| ConnectError::fatal("cannot write to standard output").caused_by(error);
    written.await.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
}

/// A setting that has to be an integer.
pub(super) fn integer<T: std::str::FromStr>(props: &connect_api::Props, name: &str) -> Result<T> {
    let text = props.get(name).map(String::as_str);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let found = text.map_or_else(|| "not set".to_owned(), |text| format!("'{text}'"));
        ConnectError::config(format!("{name} must be an integer, but is {found}"))
    })
}

#[cfg(test)]
mod tests {
    use connect_api::{Bytes, Decimal, SchemaBuilder, Struct, schema};

    use super::*;

    #[test]
    fn values_have_jacksons_json() {
        let place = SchemaBuilder::new_struct().field("zip", schema::INT32.clone()).build();
        let place = Struct::new(place).with("zip", 3000).expect("fits");
        for (value, json) in [
            (Value::Null, "null"),
            (true.into(), "true"),
            (7i64.into(), "7"),
            (1e10.into(), "1.0E10"),
            (f32::NAN.into(), "\"NaN\""),
            ("a\"b\\c\u{1f}\n é😀/".into(), "\"a\\\"b\\\\c\\u001F\\n é😀/\""),
            (Bytes::from_static(&[0, 255]).into(), "\"AP8=\""),
            (vec![1i8.into(), Value::Null].into(), "[1,null]"),
            (vec![(Value::from(1i32), Value::from("x"))].into(), "{\"1\":\"x\"}"),
            (Decimal::new(5, 7).into(), "5E-7"),
            (Value::Date(1), "86400000"),
            (place.into(), "{\"zip\":3000}"),
        ] {
            let mut out = String::new();
            append(&mut out, &value);
            assert_eq!(out, json);
        }
    }

    #[test]
    fn a_setting_is_an_integer_or_an_error_that_names_it() {
        let props = |text: &str| connect_api::Props::from([("throughput".to_owned(), text.to_owned())]);
        assert_eq!(integer::<i64>(&props("-1"), "throughput").unwrap(), -1);
        for (props, words) in [(props("a"), "'a'"), (props(""), "''"), (connect_api::Props::new(), "not set")] {
            let error = integer::<i64>(&props, "throughput").unwrap_err();
            assert!(error.message().contains("throughput") && error.message().contains(words), "{error}");
        }
    }
}
