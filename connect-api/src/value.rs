//! Data of a record. Every value is cheap to clone and to move: long ones are shared.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use num_bigint::BigInt;

use crate::structs::Struct;

/// One datum. Java's `Object` in Connect data, with the logical types of `org.apache.kafka.connect.data` as variants of
/// their own, since a Rust value must say what it is even without a schema.
#[derive(Debug, Clone, PartialEq, Default)]
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
    /// MAP, in insertion order.
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

/// A decimal number: `unscaled * 10^-scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    /// All digits as an integer.
    pub unscaled: BigInt,
    /// How many of them stand behind the point; may be negative.
    pub scale: i32,
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
