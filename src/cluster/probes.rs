//! Does another member live? Asked before anybody is declared gone.
//!
//! One refused connection proves little: a proxy, a full backlog, a process that is just stopping. So a member that does not answer is asked again, and
//! then through others: a link that is cut is not the end of a process. Whom gossip has lost as well is asked by all of them at once: a machine that is silent
//! lets each question run into its time-out. A wrong answer costs a move of units, never two runners; the registers see to that.

use std::collections::BTreeMap;

use super::member::{Incarnation, Member, Millis, WorkerId};
use super::protocol::{Action, ProbeAnswer, Token};

/// Rounds of questions without an answer, in a row, after which others are asked.
const ATTEMPTS: u32 = 3;

/// Other members that are asked, at once, whether they reach one that does not answer here. When none does, it counts as dead.
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

/// Questions that were asked at once.
#[derive(Debug, Clone, Copy)]
struct Round {
    begun_at: Millis,
    pending: usize,
    /// Whether others were asked, too.
    others: bool,
    /// Without an answer it is dead.
    decides: bool,
    is_answered: bool,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    verdict: Verdict,
    /// Rounds without an answer, in a row.
    failures: u32,
    /// When the first question of them failed.
    silent_since: Option<Millis>,
    round: Option<Round>,
    next_at: Millis,
    tombstone: Option<Token>,
}

/// How a member is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// Who can be asked instead, in this order.
    pub(super) others: &'a [WorkerId],
    /// Gossip speaks for its death: the last one of so many rounds is asked of all at once.
    pub(super) hurry: Option<u32>,
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
    /// What is known of this member; asks when that is due.
    pub(super) fn verdict(
        &mut self,
        member: &Member,
        manner: Manner<'_>,
        now: Millis,
        actions: &mut Vec<Action>,
    ) -> Verdict {
        if self.probes.get(&member.incarnation).is_some_and(|probe| probe.is_overdue(now)) {
            self.change(member.incarnation, |probe| probe.give_up(now), now);
        }
        let probe = self.probes.entry(member.incarnation).or_insert(Probe::new(now));
        let others: Vec<&WorkerId> =
            manner.others.iter().filter(|other| **other != member.id).take(OTHERS_ASKED).collect();
        let Questions { own, through_others } = probe.ask(&others, manner.hurry, now);
        let question = |via: Option<&WorkerId>| Action::Probe {
            worker: member.id.clone(),
            incarnation: member.incarnation,
            nonce: member.nonce,
            via: via.cloned(),
        };
        actions.extend(own.then(|| question(None)));
        actions.extend(others.into_iter().filter(|_| through_others).map(|other| question(Some(other))));
        probe.verdict
    }

    /// An answer, or that there was none.
    pub(super) fn answered(&mut self, incarnation: Incarnation, answer: ProbeAnswer, now: Millis) {
        if self.probes.get(&incarnation).is_some_and(|probe| probe.round.is_some()) {
            if answer != ProbeAnswer::Silence {
                self.contact = Some(now);
            }
            self.change(incarnation, |probe| probe.answered(answer == ProbeAnswer::Alive, now), now);
        }
    }

    /// When somebody falls silent, those who answered before are asked as well: all of them may be, to this worker.
    fn change(&mut self, incarnation: Incarnation, change: impl FnOnce(&mut Probe), now: Millis) {
        let Some(probe) = self.probes.get_mut(&incarnation) else { return };
        let was_silent = probe.silent_since.is_some();
        change(probe);
        if !was_silent && probe.silent_since.is_some() {
            let others = self.probes.iter_mut().filter(|(life, _)| **life != incarnation).map(|(_, probe)| probe);
            others.for_each(|probe| probe.suspect(now));
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
        if let Some(probe) = self.probes.get_mut(&incarnation) {
            probe.suspect(now);
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
        let due = |probe: &Probe| match (probe.tombstone, probe.round) {
            (_, Some(round)) => Some(round.begun_at.plus(PATIENCE_MS)),
            (Some(_), None) => None,
            (None, None) => Some(probe.next_at),
        };
        self.probes.values().filter_map(due).filter(|at| *at > now).min()
    }
}

/// Who is asked now.
struct Questions {
    own: bool,
    through_others: bool,
}

impl Probe {
    fn new(next_at: Millis) -> Self {
        Probe { verdict: Verdict::Unknown, failures: 0, silent_since: None, round: None, next_at, tombstone: None }
    }

    fn is_overdue(&self, now: Millis) -> bool {
        self.round.is_some_and(|round| now.since(round.begun_at) >= PATIENCE_MS)
    }

    fn is_dead(&self) -> bool {
        matches!(self.verdict, Verdict::Dead { .. })
    }

    /// Begins a round where one is due, or asks others as well where there is hurry now.
    fn ask(&mut self, others: &[&WorkerId], hurry: Option<u32>, now: Millis) -> Questions {
        // One that counts as dead is asked itself again, in case that it comes back.
        let is_last = hurry.is_some_and(|rounds| self.failures + 1 >= rounds) && !self.is_dead();
        if let Some(round) = &mut self.round {
            let through_others = is_last && !round.others;
            if through_others {
                (round.others, round.decides) = (true, true);
                round.pending += others.len();
            }
            return Questions { own: false, through_others };
        }
        if self.tombstone.is_some() || now < self.next_at {
            return Questions { own: false, through_others: false };
        }
        let is_their_turn = hurry.is_none() && self.failures >= ATTEMPTS && !self.is_dead();
        let through_others = is_last || is_their_turn;
        let own = !is_their_turn || others.is_empty();
        let are_all_asked = others.is_empty() && self.failures + 1 >= ATTEMPTS;
        self.round = Some(Round {
            begun_at: now,
            pending: usize::from(own) + if through_others { others.len() } else { 0 },
            others: through_others,
            decides: through_others || are_all_asked,
            is_answered: false,
        });
        Questions { own, through_others }
    }

    fn answered(&mut self, alive: bool, now: Millis) {
        let Some(round) = &mut self.round else { return };
        round.pending -= 1;
        round.is_answered |= alive;
        let round = *round;
        if alive {
            (self.verdict, self.failures, self.silent_since) = (Verdict::Alive, 0, None);
        } else if !round.is_answered {
            self.silent_since.get_or_insert(now);
        }
        if round.pending == 0 {
            self.end_round(round, now);
        }
    }

    /// What was not answered yet counts as silence.
    fn give_up(&mut self, now: Millis) {
        if let Some(round) = self.round {
            self.silent_since = self.silent_since.or((!round.is_answered).then_some(now));
            self.end_round(round, now);
        }
    }

    fn end_round(&mut self, round: Round, now: Millis) {
        self.round = None;
        if round.is_answered {
            self.next_at = now.plus(PAUSE_MS);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let wait = match (round.decides || self.is_dead(), self.failures < ATTEMPTS) {
            (true, _) => PAUSE_MS,
            (false, true) => INTERVAL_MS,
            (false, false) => 0,
        };
        self.next_at = now.plus(wait);
        if round.decides && !self.is_dead() {
            self.verdict = Verdict::Dead { since: now, silent_since: self.silent_since.unwrap_or(now) };
        }
    }

    /// It is asked now, unless that goes on anyway.
    fn suspect(&mut self, now: Millis) {
        if self.silent_since.is_none() && self.tombstone.is_none() {
            self.next_at = self.next_at.min(now);
        }
    }
}
