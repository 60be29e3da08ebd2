//! The barrier on reconfiguration: never two task sets of a group at once.
//!
//! Who folds a new commit stops its units of the older set and releases them, also those that it will own again and claims
//! that do not run yet: otherwise two workers that own the same units in both sets wait for each other for ever. A unit of the new set
//! runs when every unit of its group, of either set, with a record or without, is *quiet*: not contested, and its last record
//!
//! 1. is held for the new set (its worker passed or waits at the same barrier), or
//! 2. is a release by a worker that had folded the new commit, or
//! 3. leaves the unit free, and no worker can be leased any more with a view in which the older set was the newest: ends asked for F
//!    after this worker saw the end of the older set are reached.
//!
//! Without 3's wait, a worker that lags before the commit takes a unit of the older set from a dead one while others start the new
//! set: two tasks read the same input. A group of which no other set was ever folded has nothing to wait for.
//!
//! Of a set that a worker found when it began it does not know which older one there was, and a unit of that need not have a record yet: a worker that lags
//! behind the commit may be about to claim it. So beside others a worker joins only when what it found has aged as in 3.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::member::{Millis, NO_SET, Register};
use super::register::{Mine, UnitState};
use super::rules::Rules;

/// The newest task set of each group and when the one before it ended.
#[derive(Default)]
pub(super) struct Sets {
    sets: BTreeMap<Arc<str>, Set>,
    /// When groups went that are not there any more.
    gone: BTreeMap<Arc<str>, Millis>,
    /// The last fold before the config topic had been read to an end. What such a fold does not show may have been compacted away.
    first_read: Millis,
}

#[derive(Debug, Clone, Copy)]
struct Set {
    commit: i64,
    older_over: Millis,
}

impl Sets {
    /// A fold comes. `read_once`: the config topic had been read to an end before.
    pub(super) fn begin_fold(&mut self, now: Millis, read_once: bool) {
        if !read_once {
            self.first_read = now;
        }
    }

    /// Takes in the newest set of a group after that fold. Says whether it has changed.
    pub(super) fn fold(&mut self, group: &Arc<str>, newest: Option<i64>, now: Millis) -> bool {
        let before = self.sets.get(group).copied();
        match (before, newest) {
            (Some(set), Some(commit)) if set.commit == commit => return false,
            (None, None) => return false,
            (_, None) => {
                self.sets.remove(group);
                self.gone.insert(group.clone(), now);
            }
            (_, Some(commit)) => {
                let gone = self.gone.remove(group).unwrap_or(self.first_read);
                let older_over = if before.is_some() { now } else { gone.max(self.first_read) };
                self.sets.insert(group.clone(), Set { commit, older_over });
            }
        }
        true
    }

    /// Forgets groups that went so long ago that nobody can be leased with a view that shows them.
    pub(super) fn forget(&mut self, reached: Option<Millis>, wait_ms: u64) {
        self.gone.retain(|_, at| !aged(*at, reached, wait_ms));
    }

    /// Groups with a set, or that had one.
    pub(super) fn count(&self) -> usize {
        self.sets.len() + self.gone.len()
    }

    /// The commit of the newest set of the group; [`NO_SET`] where it has none.
    pub(super) fn commit(&self, group: Option<&Arc<str>>) -> i64 {
        group.and_then(|group| self.sets.get(group)).map_or(NO_SET, |set| set.commit)
    }

    /// Whether nobody can be leased any more with a view that is older than what this worker found when it began.
    pub(super) fn first_aged(&self, reached: Option<Millis>, wait_ms: u64) -> bool {
        aged(self.first_read, reached, wait_ms)
    }

    /// Whether nobody can be leased any more with a view that shows an older set of the group, as far as an end tells that was asked for at `reached`.
    pub(super) fn aged(&self, group: Option<&Arc<str>>, reached: Option<Millis>, wait_ms: u64) -> bool {
        let Some(group) = group else { return true };
        let over = self.sets.get(group).map(|set| set.older_over).or_else(|| self.gone.get(group).copied());
        over.is_none_or(|over| aged(over, reached, wait_ms))
    }
}

fn aged(over: Millis, reached: Option<Millis>, wait_ms: u64) -> bool {
    reached.is_some_and(|at| at >= over.plus(wait_ms))
}

/// Whether a unit of the group lets units of the set of this commit run. `aged`: case 3 is allowed.
pub(super) fn quiet(unit: &UnitState, commit: i64, now: Millis, aged: bool, rules: Rules) -> bool {
    if unit.contested(now) {
        return false;
    }
    // The register speaks for others; what runs or still stops here is known better.
    if matches!(unit.mine, Mine::Running(run) if run.set < commit) {
        return false;
    }
    let aged = aged || !rules.barrier_age();
    match unit.last {
        Register::Ours(fields) if fields.held => fields.set >= commit,
        Register::Ours(fields) => fields.at >= commit || aged,
        Register::Empty | Register::Foreign => aged,
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::{Incarnation, RegisterFields};
    use super::super::register::Run;
    use super::*;

    fn record(held: bool, at: i64, set: i64) -> Register {
        Register::Ours(RegisterFields { incarnation: Incarnation(3), claim: 1, held, at, set })
    }

    fn check(last: Register, aged: bool, expected: bool) {
        let mut unit = UnitState::new(Some("c".into()), 0);
        unit.last = last;
        assert_eq!(quiet(&unit, 20, Millis(5), aged, Rules::ALL), expected, "{last:?}, aged: {aged}");
    }

    #[test]
    fn quiet_is_the_new_set_or_a_release_that_knows_it_or_time() {
        for aged in [false, true] {
            check(record(true, 25, 20), aged, true);
            check(record(true, 19, 10), aged, false);
            check(record(true, 25, 10), aged, false);
            check(record(false, 20, 10), aged, true);
        }
        for last in [record(false, 19, 10), Register::Foreign, Register::Empty] {
            check(last, false, false);
            check(last, true, true);
        }
    }

    #[test]
    fn neither_contested_nor_still_stopping_here() {
        let mut unit = UnitState::new(Some("c".into()), 0);
        unit.last = record(true, 25, 20);
        unit.contested_until = Some(Millis(6));
        assert!(!quiet(&unit, 20, Millis(5), true, Rules::ALL));
        assert!(quiet(&unit, 20, Millis(6), true, Rules::ALL));
        unit.mine = Mine::Running(Run { claim: 1, set: 10, suspended: false, stop: None });
        assert!(!quiet(&unit, 20, Millis(6), true, Rules::ALL));
    }

    /// The newest sets of all groups after a fold.
    fn fold(sets: &mut Sets, newest: &[(&str, i64)], now: u64, read_once: bool) {
        sets.begin_fold(Millis(now), read_once);
        for group in ["c", "d"] {
            let commit = newest.iter().find(|(name, _)| *name == group).map(|(_, commit)| *commit);
            let changed = sets.commit(Some(&group.into())) != commit.unwrap_or(NO_SET);
            assert_eq!(sets.fold(&group.into(), commit, Millis(now)), changed);
        }
    }

    fn is_aged(sets: &Sets, group: &str, reached: u64) -> bool {
        sets.aged(Some(&group.into()), Some(Millis(reached)), 1100)
    }

    #[test]
    fn waits_from_the_commit_that_replaced_a_set() {
        let mut sets = Sets::default();
        fold(&mut sets, &[("c", 10)], 0, false);
        fold(&mut sets, &[("c", 20)], 5000, true);
        fold(&mut sets, &[("c", 20), ("d", 21)], 6000, true);
        assert_eq!(sets.commit(Some(&"c".into())), 20);
        assert!(!is_aged(&sets, "c", 6099));
        assert!(is_aged(&sets, "c", 6100));
        assert!(!sets.aged(Some(&"c".into()), None, 1100));
        assert!(is_aged(&sets, "d", 1100), "a new group has no older set");
        assert!(sets.aged(None, None, 1100), "a unit outside of groups has no sets");
    }

    #[test]
    fn what_the_first_reading_finds_may_have_replaced_a_set_just_before() {
        let mut sets = Sets::default();
        fold(&mut sets, &[], 100, false);
        fold(&mut sets, &[("c", 20)], 200, false);
        assert!(!is_aged(&sets, "c", 1299));
        assert!(is_aged(&sets, "c", 1300));
    }

    #[test]
    fn a_group_that_comes_back_waits_from_when_it_went() {
        let mut sets = Sets::default();
        fold(&mut sets, &[("c", 10)], 0, false);
        fold(&mut sets, &[], 5000, true);
        assert!(!is_aged(&sets, "c", 6099), "its left-overs may still be claimed by somebody who lags");
        sets.forget(Some(Millis(6099)), 1100);
        fold(&mut sets, &[("c", 20)], 5500, true);
        assert!(!is_aged(&sets, "c", 6099));
        assert!(is_aged(&sets, "c", 6100));
        fold(&mut sets, &[], 9000, true);
        sets.forget(Some(Millis(10_100)), 1100);
        assert!(sets.gone.is_empty());
    }
}
