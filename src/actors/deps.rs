//! What every unit needs of its worker; made once, in `main`, and handed down.

use std::sync::Arc;
use std::time::Duration;

use super::pump::Pumps;
use crate::backend::Backend;
use crate::config::WorkerConfig;
use crate::metrics::Metrics;
use crate::plugins::Registry;

/// See the module.
pub struct Deps {
    /// The worker's settings.
    pub config: WorkerConfig,
    /// Where records live.
    pub backend: Arc<dyn Backend>,
    /// Plug-ins.
    pub registry: Registry,
    /// Counters.
    pub metrics: Metrics,
    /// Where pumps run.
    pub pumps: Pumps,
}

/// How often an actor looks whether a callback of its pump has passed its deadline.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(250);
