//! The actor of one unit, a connector or a task: starts its pump, steers it, and hears of its end. Connectors, source tasks and
//! sink tasks have one lifecycle and differ in their pump only.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Span;

use super::connector_pump;
use super::deps::Deps;
use super::handle::TargetState;
use super::lease::Lease;
use super::messages::{RunId, StartCommitter, StartUnit, Steer, UnitEvent, UnitReport, UnitSpec};
use super::prepared::{Channels, Prepared};
use super::pump::{self, Pump, PumpEnd};
use super::task_pump;
use super::worker::Worker;
use crate::metrics::{TaskRegistration, TaskState};
use crate::pipeline::{Control, Directive, Failure, Phase, PhaseCell, Report};
use crate::storage::offset_store::{ConnectorOffsets, OffsetStore};

/// How long past the deadline of a stop a pump may take before it is abandoned: the time in which it notices.
const ABANDON_AFTER: Duration = Duration::from_millis(500);

/// See the module.
pub struct UnitActor {
    run: RunId,
    deps: Arc<Deps>,
    worker: Addr<Worker>,
    /// Taken when the pump starts.
    spec: Option<UnitSpec>,
    lease: Lease,
    offsets: Arc<dyn OffsetStore>,
    target: TargetState,
    suspended: bool,
    directive: watch::Sender<Directive>,
    phase: Arc<PhaseCell>,
    /// While it runs.
    pump: Option<RunningPump>,
    /// Its metrics, if it is a task.
    registration: Option<TaskRegistration>,
    /// What it said last that it does; also while it is suspended.
    shown: TaskState,
    /// A stop was asked for: report the end when nothing can write any more.
    stopping: bool,
    span: Span,
}

struct RunningPump {
    pump: Pump,
    channels: Channels,
}

/// The pump's last word.
#[derive(Message)]
#[rtype(result = "()")]
struct PumpEnded(PumpEnd);

/// The pump's other words.
#[derive(Message)]
#[rtype(result = "()")]
struct PumpReported(Report);

impl UnitActor {
    /// A unit that has not begun. Its pump says in `phase` what it does.
    pub fn new(start: StartUnit, deps: Arc<Deps>, worker: Addr<Worker>, phase: Arc<PhaseCell>) -> Self {
        let StartUnit { run, spec, target, lease, offsets } = start;
        // Of the highest level: also a log of errors alone says whose they are.
        let span = match &spec {
            UnitSpec::Connector { name, .. } => tracing::error_span!("connector", connector = name),
            UnitSpec::Task { id, .. } => tracing::error_span!("task", connector = id.connector, task = id.task),
        };
        UnitActor {
            run,
            deps,
            worker,
            spec: Some(spec),
            lease,
            offsets,
            target,
            suspended: false,
            directive: watch::channel(wanted(target, false)).0,
            phase,
            pump: None,
            registration: None,
            shown: TaskState::Unassigned,
            stopping: false,
            span,
        }
    }

    fn report(&self, event: UnitEvent) {
        self.worker.do_send(UnitReport { run: self.run.clone(), event });
    }

    fn start_pump(&mut self, context: &mut Context<Self>) {
        let Some(spec) = self.spec.take() else { return };
        match self.try_start_pump(spec, context.address()) {
            Ok(running) => self.pump = Some(running),
            Err(failure) => self.has_failed(failure),
        }
    }

    fn try_start_pump(&mut self, spec: UnitSpec, address: Addr<Self>) -> Result<RunningPump, Failure> {
        let lease = self.lease.clone();
        let reports = address.clone();
        let control = Control::new(
            self.directive.subscribe(),
            self.phase.clone(),
            Box::new(move || lease.left()),
            Box::new(move |report| reports.do_send(PumpReported(report))),
        );
        let Prepared { blocking, run, channels, commit, registration } = match spec {
            UnitSpec::Connector { name, props, tasks_max } => {
                let offsets = Arc::new(ConnectorOffsets::new(self.offsets.clone(), &*name));
                connector_pump::prepare(props, tasks_max, &self.deps.registry, offsets, control)?
            }
            UnitSpec::Task { id, props, connector_props, task_count, topics } => {
                let parts = task_pump::TaskParts { id, props, connector_props, task_count, topics };
                let offsets = Arc::new(ConnectorOffsets::new(self.offsets.clone(), &*parts.id.connector));
                task_pump::prepare(parts, &self.deps, offsets, &self.lease, control)?
            }
        };
        self.registration = registration;
        let ended = move |end| address.do_send(PumpEnded(end));
        let pump = pump::start(&self.deps.pumps, blocking, &self.run.unit.to_string(), self.phase.clone(), run, ended)
            .map_err(|error| Failure::text(Phase::Configure, format!("no thread for the plug-in: {error}")))?;
        if let Some(target) = commit {
            self.worker.do_send(StartCommitter { run: self.run.clone(), target });
        }
        Ok(RunningPump { pump, channels })
    }

    fn show(&self, state: TaskState) {
        if let Some(registration) = &self.registration {
            registration.set_state(state);
        }
    }

    fn has_failed(&mut self, failure: Failure) {
        self.span.in_scope(|| tracing::error!(phase = %failure.phase, message = failure.message, "failed"));
        self.shown = TaskState::Failed;
        self.show(self.shown);
        self.report(UnitEvent::Failed(failure));
    }

    fn set_directive(&self) {
        self.directive.send_if_modified(|directive| {
            let wanted = wanted(self.target, self.suspended);
            let changed = !matches!(directive, Directive::Stop { .. }) && *directive != wanted;
            if changed {
                *directive = wanted;
            }
            changed
        });
    }

    fn stop(&mut self, deadline: Instant, hard: bool, context: &mut Context<Self>) {
        self.stopping = true;
        if self.pump.is_none() {
            return self.end(context);
        }
        if hard && let Some(running) = &self.pump {
            running.channels.close();
        }
        self.directive.send_replace(Directive::Stop { deadline, commit: !hard });
        let patience = deadline.saturating_duration_since(Instant::now()) + ABANDON_AFTER;
        context.run_later(patience, |unit, context| {
            let (phase, time) = unit.phase.current();
            if unit.pump.is_some() {
                tracing::warn!(%phase, ?time, "did not stop in time and is abandoned; it can write no more");
                unit.abandon();
                unit.end(context);
            }
        });
    }

    /// Closes the pump's channels and forgets it.
    fn abandon(&mut self) {
        if let Some(running) = self.pump.take() {
            // A callback that returns later finds that it is over, and commits nothing.
            self.directive.send_replace(Directive::Stop { deadline: Instant::now(), commit: false });
            running.channels.close();
            running.pump.abandon(&self.deps.metrics);
        }
    }

    fn end(&mut self, context: &mut Context<Self>) {
        self.span.in_scope(|| tracing::info!("ended"));
        self.report(UnitEvent::Ended);
        context.stop();
    }

    /// A callback does not return.
    fn overdue(&mut self) {
        let (phase, _) = self.phase.current();
        let deadline = self.deps.config.task_callback_timeout;
        if self.pump.is_some() && !self.stopping && self.phase.is_overdue(deadline) {
            self.abandon();
            let message = format!("the callback did not return within {} ms and was abandoned", deadline.as_millis());
            let hang = Failure::text(phase, message);
            // A pump that failed before and hangs in its end is FAILED for the first reason.
            let first = self.phase.failure().inspect(|_| tracing::warn!(%phase, hang.message, "hung after it failed"));
            self.has_failed(Failure { hung: true, ..first.unwrap_or(hang) });
        }
    }
}

/// What target state and lease make of a pump.
fn wanted(target: TargetState, suspended: bool) -> Directive {
    match target {
        _ if suspended => Directive::Suspend,
        TargetState::Started => Directive::Run,
        TargetState::Paused => Directive::Pause,
        TargetState::Stopped => Directive::Halt,
    }
}

impl Actor for UnitActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let span = self.span.clone();
        let _entered = span.enter();
        self.start_pump(context);
    }
}

impl Drop for UnitActor {
    /// Also after a crash of this actor: a pump without an actor can write no more.
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Handler<PumpReported> for UnitActor {
    type Result = ();
    fn handle(&mut self, PumpReported(report): PumpReported, _: &mut Context<Self>) {
        if self.pump.is_some() && !self.stopping {
            match report {
                Report::Running => self.shown = TaskState::Running,
                Report::Paused => self.shown = TaskState::Paused,
                Report::Starting | Report::Halted | Report::TaskConfigs(_) => {}
            }
            self.show(if self.suspended { TaskState::Suspended } else { self.shown });
            self.span.in_scope(|| match report {
                Report::Running => tracing::info!("running"),
                Report::Paused => tracing::info!("paused"),
                Report::Halted => tracing::info!("stopped"),
                Report::Starting | Report::TaskConfigs(_) => {}
            });
            self.report(match report {
                Report::Starting => UnitEvent::Starting,
                Report::Running => UnitEvent::Running,
                Report::Paused => UnitEvent::Paused,
                Report::Halted => UnitEvent::Stopped,
                Report::TaskConfigs(configs) => UnitEvent::TaskConfigs(configs),
            });
        }
    }
}

impl Handler<PumpEnded> for UnitActor {
    type Result = ();
    fn handle(&mut self, PumpEnded(end): PumpEnded, context: &mut Context<Self>) {
        // After an abandonment nobody waits for the pump any more.
        let Some(running) = self.pump.take() else { return };
        let _entered = self.span.clone().entered();
        // One that panicked in its end could not do so itself.
        running.channels.close();
        match end {
            Err(failure) if self.stopping => {
                tracing::warn!(phase = %failure.phase, message = failure.message, "failed while it stopped");
                self.end(context);
            }
            Err(failure) => self.has_failed(failure),
            // Without a failure it ends only when it was told to.
            Ok(()) if self.stopping => self.end(context),
            Ok(()) => {}
        }
    }
}

/// Worker to unit: the callback that its pump is in has not returned in time.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Overdue;

impl Handler<Overdue> for UnitActor {
    type Result = ();
    fn handle(&mut self, Overdue: Overdue, _: &mut Context<Self>) {
        self.overdue();
    }
}

/// Worker to unit.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SteerActor(pub Steer);

impl Handler<SteerActor> for UnitActor {
    type Result = ();
    fn handle(&mut self, SteerActor(steer): SteerActor, context: &mut Context<Self>) {
        let _entered = self.span.clone().entered();
        match steer {
            Steer::Target(target) => self.target = target,
            Steer::Suspend => {
                self.suspended = true;
                self.show(TaskState::Suspended);
                // Of all units of the worker at once: the worker says it at a higher level.
                tracing::debug!("suspended");
            }
            Steer::Unsuspend => {
                self.suspended = false;
                self.show(self.shown);
                tracing::debug!("goes on");
            }
            Steer::Reconfigure => {
                if let Some(running) = &self.pump {
                    running.channels.reconfigure();
                }
            }
            Steer::Stop { deadline, hard } => return self.stop(deadline, hard, context),
        }
        self.set_directive();
    }
}
