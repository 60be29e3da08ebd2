//! JSON with Jackson's byte rules, independent of schemas: what the keys of the offset topic and the JSON converter
//! share. serde_json differs in the text of floats, in escapes and in what it accepts.
//!
//! A leaf room: it uses connect_api's values and nothing else of this crate. [`Json::read`] is the reader,
//! [`Json::write`] and the functions of [`writer`] are the writer, [`number`] holds Java's texts of numbers. Nothing here
//! recurses deeper than [`MAX_DEPTH`].

use bytes::Bytes;
use bytestring::ByteString;
use connect_api::{Decimal, Value};
use num_bigint::BigInt;

pub mod number;
mod reader;
pub mod writer;

pub use reader::ReadError;
pub use writer::WriteError;

/// How many arrays and objects may stand within each other (Jackson: `StreamReadConstraints`, `StreamWriteConstraints`).
pub const MAX_DEPTH: usize = 1000;
/// How many characters a number may have, without its sign (Jackson: `StreamReadConstraints`).
pub const MAX_NUMBER_CHARACTERS: usize = 1000;
/// How many bytes a text may have (Jackson counts UTF-16 units of a text).
pub const MAX_STRING_BYTES: usize = 20_000_000;
/// How many bytes the name of a field may have.
pub const MAX_NAME_BYTES: usize = 50_000;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number without point and exponent that fits in 64 bits.
    Integer(i64),
    /// A number without point and exponent that does not.
    BigInteger(BigInt),
    /// A number with point or exponent, as its text: which number it becomes is for the reader to say.
    Fraction(ByteString),
    /// A text; where it had no escapes it is a slice of what was read.
    String(ByteString),
    /// Elements in order.
    Array(Vec<Json>),
    /// Fields in order.
    Object(Object),
}

/// Fields of a JSON object in the order of their first appearance; names are unique.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object(Vec<(ByteString, Json)>);

impl Object {
    /// No fields.
    pub const fn new() -> Self {
        Object(Vec::new())
    }

    /// Where a name appears again, the last value counts and stands in the place of the first.
    fn from_read(mut fields: Vec<(ByteString, Json)>) -> Self {
        /// Up to this many fields are compared with each other; more are looked up in a set.
        const FEW: usize = 16;
        let repeated = if fields.len() <= FEW {
            fields.iter().enumerate().any(|(index, (name, _))| fields[..index].iter().any(|(other, _)| other == name))
        } else {
            let mut seen = std::collections::HashSet::with_capacity(fields.len());
            !fields.iter().all(|(name, _)| seen.insert(name))
        };
        if repeated {
            let mut places = std::collections::HashMap::with_capacity(fields.len());
            let mut unique: Vec<(ByteString, Json)> = Vec::with_capacity(fields.len());
            for (name, value) in fields {
                match places.get(&name) {
                    Some(&place) => {
                        let slot: &mut (ByteString, Json) = &mut unique[place];
                        slot.1 = value;
                    }
                    None => {
                        places.insert(name.clone(), unique.len());
                        unique.push((name, value));
                    }
                }
            }
            fields = unique;
        }
        Object(fields)
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(existing, _)| &**existing == name).map(|(_, value)| value)
    }

    /// The value of a field that probably stands at `place`: structs are mostly written in the order of their schema.
    pub fn get_near(&self, place: usize, name: &str) -> Option<&Json> {
        match self.0.get(place) {
            Some((existing, value)) if &**existing == name => Some(value),
            _ => self.get(name),
        }
    }

    /// Sets a field; an existing one keeps its place.
    pub fn insert(&mut self, name: impl Into<ByteString>, value: impl Into<Json>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(existing, _)| *existing == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The object with one field more, or with a new value for an existing one.
    pub fn with(mut self, name: impl Into<ByteString>, value: impl Into<Json>) -> Self {
        self.insert(name, value);
        self
    }

    /// All fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ByteString, &Json)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Takes the value of a field out; `None` where there is no such field.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        self.0.iter_mut().find(|(existing, _)| &**existing == name).map(|(_, value)| std::mem::take(value))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Json {
    /// Reads one JSON document with the leniencies of Kafka's `JsonDeserializer`: what stands behind the document is
    /// ignored, numbers may begin with zeros, a UTF-8 byte order mark is skipped. `None` for nothing or blanks only
    /// (Jackson: the missing node). Comments, single quotes, `NaN`, trailing commas and the like are errors, and so are texts in
    /// UTF-16 or UTF-32, which Jackson would guess. An escape that is half of a surrogate pair becomes U+FFFD.
    pub fn read(bytes: &Bytes) -> Result<Option<Json>, ReadError> {
        reader::read(bytes)
    }

    /// The fields of an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Json::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is a number of any kind.
    pub fn is_number(&self) -> bool {
        matches!(self, Json::Integer(_) | Json::BigInteger(_) | Json::Fraction(_))
    }

    /// The low 64 bits of the whole part of a number, as Java's `longValue` has it; 0 for what is no number.
    pub fn to_i64_wrapping(&self) -> i64 {
        match self {
            Json::Integer(number) => *number,
            Json::BigInteger(number) => low_64_bits(number),
            Json::Fraction(text) => whole_part_low_64_bits(text),
            _ => 0,
        }
    }

    /// The nearest double, as Java's `doubleValue` has it; 0 for what is no number. There is no negative zero.
    pub fn to_f64(&self) -> f64 {
        match self {
            Json::Integer(number) => *number as f64,
            // The texts of numbers that were read are ones that Rust reads as well.
            Json::BigInteger(number) => number.to_string().parse().unwrap_or(f64::NAN),
            Json::Fraction(text) if is_zero(text) => 0.0,
            Json::Fraction(text) => text.parse().unwrap_or(f64::NAN),
            _ => 0.0,
        }
    }

    /// The nearest float, as Java's `floatValue` has it; 0 for what is no number.
    pub fn to_f32(&self) -> f32 {
        match self {
            Json::Integer(number) => *number as f32,
            Json::BigInteger(number) => number.to_string().parse().unwrap_or(f32::NAN),
            Json::Fraction(text) if is_zero(text) => 0.0,
            Json::Fraction(text) => text.parse().unwrap_or(f32::NAN),
            _ => 0.0,
        }
    }

    /// The very number, with as many digits behind the point as its text has; `None` for what is no number.
    pub fn to_decimal(&self) -> Option<Decimal> {
        match self {
            Json::Integer(number) => Some(Decimal { unscaled: (*number).into(), scale: 0 }),
            Json::BigInteger(number) => Some(Decimal { unscaled: number.clone(), scale: 0 }),
            Json::Fraction(text) => number::parse_decimal(text),
            _ => None,
        }
    }

    /// The Connect data of JSON without a schema: numbers become INT64, wrapping around, or FLOAT64; objects become maps.
    /// Recurses at most [`MAX_DEPTH`] deep where the value was read.
    pub fn into_value(self) -> Value {
        match self {
            Json::Null => Value::Null,
            Json::Boolean(flag) => Value::Boolean(flag),
            Json::Integer(number) => Value::Int64(number),
            Json::BigInteger(_) => Value::Int64(self.to_i64_wrapping()),
            Json::Fraction(_) => Value::Float64(self.to_f64()),
            Json::String(text) => Value::String(text),
            // Loops, since each step of an iterator chain would be a frame of the stack on every level.
            Json::Array(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(item.into_value());
                }
                Value::from(values)
            }
            Json::Object(fields) => {
                let mut entries = Vec::with_capacity(fields.len());
                for (name, value) in fields.0 {
                    entries.push((Value::String(name), value.into_value()));
                }
                Value::from(entries)
            }
        }
    }
}

fn low_64_bits(number: &BigInt) -> i64 {
    let magnitude = number.magnitude().iter_u64_digits().next().unwrap_or(0) as i64;
    if number.sign() == num_bigint::Sign::Minus { magnitude.wrapping_neg() } else { magnitude }
}

/// Whether all digits before an exponent are zeros.
fn is_zero(text: &str) -> bool {
    text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).all(|byte| !(b'1'..=b'9').contains(&byte))
}

fn whole_part_low_64_bits(text: &str) -> i64 {
    let Some(Decimal { unscaled, scale }) = number::parse_decimal(text) else { return 0 };
    if scale <= -64 {
        // A multiple of 2^64.
        return 0;
    }
    // The text is at most MAX_NUMBER_CHARACTERS long, so a greater scale leaves nothing in front of the point.
    match usize::try_from(scale) {
        Ok(scale) if scale > MAX_NUMBER_CHARACTERS => 0,
        Ok(scale) => low_64_bits(&(unscaled / BigInt::from(10).pow(scale as u32))),
        Err(_) => low_64_bits(&(unscaled * BigInt::from(10).pow(scale.unsigned_abs()))),
    }
}

impl From<bool> for Json {
    fn from(flag: bool) -> Json {
        Json::Boolean(flag)
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Json {
        Json::Integer(number)
    }
}

impl From<i32> for Json {
    fn from(number: i32) -> Json {
        Json::Integer(number.into())
    }
}

/// In Java's text form; what is not finite becomes a string, as Jackson writes it.
impl From<f64> for Json {
    fn from(number: f64) -> Json {
        let text = number::double_text(number).into();
        if number.is_finite() { Json::Fraction(text) } else { Json::String(text) }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::String(text.into())
    }
}

impl From<ByteString> for Json {
    fn from(text: ByteString) -> Json {
        Json::String(text)
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Json {
        Json::Array(items)
    }
}

impl From<Object> for Json {
    fn from(fields: Object) -> Json {
        Json::Object(fields)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

#[cfg(test)]
mod tests;
