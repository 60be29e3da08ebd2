//! Thin shells: actors that supervise, and pumps that run code of plug-ins.
//!
//! ```text
//! Worker            supervises all others, keeps the factories
//!   Herder          wanted minus running; answers REST through its handle
//!     StatusActor   writes status records in order
//!     ClusterActor  gossips: who lives
//!   UnitActor       one connector or task: its lifecycle and its pump
//!   OffsetCommitter one per task, restartable without it
//! ```

pub mod advertised;
pub mod deps;
pub mod handle;
pub mod herder;
pub mod supervision;
pub mod worker;

pub mod clients;
pub mod cluster;
mod cluster_view;
mod connector_pump;
mod lease;
mod messages;
mod offset_committer;
pub mod peers;
mod precondition;
mod prepared;
pub mod probe;
pub mod pump;
pub mod restart_policy;
pub mod shutdown;
mod status;
mod task_pump;
mod unit;
pub mod validation;
