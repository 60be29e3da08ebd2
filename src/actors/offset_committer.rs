//! Commits the offsets of one task at an interval. Keeps nothing that is not shared with the pump, so it can crash and be built
//! again without the task noticing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use super::lease::Lease;
use crate::metrics::TaskMetrics;
use crate::pipeline::{CommitSignal, Delivery, flush_offsets};
use crate::storage::offset_store::ConnectorOffsets;

/// What is committed, and how.
#[derive(Clone)]
pub enum CommitTarget {
    /// A source task: offsets behind acknowledged records go to the offset topic. Code of the plug-in is not involved; the
    /// pump tells the task afterwards.
    Source {
        /// Its records under way.
        delivery: Arc<Delivery>,
        /// Where offsets go.
        offsets: Arc<ConnectorOffsets>,
        /// Longest time of a flush (`offset.flush.timeout.ms`).
        timeout: Duration,
        /// Counters.
        metrics: Arc<TaskMetrics>,
        /// Without it nothing is committed.
        lease: Lease,
    },
    /// A sink task: `pre_commit` is code of the plug-in, so the pump does it between two batches.
    Sink(Arc<CommitSignal>),
}

/// See the module.
pub struct OffsetCommitter {
    target: CommitTarget,
    interval: Duration,
    flushing: bool,
}

impl OffsetCommitter {
    /// Commits each `interval` (`offset.flush.interval.ms`) from now on.
    pub fn new(target: CommitTarget, interval: Duration) -> Self {
        OffsetCommitter { target, interval, flushing: false }
    }

    fn commit(&mut self, context: &mut Context<Self>) {
        match &self.target {
            CommitTarget::Sink(signal) => signal.raise(),
            // One at a time: a slow flush is not made faster by a second one.
            CommitTarget::Source { lease, .. } if self.flushing || !lease.holds() => {}
            CommitTarget::Source { delivery, offsets, timeout, metrics, .. } => {
                let (delivery, offsets, timeout) = (delivery.clone(), offsets.clone(), *timeout);
                let metrics = metrics.clone();
                self.flushing = true;
                let flush = async move {
                    let began = Instant::now();
                    let flushed = flush_offsets(&delivery, &offsets, timeout).await;
                    metrics.offset_commit(flushed.is_ok(), began.elapsed());
                    if let Err(error) = flushed {
                        tracing::warn!(%error, "offsets were not written; tried again at the next interval");
                    }
                };
                context.spawn(flush.into_actor(self).map(|(), committer, _| committer.flushing = false));
            }
        }
    }
}

impl Actor for OffsetCommitter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(self.interval, OffsetCommitter::commit);
    }
}

/// Worker to committer: the task is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopCommitter;

impl Handler<StopCommitter> for OffsetCommitter {
    type Result = ();
    fn handle(&mut self, _: StopCommitter, context: &mut Context<Self>) {
        context.stop();
    }
}
