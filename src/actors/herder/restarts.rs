//! Restarts. They go through the log, so that they reach whoever holds the units, on whichever worker they are asked for.

use actix::prelude::*;

use super::answers::{planned_restart, restart_plan};
use super::requests::{accept, is_present};
use super::units::answer;
use super::*;
use crate::actors::handle::{self, ConnectorStatus};
use crate::storage::config_records::RestartRequest;
use crate::storage::plan;
use crate::storage::status_records::UnitState;

/// How long the answer to a restart waits for the units to say that it has begun.
const RESTART_BEGINS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the answer to the restart of one unit waits for another worker to say that it is over.
const RESTART_TIMEOUT: Duration = Duration::from_secs(60);

/// Somebody waits for the restart of a unit.
pub(super) struct AskedRestart {
    /// Offset of the request in the config topic.
    offset: i64,
    unit: UnitId,
    /// Offset of the unit's status when it was asked for.
    status: i64,
    reply: Reply<()>,
}

impl Herder {
    /// A restart that is answered when the unit runs again. It goes through the log, so that it reaches whoever holds the unit.
    pub(super) fn restart_one(
        &mut self,
        name: String,
        task: Option<u32>,
        reply: Reply<()>,
        context: &mut Context<Self>,
    ) {
        let unit = match task {
            None => UnitId::Connector(name.clone()),
            Some(task) => UnitId::Task(name.clone(), task),
        };
        let look = {
            let (name, unit) = (name.clone(), unit.clone());
            move |state: &ClusterState, statuses: &StatusState| {
                is_present(state, &name)?;
                match &unit {
                    UnitId::Task(_, task) if *task as usize >= state.tasks(&name).len() => {
                        Err(HerderError::NotFound(format!("Task {name}-{task} not found")))
                    }
                    unit => Ok(status_offset(statuses, unit)),
                }
            }
        };
        self.find(look, reply, context, move |status, logs, reply, herder, context| {
            let record = plan::restart(&name, RestartRequest { include_tasks: false, only_failed: false, task });
            herder.append_plainly(logs, record, context, move |result, herder, context| {
                let Some((offset, reply)) = accept(result, reply) else { return };
                herder.restart_replies.push(AskedRestart { offset, unit, status, reply });
                herder.answer_restarts(context);
            });
        });
    }

    /// A restart that is answered when it has begun.
    pub(super) fn restart(
        &mut self,
        name: String,
        request: handle::RestartRequest,
        reply: Reply<ConnectorStatus>,
        context: &mut Context<Self>,
    ) {
        let handle::RestartRequest { include_tasks, only_failed } = request;
        let request = RestartRequest { include_tasks, only_failed, task: None };
        let record = plan::restart(&name, request);
        let registry = self.deps.registry.clone();
        let look = move |state: &ClusterState, statuses: &StatusState| {
            let (units, planned) = planned_restart(&registry, state, statuses, &name, request)?;
            let units = units.into_iter().map(|unit| (status_offset(statuses, &unit), unit));
            Ok((units.collect(), planned))
        };
        self.find(look, reply, context, move |(units, planned), logs, reply, herder, context| {
            herder.append_plainly(logs, record, context, move |result, herder, context| {
                let Some((_, reply)) = accept(result, reply) else { return };
                herder.answer_when_begun(units, planned, reply, context);
            });
        });
    }

    /// Answers once each of these units has said something new: who asks for the status after this answer must not take the state
    /// before the restart for that after it. A holder that says nothing is not waited for long; the request stands in the log.
    fn answer_when_begun(
        &self,
        units: Vec<(i64, UnitId)>,
        planned: ConnectorStatus,
        reply: Reply<ConnectorStatus>,
        context: &mut Context<Self>,
    ) {
        let Some(logs) = &self.logs else { return answer(reply, Ok(planned)) };
        let mut statuses = logs.status.snapshots();
        let begun = async move {
            let all = |state: &StatusState| {
                units.iter().all(|(before, unit)| state.unit(unit).is_none_or(|status| status.offset > *before))
            };
            // Late, or the store is gone: the restart is asked for all the same.
            drop(tokio::time::timeout(RESTART_BEGINS_TIMEOUT, statuses.wait_for(all)).await);
            answer(reply, Ok(planned));
        };
        context.spawn(begun.into_actor(self));
    }

    pub(super) fn act_on_restart_request(&mut self, connector: &str) {
        let Some(at) = self.state.restart(connector).filter(|at| at.offset > self.restarts_seen) else { return };
        // A request that comes while this worker is no member was for whoever ran then.
        if self.plane.incarnation().is_none() {
            return;
        }
        self.restarts_seen = at.offset;
        for unit in restart_plan(&self.state, &self.statuses, connector, at.value) {
            self.forget_failures(&unit);
            if self.running.get(&unit).is_some_and(|running| running.restart) {
                continue;
            }
            self.set_state(&unit, UnitState::Restarting, None);
            self.restart_unit(&unit);
        }
    }

    /// Own restart requests that were read back and acted upon are answered when their unit runs again or has failed again. The
    /// log alone restarts: acting on the answer of the append as well would do it twice.
    pub(super) fn answer_restarts(&mut self, context: &mut Context<Self>) {
        let seen = self.restarts_seen;
        let due = self.restart_replies.extract_if(.., |asked| asked.offset <= seen).collect::<Vec<_>>();
        for AskedRestart { unit, status, reply, .. } in due {
            match self.running.get_mut(&unit).filter(|running| !running.ending) {
                Some(running) => match &running.outcome {
                    Some(outcome) if !running.restart => answer(reply, outcome.clone()),
                    _ => running.waiting.push(reply),
                },
                None => self.answer_when_restarted(unit, status, reply, context),
            }
        }
    }

    /// The holder of a unit is another worker: its status says when the restart is over.
    fn answer_when_restarted(&self, unit: UnitId, before: i64, reply: Reply<()>, context: &mut Context<Self>) {
        let Some(mut statuses) = self.logs.as_ref().map(|logs| logs.status.snapshots()) else { return };
        let restarted = async move {
            let is_over = |state: &StatusState| {
                let status = state.unit(&unit).filter(|status| status.offset > before)?;
                match status.shown.state {
                    UnitState::Restarting | UnitState::Unassigned => None,
                    UnitState::Failed => Some(Err(HerderError::Internal(format!("{unit} failed again")))),
                    _ => Some(Ok(())),
                }
            };
            let waited = statuses.wait_for(|state| is_over(state).is_some());
            let result = match tokio::time::timeout(RESTART_TIMEOUT, waited).await {
                Ok(Ok(state)) => is_over(&state).unwrap_or(Ok(())),
                _ => Err(HerderError::Unavailable(format!("{unit} is not running anywhere now; try again later"))),
            };
            answer(reply, result);
        };
        context.spawn(restarted.into_actor(self));
    }
}

/// Where the status of a unit stands; -1 where it has none.
fn status_offset(statuses: &StatusState, unit: &UnitId) -> i64 {
    statuses.unit(unit).map_or(-1, |status| status.offset)
}
