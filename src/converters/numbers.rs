//! `org.apache.kafka.connect.converters.{Boolean,Short,Integer,Long,Float,Double}Converter`: one number in big-endian
//! bytes, or one byte that is 0 or 1.

use std::sync::LazyLock;

use connect_api::converter::RawHeader;
use connect_api::{
    Bytes, ConfigDef, ConnectError, Converter, Header, HeaderConverter, Props, Result, Schema, SchemaAndValue,
    SchemaRef, SchemaType, Value, schema,
};

use super::settings;

macro_rules! converters {
    ($($(#[$doc:meta])* $name:ident, $class:literal, $schema:ident, $write:ident, $read:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {}

        impl $name {
            /// Java's class name.
            pub const CLASS: &str = concat!("org.apache.kafka.connect.converters.", $class);

            fn read(bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
                let schema: SchemaRef = LazyLock::force(&schema::$schema).clone();
                let Some(bytes) = bytes else { return Ok(SchemaAndValue::new(schema, Value::Null)) };
                match $read(bytes) {
                    Some(value) => Ok(SchemaAndValue { schema: Some(schema), value }),
                    None => Err(ConnectError::data(format!(
                        "the {} cannot read {} bytes, or not these", $class, bytes.len()
                    ))),
                }
            }

            fn write(schema: Option<&Schema>, value: &Value) -> Result<Option<Bytes>> {
                if value.is_null() {
                    return $write(schema, &Value::Null).map_or_else(|| Err(Self::wrong()), |_| Ok(None));
                }
                $write(schema, value).map(Some).ok_or_else(Self::wrong)
            }

            fn wrong() -> ConnectError {
                ConnectError::data(concat!("the ", $class, " got data of another type"))
            }
        }

        impl Converter for $name {
            fn config(&self) -> ConfigDef {
                settings::definition()
            }

            fn configure(&mut self, _props: &Props, _is_key: bool) -> Result<()> {
                Ok(())
            }

            fn from_connect_data(
                &mut self,
                _topic: &str,
                _headers: &[Header],
                schema: Option<&Schema>,
                value: &Value,
            ) -> Result<Option<Bytes>> {
                Self::write(schema, value)
            }

            fn to_connect_data(
                &mut self,
                _topic: &str,
                _headers: &[RawHeader],
                bytes: Option<&Bytes>,
            ) -> Result<SchemaAndValue> {
                Self::read(bytes)
            }
        }

        impl HeaderConverter for $name {
            fn config(&self) -> ConfigDef {
                settings::definition()
            }

            fn configure(&mut self, _props: &Props) -> Result<()> {
                Ok(())
            }

            fn from_connect_header(&mut self, _topic: &str, _key: &str, value: &SchemaAndValue) -> Result<Option<Bytes>> {
                Self::write(value.schema.as_deref(), &value.value)
            }

            fn to_connect_header(&mut self, _topic: &str, _key: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue> {
                Self::read(bytes)
            }
        }
    )*};
}

converters! {
    /// BOOLEAN as one byte; the schema, where there is one, must say so too.
    BooleanConverter, "BooleanConverter", OPTIONAL_BOOLEAN, write_boolean, read_boolean;
    /// INT16 as two bytes, whatever the schema says.
    ShortConverter, "ShortConverter", OPTIONAL_INT16, write_int16,
        |bytes: &Bytes| Some(i16::from_be_bytes(bytes.as_ref().try_into().ok()?).into());
    /// INT32 as four bytes, whatever the schema says.
    IntegerConverter, "IntegerConverter", OPTIONAL_INT32, write_int32,
        |bytes: &Bytes| Some(i32::from_be_bytes(bytes.as_ref().try_into().ok()?).into());
    /// INT64 as eight bytes, whatever the schema says.
    LongConverter, "LongConverter", OPTIONAL_INT64, write_int64,
        |bytes: &Bytes| Some(i64::from_be_bytes(bytes.as_ref().try_into().ok()?).into());
    /// FLOAT32 as four bytes, whatever the schema says.
    FloatConverter, "FloatConverter", OPTIONAL_FLOAT32, write_float32,
        |bytes: &Bytes| Some(f32::from_be_bytes(bytes.as_ref().try_into().ok()?).into());
    /// FLOAT64 as eight bytes, whatever the schema says.
    DoubleConverter, "DoubleConverter", OPTIONAL_FLOAT64, write_float64,
        |bytes: &Bytes| Some(f64::from_be_bytes(bytes.as_ref().try_into().ok()?).into());
}

fn read_boolean(bytes: &Bytes) -> Option<Value> {
    match bytes.as_ref() {
        [0] => Some(Value::Boolean(false)),
        [1] => Some(Value::Boolean(true)),
        _ => None,
    }
}

/// `None`: the data is of another type. What is returned for null does not count.
fn write_boolean(schema: Option<&Schema>, value: &Value) -> Option<Bytes> {
    if schema.is_some_and(|schema| *schema.schema_type() != SchemaType::Boolean) {
        return None;
    }
    match value {
        Value::Null => Some(Bytes::new()),
        Value::Boolean(flag) => Some(Bytes::from_static(if *flag { &[1] } else { &[0] })),
        _ => None,
    }
}

macro_rules! number_writers {
    ($($name:ident, $variant:ident, |$number:ident| $bytes:expr;)*) => {$(
        fn $name(_schema: Option<&Schema>, value: &Value) -> Option<Bytes> {
            match value {
                Value::Null => Some(Bytes::new()),
                Value::$variant($number) => Some(Bytes::copy_from_slice(&$bytes)),
                _ => None,
            }
        }
    )*};
}

number_writers! {
    write_int16, Int16, |number| number.to_be_bytes();
    write_int32, Int32, |number| number.to_be_bytes();
    write_int64, Int64, |number| number.to_be_bytes();
    write_float32, Float32, |number| canonical_f32(*number).to_be_bytes();
    write_float64, Float64, |number| canonical_f64(*number).to_be_bytes();
}

/// Java has one NaN on the wire (`floatToIntBits`).
fn canonical_f32(number: f32) -> u32 {
    if number.is_nan() { 0x7fc0_0000 } else { number.to_bits() }
}

/// Java has one NaN on the wire (`doubleToLongBits`).
fn canonical_f64(number: f64) -> u64 {
    if number.is_nan() { 0x7ff8_0000_0000_0000 } else { number.to_bits() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_pass_through_bytes() {
        let bytes = IntegerConverter::write(None, &Value::Int32(-2)).unwrap();
        assert_eq!(bytes.as_deref(), Some(&[255, 255, 255, 254][..]));
        assert_eq!(IntegerConverter::read(bytes.as_ref()).unwrap().value, Value::Int32(-2));
        assert!(IntegerConverter::read(Some(&Bytes::from_static(&[0; 3]))).is_err());
        assert!(LongConverter::write(None, &Value::Int32(1)).is_err());
        assert_eq!(DoubleConverter::write(None, &Value::Null).unwrap(), None);
    }

    #[test]
    fn booleans_are_strict() {
        assert!(BooleanConverter::read(Some(&Bytes::from_static(&[2]))).is_err());
        assert!(BooleanConverter::write(Some(&schema::STRING), &Value::Null).is_err());
    }

    #[test]
    fn every_nan_becomes_javas() {
        let bytes = FloatConverter::write(None, &Value::Float32(f32::from_bits(0xffff_ffff))).unwrap().unwrap();
        assert_eq!(bytes.as_ref(), [0x7f, 0xc0, 0, 0]);
    }
}
