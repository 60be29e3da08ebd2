//! Being a member: join, be refused, be evicted and join again, drain and leave.
//!
//! A member is who has a value in its last `worker-*` record. Gone is a tombstone, whoever wrote it. A process knows its record by a nonce; the
//! offset of the record is its incarnation. A join whose acknowledgement is unknown is not sent again: the next attempt has a new nonce,
//! and whichever record of ours is read is the one that counts.
//!
//! * *Join* after the config topic was read to an end, the Java group is empty, and of the members that are watched one answers or none lives:
//!   a worker that sees nobody although somebody is there would evict all of them. Who was evicted and sees nobody waits longer. Beside others it waits until nobody is leased with an older view than that with which it begins
//!   (see `barrier`). The living holder of the own id is an error, a dead one is replaced by
//!   the own `joined`.
//! * *Act* when the own reader has folded the record, never on its acknowledgement.
//! * *A living worker of another `group.id`* was there first: exit. Whose connectors are whose, nobody could tell.
//! * *A foreign nonce under the own id*: stop everything and exit. Two processes with one id would evict each other in turn.
//! * *Evicted* (no record any more): stop everything, join again after 1 s, 2 s ... 60 s. Without the back-off two workers that do not see each other
//!   evict each other without end.
//! * *Evict* who is gone (see `watch`), by compare-and-append, so that a record that changed in between stays. Only who is leased evicts.
//! * *Settle*: who has held its share of the units for half a second says so, and takes none from others any more.
//! * *Leave*: `draining`, everything stopped and released, then the tombstone. The other order would let others see a life as over
//!   whose units still stop.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::control_plane::Settings;
use super::member::{Incarnation, Member, MemberState, Millis, Nonce, WorkerId};
use super::probes::Verdict;
use super::protocol::{Action, ExitReason, Peer, ProbeAnswer, Token};
use super::watch::{Answers, Watch};

/// How often the Java group is looked at.
const JAVA_GROUP_INTERVAL_MS: u64 = 3_000;

/// First and longest wait before another attempt to join.
const BACK_OFF_MS: u64 = 1_000;
const MAX_BACK_OFF_MS: u64 = 60_000;

/// Between two attempts to write a record of the own life.
const RETRY_MS: u64 = 500;

/// How long a worker holds its share before it says so. Who reads that it does, and not yet its last claims, would take these units for free ones.
const SETTLED_AFTER_MS: u64 = 500;

/// For how long before its deadline a worker that leaves waits for no lease: its tasks stop meanwhile, without a commit.
const LAST_MOMENT_MS: u64 = 1_000;

/// For how long an evicted worker that reaches nobody waits for an answer before it joins all the same: others that live would evict it again, and it has taken
/// units from them meanwhile. If they are all gone, nothing runs for so long.
const ALONE_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reads, asks who lives, has no record in flight.
    Looking,
    /// `joined` is written; whether it landed is seen by reading.
    Joining { token: Token, written_at: Option<Millis> },
    /// Its record was folded.
    Member { incarnation: Incarnation, since: Millis },
    /// Hands everything over.
    Leaving { incarnation: Incarnation, step: Leave },
    /// Evicted, or the join failed.
    BackOff { until: Millis },
    /// Nothing is done any more.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    Draining(Token),
    Drained,
    Gone(Token),
    Retry(Millis),
    Done,
}

/// What the rest of the control plane says when membership goes on.
pub(super) struct Surroundings {
    /// Whether the config topic is leased.
    pub(super) leased: bool,
    /// Whether all status partitions are, too.
    pub(super) all_leased: bool,
    /// When the newest question was asked whose answer was reached for the config topic.
    pub(super) reached: Option<Millis>,
    /// What still runs or is held here; `None` when nothing is. Looked up only while shutting down.
    pub(super) busy: Option<Arc<str>>,
    /// This worker holds its share of the units.
    pub(super) has_share: bool,
    /// Nobody can be leased with a view that is older than what this worker found when it began.
    pub(super) first_aged: bool,
    /// Partitions to ask whether they take records: an append was not acknowledged, and none is under way that could be.
    pub(super) doubts: Vec<Option<i32>>,
}

/// The record that says that this worker is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    /// This worker does not hold its share.
    Lacking,
    /// It is not written, and not before this.
    Due(Millis),
    /// It is under way, or waits to be read.
    Written(Token),
}

/// The part of this worker in the group.
pub(super) struct Membership {
    id: WorkerId,
    group_id: Arc<str>,
    nonce_seed: u64,
    nonces: u64,
    phase: Phase,
    members: Arc<[Member]>,
    watch: Watch,
    /// Lives of workers of other groups that did not answer when this worker joined.
    strangers_gone: BTreeSet<Incarnation>,
    /// Own `worker.fence.timeout.ms`.
    fence_ms: u64,
    members_max: usize,
    /// When this worker was evicted, until it has joined again.
    evicted_at: Option<Millis>,
    java_live: Option<bool>,
    java_ask_at: Millis,
    attempts: u32,
    deadline: Option<Millis>,
    settling: Settling,
}

impl Membership {
    pub(super) fn new(settings: &Settings) -> Self {
        let Settings { fence_ms, nonce_seed, members_max, .. } = *settings;
        let id = settings.worker_id.clone();
        Membership {
            watch: Watch::new(id.clone()),
            group_id: settings.group_id.clone(),
            strangers_gone: BTreeSet::new(),
            evicted_at: None,
            fence_ms,
            members_max,
            id,
            nonce_seed,
            nonces: 0,
            phase: Phase::Looking,
            members: Arc::new([]),
            java_live: None,
            java_ask_at: Millis(0),
            attempts: 0,
            deadline: None,
            settling: Settling::Lacking,
        }
    }

    /// Own life, while the fold shows it.
    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        match self.phase {
            Phase::Member { incarnation, .. } | Phase::Leaving { incarnation, .. } => Some(incarnation),
            _ => None,
        }
    }

    /// Everyone whose record has a value.
    pub(super) fn members(&self) -> &Arc<[Member]> {
        &self.members
    }

    /// Whether this life is over or unknown to the fold.
    pub(super) fn is_member(&self, incarnation: Incarnation) -> bool {
        self.members.iter().any(|member| member.incarnation == incarnation)
    }

    /// How many members are remembered that were probed or have gossiped.
    pub(super) fn watched_members(&self) -> usize {
        self.watch.kept()
    }

    /// Whether it leaves.
    pub(super) fn leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Whether its tombstone is on its way, or it has left.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Leaving { step: Leave::Gone(_) | Leave::Done, .. } | Phase::Ended)
    }

    /// Whether it leaves, and nothing waits for a lease to come back any more.
    pub(super) fn ends(&self, now: Millis) -> bool {
        self.leaving() && self.last_moment().is_some_and(|at| now >= at)
    }

    fn last_moment(&self) -> Option<Millis> {
        Some(Millis(self.deadline?.0.saturating_sub(LAST_MOMENT_MS)))
    }

    /// Whether Java workers were there when last asked.
    pub(super) fn java_live(&self) -> bool {
        self.java_live == Some(true)
    }

    pub(super) fn folded(&mut self, members: Arc<[Member]>) {
        if self.members != members {
            self.watch.folded(&members);
            self.strangers_gone.retain(|life| members.iter().any(|member| member.incarnation == *life));
        }
        self.members = members;
    }

    pub(super) fn probed(&mut self, incarnation: Incarnation, answer: ProbeAnswer, now: Millis) {
        self.watch.answered(incarnation, answer, now);
    }

    pub(super) fn suspected(&mut self, incarnation: Incarnation, now: Millis) {
        self.watch.suspect(incarnation, now);
    }

    /// Who lives by gossip.
    pub(super) fn peers(&mut self, peers: &[Peer], now: Millis) {
        self.watch.peers(peers, now);
    }

    pub(super) fn java_group(&mut self, live: bool) {
        self.java_live = Some(live);
    }

    pub(super) fn shut_down(&mut self, deadline: Millis) {
        self.deadline = Some(self.deadline.map_or(deadline, |before| before.min(deadline)));
    }

    /// Whether it was told to leave.
    pub(super) fn shutting_down(&self) -> bool {
        self.deadline.is_some()
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
    }

    /// A write of this worker's membership, or a tombstone for another, is stored.
    pub(super) fn appended(&mut self, token: Token, now: Millis) {
        match &mut self.phase {
            Phase::Joining { token: own, written_at } if *own == token => *written_at = Some(now),
            Phase::Leaving { step, .. } if *step == Leave::Draining(token) => *step = Leave::Drained,
            Phase::Leaving { step, .. } if *step == Leave::Gone(token) => *step = Leave::Done,
            _ => {}
        }
    }

    /// It is not, or nobody knows.
    pub(super) fn append_failed(&mut self, token: Token, now: Millis) {
        if self.watch.tombstone_failed(token, now) {
            return;
        }
        if self.settling == Settling::Written(token) {
            self.settling = Settling::Due(now.plus(RETRY_MS));
        }
        match &mut self.phase {
            Phase::Joining { token: own, .. } if *own == token => self.back_off(now),
            // Draining is a courtesy to others; the leave does not depend on it.
            Phase::Leaving { step, .. } if *step == Leave::Draining(token) => *step = Leave::Drained,
            Phase::Leaving { step, .. } if *step == Leave::Gone(token) => *step = Leave::Retry(now.plus(RETRY_MS)),
            _ => {}
        }
    }

    fn back_off(&mut self, now: Millis) {
        let wait = BACK_OFF_MS.saturating_mul(1 << self.attempts.min(16)).min(MAX_BACK_OFF_MS);
        self.attempts += 1;
        self.phase = Phase::BackOff { until: now.plus(wait) };
    }

    /// The nonce of attempt `number`: SplitMix64 over the seed, so that a process knows all of its own.
    fn nonce(&self, number: u64) -> Nonce {
        let mut z = self.nonce_seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Nonce(z ^ (z >> 31))
    }

    fn is_own(&self, nonce: Nonce) -> bool {
        (1..=self.nonces).any(|number| self.nonce(number) == nonce)
    }

    fn own_record(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.id == self.id)
    }

    /// Does what is due. An error: the worker has to exit.
    pub(super) fn advance(
        &mut self,
        around: &Surroundings,
        now: Millis,
        tokens: &mut impl FnMut() -> Token,
        actions: &mut Vec<Action>,
    ) -> Result<(), ExitReason> {
        if self.phase == Phase::Ended {
            return Ok(());
        }
        if now >= self.java_ask_at {
            self.java_ask_at = now.plus(JAVA_GROUP_INTERVAL_MS);
            actions.push(Action::AskJavaGroup);
        }
        self.read_own_record(around, now, actions)?;
        // Who has no lease since a leader does not acknowledge, and nothing else to write, would never have one again.
        let nothing = |partition: &Option<i32>| Action::AppendNothing { token: tokens(), partition: *partition };
        actions.extend(around.doubts.iter().map(nothing));
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let waited_for = around.busy.as_deref().unwrap_or("the record that says that this worker left");
            return Err(ExitReason::Deadline(waited_for.into()));
        }
        match self.phase {
            Phase::Looking | Phase::BackOff { .. } if self.deadline.is_some() => self.finish(around, actions),
            Phase::BackOff { until } if now < until => Ok(()),
            Phase::Looking | Phase::BackOff { .. } => {
                self.phase = Phase::Looking;
                self.look(around, now, tokens, actions)
            }
            Phase::Member { incarnation, .. } => {
                self.check_strangers(incarnation)?;
                self.watch.evict(around, now, tokens, actions);
                self.settle(incarnation, around, now, tokens, actions);
                self.start_to_leave(incarnation, tokens, actions);
                Ok(())
            }
            Phase::Leaving { incarnation, step } => self.leave(incarnation, step, around, now, tokens, actions),
            Phase::Joining { .. } | Phase::Ended => Ok(()),
        }
    }

    /// What the last record under the own id says about this worker.
    fn read_own_record(
        &mut self,
        around: &Surroundings,
        now: Millis,
        actions: &mut Vec<Action>,
    ) -> Result<(), ExitReason> {
        let record = self.own_record().map(|member| (member.incarnation, self.is_own(member.nonce)));
        let same_id = || Err(ExitReason::SameId { worker: self.id.clone() });
        match (self.phase, record) {
            (Phase::Looking | Phase::Joining { .. } | Phase::BackOff { .. }, Some((incarnation, true))) => {
                self.evicted_at = None;
                self.phase = Phase::Member { incarnation, since: now };
                self.settling = Settling::Lacking;
                actions.push(Action::Joined { incarnation });
            }
            // Read beyond the own record, and it is not the last one.
            (Phase::Joining { written_at: Some(written_at), .. }, record)
                if around.reached.is_some_and(|at| at > written_at) =>
            {
                if record.is_some() {
                    return same_id();
                }
                self.back_off(now);
            }
            (Phase::Member { .. } | Phase::Leaving { .. }, Some((_, false))) => return same_id(),
            // An earlier attempt of this process landed late and is the last one now.
            (Phase::Member { incarnation: before, .. }, Some((incarnation, true))) if incarnation != before => {
                self.phase = Phase::Member { incarnation, since: now };
                self.settling = Settling::Lacking;
                actions.push(Action::Joined { incarnation });
            }
            (Phase::Leaving { incarnation: before, step }, Some((incarnation, true))) if incarnation != before => {
                self.phase = Phase::Leaving { incarnation, step };
            }
            (Phase::Member { since, .. }, None) => {
                if now.since(since) >= MAX_BACK_OFF_MS {
                    self.attempts = 0;
                }
                self.evicted_at = Some(now);
                self.back_off(now);
            }
            (Phase::Leaving { .. }, None) => self.phase = Phase::BackOff { until: now },
            _ => {}
        }
        Ok(())
    }

    /// Joins, where the own id is free and somebody answers, or nobody lives.
    fn look(
        &mut self,
        around: &Surroundings,
        now: Millis,
        tokens: &mut impl FnMut() -> Token,
        actions: &mut Vec<Action>,
    ) -> Result<(), ExitReason> {
        match self.java_live {
            Some(true) => return Err(ExitReason::JavaGroup),
            Some(false) if around.leased => {}
            Some(false) | None => return Ok(()),
        }
        if let Some(member) = self.own_record().cloned() {
            match self.watch.verdict(&member, now, actions) {
                // It is on its way out.
                Verdict::Alive if member.state == MemberState::Draining => return Ok(()),
                Verdict::Alive => return Err(ExitReason::SameId { worker: member.id }),
                Verdict::Unknown => return Ok(()),
                Verdict::Dead { .. } => {}
            }
        }
        if !self.no_stranger_answers(now, actions)? {
            return Ok(());
        }
        let may_join = match self.watch.answers(now, actions) {
            Answers::Unknown => false,
            Answers::Alone => true,
            Answers::Somebody => {
                self.check_fence_time()?;
                if self.own_record().is_none() && self.members.len() >= self.members_max {
                    return Err(ExitReason::TooMany { members: self.members.len() });
                }
                around.first_aged
            }
            Answers::Nobody => around.first_aged && self.evicted_at.is_none_or(|at| now.since(at) >= ALONE_MS),
        };
        if may_join {
            self.nonces += 1;
            let (token, nonce) = (tokens(), self.nonce(self.nonces));
            self.phase = Phase::Joining { token, written_at: None };
            actions.push(Action::AppendJoined { token, nonce });
        }
        Ok(())
    }

    /// Members of other groups.
    fn strangers(&self) -> impl Iterator<Item = (&Member, &Arc<str>)> {
        let members = self.members.iter().filter_map(|member| Some((member, member.group_id.as_ref()?)));
        members.filter(|(_, theirs)| **theirs != self.group_id)
    }

    fn foreign_group(&self, member: &Member, theirs: &Arc<str>) -> ExitReason {
        ExitReason::ForeignGroup { worker: member.id.clone(), theirs: theirs.clone(), own: self.group_id.clone() }
    }

    /// Asks the members of other groups. Whether it is known that none lives.
    fn no_stranger_answers(&mut self, now: Millis, actions: &mut Vec<Action>) -> Result<bool, ExitReason> {
        let strangers: Vec<(Member, Arc<str>)> =
            self.strangers().map(|(member, theirs)| (member.clone(), theirs.clone())).collect();
        let mut is_known = true;
        for (member, theirs) in &strangers {
            match self.watch.verdict(member, now, actions) {
                Verdict::Alive => return Err(self.foreign_group(member, theirs)),
                Verdict::Unknown => is_known = false,
                Verdict::Dead { .. } => _ = self.strangers_gone.insert(member.incarnation),
            }
        }
        Ok(is_known)
    }

    /// Two groups that began at the same time have not seen each other: the one that joined later gives way.
    fn check_strangers(&self, own: Incarnation) -> Result<(), ExitReason> {
        let is_gone = |life| self.strangers_gone.contains(&life) && !self.watch.is_alive(life);
        let first = self.strangers().find(|(member, _)| member.incarnation < own && !is_gone(member.incarnation));
        first.map_or(Ok(()), |(member, theirs)| Err(self.foreign_group(member, theirs)))
    }

    /// Those who answer have the same fence time as this worker.
    fn check_fence_time(&self) -> Result<(), ExitReason> {
        let differs = |member: &&Member| member.fence_ms.is_some_and(|theirs| theirs != self.fence_ms);
        let Some(member) = self.watch.alive().find(differs) else { return Ok(()) };
        let theirs = member.fence_ms.unwrap_or_default();
        Err(ExitReason::FenceTime { worker: member.id.clone(), theirs, own: self.fence_ms })
    }

    /// Says once that this worker holds its share.
    fn settle(
        &mut self,
        incarnation: Incarnation,
        around: &Surroundings,
        now: Millis,
        tokens: &mut impl FnMut() -> Token,
        actions: &mut Vec<Action>,
    ) {
        let Some(nonce) = self.own_record().filter(|record| !record.settled).map(|record| record.nonce) else { return };
        match self.settling {
            Settling::Lacking | Settling::Due(_) if !around.has_share => self.settling = Settling::Lacking,
            Settling::Lacking => self.settling = Settling::Due(now.plus(SETTLED_AFTER_MS)),
            Settling::Due(at) if now >= at && around.leased => {
                let token = tokens();
                self.settling = Settling::Written(token);
                actions.push(Action::AppendSettled { token, incarnation, nonce });
            }
            Settling::Due(_) | Settling::Written(_) => {}
        }
    }

    fn start_to_leave(
        &mut self,
        incarnation: Incarnation,
        tokens: &mut impl FnMut() -> Token,
        actions: &mut Vec<Action>,
    ) {
        if self.deadline.is_none() {
            return;
        }
        // A member: there is a record of ours.
        let Some(nonce) = self.own_record().map(|member| member.nonce) else { return };
        let token = tokens();
        self.phase = Phase::Leaving { incarnation, step: Leave::Draining(token) };
        actions.push(Action::AppendDraining { token, incarnation, nonce });
    }

    fn leave(
        &mut self,
        incarnation: Incarnation,
        step: Leave,
        around: &Surroundings,
        now: Millis,
        tokens: &mut impl FnMut() -> Token,
        actions: &mut Vec<Action>,
    ) -> Result<(), ExitReason> {
        let go = match step {
            Leave::Draining(_) | Leave::Gone(_) => false,
            Leave::Drained => around.busy.is_none(),
            Leave::Retry(at) => now >= at,
            Leave::Done => return self.finish(around, actions),
        };
        if go {
            let token = tokens();
            self.phase = Phase::Leaving { incarnation, step: Leave::Gone(token) };
            actions.push(Action::AppendGone { token });
        }
        Ok(())
    }

    fn finish(&mut self, around: &Surroundings, actions: &mut Vec<Action>) -> Result<(), ExitReason> {
        if around.busy.is_none() {
            self.phase = Phase::Ended;
            actions.push(Action::Left);
        }
        Ok(())
    }

    /// When something is due.
    pub(super) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        let own = match self.phase {
            Phase::BackOff { until } => Some(until),
            Phase::Leaving { step: Leave::Retry(at), .. } => Some(at),
            _ => None,
        };
        let settling = match self.settling {
            Settling::Due(at) => Some(at),
            Settling::Lacking | Settling::Written(_) => None,
        };
        let due =
            [own, settling, self.last_moment(), self.deadline, Some(self.java_ask_at), self.watch.next_deadline(now)];
        due.into_iter().flatten().filter(|at| *at > now).min()
    }
}
