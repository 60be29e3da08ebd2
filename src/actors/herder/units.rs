//! What the worker is told to run, and what it says of it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::supervised::Supervised;
use super::task_configs::{TaskConfigs, tasks_follow};
use super::*;
use crate::actors::handle::{ConnectorTaskId, HerderResult, Reply, TargetState};
use crate::actors::messages::{RunId, StartUnit, Steer, SteerUnit, UnitEvent, UnitReport, UnitSpec};
use crate::actors::status::{Purpose, SealUnit};
use crate::actors::validation;
use crate::backend::partitioner::partition_for_key;
use crate::cluster::{AppendFailure, Member, NO_SET, RegisterFields, Unit, WantedChange};
use crate::metrics::Starts;
use crate::pipeline::{Failure, Phase};
use crate::storage::records::with_values;
use crate::storage::status_records::{StatusTopicRecord, UnitState};

/// The longest trace in a status record, in bytes: the record has to fit into a batch of the topic (1 MB by default).
const TRACE_MAX_BYTES: usize = 64 * 1024;

/// A unit that the worker runs for us.
pub(super) struct Running {
    pub(super) run: RunId,
    pub(super) lease: Lease,
    /// Offset of the connector record that it was started with.
    pub(super) config_offset: i64,
    target: TargetState,
    /// What it does, for its status record.
    pub(super) state: (UnitState, Option<String>),
    /// Start it again under the same claim when it has ended.
    pub(super) restart: bool,
    /// The control plane wants it to end.
    pub(super) ending: bool,
    /// Another worker may hold it: say nothing of it any more.
    hard: bool,
    /// Who waits for the outcome of a restart.
    pub(super) waiting: Vec<Reply<()>>,
    /// How this start came out: that it ran, or why not.
    pub(super) outcome: Option<HerderResult<()>>,
    /// How often a connector has said its task configurations: only the last ones are written.
    pub(super) task_configs: u64,
    /// Behind which record of the config topic this run has said task configurations, or was asked to; see [`tasks_follow`].
    pub(super) asked_behind: Option<i64>,
    /// Its failures, and what the restart policy makes of them.
    pub(super) supervised: Supervised,
}

/// The name by which the control plane knows a unit: the key of its status record.
pub(super) fn name(unit: &UnitId) -> Arc<str> {
    // The key is text.
    Arc::from(String::from_utf8_lossy(&unit.key()))
}

/// The unit of a name that [`name`] made.
pub(super) fn parse(name: &str) -> UnitId {
    let key = bytes::Bytes::copy_from_slice(name.as_bytes());
    match StatusTopicRecord::decode(0, Some(&key), None) {
        Ok(StatusTopicRecord::Status(unit, None)) => unit,
        other => unreachable!("the control plane knows only names that `name` made, not {name}: {other:?}"),
    }
}

/// Tasks of one connector are reconfigured together; connectors stand alone.
pub(super) fn group(unit: &UnitId) -> Option<Arc<str>> {
    match unit {
        UnitId::Connector(_) => None,
        UnitId::Task(connector, _) => Some(Arc::from(connector.as_str())),
    }
}

pub(super) fn members(state: &ClusterState) -> Arc<[Member]> {
    let member = |(id, entry): (&str, &Arc<crate::storage::cluster_state::MemberEntry>)| Member {
        id: id.into(),
        incarnation: entry.incarnation(),
        nonce: entry.record.nonce,
        state: entry.record.state,
        settled: entry.record.settled,
        fence_ms: entry.record.fence_ms,
        group_id: (!entry.record.group_id.is_empty()).then(|| entry.record.group_id.as_str().into()),
    };
    state.members().map(member).collect()
}

/// Which of so many partitions of the status topic has the record of a unit.
pub(super) fn status_partition(unit: &UnitId, status_partitions: usize) -> i32 {
    partition_for_key(&unit.key(), status_partitions as i32)
}

/// What somebody has to run or to speak for of a connector: itself, also when it is stopped, and the tasks of the set in force.
fn wanted(state: &ClusterState, connector: &str, status_partitions: usize) -> Vec<Unit> {
    if state.connector(connector).is_none() {
        return Vec::new();
    }
    let unit = |unit: UnitId, set| Unit {
        name: name(&unit),
        group: group(&unit),
        set,
        status_partition: status_partition(&unit, status_partitions),
    };
    let mut wanted = vec![unit(UnitId::Connector(connector.to_owned()), NO_SET)];
    if let Some(set) = state.task_set(connector)
        && state.target_state(connector) != TargetState::Stopped
    {
        let tasks = (0_u32..).take(set.configs.len());
        wanted.extend(tasks.map(|task| unit(UnitId::Task(connector.to_owned(), task), set.commit_offset)));
    }
    wanted
}

/// What is wanted otherwise of a connector in another state.
pub(super) fn changes(
    before: &ClusterState,
    after: &ClusterState,
    connector: &str,
    status_partitions: usize,
) -> Vec<WantedChange> {
    let (before, after) = (wanted(before, connector, status_partitions), wanted(after, connector, status_partitions));
    // Both name the connector first and then its tasks by number: what both have stands at the same place.
    let gone = before.get(after.len()..).unwrap_or_default().iter();
    let gone = gone.map(|unit| WantedChange::Unwanted(unit.name.clone())).collect::<Vec<_>>();
    let new = after.into_iter().enumerate().filter(|(place, unit)| before.get(*place) != Some(unit));
    gone.into_iter().chain(new.map(|(_, unit)| WantedChange::Wanted(unit))).collect()
}

impl Herder {
    pub(super) fn start_unit(&mut self, unit: &Unit, claim: u64) {
        let partition = self.leases.entry(unit.status_partition).or_default();
        partition.set(self.plane.lease_of(unit.status_partition));
        let lease = partition.of_unit();
        self.start(RunId { unit: parse(&unit.name), herder: self.number, claim, start: 0 }, lease);
    }

    fn start(&mut self, run: RunId, lease: Lease) {
        let unit = run.unit.clone();
        // Wanted units come from the same state, so the connector is there.
        let Some(connector) = self.state.connector(unit.connector()) else { return };
        let target = self.state.target_state(unit.connector());
        let running = Running {
            run: run.clone(),
            lease: lease.clone(),
            config_offset: connector.offset,
            target,
            state: (UnitState::Unassigned, None),
            restart: false,
            ending: false,
            hard: false,
            waiting: Vec::new(),
            outcome: None,
            asked_behind: tasks_follow(&self.state, unit.connector()),
            task_configs: 0,
            supervised: Supervised::new(connector.offset),
        };
        let mut suspended = false;
        self.starts(&unit).attempts.fetch_add(1, Relaxed);
        match (self.running.insert(unit.clone(), running), self.running.get_mut(&unit)) {
            (Some(old), Some(running)) => {
                suspended = old.run.claim == running.run.claim && self.suspended.contains(&unit);
                running.waiting = old.waiting;
                if old.run.claim == running.run.claim {
                    running.supervised = old.supervised.of_next_run();
                }
            }
            _ => self.count_connector(&unit, true),
        }
        if !suspended {
            self.suspended.remove(&unit);
        }
        let Some(offsets) = self.logs.as_ref().map(|logs| logs.offsets.clone()) else { return };
        match self.spec(&run) {
            Ok(spec) => {
                self.worker.do_send(StartUnit { run: run.clone(), spec, target, lease, offsets });
                if suspended {
                    self.worker.do_send(SteerUnit { run, steer: Steer::Suspend });
                }
            }
            Err(failure) => self.report_failure(&unit, failure),
        }
    }

    fn starts(&self, unit: &UnitId) -> &Starts {
        match unit {
            UnitId::Connector(_) => &self.deps.metrics.worker().connector_starts,
            UnitId::Task(..) => &self.deps.metrics.worker().task_starts,
        }
    }

    fn count_connector(&self, unit: &UnitId, appeared: bool) {
        let connectors = &self.deps.metrics.worker().connectors;
        match (unit, appeared) {
            (UnitId::Connector(_), true) => _ = connectors.fetch_add(1, Relaxed),
            (UnitId::Connector(_), false) => _ = connectors.fetch_sub(1, Relaxed),
            (UnitId::Task(..), _) => {}
        }
    }

    fn spec(&self, run: &RunId) -> Result<UnitSpec, Failure> {
        let unit = &run.unit;
        let missing = |what: &str| Failure::text(Phase::Configure, format!("{what} is not in the config topic"));
        let connector = self.state.connector(unit.connector()).ok_or_else(|| missing("the connector"))?;
        let connector_props = with_values(&connector.config);
        // A connector that a Java worker left may rely on what is not built yet: better not at all than otherwise.
        if let Some(first) = validation::not_built(&connector_props).into_iter().next() {
            return Err(Failure::text(Phase::Configure, first));
        }
        match unit {
            UnitId::Connector(name) => {
                for setting in validation::without_effect(&connector_props) {
                    tracing::warn!(
                        connector = name,
                        setting,
                        "this version of connect-node does not log what this asks for"
                    );
                }
                let tasks_max = crate::actors::clients::tasks_max(&connector_props)
                    .map_err(|error| Failure::new(Phase::Configure, &error))?;
                Ok(UnitSpec::Connector { name: name.clone(), props: connector_props, tasks_max })
            }
            UnitId::Task(name, task) => {
                let tasks = self.state.tasks(name);
                let config = tasks.get(*task as usize).ok_or_else(|| missing("the task"))?;
                Ok(UnitSpec::Task {
                    id: ConnectorTaskId { connector: name.clone(), task: *task },
                    props: with_values(config),
                    connector_props,
                    task_count: tasks.len() as u32,
                    topics: self.topic_tracker(run),
                })
            }
        }
    }

    /// The control plane wants a unit to end.
    pub(super) fn stop_unit(&mut self, unit: UnitId, claim: u64, hard: bool, context: &mut Context<Self>) {
        let graceful = self.deps.config.task_shutdown_graceful_timeout;
        let Some(running) = self.running.get_mut(&unit).filter(|running| running.run.claim == claim) else {
            return self.seal(unit, claim, context);
        };
        running.ending = true;
        running.supervised.end_wait(&mut self.restart_waits, &unit);
        if hard {
            running.hard = true;
            running.lease.revoke();
        }
        steer_to_stop(&self.worker, &running.run, graceful, hard);
    }

    /// Stops a unit and starts it again under its claim, with the configuration that is in force by then.
    pub(super) fn restart_unit(&mut self, unit: &UnitId) -> bool {
        let graceful = self.deps.config.task_shutdown_graceful_timeout;
        let Some(running) = self.running.get_mut(unit).filter(|running| !running.ending) else { return false };
        if !running.restart {
            running.restart = true;
            running.supervised.end_wait(&mut self.restart_waits, unit);
            steer_to_stop(&self.worker, &running.run, graceful, false);
        }
        true
    }

    pub(super) fn suspend_unit(&mut self, unit: &UnitId, claim: u64, suspend: bool) {
        let Some(running) = self.running.get_mut(unit).filter(|running| running.run.claim == claim) else { return };
        let steer = if suspend { Steer::Suspend } else { Steer::Unsuspend };
        self.worker.do_send(SteerUnit { run: running.run.clone(), steer });
        if suspend {
            self.suspended.insert(unit.clone());
        } else {
            self.suspended.remove(unit);
        }
        self.show_suspended();
        if !suspend {
            // What happened without a lease could not be written then.
            self.publish(unit);
        }
    }

    /// Also when the last of those that were suspended has ended.
    pub(super) fn show_suspended(&self) {
        let suspended = !self.suspended.is_empty();
        self.deps.metrics.worker().suspended.store(suspended, std::sync::atomic::Ordering::Relaxed);
    }

    /// What the config topic says of a connector may have changed: what runs of it is steered or started again.
    pub(super) fn follow_connector(&mut self, connector: &str) {
        let (first, last) = (UnitId::Task(connector.to_owned(), 0), UnitId::Task(connector.to_owned(), u32::MAX));
        let tasks = self.running.range(first..=last).map(|(unit, _)| unit.clone());
        for unit in std::iter::once(UnitId::Connector(connector.to_owned())).chain(tasks).collect::<Vec<_>>() {
            let Some(running) = self.running.get_mut(&unit).filter(|running| !running.ending) else { continue };
            let target = self.state.target_state(unit.connector());
            let offset = self.state.connector(unit.connector()).map(|connector| connector.offset);
            let changed = running.target != target || offset.is_some_and(|at| running.supervised.is_older_than(at));
            if running.target != target {
                running.target = target;
                self.worker.do_send(SteerUnit { run: running.run.clone(), steer: Steer::Target(target) });
            }
            let is_connector = matches!(unit, UnitId::Connector(_));
            // Tasks are bounded by their own records: those of an unchanged set go on.
            if is_connector && offset.is_some_and(|offset| offset != running.config_offset) {
                self.restart_unit(&unit);
            }
            if changed {
                self.supervise_anew(&unit);
            }
        }
        self.act_on_restart_request(connector);
    }

    /// The pump of a unit said something.
    fn reported(&mut self, run: RunId, event: UnitEvent, context: &mut Context<Self>) {
        let unit = run.unit.clone();
        match event {
            // A connector's restart is answered when it runs, a task's when it has begun to start, as Java's worker does: `start` may take
            // its time, and its end shows in the status.
            UnitEvent::Starting => self.answer_waiting(&unit, &Ok(())),
            UnitEvent::Running => self.settled(&unit, UnitState::Running),
            UnitEvent::Paused => self.settled(&unit, UnitState::Paused),
            UnitEvent::Stopped => self.settled(&unit, UnitState::Stopped),
            UnitEvent::Failed(failure) => self.report_failure(&unit, failure),
            UnitEvent::TaskConfigs(configs) => {
                let Some(running) = self.running.get_mut(&unit) else { return };
                running.task_configs += 1;
                let said = running.task_configs;
                self.put_task_configs(TaskConfigs { run, said, configs, attempt: 0 }, context);
            }
            UnitEvent::Ended => self.ended(unit, context),
        }
    }

    fn settled(&mut self, unit: &UnitId, state: UnitState) {
        self.runs(unit);
        self.set_state(unit, state, None);
        self.answer_waiting(unit, &Ok(()));
    }

    pub(super) fn report_failure(&mut self, unit: &UnitId, failure: Failure) {
        if self.running.get(unit).is_some_and(|running| running.state.0 == UnitState::Unassigned) {
            self.starts(unit).failures.fetch_add(1, Relaxed);
        }
        let message = format!("{unit} failed again: {}", failure.message);
        self.decide_restart(unit, &failure);
        self.set_state(unit, UnitState::Failed, Some(bounded(failure.trace())));
        self.answer_waiting(unit, &Err(HerderError::Internal(message)));
    }

    fn answer_waiting(&mut self, unit: &UnitId, result: &HerderResult<()>) {
        if let Some(running) = self.running.get_mut(unit).filter(|running| !running.restart) {
            running.outcome.get_or_insert_with(|| result.clone());
            for reply in running.waiting.drain(..) {
                answer(reply, result.clone());
            }
        }
    }

    pub(super) fn set_state(&mut self, unit: &UnitId, state: UnitState, trace: Option<String>) {
        if let Some(running) = self.running.get_mut(unit) {
            running.state = (state, trace);
            self.publish(unit);
        }
    }

    /// Writes the state of a unit, provided that its claim is the one that counts.
    pub(super) fn publish(&mut self, unit: &UnitId) {
        let Some(running) = self.running.get(unit).filter(|running| !running.hard) else {
            return;
        };
        if self.suspended.contains(unit) {
            return;
        }
        if self.seals.contains(&(unit.clone(), running.run.claim)) {
            // It has ended, and the control plane hears of that as soon as nothing is under way.
            return;
        }
        let Some(fields) = self.plane.register_fields(&name(unit)) else { return };
        if running.state.0 == UnitState::Unassigned {
            return;
        }
        let (state, trace) = running.state.clone();
        let restart = running.supervised.shown().cloned();
        let record = StatusRecord { restart, ..self.status_record(state, trace, unit, fields) };
        self.write_status(unit.clone(), Some(record), Purpose::State);
    }

    pub(super) fn status_record(
        &self,
        state: UnitState,
        trace: Option<String>,
        unit: &UnitId,
        register: RegisterFields,
    ) -> StatusRecord {
        let class =
            self.state.connector(unit.connector()).and_then(|connector| connector.config.get("connector.class"));
        let plugin = class.and_then(Option::as_deref).and_then(|class| self.deps.registry.find(class).ok());
        StatusRecord {
            state,
            trace,
            worker_id: self.parts.identity.worker_id.clone(),
            generation: 0,
            version: plugin.map(|plugin| plugin.version.to_owned()),
            register: Some(register),
            restart: None,
        }
    }

    /// Nothing of a unit can write any more.
    fn ended(&mut self, unit: UnitId, context: &mut Context<Self>) {
        let Some(running) = self.running.get_mut(&unit) else { return };
        let RunId { herder, claim, start, .. } = running.run;
        if running.restart && !running.ending {
            let lease = running.lease.clone();
            self.starts(&unit).restarts.fetch_add(1, Relaxed);
            return self.start(RunId { unit, herder, claim, start: start + 1 }, lease);
        }
        for reply in running.waiting.drain(..) {
            answer(reply, Err(HerderError::Unavailable(format!("{unit} was stopped before it ran again"))));
        }
        self.seal(unit, claim, context);
    }

    /// Asks that no status write of a unit be under way any more; then the control plane hears that it has stopped.
    pub(super) fn seal(&mut self, unit: UnitId, claim: u64, context: &mut Context<Self>) {
        match &self.logs {
            Some(logs) => {
                self.seals.insert((unit.clone(), claim));
                logs.writer.do_send(SealUnit { unit, claim });
            }
            None => self.sealed(unit, claim, context),
        }
    }

    pub(super) fn sealed(&mut self, unit: UnitId, claim: u64, context: &mut Context<Self>) {
        self.seals.remove(&(unit.clone(), claim));
        if self.running.get(&unit).is_some_and(|running| running.run.claim == claim) {
            if let Some(mut gone) = self.running.remove(&unit) {
                gone.supervised.end_wait(&mut self.restart_waits, &unit);
                // What it may have asked to be written is not written behind the release.
                gone.lease.revoke();
            }
            self.count_connector(&unit, false);
            self.suspended.remove(&unit);
            self.show_suspended();
            self.show_restarts(unit.connector());
        }
        self.step(Event::UnitStopped { unit: name(&unit), claim }, context);
    }

    /// The status actor was built again: whatever waited in it is said once more.
    pub(super) fn repeat_status_writes(&mut self, context: &mut Context<Self>) {
        for token in std::mem::take(&mut self.registers_under_way) {
            let error = "the status actor crashed".to_owned();
            self.step(Event::AppendFailed { token, failure: AppendFailure::Unacknowledged, error }, context);
        }
        for (unit, claim) in std::mem::take(&mut self.seals) {
            self.seal(unit, claim, context);
        }
        let units: Vec<UnitId> = self.running.keys().cloned().collect();
        for unit in units {
            self.publish(&unit);
        }
    }
}

fn steer_to_stop(worker: &Addr<Worker>, run: &RunId, graceful: Duration, hard: bool) {
    let deadline = if hard { Instant::now() } else { Instant::now() + graceful };
    worker.do_send(SteerUnit { run: run.clone(), steer: Steer::Stop { deadline, hard } });
}

/// Answers a request; who asked may have gone.
pub(super) fn answer<T>(reply: Reply<T>, result: HerderResult<T>) {
    drop(reply.send(result));
}

/// The front of a trace that is too long for a record.
fn bounded(mut trace: String) -> String {
    if trace.len() > TRACE_MAX_BYTES {
        let end = (0..=TRACE_MAX_BYTES).rev().find(|end| trace.is_char_boundary(*end)).unwrap_or(0);
        trace.truncate(end);
        trace.push_str("\n... cut");
    }
    trace
}

impl Handler<UnitReport> for Herder {
    type Result = ();
    fn handle(&mut self, UnitReport { run, event }: UnitReport, context: &mut Context<Self>) {
        let known = self.running.get(&run.unit).is_some_and(|running| running.run == run);
        match event {
            _ if known => {
                self.reported(run, event, context);
                self.arm_restarts(context);
            }
            // A unit of a herder that crashed: it was told to stop hard then.
            UnitEvent::Ended => tracing::debug!(unit = %run.unit, "an older run has ended"),
            _ => tracing::debug!(unit = %run.unit, ?event, "a report of an older run is ignored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use connect_api::TimestampType;

    use super::*;
    use crate::backend::ConsumerRecord;
    use crate::storage::config_records::{Commit, ConfigRecord};
    use crate::storage::fold::fold;
    use crate::storage::plan;

    const PARTITIONS: usize = 3;
    const NAMES: [&str; 3] = ["a", "b", "a-0"];

    fn folded(state: &ClusterState, record: &ConfigRecord) -> ClusterState {
        let (key, value) = (Some(record.key()), record.value());
        let (offset, timestamp, timestamp_type) = (state.next_offset(), -1, TimestampType::CreateTime);
        let record = ConsumerRecord { source: 0, offset, timestamp, timestamp_type, key, value, headers: Vec::new() };
        fold(state.clone(), &record).0
    }

    /// What somebody does to a connector.
    fn records(rng: &mut fastrand::Rng, state: &ClusterState, name: &str) -> Vec<ConfigRecord> {
        let config = || [("v".to_owned(), Some(String::new()))].into_iter().collect();
        match rng.u8(0..6) {
            0 => plan::delete_connector(name),
            1 => plan::put_connector(state, name, config(), None),
            2 => plan::put_target_state(state, name, TargetState::Stopped),
            3 => plan::put_target_state(state, name, TargetState::Started),
            4 => plan::put_tasks(state, name, (0..rng.usize(0..4)).map(|_| config()).collect()),
            // Its task records are not in the log.
            _ => vec![ConfigRecord::Commit(name.to_owned(), Commit { tasks: 2, config: None })],
        }
    }

    #[test]
    fn changes_of_the_touched_connector_lead_to_what_the_whole_state_wants() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut state, mut told, mut changed) = (ClusterState::default(), BTreeMap::new(), 0);
        for _ in 0..2_000 {
            let name = NAMES[rng.usize(0..NAMES.len())];
            for record in records(&mut rng, &state, name) {
                let after = folded(&state, &record);
                let before = std::mem::replace(&mut state, after);
                for change in changes(&before, &state, name, PARTITIONS) {
                    changed += 1;
                    match change {
                        WantedChange::Wanted(unit) => _ = told.insert(unit.name.clone(), unit),
                        WantedChange::Unwanted(name) => assert!(told.remove(&name).is_some(), "{name} was not wanted"),
                    }
                }
                let whole = NAMES.iter().flat_map(|name| wanted(&state, name, PARTITIONS));
                assert_eq!(told, whole.map(|unit| (unit.name.clone(), unit)).collect(), "after {record:?}");
            }
        }
        assert!(changed > 500, "only {changed} changes");
    }
}
