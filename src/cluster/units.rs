//! All units that this worker knows, and which of them have to be compared.
//!
//! Comparing every unit after every event costs the square of their number when many start or stop at once. So a unit is *due*
//! only when something has changed that its comparison looks at:
//!
//! | what changed | due |
//! |---|---|
//! | the unit itself | the unit |
//! | what it tells the barrier of its group | its group |
//! | a point in time of the unit has come | its group |
//! | how far an end is reached, or the fold | units that wait for that |
//! | the newest set of a group | the group |
//! | its owner | the unit |
//! | anything that all comparisons have in common | all |
//!
//! Every change of a unit goes through [`Units::change`], which keeps the indexes. What is compared once too often costs
//! time and nothing else; the simulation compares this with a worker that compares every unit each time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::assignment::{Placeable, assign};
use super::member::{Incarnation, Member, Millis, Unit};
use super::register::{BarrierView, Mine, UnitState};
use super::returns::Returns;
use super::rules::Rules;

type Name = Arc<str>;

/// See the module.
#[derive(Default)]
pub(super) struct Units {
    states: BTreeMap<Name, UnitState>,
    groups: BTreeMap<Name, BTreeSet<Name>>,
    due: BTreeSet<Name>,
    /// Those that may take a step when an end is reached or more is folded.
    waiting: BTreeSet<Name>,
    /// Those that would be claimed if more was folded.
    behind: BTreeSet<Name>,
    /// Those that run, are claimed or are held here.
    busy: BTreeSet<Name>,
    /// When units change by time alone.
    deadlines: BTreeSet<(Millis, Name)>,
    /// Own life.
    own: Option<Incarnation>,
    /// Something changed since the last assignment that it looks at.
    unassigned: bool,
    returns: Returns,
}

/// What the indexes know of a unit.
#[derive(Default, PartialEq, Eq)]
struct Indexed {
    waiting: bool,
    busy: bool,
    deadlines: [Option<Millis>; 3],
}

impl Indexed {
    fn of(state: &UnitState, own: Option<Incarnation>) -> Self {
        let held = state.last.holder().is_some_and(|held| Some(held.incarnation) == own);
        let waiting = match state.mine {
            Mine::Running(_) => false,
            Mine::Claiming { .. } | Mine::Claimed { .. } => true,
            Mine::Idle => state.wanted.is_none() || held,
        };
        let runs = matches!(state.mine, Mine::Running(_) | Mine::Claiming { .. });
        let set = |at| Some(at).filter(|at| *at > Millis(0));
        Indexed {
            waiting,
            busy: state.writing.is_some() || runs || held,
            deadlines: [state.contested_until, set(state.claim_at), set(state.retry_at)],
        }
    }
}

fn put(set: &mut BTreeSet<Name>, name: &Name, is_in: bool) {
    if is_in {
        set.insert(name.clone());
    } else {
        set.remove(name);
    }
}

impl Units {
    /// None; those of a worker that vanished will wait for its return for so long.
    pub(super) fn new(return_delay_ms: u64) -> Self {
        Units { returns: Returns::new(return_delay_ms), ..Units::default() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&UnitState> {
        self.states.get(name)
    }

    /// Makes room for a unit, if it is not known.
    pub(super) fn enter(&mut self, name: &Name, group: Option<&Name>, partition: i32) {
        if self.states.contains_key(name) {
            return;
        }
        self.states.insert(name.clone(), UnitState::new(group.cloned(), partition));
        if let Some(group) = group {
            self.groups.entry(group.clone()).or_default().insert(name.clone());
        }
        // A unit without a record may close a barrier that was open.
        self.index(name, &Indexed::default());
        self.due_with_group(name);
    }

    /// Changes a unit, which is due then.
    pub(super) fn change<T>(&mut self, name: &Name, change: impl FnOnce(&mut UnitState) -> T) -> Option<T> {
        let state = self.states.get_mut(name)?;
        let (before, view, placed) = (Indexed::of(state, self.own), BarrierView::of(state), state.placed(self.own));
        let holder = state.holder();
        let result = change(state);
        // Who begins to claim a unit has been assigned it; what is held counts when it was read.
        let placed_anew = !matches!(state.mine, Mine::Claiming { .. }) && state.placed(self.own) != placed;
        self.unassigned |= placed_anew || state.holder() != holder;
        let group_cares = BarrierView::of(state) != view;
        self.index(name, &before);
        if group_cares {
            self.due_with_group(name);
        } else {
            self.due.insert(name.clone());
        }
        Some(result)
    }

    pub(super) fn remove(&mut self, name: &Name) {
        let Some(state) = self.states.get(name) else { return };
        let before = Indexed::of(state, self.own);
        self.reindex(name, &before, &Indexed::default());
        self.due_with_group(name);
        self.due.remove(name);
        if let Some(group) = self.states.remove(name).and_then(|state| state.group)
            && let Some(names) = self.groups.get_mut(&group)
        {
            names.remove(name);
            if names.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    fn index(&mut self, name: &Name, before: &Indexed) {
        let Some(now) = self.states.get(name).map(|state| Indexed::of(state, self.own)) else { return };
        self.reindex(name, before, &now);
    }

    /// A point in time that has come is in the indexes no more, and comes not back.
    fn reindex(&mut self, name: &Name, before: &Indexed, now: &Indexed) {
        if before.waiting != now.waiting {
            put(&mut self.waiting, name, now.waiting);
        }
        if before.busy != now.busy {
            put(&mut self.busy, name, now.busy);
        }
        for at in before.deadlines.iter().filter(|at| !now.deadlines.contains(at)).flatten() {
            self.deadlines.remove(&(*at, name.clone()));
        }
        for at in now.deadlines.iter().filter(|at| !before.deadlines.contains(at)).flatten() {
            self.deadlines.insert((*at, name.clone()));
        }
    }

    fn due_with_group(&mut self, name: &Name) {
        match self.states.get(name).and_then(|state| state.group.clone()) {
            Some(group) => self.group_due(&group),
            None => _ = self.due.insert(name.clone()),
        }
    }

    /// All units of a group are due.
    pub(super) fn group_due(&mut self, group: &Name) {
        self.due.extend(self.groups.get(group).into_iter().flatten().cloned());
    }

    /// Units that may have waited for an end to be reached, or for more to be folded, are due.
    pub(super) fn waiting_due(&mut self) {
        self.due.extend(self.waiting.iter().cloned());
    }

    pub(super) fn all_due(&mut self) {
        self.due.extend(self.states.keys().cloned());
    }

    /// Units of which a point in time has come are due.
    pub(super) fn time_due(&mut self, now: Millis) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, name)) = self.deadlines.pop_first()
        {
            self.due_with_group(&name);
        }
    }

    /// What is due, in the order of names. It is due no more.
    pub(super) fn take_due(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.due)
    }

    /// The next point in time of a unit; it may lie in the past.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let of_unit = self.deadlines.first().map(|(at, _)| *at);
        [of_unit, self.returns.next()].into_iter().flatten().min()
    }

    /// A unit that this worker still runs or holds, if there is one.
    pub(super) fn busy(&self) -> Option<&Name> {
        self.busy.first()
    }

    /// The units of a group.
    pub(super) fn of_group(&self, group: &Name) -> impl Iterator<Item = &UnitState> {
        self.groups.get(group).into_iter().flatten().filter_map(|name| self.states.get(name))
    }

    /// The same with their names.
    pub(super) fn named_of_group(&self, group: &Name) -> impl Iterator<Item = (&Name, &UnitState)> {
        self.groups.get(group).into_iter().flatten().filter_map(|name| self.states.get_key_value(name))
    }

    /// All units behind a name, or all of them, in the order of names.
    pub(super) fn behind(&self, name: Option<&str>) -> impl Iterator<Item = (&Name, &UnitState)> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.states.range::<str, _>((from, Bound::Unbounded))
    }

    /// The lives that hold units by their registers, once for each unit.
    pub(super) fn holders(&self) -> impl Iterator<Item = Incarnation> {
        self.states.values().filter_map(|state| state.last.holder()).map(|held| held.incarnation)
    }

    /// The offset of the commit of the newest set of which units of this group are wanted.
    pub(super) fn newest_set(&self, group: &Name) -> Option<i64> {
        self.of_group(group).filter_map(|state| state.wanted.as_ref()).map(|unit| unit.set).max()
    }

    /// Takes in how a unit is wanted now. Returns its group.
    pub(super) fn want(&mut self, name: &Name, wanted: Option<&Unit>) -> Option<Name> {
        if let Some(unit) = wanted {
            self.enter(name, unit.group.as_ref(), unit.status_partition);
        }
        self.change(name, |state| {
            state.wanted = wanted.cloned();
            state.group.clone()
        })?
    }

    /// Members changed.
    pub(super) fn assign_anew(&mut self) {
        self.unassigned = true;
    }

    /// Whether the assignment may have changed.
    pub(super) fn is_unassigned(&self) -> bool {
        self.unassigned
    }

    /// The same, also when that was not looked at yet.
    pub(super) fn will_be_assigned(&self, now: Millis) -> bool {
        self.unassigned || self.returns.next().is_some_and(|at| now >= at)
    }

    /// The assignment changes when a wait for a worker's return is over.
    pub(super) fn look_at_returns(&mut self, now: Millis) {
        self.unassigned = self.will_be_assigned(now);
    }

    /// Until when a unit waits for the return of its last holder, whose life is over.
    pub(super) fn awaits_return(&self, state: &UnitState, members: &[Member], now: Millis) -> Option<Millis> {
        self.returns.until(state.holder()?, members).filter(|until| now < *until)
    }

    /// How many units are known.
    pub(super) fn count(&self) -> usize {
        self.states.len()
    }

    /// It will be claimed when more is folded.
    pub(super) fn wait_for_fold(&mut self, name: &Name) {
        self.behind.insert(name.clone());
    }

    /// More is folded.
    pub(super) fn fold_due(&mut self) {
        let behind = std::mem::take(&mut self.behind);
        self.due.extend(behind.into_iter().filter(|name| self.states.contains_key(name)));
    }

    /// How many entries the indexes have.
    pub(super) fn indexed(&self) -> usize {
        let grouped: usize = self.groups.values().map(BTreeSet::len).sum();
        grouped + self.returns.count() + self.due.len() + self.waiting.len() + self.busy.len() + self.deadlines.len()
    }

    /// Works out who should run each wanted unit; nobody those that wait for the return of a worker. What this worker owns as the second
    /// choice it does not claim for `second_choice_ms`. Returns how many there are, and how many this worker holds.
    pub(super) fn assign(
        &mut self,
        members: &[Member],
        now: Millis,
        second_choice_ms: u64,
        rules: Rules,
    ) -> (usize, usize) {
        self.unassigned = false;
        let second_claim_at = now.plus(second_choice_ms);
        let holders = self.states.values().filter_map(|state| state.placed(self.own).flatten());
        let awaited = self.returns.look(holders, members, now);
        let placed = |state: &UnitState| {
            let holder = state.placed(self.own)?;
            holder.is_none_or(|life| !awaited.contains(&life)).then_some(holder)
        };
        let wanted = self
            .states
            .iter()
            .filter_map(|(name, state)| Some(Placeable { name, group: state.group.as_ref(), holder: placed(state)? }));
        let wanted: Vec<Placeable<'_>> = wanted.collect();
        // A claim that was not read holds nothing yet.
        let held = self.states.values().filter(|state| state.wanted.is_some() && self.own.is_some());
        let held = held.filter(|state| state.holder() == self.own).count();
        let count = wanted.len();
        let mut owners = assign(members, &wanted, rules).into_iter();
        let mut changed = Vec::new();
        for (name, state) in &self.states {
            let owner = placed(state).and_then(|_| owners.next().flatten());
            let life = owner.map(|owner| owner.life);
            let waits = owner.is_some_and(|owner| owner.second_choice && Some(owner.life) == self.own);
            let claim_at = if waits { second_claim_at } else { Millis(0) };
            // Who is the second choice still waits as it did; who is not any more does not wait.
            if state.owner != life || state.claim_at > claim_at {
                changed.push((name.clone(), life, claim_at));
            }
        }
        for (name, life, claim_at) in changed {
            self.change(&name, |state| (state.owner, state.claim_at) = (life, claim_at));
        }
        (count, held)
    }

    /// Own life began, or ended.
    pub(super) fn set_own(&mut self, own: Option<Incarnation>) {
        if self.own == own {
            return;
        }
        self.own = own;
        self.unassigned = true;
        (self.waiting, self.busy) = Default::default();
        for (name, state) in &self.states {
            let now = Indexed::of(state, own);
            put(&mut self.waiting, name, now.waiting);
            put(&mut self.busy, name, now.busy);
        }
        self.all_due();
    }

    /// Stops all hard; returns what ran, with its claim.
    pub(super) fn stop_all_hard(&mut self) -> Vec<(Name, u64)> {
        let names: Vec<Name> = self.states.keys().cloned().collect();
        let stop = |name: Name| {
            let claim = self.change(&name, UnitState::stop_hard)??;
            Some((name, claim))
        };
        names.into_iter().filter_map(stop).collect()
    }

    /// Compares the indexes with what the units say.
    #[cfg(test)]
    pub(super) fn check(&self, now: Millis) {
        let names = |is_in: &dyn Fn(&UnitState) -> bool| -> BTreeSet<Name> {
            self.states.iter().filter(|(_, state)| is_in(state)).map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(self.waiting, names(&|state| Indexed::of(state, self.own).waiting));
        assert_eq!(self.busy, names(&|state| Indexed::of(state, self.own).busy));
        for (group, members) in &self.groups {
            assert_eq!(*members, names(&|state| state.group.as_ref() == Some(group)));
        }
        let grouped: usize = self.groups.values().map(BTreeSet::len).sum();
        assert_eq!(grouped, names(&|state| state.group.is_some()).len());
        let later: BTreeSet<_> = self.deadlines.iter().filter(|(at, _)| *at > now).cloned().collect();
        let expected = self.states.iter().flat_map(|(name, state)| {
            let at = Indexed::of(state, self.own).deadlines.into_iter().flatten();
            at.filter(|at| *at > now).map(|at| (at, name.clone()))
        });
        assert_eq!(later, expected.collect());
        assert!(self.due.iter().all(|name| self.states.contains_key(name)));
    }
}
