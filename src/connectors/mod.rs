//! The connectors that connect-node brings. They import `connect_api` and nothing else of this project.

pub mod file_sink;
pub mod file_source;
