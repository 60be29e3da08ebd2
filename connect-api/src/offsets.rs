//! Source partitions and offsets: where a source task reads, and how far it got.

use std::sync::Arc;

use async_trait::async_trait;
use bytestring::ByteString;

use crate::errors::Result;
use crate::value::Value;

/// Named values in the order in which they were put. The order is part of the identity in the offset topic: Java
/// compares the serialized bytes (facts of the offset topic, section 10), so build the fields in the order in which
/// the Java original of a connector does.
#[derive(Debug, Clone, Default)]
pub struct FieldMap(Vec<(ByteString, Value)>);

impl FieldMap {
    /// No fields.
    pub const fn new() -> Self {
        FieldMap(Vec::new())
    }

    /// The fields with one more, or with a new value for an existing name.
    pub fn with(mut self, name: impl Into<ByteString>, value: impl Into<Value>) -> Self {
        self.insert(name.into(), value.into());
        self
    }

    /// Sets a field; an existing one keeps its place.
    pub fn insert(&mut self, name: ByteString, value: Value) {
        match self.0.iter_mut().find(|(existing, _)| *existing == name) {
            Some((_, old)) => *old = value,
            None => {
                // Most maps have one field, and there is one for each record: no room for four as `push` makes.
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.push((name, value));
            }
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(existing, _)| &**existing == name).map(|(_, value)| value)
    }

    /// All fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Equal in content, whatever the order.
impl PartialEq for FieldMap {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl<N: Into<ByteString>, V: Into<Value>> FromIterator<(N, V)> for FieldMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        fields.into_iter().fold(FieldMap::new(), |map, (name, value)| map.with(name, value))
    }
}

/// Names what a source task reads: a file, a table, a shard. Shared by all its records.
pub type SourcePartition = Arc<FieldMap>;

/// The position behind a record within its source partition: where to go on after it.
pub type SourceOffset = Arc<FieldMap>;

/// Reads committed source offsets (Java: `OffsetStorageReader`).
#[async_trait]
pub trait OffsetStorageReader: Send + Sync {
    /// The committed offset of each partition, in the order asked; `None` where there is none. All partitions are
    /// read at once.
    async fn offsets(&self, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>>;

    /// The committed offset of one partition.
    async fn offset(&self, partition: &SourcePartition) -> Result<Option<SourceOffset>> {
        let mut found = self.offsets(std::slice::from_ref(partition)).await?;
        Ok(found.pop().flatten())
    }
}
