//! Does another member live? Asked before anybody is declared gone.
//!
//! One refused connection proves little: a proxy, a full backlog, a process that is just stopping. A wrong answer costs a move of
//! units, never two runners; the registers see to that.

use std::collections::BTreeMap;

use super::member::{Incarnation, Member, Millis};
use super::protocol::{Action, Token};

/// Probes without an answer, in a row, after which a member counts as dead.
const ATTEMPTS: u32 = 3;

/// Between two probes of a member that did not answer.
const INTERVAL_MS: u64 = 100;

/// Until a member that answered is asked again, and until a failed tombstone is tried again: at most one eviction
/// per second.
const PAUSE_MS: u64 = 1_000;

/// A probe that the caller did not answer by then counts as not answered.
const PATIENCE_MS: u64 = 5_000;

/// What is known of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not yet.
    Unknown,
    /// It answered.
    Alive,
    /// It did not.
    Dead,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    verdict: Verdict,
    failures: u32,
    asked_at: Option<Millis>,
    next_at: Millis,
    tombstone: Option<Token>,
}

/// The probes of all other members, by their lives.
#[derive(Default)]
pub(super) struct Probes {
    probes: BTreeMap<Incarnation, Probe>,
}

impl Probes {
    /// What is known of this member; asks when that is due.
    pub(super) fn verdict(&mut self, member: &Member, now: Millis, actions: &mut Vec<Action>) -> Verdict {
        let probe = self.probes.entry(member.incarnation).or_insert(Probe {
            verdict: Verdict::Unknown,
            failures: 0,
            asked_at: None,
            next_at: now,
            tombstone: None,
        });
        if probe.asked_at.is_some_and(|at| now.since(at) >= PATIENCE_MS) {
            probe.answered(false, now);
        }
        if probe.verdict != Verdict::Dead && probe.asked_at.is_none() && now >= probe.next_at {
            probe.asked_at = Some(now);
            let (worker, incarnation, nonce) = (member.id.clone(), member.incarnation, member.nonce);
            actions.push(Action::Probe { worker, incarnation, nonce });
        }
        probe.verdict
    }

    /// An answer, or that there was none.
    pub(super) fn answered(&mut self, incarnation: Incarnation, alive: bool, now: Millis) {
        if let Some(probe) = self.probes.get_mut(&incarnation) {
            probe.answered(alive, now);
        }
    }

    /// Asks for the tombstone of a member that is dead, unless that is under way or was done.
    pub(super) fn tombstone(&mut self, member: &Member, token: impl FnOnce() -> Token, actions: &mut Vec<Action>) {
        let Some(probe) = self.probes.get_mut(&member.incarnation) else { return };
        if probe.verdict == Verdict::Dead && probe.tombstone.is_none() {
            let token = token();
            probe.tombstone = Some(token);
            let (worker, incarnation) = (member.id.clone(), member.incarnation);
            actions.push(Action::CompareAndTombstone { token, worker, incarnation });
        }
    }

    /// A tombstone was refused or did not come through: the member is asked once more before the next attempt. Whether it was one of these.
    pub(super) fn tombstone_failed(&mut self, token: Token, now: Millis) -> bool {
        let Some(probe) = self.probes.values_mut().find(|probe| probe.tombstone == Some(token)) else { return false };
        let next_at = now.plus(PAUSE_MS);
        *probe = Probe { verdict: Verdict::Unknown, failures: 0, asked_at: None, next_at, tombstone: None };
        true
    }

    /// How many lives were asked for.
    pub(super) fn count(&self) -> usize {
        self.probes.len()
    }

    /// Forgets those who are not members any more.
    pub(super) fn retain(&mut self, members: &[Member]) {
        self.probes.retain(|life, _| members.iter().any(|member| member.incarnation == *life));
    }

    /// When something is due.
    pub(super) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        let due = |probe: &Probe| match (probe.verdict, probe.asked_at) {
            (_, Some(at)) => Some(at.plus(PATIENCE_MS)),
            (Verdict::Dead, None) => None,
            (_, None) => Some(probe.next_at),
        };
        self.probes.values().filter_map(due).filter(|at| *at > now).min()
    }
}

impl Probe {
    fn answered(&mut self, alive: bool, now: Millis) {
        self.asked_at = None;
        if alive {
            (self.verdict, self.failures, self.next_at) = (Verdict::Alive, 0, now.plus(PAUSE_MS));
            return;
        }
        self.failures += 1;
        self.next_at = now.plus(INTERVAL_MS);
        if self.failures >= ATTEMPTS {
            self.verdict = Verdict::Dead;
        }
    }
}
