//! A pump that is ready to start, and the channels by which its unit reaches the world.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;

use super::offset_committer::CommitTarget;
use super::pump::PumpEnd;
use crate::metrics::TaskRegistration;
use crate::pipeline::Delivery;

/// See the module.
pub struct Prepared {
    /// It wants a thread of its own.
    pub blocking: bool,
    /// The pump.
    pub run: Pin<Box<dyn Future<Output = PumpEnd> + Send>>,
    /// How it reaches the world.
    pub channels: Channels,
    /// What its offset committer works on; none for connectors.
    pub commit: Option<CommitTarget>,
    /// Keeps the metrics of a task, also while it is failed.
    pub registration: Option<TaskRegistration>,
}

/// How a unit reaches the world. Closing them is what makes an abandoned unit harmless: whatever its code still does, it
/// writes nothing more to Kafka. A sink task writes to Kafka only offsets, and only while its directive allows.
#[derive(Clone)]
pub enum Channels {
    /// A connector, with the signal by which task configurations are asked for.
    Connector(Arc<Notify>),
    /// A source task.
    Source(Arc<Delivery>),
    /// A sink task.
    Sink,
}

impl Channels {
    /// Closes them for good.
    pub fn close(&self) {
        if let Channels::Source(delivery) = self {
            delivery.revoke();
        }
    }

    /// Asks a connector for its task configurations.
    pub fn reconfigure(&self) {
        if let Channels::Connector(reconfigure) = self {
            reconfigure.notify_one();
        }
    }
}
