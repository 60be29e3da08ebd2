//! The integration tests: one binary, a module for each feature.

mod acl;
mod backend;
mod bad_input;
mod conditions;
mod embedded;
mod golden;
mod guards;
mod inquiries;
mod kafka_client;
mod kills;
mod leader_change;
mod lifecycle;
mod plugins;
mod rest;
mod scenarios;
mod secure;
mod shared_consumers;
mod sinks;
mod standalone;
mod storage;
mod supervision;
mod support;
mod takeover;
mod tidy;
mod vectors;
mod workers;
