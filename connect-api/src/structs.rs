//! Data of a struct schema.

use crate::errors::{ConnectError, Result};
use crate::schema::{SchemaRef, within};
use crate::value::Value;

/// One value for each field of its schema (Java: `Struct`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struct {
    schema: SchemaRef,
    values: Vec<Value>,
}

impl Struct {
    /// A struct without values: every field is null until it is put.
    pub fn new(schema: SchemaRef) -> Self {
        let values = vec![Value::Null; schema.fields().len()];
        Struct { schema, values }
    }

    /// A struct of these values, one for each field in order, checked as [`Struct::validate`] does. Cheaper than one
    /// `put` for each field.
    pub fn from_values(schema: SchemaRef, values: Vec<Value>) -> Result<Self> {
        let (fields, found) = (schema.fields().len(), values.len());
        if fields != found {
            return Err(ConnectError::data(format!("the struct has {fields} fields, but there are {found} values")));
        }
        let new = Struct { schema, values };
        new.validate()?;
        Ok(new)
    }

    /// What it is described by.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The values in the order of the fields, as they were put.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of a field; `None` when the schema has no such field. Defaults are not filled in. (Java:
    /// `getWithoutDefault`.)
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.schema.field(name).map(|(index, _)| &self.values[index])
    }

    /// The value of a field, or its default where it is null; `None` when the schema has no such field. (Java: `get`.)
    pub fn get_or_default(&self, name: &str) -> Option<&Value> {
        let (index, field) = self.schema.field(name)?;
        match &self.values[index] {
            Value::Null => Some(field.schema.default_value().unwrap_or(&Value::Null)),
            value => Some(value),
        }
    }

    /// Sets a field. An error of kind Data when there is no such field or the value does not fit it; as in Java, a
    /// required field cannot be put to null, but may be left out when it has a default.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) -> Result<()> {
        let Some((index, field)) = self.schema.field(name) else {
            return Err(ConnectError::data(format!("{name} is no field of the struct's schema")));
        };
        let value = value.into();
        field.schema.validate(&value).map_err(|error| within(name, &error))?;
        self.values[index] = value;
        Ok(())
    }

    /// Sets a field and hands the struct on.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Result<Self> {
        self.put(name, value)?;
        Ok(self)
    }

    /// Checks every field against its schema; null is fine where the field is optional or has a default. (Java:
    /// `Struct.validate`.)
    pub fn validate(&self) -> Result<()> {
        self.schema.fields().iter().zip(&self.values).try_for_each(|(field, value)| {
            if value.is_null() && field.schema.default_value().is_some() {
                return Ok(());
            }
            field.schema.validate(value).map_err(|error| within(&field.name, &error))
        })
    }
}
