//! The config topic, folded: members and connectors, and what a record changes in the units that somebody has to run.

use std::collections::BTreeMap;

use super::log::{ConfigRecord, TaskSet};
use super::names::{Names, UnitNumber, connector_of, connector_unit, task_of, task_unit, worker_id};
use crate::cluster::{Incarnation, Member, NO_SET, WantedChange};

/// What the topic says of a connector, or of a name that had one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ConnectorState {
    /// Offset and value of its configuration.
    pub(super) config: Option<(i64, u64)>,
    pub(super) stopped: bool,
    /// The last commit of this name and its offset, whether or not there is a connector.
    pub(super) set: Option<(i64, TaskSet)>,
}

/// The units of a connector that somebody has to run: itself, also when it is stopped, and the tasks of the set in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) connector: bool,
    pub(super) tasks: u32,
    pub(super) set: i64,
}

impl ConnectorState {
    pub(super) fn wanted(&self) -> Wanted {
        let set = self.set.filter(|_| self.config.is_some() && !self.stopped);
        let (tasks, set) = set.map_or((0, NO_SET), |(commit, set)| (set.count, commit));
        Wanted { connector: self.config.is_some(), tasks, set }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Fold {
    /// By the number of their id.
    pub(super) members: BTreeMap<usize, Member>,
    pub(super) connectors: BTreeMap<usize, ConnectorState>,
}

impl Fold {
    /// Takes in a record.
    pub(super) fn apply(&mut self, offset: i64, record: ConfigRecord) {
        let Some(connector) = record.connector() else { return self.apply_member(offset, record) };
        let state = self.connectors.entry(connector).or_default();
        match record {
            ConfigRecord::Connector(_, value) => state.config = value.map(|value| (offset, value)),
            ConfigRecord::Stopped(_, stopped) => state.stopped = stopped,
            ConfigRecord::Tasks(_, set) => state.set = Some((offset, set)),
            ConfigRecord::Worker(..) | ConfigRecord::Nothing => {}
        }
        // So that a fold does not show whether compaction has removed what was there before.
        if *state == ConnectorState::default() {
            self.connectors.remove(&connector);
        }
    }

    fn apply_member(&mut self, offset: i64, record: ConfigRecord) {
        let ConfigRecord::Worker(worker, record) = record else { return };
        let member = record.map(|record| Member {
            id: worker_id(worker),
            incarnation: record.incarnation.unwrap_or(Incarnation(offset)),
            nonce: record.nonce,
            state: record.state,
            settled: record.settled,
            fence_ms: None,
            group_id: None,
        });
        match member {
            Some(member) => _ = self.members.insert(worker, member),
            None => _ = self.members.remove(&worker),
        }
    }

    pub(super) fn connector(&self, connector: usize) -> ConnectorState {
        self.connectors.get(&connector).copied().unwrap_or_default()
    }

    /// Whether that very life of a worker is a member.
    pub(super) fn is_member(&self, id: usize, incarnation: Incarnation) -> bool {
        self.members.get(&id).is_some_and(|member| member.incarnation == incarnation)
    }

    /// Whether some member is of this life.
    pub(super) fn lives(&self, incarnation: Incarnation) -> bool {
        self.members.values().any(|member| member.incarnation == incarnation)
    }

    /// The set that the unit is wanted of, [`NO_SET`] for a connector; `None` where it is not wanted.
    pub(super) fn wanted(&self, unit: UnitNumber) -> Option<i64> {
        let wanted = self.connector(connector_of(unit)).wanted();
        match task_of(unit) {
            None => wanted.connector.then_some(NO_SET),
            Some(task) => (task < wanted.tasks).then_some(wanted.set),
        }
    }

    /// All wanted units and their sets.
    pub(super) fn all_wanted(&self) -> Vec<(UnitNumber, i64)> {
        let mut units = Vec::new();
        for (connector, state) in &self.connectors {
            let wanted = state.wanted();
            units.extend(wanted.connector.then_some((connector_unit(*connector), NO_SET)));
            units.extend((0..wanted.tasks).map(|task| (task_unit(*connector, task), wanted.set)));
        }
        units
    }
}

/// What is wanted otherwise of a connector.
pub(super) fn changes(names: &Names, connector: usize, before: Wanted, after: Wanted) -> Vec<WantedChange> {
    let gone = |unit| WantedChange::Unwanted(names.name(unit).clone());
    let new = |unit, set| WantedChange::Wanted(names.unit(unit, set));
    let mut changes = Vec::new();
    if before.connector && !after.connector {
        changes.push(gone(connector_unit(connector)));
    }
    changes.extend((after.tasks..before.tasks).map(|task| gone(task_unit(connector, task))));
    if after.connector && !before.connector {
        changes.push(new(connector_unit(connector), NO_SET));
    }
    let first = if before.set == after.set { before.tasks } else { 0 };
    changes.extend((first..after.tasks).map(|task| new(task_unit(connector, task), after.set)));
    changes
}
