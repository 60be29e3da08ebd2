//! What must hold: at each step, and when all is over.

use std::collections::BTreeMap;

use super::log::TaskSet;
use super::names::{MAX_TASKS, UnitNumber, connector_of, task_of, task_unit};
use super::world::World;
use crate::cluster::{Incarnation, MemberState, Register};

impl World {
    /// A unit began to run here, or may run again: nobody else runs it, and no task of another set of its connector runs.
    pub(super) fn check_runners(&mut self, unit: UnitNumber) {
        let now = self.now;
        let active = |unit: UnitNumber| {
            self.places.iter().filter_map(move |process| {
                let running = process.running.get(&unit).filter(|running| process.is_active(unit, running, now))?;
                Some((process, running.set))
            })
        };
        let runners: Vec<String> =
            active(unit).map(|(process, _)| format!("w{}/{}", process.worker, process.life)).collect();
        if runners.len() > 1 {
            return self.fail(|world| format!("two runners of {}: {}", world.names.name(unit), runners.join(" and ")));
        }
        if task_of(unit).is_none() {
            return;
        }
        let tasks = (0..MAX_TASKS).map(|task| task_unit(connector_of(unit), task));
        let mut sets: Vec<i64> = tasks.flat_map(active).map(|(_, set)| set).collect();
        sets.sort_unstable();
        sets.dedup();
        if sets.len() > 1 {
            self.fail(|_| format!("two sets of connector {}: {sets:?}", connector_of(unit)));
        }
    }

    /// A unit that a living worker holds, as far as the claimant has read, is not claimed. Who is a member is said by the topic, also where the
    /// claimant has not read that far. One that was evicted is none, though a late record of it makes it a member again.
    pub(super) fn check_claim(&mut self, place: usize, unit: UnitNumber) {
        let process = &self.places[place];
        let own = process.plane.as_ref().and_then(|plane| plane.incarnation());
        let holder = process.read.get(&unit).and_then(Register::holder).map(|held| held.incarnation);
        if let Some(life) = holder.filter(|life| holder != own && self.truth.lives(*life) && !self.ended.contains(life))
        {
            let worker = process.worker;
            self.fail(|world| {
                format!("w{worker} claims {} of a living holder, of life {life}", world.names.name(unit))
            });
        }
    }

    /// A unit that is wanted as it was is stopped in order only by a worker that leaves, or to level a worker that is new.
    pub(super) fn check_stop(&mut self, place: usize, unit: UnitNumber) {
        let process = &self.places[place];
        let Some(running) = process.running.get(&unit) else { return };
        let touched = process.fold.wanted(unit) != Some(running.set);
        let to_level = process.fold.members.iter().any(|(worker, member)| {
            *worker != process.worker && !member.settled && member.state == MemberState::Joined
        });
        if !touched && !process.leaving && !to_level {
            let worker = process.worker;
            self.fail(|world| format!("w{worker} stops {}, which nobody touched", world.names.name(unit)));
        }
    }

    /// Tasks are written for the configuration in force, and not by who was evicted.
    pub(super) fn check_task_set(&mut self, connector: usize, set: TaskSet, worker: usize, life: Incarnation) {
        let state = self.truth.connector(connector);
        let current = state.config.is_some_and(|(offset, _)| offset == set.made_for) && !state.stopped;
        let zombie = self.evicted.contains(&life) && !self.truth.is_member(worker, life);
        if !current || zombie {
            self.fail(|_| {
                format!("tasks of a zombie: w{worker} of life {life} writes {set:?} of connector {connector}")
            });
        }
    }

    /// A reader that has reached the end has folded what was written, whatever compaction has removed; and no accepted write is missing.
    pub(super) fn check_fold(&mut self, place: usize) {
        let process = &self.places[place];
        if process.fold != self.truth {
            let (worker, fold) = (process.worker, process.fold.clone());
            return self.fail(|world| format!("w{worker} reads {fold:?} instead of {:?}", world.truth));
        }
        let lost = self.truth.connectors.iter().find_map(|(connector, state)| {
            let ((_, value), accepted) = (state.config?, *self.accepted.get(connector)?);
            (value != accepted).then_some((*connector, value, accepted))
        });
        if let Some((connector, value, accepted)) = lost {
            self.fail(|_| {
                format!("a write of connector {connector} is lost: {accepted} were accepted, {value} are there")
            });
        }
    }

    /// Whether somebody has done something a moment ago.
    pub(super) fn is_busy(&self) -> bool {
        self.now < self.acted_at + self.fence() / 2
    }

    /// Why the units are not as they should be, if they are not.
    pub(super) fn unhealed_units(&self) -> Option<String> {
        // Claims that cross may still be under way.
        if self.is_busy() {
            return Some("something is still being done".into());
        }
        let mut runs: BTreeMap<UnitNumber, (i64, usize)> = BTreeMap::new();
        for process in &self.places {
            for (unit, running) in &process.running {
                let idle = running.suspended || running.stopping || !process.is_active(*unit, running, self.now);
                let entry = runs.entry(*unit).or_insert((running.set, 0));
                // One that stops is one too many as well.
                entry.1 += 1 + usize::from(idle);
            }
        }
        let wanted = self.truth.all_wanted();
        for (unit, set) in &wanted {
            match runs.remove(unit) {
                Some((runs, 1)) if runs == *set => {}
                Some((runs, _)) => return Some(format!("{} of set {set}: runs as {runs}", self.names.name(*unit))),
                None => return Some(format!("{} of set {set} does not run", self.names.name(*unit))),
            }
        }
        if let Some((unit, _)) = runs.first_key_value() {
            return Some(format!("{} runs and is not wanted", self.names.name(*unit)));
        }
        let is_left = |unit: UnitNumber| self.truth.wanted(unit).is_none();
        let left = self.registers.iter().find(|(unit, last)| **last != Register::Empty && is_left(**unit));
        if let Some((unit, last)) = left {
            return Some(format!("left-over {}: {last:?}", self.names.name(*unit)));
        }
        self.truth.connectors.iter().find_map(|(connector, state)| {
            let (made_for, _) = state.config.filter(|_| !state.stopped)?;
            let tasks = self.outside.get(connector).copied().unwrap_or(1);
            match state.set {
                Some((_, set)) if (set.count, set.made_for) == (tasks, made_for) => None,
                set => Some(format!("wrong set of connector {connector}: {set:?}, not {tasks} tasks for {made_for}")),
            }
        })
    }

    /// Why the members are not those that should be, if they are not.
    pub(super) fn unhealed_members(&self) -> Option<String> {
        for worker in (0..self.workers.len()).filter(|worker| self.workers[*worker]) {
            let mut up = self.places.iter().filter(|process| process.plane.is_some() && process.worker == worker);
            let (Some(process), None) = (up.next(), up.next()) else {
                return Some(format!("w{worker} does not run, or twice"));
            };
            let life = process.plane.as_ref().and_then(|plane| plane.incarnation());
            match self.truth.members.get(&worker) {
                Some(member) if Some(member.incarnation) == life && member.settled => {}
                member => return Some(format!("w{worker} of life {life:?} is not a settled member: {member:?}")),
            }
        }
        let gone = |worker: &usize| !self.workers.get(*worker).is_some_and(|wanted| *wanted);
        self.truth.members.keys().find(|worker| gone(worker)).map(|worker| format!("w{worker} is gone and a member"))
    }

    /// What the control planes remember is bounded by what there is.
    pub(super) fn check_kept(&mut self) {
        let (wanted, members) = (self.truth.all_wanted().len(), self.truth.members.len());
        let too_much = self.places.iter().find_map(|process| {
            let kept = process.plane.as_ref()?.kept();
            let bounded = kept.units == wanted
                && kept.sets <= wanted
                && kept.indexed <= 6 * wanted
                && kept.appends == 0
                && kept.watched <= members;
            (!bounded).then_some((process.worker, kept))
        });
        if let Some((worker, kept)) = too_much {
            self.fail(|_| {
                format!("w{worker} keeps more than it needs for {wanted} units and {members} members: {kept:?}")
            });
        }
    }
}
