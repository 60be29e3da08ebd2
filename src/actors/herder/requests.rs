//! Carries out what REST writes. Every write of a configuration is a compare-and-append: the check runs on the state that
//! the transaction has read to its end, on whichever worker it happens.

use actix::prelude::*;

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
                self.create(name, config, initial_state, reply, context);
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
                    is_present(state, &name)?;
                    Ok(plan::delete_connector(&name))
                };
                self.transact(logs, check, reply, context);
            }
            HerderRequest::SetTargetState(name, target, reply) => self.set_target_state(name, target, reply, context),
            HerderRequest::RestartConnector(name, reply) => self.restart_one(name, None, reply, context),
            HerderRequest::RestartTask(name, task, reply) => self.restart_one(name, Some(task), reply, context),
            HerderRequest::Restart(name, request, reply) => self.restart(name, request, reply, context),
            HerderRequest::Evict(worker, reply) => self.evict(worker, reply, context),
            // Everything that only reads was answered before.
            _ => {}
        }
    }

    /// A name that is taken is refused before anybody looks at the configuration.
    fn create(
        &mut self,
        name: String,
        config: RawConfig,
        initial_state: Option<TargetState>,
        reply: Reply<ConnectorInfo>,
        context: &mut Context<Self>,
    ) {
        let free = {
            let name = name.clone();
            move |state: &ClusterState, _: &StatusState| is_free(state, &name)
        };
        self.find(free, reply, context, move |(), _, reply, herder, context| {
            let done = |result: HerderResult<(bool, _)>| answer(reply, result.map(|(_, info)| info));
            herder.put(name, config, Put::Create(initial_state), context, done);
        });
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
                        Put::Create(initial) => {
                            is_free(state, &name)?;
                            *initial
                        }
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

    /// Appends one record to the config topic; `done` hears of its offset. While one hangs for long, there is no lease.
    pub(super) fn append_plainly(
        &mut self,
        logs: Logs,
        record: ConfigRecord,
        context: &mut Context<Self>,
        done: impl FnOnce(HerderResult<i64>, &mut Self, &mut Context<Self>) + 'static,
    ) {
        self.next_append += 1;
        let (number, begun) = (self.next_append, lease::now());
        self.appends.insert(number, begun);
        self.oldest_append_changed(context);
        let append = async move { logs.config.append(&record, BROKER_TIMEOUT).await };
        context.spawn(append.into_actor(self).map(move |result, herder, context| {
            herder.appends.remove(&number);
            if result.as_ref().is_err_and(LogError::is_retriable) {
                herder.step(Event::GivenUp { partition: None, since: begun }, context);
            }
            herder.oldest_append_changed(context);
            done(result.map_err(|error| log_error(&error)), herder, context);
        }));
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

    /// Looks for what a write needs, and goes on with it. What is not found here may have been written by another worker just now, so a "no" is
    /// given by a worker that has read everything only. A "yes" waits for nothing.
    pub(super) fn find<V: 'static, T: 'static>(
        &mut self,
        look: impl Fn(&ClusterState, &StatusState) -> HerderResult<V> + 'static,
        reply: Reply<T>,
        context: &mut Context<Self>,
        go_on: impl FnOnce(V, Logs, Reply<T>, &mut Self, &mut Context<Self>) + 'static,
    ) {
        let Some((logs, reply)) = accept(self.logs().cloned(), reply) else { return };
        if let Ok(found) = look(&self.state, &self.statuses) {
            return go_on(found, logs, reply, self, context);
        }
        let look_again = async move {
            let (config, status) = (logs.config.log(), logs.status.log());
            let read = tokio::try_join!(config.read_to_end(BROKER_TIMEOUT), status.read_to_end(BROKER_TIMEOUT));
            read.map_err(|error| not_looked(&error))?;
            // The herder itself may be some updates behind these.
            look(&logs.config.snapshot(), &logs.status.snapshot()).map(|found| (found, logs))
        };
        context.spawn(look_again.into_actor(self).map(|found, herder, context| {
            let Some(((found, logs), reply)) = accept(found, reply) else { return };
            go_on(found, logs, reply, herder, context);
        }));
    }

    fn set_target_state(&mut self, name: String, target: TargetState, reply: Reply<()>, context: &mut Context<Self>) {
        let present = {
            let name = name.clone();
            move |state: &ClusterState, _: &StatusState| is_present(state, &name)
        };
        self.find(present, reply, context, move |(), logs, reply, herder, context| {
            if target == TargetState::Stopped {
                let check = move |state: &ClusterState| {
                    is_present(state, &name)?;
                    Ok(plan::put_target_state(state, &name, target))
                };
                return herder.transact(logs, check, reply, context);
            }
            let record = ConfigRecord::TargetState(name, Some(target));
            herder.append_plainly(logs, record, context, move |result, _, _| answer(reply, result.map(drop)));
        });
    }

    pub(super) fn oldest_append_changed(&mut self, context: &mut Context<Self>) {
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

/// The answer to a request that finds nothing, where nobody knows whether there is something.
fn not_looked(error: &LogError) -> HerderError {
    let text = format!("the internal topics could not be read to their ends: {error}");
    if error.is_retriable() { HerderError::Unavailable(text) } else { HerderError::Internal(text) }
}

/// Whether a connector is there.
pub(super) fn is_present(state: &ClusterState, name: &str) -> HerderResult<()> {
    state.connector(name).map(drop).ok_or_else(|| no_connector(name))
}

/// Whether no connector has a name.
fn is_free(state: &ClusterState, name: &str) -> HerderResult<()> {
    match state.connector(name) {
        Some(_) => Err(HerderError::Conflict(format!("Connector {name} already exists"))),
        None => Ok(()),
    }
}
