//! Texts to data whose type is guessed, and back, as Java's `Values.parseString` and `Values.convertToString` do it in time
//! zone UTC.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connect_api::java_text::calendar::{civil_date, days_from_civil};
use connect_api::schema::{self, logical};
use connect_api::{ConnectError, Decimal, Schema, SchemaAndValue, SchemaBuilder, SchemaRef, SchemaType, Value};
use num_bigint::BigInt;

use super::json_reader::last_of_each_key;
use crate::json::number::parse_decimal;

/// Arrays and maps nested deeper than this are texts. (Java has no bound and loses its stack.)
const MAX_DEPTH: usize = 500;
/// Longer tokens are no numbers: reading many digits takes quadratic time. (Java has no bound.)
const MAX_NUMBER_CHARACTERS: usize = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

static DATE: LazyLock<SchemaRef> = LazyLock::new(|| logical_schema(SchemaType::Int32, logical::DATE).build());
static TIME: LazyLock<SchemaRef> = LazyLock::new(|| logical_schema(SchemaType::Int32, logical::TIME).build());
static TIMESTAMP: LazyLock<SchemaRef> = LazyLock::new(|| logical_schema(SchemaType::Int64, logical::TIMESTAMP).build());

fn logical_schema(schema_type: SchemaType, name: &'static str) -> SchemaBuilder {
    SchemaBuilder::new(schema_type).name(name).version(1)
}

/// Schema and value, or nothing for a null.
type Parsed = Option<(SchemaRef, Value)>;

/// The text is no array or map; it is tried as something else then.
#[derive(Debug)]
struct NotThis;

/// The data that a text stands for; what looks like nothing else is the text itself.
pub fn parse_string(text: &str) -> SchemaAndValue {
    let string = || SchemaAndValue::new(LazyLock::force(&schema::STRING).clone(), text);
    if text.is_empty() {
        return string();
    }
    match (Parser { tokens: Tokens::new(text), depth: 0 }).parse(false) {
        Ok(None) => SchemaAndValue::NULL,
        Ok(Some((schema, value))) => SchemaAndValue { schema: Some(schema), value },
        Err(NotThis) => string(),
    }
}

/// Tokens are delimiters, and what stands between them; a backslash takes a delimiter its meaning.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
    next: Option<&'a str>,
    previous: Option<&'a str>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Tokens { text, at: 0, next: None, previous: None }
    }

    fn mark(&self) -> usize {
        self.at - self.next.map_or(0, str::len)
    }

    fn rewind(&mut self, to: usize) {
        self.at = to;
        self.next = None;
        self.previous = None;
    }

    fn has_next(&self) -> bool {
        self.next.is_some() || self.at < self.text.len()
    }

    fn next(&mut self) -> &'a str {
        let token = self.next.take().unwrap_or_else(|| self.cut());
        self.previous = Some(token);
        token
    }

    /// The text of the next tokens, or `None` and no step where there are fewer.
    fn next_of(&mut self, count: usize) -> Option<&'a str> {
        let start = self.mark();
        for _ in 0..count {
            if !self.has_next() {
                self.rewind(start);
                return None;
            }
            self.next();
        }
        Some(&self.text[start..self.at])
    }

    fn cut(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let mut escaped = false;
        let mut end = rest.len();
        for (index, byte) in rest.bytes().enumerate() {
            match byte {
                b'\\' => escaped = !escaped,
                b':' | b',' | b'{' | b'}' | b'[' | b']' | b'"' if !escaped => {
                    end = index.max(1);
                    break;
                }
                _ => escaped = false,
            }
        }
        self.at += end;
        &rest[..end]
    }

    /// Takes the next token if it is this one, with blanks around and behind blank ones. Blank tokens in front are
    /// dropped even where it is not.
    fn take(&mut self, expected: &str) -> bool {
        if !self.has_next() {
            return false;
        }
        let mut token = self.next.take().unwrap_or_else(|| self.cut());
        while trim(token).is_empty() && self.at < self.text.len() {
            token = self.cut();
        }
        let found = trim(token) == expected;
        if !found {
            self.next = Some(token);
        }
        found
    }
}

/// Java's `trim`: everything up to the blank goes.
fn trim(text: &str) -> &str {
    text.trim_matches(|char| char <= ' ')
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn parse(&mut self, embedded: bool) -> Result<Parsed, NotThis> {
        if !self.tokens.has_next() {
            return Ok(None);
        }
        if embedded && self.tokens.take("\"") {
            return Ok(Some(self.quoted()));
        }
        if self.word(embedded, "null") {
            return Ok(None);
        }
        for (word, flag) in [("true", true), ("false", false)] {
            if self.word(embedded, word) {
                return Ok(known(&schema::BOOLEAN, Value::Boolean(flag)));
            }
        }
        let start = self.tokens.mark();
        self.depth += 1;
        let container = if self.depth > MAX_DEPTH {
            Err(NotThis)
        } else if self.tokens.take("[") {
            self.array().map(Some)
        } else if self.tokens.take("{") {
            self.map().map(Some)
        } else {
            Ok(None)
        };
        self.depth -= 1;
        match container {
            Ok(Some(parsed)) => return Ok(Some(parsed)),
            Ok(None) => {}
            Err(NotThis) => self.tokens.rewind(start),
        }
        let token = self.tokens.next();
        match trim(token) {
            "" => Ok(known(&schema::STRING, Value::text(token))),
            trimmed => self.literal(embedded, trimmed),
        }
    }

    /// A word that means something stands alone, or within an array or map.
    fn word(&mut self, embedded: bool, word: &str) -> bool {
        let start = self.tokens.mark();
        let found = self.tokens.take(word) && (embedded || !self.tokens.has_next());
        if !found {
            self.tokens.rewind(start);
        }
        found
    }

    fn literal(&mut self, embedded: bool, token: &str) -> Result<Parsed, NotThis> {
        let digit = token.starts_with(|char| digit_of(char).is_some());
        let found = if digit { self.instant(token) } else { None };
        let is_number = digit || token.starts_with(['+', '-']);
        let found = found.or_else(|| if is_number { number(&ascii_digits(token)) } else { None });
        match found {
            Some(found) => Ok(Some(found)),
            None if embedded => Err(NotThis),
            None => Ok(known(&schema::STRING, Value::text(self.tokens.text))),
        }
    }

    /// Colons are delimiters, so a time is five tokens unless they are escaped.
    fn instant(&mut self, token: &str) -> Option<(SchemaRef, Value)> {
        let start = self.tokens.mark();
        if let Some(rest) = self.tokens.next_of(4)
            && let Some(found) = instant(&format!("{token}{rest}"))
        {
            return Some(found);
        }
        self.tokens.rewind(start);
        instant(token)
    }

    /// A text behind a quote that was taken. Escapes stay in it.
    fn quoted(&mut self) -> (SchemaRef, Value) {
        let mut content = String::new();
        while self.tokens.has_next() && !self.tokens.take("\"") {
            content.push_str(self.tokens.next());
        }
        instant(&content).unwrap_or_else(|| (LazyLock::force(&schema::STRING).clone(), Value::text(content)))
    }

    fn array(&mut self) -> Result<(SchemaRef, Value), NotThis> {
        let mut items = Vec::new();
        let mut common = Common::default();
        while self.tokens.has_next() {
            if self.tokens.take("]") {
                let items = match &common.schema {
                    Some(schema) => items.into_iter().map(|item| convert(schema, item)).collect::<Result<_, _>>()?,
                    None => items,
                };
                return Ok((SchemaBuilder::array(common.schema).build(), items.into()));
            }
            if self.tokens.take(",") {
                return Err(NotThis);
            }
            let item = self.parse(true)?;
            common.merge(item.as_ref());
            items.push(item.map_or(Value::Null, |(_, value)| value));
            let behind = self.tokens.mark();
            if self.tokens.take("]") {
                self.tokens.rewind(behind);
            } else if !self.tokens.take(",") {
                return Err(NotThis);
            }
        }
        Err(NotThis)
    }

    fn map(&mut self) -> Result<(SchemaRef, Value), NotThis> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let (mut keys, mut values) = (Common::default(), Common::default());
        while self.tokens.has_next() {
            if self.tokens.take("}") {
                return finished_map(last_of_each_key(entries), keys, values);
            }
            if self.tokens.take(",") {
                return Err(NotThis);
            }
            let Some(key) = self.parse(true)? else { return Err(NotThis) };
            if !self.tokens.take(":") {
                return Err(NotThis);
            }
            let value = self.parse(true)?;
            self.tokens.take(",");
            keys.merge(Some(&key));
            values.merge(value.as_ref());
            entries.push((key.1, value.map_or(Value::Null, |(_, value)| value)));
        }
        Err(NotThis)
    }
}

fn finished_map(entries: Vec<(Value, Value)>, keys: Common, values: Common) -> Result<(SchemaRef, Value), NotThis> {
    let Some(keys) = keys.schema else {
        return Ok((SchemaBuilder::map(None::<SchemaRef>, None::<SchemaRef>).build(), entries.into()));
    };
    let converted = |(key, value)| match &values.schema {
        Some(schema) => Ok((convert(&keys, key)?, convert(schema, value)?)),
        None => Ok((convert(&keys, key)?, value)),
    };
    let entries = entries.into_iter().map(converted).collect::<Result<Vec<_>, NotThis>>()?;
    // Keys that were different may have become equal.
    Ok((SchemaBuilder::map(keys, values.schema).build(), last_of_each_key(entries).into()))
}

fn known(schema: &LazyLock<SchemaRef>, value: Value) -> Parsed {
    Some((LazyLock::force(schema).clone(), value))
}

/// The schema that fits all elements so far.
#[derive(Default)]
struct Common {
    schema: Option<SchemaRef>,
    /// Elements that exclude each other were seen.
    given_up: bool,
}

impl Common {
    fn merge(&mut self, element: Option<&(SchemaRef, Value)>) {
        let Some((latest, _)) = element.filter(|_| !self.given_up) else { return };
        self.schema = match self.schema.take() {
            None => Some(latest.clone()),
            Some(previous) => merged(previous, latest),
        };
        self.given_up = self.schema.is_none();
    }
}

/// The later one of two of a kind, the wider one of two numbers, else none.
fn merged(previous: SchemaRef, latest: &SchemaRef) -> Option<SchemaRef> {
    if std::mem::discriminant(previous.schema_type()) == std::mem::discriminant(latest.schema_type()) {
        return Some(latest.clone());
    }
    let (ours, theirs) = (width(&previous)?, width(latest)?);
    Some(if ours > theirs { previous } else { latest.clone() })
}

/// Greater for a type that holds more numbers; dates count as the numbers beneath them.
fn width(schema: &Schema) -> Option<u8> {
    match schema.schema_type() {
        SchemaType::Int8 => Some(0),
        SchemaType::Int16 => Some(1),
        SchemaType::Int32 => Some(2),
        SchemaType::Int64 => Some(3),
        SchemaType::Float32 => Some(4),
        SchemaType::Float64 => Some(5),
        _ => None,
    }
}

/// The value as one of the common schema.
fn convert(schema: &Schema, value: Value) -> Result<Value, NotThis> {
    let is_instant = matches!(value, Value::Date(_) | Value::Time(_) | Value::Timestamp(_));
    match schema.name() {
        Some(logical::DATE | logical::TIME | logical::TIMESTAMP) if is_instant => return Ok(value),
        Some(logical::DATE) => return integer(&value).map(|days| Value::Date(days as i32)),
        Some(logical::TIME) => {
            return match i64::from(integer(&value)? as i32) {
                millis @ 0..=DAY_MS => Ok(Value::Time(millis as i32)),
                _ => Err(NotThis),
            };
        }
        Some(logical::TIMESTAMP) => return integer(&value).map(Value::Timestamp),
        _ => {}
    }
    Ok(match (schema.schema_type(), value) {
        (_, Value::Null) => return Err(NotThis),
        (SchemaType::Int8, value) => Value::Int8(integer(&value)? as i8),
        (SchemaType::Int16, value) => Value::Int16(integer(&value)? as i16),
        (SchemaType::Int32, value) => Value::Int32(integer(&value)? as i32),
        (SchemaType::Int64, value) => Value::Int64(integer(&value)?),
        (SchemaType::Float32, value @ Value::Float32(_)) => value,
        (SchemaType::Float32, value) => Value::Float32(integer(&value)? as f64 as f32),
        (SchemaType::Float64, Value::Float32(number)) => Value::Float64(number.into()),
        (SchemaType::Float64, value @ Value::Float64(_)) => value,
        (SchemaType::Float64, value) => Value::Float64(integer(&value)? as f64),
        (_, value) => value,
    })
}

/// The zeros of the scripts whose digits Java takes as well: those of one UTF-16 unit, as its Unicode has them. The others follow.
const ZEROS: [u32; 36] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0de6, 0x0e50,
    0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50,
    0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
];

/// The digit in ASCII that a character stands for (Java: `Character.digit`).
fn digit_of(char: char) -> Option<char> {
    if char.is_ascii() {
        return Some(char).filter(char::is_ascii_digit);
    }
    let code = u32::from(char);
    let zero = ZEROS.iter().rev().find(|zero| **zero <= code)?;
    char::from_digit(code - zero, 10)
}

/// The text with all digits in ASCII.
fn ascii_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    text.chars().map(|char| digit_of(char).unwrap_or(char)).collect::<String>().into()
}

fn integer(value: &Value) -> Result<i64, NotThis> {
    value.as_i64().ok_or(NotThis)
}

/// Whole numbers take the smallest integer type that holds them, others FLOAT32, FLOAT64 or Decimal, whichever is not
/// infinite.
fn number(token: &str) -> Option<(SchemaRef, Value)> {
    if token.len() > MAX_NUMBER_CHARACTERS {
        return None;
    }
    let decimal = parse_decimal(token)?;
    if let Some(number) = whole_number(&decimal) {
        return if let Ok(number) = i8::try_from(number) {
            known(&schema::INT8, number.into())
        } else if let Ok(number) = i16::try_from(number) {
            known(&schema::INT16, number.into())
        } else if let Ok(number) = i32::try_from(number) {
            known(&schema::INT32, number.into())
        } else {
            known(&schema::INT64, number.into())
        };
    }
    match (token.parse::<f32>(), token.parse::<f64>()) {
        (Ok(float), _) if float.is_finite() && decimal.scale != 0 => known(&schema::FLOAT32, float.into()),
        (_, Ok(double)) if double.is_finite() && decimal.scale != 0 => known(&schema::FLOAT64, double.into()),
        _ => {
            let schema = logical_schema(SchemaType::Bytes, logical::DECIMAL);
            let schema = schema.parameter(logical::SCALE, decimal.scale.to_string()).build();
            Some((schema, decimal.into()))
        }
    }
}

/// The number if it has nothing behind the point and fits in 64 bits.
fn whole_number(decimal: &Decimal) -> Option<i64> {
    const LONGEST: i64 = 20;
    let digits = decimal.unscaled.magnitude().to_string();
    if digits == "0" {
        return Some(0);
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let scale = i64::from(decimal.scale);
    if digits.len() as i64 - scale > LONGEST || scale > zeros as i64 {
        return None;
    }
    let whole = match usize::try_from(scale) {
        Ok(scale) => &decimal.unscaled / BigInt::from(10).pow(scale as u32),
        Err(_) => &decimal.unscaled * BigInt::from(10).pow(decimal.scale.unsigned_abs()),
    };
    i64::try_from(whole).ok()
}

/// A date, time or timestamp; which one it may be depends on the length alone.
fn instant(text: &str) -> Option<(SchemaRef, Value)> {
    let text = ascii_digits(text).replace("\\:", ":");
    let mut fields = Fields { rest: &text };
    match text.encode_utf16().count() {
        10 => {
            let days = fields.date()?;
            known(&DATE, Value::Date(i32::try_from(days).ok()?))
        }
        13 => {
            let millis = fields.time()?;
            known(&TIME, i32::try_from(millis).map_or(Value::Timestamp(millis), Value::Time))
        }
        24 => {
            let days = fields.date()?;
            fields.literal("T")?;
            known(&TIMESTAMP, Value::Timestamp(days * DAY_MS + fields.time()?))
        }
        _ => None,
    }
}

/// Reads numbers as a lenient `SimpleDateFormat` does: of any length, with blanks in front, and month 13 is January.
struct Fields<'a> {
    rest: &'a str,
}

impl Fields<'_> {
    fn date(&mut self) -> Option<i64> {
        let year = self.number()?;
        self.literal("-")?;
        let month = self.number()?;
        self.literal("-")?;
        Some(days_from_civil(year, month, self.number()?))
    }

    fn time(&mut self) -> Option<i64> {
        let hours = self.number()?;
        self.literal(":")?;
        let minutes = self.number()?;
        self.literal(":")?;
        let seconds = self.number()?;
        self.literal(".")?;
        let millis = self.number()?;
        self.literal("Z")?;
        Some(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis)
    }

    /// At most 24 characters were let in; what exceeds 32 bits is no date.
    fn number(&mut self) -> Option<i64> {
        let text = self.rest.trim_start_matches([' ', '\t']);
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let digits = unsigned.len() - unsigned.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        let (number, rest) = text.split_at(text.len() - unsigned.len() + digits);
        self.rest = rest;
        number.parse::<i32>().ok().map(i64::from)
    }

    fn literal(&mut self, literal: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }
}

/// The text of a value; `None` for null.
pub fn convert_to_string(value: &Value) -> connect_api::Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    let mut out = String::new();
    append(&mut out, value, false, 0)?;
    Ok(Some(out))
}

fn append(out: &mut String, value: &Value, embedded: bool, depth: usize) -> connect_api::Result<()> {
    if depth > MAX_DEPTH {
        return Err(ConnectError::data(format!("the value is nested deeper than {MAX_DEPTH} levels")));
    }
    match value {
        Value::String(text) if embedded => append_quoted(out, text),
        Value::String(text) => out.push_str(text),
        Value::Bytes(bytes) if embedded => append_quoted(out, &STANDARD.encode(bytes)),
        Value::Bytes(bytes) => out.push_str(&STANDARD.encode(bytes)),
        Value::Array(items) => {
            append_all(out, ['[', ']'], items.iter(), |out, item| append(out, item, true, depth + 1))?
        }
        Value::Map(entries) => append_all(out, ['{', '}'], entries.iter(), |out, (key, value)| {
            append(out, key, true, depth + 1)?;
            out.push(':');
            append(out, value, true, depth + 1)
        })?,
        Value::Struct(data) => {
            let fields = data.schema().fields().iter().zip(data.values());
            append_all(out, ['{', '}'], fields, |out, (field, value)| {
                append_quoted(out, &field.name);
                out.push(':');
                append(out, or_default(&field.schema, value), true, depth + 1)
            })?;
        }
        Value::Date(days) => append_instant(out, i64::from(*days) * DAY_MS),
        Value::Time(millis) => append_instant(out, (*millis).into()),
        Value::Timestamp(millis) => append_instant(out, *millis),
        // Writing to a text cannot fail; the others have Java's form anyway.
        plain => drop(write!(out, "{plain}")),
    }
    Ok(())
}

fn or_default<'a>(schema: &'a Arc<Schema>, value: &'a Value) -> &'a Value {
    if value.is_null() { schema.default_value().unwrap_or(value) } else { value }
}

fn append_all<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = T>,
    mut append: impl FnMut(&mut String, T) -> connect_api::Result<()>,
) -> connect_api::Result<()> {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        append(out, item)?;
    }
    out.push(close);
    Ok(())
}

fn append_quoted(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            out.push('\\');
        }
        out.push(char);
    }
    out.push('"');
}

/// Below one day (also before 1970) as a time, whole days as a date, else as a timestamp.
fn append_instant(out: &mut String, millis: i64) {
    let (days, of_day) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    let (year, month, day) = civil_date(days);
    // Java prints the year of the era.
    let year = if year <= 0 { 1 - year } else { year };
    let date = format!("{year:04}-{month:02}-{day:02}");
    let seconds = of_day / 1000;
    let time = format!("{:02}:{:02}:{:02}.{:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60, of_day % 1000);
    if millis < DAY_MS {
        out.push_str(&time);
    } else if of_day == 0 {
        out.push_str(&date);
    } else {
        out.push_str(&format!("{date}T{time}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let values: Vec<Value> = vec![
            Value::Int8(-3),
            Value::Float32(1.5),
            Value::Boolean(true),
            Value::Date(20_000),
            Value::Time(1),
            Value::Timestamp(1_483_425_001_864),
            vec![Value::text("a"), Value::text("b")].into(),
            vec![(Value::text("k"), Value::Int16(300))].into(),
        ];
        for value in values {
            assert_eq!(parse_string(&convert_to_string(&value).unwrap().unwrap()).value, value);
        }
    }

    #[test]
    fn digits_of_all_scripts_count() {
        assert_eq!(parse_string("١２٣").value, Value::Int8(123));
        assert_eq!(parse_string("-१.५").value, Value::Float32(-1.5));
        assert_eq!(parse_string("٢٠٢٠-٠١-٠٢").value, Value::Date(18_263));
        assert_eq!(parse_string("[１]").value, vec![Value::Int8(1)].into());
        for text in ["²", "½", "𝟏", "ⅷ", "１x", "\u{0fff}"] {
            assert_eq!(parse_string(text).value, Value::text(text));
        }
    }

    #[test]
    fn what_has_no_common_kind_says_nothing_of_its_elements() {
        let schema = |text: &str| parse_string(text).schema.unwrap();
        assert_eq!(schema("[1,\"a\"]"), SchemaBuilder::array(None::<SchemaRef>).build());
        assert_eq!(schema("[[],[1]]"), SchemaBuilder::array(schema("[1]")).build());
        assert_eq!(schema("{\"a\":1,\"b\":[]}"), SchemaBuilder::map(schema::STRING.clone(), None::<SchemaRef>).build());
        assert_eq!(schema("{}"), SchemaBuilder::map(None::<SchemaRef>, None::<SchemaRef>).build());
        let guessed = parse_string("[1,\"a\",null,{\"b\":[]}]");
        guessed.schema.unwrap().validate(&guessed.value).unwrap();
    }

    #[test]
    fn neither_depth_nor_length_is_unbounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse_string(&deep).value, Value::text(deep.as_str()));
        let long = "1".repeat(1_000_000);
        assert_eq!(parse_string(&long).value, Value::text(long.as_str()));
        let value = (0..2000).fold(Value::Int8(1), |value, _| vec![value].into());
        assert!(convert_to_string(&value).is_err());
    }

    #[test]
    fn numbers_with_great_exponents_are_not_written_out() {
        assert_eq!(parse_string("1e-2147483647").value, Value::Float32(0.0));
        assert_eq!(parse_string("0e2147483647").value, Value::Int8(0));
        assert!(matches!(parse_string("1e2147483647").value, Value::Decimal(_)));
    }
}
