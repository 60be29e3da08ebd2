//! What may be committed, and the commit.
//!
//! One commit is under way at a time. A request that got no answer may still be carried out, for example when the
//! coordinator is back after an outage, and would undo a later one that was faster. So the next commit waits until the former is
//! answered, or given up by the backend, which then sends it no more.

use connect_api::TopicPartition;
use connect_api::sink::Offsets;
use tokio::time::Instant;

use super::{Committing, SinkPump, SinkState};
use crate::pipeline::delivery::until;
use crate::pipeline::phase::{Failure, Phase};

impl SinkPump {
    /// Asks the task what is durable, and commits it. What fails is tried again at the next interval.
    pub(super) async fn commit_offsets(&mut self) {
        // A look, and no wait: records go on meanwhile.
        if !self.wait_for_commit(Instant::now()).await {
            return;
        }
        match self.durable_offsets().await {
            Ok(offsets) => self.commit(offsets, Instant::now() + self.commit_timeout).await,
            Err(failure) => {
                // What was put since the last commit may be lost at the other end: it is read again from there.
                tracing::error!(
                    failure = failure.message,
                    "flush failed; the records since the last commit come again"
                );
                self.metrics.offset_commit(false, std::time::Duration::ZERO);
                self.go_back_to_committed();
            }
        }
        self.enter(Phase::Idle);
    }

    /// The offsets that `pre_commit` allows, of this task's partitions, none beyond what was put, and new ones only.
    pub(super) async fn durable_offsets(&mut self) -> Result<Offsets, Failure> {
        self.enter(Phase::Flush);
        if self.uncommitted().is_empty() {
            return Ok(Offsets::new());
        }
        let SinkState { current, last_committed, .. } = &self.state;
        let mut allowed = self.task.pre_commit(current).await.map_err(|error| Failure::new(Phase::Flush, &error))?;
        allowed.retain(|partition, offset| {
            let sound = current.get(partition).is_some_and(|put| *offset <= *put);
            if !sound {
                tracing::warn!(%partition, offset, "pre_commit returned an offset that was never put; ignored");
            }
            sound && last_committed.get(partition) != Some(offset)
        });
        Ok(allowed)
    }

    pub(super) fn uncommitted(&self) -> Offsets {
        let SinkState { current, last_committed, .. } = &self.state;
        let is_new = |(partition, offset): &(&TopicPartition, &i64)| last_committed.get(*partition) != Some(*offset);
        current.iter().filter(is_new).map(|(partition, offset)| (partition.clone(), *offset)).collect()
    }

    /// The last commit of the task. The one that is under way comes first.
    pub(super) async fn last_commit(&mut self, offsets: Offsets, deadline: Instant) {
        if self.wait_for_commit(deadline).await {
            self.commit(offsets, deadline).await;
        } else {
            tracing::warn!("an earlier commit is still under way; the last offsets are not committed");
        }
    }

    async fn commit(&mut self, offsets: Offsets, deadline: Instant) {
        // Asked again at the last moment: `pre_commit` may have taken longer than the lease, or than the patience of the worker.
        if offsets.is_empty() {
            return;
        }
        if !self.control.commits_allowed(deadline).await {
            return tracing::warn!(
                "there was no lease to commit offsets; records since the last commit may be delivered again"
            );
        }
        let (committed, group) = (self.committed.clone(), self.group.clone());
        let offsets: Vec<_> = offsets.into_iter().collect();
        let sent = offsets.clone();
        let answer = Box::pin(async move { committed.commit(&group, &sent).await });
        self.state.committing = Some(Committing { answer, offsets });
        self.wait_for_commit(deadline).await;
    }

    /// Whether a commit is under way that names this partition.
    pub(super) fn is_committing(&self, partition: &TopicPartition) -> bool {
        let committing = self.state.committing.as_ref();
        committing.is_some_and(|it| it.offsets.iter().any(|(committed, _)| committed == partition))
    }

    /// Waits for the commit that is under way. Whether none is any more.
    pub(super) async fn wait_for_commit(&mut self, deadline: Instant) -> bool {
        let Some(Committing { answer, .. }) = &mut self.state.committing else { return true };
        self.control.phase.enter(Phase::OffsetCommit);
        let began = Instant::now();
        let answer = until(deadline, answer.as_mut()).await;
        self.metrics.offset_commit(matches!(answer, Some(Ok(()))), began.elapsed());
        let Some(answer) = answer else {
            tracing::warn!("a commit of offsets got no answer in time; the next one waits for it");
            return false;
        };
        let Some(Committing { offsets, .. }) = self.state.committing.take() else { return true };
        match answer {
            Err(error) => tracing::warn!(%error, "offsets were not committed; tried again at the next interval"),
            Ok(()) => {
                let SinkState { current, last_committed, .. } = &mut self.state;
                // Not those that were closed meanwhile, and none of these is opened again before this.
                last_committed.extend(offsets.into_iter().filter(|(partition, _)| current.contains_key(partition)));
            }
        }
        true
    }

    /// What is not committed is read again, before anything else.
    fn go_back_to_committed(&mut self) {
        for partition in self.uncommitted().into_keys() {
            if let Some(offset) = self.state.last_committed.get(&partition) {
                // Also where the task ends before the reader is back: its last commit must not pass over them.
                self.state.current.insert(partition.clone(), *offset);
                self.state.seeks.insert(partition);
            }
        }
    }
}
