//! Thin shells: actors that supervise, and pumps that run user code.

pub mod handle;
