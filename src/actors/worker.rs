//! The worker: supervises everything else. It keeps the factories, so each start builds a fresh actor, and it decides nothing
//! about who should run: that is the herder's.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;

use super::deps::{Deps, WATCH_INTERVAL};
use super::herder::{Herder, HerderParts};
use super::messages::{Child, ChildEnded, RunId, StartCommitter, StartUnit, Steer, SteerUnit, UnitEvent, UnitReport};
use super::offset_committer::{CommitTarget, OffsetCommitter, StopCommitter};
use super::supervision::{self, Restarts};
use super::unit::{Overdue, SteerActor, UnitActor};
use crate::pipeline::{Phase, PhaseCell};

/// See the module.
pub struct Worker {
    deps: Arc<Deps>,
    herder_parts: HerderParts,
    pub(super) herder: Option<Addr<Herder>>,
    /// How many herders there were, with the present one.
    herders: u64,
    units: HashMap<RunId, Unit>,
    pub(super) herder_restarts: Restarts,
}

struct Unit {
    actor: Addr<UnitActor>,
    /// What its pump does.
    phase: Arc<PhaseCell>,
    committer: Option<Committer>,
    /// Its end was asked for and has to be reported, whatever happens.
    stopping: bool,
}

struct Committer {
    actor: Addr<OffsetCommitter>,
    target: CommitTarget,
    restarts: Restarts,
}

impl Worker {
    /// A worker that runs nothing; starts its herder when it starts.
    pub fn new(deps: Arc<Deps>, herder_parts: HerderParts) -> Self {
        Worker { deps, herder_parts, herder: None, herders: 0, units: HashMap::new(), herder_restarts: Restarts::new() }
    }

    fn start_herder(&mut self, context: &mut Context<Self>) {
        let worker = context.address();
        let ends = worker.clone();
        self.herders += 1;
        let number = self.herders;
        let (parts, deps) = (self.herder_parts.clone(), self.deps.clone());
        self.herder = Some(supervision::start_watched(
            move |context| Herder::new(number, parts, deps, worker, context.address()),
            move |panic| ends.do_send(ChildEnded { child: Child::Herder, panic }),
        ));
    }

    fn start_committer(&mut self, unit: RunId, target: CommitTarget, restarts: Restarts, context: &mut Context<Self>) {
        let Some(running) = self.units.get_mut(&unit) else { return };
        let interval = self.deps.config.offset_flush_interval;
        let ends = context.address();
        let made = target.clone();
        let actor = supervision::start_watched(
            move |_| OffsetCommitter::new(made, interval),
            move |panic| ends.do_send(ChildEnded { child: Child::Committer(unit), panic }),
        );
        running.committer = Some(Committer { actor, target, restarts });
    }

    /// Finds callbacks that do not return. For all units at once: a timer for each would cost more than what most of them do.
    fn watch(&self) {
        let deadline = self.deps.config.task_callback_timeout;
        for unit in self.units.values().filter(|unit| unit.phase.is_overdue(deadline)) {
            unit.actor.do_send(Overdue);
        }
    }

    fn tell_herder(&self, report: UnitReport) {
        // Without a herder all units have been told to stop hard, and the next one does not know their runs.
        if let Some(herder) = &self.herder {
            herder.do_send(report);
        }
    }

    fn forget(&mut self, unit: &RunId) {
        if let Some(Unit { committer: Some(committer), .. }) = self.units.remove(unit) {
            committer.actor.do_send(StopCommitter);
        }
    }

    /// Without its herder nobody renews leases or reads registers: everything stops without a commit, and the next
    /// herder joins anew.
    fn herder_ended(&mut self, panic: Option<supervision::Panic>, context: &mut Context<Self>) {
        self.herder = None;
        let Some(panic) = panic else {
            // It has left in an orderly way, or said why the process has to end.
            return context.stop();
        };
        tracing::error!(message = panic.message, "herder crashed; a new one joins anew");
        let deadline = tokio::time::Instant::now();
        for unit in self.units.values() {
            unit.actor.do_send(SteerActor(Steer::Stop { deadline, hard: true }));
        }
        let (wait, shutdown) = (self.herder_restarts.next_backoff(), self.herder_parts.shutdown.clone());
        // A process that is to end does not wait out a back-off: the next herder ends it.
        let wait = async move { tokio::time::timeout(wait, shutdown.asked()).await };
        context.spawn(wait.into_actor(self).map(|_, worker, context| worker.start_herder(context)));
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(WATCH_INTERVAL, |worker, _| worker.watch());
        self.start_herder(context);
    }
}

impl Handler<StartUnit> for Worker {
    type Result = ();
    fn handle(&mut self, start: StartUnit, context: &mut Context<Self>) {
        let unit = start.run.clone();
        let worker = context.address();
        let ends = worker.clone();
        let ended = unit.clone();
        let deps = self.deps.clone();
        let phase = Arc::<PhaseCell>::default();
        let seen = phase.clone();
        let actor = supervision::start_watched(
            move |_| UnitActor::new(start, deps, worker, phase),
            move |panic| ends.do_send(ChildEnded { child: Child::Unit(ended), panic }),
        );
        self.units.insert(unit, Unit { actor, phase: seen, committer: None, stopping: false });
    }
}

impl Handler<SteerUnit> for Worker {
    type Result = ();
    fn handle(&mut self, SteerUnit { run, steer }: SteerUnit, _: &mut Context<Self>) {
        match self.units.get_mut(&run) {
            Some(running) => {
                running.stopping |= matches!(steer, Steer::Stop { .. });
                running.actor.do_send(SteerActor(steer));
            }
            // It crashed, and its FAILED was reported: there is nothing left that could write.
            None => {
                if let Steer::Stop { .. } = steer {
                    self.tell_herder(UnitReport { run, event: UnitEvent::Ended });
                }
            }
        }
    }
}

impl Handler<UnitReport> for Worker {
    type Result = ();
    fn handle(&mut self, report: UnitReport, _: &mut Context<Self>) {
        if let UnitEvent::Ended = report.event {
            self.forget(&report.run);
        }
        self.tell_herder(report);
    }
}

impl Handler<StartCommitter> for Worker {
    type Result = ();
    fn handle(&mut self, StartCommitter { run, target }: StartCommitter, context: &mut Context<Self>) {
        self.start_committer(run, target, Restarts::new(), context);
    }
}

/// Worker to itself: build a committer again, its back-off is over.
#[derive(Message)]
#[rtype(result = "()")]
struct RestartCommitter(RunId, CommitTarget, Restarts);

impl Handler<RestartCommitter> for Worker {
    type Result = ();
    fn handle(&mut self, RestartCommitter(unit, target, restarts): RestartCommitter, context: &mut Context<Self>) {
        self.start_committer(unit, target, restarts, context);
    }
}

impl Handler<ChildEnded> for Worker {
    type Result = ();
    fn handle(&mut self, ChildEnded { child, panic }: ChildEnded, context: &mut Context<Self>) {
        match child {
            Child::Herder => self.herder_ended(panic, context),
            Child::Committer(unit) => {
                let committer = self.units.get_mut(&unit).and_then(|running| running.committer.take());
                let (Some(committer), Some(panic)) = (committer, panic) else { return };
                tracing::error!(unit = %unit.unit, message = panic.message, "offset committer crashed and is built again");
                let Committer { target, mut restarts, .. } = committer;
                let wait = restarts.next_backoff();
                context.notify_later(RestartCommitter(unit, target, restarts), wait);
            }
            Child::Unit(unit) => {
                let Some(panic) = panic else { return };
                // The actor's drop has closed the channels of its pump.
                let stopping = self.units.get(&unit).is_some_and(|running| running.stopping);
                self.forget(&unit);
                let failure = panic.into_failure(Phase::Idle);
                tracing::error!(unit = %unit.unit, message = failure.message, "the actor of a unit crashed");
                self.tell_herder(UnitReport { run: unit.clone(), event: UnitEvent::Failed(failure) });
                if stopping {
                    self.tell_herder(UnitReport { run: unit, event: UnitEvent::Ended });
                }
            }
        }
    }
}
