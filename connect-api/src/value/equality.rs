//! Equality and hashes of values, as Java's `equals` and `hashCode` have them.
//!
//! Being a true equivalence (`Eq`) matters beyond maps: it lets the standard library compare shared schemas and lists
//! by their address first.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Value;

/// Up to this many entries, looking for each key of a map in the other one is cheaper than hashing all of them.
const SMALL_MAP_ENTRIES: usize = 16;

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Boolean(a), Value::Boolean(b)) => a == b,
            (Value::Int8(a), Value::Int8(b)) => a == b,
            (Value::Int16(a), Value::Int16(b)) => a == b,
            (Value::Int32(a), Value::Int32(b)) => a == b,
            (Value::Int64(a), Value::Int64(b)) => a == b,
            (Value::Float32(a), Value::Float32(b)) => bits32(*a) == bits32(*b),
            (Value::Float64(a), Value::Float64(b)) => bits64(*a) == bits64(*b),
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => std::sync::Arc::ptr_eq(a, b) || maps_equal(a, b),
            (Value::Struct(a), Value::Struct(b)) => a == b,
            (Value::Decimal(a), Value::Decimal(b)) => a == b,
            (Value::Date(a), Value::Date(b)) => a == b,
            (Value::Time(a), Value::Time(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::Null => {}
            Value::Boolean(value) => value.hash(state),
            Value::Int8(value) => value.hash(state),
            Value::Int16(value) => value.hash(state),
            Value::Int32(value) | Value::Date(value) | Value::Time(value) => value.hash(state),
            Value::Int64(value) | Value::Timestamp(value) => value.hash(state),
            Value::Float32(value) => bits32(*value).hash(state),
            Value::Float64(value) => bits64(*value).hash(state),
            Value::String(value) => value.hash(state),
            Value::Bytes(value) => value.hash(state),
            Value::Array(value) => value.hash(state),
            Value::Map(entries) => {
                let sum = entries.iter().fold(0u64, |sum, entry| sum.wrapping_add(hash_alone(entry)));
                (entries.len(), sum).hash(state);
            }
            // The values alone: equal structs have equal values, and hashing a schema each time would be slow.
            Value::Struct(value) => value.values().hash(state),
            Value::Decimal(value) => value.hash(state),
        }
    }
}

fn hash_alone(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Java's `floatToIntBits`: all NaN are one.
fn bits32(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

/// Java's `doubleToLongBits`: all NaN are one.
fn bits64(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn maps_equal(a: &[(Value, Value)], b: &[(Value, Value)]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() <= SMALL_MAP_ENTRIES {
        return a.iter().all(|entry| b.contains(entry));
    }
    let others: std::collections::HashMap<&Value, &Value> = b.iter().map(|(key, value)| (key, value)).collect();
    a.iter().all(|(key, value)| others.get(key) == Some(&value))
}
