//! Writes how a connector splits its work: its task configurations.

use actix::prelude::*;
use connect_api::Props;

use super::*;
use crate::actors::handle::TargetState;
use crate::actors::messages::{RunId, Steer, SteerUnit};
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

/// The offset of the last record that decides which tasks a connector has: of its commit or its target state.
pub(super) fn tasks_follow(state: &ClusterState, connector: &str) -> Option<i64> {
    let commit = state.task_set(connector).map(|set| set.commit_offset);
    commit.max(state.target_state_offset(connector))
}

/// Behind which record a connector has to say its task configurations again, unless this run was asked behind that one already: it has no tasks and
/// should have them, since a stop has taken them away and is over, or since their records are not in the log. A function of the state, whatever
/// became of it on the way: a run that saw nothing of a stop and a resume, since both came at once or while it had no lease, says nothing by itself.
/// What it says is refused only by a stop that is still in force, and what ends that one is a record again.
fn lost_tasks(state: &ClusterState, connector: &str, asked_behind: Option<i64>) -> Option<i64> {
    let lost = state.task_set(connector)?.configs.is_empty() && state.target_state(connector) != TargetState::Stopped;
    // A connector that has no work is asked once behind its own commit, too, and says the same.
    tasks_follow(state, connector).filter(|last| lost && asked_behind < Some(*last))
}

impl Herder {
    /// Has a connector say its task configurations again when those in force were lost. To be called behind a batch of records: between those of
    /// one stop they look lost.
    pub(super) fn ask_for_lost_tasks(&mut self, connector: String) {
        let unit = UnitId::Connector(connector);
        let Some(running) = self.running.get_mut(&unit).filter(|running| !running.ending && !running.restart) else {
            return;
        };
        let Some(last) = lost_tasks(&self.state, unit.connector(), running.asked_behind) else { return };
        running.asked_behind = Some(last);
        self.worker.do_send(SteerUnit { run: running.run.clone(), steer: Steer::Reconfigure });
    }

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
                herder.arm_restarts(context);
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

#[cfg(test)]
mod tests {
    use connect_api::TimestampType;

    use super::*;
    use crate::backend::ConsumerRecord;
    use crate::storage::config_records::{Commit, ConfigRecord};
    use crate::storage::fold::fold;
    use crate::storage::records::RawConfig;

    /// The state after these writes, each of which is planned on what those before it made.
    fn state_of(writes: &[fn(&ClusterState) -> Vec<ConfigRecord>]) -> ClusterState {
        let mut state = ClusterState::default();
        for record in writes.iter().flat_map(|write| write(&state.clone())).collect::<Vec<_>>() {
            let (key, value, offset) = (Some(record.key()), record.value(), state.next_offset());
            let (timestamp, timestamp_type) = (-1, TimestampType::CreateTime);
            let record =
                ConsumerRecord { source: 0, offset, timestamp, timestamp_type, key, value, headers: Vec::new() };
            state = fold(state, &record).0;
        }
        state
    }

    fn connector(state: &ClusterState) -> Vec<ConfigRecord> {
        plan::put_connector(state, "a", RawConfig::new(), None)
    }

    fn task(state: &ClusterState) -> Vec<ConfigRecord> {
        plan::put_tasks(state, "a", vec![RawConfig::new()])
    }

    fn stop(state: &ClusterState) -> Vec<ConfigRecord> {
        plan::put_target_state(state, "a", TargetState::Stopped)
    }

    fn pause(state: &ClusterState) -> Vec<ConfigRecord> {
        plan::put_target_state(state, "a", TargetState::Paused)
    }

    fn resume(state: &ClusterState) -> Vec<ConfigRecord> {
        plan::put_target_state(state, "a", TargetState::Started)
    }

    fn broken(_: &ClusterState) -> Vec<ConfigRecord> {
        vec![ConfigRecord::Commit("a".into(), Commit { tasks: 2, config: None })]
    }

    fn delete(_: &ClusterState) -> Vec<ConfigRecord> {
        plan::delete_connector("a")
    }

    #[test]
    fn tasks_are_lost_when_the_last_commit_has_none_and_they_are_wanted() {
        for (is_lost, writes) in [
            (false, &[connector as fn(&ClusterState) -> _] as &[_]),
            (false, &[connector, task]),
            (false, &[connector, task, stop]),
            (true, &[connector, task, stop, resume]),
            (true, &[connector, task, stop, pause]),
            (true, &[connector, task, stop, resume, stop, resume]),
            (false, &[connector, task, stop, resume, stop]),
            (false, &[connector, task, stop, resume, task]),
            (true, &[connector, task, broken]),
            (false, &[connector, task, stop, resume, delete]),
        ] {
            let state = state_of(writes);
            let lost = lost_tasks(&state, "a", None);
            assert_eq!(lost, tasks_follow(&state, "a").filter(|_| is_lost), "{writes:?}");
            // Once behind each record, which is a function of the two offsets and of nothing that came between.
            let Some(last) = lost else { continue };
            assert_eq!(lost_tasks(&state, "a", Some(last - 1)), Some(last));
            assert_eq!(lost_tasks(&state, "a", Some(last)), None);
        }
    }

    /// Between the records of a stop tasks look lost. What is said then is refused, so it must not count for later.
    #[test]
    fn a_connector_that_was_asked_in_the_middle_of_a_stop_is_asked_when_it_is_over() {
        fn half_a_stop(state: &ClusterState) -> Vec<ConfigRecord> {
            plan::put_tasks(state, "a", Vec::new())
        }
        let asked = lost_tasks(&state_of(&[connector, task, half_a_stop]), "a", None);
        assert!(asked.is_some());
        assert!(lost_tasks(&state_of(&[connector, task, stop, resume]), "a", asked) > asked);
    }
}
