//! Does a value fit a schema? (Java: `ConnectSchema.validateValue`.)

use super::{Logical, Schema, SchemaType};
use crate::errors::{ConnectError, Result};
use crate::value::Value;

impl Schema {
    /// An error of kind Data when the value does not fit: null where it is required, another type, an element or field
    /// that does not fit, or a struct of another schema. Integers do not fit wider types. Logical schemas take
    /// logical values only, where each of Date, Time and Timestamp may stand for the others (one class in Java). Where an
    /// array or map says nothing of what is in it, everything fits (Java's check breaks there).
    pub fn validate(&self, value: &Value) -> Result<()> {
        if value.is_null() {
            return if self.optional {
                Ok(())
            } else {
                Err(self.misfit("null is not allowed: the schema is required"))
            };
        }
        if let Some(logical) = self.logical {
            return match (logical, value) {
                (Logical::Decimal, Value::Decimal(_)) => Ok(()),
                (Logical::Decimal, _) => Err(self.wrong_type(value)),
                (_, Value::Date(_) | Value::Time(_) | Value::Timestamp(_)) => Ok(()),
                _ => Err(self.wrong_type(value)),
            };
        }
        match (&self.schema_type, value) {
            (SchemaType::Int8, Value::Int8(_))
            | (SchemaType::Int16, Value::Int16(_))
            | (SchemaType::Int32, Value::Int32(_))
            | (SchemaType::Int64, Value::Int64(_))
            | (SchemaType::Float32, Value::Float32(_))
            | (SchemaType::Float64, Value::Float64(_))
            | (SchemaType::Boolean, Value::Boolean(_))
            | (SchemaType::String, Value::String(_))
            | (SchemaType::Bytes, Value::Bytes(_)) => Ok(()),
            (SchemaType::Array(schema), Value::Array(elements)) => {
                let Some(schema) = schema else { return Ok(()) };
                elements.iter().enumerate().try_for_each(|(i, element)| {
                    schema.validate(element).map_err(|error| within(&format!("element {i}"), &error))
                })
            }
            (SchemaType::Map(keys, values), Value::Map(entries)) => entries.iter().try_for_each(|(key, value)| {
                if let Some(keys) = keys {
                    keys.validate(key).map_err(|error| within(&format!("key {key}"), &error))?;
                }
                let Some(values) = values else { return Ok(()) };
                values.validate(value).map_err(|error| within(&format!("value of key {key}"), &error))
            }),
            (SchemaType::Struct(_), Value::Struct(value)) => {
                if !std::ptr::eq(&**value.schema(), self) && **value.schema() != *self {
                    return Err(self.misfit("the struct was made for another schema"));
                }
                value.validate()
            }
            _ => Err(self.wrong_type(value)),
        }
    }

    fn wrong_type(&self, value: &Value) -> ConnectError {
        self.misfit(&format!("a value of type {} does not fit", value.type_name()))
    }

    fn misfit(&self, why: &str) -> ConnectError {
        let name = self.name().map(|name| format!(" named {name}")).unwrap_or_default();
        ConnectError::data(format!("{why} (schema {}{name})", self.schema_type.name()))
    }
}

pub(crate) fn within(place: &str, error: &ConnectError) -> ConnectError {
    ConnectError::data(format!("{place}: {error}"))
}
