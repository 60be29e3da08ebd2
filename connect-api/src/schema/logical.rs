//! The logical types: a name that gives a physical type another meaning. Decimal, Date, Time and Timestamp come from
//! `org.apache.kafka.connect.data` in Java.

use std::sync::LazyLock;

use super::{Schema, SchemaBuilder, SchemaRef, SchemaType};
use crate::errors::{ConnectError, Result};
use crate::value::{Decimal, Value};

/// Decimal over BYTES; the scale stands in the parameter [`SCALE`].
pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
/// Date over INT32.
pub const DATE: &str = "org.apache.kafka.connect.data.Date";
/// Time over INT32.
pub const TIME: &str = "org.apache.kafka.connect.data.Time";
/// Timestamp over INT64.
pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";
/// Parameter of a Decimal schema: how many digits stand behind the point.
pub const SCALE: &str = "scale";

/// All logical schemas that Java makes have this version.
const VERSION: i32 = 1;
const MS_PER_DAY: i64 = 86_400_000;

/// A logical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Logical {
    /// See [`DECIMAL`].
    Decimal,
    /// See [`DATE`].
    Date,
    /// See [`TIME`].
    Time,
    /// See [`TIMESTAMP`].
    Timestamp,
}

impl Logical {
    /// The logical type that a schema of this name has.
    pub fn of_name(name: &str) -> Option<Logical> {
        match name {
            DECIMAL => Some(Logical::Decimal),
            DATE => Some(Logical::Date),
            TIME => Some(Logical::Time),
            TIMESTAMP => Some(Logical::Timestamp),
            _ => None,
        }
    }
}

/// A required Decimal with this many digits behind the point; make it optional before it is built.
pub fn decimal(scale: i32) -> SchemaBuilder {
    named(SchemaType::Bytes, DECIMAL).parameter(SCALE, scale.to_string())
}

/// A required Date; make it optional before it is built.
pub fn date() -> SchemaBuilder {
    named(SchemaType::Int32, DATE)
}

/// A required Time; make it optional before it is built.
pub fn time() -> SchemaBuilder {
    named(SchemaType::Int32, TIME)
}

/// A required Timestamp; make it optional before it is built.
pub fn timestamp() -> SchemaBuilder {
    named(SchemaType::Int64, TIMESTAMP)
}

fn named(schema_type: SchemaType, name: &'static str) -> SchemaBuilder {
    SchemaBuilder::new(schema_type).name(name).version(VERSION)
}

macro_rules! constants {
    ($($name:ident $optional_name:ident $make:ident),* $(,)?) => {
        $(
            #[doc = concat!("A required ", stringify!($make), ".")]
            pub static $name: LazyLock<SchemaRef> = LazyLock::new(|| $make().build());
            #[doc = concat!("An optional ", stringify!($make), ".")]
            pub static $optional_name: LazyLock<SchemaRef> = LazyLock::new(|| $make().optional().build());
        )*
    };
}

constants! {
    DATE_SCHEMA OPTIONAL_DATE_SCHEMA date,
    TIME_SCHEMA OPTIONAL_TIME_SCHEMA time,
    TIMESTAMP_SCHEMA OPTIONAL_TIMESTAMP_SCHEMA timestamp,
}

/// The scale that a Decimal schema states.
pub fn scale_of(schema: &Schema) -> Result<i32> {
    let Some(text) = schema.parameters().get(SCALE) else {
        return Err(ConnectError::data("the Decimal schema has no parameter scale"));
    };
    text.parse()
        .map_err(|_| ConnectError::data(format!("the scale {text:?} of the Decimal schema is no 32-bit integer")))
}

/// The physical value (BYTES, INT32 or INT64) of a logical one; any other value is returned as it is. (Java:
/// `fromLogical` of the four classes.)
pub fn to_physical(schema: &Schema, value: &Value) -> Result<Value> {
    let Some(logical) = schema.logical() else { return Ok(value.clone()) };
    let wrong = |why: &str| ConnectError::data(format!("{} {value} is no {logical:?}: {why}", value.type_name()));
    match (logical, value) {
        (Logical::Decimal, Value::Decimal(decimal)) => {
            let scale = scale_of(schema)?;
            if decimal.scale != scale {
                return Err(wrong(&format!("its scale is {}, the schema says {scale}", decimal.scale)));
            }
            Ok(Value::Bytes(decimal.to_bytes()))
        }
        (_, Value::Decimal(_)) => Err(wrong("a decimal needs a Decimal schema")),
        (Logical::Date | Logical::Time | Logical::Timestamp, value) => {
            let Some(ms) = ms_since_1970(value) else { return Ok(value.clone()) };
            match logical {
                Logical::Timestamp => Ok(Value::Int64(ms)),
                Logical::Time if (0..MS_PER_DAY).contains(&ms) => Ok(Value::Int32(ms as i32)),
                Logical::Time => Err(wrong("it is not within one day")),
                _ if ms % MS_PER_DAY != 0 => Err(wrong("it has a time of day")),
                _ => i32::try_from(ms / MS_PER_DAY).map(Value::Int32).map_err(|_| wrong("it is too far from 1970")),
            }
        }
        (Logical::Decimal, _) => Ok(value.clone()),
    }
}

/// Java has one class for the three; so each of them may stand under each of the three schemas.
fn ms_since_1970(value: &Value) -> Option<i64> {
    match *value {
        Value::Date(days) => Some(i64::from(days) * MS_PER_DAY),
        Value::Time(ms) => Some(ms.into()),
        Value::Timestamp(ms) => Some(ms),
        _ => None,
    }
}

/// The logical value of a physical one under a logical schema; any other value is returned as it is. (Java: `toLogical` of
/// the four classes.)
pub fn from_physical(schema: &Schema, value: Value) -> Result<Value> {
    match (schema.logical(), value) {
        (Some(Logical::Decimal), Value::Bytes(bytes)) => {
            Ok(Value::from(Decimal::from_bytes(&bytes, scale_of(schema)?)?))
        }
        (Some(Logical::Date), Value::Int32(days)) => Ok(Value::Date(days)),
        (Some(Logical::Time), Value::Int32(ms)) if (0..MS_PER_DAY).contains(&i64::from(ms)) => Ok(Value::Time(ms)),
        (Some(Logical::Time), Value::Int32(ms)) => {
            Err(ConnectError::data(format!("{ms} is no Time: it must be milliseconds within one day")))
        }
        (Some(Logical::Timestamp), Value::Int64(ms)) => Ok(Value::Timestamp(ms)),
        (_, value) => Ok(value),
    }
}
