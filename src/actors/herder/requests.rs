//! Carries out what REST writes. Every write of a configuration is a compare-and-append: the check runs on the state that
//! the transaction has read to its end, on whichever worker it happens.

use actix::prelude::*;
use futures_util::FutureExt;

use super::answers::no_connector;
use super::configs::{Patch, write_config};
use super::units::answer;
use super::*;
use crate::actors::handle::{ConnectorInfo, HerderResult, Precondition, Reply, TargetState};
use crate::actors::validation;
use crate::backend::BackendError;
use crate::storage::config_records::ConfigRecord;
use crate::storage::plan;
use crate::storage::records::RawConfig;
use crate::storage::topic_log::{CompareError, LogError};

impl Herder {
    pub(super) fn write(&mut self, request: HerderRequest, context: &mut Context<Self>) {
        match request {
            HerderRequest::Create { name, config, initial_state, reply } => {
                self.put(name, config, Put::Create(initial_state), context, move |result| {
                    answer(reply, result.map(|(_, info)| info));
                });
            }
            HerderRequest::PutConfig { name, config, precondition, reply } => {
                self.put(name, config, Put::Replace(precondition), context, move |result| answer(reply, result));
            }
            HerderRequest::PatchConfig { name, changes, precondition, reply } => {
                self.patch(Patch { name, changes, precondition, reply, checked: None, merges: 0 }, context);
            }
            HerderRequest::Delete(name, precondition, reply) => {
                let Some((logs, reply)) = accept(self.logs().cloned(), reply) else { return };
                let check = move |state: &ClusterState| {
                    let present = state.connector(&name);
                    precondition.check(&name, present.map(|entry| entry.offset))?;
                    present.ok_or_else(|| no_connector(&name))?;
                    Ok(plan::delete_connector(&name))
                };
                self.transact(logs, check, reply, context);
            }
            HerderRequest::SetTargetState(name, target, reply) => self.set_target_state(name, target, reply, context),
            HerderRequest::RestartConnector(name, reply) => self.restart_one(name, None, reply, context),
            HerderRequest::RestartTask(name, task, reply) => self.restart_one(name, Some(task), reply, context),
            HerderRequest::Restart(name, request, reply) => self.restart(&name, request, reply, context),
            HerderRequest::Evict(worker, reply) => self.evict(worker, reply, context),
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
        if matches!(put, Put::Create(_)) && self.state.connector(&name).is_some() {
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
        let write = async move {
            let wanted = {
                let name = name.clone();
                move |state: &ClusterState| {
                    let present = state.connector(&name).map(|entry| entry.offset);
                    let initial = match &put {
                        Put::Create(_) if present.is_some() => return Err(taken(&name)),
                        Put::Create(initial) => *initial,
                        Put::Replace(precondition) => {
                            precondition.check(&name, present)?;
                            None
                        }
                    };
                    Ok((config.clone(), initial))
                }
            };
            let written = write_config(&logs.config, &name, wanted).await.map_err(herder_error)?;
            Ok((written.new, written.info(&deps.registry, &logs.config.snapshot(), &name)))
        };
        self.spawn_checked(write, context, move |result, _, _| done(result));
    }

    /// Checks and writes in one transaction.
    fn transact(
        &mut self,
        logs: Logs,
        check: impl FnMut(&ClusterState) -> HerderResult<Vec<ConfigRecord>> + Send + 'static,
        reply: Reply<()>,
        context: &mut Context<Self>,
    ) {
        let write = async move { logs.config.put(check).await.map(drop).map_err(herder_error) };
        self.spawn_checked(write, context, move |result, _, _| answer(reply, result));
    }

    /// Appends one record; `done` hears of its offset.
    pub(super) fn append_plainly(
        &mut self,
        logs: Logs,
        record: ConfigRecord,
        context: &mut Context<Self>,
        done: impl FnOnce(HerderResult<i64>, &mut Self, &mut Context<Self>) + 'static,
    ) {
        let append = async move { logs.config.append(&record, BROKER_TIMEOUT).await };
        let append = append.map(|result| result.map_err(|error| log_error(&error)));
        self.spawn_append(append, context, done);
    }

    /// Carries out a compare-and-append, and then `done`. It may lose races to other workers for long, which says nothing of the brokers.
    pub(super) fn spawn_checked<R: 'static>(
        &mut self,
        write: impl Future<Output = R> + 'static,
        context: &mut Context<Self>,
        done: impl FnOnce(R, &mut Self, &mut Context<Self>) + 'static,
    ) {
        context.spawn(write.into_actor(self).map(done));
    }

    /// Carries out a plain append to the config topic, and then `done`. While one hangs for long, there is no lease.
    fn spawn_append<R: 'static>(
        &mut self,
        write: impl Future<Output = R> + 'static,
        context: &mut Context<Self>,
        done: impl FnOnce(R, &mut Self, &mut Context<Self>) + 'static,
    ) {
        self.next_append += 1;
        let number = self.next_append;
        self.appends.insert(number, lease::now());
        self.oldest_append_changed(context);
        context.spawn(write.into_actor(self).map(move |result, herder, context| {
            herder.appends.remove(&number);
            herder.oldest_append_changed(context);
            done(result, herder, context);
        }));
    }

    /// The logs, for a write about a connector that is there.
    pub(super) fn logs_for(&self, connector: &str) -> HerderResult<Logs> {
        let logs = self.logs()?;
        self.state.connector(connector).ok_or_else(|| no_connector(connector))?;
        Ok(logs.clone())
    }

    fn set_target_state(&mut self, name: String, target: TargetState, reply: Reply<()>, context: &mut Context<Self>) {
        let Some((logs, reply)) = accept(self.logs_for(&name), reply) else { return };
        if target == TargetState::Stopped {
            let check = move |state: &ClusterState| {
                state.connector(&name).ok_or_else(|| no_connector(&name))?;
                Ok(plan::put_target_state(state, &name, target))
            };
            return self.transact(logs, check, reply, context);
        }
        let record = ConfigRecord::TargetState(name, Some(target));
        self.append_plainly(logs, record, context, move |result, _, _| answer(reply, result.map(drop)));
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

/// How a configuration is put.
enum Put {
    /// The name must be free.
    Create(Option<TargetState>),
    /// Whether or not it is there, if that holds.
    Replace(Precondition),
}

/// What a check found, and who asked; an error is the answer.
pub(super) fn accept<V, T>(checked: HerderResult<V>, reply: Reply<T>) -> Option<(V, Reply<T>)> {
    match checked {
        Ok(found) => Some((found, reply)),
        Err(error) => {
            answer(reply, Err(error));
            None
        }
    }
}

fn herder_error(error: CompareError<HerderError>) -> HerderError {
    match error {
        CompareError::Rejected(error) => error,
        error => not_written(error),
    }
}

/// The answer to a write that no check has refused.
pub(super) fn not_written(error: CompareError<impl std::fmt::Display>) -> HerderError {
    match error {
        CompareError::NotWritten(error) => log_error(&error),
        // Nobody knows whether it happened: who asked has to look.
        unknown => HerderError::Internal(unknown.to_string()),
    }
}

pub(super) fn log_error(error: &LogError) -> HerderError {
    match error {
        LogError::Timeout { .. } => HerderError::Unavailable(format!("Kafka did not answer in time: {error}")),
        // Others were first, time and again.
        LogError::Backend { error: BackendError::Fenced(_), .. } => {
            HerderError::Unavailable(format!("other workers write to the config topic at the moment: {error}"))
        }
        _ if error.is_retriable() => {
            HerderError::Unavailable(format!("the config topic cannot be written at the moment: {error}"))
        }
        _ => HerderError::Internal(format!("the config topic could not be written: {error}")),
    }
}

fn taken(name: &str) -> HerderError {
    HerderError::Conflict(format!("Connector {name} already exists"))
}
