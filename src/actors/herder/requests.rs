//! Carries out what REST writes. Every write of a configuration is a compare-and-append: the check runs on the state that
//! the transaction has read to its end, on whichever worker it happens.

use std::sync::atomic::{AtomicBool, Ordering};

use actix::prelude::*;
use connect_api::Props;

use super::answers::{connector_info, no_connector};
use super::units::answer;
use super::*;
use crate::actors::handle::{ConnectorInfo, ConnectorStatus, HerderResult, Reply, TargetState};
use crate::actors::messages::RunId;
use crate::actors::validation;
use crate::backend::BackendError;
use crate::pipeline::{Failure, Phase};
use crate::storage::config_records::{ConfigRecord, RestartRequest};
use crate::storage::plan;
use crate::storage::records::{RawConfig, with_values};
use crate::storage::topic_log::{CompareError, LogError};

/// How long the answer to a restart waits for the units to say that it has begun.
const RESTART_BEGINS_TIMEOUT: Duration = Duration::from_secs(5);

impl Herder {
    pub(super) fn write(&mut self, request: HerderRequest, context: &mut Context<Self>) {
        match request {
            HerderRequest::Create { name, config, initial_state, reply } => {
                self.put(name, config, Put::Create(initial_state), context, move |result| {
                    answer(reply, result.map(|(_, info)| info));
                });
            }
            HerderRequest::PutConfig { name, config, reply } => {
                self.put(name, config, Put::Replace, context, move |result| answer(reply, result));
            }
            HerderRequest::Delete(name, reply) => {
                let check = move |state: &ClusterState| {
                    state.connector(&name).ok_or_else(|| no_connector(&name))?;
                    Ok(plan::delete_connector(&name))
                };
                self.transact(check, context, move |result| answer(reply, result.map(drop)));
            }
            HerderRequest::SetTargetState(name, target, reply) => self.set_target_state(name, target, reply, context),
            HerderRequest::RestartConnector(name, reply) => {
                self.restart_one(name, None, reply, context);
            }
            HerderRequest::RestartTask(name, task, reply) => self.restart_one(name, Some(task), reply, context),
            HerderRequest::Restart(name, request, reply) => {
                let planned = match self.planned_status(&name, request) {
                    Ok(planned) => planned,
                    Err(error) => return answer(reply, Err(error)),
                };
                let crate::actors::handle::RestartRequest { include_tasks, only_failed } = request;
                let request = RestartRequest { include_tasks, only_failed, task: None };
                let units = self.status_offsets(self.restart_plan(&name, request));
                let record = plan::restart(&name, request);
                self.append_plainly(record, context, move |result, herder, context| match result {
                    Ok(_) => herder.answer_when_begun(units, planned, reply, context),
                    Err(error) => answer(reply, Err(error)),
                });
            }
            // Everything that only reads was answered before.
            _ => {}
        }
    }

    /// Validates first, which is code of the plug-in and may take long, and writes then.
    fn put(
        &mut self,
        name: String,
        config: RawConfig,
        put: Put,
        context: &mut Context<Self>,
        done: impl FnOnce(HerderResult<(bool, ConnectorInfo)>) + 'static,
    ) {
        if let Err(error) = self.logs() {
            return done(Err(error));
        }
        if let (Put::Create(_), true) = (put, self.state.connector(&name).is_some()) {
            return done(Err(taken(&name)));
        }
        let deps = self.deps.clone();
        let check = async move { validation::check(&deps, config).await.map(|config| (name, config)) };
        context.spawn(check.into_actor(self).map(move |checked, herder, context| match checked {
            Ok((name, config)) => herder.put_validated(name, config, put, context, done),
            Err(error) => done(Err(error)),
        }));
    }

    fn put_validated(
        &mut self,
        name: String,
        config: RawConfig,
        put: Put,
        context: &mut Context<Self>,
        done: impl FnOnce(HerderResult<(bool, ConnectorInfo)>) + 'static,
    ) {
        let logs = match self.logs() {
            Ok(logs) => logs.clone(),
            Err(error) => return done(Err(error)),
        };
        let deps = self.deps.clone();
        let began = self.append_begins(context);
        let write = async move {
            // The last check is the one that was committed.
            let created = Arc::new(AtomicBool::new(false));
            let check = {
                let (created, name) = (created.clone(), name.clone());
                move |state: &ClusterState| {
                    let new = state.connector(&name).is_none();
                    created.store(new, Ordering::Relaxed);
                    let initial = match put {
                        Put::Create(_) if !new => return Err(taken(&name)),
                        Put::Create(initial) => initial,
                        Put::Replace => None,
                    };
                    Ok(plan::put_connector(state, &name, config.clone(), initial))
                }
            };
            logs.config.put(check).await.map_err(herder_error)?;
            let created = created.load(Ordering::Relaxed);
            let mut info = connector_info(&deps.registry, &logs.config.snapshot(), &name)?;
            if created {
                info.tasks.clear();
            }
            Ok((created, info))
        };
        context.spawn(write.into_actor(self).map(move |result, herder, context| {
            herder.append_ended(began, context);
            done(result);
        }));
    }

    fn transact(
        &mut self,
        check: impl FnMut(&ClusterState) -> HerderResult<Vec<ConfigRecord>> + Send + 'static,
        context: &mut Context<Self>,
        done: impl FnOnce(HerderResult<()>) + 'static,
    ) {
        let logs = match self.logs() {
            Ok(logs) => logs.clone(),
            Err(error) => return done(Err(error)),
        };
        let began = self.append_begins(context);
        let write = async move { logs.config.put(check).await.map(drop).map_err(herder_error) };
        context.spawn(write.into_actor(self).map(move |result, herder, context| {
            herder.append_ended(began, context);
            done(result);
        }));
    }

    /// Appends one record; `done` hears of its offset.
    fn append_plainly(
        &mut self,
        record: ConfigRecord,
        context: &mut Context<Self>,
        done: impl FnOnce(HerderResult<i64>, &mut Self, &mut Context<Self>) + 'static,
    ) {
        let logs = match self.logs() {
            Ok(logs) => logs.clone(),
            Err(error) => return done(Err(error), self, context),
        };
        let began = self.append_begins(context);
        let append = async move { logs.config.append(&record, BROKER_TIMEOUT).await };
        context.spawn(append.into_actor(self).map(move |result, herder, context| {
            herder.append_ended(began, context);
            done(result.map_err(|error| log_error(&error)), herder, context);
        }));
    }

    fn set_target_state(&mut self, name: String, target: TargetState, reply: Reply<()>, context: &mut Context<Self>) {
        if let Err(error) = self.logs() {
            return answer(reply, Err(error));
        }
        if self.state.connector(&name).is_none() {
            return answer(reply, Err(no_connector(&name)));
        }
        if target == TargetState::Stopped {
            let check = move |state: &ClusterState| {
                state.connector(&name).ok_or_else(|| no_connector(&name))?;
                Ok(plan::put_target_state(state, &name, target))
            };
            return self.transact(check, context, move |result| answer(reply, result));
        }
        let record = ConfigRecord::TargetState(name, Some(target));
        self.append_plainly(record, context, move |result, _, _| answer(reply, result.map(drop)));
    }

    /// A restart that is answered when the unit runs again. It goes through the log, so that it reaches whoever holds the unit.
    fn restart_one(&mut self, name: String, task: Option<u32>, reply: Reply<()>, context: &mut Context<Self>) {
        if let Err(error) = self.logs() {
            return answer(reply, Err(error));
        }
        if self.state.connector(&name).is_none() {
            return answer(reply, Err(no_connector(&name)));
        }
        if let Some(task) = task.filter(|task| *task as usize >= self.state.tasks(&name).len()) {
            return answer(reply, Err(HerderError::NotFound(format!("Task {name}-{task} not found"))));
        }
        let unit = match task {
            None => UnitId::Connector(name.clone()),
            Some(task) => UnitId::Task(name.clone(), task),
        };
        let record = plan::restart(&name, RestartRequest { include_tasks: false, only_failed: false, task });
        self.append_plainly(record, context, move |result, herder, _| match result {
            Ok(offset) => {
                herder.restart_replies.push((offset, unit, reply));
                herder.answer_restarts();
            }
            Err(error) => answer(reply, Err(error)),
        });
    }

    /// Where the statuses of these units stand.
    fn status_offsets(&self, units: Vec<UnitId>) -> Vec<(UnitId, i64)> {
        let offset = |unit: &UnitId| self.statuses.unit(unit).map_or(-1, |status| status.offset);
        units.into_iter().map(|unit| (offset(&unit), unit)).map(|(offset, unit)| (unit, offset)).collect()
    }

    /// Answers once each of these units has said something new: who asks for the status after this answer must not take the state
    /// before the restart for that after it. A holder that says nothing is not waited for long; the request stands in the log.
    fn answer_when_begun(
        &self,
        units: Vec<(UnitId, i64)>,
        planned: ConnectorStatus,
        reply: Reply<ConnectorStatus>,
        context: &mut Context<Self>,
    ) {
        let Some(logs) = &self.logs else { return answer(reply, Ok(planned)) };
        let mut statuses = logs.status.snapshots();
        let begun = async move {
            let all = |state: &StatusState| {
                units.iter().all(|(unit, before)| state.unit(unit).is_none_or(|status| status.offset > *before))
            };
            // Late, or the store is gone: the restart is asked for all the same.
            drop(tokio::time::timeout(RESTART_BEGINS_TIMEOUT, statuses.wait_for(all)).await);
            answer(reply, Ok(planned));
        };
        context.spawn(begun.into_actor(self));
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
        let worker_id = self.parts.identity.worker_id.clone();
        let raw = crate::actors::task_pump::task_configs(&self.deps.registry, &with_values(&entry.config), configs);
        let check = {
            let name = name.clone();
            move |state: &ClusterState| {
                let current = state.connector(&name).is_some_and(|entry| entry.offset == offset);
                let member = state.member(&worker_id).is_some_and(|member| member.incarnation() == incarnation);
                if !current || !member || state.target_state(&name) == TargetState::Stopped {
                    return Err(Outdated);
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
        let began = self.append_begins(context);
        let write = async move { logs.config.put(check).await };
        context.spawn(write.into_actor(self).map(move |result, herder, context| {
            herder.append_ended(began, context);
            match result {
                Ok(_) | Err(CompareError::Rejected(Outdated)) => {}
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
            }
        }));
    }

    /// An own write to the config topic begins: while one hangs for long, there is no lease.
    fn append_begins(&mut self, context: &mut Context<Self>) -> u64 {
        self.next_append += 1;
        self.appends.insert(self.next_append, lease::now());
        self.oldest_append_changed(context);
        self.next_append
    }

    fn append_ended(&mut self, number: u64, context: &mut Context<Self>) {
        self.appends.remove(&number);
        self.oldest_append_changed(context);
    }

    fn oldest_append_changed(&mut self, context: &mut Context<Self>) {
        // Numbers rise with time.
        let oldest = self.appends.values().next().copied();
        if oldest != self.oldest_append {
            self.oldest_append = oldest;
            self.step(Event::OldestAppend(oldest), context);
        }
    }
}

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

/// How a configuration is put.
#[derive(Clone, Copy)]
enum Put {
    /// The name must be free.
    Create(Option<TargetState>),
    /// Whether or not it is there.
    Replace,
}

/// The task configurations are of a time that is over; whoever runs the connector now says them anew.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connector has changed meanwhile")]
struct Outdated;

fn herder_error(error: CompareError<HerderError>) -> HerderError {
    match error {
        CompareError::Rejected(error) => error,
        CompareError::NotWritten(error) => log_error(&error),
        // Nobody knows whether it happened: who asked has to look.
        unknown => HerderError::Internal(unknown.to_string()),
    }
}

pub(super) fn log_error(error: &LogError) -> HerderError {
    match error {
        LogError::Timeout { .. } => HerderError::Unavailable(format!("Kafka did not answer in time: {error}")),
        _ => HerderError::Internal(format!("the config topic could not be written: {error}")),
    }
}

fn taken(name: &str) -> HerderError {
    HerderError::Conflict(format!("Connector {name} already exists"))
}
