//! The phases of a history: faults, then healing, then a rest in which nothing may be done, one change that may move only what it has to, and a rest again.

use super::clock::{MS, Micros};
use super::names::MAX_TASKS;
use super::process::Process;
use super::transactions::Write;
use super::world::{Message, Who, World};

/// Between two looks while it heals.
const LOOK: Micros = 50 * MS;

/// How long nothing may be done once all is as it should be, at least, and in fence times: by then what was young is forgotten.
const REST: Micros = 2_000 * MS;
const REST_FENCES: u64 = 3;

/// Fence times after the last fault until what stood still goes on and late records have come.
const LAST_FAULT_FENCES: u64 = 12;

/// How long a probe that nobody answers is waited for: until then somebody may be declared gone who was silent in time of faults.
const PATIENCE: Micros = 6_000 * MS;

/// How long a worker that was evicted stays away at most, with a margin: its back-off, or until it joins although nobody answers.
const BACK_OFF: Micros = 62_000 * MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Faults,
    /// Nothing goes wrong any more. `since`: when the members changed last.
    Healing {
        began: Micros,
        since: Micros,
    },
    /// All is as it should be, so nothing may be done. `changed`: whether that is after the change.
    Rest {
        changed: bool,
    },
    /// One thing was changed.
    Changing {
        since: Micros,
        expected: Expected,
    },
    Over,
}

/// What a change has to come to, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    change: Change,
    /// How many units have to be started or stopped.
    units: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Join,
    Leave,
    Crash,
    Create,
    Delete,
    Tasks,
}

impl World {
    /// The last fault is over.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        let began = self.now + PATIENCE.max(LAST_FAULT_FENCES * self.fence());
        self.note(|_| "-- no more faults".into());
        self.phase = Phase::Healing { began, since: began };
        self.send(self.now, Message::Look);
    }

    /// How long it may take until all units run when nothing goes wrong any more, and the members are there.
    fn bound(&self) -> Micros {
        self.setup.bound() + self.weather.return_delay
    }

    /// A worker joined: what is moved to it counts from here.
    pub(super) fn membership_changed(&mut self) {
        if let Phase::Healing { since, .. } | Phase::Changing { since, .. } = &mut self.phase {
            *since = (*since).max(self.now);
        }
    }

    /// Something was done. When all is at rest, nothing may be.
    pub(super) fn acted(&mut self, what: &str) {
        self.acted_at = self.now;
        if matches!(self.phase, Phase::Rest { .. }) {
            self.fail(|_| format!("not at rest: {what}"));
        }
    }

    pub(super) fn look(&mut self) {
        match self.phase {
            Phase::Faults | Phase::Over => {}
            Phase::Healing { began, since } => self.look_for_health(began, since),
            Phase::Changing { since, expected } => {
                let unhealed = self.unhealed_units().or_else(|| self.unhealed_members());
                match unhealed {
                    Some(why) if self.now > since + self.bound() => {
                        self.fail(|world| format!("{:?}: does not heal: {why}{}", expected.change, world.reasons()));
                    }
                    Some(_) => self.send(self.now + LOOK, Message::Look),
                    None => self.check_expected(since, &expected),
                }
            }
            Phase::Rest { changed } => {
                if let Some(why) = self.unhealed_units().or_else(|| self.unhealed_members()) {
                    return self.fail(|world| format!("not at rest: {why}{}", world.reasons()));
                }
                self.check_kept();
                match changed {
                    true => self.phase = Phase::Over,
                    false => self.make_a_change(),
                }
            }
        }
    }

    fn look_for_health(&mut self, began: Micros, since: Micros) {
        if self.now < began {
            return self.send(began, Message::Look);
        }
        let units = self.unhealed_units();
        if units.is_none() && self.figures.units_healed_ms == 0 {
            self.figures.units_healed_ms = self.now.saturating_sub(began) / MS;
        }
        // All of them may have been evicted, and stay away for a while.
        let incarnation = |process: &Process| process.plane.as_ref().and_then(|plane| plane.incarnation());
        let is_empty = self.places.iter().all(|process| incarnation(process).is_none());
        if is_empty && self.now < began + BACK_OFF {
            self.membership_changed();
        }
        match (units, self.unhealed_members()) {
            (None, None) => {
                self.figures.healed_ms = self.now.saturating_sub(began) / MS;
                self.rest(false);
            }
            // A worker that was evicted may just have come back.
            (Some(why), _) if self.now > since + self.bound() && !is_empty && !self.is_busy() => {
                self.fail(|world| format!("does not heal: {why}{}", world.reasons()));
            }
            (None, Some(why)) | (Some(_), Some(why)) if self.now > began + BACK_OFF + self.bound() => {
                self.fail(|world| format!("does not heal: {why}{}", world.reasons()));
            }
            _ => self.send(self.now + LOOK, Message::Look),
        }
    }

    fn rest(&mut self, changed: bool) {
        self.note(|_| "-- all is as it should be".into());
        self.phase = Phase::Rest { changed };
        let rest = REST.max(REST_FENCES * self.fence());
        self.send(self.now + rest, Message::Look);
    }

    /// Changes one thing. All other units have to go on.
    fn make_a_change(&mut self) {
        let Some(who) = self.some_process() else { return self.fail(|_| "no worker runs".into()) };
        let several = self.places.iter().filter(|process| process.plane.is_some()).count() > 1;
        let connectors: Vec<usize> = self
            .truth
            .connectors
            .iter()
            .filter_map(|(connector, state)| state.config.filter(|_| !state.stopped).map(|_| *connector))
            .collect();
        let connector = connectors.get(self.rng.usize(0..connectors.len().max(1))).copied();
        let expect = |change, units| Expected { change, units };
        let runs = self.places[who.place].running.len();
        let worker = self.places[who.place].worker;
        let pick = self.rng.u8(0..8);
        let expected = match (pick, connector) {
            (0, _) if several => expect(Change::Leave, runs),
            (1, _) if several => expect(Change::Crash, runs),
            (2, Some(connector)) => {
                let tasks = self.truth.connector(connector).wanted().tasks as usize;
                expect(Change::Delete, 1 + tasks)
            }
            (3, Some(connector)) => {
                let before = self.truth.connector(connector).wanted().tasks;
                let tasks = 1 + before % MAX_TASKS;
                self.outside.insert(connector, tasks);
                expect(Change::Tasks, tasks.max(before) as usize)
            }
            (4 | 5, _) => {
                let tasks = self.rng.u32(1..=MAX_TASKS);
                let connector = self.names.add();
                self.outside.insert(connector, tasks);
                expect(Change::Create, 1 + tasks as usize)
            }
            _ => {
                let members = self.workers.iter().filter(|wanted| **wanted).count();
                let share = self.truth.all_wanted().len() / (members + 1);
                expect(Change::Join, share)
            }
        };
        self.note(|_| format!("-- {:?} (w{worker}, connector {connector:?})", expected.change));
        self.phase = Phase::Changing { since: self.now, expected };
        self.touched.clear();
        self.figures.changes += 1;
        self.carry_out(expected.change, who, connector);
        self.send(self.now + LOOK, Message::Look);
    }

    fn carry_out(&mut self, change: Change, who: Who, connector: Option<usize>) {
        match (change, connector) {
            (Change::Join, _) => {
                let worker = self.setup.workers;
                self.workers.push(true);
                self.send(self.now, Message::Boot(worker));
            }
            (Change::Leave, _) => {
                self.workers[self.places[who.place].worker] = false;
                self.shut_down(who, BACK_OFF / MS);
            }
            (Change::Crash, _) => {
                self.workers[self.places[who.place].worker] = false;
                self.down(who.place, "crashes");
            }
            (Change::Create, _) => self.request(who, Write::Create(self.names.connectors() - 1)),
            (Change::Delete, Some(connector)) => self.request(who, Write::Delete(connector)),
            (Change::Tasks, Some(connector)) => self.outside_changed(connector),
            (Change::Delete | Change::Tasks, None) => {}
        }
    }

    fn check_expected(&mut self, since: Micros, expected: &Expected) {
        let touched = self.touched.len();
        if touched == expected.units {
            self.figures.crossings += usize::from(self.touched.values().any(|starts| *starts > 1));
            return self.rest(true);
        }
        // With fewer, the change is on its way.
        if touched < expected.units && self.now <= since + self.bound() {
            return self.send(self.now + LOOK, Message::Look);
        }
        self.fail(|_| format!("{:?} has to touch {} units and touches {touched}", expected.change, expected.units));
    }
}
