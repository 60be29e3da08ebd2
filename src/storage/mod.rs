//! What the three internal topics say, and how it is written: pure formats and folds, and thin stores over the backend. Beside them the
//! offset file, which stands for the offset topic in standalone mode.

mod aborted;
pub mod cluster_state;
mod committer;
pub mod config_records;
pub mod config_store;
pub mod fold;
pub mod offset_file;
pub mod offset_records;
pub mod offset_store;
pub mod plan;
pub mod records;
mod shared_map;
pub mod status_records;
pub mod status_store;
mod strays;
pub mod topic_log;
pub mod topics;
mod turns;

pub use cluster_state::ClusterState;
pub use records::RecordError;

#[cfg(test)]
mod tests;
