//! Answers what REST reads: from the folded state and the statuses, without asking anybody.

use super::units::answer;
use super::*;
use crate::actors::handle::{
    ConnectorInfo, ConnectorStateInfo, ConnectorStatus, ConnectorTaskId, ConnectorType, HerderResult, RestartView,
    ServerInfo, TaskInfo, TaskStateInfo, WorkerIdentity,
};
use crate::plugins::{PluginKind, Registry};
use crate::storage::config_records;
use crate::storage::records::with_values;
use crate::storage::status_records::UnitState;

/// The answer for a connector that is not there.
pub(super) fn no_connector(name: &str) -> HerderError {
    HerderError::NotFound(format!("Connector {name} not found"))
}

/// What a connector is, by its class.
pub(super) fn connector_type(registry: &Registry, class: Option<&str>) -> ConnectorType {
    match class.and_then(|class| registry.find(class).ok()).map(|plugin| plugin.kind) {
        Some(PluginKind::Source(..)) => ConnectorType::Source,
        Some(PluginKind::Sink(..)) => ConnectorType::Sink,
        _ => ConnectorType::Unknown,
    }
}

/// A connector as REST shows it.
pub(super) fn connector_info(registry: &Registry, state: &ClusterState, name: &str) -> HerderResult<ConnectorInfo> {
    let connector = state.connector(name).ok_or_else(|| no_connector(name))?;
    let config = with_values(&connector.config);
    let tasks = (0..state.tasks(name).len() as u32).map(|task| ConnectorTaskId { connector: name.to_owned(), task });
    let connector_type = connector_type(registry, config.get("connector.class").map(String::as_str));
    let version = connector.offset;
    Ok(ConnectorInfo { name: name.to_owned(), tasks: tasks.collect(), config, connector_type, version })
}

impl Herder {
    pub(super) fn answer(&mut self, request: HerderRequest, context: &mut Context<Self>) {
        let ready = self.logs().map(drop);
        match request {
            HerderRequest::ServerInfo(reply) => answer(reply, self.server_info()),
            HerderRequest::Health(reply) => answer(reply, self.health()),
            HerderRequest::Identity(reply) => answer(reply, Ok(self.identity())),
            HerderRequest::Reaches { worker_id, nonce, reply } => self.reaches(&worker_id, nonce, reply, context),
            HerderRequest::Cluster(page, reply) => answer(reply, self.cluster_view(page.as_ref())),
            HerderRequest::Connectors(reply) => {
                answer(reply, ready.map(|()| self.state.connectors().map(|(name, _)| name.to_owned()).collect()));
            }
            HerderRequest::ConnectorInfo(name, reply) => {
                answer(reply, ready.and_then(|()| connector_info(&self.deps.registry, &self.state, &name)));
            }
            HerderRequest::ConnectorStatus(name, reply) => {
                let status = |()| connector_status(&self.deps.registry, &self.state, &self.statuses, &name);
                answer(reply, ready.and_then(status));
            }
            HerderRequest::Tasks(name, reply) => answer(reply, ready.and_then(|()| self.tasks(&name))),
            HerderRequest::TaskStatus(name, task, reply) => {
                answer(reply, ready.and_then(|()| self.task_status(&name, task)));
            }
            HerderRequest::ActiveTopics(name, reply) => answer(reply, ready.and_then(|()| self.active_topics(&name))),
            HerderRequest::ResetActiveTopics(name, reply) => self.reset_active_topics(&name, reply, context),
            inquiry @ (HerderRequest::Validate { .. }
            | HerderRequest::PluginDefinition(..)
            | HerderRequest::Offsets(..)) => self.inquire(inquiry, context),
            write => self.write(write, context),
        }
    }

    fn server_info(&self) -> HerderResult<ServerInfo> {
        let kafka_cluster_id =
            self.cluster_id.clone().ok_or_else(|| HerderError::Unavailable(self.starting.clone()))?;
        Ok(ServerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("CONNECT_NODE_COMMIT").unwrap_or("unknown").into(),
            kafka_cluster_id,
        })
    }

    fn health(&self) -> HerderResult<String> {
        match self.plane.incarnation() {
            None => Err(HerderError::Unavailable(self.starting.clone())),
            Some(_) if !self.plane.is_leased(lease::now()) => {
                let servers = &self.deps.config.bootstrap_servers;
                let message = format!(
                    "suspended: Kafka at {servers} does not answer in time; tasks wait and go on by themselves"
                );
                Err(HerderError::Unavailable(message))
            }
            // A probe that ended the worker for it would end what it runs.
            Some(_) => Ok(match self.logs.as_ref().and_then(|logs| logs.config.refusal()) {
                Some(refusal) => format!("Worker has completed startup and answers what only reads; {refusal}"),
                None => "Worker has completed startup and is ready to handle requests.".into(),
            }),
        }
    }

    fn identity(&self) -> WorkerIdentity {
        let Identity { worker_id, process, .. } = self.parts.identity.clone();
        let member = self.state.member(&worker_id);
        // Under a foreign record of the own id this answer is for the other process, which is what it asks about.
        let own = member.filter(|member| self.plane.incarnation() == Some(member.incarnation()));
        let nonce = own.map(|member| member.record.nonce.0.to_string()).unwrap_or_default();
        WorkerIdentity { worker_id, nonce, process }
    }

    fn tasks(&self, name: &str) -> HerderResult<Vec<TaskInfo>> {
        self.state.connector(name).ok_or_else(|| no_connector(name))?;
        let numbered = (0_u32..).zip(self.state.tasks(name));
        let info = |(task, config): (u32, &Arc<_>)| TaskInfo {
            id: ConnectorTaskId { connector: name.to_owned(), task },
            config: with_values(config),
        };
        Ok(numbered.map(info).collect())
    }

    fn task_status(&self, name: &str, task: u32) -> HerderResult<TaskStateInfo> {
        // The statuses of a deleted connector go one after the other.
        self.state.connector(name).ok_or_else(|| no_connector(name))?;
        let status = self.statuses.unit(&UnitId::Task(name.to_owned(), task));
        let status = status.ok_or_else(|| HerderError::NotFound(format!("No status found for task {name}-{task}")))?;
        Ok(TaskStateInfo { id: task, state: state_info(&status.shown) })
    }
}

fn connector_status(
    registry: &Registry,
    state: &ClusterState,
    statuses: &StatusState,
    name: &str,
) -> HerderResult<ConnectorStatus> {
    let connector = state.connector(name).ok_or_else(|| no_connector(name))?;
    let status = statuses.unit(&UnitId::Connector(name.to_owned()));
    let record = status
        .map(|status| &status.shown)
        .ok_or_else(|| HerderError::NotFound(format!("No status found for connector {name}")))?;
    let class = connector.config.get("connector.class").and_then(Option::as_deref);
    // All tasks that have a status, by number; also those of a set that is on its way out.
    let tasks = statuses.tasks(name).map(|(id, status)| TaskStateInfo { id, state: state_info(&status.shown) });
    Ok(ConnectorStatus {
        name: name.to_owned(),
        connector: state_info(record),
        tasks: tasks.collect(),
        connector_type: connector_type(registry, class),
    })
}

/// Which units a restart request means, connector first (Java: `RestartPlan`).
pub(super) fn restart_plan(
    state: &ClusterState,
    statuses: &StatusState,
    connector: &str,
    request: config_records::RestartRequest,
) -> Vec<UnitId> {
    let failed = |unit: &UnitId| statuses.unit(unit).is_some_and(|status| status.shown.state == UnitState::Failed);
    let tasks = (0..state.tasks(connector).len() as u32).map(|task| UnitId::Task(connector.to_owned(), task));
    if let Some(task) = request.task {
        return tasks.skip(task as usize).take(1).collect();
    }
    let units = std::iter::once(UnitId::Connector(connector.to_owned())).chain(tasks.filter(|_| request.include_tasks));
    units.filter(|unit| !request.only_failed || failed(unit)).collect()
}

/// The units that a restart request means, and the status as it will be once the restart has begun.
pub(super) fn planned_restart(
    registry: &Registry,
    state: &ClusterState,
    statuses: &StatusState,
    name: &str,
    request: config_records::RestartRequest,
) -> HerderResult<(Vec<UnitId>, ConnectorStatus)> {
    let mut status = connector_status(registry, state, statuses, name)?;
    let planned = restart_plan(state, statuses, name, request);
    // It begins anew for the restart policy, too.
    let restart = |state: &mut ConnectorStateInfo| {
        (state.state, state.restart) = (UnitState::Restarting.word().to_owned(), None);
    };
    for unit in &planned {
        match unit {
            UnitId::Connector(_) => restart(&mut status.connector),
            UnitId::Task(_, id) => {
                if let Some(task) = status.tasks.iter_mut().find(|task| task.id == *id) {
                    restart(&mut task.state);
                }
            }
        }
    }
    Ok((planned, status))
}

fn state_info(record: &StatusRecord) -> ConnectorStateInfo {
    ConnectorStateInfo {
        state: record.state.word().to_owned(),
        worker_id: record.worker_id.clone(),
        version: record.version.clone(),
        trace: record.trace.clone(),
        restart: record.restart.as_ref().map(RestartView::from),
    }
}
