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
use std::collections::HashMap;
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
        plan.place(&free);
        if rules.level() {
            plan.level();
        }
    }
    let slots = &plan.slots;
    let owner = |place: &Option<Place>| {
        place.map(|place| Owner { life: slots[place.slot].life, second_choice: place.second_choice })
    };
    plan.places.iter().map(owner).collect()
}

/// A member that takes units.
struct Slot {
    life: Incarnation,
    seed: u64,
    settled: bool,
    load: usize,
}

/// Where a unit goes.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    /// Only because a better one has no room.
    second_choice: bool,
}

struct Plan<'a> {
    units: &'a [Placeable<'a>],
    /// By worker id, so that all workers break ties alike.
    slots: Vec<Slot>,
    /// By unit.
    places: Vec<Option<Place>>,
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
        let places = vec![None; units.len()];
        let share = share(members, units.len());
        Plan { units, slots, places, share, most }
    }

    fn give(&mut self, unit: usize, place: Place) {
        if let Some(before) = self.places[unit].replace(place) {
            self.slots[before.slot].load -= 1;
        }
        self.slots[place.slot].load += 1;
    }

    /// Units stay with their holders. Returns the others, in the order of their hashes.
    fn keep(&mut self, rules: Rules) -> Vec<usize> {
        let units = self.units;
        let mut lives: Vec<(Incarnation, usize)> =
            self.slots.iter().enumerate().map(|(slot, member)| (member.life, slot)).collect();
        lives.sort_unstable();
        let mut free = Vec::new();
        for (unit, placeable) in units.iter().enumerate() {
            let holder = placeable.holder.filter(|_| rules.keep());
            match holder.and_then(|holder| lives.binary_search_by_key(&holder, |(life, _)| *life).ok()) {
                Some(found) => self.give(unit, Place { slot: lives[found].1, second_choice: false }),
                None => free.push(unit),
            }
        }
        free.sort_by_cached_key(|unit| (score(units[*unit].name, 0), *unit));
        free
    }

    fn place(&mut self, free: &[usize]) {
        let mut spread = Spread::of(self, free);
        for unit in free {
            let unit = *unit;
            if let Some(place) = self.best(unit, &spread) {
                self.give(unit, place);
                spread.add(self.units[unit].group, place.slot);
            }
        }
    }

    /// Where a unit should go of all places that it may go to. Somebody has room: together they have room for 1.1 times the units.
    fn best(&self, unit: usize, spread: &Spread<'_>) -> Option<Place> {
        let (name, counts) = (self.units[unit].name, spread.counts(self.units[unit].group));
        let (mut wanting, mut roomy, mut any) = (Best::default(), Best::default(), Best::default());
        for (number, slot) in self.slots.iter().enumerate() {
            let rank = (counts.map_or(0, |counts| counts[number]), Reverse(score(name, slot.seed)));
            any.take(rank, number);
            if slot.load < self.most {
                roomy.take(rank, number);
            }
            if !slot.settled && slot.load < self.share {
                wanting.take(rank, number);
            }
        }
        let best = |slot| Place { slot, second_choice: false };
        let second = |slot| Place { slot, second_choice: any.slot() != Some(slot) };
        wanting.slot().map(best).or_else(|| roomy.slot().map(second))
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
        let (units, seed) = (self.units, self.slots[slot].seed);
        let above = |place: &Option<Place>| place.is_some_and(|place| self.slots[place.slot].load > self.share);
        let mut theirs: Vec<usize> = (0..units.len()).filter(|unit| above(&self.places[*unit])).collect();
        theirs.sort_by_cached_key(|unit| (Reverse(score(units[*unit].name, seed)), *unit));
        for unit in theirs {
            if self.slots[slot].load >= self.share {
                return;
            }
            let owner = self.places[unit].map(|place| place.slot).filter(|owner| *owner != slot);
            if owner.is_some_and(|owner| self.slots[owner].load > self.share) {
                self.give(unit, Place { slot, second_choice: false });
            }
        }
    }
}

/// The member of the lowest rank of those that were looked at, and of equal ones the first.
#[derive(Default)]
struct Best(Option<(Rank, usize)>);

/// How many units of the group it has, and then the score.
type Rank = (u32, Reverse<u64>);

impl Best {
    fn take(&mut self, rank: Rank, slot: usize) {
        if self.0.is_none_or(|(best, _)| rank < best) {
            self.0 = Some((rank, slot));
        }
    }

    fn slot(&self) -> Option<usize> {
        self.0.map(|(_, slot)| slot)
    }
}

/// How many units of a group each member has: of the groups that have units to be placed, since nobody asks for others.
struct Spread<'a> {
    members: usize,
    /// Where the counts of a group begin.
    groups: HashMap<&'a str, usize>,
    counts: Vec<u32>,
}

impl<'a> Spread<'a> {
    fn of(plan: &Plan<'a>, free: &[usize]) -> Self {
        let mut spread = Spread { members: plan.slots.len(), groups: HashMap::new(), counts: Vec::new() };
        for group in free.iter().filter_map(|unit| plan.units[*unit].group) {
            let next = spread.groups.len() * spread.members;
            spread.groups.entry(group).or_insert(next);
        }
        spread.counts = vec![0; spread.groups.len() * spread.members];
        if !spread.groups.is_empty() {
            for (placeable, place) in plan.units.iter().zip(&plan.places) {
                if let Some(place) = place {
                    spread.add(placeable.group, place.slot);
                }
            }
        }
        spread
    }

    fn add(&mut self, group: Option<&Arc<str>>, slot: usize) {
        if let Some(first) = group.and_then(|group| self.groups.get(&**group)) {
            self.counts[first + slot] += 1;
        }
    }

    fn counts(&self, group: Option<&Arc<str>>) -> Option<&[u32]> {
        let first = *self.groups.get(&**group?)?;
        self.counts.get(first..first + self.members)
    }
}

#[cfg(test)]
mod tests;
