//! What tests of several features need.

pub mod broker;
mod crash;
pub mod datagrams;
pub mod faulty;
pub mod group;
pub mod java_worker;
pub mod kafka_lib;
pub mod node;
pub mod process;
pub mod relay;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use broker::broker;

/// A name that no other test and no earlier run used.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{:x}-{:x}-{number}", since.as_millis(), std::process::id())
}
