//! The herder: holds the folded state, compares wanted with running, and answers REST through its handle.
//!
//! It decides by [`ControlPlane`], which is pure, and does nothing else than feed it with what was read and carry out what it says.
//! Whatever it knows is in the topics: after a crash a new one reads them anew and joins anew.

mod actions;
mod active_topics;
mod answers;
mod cluster;
mod configs;
mod gossip;
mod inquiries;
mod open;
mod requests;
mod restarts;
mod stores;
mod supervised;
mod task_configs;
#[cfg(test)]
mod tests;
mod units;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::stream;
use tokio::sync::Semaphore;

use super::deps::Deps;
use super::handle::{HerderError, HerderRequest, Reply};
use super::lease::{self, Lease, PartitionLease};
use super::peers::Peers;
use super::shutdown::LEFT_BEHIND;
use super::status::{StatusActor, StatusAnswer};
use super::supervision::{self, Restarts, backoff};
use super::worker::Worker;
use crate::cluster::{ControlPlane, Event, Millis, Settings, Token};
use crate::gossip::NODES_MAX;
use crate::storage::ClusterState;
use crate::storage::config_store::{ConfigStep, ConfigStore, ConfigUpdate};
use crate::storage::offset_store::OffsetStore;
use crate::storage::status_records::{StatusRecord, UnitId};
use crate::storage::status_store::{StatusState, StatusStore, StatusUpdate};

use gossip::Gossiping;
pub use open::{HerderParts, Identity, Stop, Stopped};
use restarts::AskedRestart;
use supervised::RestartWaits;
use units::Running;
use watch::{ASKED_PROBES_MAX, Suspected};

/// How long a handed-over request of the control plane to the brokers may take.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a worker that is to end waits for brokers that do not answer, so that those that only stall do not make it repeat anything. Tasks have been
/// stopped without a commit by then.
const CUT_OFF_PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Herder {
    /// The herders of this process are counted from 1; what was said to or by an older one does not concern this one.
    number: u64,
    parts: HerderParts,
    deps: Arc<Deps>,
    worker: Addr<Worker>,
    /// Its own, once it has started.
    address: Option<Addr<Herder>>,
    plane: ControlPlane,
    /// When the control plane wants to hear of the time next.
    timer: Option<(Millis, SpawnHandle)>,
    /// The logs, once they are open.
    logs: Option<Logs>,
    /// Why they are not open yet, for those who ask.
    starting: String,
    attempts: u32,
    /// The config topic as the control plane has seen it last.
    state: ClusterState,
    /// The status topic as the control plane has seen it last.
    statuses: StatusState,
    /// How far both are read.
    config_position: i64,
    status_positions: Vec<i64>,
    /// What the worker was told to run.
    running: BTreeMap<UnitId, Running>,
    /// Those of them that were told to suspend.
    suspended: BTreeSet<UnitId>,
    /// By status partition.
    leases: BTreeMap<i32, PartitionLease>,
    /// Failed units that wait for their restart by policy.
    restart_waits: RestartWaits,
    /// Restart requests up to this offset of the config topic were acted upon.
    restarts_seen: i64,
    /// Who waits for a restart of one unit.
    restart_replies: Vec<AskedRestart>,
    /// Own writes to the config topic that are under way: when each began.
    appends: BTreeMap<u64, Millis>,
    next_append: u64,
    /// The oldest of them, as the control plane knows it.
    oldest_append: Option<Millis>,
    /// Registers that the status actor is to write, and units that it is to seal.
    status_restarts: Restarts,
    registers_under_way: BTreeSet<Token>,
    seals: HashSet<(UnitId, u64)>,
    /// Deleted connectors whose used topics are being forgotten.
    forgetting: HashSet<String>,
    /// Whether the last request for the ends of the internal topics failed.
    ends_unknown: bool,
    /// Whether the transactional id was taken, or is being tried for.
    id_asked_for: bool,
    cluster_id: Option<String>,
    gossiping: Gossiping,
    /// Those that it watches.
    peers: Peers,
    /// For each probe that others have asked for.
    asked_probes: Arc<Semaphore>,
}

/// The internal topics, and who writes statuses.
#[derive(Clone)]
struct Logs {
    config: Arc<ConfigStore>,
    status: Arc<StatusStore>,
    offsets: Arc<dyn OffsetStore>,
    writer: Addr<StatusActor>,
}

impl Herder {
    /// A herder that has read nothing.
    pub fn new(number: u64, parts: HerderParts, deps: Arc<Deps>, worker: Addr<Worker>, address: Addr<Herder>) -> Self {
        let settings = Settings {
            worker_id: (&*parts.identity.worker_id).into(),
            group_id: deps.config.group_id.as_str().into(),
            fence_ms: deps.config.worker_fence_timeout.as_millis() as u64,
            return_delay_ms: deps.config.scheduled_rebalance_max_delay.as_millis() as u64,
            members_max: NODES_MAX,
            nonce_seed: fastrand::u64(..),
        };
        // Whatever an earlier herder counted has ended with it.
        deps.metrics.worker().connectors.store(0, std::sync::atomic::Ordering::Relaxed);
        deps.metrics.forget_all_restarts();
        Herder {
            number,
            starting: format!("the worker is starting: connecting to {}", deps.config.bootstrap_servers),
            parts,
            deps,
            worker,
            address: None,
            plane: ControlPlane::new(settings),
            timer: None,
            logs: None,
            attempts: 0,
            state: ClusterState::default(),
            statuses: StatusState::default(),
            config_position: 0,
            status_positions: Vec::new(),
            running: BTreeMap::new(),
            suspended: BTreeSet::new(),
            leases: BTreeMap::new(),
            restart_waits: RestartWaits::default(),
            restarts_seen: -1,
            restart_replies: Vec::new(),
            appends: BTreeMap::new(),
            next_append: 0,
            oldest_append: None,
            status_restarts: Restarts::new(),
            registers_under_way: BTreeSet::new(),
            seals: HashSet::new(),
            forgetting: HashSet::new(),
            ends_unknown: false,
            id_asked_for: false,
            cluster_id: None,
            gossiping: Gossiping::default(),
            peers: Peers::new(move |nonce| address.do_send(Suspected(nonce))),
            asked_probes: Arc::new(Semaphore::new(ASKED_PROBES_MAX)),
        }
    }

    /// Gives the control plane an event, does what it says, and tells the pumps how long they may run.
    fn step(&mut self, event: Event, context: &mut Context<Self>) {
        let (mut actions, before) = (Vec::new(), self.plane.incarnation());
        self.plane.step(event, lease::now(), &mut actions);
        let is_over = before.filter(|_| self.plane.incarnation().is_none() && self.parts.shutdown.asked_at().is_none());
        if let Some(incarnation) = is_over {
            tracing::warn!(%incarnation, "this worker was evicted: everything stops here, and it joins again when another member answers");
        }
        for action in actions {
            self.carry_out(action, context);
        }
        self.renew_leases();
        self.set_timer(context);
        self.arm_restarts(context);
    }

    fn renew_leases(&self) {
        let metrics = self.deps.metrics.worker();
        if self.plane.is_leased(lease::now()) {
            metrics.lease_renewed();
        }
        for (partition, lease) in &self.leases {
            lease.set(self.plane.lease_of(*partition));
        }
    }

    fn set_timer(&mut self, context: &mut Context<Self>) {
        let next = self.plane.next_deadline(lease::now());
        if self.timer.map(|(armed, _)| armed) == next {
            return;
        }
        if let Some((_, armed)) = self.timer.take() {
            context.cancel_future(armed);
        }
        if let Some(next) = next {
            let wait = Duration::from_millis(next.since(lease::now()));
            let handle = context.run_later(wait, |herder, context| {
                herder.timer = None;
                herder.step(Event::Tick, context);
            });
            self.timer = Some((next, handle));
        }
    }

    /// A new state of the config topic, which differs from the one before in these connectors at most.
    fn folded(&mut self, state: ClusterState, connectors: &[String], context: &mut Context<Self>) {
        let position = state.next_offset();
        let before = std::mem::replace(&mut self.state, state);
        let partitions = self.status_positions.len();
        let changes = |name: &String| units::changes(&before, &self.state, name, partitions);
        let changes = connectors.iter().flat_map(changes).collect();
        let members = units::members(&self.state);
        if members != units::members(&before)
            && let Some(logs) = &self.logs
        {
            // Who has just joined may read more partitions than this worker, and writes to them.
            logs.status.log().look_at_partitions();
        }
        self.step(Event::Folded { position, members, changes }, context);
        for connector in connectors {
            self.follow_connector(connector);
        }
        self.arm_restarts(context);
        self.answer_restarts(context);
    }

    /// Everything below the positions was given to the control plane.
    fn progressed(&mut self, context: &mut Context<Self>) {
        let (config, status) = (self.config_position, self.status_positions.clone());
        self.step(Event::Progress { config, status }, context);
    }

    /// Does what is left to do once the process was asked to end. Called again whenever less time may be left than before: the
    /// control plane keeps the earliest deadline.
    fn shut_down(&mut self, context: &mut Context<Self>) {
        let Some(asked_at) = self.parts.shutdown.asked_at() else { return };
        if self.logs.is_none() {
            // It is no member and runs nothing.
            let stop = match self.number {
                1 => Stop::Asked,
                _ => Stop::Failed(format!(
                    "the herder crashed, and the worker was to end before it had joined anew. {LEFT_BEHIND}"
                )),
            };
            return self.stop_process(stop, context);
        }
        let deadline = if self.cut_off() {
            lease::now().plus(CUT_OFF_PATIENCE.as_millis() as u64)
        } else {
            let time = self.deps.config.task_shutdown_graceful_timeout + BROKER_TIMEOUT;
            asked_at.plus(time.as_millis() as u64)
        };
        self.step(Event::Shutdown { deadline }, context);
    }

    /// Whether the brokers have not answered for so long that everything is suspended: nothing can be written or committed.
    fn cut_off(&self) -> bool {
        self.ends_unknown && !self.plane.is_leased(lease::now())
    }

    /// Ends the process, with a reason when it was not asked to end.
    fn stop_process(&mut self, stop: Stop, context: &mut Context<Self>) {
        if let Stop::Failed(reason) = &stop {
            tracing::error!(reason, "the worker ends");
        }
        self.parts.stopped.set(stop);
        context.stop();
    }
}

impl Actor for Herder {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.address = Some(context.address());
        let requests = self.parts.requests.clone();
        let requests = stream::unfold(requests, |requests| async move {
            let request = requests.lock().await.recv().await?;
            Some((request, requests))
        });
        context.add_stream(requests);
        let shutdown = self.parts.shutdown.clone();
        let asked = async move { shutdown.asked().await };
        context.spawn(asked.into_actor(self).map(|(), herder, context| herder.shut_down(context)));
        // An older herder may have left it raised.
        self.show_suspended();
        self.open_logs(context);
    }
}

impl StreamHandler<HerderRequest> for Herder {
    fn handle(&mut self, request: HerderRequest, context: &mut Context<Self>) {
        self.answer(request, context);
    }

    /// The queue ends with the process only.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl StreamHandler<ConfigUpdate> for Herder {
    fn handle(&mut self, ConfigUpdate { steps, position }: ConfigUpdate, context: &mut Context<Self>) {
        let mut touched = BTreeSet::new();
        for ConfigStep { state, connector } in steps {
            self.folded(state, connector.as_slice(), context);
            touched.extend(connector);
        }
        for connector in touched {
            self.ask_for_lost_tasks(connector);
        }
        self.config_position = position;
        self.progressed(context);
    }

    /// The store lives as long as this actor.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl StreamHandler<StatusUpdate> for Herder {
    fn handle(&mut self, StatusUpdate { reads, positions }: StatusUpdate, context: &mut Context<Self>) {
        if let Some(logs) = &self.logs {
            self.statuses = logs.status.snapshot();
        }
        for read in reads {
            let (unit, group) = (units::name(&read.unit), units::group(&read.unit));
            let (partition, register) = (read.partition, read.register);
            self.step(Event::StatusRead { unit, group, partition, register }, context);
        }
        self.status_positions = positions;
        self.progressed(context);
    }

    /// The store lives as long as this actor.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<StatusAnswer> for Herder {
    type Result = ();
    fn handle(&mut self, answer: StatusAnswer, context: &mut Context<Self>) {
        match answer {
            StatusAnswer::Written(token, Ok(())) => {
                self.registers_under_way.remove(&token);
                self.step(Event::Appended { token }, context);
            }
            StatusAnswer::Written(token, Err(error)) => {
                tracing::warn!(%error, "a register was not written");
                self.registers_under_way.remove(&token);
                let failure = actions::append_failure(&error);
                self.step(Event::AppendFailed { token, failure, error: error.to_string() }, context);
            }
            StatusAnswer::GivenUp(unit, since) => {
                let partition = Some(units::status_partition(&unit, self.status_positions.len()));
                self.step(Event::GivenUp { partition, since }, context);
            }
            StatusAnswer::Sealed(unit, claim) => self.sealed(unit, claim, context),
        }
    }
}
