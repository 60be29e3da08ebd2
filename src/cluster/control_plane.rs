//! The one loop: wanted minus running.
//!
//! Start, restart, failover and a changed task set are the same comparison, made for each unit whenever something changed that
//! concerns it: what the fold wants of this worker, what the unit's register says, and what runs here.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ahead::Ahead;
use super::appends::{Answered, Appends};
use super::assignment::{highest, share};
use super::barrier::{Sets, quiet};
use super::lease::Lease;
use super::member::{Incarnation, Member, Millis, NO_SET, Register, RegisterFields, WorkerId};
use super::membership::{Membership, Surroundings};
use super::protocol::{Action, AppendFailure, Event, ExitReason, Token, WantedChange};
use super::register::{Mine, Run, Stop, UnitState, Write};
use super::rules::Rules;
use super::units::Units;

pub use report::{Page, Report, UnitReport, Waiting};

/// Between two attempts at a status write that failed.
const WRITE_RETRY_MS: u64 = 500;

/// How long a worker that owns a unit as the second choice lets the first one claim it: some times what a record takes from one worker to another.
/// Two claims that cross cost a start in vain and the fence time.
const SECOND_CHOICE_MS: u64 = 100;

/// The longest fence time of others that is believed; their configuration refuses more.
const FENCE_MAX_MS: u64 = 30_000;

/// Units for which the next assignment waits one millisecond longer: it looks at all units, which takes about a hundredth of that time.
const ASSIGNED_PER_MS: u64 = 100;

/// What a control plane has to know before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Own worker id.
    pub worker_id: WorkerId,
    /// `group.id`: workers of another one may not use the same topics.
    pub group_id: Arc<str>,
    /// `worker.fence.timeout.ms`: how long a lease lasts. Default 1000.
    pub fence_ms: u64,
    /// `scheduled.rebalance.max.delay.ms`: how long the units of a worker that vanished wait for its return. Default 0. The same for all workers, or the one
    /// that waits least takes all.
    pub return_delay_ms: u64,
    /// With so many members already, no further one joins.
    pub members_max: usize,
    /// Random, new for each process. The nonces of all attempts to join are derived from it.
    pub nonce_seed: u64,
}

/// How much a control plane remembers: bounded by the members, the units that are wanted, and those that lately were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Units.
    pub units: usize,
    /// Entries of what finds the units that are due.
    pub indexed: usize,
    /// Groups with a task set, or that had one.
    pub sets: usize,
    /// Appends that are not answered.
    pub appends: usize,
    /// Members that were probed or have gossiped.
    pub watched: usize,
}

/// The control plane of one worker.
pub struct ControlPlane {
    rules: Rules,
    /// How long to wait for a lease of somebody else to end: of the longest fence time that was met.
    wait_ms: u64,
    lease: Lease,
    membership: Membership,
    sets: Sets,
    units: Units,
    appends: Appends,
    /// Since when the oldest write of the caller's own is unacknowledged.
    caller_append: Option<Millis>,
    /// Behind the last record of the config topic that was folded.
    position: i64,
    /// Registers whose writers had folded more than this worker.
    ahead: Ahead,
    /// Whether [`ControlPlane::causal`] held at the last pass.
    was_causal: bool,
    /// The position at the last pass.
    was_position: i64,
    /// Whether the config topic was read to an end once.
    read_once: bool,
    /// No assignment before this.
    assign_at: Millis,
    /// By the last assignment, this worker holds its share of the units.
    has_share: bool,
    tokens: u64,
    claims: u64,
    /// What the units that are not due were compared with last.
    compared_with: Common,
    ended: bool,
    /// How many comparisons were made.
    #[cfg(test)]
    pub(super) comparisons: usize,
}

/// What all comparisons have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Common {
    own: Option<Incarnation>,
    leaving: bool,
    ends: bool,
    members: Arc<[Member]>,
    /// For each status partition, whether its units may run.
    leased: Vec<bool>,
}

/// One pass over the units that are due.
struct Pass {
    own: Incarnation,
    leaving: bool,
    /// It has to have left in a moment.
    ends: bool,
    members: Arc<[Member]>,
    /// Everything was folded that the writers of the read registers had folded.
    causal: bool,
    /// For each group with a claim that is due, whether its barrier is open.
    open: BTreeMap<Arc<str>, bool>,
}

impl ControlPlane {
    /// A worker that has read nothing and is no member.
    pub fn new(settings: Settings) -> Self {
        Self::with_rules(settings, Rules::ALL)
    }

    /// With less than all rules, in tests.
    pub(crate) fn with_rules(settings: Settings, rules: Rules) -> Self {
        ControlPlane {
            rules,
            wait_ms: fence_wait_ms(settings.fence_ms),
            lease: Lease::new(settings.fence_ms),
            membership: Membership::new(&settings),
            sets: Sets::default(),
            units: Units::new(settings.return_delay_ms),
            appends: Appends::default(),
            caller_append: None,
            position: 0,
            ahead: Ahead::default(),
            was_causal: true,
            was_position: 0,
            read_once: false,
            assign_at: Millis(0),
            has_share: false,
            tokens: 0,
            claims: 0,
            compared_with: Common::default(),
            ended: false,
            #[cfg(test)]
            comparisons: 0,
        }
    }

    /// Takes an event and pushes what is to be done to `actions`, in order. `now` never runs backwards. After
    /// [`Action::Left`] or [`Action::Exit`] nothing is said any more.
    pub fn step(&mut self, event: Event, now: Millis, actions: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        match self.take(event, now, actions) {
            Ok(Next::Advance) => self.advance(now, actions),
            Ok(Next::Wait) => {}
            Err(reason) => self.exit(reason, actions),
        }
    }

    /// Notes what happened.
    fn take(&mut self, event: Event, now: Millis, actions: &mut Vec<Action>) -> Result<Next, ExitReason> {
        match event {
            Event::Start | Event::Tick => {}
            Event::Folded { position, members, changes } => {
                self.position = self.position.max(position);
                if *self.membership.members() != members {
                    self.units.assign_anew();
                    let longest = members.iter().filter_map(|member| member.fence_ms).max().unwrap_or_default();
                    self.wait_ms = self.wait_ms.max(fence_wait_ms(longest.min(FENCE_MAX_MS)));
                }
                self.membership.folded(members);
                self.want(&changes, now);
            }
            Event::StatusRead { unit, group, partition, register } => {
                self.read(unit, group, partition, register, now, actions);
                return Ok(Next::Wait);
            }
            Event::Progress { config, status } => {
                self.lease.progress(config, &status);
                self.position = self.position.max(config);
            }
            Event::Ends { ask, config, status } => {
                self.lease.ends(ask, config, status).map_err(ExitReason::LogLost)?;
            }
            Event::EndsFailed { ask } => self.lease.failed(ask),
            Event::OldestAppend(since) => self.caller_append = since,
            Event::GivenUp { partition, since } => self.appends.give_up(partition, since),
            Event::ProbeAnswered { incarnation, answer, .. } => self.membership.probed(incarnation, answer, now),
            Event::Suspected { incarnation } => self.membership.suspected(incarnation, now),
            Event::Peers(peers) => {
                self.lease.peers_read(peers.iter().map(|peer| (peer.config, &*peer.status)));
                self.membership.peers(&peers, now);
            }
            Event::JavaGroup { live } => self.membership.java_group(live),
            Event::Appended { token } => return self.written(token, None, now),
            Event::AppendFailed { token, failure, error } => {
                return self.written(token, Some((failure, error)), now);
            }
            Event::UnitStopped { unit, claim } => {
                self.units.change(&unit, |state| {
                    if matches!(state.mine, Mine::Running(run) if run.claim == claim) {
                        state.mine = Mine::Idle;
                    }
                });
            }
            Event::LogLost { error } => return Err(ExitReason::LogLost(error)),
            Event::Shutdown { deadline } => self.membership.shut_down(deadline),
        }
        Ok(Next::Advance)
    }

    fn want(&mut self, changes: &[WantedChange], now: Millis) {
        self.sets.begin_fold(now, self.read_once);
        let want = |change: &WantedChange| match change {
            WantedChange::Wanted(unit) => self.units.want(&unit.name, Some(unit)),
            WantedChange::Unwanted(name) => self.units.want(name, None),
        };
        let groups: BTreeSet<Arc<str>> = changes.iter().filter_map(want).collect();
        for group in groups {
            if self.sets.fold(&group, self.units.newest_set(&group), now) {
                self.units.group_due(&group);
            }
        }
    }

    fn read(
        &mut self,
        unit: Arc<str>,
        group: Option<Arc<str>>,
        partition: i32,
        register: Register,
        now: Millis,
        actions: &mut Vec<Action>,
    ) {
        if let Register::Ours(fields) = register {
            self.ahead.read(&unit, fields.at, self.position, now);
        }
        let (own, wait_ms) = (self.membership.incarnation(), self.wait_ms);
        self.units.enter(&unit, group.as_ref(), partition);
        if let Some(Some(claim)) = self.units.change(&unit, |state| state.read(register, own, now, wait_ms)) {
            actions.push(Action::StopUnit { unit, claim, hard: true });
        }
    }

    /// An append was answered.
    fn written(
        &mut self,
        token: Token,
        failure: Option<(AppendFailure, String)>,
        now: Millis,
    ) -> Result<Next, ExitReason> {
        let answered = match &failure {
            None => self.appends.acknowledged(token),
            Some((failure, _)) => self.appends.failed(token, *failure == AppendFailure::Unacknowledged),
        };
        let Some(answered) = answered else { return Ok(Next::Wait) };
        let is_stored = match failure {
            None => true,
            Some((AppendFailure::Fatal, error)) => return Err(ExitReason::Append(error)),
            Some(_) => false,
        };
        match answered {
            Answered::Member if is_stored => self.membership.appended(token, now),
            Answered::Member => self.membership.append_failed(token, now),
            Answered::Unit(unit) => {
                let retry_at = (!is_stored).then(|| now.plus(WRITE_RETRY_MS));
                self.units.change(&unit, |state| state.written(token, now, retry_at));
            }
        }
        Ok(Next::Advance)
    }

    /// Does what is due after an event.
    fn advance(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let tokens = &mut self.tokens;
        if let Some(ask) = self.lease.ask(now, || next_token(tokens)) {
            actions.push(Action::AskEnds { ask });
        }
        let config_leased = self.leased(Scope::Config, now);
        self.read_once |= config_leased;
        let busy = if self.membership.shutting_down() { self.units.busy().cloned() } else { None };
        self.assign(now);
        let reached = self.lease.config_reached();
        let first_aged = !self.rules.barrier_first() || self.sets.first_aged(self.lease.all_reached(), self.wait_ms);
        let before = self.membership.incarnation();
        // Who is no member holds nothing that a lease is for.
        if before.is_none() {
            self.appends.forget_given_up();
        }
        let doubts = self.appends.doubts(now);
        let all_leased = self.leased(Scope::All, now);
        let around = Surroundings {
            leased: config_leased,
            all_leased,
            reached,
            busy,
            has_share: self.has_share,
            first_aged,
            doubts,
        };
        let first = actions.len();
        let result = self.membership.advance(&around, now, &mut || next_token(&mut self.tokens), actions);
        for action in &actions[first..] {
            match (membership_token(action), action) {
                (Some(token), Action::CompareAndTombstone { .. }) => self.appends.add_comparison(token, now),
                (Some(token), Action::AppendNothing { partition, .. }) => {
                    self.appends.add_question(token, *partition, now);
                }
                (Some(token), _) => self.appends.add(token, None, None, now),
                (None, _) => {}
            }
        }
        if let Err(reason) = result {
            return self.exit(reason, actions);
        }
        if actions[first..].contains(&Action::Left) {
            self.ended = true;
            return;
        }
        if before.is_some() && before != self.membership.incarnation() {
            self.stop_all_hard(actions);
        }
        self.disown_foreign_registers(now, actions);
        self.pass(now, actions);
    }

    /// Nobody in this cluster has folded what the config topic does not have: the topic was made anew, or the statuses came from another one.
    fn disown_foreign_registers(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let foreign = self.ahead.impossible(self.position, self.lease.config_reached());
        let (own, wait_ms, units) = (self.membership.incarnation(), self.wait_ms, foreign.len());
        if let Some((unit, at)) = foreign.first().cloned() {
            actions.push(Action::ForeignRegisters { unit, at, units });
        }
        for (unit, _) in foreign {
            // A newer one may have replaced it.
            if self.units.get(&unit).is_none_or(|state| state.known(self.position)) {
                continue;
            }
            // It counts as one of Java's; the holder that it names, if there is one, is waited for as ever.
            let stopped = self.units.change(&unit, |state| state.read(Register::Foreign, own, now, wait_ms));
            if let Some(Some(claim)) = stopped {
                actions.push(Action::StopUnit { unit, claim, hard: true });
            }
        }
    }

    /// Compares the units that are due.
    fn pass(&mut self, now: Millis, actions: &mut Vec<Action>) {
        self.find_due(now);
        let due = self.units.take_due();
        let due: Vec<Arc<str>> = due.into_iter().filter(|unit| !self.forget(unit, now)).collect();
        let Some(own) = self.membership.incarnation() else { return };
        let Common { leaving, ends, ref members, .. } = self.compared_with;
        let (members, causal, open) = (members.clone(), self.causal(), self.open_barriers(&due, now));
        let pass = Pass { own, leaving, ends, members, causal, open };
        #[cfg(test)]
        {
            self.comparisons += due.len();
        }
        for unit in &due {
            self.compare(unit, &pass, now, actions);
        }
    }

    /// Which units are to be compared, beside those that have changed themselves.
    fn find_due(&mut self, now: Millis) {
        let common = Common {
            own: self.membership.incarnation(),
            leaving: self.membership.leaving(),
            ends: self.membership.ends(now),
            members: self.membership.members().clone(),
            leased: self.lease.partitions().map(|partition| self.leased(Scope::Status(partition), now)).collect(),
        };
        self.units.set_own(common.own);
        if common != self.compared_with || !self.rules.only_due() {
            self.compared_with = common;
            self.units.all_due();
        }
        self.assign(now);
        self.units.time_due(now);
        if self.lease.take_moved() && self.rules.reached_due() {
            self.sets.forget(self.lease.all_reached(), self.wait_ms);
            self.units.waiting_due();
        }
        if self.position != self.was_position {
            self.was_position = self.position;
            self.units.fold_due();
        }
        if self.causal() != self.was_causal {
            self.was_causal = self.causal();
            self.units.waiting_due();
        }
    }

    /// Works out who should run what, not too often: it looks at all units.
    fn assign(&mut self, now: Millis) {
        self.units.look_at_returns(now);
        if !self.units.is_unassigned() || now < self.assign_at {
            return;
        }
        let members = self.membership.members();
        let (wanted, held) = self.units.assign(members, now, SECOND_CHOICE_MS, self.rules);
        self.has_share = held >= share(members, wanted);
        self.assign_at = now.plus(self.units.count() as u64 / ASSIGNED_PER_MS);
    }

    /// Drops a unit that says nothing any more. One without a record still counts for the barrier of its group until that has aged.
    fn forget(&mut self, name: &Arc<str>, now: Millis) -> bool {
        let gone = self.units.get(name).is_none_or(|state| {
            let reached = self.lease.reached(state.partition);
            state.forgettable(now) && self.sets.aged(state.group.as_ref(), reached, self.wait_ms)
        });
        if gone {
            self.units.remove(name);
        }
        gone
    }

    /// Whether everything was folded that the writers of the read registers had folded.
    fn causal(&self) -> bool {
        !self.rules.causal() || self.ahead.is_none(self.position)
    }

    /// Whether everything was folded that the writer of the last record of this unit had folded.
    fn knows(&self, state: &UnitState) -> bool {
        !self.rules.causal() || state.known(self.position)
    }

    /// For each group with a set of which one of these units is claimed, whether all of its units are quiet.
    fn open_barriers(&self, due: &[Arc<str>], now: Millis) -> BTreeMap<Arc<str>, bool> {
        let mut open: BTreeMap<Arc<str>, bool> = BTreeMap::new();
        for state in due.iter().filter_map(|unit| self.units.get(unit)) {
            let (Mine::Claiming { .. } | Mine::Claimed { .. }, Some(group)) = (state.mine, &state.group) else {
                continue;
            };
            let commit = self.sets.commit(Some(group));
            if commit == NO_SET || open.contains_key(group) {
                continue;
            }
            let quiet = |state: &UnitState| self.lets_run(group, commit, state, now);
            open.insert(group.clone(), self.units.of_group(group).all(quiet));
        }
        open
    }

    /// Whether a unit of the group lets those of the set of this commit run.
    fn lets_run(&self, group: &Arc<str>, commit: i64, state: &UnitState, now: Millis) -> bool {
        let aged = self.sets.aged(Some(group), self.lease.reached(state.partition), self.wait_ms);
        quiet(state, commit, now, aged, self.rules)
    }

    /// The comparison: what this unit should be here, and the next step towards it.
    fn compare(&mut self, name: &Arc<str>, pass: &Pass, now: Millis, actions: &mut Vec<Action>) {
        let Some(state) = self.units.get(name) else { return };
        let reached = self.lease.reached(state.partition);
        let leased = self.leased(Scope::Status(state.partition), now);
        let commit = self.sets.commit(state.group.as_ref());
        // A left-over is claimed for the newest set of its group, so that it does not close the barrier.
        let set = state.wanted.as_ref().map_or(commit, |unit| unit.set);
        let here = is_here(name, state, pass);
        let mine = state.mine;
        match mine {
            Mine::Running(run) => {
                let right = here && state.wanted.is_some() && run.set == set;
                self.compare_running(name, run, right, leased, pass, actions);
            }
            Mine::Claiming { .. } if self.rules.read_back() && !state.own_writes_read(reached) => {}
            // It was answered, and an end was reached that lies behind it, but it was not read: another record has replaced it.
            Mine::Claiming { .. } if self.rules.read_back() => {
                self.set_mine(name, Mine::Idle);
                // Not in the next step: nobody says when that comes.
                if leased {
                    self.compare_idle(name, pass, reached, set, now, actions);
                }
            }
            Mine::Claiming { claim, set: claimed } | Mine::Claimed { claim, set: claimed } if leased => {
                if !here || (claimed != set && self.rules.release_own()) {
                    self.set_mine(name, Mine::Idle);
                    self.compare_idle(name, pass, reached, set, now, actions);
                } else if claimed == set && self.claim_counts(state, pass, now) {
                    self.use_claim(name, claim, reached, now, actions);
                }
            }
            Mine::Idle if leased => self.compare_idle(name, pass, reached, set, now, actions),
            Mine::Idle | Mine::Claiming { .. } | Mine::Claimed { .. } => {}
        }
    }

    fn compare_running(
        &mut self,
        name: &Arc<str>,
        run: Run,
        right: bool,
        leased: bool,
        pass: &Pass,
        actions: &mut Vec<Action>,
    ) {
        let (unit, claim) = (name.clone(), run.claim);
        let mut next = run;
        match (leased, run.stop) {
            (_, Some(Stop::Hard)) => return,
            // There is no time to wait for the lease any more.
            (false, _) if pass.ends => {
                next.stop = Some(Stop::Hard);
                actions.push(Action::StopUnit { unit, claim, hard: true });
            }
            (false, _) if !run.suspended => {
                next.suspended = true;
                actions.push(Action::SuspendUnit { unit, claim });
            }
            (false, _) => return,
            (true, stop) => {
                if run.suspended {
                    next.suspended = false;
                    actions.push(Action::ResumeUnit { unit: unit.clone(), claim });
                }
                if !right && stop.is_none() {
                    next.stop = Some(Stop::Orderly);
                    actions.push(Action::StopUnit { unit, claim, hard: false });
                }
            }
        }
        // A unit that was changed is compared again.
        if next != run {
            self.set_mine(name, Mine::Running(next));
        }
    }

    /// Whether a claim that is the last record may be used.
    fn claim_counts(&self, state: &UnitState, pass: &Pass, now: Millis) -> bool {
        let aged = !self.rules.age() || !state.contested(now);
        let open = state.group.as_ref().is_none_or(|group| {
            state.wanted.is_none() || !self.rules.barrier() || pass.open.get(group).copied().unwrap_or(false)
        });
        aged && pass.causal && open
    }

    /// Starts the unit, or removes the status of a left-over.
    fn use_claim(
        &mut self,
        name: &Arc<str>,
        claim: u64,
        reached: Option<Millis>,
        now: Millis,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.units.get(name) else { return };
        if let Some(unit) = state.wanted.clone() {
            self.set_mine(name, Mine::Running(Run { claim, set: unit.set, suspended: false, stop: None }));
            actions.push(Action::StartUnit { unit, claim });
        } else if state.own_writes_read(reached) && now >= state.retry_at {
            let partition = state.partition;
            let token = self.write(name, None, now);
            actions.push(Action::WriteTombstone { token, unit: name.clone(), partition });
        }
    }

    /// Releases what is not ours any more, or claims.
    fn compare_idle(
        &mut self,
        name: &Arc<str>,
        pass: &Pass,
        reached: Option<Millis>,
        set: i64,
        now: Millis,
        actions: &mut Vec<Action>,
    ) {
        let Some(state) = self.units.get(name) else { return };
        if state.writing.is_some() || now < state.retry_at {
            return;
        }
        let (unit, partition, at) = (name.clone(), state.partition, self.position - 1);
        if let Some(held) = state.to_release(pass.own) {
            // A release says that nobody runs the unit; the one whose claim ours has replaced may, for a while.
            if state.contested(now) {
                return;
            }
            // One that was written and not read yet is not said again.
            if state.own_writes_read(reached) {
                let fields = RegisterFields { held: false, at, ..held };
                let token = self.write(name, None, now);
                actions.push(Action::WriteRelease { token, unit, partition, fields });
            }
            return;
        }
        let left_over = state.wanted.is_none();
        let due = !left_over
            || (self.rules.left_overs()
                && state.last != Register::Empty
                && self.sets.aged(state.group.as_ref(), reached, self.wait_ms));
        let here = is_here(name, state, pass);
        let free = state.free(pass.own, |life| self.membership.is_member(life), self.rules.wait_release());
        if here && due && free && !self.knows(state) {
            self.units.wait_for_fold(name);
        } else if here && due && free && now >= state.claim_at {
            self.claims += 1;
            let claim = self.claims;
            let token = self.write(name, Some(claim), now);
            self.set_mine(name, Mine::Claiming { claim, set });
            let fields = RegisterFields { incarnation: pass.own, claim, held: true, at, set };
            actions.push(Action::WriteClaim { token, unit, partition, fields });
        }
    }

    /// Notes a status write of this unit as under way.
    fn write(&mut self, name: &Arc<str>, claim: Option<u64>, now: Millis) -> Token {
        let token = next_token(&mut self.tokens);
        let partition = self.units.get(name).map(|state| state.partition);
        self.appends.add(token, partition, Some(name.clone()), now);
        self.units.change(name, |state| state.writing = Some(Write { token, claim }));
        token
    }

    fn set_mine(&mut self, name: &Arc<str>, mine: Mine) {
        self.units.change(name, |state| state.mine = mine);
    }

    fn stop_all_hard(&mut self, actions: &mut Vec<Action>) {
        let stopped = self.units.stop_all_hard().into_iter();
        actions.extend(stopped.map(|(unit, claim)| Action::StopUnit { unit, claim, hard: true }));
    }

    fn exit(&mut self, reason: ExitReason, actions: &mut Vec<Action>) {
        self.stop_all_hard(actions);
        self.membership.end();
        self.ended = true;
        actions.push(Action::Exit { reason });
    }

    /// When the oldest unacknowledged append began that counts against the lease for a partition: to it, or to the config topic.
    fn oldest_append(&self, partition: Option<i32>) -> Option<Millis> {
        // Who is no member runs nothing, and needs a lease to become one.
        let callers = self.caller_append.filter(|_| self.membership.incarnation().is_some());
        let config = earliest(callers, self.appends.oldest_in(None));
        partition.map_or(config, |_| earliest(config, self.appends.oldest_in(partition)))
    }

    fn lease_end(&self, scope: Scope) -> Option<Millis> {
        let (reached, append) = match scope {
            Scope::Config => (self.lease.config_reached(), self.oldest_append(None)),
            Scope::Status(partition) => (self.lease.reached(partition), self.oldest_append(Some(partition))),
            Scope::All => (self.lease.all_reached(), earliest(self.oldest_append(None), self.appends.oldest())),
            Scope::Reading => (self.lease.all_reached(), self.oldest_append(None)),
        };
        if !self.rules.lease() {
            return reached.map(|_| Millis(u64::MAX));
        }
        if self.membership.java_live() {
            return None;
        }
        self.lease.until(reached, append)
    }

    fn leased(&self, scope: Scope, now: Millis) -> bool {
        self.lease_end(scope).is_some_and(|until| now < until)
    }

    /// When [`Event::Tick`] is due at the latest, if nothing else is given before; it may lie in the past. `None` after the end.
    pub fn next_deadline(&self, now: Millis) -> Option<Millis> {
        if self.ended {
            return None;
        }
        let lease = self.lease.next_end(now, |partition| self.oldest_append(partition));
        let assign = self.units.is_unassigned().then_some(self.assign_at);
        let membership = self.membership.next_deadline(now);
        let due = [Some(self.lease.next_ask()), lease, membership, self.units.next_deadline(), assign];
        due.into_iter().flatten().min()
    }

    /// Our fields for a status record that the caller writes for a unit that it runs; `None` when it may write none:
    /// it runs no claim of the unit, or the claim was lost. The record repeats the claim, so no reader takes it for another one.
    pub fn register_fields(&self, unit: &str) -> Option<RegisterFields> {
        match self.units.get(unit)?.mine {
            Mine::Running(run) if run.stop != Some(Stop::Hard) => Some(RegisterFields {
                incarnation: self.membership.incarnation()?,
                claim: run.claim,
                held: true,
                at: self.position - 1,
                set: run.set,
            }),
            _ => None,
        }
    }

    /// Until when the units of this status partition may run that were started and not stopped hard; `None`: not at all. The shell hands
    /// it to the pumps after each step, and takes it from a unit for good when [`Action::StopUnit`] says so. They compare it with the clock
    /// themselves, so that a stuck herder cannot keep a lease.
    pub fn lease_of(&self, partition: i32) -> Option<Millis> {
        self.membership.incarnation()?;
        self.lease_end(Scope::Status(partition))
    }

    /// How much it remembers.
    pub fn kept(&self) -> Kept {
        Kept {
            units: self.units.count(),
            indexed: self.units.indexed(),
            sets: self.sets.count(),
            appends: self.appends.count(),
            watched: self.membership.watched_members(),
        }
    }

    /// Compares what it keeps of the units with what they say.
    #[cfg(test)]
    pub(crate) fn check(&self, now: Millis) {
        self.units.check(now);
    }

    /// Whether this worker is a member, and leased for the config topic and every status partition but for those that do not take its records: that may be
    /// so for everybody, and is not to be held against it.
    pub fn is_leased(&self, now: Millis) -> bool {
        self.membership.incarnation().is_some() && self.leased(Scope::Reading, now)
    }

    /// Whether its tombstone is on its way, or it has left: nothing of it runs any more.
    pub fn has_left(&self) -> bool {
        self.ended || self.membership.has_left()
    }

    /// Own life, while this worker is a member.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.membership.incarnation()
    }
}

/// What a lease is for.
#[derive(Debug, Clone, Copy)]
enum Scope {
    /// The config topic.
    Config,
    /// Units of this partition of the status topic.
    Status(i32),
    /// All partitions.
    All,
    /// The same, but for whether status partitions take records.
    Reading,
}

/// What an event asks for.
enum Next {
    /// Nothing that cannot wait for the next progress.
    Wait,
    /// To do what is due.
    Advance,
}

/// Whether this worker should run the unit, or remove its status where nobody wants it.
fn is_here(name: &str, state: &UnitState, pass: &Pass) -> bool {
    let owner = if state.wanted.is_some() { state.owner } else { highest(&pass.members, name) };
    owner == Some(pass.own) && !pass.leaving
}

/// To wait for the fence time is to wait a little longer: clocks of two machines differ in speed, and a check takes time.
fn fence_wait_ms(fence_ms: u64) -> u64 {
    fence_ms.saturating_add(fence_ms.div_ceil(20)).saturating_add(50)
}

fn next_token(tokens: &mut u64) -> Token {
    *tokens += 1;
    Token(*tokens)
}

fn earliest(a: Option<Millis>, b: Option<Millis>) -> Option<Millis> {
    [a, b].into_iter().flatten().min()
}

fn membership_token(action: &Action) -> Option<Token> {
    match action {
        Action::AppendJoined { token, .. }
        | Action::AppendDraining { token, .. }
        | Action::AppendSettled { token, .. }
        | Action::AppendGone { token }
        | Action::AppendNothing { token, .. }
        | Action::CompareAndTombstone { token, .. } => Some(*token),
        _ => None,
    }
}
