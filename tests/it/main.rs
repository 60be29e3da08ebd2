//! The integration tests: one binary, a module for each feature.

mod backend;
mod golden;
mod kafka_client;
mod storage;
mod support;
