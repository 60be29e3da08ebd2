//! Why units do not run, as the control planes say it: each wanted unit that does not run has a reason, and that is true.
//!
//! What is true is worked out from what a process has read, written and been told, beside its control plane. What only a control plane knows, whom
//! it has assigned a unit to and since when the older set is over, is taken as it says it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::clock::MS;
use super::names::{PARTITIONS, UnitNumber, connector_of, partition_of};
use super::process::Process;
use super::world::{CONFIG, World};
use crate::cluster::{
    ControlPlane, Event, Incarnation, MemberState, Millis, Register, Token, UnitReport, Waiting, WorkerId,
};

/// Events from one look to the next: often enough to meet every reason, and seldom enough to cost little.
const STEPS_PER_LOOK: u64 = 50;

/// What a process has done and read that a reason may speak of.
#[derive(Default)]
pub(super) struct Traces {
    /// Writes to registers that are not answered.
    writing: BTreeMap<Token, UnitNumber>,
    /// Units whose register could not be written.
    failed: BTreeSet<UnitNumber>,
    /// The last claim of each unit.
    claims: BTreeMap<UnitNumber, u64>,
    /// Until when somebody else may still run a unit whose claim was replaced.
    contested: BTreeMap<UnitNumber, Millis>,
    /// How far the writers of all registers had folded, at most.
    folded: Option<i64>,
}

impl Traces {
    pub(super) fn written(&mut self, unit: UnitNumber, token: Token) {
        self.writing.insert(token, unit);
        self.failed.remove(&unit);
    }

    pub(super) fn claimed(&mut self, unit: UnitNumber, claim: u64) {
        self.claims.insert(unit, claim);
    }

    /// Takes in an event that may answer a write.
    pub(super) fn answered(&mut self, event: &Event) {
        match event {
            Event::Appended { token } => _ = self.writing.remove(token),
            Event::AppendFailed { token, .. } => self.failed.extend(self.writing.remove(token)),
            _ => {}
        }
    }
}

impl World {
    /// A process reads a register.
    pub(super) fn trace_read(&mut self, place: usize, unit: UnitNumber, register: Register) {
        let process = &mut self.places[place];
        let own = process.plane.as_ref().and_then(|plane| plane.incarnation());
        let until = process.local(self.now).plus(self.setup.compaction_lag() / MS);
        let before = process.read.insert(unit, register).unwrap_or_default();
        if let Some(held) = before.holder().filter(|held| Some(held.incarnation) != own)
            && !matches!(&register, Register::Ours(next) if next.same_claim(held))
        {
            process.traces.contested.insert(unit, until);
        }
        if let Register::Ours(fields) = register {
            process.traces.folded = process.traces.folded.max(Some(fields.at));
        }
    }

    /// From time to time asks one process, and the next one the next time.
    pub(super) fn look_at_reasons(&mut self) {
        if self.figures.steps < self.figures.looks * STEPS_PER_LOOK {
            return;
        }
        let first = self.figures.looks as usize;
        self.figures.looks += 1;
        let mut places = (first..first + self.places.len()).map(|place| place % self.places.len());
        let Some(place) = places.find(|place| self.places[*place].plane.is_some()) else { return };
        if let Err(lie) = self.check_reasons(place) {
            self.fail(|_| lie);
        }
    }

    fn check_reasons(&mut self, place: usize) -> Result<(), String> {
        let process = &self.places[place];
        let Some(plane) = &process.plane else { return Ok(()) };
        let local = process.local(self.now);
        let report = self.switches.report(plane, local);
        let view = View { process, plane, leased: process.leases.map(|until| self.now < until), now: local };
        let (mut wanted, mut waits) = (process.fold.all_wanted().len(), 0);
        for unit in &report.units {
            let number = self.names.number(&unit.name).unwrap_or_default();
            let set = process.fold.wanted(number);
            wanted -= usize::from(set.is_some());
            waits += usize::from(unit.waiting.is_some());
            let is_true = match set {
                Some(set) => view.is_true(number, set, unit, &|name| self.names.number(name)),
                None => unit.waiting.is_none(),
            };
            if !is_true {
                let (last, running) = (process.read.get(&number), process.running.get(&number));
                return Err(format!(
                    "w{} gives a wrong reason: {unit:?}; wanted of set {set:?}, read {last:?}, here {running:?}",
                    process.worker
                ));
            }
        }
        if wanted > 0 {
            return Err(format!("w{} says nothing of {wanted} units that are wanted", process.worker));
        }
        self.figures.waits += waits;
        Ok(())
    }

    /// What each worker says of the units that wait.
    pub(super) fn reasons(&self) -> String {
        let mut text = String::new();
        for process in &self.places {
            let Some(plane) = &process.plane else { continue };
            let report = self.switches.report(plane, process.local(self.now));
            let (worker, life) = (process.worker, process.life);
            // Writing to a string does not fail.
            let _ = write!(text, "\n  w{worker}/{life}, of life {:?}:", report.own.map(|own| own.0));
            for UnitReport { name, waiting, .. } in &report.units {
                if let Some(waiting) = waiting {
                    let _ = write!(text, "\n    {name}: {waiting}");
                }
            }
        }
        text
    }
}

/// A process at a moment.
struct View<'a> {
    process: &'a Process,
    plane: &'a ControlPlane,
    /// By partition, whether its units may run.
    leased: [bool; PARTITIONS],
    now: Millis,
}

impl View<'_> {
    /// Whether it is true what is said of a unit that is wanted of this set.
    fn is_true(&self, unit: UnitNumber, set: i64, report: &UnitReport, number: &Numbers<'_>) -> bool {
        let leased = self.leased[partition_of(unit)];
        let Some(running) = self.process.running.get(&unit) else {
            return match &report.waiting {
                None => self.is_elsewhere(unit, set, report.owner.as_ref()),
                Some(waiting) => self.keeps(unit, set, report.owner.as_ref(), waiting, number),
            };
        };
        match report.waiting {
            Some(Waiting::Stopping) => running.stopping && !running.ended,
            Some(Waiting::NoLease) => !leased && (!running.stopping || running.ended),
            Some(_) => false,
            None => leased && !running.suspended && (!running.stopping || running.ended) && running.set == set,
        }
    }

    fn last(&self, unit: UnitNumber) -> Register {
        self.process.read.get(&unit).copied().unwrap_or_default()
    }

    /// Who holds a unit, as far as was read.
    fn holder(&self, unit: UnitNumber) -> Option<Incarnation> {
        self.last(unit).holder().map(|held| held.incarnation)
    }

    fn is_own(&self, unit: UnitNumber) -> bool {
        self.holder(unit).is_some_and(|life| Some(life) == self.plane.incarnation())
    }

    /// The worker that holds a unit, if that is another one and its life is not over.
    fn other_holder(&self, unit: UnitNumber) -> Option<&WorkerId> {
        let life = self.holder(unit).filter(|_| !self.is_own(unit))?;
        let member = self.process.fold.members.values().find(|member| member.incarnation == life);
        member.map(|member| &member.id)
    }

    fn is_free(&self, unit: UnitNumber) -> bool {
        !self.is_own(unit) && self.other_holder(unit).is_none()
    }

    /// Whether another worker holds it that should run it.
    fn is_elsewhere(&self, unit: UnitNumber, set: i64, owner: Option<&WorkerId>) -> bool {
        let holder = self.other_holder(unit);
        holder.is_some() && holder == owner && self.last(unit).holder().is_some_and(|held| held.set >= set)
    }

    /// Whether this keeps a unit from running that does not run here.
    fn keeps(
        &self,
        unit: UnitNumber,
        set: i64,
        owner: Option<&WorkerId>,
        waiting: &Waiting,
        number: &Numbers<'_>,
    ) -> bool {
        let (process, traces) = (self.process, &self.process.traces);
        let members = &process.fold.members;
        let takers = members.values().filter(|member| member.state == MemberState::Joined).count();
        match waiting {
            Waiting::Stopping => false,
            Waiting::Return(ms) => self.is_free(unit) && self.holder(unit).is_some() && self.looks_again(*ms),
            Waiting::NoTaker => takers == 0 && self.is_free(unit),
            Waiting::Unassigned => self.is_free(unit) && self.looks_again(self.plane.kept().units as u64 / 100),
            Waiting::HeldBy(worker) => self.other_holder(unit) == Some(worker) && !self.is_elsewhere(unit, set, owner),
            Waiting::NotClaimed(worker) => {
                let own = members.values().find(|member| Some(member.incarnation) == self.plane.incarnation());
                let is_other = owner == Some(worker) && own.is_none_or(|own| own.id != *worker);
                is_other && self.is_free(unit) && members.values().any(|member| member.id == *worker)
            }
            Waiting::Releasing => self.is_own(unit),
            Waiting::Writing => self.is_free(unit) && traces.writing.values().any(|writing| *writing == unit),
            Waiting::Retry(ms) => self.is_free(unit) && traces.failed.contains(&unit) && self.looks_again(*ms),
            Waiting::SecondChoice(ms) => self.is_free(unit) && takers > 1 && self.looks_again(*ms),
            Waiting::ClaimNotRead => traces.claims.get(&unit).is_some_and(|claim| !self.is_own_claim(unit, *claim)),
            Waiting::NoLease => !self.leased[partition_of(unit)],
            Waiting::Contested(ms) => {
                let until = traces.contested.get(&unit);
                self.is_own(unit) && until == Some(&self.now.plus(*ms)) && self.looks_again(*ms)
            }
            Waiting::Behind => {
                let position = process.positions[CONFIG] as i64;
                let last = if self.is_own(unit) { traces.folded } else { folded(self.last(unit)) };
                last.is_some_and(|at| at >= position)
            }
            Waiting::Barrier(other) => {
                self.is_own(unit) && number(other).is_some_and(|other| self.closes(other, unit, set))
            }
            Waiting::Leaving => process.leaving && self.is_free(unit),
            // The time for it has come, and it was not told yet.
            Waiting::Due => self.looks_again(0),
        }
    }

    fn is_own_claim(&self, unit: UnitNumber, claim: u64) -> bool {
        self.is_own(unit) && self.last(unit).holder().is_some_and(|held| held.claim == claim)
    }

    /// Whether the control plane wants to be woken when so many milliseconds are over: what ends by time has to be looked at then.
    fn looks_again(&self, ms: u64) -> bool {
        self.plane.next_deadline(self.now).is_some_and(|at| at <= self.now.plus(ms))
    }

    /// Whether a unit may keep another one of its connector, of this set, from running.
    fn closes(&self, unit: UnitNumber, other: UnitNumber, set: i64) -> bool {
        let is_contested = self.process.traces.contested.get(&unit).is_some_and(|until| self.now < *until);
        let runs = self.process.running.get(&unit).is_some_and(|running| running.set < set);
        let is_quiet = match self.last(unit) {
            Register::Ours(fields) if fields.held => fields.set >= set,
            Register::Ours(fields) => fields.at >= set,
            Register::Empty | Register::Foreign => false,
        };
        unit != other && connector_of(unit) == connector_of(other) && (is_contested || runs || !is_quiet)
    }
}

type Numbers<'a> = dyn Fn(&str) -> Option<UnitNumber> + 'a;

/// How far the writer of a register had folded.
fn folded(register: Register) -> Option<i64> {
    match register {
        Register::Ours(fields) => Some(fields.at),
        Register::Empty | Register::Foreign => None,
    }
}
