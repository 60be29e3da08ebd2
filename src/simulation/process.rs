//! A worker process: its control plane, its readers, its timer, and the units that run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock::{Clock, MS, Micros};
use super::fold::{Fold, Wanted, changes};
use super::gossip::Hearsay;
use super::names::{PARTITIONS, UnitNumber, partition_of, worker_id};
use super::reasons::Traces;
use super::world::{CONFIG, Letter, Message, SLOTS, Who, World};
use crate::cluster::{Action, ControlPlane, Event, Member, Millis, Nonce, Peer, Register, Settings};

/// A unit that a process was told to start and has not said to have stopped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) claim: u64,
    pub(super) set: i64,
    /// It may not do anything any more.
    pub(super) revoked: bool,
    pub(super) suspended: bool,
    pub(super) stopping: bool,
    /// It has ended by itself, which its control plane does not know yet.
    pub(super) ended: bool,
    /// Status writes of its own that are under way.
    pub(super) writes: u32,
    /// How many times a connector has said its tasks.
    pub(super) said: u64,
}

/// See the module. Without a control plane it is a place where none runs.
#[derive(Default)]
pub(super) struct Process {
    /// The number of its worker.
    pub(super) worker: usize,
    pub(super) life: u64,
    pub(super) plane: Option<Box<ControlPlane>>,
    #[cfg(test)]
    thorough: Option<Box<ControlPlane>>,
    clock: Option<Clock>,
    pub(super) fold: Fold,
    members: Arc<[Member]>,
    pub(super) positions: [usize; SLOTS],
    /// Whether the reader was woken and has not read yet.
    pub(super) reading: [bool; SLOTS],
    /// Until when readers deliver nothing.
    pub(super) stalled_until: [Micros; SLOTS],
    /// Until when the process stands still.
    pub(super) frozen_until: Micros,
    read_once: bool,
    pub(super) running: BTreeMap<UnitNumber, Running>,
    /// For each status partition, until when in true time its units may run.
    pub(super) leases: [Micros; PARTITIONS],
    pub(super) nonces: Vec<Nonce>,
    /// The number of the timer that is set, and when it goes off.
    timer: (u64, Micros),
    pub(super) leaving: bool,
    /// Own status writes under way: when they began.
    pub(super) own_writes: BTreeMap<u64, Millis>,
    pub(super) told_oldest: Option<Millis>,
    /// What others have told it, and who lives by that, as its control plane knows it.
    pub(super) heard: Hearsay,
    pub(super) told_peers: Vec<Peer>,
    /// The last record of each unit that it has read.
    pub(super) read: BTreeMap<UnitNumber, Register>,
    /// What it has read and written beside that.
    pub(super) traces: Traces,
    /// Releases that were said, where they are said once.
    pub(super) released: BTreeSet<(UnitNumber, u64)>,
}

impl Process {
    pub(super) fn local(&self, now: Micros) -> Millis {
        self.clock.map_or(Millis(0), |clock| clock.read(now))
    }

    /// Whether the unit runs here and may.
    pub(super) fn is_active(&self, unit: UnitNumber, running: &Running, now: Micros) -> bool {
        !running.revoked && now < self.leases[partition_of(unit)]
    }
}

impl World {
    /// Starts a worker, unless it is not to run, or runs.
    pub(super) fn boot(&mut self, worker: usize) {
        let up = self.places.iter().any(|process| process.plane.is_some() && process.worker == worker);
        if self.workers[worker] && !up {
            self.start_process(worker);
        }
    }

    /// Starts a process of a worker, whether or not one runs.
    pub(super) fn start_process(&mut self, worker: usize) {
        let Some(place) = self.places.iter().position(|process| process.plane.is_none()) else { return };
        self.lives += 1;
        self.figures.boots += 1;
        let nonce_seed = self.rng.u64(..);
        let settings = Settings {
            worker_id: worker_id(worker),
            group_id: "simulated".into(),
            fence_ms: self.setup.fence_ms,
            return_delay_ms: self.weather.return_delay / MS,
            members_max: usize::MAX,
            nonce_seed,
        };
        let life = self.lives;
        self.places[place] = Process {
            worker,
            life,
            plane: Some(Box::new(self.switches.control_plane(settings.clone()))),
            #[cfg(test)]
            thorough: self.switches.thorough.then(|| {
                let rules = crate::cluster::Rules { only_due: false, ..self.switches.rules };
                Box::new(ControlPlane::with_rules(settings, rules))
            }),
            clock: Some(self.clocks[worker]),
            timer: (0, Micros::MAX),
            ..Process::default()
        };
        self.note(|_| format!("w{worker}/{life} starts"));
        self.step(place, Event::Start);
        for slot in 0..SLOTS {
            self.wake_reader(place, slot);
        }
        self.gossip(Who { place, life });
    }

    /// The process ends, however that came, and is started again after a while.
    pub(super) fn down(&mut self, place: usize, how: &str) {
        let process = std::mem::take(&mut self.places[place]);
        let (worker, life) = (process.worker, process.life);
        self.note(|_| format!("w{worker}/{life} {how}"));
        if let Some(life) = process.plane.as_ref().and_then(|plane| plane.incarnation()) {
            self.lose_connections(life);
        }
        if self.workers[worker] {
            let at = self.now + self.rng.u64(0..4 * self.fence());
            self.send(at, Message::Boot(worker));
        }
    }

    /// Gives an event to a control plane and does what it says.
    pub(super) fn step(&mut self, place: usize, event: Event) {
        let process = &mut self.places[place];
        let now = process.local(self.now);
        let Some(plane) = &mut process.plane else { return };
        process.traces.answered(&event);
        let mut actions = Vec::new();
        #[cfg(test)]
        if let Some(thorough) = &mut process.thorough {
            let mut expected = Vec::new();
            thorough.step(event.clone(), now, &mut expected);
            plane.step(event, now, &mut actions);
            plane.check(now);
            assert_eq!(actions, expected, "what was not due had to be compared");
        } else {
            plane.step(event, now, &mut actions);
        }
        #[cfg(not(test))]
        plane.step(event, now, &mut actions);
        self.figures.steps += 1;
        for action in actions {
            self.note_action(place, &action);
            self.act(place, action);
        }
        self.renew_leases(place);
        self.set_timer(place);
    }

    fn note_action(&mut self, place: usize, action: &Action) {
        if !matches!(action, Action::AskEnds { .. } | Action::AskJavaGroup | Action::Probe { .. }) {
            let (worker, life) = (self.places[place].worker, self.places[place].life);
            self.note(|_| format!("w{worker}/{life}: {action:?}"));
        }
    }

    /// The pumps of the units learn how long they may go on. They look at the clock themselves, also while the rest of the process stands still.
    fn renew_leases(&mut self, place: usize) {
        let now = self.now;
        let process = &mut self.places[place];
        let (Some(plane), Some(clock)) = (&process.plane, process.clock) else { return };
        let mut returned = [false; PARTITIONS];
        for (partition, returned) in returned.iter_mut().enumerate() {
            let until = plane.lease_of(partition as i32).map_or(0, |until| clock.when(until));
            let before = std::mem::replace(&mut process.leases[partition], until);
            *returned = before <= now && until > now;
        }
        if returned.contains(&true) {
            let units: Vec<UnitNumber> =
                process.running.keys().copied().filter(|unit| returned[partition_of(*unit)]).collect();
            for unit in units {
                self.check_runners(unit);
            }
        }
    }

    fn set_timer(&mut self, place: usize) {
        let process = &mut self.places[place];
        let (Some(plane), Some(clock)) = (&process.plane, process.clock) else { return };
        let Some(deadline) = plane.next_deadline(clock.read(self.now)) else { return };
        let due = clock.when(deadline).max(self.now);
        // One that goes off earlier looks again then.
        if process.timer.1 <= due {
            return;
        }
        let at = due + self.rng.u64(0..2 * MS);
        process.timer = (process.timer.0 + 1, at);
        let (who, letter) = (Who { place, life: process.life }, Letter::Tick(process.timer.0));
        self.send(at, Message::To(who, letter));
    }

    pub(super) fn tick(&mut self, place: usize, number: u64) {
        let process = &mut self.places[place];
        if process.timer.0 != number {
            return;
        }
        process.timer.1 = Micros::MAX;
        let now = process.local(self.now);
        let due = |process: &Process| process.plane.as_ref().and_then(|plane| plane.next_deadline(now));
        if due(process).is_none_or(|at| at > now) {
            return self.set_timer(place);
        }
        self.step(place, Event::Tick);
        if due(&self.places[place]).is_some_and(|at| at <= now) {
            let worker = self.places[place].worker;
            self.fail(|_| format!("spins: a tick of w{worker} leaves the same deadline"));
        }
    }

    /// A reader delivers some of what is there.
    pub(super) fn read(&mut self, who: Who, slot: usize) {
        let process = &mut self.places[who.place];
        if process.stalled_until[slot] > self.now {
            let at = process.stalled_until[slot];
            return self.send(at, Message::To(who, Letter::Read(slot)));
        }
        process.reading[slot] = false;
        let from = process.positions[slot];
        let end = if slot == CONFIG { self.config.end() } else { self.status[slot - 1].end() };
        let to = if self.faulty() && end > from { self.rng.usize(from + 1..=end) } else { end };
        match slot {
            CONFIG => self.read_config(who, from, to),
            _ => self.read_status(who, slot - 1, from, to),
        }
        if !self.is_up(who) {
            return;
        }
        let positions = self.places[who.place].positions;
        let status = positions[1..].iter().map(|position| *position as i64).collect();
        self.step(who.place, Event::Progress { config: positions[CONFIG] as i64, status });
        if to < end {
            self.wake_reader(who.place, slot);
        } else if slot == CONFIG && self.is_up(who) {
            self.places[who.place].read_once = true;
            self.check_fold(who.place);
        }
    }

    /// Each record by itself, but for the first time, where one event is enough for many.
    fn read_config(&mut self, who: Who, from: usize, to: usize) {
        let mut before: BTreeMap<usize, Wanted> = BTreeMap::new();
        for offset in from..to {
            let process = &mut self.places[who.place];
            process.positions[CONFIG] = offset + 1;
            let record = self.config.get(offset);
            if let Some(record) = record {
                if let Some(connector) = record.connector() {
                    before.entry(connector).or_insert_with(|| process.fold.connector(connector).wanted());
                }
                process.fold.apply(offset as i64, record);
                if record.connector().is_none() {
                    process.members = World::members_of(&process.fold);
                }
            }
            let tell = if process.read_once { record.is_some() } else { offset + 1 == to };
            if !tell {
                continue;
            }
            let mut told = Vec::new();
            for (connector, before) in &before {
                let after = process.fold.connector(*connector).wanted();
                told.extend(changes(&self.names, *connector, *before, after));
            }
            let members = process.members.clone();
            self.step(who.place, Event::Folded { position: offset as i64 + 1, members, changes: told });
            for connector in std::mem::take(&mut before).into_keys() {
                self.follow_connector(who, connector);
            }
            if !self.is_up(who) {
                return;
            }
        }
    }

    fn read_status(&mut self, who: Who, partition: usize, from: usize, to: usize) {
        for offset in from..to {
            let process = &mut self.places[who.place];
            process.positions[1 + partition] = offset + 1;
            let Some(record) = self.status[partition].get(offset) else { continue };
            self.trace_read(who.place, record.unit, record.register);
            let (unit, group) = (self.names.name(record.unit).clone(), self.names.group(record.unit).cloned());
            let register = record.register;
            self.step(who.place, Event::StatusRead { unit, group, partition: partition as i32, register });
            if !self.is_up(who) {
                return;
            }
        }
    }
}
