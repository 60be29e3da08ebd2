//! Who should run the units: rendezvous hashing that leaves running work alone.
//!
//! Plain rendezvous hashing with a bound on the load moves units that nobody touched: each addition shifts the bound (measured: 5 members, 499 additions, other
//! units moved in 146 of them). So the present holders are an input:
//!
//! 1. *Keep*: a unit whose holder takes units stays, however loaded it is, unless 3 takes it.
//! 2. *Place*: the others go, in the order of their hashes, each to a member that has room: first to those that are not settled yet, then to those below 1.1 times the
//!    mean. Of these to one that has the fewest units of the same group, and of these to the one with the highest score.
//! 3. *Level*: a member is *unsettled* from when it joins until it once held the mean, rounded down. Unsettled members take units from those above the mean, as few
//!    as needed, those with their own highest score. The order is by nothing else, so that what is left to move does not depend on what has moved.
//!
//! Who gets a unit as the *second choice*, since those it would rather go to have no room, lets a moment pass before it claims it: how full they are is what
//! workers that read a few milliseconds apart see differently.
//!
//! So an addition or a deletion moves nothing else, a lost member moves what it held, and a new one takes its share. Run again on its own result, this
//! moves nothing. Two workers that know different holders for a moment may differ in the answer: registers decide.
//!
//! The score of a unit at a member is XXH3-64 of its name, seeded with XXH3-64 of the worker id. It is frozen: workers of different versions have to agree.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::member::{Incarnation, Member, MemberState, WorkerId};
use super::rules::Rules;

/// A unit that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placeable<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The units that are spread over members.
    pub(super) group: Option<&'a Arc<str>>,
    /// The life that its register names as the holder, whether or not that is over.
    pub(super) holder: Option<Incarnation>,
}

/// Who should run a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// This life.
    pub(super) life: Incarnation,
    /// Only because a better one has no room.
    pub(super) second_choice: bool,
}

fn seed(worker: &WorkerId) -> u64 {
    XxHash3_64::oneshot(worker.0.as_bytes())
}

fn score(unit: &str, seed: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, unit.as_bytes())
}

fn takes_units(member: &&Member) -> bool {
    member.state == MemberState::Joined
}

/// The mean load of members that take units, rounded down: what an unsettled member is to hold.
pub(super) fn share(members: &[Member], units: usize) -> usize {
    units / members.iter().filter(takes_units).count().max(1)
}

/// The member with the highest score of those that take units, for work that needs no balance.
pub(super) fn highest(members: &[Member], name: &str) -> Option<Incarnation> {
    let best = members.iter().filter(takes_units).max_by_key(|member| (score(name, seed(&member.id)), &member.id));
    best.map(|member| member.incarnation)
}

/// The life that should run each unit, in their order. Without members that take units, nobody.
pub(super) fn assign(members: &[Member], units: &[Placeable<'_>], rules: Rules) -> Vec<Option<Owner>> {
    let mut plan = Plan::new(members, units);
    if !plan.slots.is_empty() {
        let free = plan.keep(rules);
        plan.place(free);
        if rules.level() {
            plan.level();
        }
    }
    let slots = &plan.slots;
    let owner = |(unit, slot): (usize, &Option<usize>)| {
        slot.map(|slot| Owner { life: slots[slot].life, second_choice: plan.second_choice.contains(&(unit, slot)) })
    };
    plan.owners.iter().enumerate().map(owner).collect()
}

/// A member that takes units.
struct Slot {
    life: Incarnation,
    seed: u64,
    settled: bool,
    load: usize,
}

struct Plan<'a> {
    units: &'a [Placeable<'a>],
    /// By worker id, so that all workers break ties alike.
    slots: Vec<Slot>,
    /// By unit.
    owners: Vec<Option<usize>>,
    /// Units that went to this slot only because a better one has no room.
    second_choice: BTreeSet<(usize, usize)>,
    /// How many units of a group each slot has.
    spread: BTreeMap<&'a str, Vec<u32>>,
    share: usize,
    most: usize,
}

impl<'a> Plan<'a> {
    fn new(members: &[Member], units: &'a [Placeable<'a>]) -> Self {
        let mut takers: Vec<&Member> = members.iter().filter(takes_units).collect();
        takers.sort_by(|one, other| one.id.cmp(&other.id));
        let slot = |member: &&Member| Slot {
            life: member.incarnation,
            seed: seed(&member.id),
            settled: member.settled,
            load: 0,
        };
        let slots: Vec<Slot> = takers.iter().map(slot).collect();
        let most = (11 * units.len()).div_ceil(10 * slots.len().max(1));
        let owners = vec![None; units.len()];
        let share = share(members, units.len());
        Plan { units, slots, owners, second_choice: BTreeSet::new(), spread: BTreeMap::new(), share, most }
    }

    /// How many units of the group of this unit the slot has.
    fn of_group(&self, unit: usize, slot: usize) -> u32 {
        let counts = self.units[unit].group.and_then(|group| self.spread.get(&**group));
        counts.map_or(0, |counts| counts[slot])
    }

    fn give(&mut self, unit: usize, slot: usize) {
        if let Some(before) = self.owners[unit].replace(slot) {
            self.count(unit, before, false);
        }
        self.count(unit, slot, true);
    }

    fn count(&mut self, unit: usize, slot: usize, more: bool) {
        let change = |count: usize| if more { count + 1 } else { count - 1 };
        self.slots[slot].load = change(self.slots[slot].load);
        if let Some(group) = self.units[unit].group {
            let members = self.slots.len();
            let counts = self.spread.entry(group).or_insert_with(|| vec![0; members]);
            counts[slot] = change(counts[slot] as usize) as u32;
        }
    }

    /// Units stay with their holders. Returns the others, in the order of their hashes.
    fn keep(&mut self, rules: Rules) -> Vec<usize> {
        let lives: BTreeMap<Incarnation, usize> =
            self.slots.iter().enumerate().map(|(slot, member)| (member.life, slot)).collect();
        let mut free = Vec::new();
        for (unit, placeable) in self.units.iter().enumerate() {
            match placeable.holder.filter(|_| rules.keep()).and_then(|life| lives.get(&life)) {
                Some(slot) => self.give(unit, *slot),
                None => free.push(unit),
            }
        }
        free.sort_by_cached_key(|unit| (score(self.units[*unit].name, 0), *unit));
        free
    }

    fn place(&mut self, free: Vec<usize>) {
        for unit in free {
            let wants = |slot: &Slot| !slot.settled && slot.load < self.share;
            let has_room = |slot: &Slot| slot.load < self.most;
            // Somebody has room: together they have room for 1.1 times the units.
            if let Some(slot) = self.best(unit, wants) {
                self.give(unit, slot);
            } else if let Some(slot) = self.best(unit, has_room) {
                if self.best(unit, |_| true) != Some(slot) {
                    self.second_choice.insert((unit, slot));
                }
                self.give(unit, slot);
            }
        }
    }

    /// Of the members that may have this unit, the one that should.
    fn best(&self, unit: usize, may: impl Fn(&Slot) -> bool) -> Option<usize> {
        let slots = (0..self.slots.len()).filter(|slot| may(&self.slots[*slot]));
        slots.min_by_key(|slot| {
            let score = score(self.units[unit].name, self.slots[*slot].seed);
            (self.of_group(unit, *slot), Reverse(score))
        })
    }

    fn level(&mut self) {
        for slot in 0..self.slots.len() {
            if !self.slots[slot].settled && self.slots[slot].load < self.share {
                self.fill(slot);
            }
        }
    }

    /// Takes units from members above the mean until this one has its share.
    fn fill(&mut self, slot: usize) {
        let seed = self.slots[slot].seed;
        let above = |owner: &Option<usize>| owner.is_some_and(|owner| self.slots[owner].load > self.share);
        let mut theirs: Vec<usize> = (0..self.units.len()).filter(|unit| above(&self.owners[*unit])).collect();
        theirs.sort_by_cached_key(|unit| (Reverse(score(self.units[*unit].name, seed)), *unit));
        for unit in theirs {
            if self.slots[slot].load >= self.share {
                return;
            }
            let owner = self.owners[unit].filter(|owner| *owner != slot);
            if owner.is_some_and(|owner| self.slots[owner].load > self.share) {
                self.give(unit, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests;
