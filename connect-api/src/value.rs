//! Data of a record. Every value is cheap to clone and to move: long ones are shared.

mod equality;
mod text;

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use num_bigint::BigInt;

use crate::errors::{ConnectError, Result};
use crate::structs::Struct;

/// One datum. Java's `Object` in Connect data, with the logical types of `org.apache.kafka.connect.data` as variants of
/// their own, since a Rust value must say what it is even without a schema.
///
/// Equality is Java's: floating point numbers are compared by bits, so that NaN equals NaN and -0.0 differs from 0.0
/// (`Double.equals`); maps are equal whatever their order; decimals of another scale differ (`BigDecimal.equals`).
/// Display is Java's `toString`, with the exceptions that stand there.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Absent.
    #[default]
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// INT8.
    Int8(i8),
    /// INT16.
    Int16(i16),
    /// INT32.
    Int32(i32),
    /// INT64.
    Int64(i64),
    /// FLOAT32.
    Float32(f32),
    /// FLOAT64.
    Float64(f64),
    /// STRING.
    String(ByteString),
    /// BYTES.
    Bytes(Bytes),
    /// ARRAY.
    Array(Arc<Vec<Value>>),
    /// MAP, in insertion order. Keys must not repeat.
    Map(Arc<Vec<(Value, Value)>>),
    /// STRUCT.
    Struct(Arc<Struct>),
    /// Logical type Decimal over BYTES.
    Decimal(Arc<Decimal>),
    /// Logical type Date over INT32: days since 1970-01-01.
    Date(i32),
    /// Logical type Time over INT32: milliseconds of the day.
    Time(i32),
    /// Logical type Timestamp over INT64: milliseconds since 1970.
    Timestamp(i64),
}

/// A decimal number: `unscaled * 10^-scale`. Display is Java's `BigDecimal.toString`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// All digits as an integer.
    pub unscaled: BigInt,
    /// How many of them stand behind the point; may be negative.
    pub scale: i32,
}

impl Decimal {
    /// `unscaled * 10^-scale`.
    pub fn new(unscaled: impl Into<BigInt>, scale: i32) -> Self {
        Decimal { unscaled: unscaled.into(), scale }
    }

    /// The number that the bytes of a Decimal schema of this scale stand for: two's complement, most significant byte
    /// first (Java: `Decimal.toLogical`). No bytes are no number.
    pub fn from_bytes(bytes: &[u8], scale: i32) -> Result<Self> {
        if bytes.is_empty() {
            return Err(ConnectError::data("a decimal needs at least one byte, but there is none"));
        }
        Ok(Decimal::new(BigInt::from_signed_bytes_be(bytes), scale))
    }

    /// The bytes under a Decimal schema of the same scale, as few as possible (Java: `Decimal.fromLogical`).
    pub fn to_bytes(&self) -> Bytes {
        self.unscaled.to_signed_bytes_be().into()
    }
}

impl Value {
    /// A short text.
    pub fn text(text: impl Into<ByteString>) -> Value {
        Value::String(text.into())
    }

    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// What kind of value this is, for error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "BOOLEAN",
            Value::Int8(_) => "INT8",
            Value::Int16(_) => "INT16",
            Value::Int32(_) => "INT32",
            Value::Int64(_) => "INT64",
            Value::Float32(_) => "FLOAT32",
            Value::Float64(_) => "FLOAT64",
            Value::String(_) => "STRING",
            Value::Bytes(_) => "BYTES",
            Value::Array(_) => "ARRAY",
            Value::Map(_) => "MAP",
            Value::Struct(_) => "STRUCT",
            Value::Decimal(_) => "Decimal",
            Value::Date(_) => "Date",
            Value::Time(_) => "Time",
            Value::Timestamp(_) => "Timestamp",
        }
    }

    /// The text of a STRING.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of any integer type.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::Int8(number) => Some(number.into()),
            Value::Int16(number) => Some(number.into()),
            Value::Int32(number) => Some(number.into()),
            Value::Int64(number) => Some(number),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value.into())
            }
        })*
    };
}

from! {
    bool => Boolean, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Float32, f64 => Float64,
    &str => String, String => String, ByteString => String, Bytes => Bytes, Vec<Value> => Array,
    Vec<(Value, Value)> => Map, Struct => Struct, Decimal => Decimal,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests;
