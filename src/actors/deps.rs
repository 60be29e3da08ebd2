//! What every unit needs of its worker; made once, in `main`, and handed down.

use std::sync::Arc;
use std::time::Duration;

use super::pump::Pumps;
use crate::backend::Backend;
use crate::config::WorkerConfig;
use crate::metrics::Metrics;
use crate::plugins::Registry;
use crate::storage::offset_file::FileOffsetStore;

/// See the module.
pub struct Deps {
    /// The worker's settings.
    pub config: WorkerConfig,
    /// Where records live.
    pub backend: Arc<dyn Backend>,
    /// Where the internal topics and the cluster of workers live: the same, but in memory for a standalone worker.
    pub internal: Arc<dyn Backend>,
    /// Where a standalone worker keeps source offsets, in the place of the offset topic. Outlives the herders, since one handle at a
    /// time may have the file.
    pub offset_file: Option<Arc<FileOffsetStore>>,
    /// Plug-ins.
    pub registry: Registry,
    /// Counters.
    pub metrics: Metrics,
    /// Where pumps run.
    pub pumps: Pumps,
}

/// How often the worker looks whether a callback of a pump has passed its deadline.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(250);
