//! What actors say to each other. No message carries a record.

use std::sync::Arc;

use actix::prelude::*;
use connect_api::Props;
use tokio::time::Instant;

use super::handle::{ConnectorTaskId, TargetState};
use super::lease::Lease;
use super::offset_committer::CommitTarget;
use super::supervision::Panic;
use crate::pipeline::{Failure, TopicTracker};
use crate::storage::offset_store::OffsetStore;
use crate::storage::status_records::UnitId;

/// One run of a unit: reports of an older one mean nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunId {
    /// The connector or task.
    pub unit: UnitId,
    /// Number of the herder that started it: each counts its claims from the beginning.
    pub herder: u64,
    /// Number of the claim that it runs under.
    pub claim: u64,
    /// How often it was started before under this claim: a restart by the user keeps the claim.
    pub start: u32,
}

/// What a unit is.
#[derive(Debug, Clone)]
pub enum UnitSpec {
    /// A connector.
    Connector {
        /// Its name.
        name: String,
        /// Its configuration.
        props: Props,
        /// Most tasks it may have.
        tasks_max: usize,
    },
    /// A task.
    Task {
        /// Its name.
        id: ConnectorTaskId,
        /// Its configuration.
        props: Props,
        /// The configuration of its connector: converters, transformations, client overrides.
        connector_props: Props,
        /// How many tasks its set has.
        task_count: u32,
        /// Hears of the topics that it uses.
        topics: TopicTracker,
    },
}

/// Herder to worker: run a unit.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartUnit {
    /// Which run of what.
    pub run: RunId,
    /// What to run.
    pub spec: UnitSpec,
    /// In which state it begins.
    pub target: TargetState,
    /// Without it, nothing moves.
    pub lease: Lease,
    /// Where source offsets are kept.
    pub offsets: Arc<dyn OffsetStore>,
}

/// Herder to worker to unit: what is wanted of it from now on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SteerUnit {
    /// Whom.
    pub run: RunId,
    /// What.
    pub steer: Steer,
}

/// See [`SteerUnit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// The target state changed.
    Target(TargetState),
    /// The lease ended: move nothing, tear nothing down.
    Suspend,
    /// The lease is back.
    Unsuspend,
    /// Connectors: say the task configurations again.
    Reconfigure,
    /// End, and report [`UnitEvent::Ended`].
    Stop {
        /// When the orderly end has to be over.
        deadline: Instant,
        /// Nothing may be committed and no status written: another worker may run it.
        hard: bool,
    },
}

/// Unit to worker to herder.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UnitReport {
    /// Whose.
    pub run: RunId,
    /// What happened.
    pub event: UnitEvent,
}

/// See [`UnitReport`].
#[derive(Debug)]
pub enum UnitEvent {
    /// A task is complete, and is started as soon as it may run.
    Starting,
    /// It runs: `start` has returned.
    Running,
    /// It is paused.
    Paused,
    /// A connector that is stopped by its target state.
    Stopped,
    /// It failed and stays failed.
    Failed(Failure),
    /// A connector says how its work is to be split.
    TaskConfigs(Vec<Props>),
    /// Nothing of it can write any more. Said once, after a stop was asked for.
    Ended,
}

/// Task to worker: a committer is wanted until the unit ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StartCommitter {
    /// Of whom.
    pub run: RunId,
    /// What is committed.
    pub target: CommitTarget,
}

/// An actor ended by itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ChildEnded {
    /// Which.
    pub child: Child,
    /// How, unless it stopped in an orderly way.
    pub panic: Option<Panic>,
}

/// The children of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Child {
    /// A connector or task.
    Unit(RunId),
    /// The offset committer of a task.
    Committer(RunId),
    /// The herder.
    Herder,
}
