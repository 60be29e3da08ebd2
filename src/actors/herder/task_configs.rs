//! Writes how a connector splits its work: its task configurations.

use actix::prelude::*;
use connect_api::Props;

use super::*;
use crate::actors::handle::TargetState;
use crate::actors::messages::RunId;
use crate::actors::task_pump;
use crate::backend::BackendError;
use crate::pipeline::{Failure, Phase};
use crate::storage::plan;
use crate::storage::records::with_values;
use crate::storage::topic_log::{CompareError, LogError};

/// Task configurations that a run of a connector said.
pub(super) struct TaskConfigs {
    /// Which run.
    pub run: RunId,
    /// How many times that run has said them, with this time.
    pub said: u64,
    /// One for each task.
    pub configs: Vec<Props>,
    /// How often writing them was tried.
    pub attempt: u32,
}

/// Why task configurations are not written.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum NotWritten {
    /// They are of a time that is over; whoever runs the connector now says them anew.
    #[error("the connector has changed meanwhile")]
    Outdated,
    /// Another worker may hold the connector by now.
    #[error("this worker has no lease")]
    NoLease,
}

impl Herder {
    /// A connector said how its work is to be split. Written only when it differs from what is in force, and only by the holder of the connector
    /// while it is not stopped. Tried again as long as that very run goes on and has said nothing newer.
    pub(super) fn put_task_configs(&mut self, said: TaskConfigs, context: &mut Context<Self>) {
        let Some(logs) = self.logs.clone() else { return };
        let Some(incarnation) = self.plane.incarnation() else { return };
        let Some(running) = self.running.get(&said.run.unit) else { return };
        if running.run != said.run || running.task_configs != said.said {
            return;
        }
        // Of this run: task configurations of an older connector configuration must not count as those of a newer one.
        let offset = running.config_offset;
        let name = said.run.unit.connector().to_owned();
        let Some(entry) = self.state.connector(&name).filter(|entry| entry.offset == offset) else { return };
        let configs = &said.configs;
        let (worker_id, lease) = (self.parts.identity.worker_id.clone(), running.lease.clone());
        let raw = task_pump::task_configs(&self.deps.registry, &with_values(&entry.config), configs);
        let check = {
            let name = name.clone();
            move |state: &ClusterState| {
                let current = state.connector(&name).is_some_and(|entry| entry.offset == offset);
                let member = state.member(&worker_id).is_some_and(|member| member.incarnation() == incarnation);
                if !current || !member || lease.is_revoked() || state.target_state(&name) == TargetState::Stopped {
                    return Err(NotWritten::Outdated);
                }
                // Who has one holds the connector: nobody else's are in front of these. And who writes them later fences this write.
                if !lease.holds() {
                    return Err(NotWritten::NoLease);
                }
                Ok(if state.task_configs_changed(&name, &raw) {
                    plan::put_tasks(state, &name, raw.clone())
                } else {
                    vec![]
                })
            }
        };
        // Nothing to write is the usual case, and needs no transaction: a reader that lags writes once too often, which is harmless.
        if matches!(check.clone()(&self.state), Ok(records) if records.is_empty()) {
            return;
        }
        let write = async move { logs.config.put(check).await };
        self.spawn_checked(write, context, move |result, herder, context| match result {
            Ok(_) | Err(CompareError::Rejected(NotWritten::Outdated)) => {}
            Err(CompareError::NotWritten(LogError::Backend { error: BackendError::Refused(reason), .. })) => {
                let message = format!("the task configurations cannot be stored: {reason}");
                herder.report_failure(&said.run.unit, Failure::text(Phase::TaskConfigs, message));
            }
            Err(error) => {
                tracing::warn!(connector = name, %error, "task configurations were not written; trying again");
                context.run_later(backoff(said.attempt), move |herder, context| {
                    herder.put_task_configs(TaskConfigs { attempt: said.attempt + 1, ..said }, context);
                });
            }
        });
    }
}
