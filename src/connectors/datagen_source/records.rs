//! Records: what the one of a task and a sequence is.

use connect_api::{Result, SchemaAndValue, SchemaBuilder, SchemaRef, Struct};

use super::content::Field;
use super::random::Seed;

/// The most bytes of a batch, about, unless one record has more.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// How to make records.
pub struct Recipe {
    /// Each with what it adds to the seed of a record: its name alone, so that its values do not depend on other fields.
    fields: Vec<(Field, u64)>,
    schema: SchemaRef,
    /// The index of the field that is also the key.
    key: Option<usize>,
    seed: Seed,
}

/// Key and value of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyAndValue {
    pub key: SchemaAndValue,
    pub value: SchemaAndValue,
}

impl Recipe {
    /// `key` is the index of a field. An error when two fields have one name.
    pub fn new(seed: u64, fields: Vec<Field>, key: Option<usize>) -> Result<Recipe> {
        let schema = SchemaBuilder::new_struct();
        let schema = fields.iter().fold(schema, |schema, field| schema.field(field.name.clone(), field.schema()));
        let schema = schema.try_build()?;
        let salted = |field: Field| {
            let salt = Seed::default().and_name(&field.name).numbers().bits();
            (field, salt)
        };
        let key = key.filter(|&index| index < fields.len());
        Ok(Recipe { fields: fields.into_iter().map(salted).collect(), schema, key, seed: Seed::default().and(seed) })
    }

    /// The record with this number of this task.
    pub fn record(&self, task: i32, sequence: i64) -> Result<KeyAndValue> {
        // As bits, negative numbers would be as good as others.
        let seed = self.seed.and(task as u64).and(sequence as u64);
        let value = |(field, salt): &(Field, u64)| field.value(seed.and(*salt), task, sequence);
        let value = Struct::from_values(self.schema.clone(), self.fields.iter().map(value).collect())?;
        let key = match self.key {
            Some(index) => SchemaAndValue {
                schema: Some(self.schema.fields()[index].schema.clone()),
                value: value.values()[index].clone(),
            },
            None => SchemaAndValue::NULL,
        };
        Ok(KeyAndValue { key, value: SchemaAndValue::new(self.schema.clone(), value) })
    }

    /// How many records fit in [`MAX_BATCH_BYTES`]; at least one.
    pub fn largest_batch(&self) -> u64 {
        let bytes: usize = self.fields.iter().map(|(field, _)| field.bytes()).sum();
        (MAX_BATCH_BYTES / bytes.max(1)).max(1) as u64
    }
}
