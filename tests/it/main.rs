//! The integration tests: one binary, a module for each feature.

mod backend;
mod kafka_client;
mod support;
