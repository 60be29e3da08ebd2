//! The REST layer alone: real sockets, raw bytes, and a herder that the test plays.

mod bodies;
mod connections;
mod contract;
pub mod support;
