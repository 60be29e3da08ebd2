//! Data of a struct schema.

use crate::errors::{ConnectError, Result};
use crate::schema::SchemaRef;
use crate::value::Value;

/// One value for each field of its schema (Java: `Struct`).
#[derive(Debug, Clone, PartialEq)]
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

    /// What it is described by.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The values in the order of the fields, as they were put.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of a field; `None` when the schema has no such field. Defaults are not filled in.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.schema.field(name).map(|(index, _)| &self.values[index])
    }

    /// Sets a field.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) -> Result<()> {
        match self.schema.field(name) {
            Some((index, _)) => {
                self.values[index] = value.into();
                Ok(())
            }
            None => Err(ConnectError::data(format!("{name} is no field of the struct's schema"))),
        }
    }

    /// Sets a field and hands the struct on.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Result<Self> {
        self.put(name, value)?;
        Ok(self)
    }
}
