//! What a control plane tells people: who should run a unit, who holds it, and what it waits for. Decides nothing, and changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::super::member::{Incarnation, Millis, NO_SET, WorkerId};
use super::super::register::{Mine, UnitState};
use super::{ControlPlane, Scope};

/// What a worker knows at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Own life, while it is a member.
    pub own: Option<Incarnation>,
    /// How old its view of the log is at most; `None` without a lease for all of it.
    pub lease_age_ms: Option<u64>,
    /// Behind the last record of the config topic that was folded.
    pub position: i64,
    /// How many units each life holds by their registers, whether or not it is over.
    pub loads: BTreeMap<Incarnation, usize>,
    /// The units that were asked for, in the order of their names.
    pub units: Vec<UnitReport>,
    /// There are more behind them.
    pub more: bool,
}

/// What is known of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitReport {
    /// Its name.
    pub name: Arc<str>,
    /// Who should run it by the last assignment of this worker.
    pub owner: Option<WorkerId>,
    /// Who may run it, by its register, and the id of that life unless it is over.
    pub holder: Option<(Incarnation, Option<WorkerId>)>,
    /// Why it does not run. `None` where it is not wanted, runs here, or is held by its owner, who knows more.
    pub waiting: Option<Waiting>,
}

/// Which units are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Only those behind this name.
    pub after: Option<&'a str>,
    /// At most so many.
    pub limit: usize,
}

/// Why a unit that is wanted does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Nobody is in state joined.
    NoTaker,
    /// For this many milliseconds it waits for the worker that held it, and has vanished, to come back.
    Return(u64),
    /// The next assignment gives it to somebody.
    Unassigned,
    /// A member that is not to run it, or holds it for an older set.
    HeldBy(WorkerId),
    /// It is free, and its owner has not claimed it.
    NotClaimed(WorkerId),
    /// The register names an older claim of this worker.
    Releasing,
    /// A run of an older set, or for another owner, is told to stop and has not ended.
    Stopping,
    /// A write to its register is not acknowledged.
    Writing,
    /// The last write to its register failed; this many milliseconds until the next one.
    Retry(u64),
    /// It came to this worker since a better one has no room; for this many milliseconds that one may claim it.
    SecondChoice(u64),
    /// The claim was written and not read back.
    ClaimNotRead,
    /// This worker has no lease.
    NoLease,
    /// Its last holder may still run it, for this many milliseconds.
    Contested(u64),
    /// A register that was read names a state of the config topic that was not.
    Behind,
    /// This unit of its group is not quiet.
    Barrier(Arc<str>),
    /// It is still assigned to this worker, which leaves and claims nothing.
    Leaving,
    /// Nothing: the next step takes it up.
    Due,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Return(ms) => {
                write!(
                    f,
                    "its last holder vanished, and may come back for another {ms} ms (scheduled.rebalance.max.delay.ms)"
                )
            }
            Waiting::NoTaker => f.write_str("no member takes units"),
            Waiting::Unassigned => f.write_str("not assigned yet"),
            Waiting::HeldBy(worker) => write!(f, "held by {worker}, which has not released it"),
            Waiting::NotClaimed(worker) => write!(f, "not claimed yet by {worker}"),
            Waiting::Releasing => f.write_str("an older claim of this worker is not released yet"),
            Waiting::Stopping => f.write_str("an older run on this worker has not ended yet"),
            Waiting::Writing => f.write_str("a write to its register is not acknowledged yet"),
            Waiting::Retry(ms) => write!(f, "a write to its register failed, and is tried again in {ms} ms"),
            Waiting::SecondChoice(ms) => write!(f, "a better worker without room may claim it for another {ms} ms"),
            Waiting::ClaimNotRead => f.write_str("claim not read back"),
            Waiting::NoLease => f.write_str("this worker has no lease"),
            Waiting::Contested(ms) => write!(f, "contested for another {ms} ms: its last holder may still run it"),
            Waiting::Behind => f.write_str("this worker has not read as much as one that wrote to a register"),
            Waiting::Barrier(unit) => write!(f, "barrier: waits for {unit}"),
            Waiting::Leaving => f.write_str("this worker leaves, and no other one has it yet"),
            Waiting::Due => f.write_str("about to be taken up"),
        }
    }
}

/// For each group that was looked at, the first unit that is not quiet.
type Closed = BTreeMap<Arc<str>, Option<Arc<str>>>;

impl ControlPlane {
    /// What this worker knows now; without a page nothing of units but their number. Looks at all units once.
    pub fn report(&self, page: Option<Page<'_>>, now: Millis) -> Report {
        let mut loads = BTreeMap::new();
        for holder in self.units.holders() {
            *loads.entry(holder).or_default() += 1;
        }
        let (mut units, mut more, mut closed) = (Vec::new(), false, Closed::new());
        if let Some(Page { after, limit }) = page {
            for (name, state) in self.units.behind(after) {
                if units.len() == limit {
                    more = true;
                    break;
                }
                units.push(self.report_unit(name, state, &mut closed, now));
            }
        }
        let reached = self.lease.all_reached().filter(|_| self.is_leased(now));
        Report {
            own: self.membership.incarnation(),
            lease_age_ms: reached.map(|at| now.since(at)),
            position: self.position,
            loads,
            units,
            more,
        }
    }

    fn report_unit(&self, name: &Arc<str>, state: &UnitState, closed: &mut Closed, now: Millis) -> UnitReport {
        let holder = state.last.holder().map(|held| held.incarnation);
        UnitReport {
            name: name.clone(),
            owner: state.owner.filter(|_| state.wanted.is_some()).and_then(|life| self.worker_of(life)),
            holder: holder.map(|life| (life, self.worker_of(life))),
            waiting: self.waiting(state, closed, now),
        }
    }

    fn worker_of(&self, life: Incarnation) -> Option<WorkerId> {
        let member = self.membership.members().iter().find(|member| member.incarnation == life);
        member.map(|member| member.id.clone())
    }

    fn waiting(&self, state: &UnitState, closed: &mut Closed, now: Millis) -> Option<Waiting> {
        let unit = state.wanted.as_ref()?;
        let leased = self.leased(Scope::Status(state.partition), now);
        match state.mine {
            Mine::Running(run) if run.stop.is_some() => Some(Waiting::Stopping),
            Mine::Running(_) => (!leased).then_some(Waiting::NoLease),
            Mine::Claiming { .. } => Some(Waiting::ClaimNotRead),
            Mine::Claimed { .. } if !leased => Some(Waiting::NoLease),
            Mine::Claimed { set, .. } if set != unit.set || !self.is_own(state) => Some(Waiting::Releasing),
            Mine::Claimed { .. } => Some(self.claim_waits(state, closed, now)),
            Mine::Idle => self.idle_waits(state, unit.set, leased, now),
        }
    }

    /// Whether this worker should run it.
    fn is_own(&self, state: &UnitState) -> bool {
        state.owner.is_some() && state.owner == self.membership.incarnation() && !self.membership.leaving()
    }

    /// Why a claim that was read back does not run.
    fn claim_waits(&self, state: &UnitState, closed: &mut Closed, now: Millis) -> Waiting {
        if let Some(until) = state.contested_until.filter(|until| now < *until) {
            return Waiting::Contested(until.since(now));
        }
        if !self.causal() {
            return Waiting::Behind;
        }
        match state.group.as_ref().and_then(|group| self.closed_by(group, closed, now)) {
            Some(unit) => Waiting::Barrier(unit),
            None => Waiting::Due,
        }
    }

    /// The first unit that keeps the barrier of a group closed.
    fn closed_by(&self, group: &Arc<str>, closed: &mut Closed, now: Millis) -> Option<Arc<str>> {
        let commit = self.sets.commit(Some(group));
        if commit == NO_SET {
            return None;
        }
        let find = || {
            let mut units = self.units.named_of_group(group);
            units.find(|(_, state)| !self.lets_run(group, commit, state, now)).map(|(name, _)| name.clone())
        };
        closed.entry(group.clone()).or_insert_with(find).clone()
    }

    /// Why this worker has no part in a unit.
    fn idle_waits(&self, state: &UnitState, set: i64, leased: bool, now: Millis) -> Option<Waiting> {
        let own = self.membership.incarnation();
        if let Some(held) = state.last.holder() {
            if Some(held.incarnation) == own {
                return Some(Waiting::Releasing);
            }
            if let Some(worker) = self.worker_of(held.incarnation) {
                let right = state.owner == Some(held.incarnation) && held.set >= set;
                return (!right).then_some(Waiting::HeldBy(worker));
            }
        }
        let members = self.membership.members();
        if let Some(until) = self.units.awaits_return(state, members, now) {
            return Some(Waiting::Return(until.since(now)));
        }
        Some(match state.owner {
            None if self.units.will_be_assigned(now) => Waiting::Unassigned,
            None => Waiting::NoTaker,
            Some(owner) if Some(owner) != own => {
                // A life that is over is replaced by the next assignment.
                self.worker_of(owner).map_or(Waiting::Unassigned, Waiting::NotClaimed)
            }
            Some(_) if self.membership.leaving() => Waiting::Leaving,
            Some(_) if !leased => Waiting::NoLease,
            Some(_) if state.writing.is_some() => Waiting::Writing,
            Some(_) if now < state.retry_at => Waiting::Retry(state.retry_at.since(now)),
            // A claim is written by what the unit's own register says, and used by what all say.
            Some(_) if !self.knows(state) => Waiting::Behind,
            Some(_) if now < state.claim_at => Waiting::SecondChoice(state.claim_at.since(now)),
            Some(_) => Waiting::Due,
        })
    }
}
