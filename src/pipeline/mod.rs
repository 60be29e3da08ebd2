//! What a task does with records, without actors: pumps, and the pure structures that decide what may be committed.
//!
//! A source goes poll, transform, convert, send, acknowledgement, offset write, upstream commit; a sink goes read, convert,
//! transform, put, flush, commit. Whole batches everywhere: no message, lock or wait per record.

mod control;
mod convert;
mod delivery;
mod outbox;
mod phase;
#[cfg(test)]
mod plain;
mod sink;
mod source;
mod submitted_records;
mod task_partitions;
mod topic_tracker;
pub mod transform_chain;

pub use control::{CommitSignal, Control, Directive, Report};
pub use convert::{Converters, SinkConverter, SourceConverter};
pub use delivery::{Delivery, MakeWriter};
pub use phase::{Failure, Phase, PhaseCell};
pub use sink::{Reset, SinkPump, SinkState};
pub use source::{SourcePump, flush_offsets};
pub use task_partitions::{Selection, Topics, task_of};
pub use topic_tracker::TopicTracker;
pub use transform_chain::TransformChain;
