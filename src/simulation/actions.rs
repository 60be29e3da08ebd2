//! What a process does: the actions of its control plane, and what the units that it runs do of themselves.

use std::sync::Arc;

use super::clock::MS;
use super::log::{ConfigRecord, MemberRecord, StatusRecord, TaskSet};
use super::names::{UnitNumber, connector_of, connector_unit, task_of, worker_number};
use super::process::Running;
use super::transactions::{Transaction, Write};
use super::world::{Letter, Message, Record, Who, World};
use crate::cluster::{Action, AppendFailure, Event, Incarnation, MemberState, Register, Token, WorkerId};

/// Until a unit whose status write is under way is asked again whether it has ended, and until a connector says its tasks again.
const AGAIN: u64 = 50 * MS;

impl World {
    fn who(&self, place: usize) -> Who {
        Who { place, life: self.places[place].life }
    }

    /// The number of a unit that was named to a control plane, which knows no others.
    fn unit_number(&mut self, name: &str) -> UnitNumber {
        let number = self.names.number(name);
        if number.is_none() {
            self.fail(|_| format!("no such unit: {name}"));
        }
        number.unwrap_or_default()
    }

    pub(super) fn act(&mut self, place: usize, action: Action) {
        let who = self.who(place);
        match action {
            Action::AskEnds { ask } => {
                let at = self.soon();
                let failed = self.chance(self.weather.fails);
                let message = match failed {
                    true => Message::To(who, Letter::Event(Event::EndsFailed { ask })),
                    false => Message::Ask(who, ask),
                };
                self.send(at, message);
            }
            Action::AskJavaGroup => {
                let at = self.soon();
                self.send(at, Message::To(who, Letter::Event(Event::JavaGroup { live: false })));
            }
            Action::Probe { worker, incarnation, nonce, via } => {
                let at = self.soon();
                self.send(at, Message::Probe { from: who, worker, incarnation, nonce, via });
            }
            Action::AppendJoined { .. }
            | Action::AppendDraining { .. }
            | Action::AppendSettled { .. }
            | Action::AppendGone { .. } => self.write_own_record(who, &action),
            // No partition takes records that another one does not take for long: one stands for all.
            Action::AppendNothing { token, .. } => {
                self.acted("doubts the log");
                let (done, failed) = (Event::Appended { token }, failed(token));
                self.append(who, Record::Config(ConfigRecord::Nothing), Letter::Event(done), Letter::Event(failed));
            }
            Action::ForeignRegisters { unit, at, .. } => {
                self.fail(|_| format!("the status of {unit} is taken for one of another cluster: it names {at}"));
            }
            Action::CompareAndTombstone { token, worker, incarnation } => self.evict(who, token, &worker, incarnation),
            Action::WriteClaim { token, unit, fields, .. } => {
                let unit = self.unit_number(&unit);
                self.check_claim(place, unit);
                self.places[place].traces.claimed(unit, fields.claim);
                self.append_status(who, unit, Register::Ours(fields), token);
            }
            Action::WriteRelease { token, unit, fields, .. } => {
                let unit = self.unit_number(&unit);
                if !self.switches.repeated_release() && !self.places[place].released.insert((unit, fields.claim)) {
                    let at = self.soon();
                    return self.send(at, Message::To(who, Letter::Event(Event::Appended { token })));
                }
                self.append_status(who, unit, Register::Ours(fields), token);
            }
            Action::WriteTombstone { token, unit, .. } => {
                let unit = self.unit_number(&unit);
                self.append_status(who, unit, Register::Empty, token);
            }
            Action::StartUnit { unit, claim } => self.start_unit(who, &unit.name, unit.set, claim),
            Action::StopUnit { unit, claim, hard } => self.stop_unit(who, &unit, claim, hard),
            Action::SuspendUnit { unit, .. } => self.suspend_unit(place, &unit, true),
            Action::ResumeUnit { unit, .. } => self.suspend_unit(place, &unit, false),
            Action::Joined { .. } => self.membership_changed(),
            Action::Left => self.down(place, "has left"),
            Action::Exit { reason } => self.down(place, &format!("exits: {reason}")),
        }
    }

    fn write_own_record(&mut self, who: Who, action: &Action) {
        let (joined, draining) = (MemberState::Joined, MemberState::Draining);
        let (token, record) = match *action {
            Action::AppendJoined { token, nonce } => {
                self.places[who.place].nonces.push(nonce);
                (token, Some(MemberRecord { nonce, incarnation: None, state: joined, settled: false }))
            }
            Action::AppendDraining { token, incarnation, nonce } => {
                (token, Some(MemberRecord { nonce, incarnation: Some(incarnation), state: draining, settled: true }))
            }
            Action::AppendSettled { token, incarnation, nonce } => {
                (token, Some(MemberRecord { nonce, incarnation: Some(incarnation), state: joined, settled: true }))
            }
            Action::AppendGone { token } => (token, None),
            // Nothing else is handed over here.
            _ => return,
        };
        self.append_member(who, token, record);
    }

    fn append_member(&mut self, who: Who, token: Token, record: Option<MemberRecord>) {
        self.acted("writes of its membership");
        let record = Record::Config(ConfigRecord::Worker(self.places[who.place].worker, record));
        // Behind an open transaction, what is acknowledged is not readable yet.
        if self.chance(self.weather.fails / 2) {
            let (at, landing) = (self.soon(), self.soon() + self.rng.u64(0..=2 * self.fence()));
            self.send(at, Message::To(who, Letter::Event(Event::Appended { token })));
            return self.send(landing.max(at), Message::Append(record, None));
        }
        self.append(who, record, Letter::Event(Event::Appended { token }), Letter::Event(failed(token)));
    }

    fn append_status(&mut self, who: Who, unit: UnitNumber, register: Register, token: Token) {
        self.acted("writes a register");
        self.places[who.place].traces.written(unit, token);
        let record = Record::Status(StatusRecord { unit, register });
        self.append(who, record, Letter::Event(Event::Appended { token }), Letter::Event(failed(token)));
    }

    fn evict(&mut self, who: Who, token: Token, victim: &WorkerId, incarnation: Incarnation) {
        self.acted("evicts");
        let process = &self.places[who.place];
        let (Some(victim), Some(own)) =
            (worker_number(victim), process.plane.as_ref().and_then(|plane| plane.incarnation()))
        else {
            return self.fail(|_| "only a member evicts, and only workers".into());
        };
        let write = Write::Evict { token, worker: process.worker, own, victim, incarnation };
        self.send(self.now, Message::To(who, Letter::Begin(Transaction::new(who, write))));
    }

    /// Appends a record. Some get lost, some answers do, and some records come when their writer has given them up.
    fn append(&mut self, who: Who, record: Record, stored: Letter, lost: Letter) {
        if !self.chance(self.weather.fails) {
            let at = self.soon();
            return self.send(at, Message::Append(record, Some((who, stored))));
        }
        let at = self.soon();
        self.send(at, Message::To(who, lost));
        if self.rng.u8(0..3) > 0 {
            let late = self.rng.u64(0..=5 * self.fence());
            let at = self.soon() + if self.rng.bool() { late } else { 0 };
            self.send(at, Message::Append(record, None));
        }
    }

    fn start_unit(&mut self, who: Who, name: &Arc<str>, set: i64, claim: u64) {
        self.acted("starts a unit");
        self.figures.starts += 1;
        let unit = self.unit_number(name);
        *self.touched.entry(unit).or_default() += 1;
        let running =
            Running { claim, set, revoked: false, suspended: false, stopping: false, ended: false, writes: 0, said: 0 };
        if self.places[who.place].running.insert(unit, running).is_some() {
            return self.fail(|_| format!("{name} was started where it still runs"));
        }
        self.check_runners(unit);
        self.write_own_status(who, unit);
        if task_of(unit).is_none() {
            self.speak(who, connector_of(unit), claim);
        }
    }

    fn stop_unit(&mut self, who: Who, name: &Arc<str>, claim: u64, hard: bool) {
        self.acted("stops a unit");
        self.figures.stops += 1;
        let unit = self.unit_number(name);
        self.touched.entry(unit).or_default();
        if !hard {
            self.check_stop(who.place, unit);
        }
        let Some(running) = self.places[who.place].running.get_mut(&unit).filter(|running| running.claim == claim)
        else {
            return self.fail(|_| format!("{name} is stopped, but does not run under claim {claim}"));
        };
        (running.stopping, running.ended) = (true, false);
        running.revoked |= hard;
        let at = self.soon();
        self.send(at, Message::To(who, Letter::Stopped(unit, claim)));
    }

    /// The code of a unit has ended. That is told when none of its status writes is under way.
    pub(super) fn unit_stopped(&mut self, who: Who, unit: UnitNumber, claim: u64) {
        let process = &mut self.places[who.place];
        let Some(running) = process.running.get(&unit).filter(|running| running.claim == claim) else { return };
        if running.writes > 0 {
            return self.send(self.now + AGAIN, Message::To(who, Letter::Stopped(unit, claim)));
        }
        process.running.remove(&unit);
        let unit = self.names.name(unit).clone();
        self.step(who.place, Event::UnitStopped { unit, claim });
    }

    fn suspend_unit(&mut self, place: usize, name: &Arc<str>, suspended: bool) {
        self.acted("suspends or resumes a unit");
        self.figures.suspensions += usize::from(suspended);
        let unit = self.unit_number(name);
        if let Some(running) = self.places[place].running.get_mut(&unit) {
            running.suspended = suspended;
        }
    }

    /// A status of a unit that runs, written by the process itself under the claim of the unit.
    pub(super) fn write_own_status(&mut self, who: Who, unit: UnitNumber) {
        let name = self.names.name(unit).clone();
        let now = self.now;
        let write = self.own_writes;
        let process = &mut self.places[who.place];
        let Some(fields) = process.plane.as_ref().and_then(|plane| plane.register_fields(&name)) else { return };
        let local = process.local(now);
        let Some(running) = process.running.get_mut(&unit).filter(|running| !running.suspended) else { return };
        running.writes += 1;
        process.own_writes.insert(write, local);
        self.own_writes += 1;
        let record = Record::Status(StatusRecord { unit, register: Register::Ours(fields) });
        let over = Letter::Written(unit, write);
        self.append(who, record, over.clone(), over);
        self.send(now, Message::To(who, Letter::OldestAppend));
    }

    pub(super) fn own_write_over(&mut self, who: Who, unit: UnitNumber, write: u64) {
        let process = &mut self.places[who.place];
        process.own_writes.remove(&write);
        if let Some(running) = process.running.get_mut(&unit) {
            running.writes = running.writes.saturating_sub(1);
        }
        self.tell_oldest_append(who.place);
    }

    pub(super) fn tell_oldest_append(&mut self, place: usize) {
        let process = &mut self.places[place];
        let oldest = process.own_writes.first_key_value().map(|(_, since)| *since);
        if process.told_oldest != oldest {
            process.told_oldest = oldest;
            self.step(place, Event::OldestAppend(oldest));
        }
    }

    /// The configuration of a connector has changed, or what it is asked to do: who runs it lets it say its tasks.
    pub(super) fn follow_connector(&mut self, who: Who, connector: usize) {
        if let Some(running) = self.places[who.place].running.get(&connector_unit(connector)) {
            let claim = running.claim;
            self.speak(who, connector, claim);
        }
    }

    /// A connector will say its tasks. Only the last time counts.
    pub(super) fn speak(&mut self, who: Who, connector: usize, claim: u64) {
        let Some(running) = self.places[who.place].running.get_mut(&connector_unit(connector)) else { return };
        running.said += 1;
        let said = running.said;
        let at = self.soon();
        self.send(at, Message::To(who, Letter::Say(connector, claim, said)));
    }

    /// A connector says how many tasks it has to have.
    pub(super) fn say_tasks(&mut self, who: Who, connector: usize, claim: u64, said: u64) {
        let running = self.places[who.place].running.get(&connector_unit(connector));
        if running.is_some_and(|running| running.claim == claim && running.said == said && !running.revoked) {
            let count = self.outside.get(&connector).copied().unwrap_or(1);
            self.say_set(who.place, connector, count);
        }
    }

    /// The tasks of a connector that runs here are written when they differ from the set in force.
    pub(super) fn say_set(&mut self, place: usize, connector: usize, count: u32) {
        let (who, process) = (self.who(place), &self.places[place]);
        let Some(running) = process.running.get(&connector_unit(connector)) else { return };
        let Some(incarnation) = process.plane.as_ref().and_then(|plane| plane.incarnation()) else { return };
        let state = process.fold.connector(connector);
        let Some((made_for, _)) = state.config.filter(|_| !state.stopped) else { return };
        let set = TaskSet { count, made_for };
        if state.set.is_none_or(|(_, in_force)| in_force != set) {
            let (claim, said) = (running.claim, running.said);
            let write = Write::Tasks { connector, set, worker: process.worker, incarnation, claim, said };
            let at = self.soon();
            self.send(at, Message::To(who, Letter::Begin(Transaction::new(who, write))));
        }
    }

    /// Writing the tasks of a connector did not come through.
    pub(super) fn say_tasks_again(&mut self, who: Who, connector: usize, claim: u64, said: u64) {
        self.send(self.now + AGAIN, Message::To(who, Letter::Say(connector, claim, said)));
    }
}

fn failed(token: Token) -> Event {
    Event::AppendFailed { token, failure: AppendFailure::Unacknowledged, error: "no answer".into() }
}
