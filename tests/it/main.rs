//! The integration tests: one binary, a module for each feature.

mod backend;
mod bad_input;
mod embedded;
mod golden;
mod kafka_client;
mod kills;
mod lifecycle;
mod rest;
mod scenarios;
mod storage;
mod supervision;
mod support;
mod tidy;
mod vectors;
