//! `scheduled.rebalance.max.delay.ms`: units of a worker that has vanished wait for it to come back, for so long. Java waits five minutes by default; here nobody
//! waits unless it is asked for.
//!
//! A unit waits when its register is held by a life that is over: what was released in order is free at once. The wait ends for all of them when a worker
//! joins, whichever that is: it takes its share of them first (Java: `IncrementalCooperativeAssignor.handleLostAssignments`). So a worker that has just joined, and
//! cannot know since when somebody is gone, never waits; the others agree up to the time that records take.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{Incarnation, Member, MemberState, Millis};

#[derive(Debug, Clone, Copy)]
struct Vanished {
    seen_at: Millis,
    /// The newest life of that time: a greater one has joined since.
    newest: Incarnation,
}

/// See the module.
#[derive(Default)]
pub(super) struct Returns {
    delay_ms: u64,
    vanished: BTreeMap<Incarnation, Vanished>,
    /// When the next wait is over.
    next: Option<Millis>,
}

impl Returns {
    pub(super) fn new(delay_ms: u64) -> Self {
        Returns { delay_ms, ..Returns::default() }
    }

    /// Takes in which lives hold wanted units. Returns those that are over and waited for.
    pub(super) fn look(
        &mut self,
        holders: impl Iterator<Item = Incarnation>,
        members: &[Member],
        now: Millis,
    ) -> BTreeSet<Incarnation> {
        if self.delay_ms == 0 {
            return BTreeSet::new();
        }
        let is_member = |life: Incarnation| members.iter().any(|member| member.incarnation == life);
        let over: BTreeSet<Incarnation> = holders.filter(|life| !is_member(*life)).collect();
        self.vanished.retain(|life, _| over.contains(life));
        let newest = members.iter().map(|member| member.incarnation).max().unwrap_or(Incarnation(-1));
        for life in &over {
            self.vanished.entry(*life).or_insert(Vanished { seen_at: now, newest });
        }
        let untils = over.into_iter().filter_map(|life| Some((life, self.until(life, members)?)));
        let awaited: BTreeMap<Incarnation, Millis> = untils.filter(|(_, until)| now < *until).collect();
        self.next = awaited.values().min().copied();
        awaited.into_keys().collect()
    }

    /// Until when units of this life wait.
    pub(super) fn until(&self, life: Incarnation, members: &[Member]) -> Option<Millis> {
        let vanished = self.vanished.get(&life)?;
        let came = |member: &Member| member.state == MemberState::Joined && member.incarnation > vanished.newest;
        (!members.iter().any(came)).then(|| vanished.seen_at.plus(self.delay_ms))
    }

    /// When a wait is over, and was not looked at since.
    pub(super) fn next(&self) -> Option<Millis> {
        self.next
    }

    /// How many lives are remembered: no more than hold units.
    pub(super) fn count(&self) -> usize {
        self.vanished.len()
    }
}
