//! The names of units. Everywhere else in this room a unit is a number.

use std::sync::Arc;

use crate::cluster::{Unit, WorkerId};

/// Tasks that a connector may have.
pub(super) const MAX_TASKS: u32 = 3;

/// Partitions of the status topic. More would only make each quieter.
pub(super) const PARTITIONS: usize = 2;

/// Numbers from one connector to the next: itself and its tasks.
const STRIDE: usize = 1 + MAX_TASKS as usize;

/// A connector or a task; numbered so that those of a connector stand together.
pub(super) type UnitNumber = usize;

pub(super) fn connector_unit(connector: usize) -> UnitNumber {
    connector * STRIDE
}

pub(super) fn task_unit(connector: usize, task: u32) -> UnitNumber {
    connector * STRIDE + 1 + task as usize
}

/// The connector that a unit is, or is a task of.
pub(super) fn connector_of(unit: UnitNumber) -> usize {
    unit / STRIDE
}

/// The number of a task; `None` for a connector.
pub(super) fn task_of(unit: UnitNumber) -> Option<u32> {
    (unit % STRIDE).checked_sub(1).map(|task| task as u32)
}

pub(super) fn partition_of(unit: UnitNumber) -> usize {
    (unit + connector_of(unit)) % PARTITIONS
}

pub(super) fn worker_id(id: usize) -> WorkerId {
    format!("w{id}:8083").as_str().into()
}

/// The number of the worker with this id, which [`worker_id`] made.
pub(super) fn worker_number(id: &WorkerId) -> Option<usize> {
    id.0.strip_prefix('w')?.split(':').next()?.parse().ok()
}

struct Name {
    name: Arc<str>,
    group: Option<Arc<str>>,
}

/// The names of all connectors that ever were, and of their tasks.
#[derive(Default)]
pub(super) struct Names {
    names: Vec<Name>,
}

impl Names {
    /// Another connector: its number.
    pub(super) fn add(&mut self) -> usize {
        let connector = self.connectors();
        let group: Arc<str> = format!("c{connector}").into();
        self.names.push(Name { name: format!("connector-{connector}").into(), group: None });
        let task = |task: u32| Name { name: format!("task-{connector}-{task}").into(), group: Some(group.clone()) };
        self.names.extend((0..MAX_TASKS).map(task));
        connector
    }

    /// How many there are.
    pub(super) fn connectors(&self) -> usize {
        self.names.len() / STRIDE
    }

    pub(super) fn name(&self, unit: UnitNumber) -> &Arc<str> {
        &self.names[unit].name
    }

    pub(super) fn group(&self, unit: UnitNumber) -> Option<&Arc<str>> {
        self.names[unit].group.as_ref()
    }

    pub(super) fn unit(&self, unit: UnitNumber, set: i64) -> Unit {
        let Name { name, group } = &self.names[unit];
        Unit { name: name.clone(), group: group.clone(), set, status_partition: partition_of(unit) as i32 }
    }

    /// The number of a name of ours.
    pub(super) fn number(&self, name: &str) -> Option<UnitNumber> {
        let mut parts = name.split('-').skip(1).map(|part| part.parse::<usize>().ok());
        let connector = parts.next()??;
        Some(match parts.next() {
            Some(task) => task_unit(connector, task? as u32),
            None => connector_unit(connector),
        })
    }
}
