//! The register: who may run a unit. The last status record of a unit names its holder.
//!
//! 1. *Claim*: the owner writes a held record when the register is free or its holder's life is over.
//! 2. *Read back*: only a claim that was read counts, and only while it is the last record. Two that claim at once both write; both
//!    read both records, and only the last one counts. Counting a claim when it was written or acknowledged gives two runners.
//! 3. *Age*: whoever reads that a held claim was replaced by a record that does not carry that same claim calls the unit contested, for a little
//!    more than the fence time, counted from the reading. The replaced holder may not have read it yet; its lease ends
//!    by then. After a release there is nothing to wait for. Without the wait: two runners.
//! 4. *Run* while leased. Any other last record: stop hard, without committing; the unit is somebody else's.
//! 5. *Release* after the unit stopped, naming the claim; said again whenever the last record names us and we do not run it. It is a
//!    level, not an event: a release that was lost, or overtaken by a late record, is made good. Without: nobody runs the unit
//!    as long as we live.
//!
//! A claim is written, and used, by who has folded at least as far as the writers of the records that it has read. A worker that lags would take units from one that
//! has just joined, or take what was released for somebody else: one more start, and the wait of 3.
//!
//! Membership does not enter the argument for "never two": a wrong eviction moves a unit, and the registers keep the order.
//! A holder that lives is waited for, so that its unit can stop in order.

use std::sync::Arc;

use super::member::{Incarnation, Millis, Register, RegisterFields, Unit};
use super::protocol::Token;

/// Own part in a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mine {
    /// None. The last record may still name us: then it is released.
    Idle,
    /// A claim was written and not read back.
    Claiming {
        /// Its number.
        claim: u64,
        /// The set that it is for.
        set: i64,
    },
    /// The last record is our claim; nothing runs yet.
    Claimed {
        /// Its number.
        claim: u64,
        /// The set that it is for.
        set: i64,
    },
    /// The caller was told to run it and has not said that it stopped.
    Running(Run),
}

/// A unit that runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The claim that it runs under.
    pub(super) claim: u64,
    /// The set that it belongs to.
    pub(super) set: i64,
    /// Whether it was told to suspend.
    pub(super) suspended: bool,
    /// Whether it was told to stop.
    pub(super) stop: Option<Stop>,
}

/// How a unit was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Commit, then stop.
    Orderly,
    /// Commit nothing: it may be somebody else's.
    Hard,
}

/// A status write that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    /// The request.
    pub(super) token: Token,
    /// The claim that it makes, if it makes one.
    pub(super) claim: Option<u64>,
}

/// What a unit tells the barrier of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BarrierView {
    contested_until: Option<Millis>,
    /// The set of what runs here.
    running: Option<i64>,
    /// Of the last record: the set that it is held for, or up to where the one that released it had folded.
    held: Option<i64>,
    released: Option<i64>,
}

impl BarrierView {
    pub(super) fn of(state: &UnitState) -> Self {
        let running = match state.mine {
            Mine::Running(run) => Some(run.set),
            _ => None,
        };
        let (held, released) = match state.last {
            Register::Ours(fields) if fields.held => (Some(fields.set), None),
            Register::Ours(fields) => (None, Some(fields.at)),
            Register::Empty | Register::Foreign => (None, None),
        };
        BarrierView { contested_until: state.contested_until, running, held, released }
    }
}

/// All that is known of a unit.
#[derive(Debug, Clone)]
pub(super) struct UnitState {
    /// The unit as it is wanted; `None`: it is a left-over.
    pub(super) wanted: Option<Unit>,
    /// The life that should run it, by the last assignment.
    pub(super) owner: Option<Incarnation>,
    /// The scope of its barrier.
    pub(super) group: Option<Arc<str>>,
    /// Its partition of the status topic.
    pub(super) partition: i32,
    /// The last record that was read.
    pub(super) last: Register,
    /// Until when a replaced holder may still run it.
    pub(super) contested_until: Option<Millis>,
    /// Own part.
    pub(super) mine: Mine,
    /// The one status write that may be under way.
    pub(super) writing: Option<Write>,
    /// When the last write was acknowledged or given up. What was read says something about it only when an end was reached
    /// that was asked for after this.
    pub(super) written_at: Option<Millis>,
    /// Not claimed before: another worker may see a better place for it.
    pub(super) claim_at: Millis,
    /// No new write before: the last one failed.
    pub(super) retry_at: Millis,
}

impl UnitState {
    /// A unit of which no record was read.
    pub(super) fn new(group: Option<Arc<str>>, partition: i32) -> Self {
        UnitState {
            wanted: None,
            owner: None,
            group,
            partition,
            last: Register::Empty,
            contested_until: None,
            mine: Mine::Idle,
            writing: None,
            written_at: None,
            claim_at: Millis(0),
            retry_at: Millis(0),
        }
    }

    /// Reads the next record. `own` is the life of this worker, `wait_ms` how long a replaced holder may still run.
    /// Returns the claim that has to stop hard.
    pub(super) fn read(
        &mut self,
        register: Register,
        own: Option<Incarnation>,
        now: Millis,
        wait_ms: u64,
    ) -> Option<u64> {
        if let Some(replaced) = self.last.holder() {
            let same = matches!(&register, Register::Ours(next) if next.same_claim(replaced));
            // Own claims need no wait: we know what runs here, and start nothing before it has stopped.
            if !same && Some(replaced.incarnation) != own {
                self.contested_until = Some(now.plus(wait_ms));
            }
        }
        self.last = register;
        let held = register.holder().filter(|fields| Some(fields.incarnation) == own).map(|fields| fields.claim);
        match self.mine {
            Mine::Claiming { claim, set } if held == Some(claim) => {
                self.mine = Mine::Claimed { claim, set };
                None
            }
            Mine::Claimed { claim, .. } if held != Some(claim) => {
                self.mine = Mine::Idle;
                None
            }
            Mine::Running(run) if held != Some(run.claim) => self.stop_hard(),
            _ => None,
        }
    }

    /// The unit is not ours any more, or must be treated so. Returns the claim that has to stop hard, once.
    pub(super) fn stop_hard(&mut self) -> Option<u64> {
        match &mut self.mine {
            Mine::Running(run) if run.stop != Some(Stop::Hard) => {
                run.stop = Some(Stop::Hard);
                Some(run.claim)
            }
            Mine::Running(_) => None,
            mine => {
                *mine = Mine::Idle;
                None
            }
        }
    }

    /// A status write was acknowledged (`retry_at` is `None`) or given up.
    pub(super) fn written(&mut self, token: Token, now: Millis, retry_at: Option<Millis>) {
        let Some(write) = self.writing.filter(|write| write.token == token) else { return };
        self.writing = None;
        self.written_at = Some(now);
        if let Some(retry_at) = retry_at {
            self.retry_at = retry_at;
            // It may still land. Then the register names us, and a release is said.
            if matches!(self.mine, Mine::Claiming { claim, .. } if Some(claim) == write.claim) {
                self.mine = Mine::Idle;
            }
        }
    }

    /// Whether everything that we wrote was read, if it landed: an end was reached that was asked for at `reached`.
    pub(super) fn own_writes_read(&self, reached: Option<Millis>) -> bool {
        self.writing.is_none() && self.written_at.is_none_or(|written| reached.is_some_and(|at| at > written))
    }

    /// Whether a replaced holder may still run it.
    pub(super) fn contested(&self, now: Millis) -> bool {
        self.contested_until.is_some_and(|until| now < until)
    }

    /// Whether a claim may be written: nobody holds it, or the holder's life is over.
    pub(super) fn free(&self, own: Incarnation, is_member: impl Fn(Incarnation) -> bool, wait_release: bool) -> bool {
        match self.last.holder() {
            None => true,
            Some(held) if held.incarnation == own => false,
            Some(held) => !wait_release || !is_member(held.incarnation),
        }
    }

    /// Whether who has folded up to here has seen what the writer of the last record had.
    pub(super) fn known(&self, position: i64) -> bool {
        !matches!(self.last, Register::Ours(fields) if fields.at >= position)
    }

    /// The claim to release: the last record names us and nothing of it is ours any more.
    pub(super) fn to_release(&self, own: Incarnation) -> Option<RegisterFields> {
        let held = self.last.holder().filter(|held| held.incarnation == own)?;
        (self.mine == Mine::Idle).then_some(*held)
    }

    /// What the assignment looks at: whether it is wanted, and who holds it. That is this worker, whose life is `own`, as soon as it claims the unit: its
    /// record will be the last one where it lands, and whoever does not count it claims more than there is room for.
    pub(super) fn placed(&self, own: Option<Incarnation>) -> Option<Option<Incarnation>> {
        self.wanted.as_ref().map(|_| match self.mine {
            Mine::Claiming { .. } => own,
            _ => self.holder(),
        })
    }

    /// The life that the last record names as the holder.
    pub(super) fn holder(&self) -> Option<Incarnation> {
        self.last.holder().map(|held| held.incarnation)
    }

    /// Whether nothing needs this entry any more.
    pub(super) fn forgettable(&self, now: Millis) -> bool {
        self.wanted.is_none()
            && self.last == Register::Empty
            && self.mine == Mine::Idle
            && self.writing.is_none()
            && !self.contested(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Option<Incarnation> = Some(Incarnation(7));
    const WAIT: u64 = 1100;

    fn record(incarnation: i64, claim: u64, held: bool) -> Register {
        Register::Ours(RegisterFields { incarnation: Incarnation(incarnation), claim, held, at: 0, set: -1 })
    }

    /// Reads records at 0, 1, 2 ... and returns until when the unit is contested, and what its own part is.
    fn read(mine: Mine, records: &[Register]) -> (Option<u64>, Mine, Vec<u64>) {
        let mut unit = UnitState::new(None, 0);
        unit.mine = mine;
        let mut stopped = Vec::new();
        for (at, register) in records.iter().enumerate() {
            stopped.extend(unit.read(*register, OWN, Millis(at as u64), WAIT));
        }
        (unit.contested_until.map(|at| at.0), unit.mine, stopped)
    }

    #[test]
    fn contested_is_a_held_claim_that_another_record_replaces() {
        let contested = |records: &[Register]| read(Mine::Idle, records).0;
        assert_eq!(contested(&[record(3, 1, true)]), None, "it replaces nothing");
        assert_eq!(contested(&[record(3, 1, true), record(3, 1, true)]), None, "a later status of the same claim");
        assert_eq!(contested(&[record(3, 1, true), record(3, 1, false)]), None, "its release");
        assert_eq!(contested(&[record(3, 1, false), record(4, 1, true)]), None, "it was released");
        assert_eq!(contested(&[record(3, 1, true), record(4, 1, true)]), Some(1 + WAIT));
        assert_eq!(contested(&[record(3, 1, true), record(3, 2, true)]), Some(1 + WAIT), "another claim of that life");
        assert_eq!(
            contested(&[record(3, 2, true), record(3, 1, false)]),
            Some(1 + WAIT),
            "the release of another claim"
        );
        assert_eq!(contested(&[record(3, 1, true), Register::Empty]), Some(1 + WAIT));
        assert_eq!(contested(&[record(3, 1, true), Register::Foreign]), Some(1 + WAIT));
        assert_eq!(contested(&[record(7, 1, true), record(4, 1, true)]), None, "we know what runs here");
        assert_eq!(
            contested(&[record(3, 1, true), record(4, 1, true), record(4, 1, false)]),
            Some(1 + WAIT),
            "the release of the second says nothing of the first"
        );
    }

    #[test]
    fn a_claim_counts_from_reading_it_to_reading_anything_else() {
        let claiming = Mine::Claiming { claim: 2, set: -1 };
        let claimed = Mine::Claimed { claim: 2, set: -1 };
        assert_eq!(read(claiming, &[record(7, 1, true)]).1, claiming, "an older claim of ours");
        assert_eq!(read(claiming, &[record(8, 2, true)]).1, claiming, "the same number of another life");
        assert_eq!(read(claiming, &[record(7, 2, true)]).1, claimed);
        assert_eq!(read(claiming, &[record(7, 2, true), record(7, 2, true)]).1, claimed);
        for other in [record(8, 1, true), record(7, 2, false), record(7, 1, true), Register::Foreign, Register::Empty] {
            assert_eq!(read(claiming, &[record(7, 2, true), other]).1, Mine::Idle, "{other:?}");
        }
    }

    #[test]
    fn any_other_last_record_stops_it_hard_and_once() {
        let running = Mine::Running(Run { claim: 2, set: -1, suspended: false, stop: None });
        assert_eq!(read(running, &[record(7, 2, true)]).2, [0u64; 0]);
        assert_eq!(read(running, &[record(7, 2, true), record(8, 1, true), record(8, 1, false)]).2, [2]);
        let stopping = Mine::Running(Run { claim: 2, set: -1, suspended: false, stop: Some(Stop::Orderly) });
        assert_eq!(read(stopping, &[Register::Foreign]).2, [2], "also while it stops in order");
    }

    #[test]
    fn a_write_that_failed_may_still_land_and_is_then_released() {
        let mut unit = UnitState::new(None, 0);
        unit.mine = Mine::Claiming { claim: 2, set: -1 };
        unit.writing = Some(Write { token: Token(9), claim: Some(2) });
        unit.written(Token(8), Millis(5), Some(Millis(505)));
        assert!(unit.writing.is_some(), "the answer to something else");
        unit.written(Token(9), Millis(5), Some(Millis(505)));
        assert_eq!((unit.mine, unit.writing), (Mine::Idle, None));
        assert!(unit.to_release(Incarnation(7)).is_none());
        assert_eq!(unit.read(record(7, 2, true), OWN, Millis(6), WAIT), None);
        assert_eq!(unit.to_release(Incarnation(7)).map(|fields| fields.claim), Some(2));
        assert!(unit.to_release(Incarnation(8)).is_none(), "another life of ours is over and releases nothing");
    }

    #[test]
    fn own_writes_are_read_when_an_end_asked_for_later_is_reached() {
        let mut unit = UnitState::new(None, 0);
        assert!(unit.own_writes_read(None));
        unit.writing = Some(Write { token: Token(9), claim: None });
        assert!(!unit.own_writes_read(Some(Millis(100))));
        unit.written(Token(9), Millis(50), None);
        assert!(!unit.own_writes_read(Some(Millis(50))));
        assert!(unit.own_writes_read(Some(Millis(51))));
    }

    #[test]
    fn free_is_nobody_or_a_life_that_is_over() {
        let mut unit = UnitState::new(None, 0);
        let free = |unit: &UnitState| unit.free(Incarnation(7), |life| life == Incarnation(4), true);
        for (register, expected) in [
            (Register::Empty, true),
            (Register::Foreign, true),
            (record(4, 1, false), true),
            (record(4, 1, true), false),
            (record(3, 1, true), true),
            (record(7, 1, true), false),
        ] {
            unit.last = register;
            assert_eq!(free(&unit), expected, "{register:?}");
        }
    }
}
