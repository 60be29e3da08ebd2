use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::schema::{self, SchemaBuilder};

fn map(entries: impl IntoIterator<Item = (i32, i32)>) -> Value {
    Value::from(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect::<Vec<(Value, Value)>>())
}

#[test]
fn equality_is_javas() {
    assert_eq!(Value::from(f64::NAN), Value::from(-f64::NAN));
    assert_ne!(Value::from(0.0f32), Value::from(-0.0f32));
    assert_ne!(Value::from(1i32), Value::from(1i64));
    assert_ne!(Value::from(Decimal::new(10, 1)), Value::from(Decimal::new(1, 0)));
    for entries in [3, 100] {
        let forward = map((0..entries).map(|i| (i, i * i)));
        let backward = map((0..entries).rev().map(|i| (i, i * i)));
        assert_eq!(forward, backward);
        assert_eq!(HashSet::from([forward.clone(), backward]).len(), 1);
        assert_ne!(forward, map((0..entries).map(|i| (i, i))));
        assert_ne!(forward, map((0..entries - 1).map(|i| (i, i * i))));
    }
}

#[test]
fn text_is_javas() {
    let place = SchemaBuilder::new_struct()
        .field("city", schema::STRING.clone())
        .field("zip", schema::OPTIONAL_INT32.clone())
        .field("alt", schema::INT64.clone())
        .build();
    let place = crate::Struct::new(place).with("city", "Bern").and_then(|place| place.with("alt", 540i64));
    for (value, text) in [
        (Value::Null, "null"),
        (1.5f32.into(), "1.5"),
        (1e10.into(), "1.0E10"),
        (Value::from(vec![1i32.into(), "a".into(), Value::Null]), "[1, a, null]"),
        (map([(1, 2), (3, 4)]), "{1=2, 3=4}"),
        (place.expect("fits").into(), "Struct{city=Bern,alt=540}"),
        (Value::from(Bytes::from_static(&[0, 255])), "00ff"),
        (Value::Date(-1), "1969-12-31"),
        (Value::Date(11_016), "2000-02-29"),
        (Value::Time(86_399_999), "23:59:59.999"),
        (Value::Timestamp(1_483_425_001_864), "2017-01-03T06:30:01.864Z"),
        (Decimal::new(-12345, 2).into(), "-123.45"),
        (Decimal::new(5, 6).into(), "0.000005"),
        (Decimal::new(5, 7).into(), "5E-7"),
        (Decimal::new(123, -3).into(), "1.23E+5"),
        (Decimal::new(0, 3).into(), "0.000"),
        (Decimal::new(1, 20).into(), "1E-20"),
    ] {
        assert_eq!(value.to_string(), text);
    }
    assert_eq!(Decimal::new(-12, -3).to_plain_string(), "-12000");
    assert_eq!(Decimal::new(0, -3).to_plain_string(), "0");
    assert_eq!(Decimal::new(5, 7).to_plain_string(), "0.0000005");
}

#[test]
fn decimal_bytes_are_twos_complement() {
    for (unscaled, bytes) in [(0, &[0u8][..]), (127, &[127]), (128, &[0, 128]), (-1, &[255]), (-129, &[255, 127])] {
        assert_eq!(&Decimal::new(unscaled, 2).to_bytes()[..], bytes);
    }
    assert!(Decimal::from_bytes(&[], 2).is_err());
}

proptest! {
    #[test]
    fn decimals_survive_bytes(unscaled: i128, more in prop::collection::vec(any::<u8>(), 0..40), scale: i32) {
        for number in [BigInt::from(unscaled), BigInt::from_signed_bytes_be(&more)] {
            let decimal = Decimal::new(number, scale);
            prop_assert_eq!(&Decimal::from_bytes(&decimal.to_bytes(), scale).unwrap(), &decimal);
        }
    }
}
