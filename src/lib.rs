//! Kafka Connect without a JVM and without group coordination. One line for each room; ARCHITECTURE.md draws them.

pub mod actors;
pub mod backend;
pub mod cluster;
pub mod config;
pub mod connectors;
pub mod converters;
pub mod evict;
pub mod gossip;
pub mod hand_back;
pub mod json;
pub mod logging;
pub mod metrics;
pub mod node;
pub mod pipeline;
pub mod plugins;
pub mod quickstart;
pub mod rest;
pub mod simulation;
pub mod standalone;
pub mod storage;
pub mod topics;
pub mod transforms;
