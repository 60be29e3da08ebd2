//! Transformations change or drop single records; predicates choose those that a transformation sees.

use crate::config_def::ConfigDef;
use crate::connector::Props;
use crate::errors::Result;
use crate::record::Record;

/// Changes records one at a time (Java: `Transformation`). It belongs to one task and is used by it alone.
pub trait Transformation: Send {
    /// The settings of this transformation.
    fn config(&self) -> ConfigDef;

    /// Called once before anything else.
    fn configure(&mut self, props: &Props) -> Result<()>;

    /// The changed record, the same one, or `None` to drop it. The record is moved, not copied.
    fn apply(&mut self, record: Record) -> Result<Option<Record>>;
}

/// Says whether a transformation applies to a record (Java: `Predicate`, KIP-585).
pub trait Predicate: Send {
    /// The settings of this predicate.
    fn config(&self) -> ConfigDef;

    /// Called once before anything else.
    fn configure(&mut self, props: &Props) -> Result<()>;

    /// Whether the record is meant.
    fn test(&mut self, record: &Record) -> Result<bool>;
}
