use super::*;
use crate::errors::ErrorKind;
use crate::structs::Struct;
use crate::value::Decimal;

#[test]
fn values_fit_their_types_only() {
    let array = SchemaBuilder::array(INT32.clone()).build();
    let map = SchemaBuilder::map(STRING.clone(), OPTIONAL_INT64.clone()).build();
    let pairs = |value: Value| Value::from(vec![(Value::from("a"), value)]);
    for (schema, value, fits) in [
        (&*INT32, Value::from(1i32), true),
        (&*INT32, Value::from(1i16), false),
        (&*INT64, Value::from(1i32), false),
        (&*STRING, Value::Null, false),
        (&*OPTIONAL_STRING, Value::Null, true),
        (&*FLOAT64, Value::from(1f32), false),
        (&*BYTES, Value::from("a"), false),
        (&array, Value::from(vec![Value::from(1i32)]), true),
        (&array, Value::from(vec![Value::Null]), false),
        (&map, pairs(Value::Null), true),
        (&map, pairs(Value::from("b")), false),
        (&logical::DATE_SCHEMA, Value::Date(1), true),
        (&logical::DATE_SCHEMA, Value::Timestamp(1), true),
        (&logical::DATE_SCHEMA, Value::from(1i32), false),
        (&*INT32, Value::Date(1), false),
        (&logical::decimal(2).build(), Decimal::new(1, 2).into(), true),
        (&logical::decimal(2).build(), Value::from(1i64), false),
    ] {
        assert_eq!(schema.validate(&value).is_ok(), fits, "{schema:?} {value:?}");
    }
    let error = map.validate(&pairs(Value::from("b"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(error.message(), "value of key a: a value of type STRING does not fit (schema INT64)");
}

#[test]
fn structs_are_checked_field_by_field() {
    let schema = SchemaBuilder::new_struct()
        .field("id", INT64.clone())
        .field("note", OPTIONAL_STRING.clone())
        .field("size", SchemaBuilder::new(SchemaType::Int32).default_value(7i32).build())
        .build();
    let empty = Struct::new(schema.clone());
    assert_eq!(
        empty.validate().unwrap_err().message(),
        "id: null is not allowed: the schema is required (schema INT64)"
    );
    let filled = empty.with("id", 1i64).unwrap();
    filled.validate().unwrap();
    assert_eq!(filled.get("size"), Some(&Value::Null));
    assert_eq!(filled.get_or_default("size"), Some(&Value::Int32(7)));
    assert_eq!(filled.get_or_default("note"), Some(&Value::Null));
    assert_eq!(filled.get_or_default("ghost"), None);
    for (name, value) in [("id", Value::Int32(1)), ("id", Value::Null), ("ghost", Value::Int32(1))] {
        assert!(filled.clone().put(name, value).is_err(), "{name}");
    }
    schema.validate(&filled.clone().into()).unwrap();
    let other = SchemaBuilder::new_struct().field("id", INT64.clone()).build();
    assert!(other.validate(&filled.into()).is_err());

    assert!(Struct::from_values(schema.clone(), vec![1i64.into(), "n".into(), Value::Null]).is_ok());
    assert!(Struct::from_values(schema.clone(), vec![1i64.into()]).is_err());
    assert!(Struct::from_values(schema, vec!["x".into(), Value::Null, Value::Null]).is_err());
}

#[test]
fn builders_refuse_what_cannot_be() {
    let default = |builder: SchemaBuilder, value: Value| builder.default_value(value).try_build();
    assert!(default(SchemaBuilder::new(SchemaType::Int32), "a".into()).is_err());
    assert!(default(SchemaBuilder::new(SchemaType::Int32), Value::Null).is_err());
    assert!(default(SchemaBuilder::new(SchemaType::Int32).optional(), Value::Null).is_ok());
    assert!(default(logical::date(), Value::Date(1)).is_ok());
    assert!(default(logical::date(), Value::Int32(1)).is_err());
    let twice = SchemaBuilder::new_struct().field("a", INT8.clone()).field("a", INT16.clone());
    assert_eq!(twice.try_build().unwrap_err().message(), "the struct has two fields named a");
    assert!(SchemaBuilder::new_struct().field("", INT8.clone()).try_build().is_err());
}

#[test]
fn logical_values_have_a_physical_form() {
    let decimal = logical::decimal(2).build();
    let date = logical::DATE_SCHEMA.clone();
    for (schema, value, physical) in [
        (&decimal, Value::from(Decimal::new(-129, 2)), Value::from(bytes::Bytes::from_static(&[255, 127]))),
        (&date, Value::Date(-3), Value::Int32(-3)),
        (&logical::TIME_SCHEMA, Value::Time(5), Value::Int32(5)),
        (&logical::TIMESTAMP_SCHEMA, Value::Timestamp(-1), Value::Int64(-1)),
        (&STRING, Value::from("a"), Value::from("a")),
    ] {
        assert_eq!(logical::to_physical(schema, &value).unwrap(), physical);
        assert_eq!(logical::from_physical(schema, physical).unwrap(), value);
    }
    assert_eq!(logical::to_physical(&date, &Value::Timestamp(86_400_000)).unwrap(), Value::Int32(1));
    assert!(logical::to_physical(&date, &Value::Timestamp(1)).is_err());
    assert!(logical::to_physical(&decimal, &Decimal::new(1, 3).into()).is_err());
    assert!(logical::from_physical(&logical::TIME_SCHEMA, Value::Int32(86_400_000)).is_err());
    assert!(logical::from_physical(&decimal, Value::from(bytes::Bytes::new())).is_err());
    let no_scale = SchemaBuilder::new(SchemaType::Bytes).name(logical::DECIMAL).build();
    assert!(logical::to_physical(&no_scale, &Decimal::new(1, 3).into()).is_err());
}
