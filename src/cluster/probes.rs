//! Does another member live? Asked before anybody is declared gone.
//!
//! One refused connection proves little: a proxy, a full backlog, a process that is just stopping. So a member that does not answer is asked again, and
//! then through others: a link that is cut is not the end of a process. A wrong answer costs a move of
//! units, never two runners; the registers see to that.

use std::collections::BTreeMap;

use super::member::{Incarnation, Member, Millis, WorkerId};
use super::protocol::{Action, ProbeAnswer, Token};

/// Probes without an answer, in a row, after which others are asked.
const ATTEMPTS: u32 = 3;

/// Other members that are asked whether they reach one that does not answer here. When none does, it counts as dead.
const OTHERS_ASKED: usize = 2;

/// Between two probes of a member that did not answer.
const INTERVAL_MS: u64 = 100;

/// Until a member that answered is asked again, or one that counts as dead, and until a failed tombstone is tried again.
const PAUSE_MS: u64 = 1_000;

/// Between two evictions by this worker: if it is the one that is wrong, it does little harm before others have evicted it.
const EVICTION_INTERVAL_MS: u64 = 1_000;

/// A probe that the caller did not answer by then counts as not answered.
const PATIENCE_MS: u64 = 5_000;

/// What is known of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not yet.
    Unknown,
    /// It answered, here or another member.
    Alive,
    /// It did not, which is known since then; and when that began.
    Dead { since: Millis, silent_since: Millis },
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    verdict: Verdict,
    failures: u32,
    /// When the first of them came.
    silent_since: Millis,
    /// As many make it dead.
    failures_max: u32,
    asked_at: Option<Millis>,
    next_at: Millis,
    tombstone: Option<Token>,
}

/// The probes of all other members, by their lives.
#[derive(Default)]
pub(super) struct Probes {
    probes: BTreeMap<Incarnation, Probe>,
    /// No eviction before this.
    evict_at: Millis,
    /// When another member answered last, whatever it said.
    contact: Option<Millis>,
}

impl Probes {
    /// What is known of this member; asks when that is due. `others` can be asked instead, in this order.
    pub(super) fn verdict(
        &mut self,
        member: &Member,
        others: &[WorkerId],
        now: Millis,
        actions: &mut Vec<Action>,
    ) -> Verdict {
        if self.probes.get(&member.incarnation).is_some_and(|probe| probe.is_overdue(now)) {
            self.answered(member.incarnation, ProbeAnswer::Silence, now);
        }
        let probe = self.probes.entry(member.incarnation).or_insert(Probe::new(now));
        if probe.asked_at.is_none() && probe.tombstone.is_none() && now >= probe.next_at {
            let others: Vec<&WorkerId> =
                others.iter().filter(|other| **other != member.id).take(OTHERS_ASKED).collect();
            probe.failures_max = ATTEMPTS + others.len() as u32;
            probe.asked_at = Some(now);
            // One that counts as dead is asked itself again, in case that it comes back.
            let other = probe.failures.checked_sub(ATTEMPTS).filter(|_| !probe.is_dead());
            let via = other.and_then(|other| others.get(other as usize)).map(|other| (*other).clone());
            let (worker, incarnation, nonce) = (member.id.clone(), member.incarnation, member.nonce);
            actions.push(Action::Probe { worker, incarnation, nonce, via });
        }
        probe.verdict
    }

    /// An answer, or that there was none. When somebody falls silent, those who answered before are asked as well: all of them may be, to this worker.
    pub(super) fn answered(&mut self, incarnation: Incarnation, answer: ProbeAnswer, now: Millis) {
        let Some(probe) = self.probes.get_mut(&incarnation).filter(|probe| probe.asked_at.is_some()) else { return };
        probe.answered(answer == ProbeAnswer::Alive, now);
        let falls_silent = probe.failures == 1;
        if answer != ProbeAnswer::Silence {
            self.contact = Some(now);
        }
        if falls_silent {
            let others = self.probes.iter_mut().filter(|(life, _)| **life != incarnation).map(|(_, probe)| probe);
            for probe in others.filter(|probe| probe.failures == 0 && probe.tombstone.is_none()) {
                probe.next_at = probe.next_at.min(now);
            }
        }
    }

    /// Whether it answered when it was asked last.
    pub(super) fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.probes.get(&incarnation).is_some_and(|probe| probe.verdict == Verdict::Alive)
    }

    /// Who counted as dead has to be silent anew, unless it is being removed.
    pub(super) fn forget_dead(&mut self, now: Millis) {
        for probe in self.probes.values_mut().filter(|probe| probe.is_dead() && probe.tombstone.is_none()) {
            *probe = Probe::new(now);
        }
    }

    /// When a member answered last, about itself or another one.
    pub(super) fn contact(&self) -> Option<Millis> {
        self.contact
    }

    /// Something speaks for the death of this member: it is asked now.
    pub(super) fn suspect(&mut self, incarnation: Incarnation, now: Millis) {
        if let Some(probe) = self.probes.get_mut(&incarnation).filter(|probe| probe.failures == 0) {
            probe.next_at = probe.next_at.min(now);
        }
    }

    /// Asks for the tombstone of a member that is gone, unless that is under way or was done, or another one was asked for just now.
    pub(super) fn tombstone(
        &mut self,
        member: &Member,
        now: Millis,
        token: impl FnOnce() -> Token,
        actions: &mut Vec<Action>,
    ) {
        let Some(probe) = self.probes.get_mut(&member.incarnation) else { return };
        if probe.tombstone.is_none() && now >= self.evict_at {
            let token = token();
            self.evict_at = now.plus(EVICTION_INTERVAL_MS);
            probe.tombstone = Some(token);
            let (worker, incarnation) = (member.id.clone(), member.incarnation);
            actions.push(Action::CompareAndTombstone { token, worker, incarnation });
        }
    }

    /// A tombstone was refused or did not come through: the member is asked anew before the next attempt. Whether it was one of these.
    pub(super) fn tombstone_failed(&mut self, token: Token, now: Millis) -> bool {
        let Some(probe) = self.probes.values_mut().find(|probe| probe.tombstone == Some(token)) else { return false };
        *probe = Probe::new(now.plus(PAUSE_MS));
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

    /// When a probe is due.
    pub(super) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        let due = |probe: &Probe| match (probe.tombstone, probe.asked_at) {
            (_, Some(at)) => Some(at.plus(PATIENCE_MS)),
            (Some(_), None) => None,
            (None, None) => Some(probe.next_at),
        };
        self.probes.values().filter_map(due).filter(|at| *at > now).min()
    }
}

impl Probe {
    fn new(next_at: Millis) -> Self {
        let verdict = Verdict::Unknown;
        Probe {
            verdict,
            failures: 0,
            silent_since: next_at,
            failures_max: ATTEMPTS,
            asked_at: None,
            next_at,
            tombstone: None,
        }
    }

    fn is_overdue(&self, now: Millis) -> bool {
        self.asked_at.is_some_and(|at| now.since(at) >= PATIENCE_MS)
    }

    fn is_dead(&self) -> bool {
        matches!(self.verdict, Verdict::Dead { .. })
    }

    fn answered(&mut self, alive: bool, now: Millis) {
        self.asked_at = None;
        if alive {
            (self.verdict, self.failures, self.next_at) = (Verdict::Alive, 0, now.plus(PAUSE_MS));
            return;
        }
        if self.failures == 0 {
            self.silent_since = now;
        }
        self.failures = (self.failures + 1).min(self.failures_max);
        let wait = if self.failures < ATTEMPTS { INTERVAL_MS } else { 0 };
        self.next_at = now.plus(wait);
        if self.failures >= self.failures_max {
            self.next_at = now.plus(PAUSE_MS);
            if !self.is_dead() {
                self.verdict = Verdict::Dead { since: now, silent_since: self.silent_since };
            }
        }
    }
}
