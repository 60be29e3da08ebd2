//! What goes wrong, and what people do meanwhile.

use super::Setup;
use super::clock::{MS, Micros};
use super::log::{ConfigRecord, MemberRecord, StatusRecord, TaskSet};
use super::names::{MAX_TASKS, UnitNumber, connector_unit, partition_of, task_unit};
use super::transactions::{Transaction, Write};
use super::world::{CONFIG, Letter, Message, Record, SLOTS, Who, World};
use crate::cluster::{Event, Incarnation, MemberState, NO_SET, Nonce, Register, RegisterFields};

#[derive(Debug, Clone, Copy)]
enum Fault {
    Crash,
    CrashAll,
    /// A process stands still and wakes up with what it believed.
    Freeze,
    /// A reader lags.
    Stall,
    /// Nothing gets from one worker to another; the other way it may.
    Cut,
    /// A partition has no leader for a while.
    NoLeader,
    /// Connections to a process are lost, which lives.
    Disconnect,
    /// An orderly leave.
    Leave,
    Compact,
    /// A worker is started while its older process stands still.
    SecondProcess,
    /// A status that a Java worker wrote.
    Java,
    /// A unit writes another status.
    Status,
    /// A unit ends without having been told.
    Ends,
    Create,
    Delete,
    Put,
    /// A connector sees that it needs another number of tasks.
    Outside,
    /// Two sets one shortly after the other, while a reader lags and a worker starts.
    Squeeze,
    Stop,
    Resume,
}

/// All of them, and how often each comes beside the others.
const FAULTS: [(Fault, u32); 20] = [
    (Fault::Crash, 4),
    (Fault::CrashAll, 1),
    (Fault::Freeze, 10),
    (Fault::Stall, 12),
    (Fault::Cut, 10),
    (Fault::NoLeader, 4),
    (Fault::Disconnect, 4),
    (Fault::Leave, 4),
    (Fault::Compact, 8),
    (Fault::SecondProcess, 1),
    (Fault::Java, 3),
    (Fault::Status, 8),
    (Fault::Ends, 2),
    (Fault::Create, 6),
    (Fault::Delete, 4),
    (Fault::Put, 8),
    (Fault::Outside, 10),
    (Fault::Squeeze, 4),
    (Fault::Stop, 3),
    (Fault::Resume, 4),
];

impl Fault {
    /// How often it comes where little but the change of task sets is disturbed.
    fn weight_squeezed(self) -> u32 {
        match self {
            Fault::Squeeze => 40,
            Fault::Stall => 10,
            Fault::Compact => 2,
            Fault::Outside => 5,
            Fault::NoLeader => 3,
            _ => 0,
        }
    }
}

/// How bad it is in one history. Each has its own: where all is as bad as can be, rare coincidences of a few faults do not come up.
pub(super) struct Weather {
    /// The longest usual delay.
    pub(super) usual: Micros,
    /// Of a thousand messages, how many are much slower.
    pub(super) slow: u32,
    /// Of a thousand appends, how many fail, or seem to.
    pub(super) fails: u32,
    /// Of a thousand probes that are answered, how many seem not to be.
    pub(super) lies: u32,
    /// Of a thousand probes that are not answered, how many are not even refused.
    pub(super) silences: u32,
    /// Of a thousand words of gossip, how many are lost.
    pub(super) deaf: u32,
    /// How long the units of a worker that vanished wait for its return.
    pub(super) return_delay: Micros,
    /// The mean time between two faults.
    every: Micros,
    weights: [u32; FAULTS.len()],
}

impl Weather {
    pub(super) fn random(rng: &mut fastrand::Rng, setup: &Setup) -> Self {
        fn one_of<T: Copy>(rng: &mut fastrand::Rng, values: &[T]) -> T {
            values[rng.usize(0..values.len())]
        }
        if setup.squeezed || rng.u8(0..8) == 0 {
            return Weather {
                usual: 2 * setup.fence_ms * MS / 400,
                slow: one_of(rng, &[60, 120, 200]),
                fails: one_of(rng, &[0, 80]),
                lies: 0,
                silences: 0,
                deaf: 0,
                return_delay: 0,
                every: 150 * MS,
                weights: FAULTS.map(|(fault, _)| fault.weight_squeezed()),
            };
        }
        let weights = FAULTS.map(|(_, weight)| weight * one_of(rng, &[0, 1, 1, 3]));
        Weather {
            usual: one_of(rng, &[2, 10, 30]) * setup.fence_ms * MS / 400,
            slow: one_of(rng, &[0, 10, 60, 120]),
            fails: one_of(rng, &[0, 20, 80]),
            lies: one_of(rng, &[0, 50, 600]),
            silences: one_of(rng, &[0, 100]),
            deaf: one_of(rng, &[0, 300, 1000]),
            return_delay: one_of(rng, &[0, 0, 0, 4]) * setup.fence_ms * MS,
            every: one_of(rng, &[80, 150, 400]) * MS,
            weights,
        }
    }
}

impl World {
    /// The topics as an older time left them, and who is started when.
    pub(super) fn begin(&mut self) {
        self.leave_a_past();
        for worker in 0..self.setup.workers {
            let span = if worker == 0 || self.rng.bool() { self.fence() } else { self.setup.faults_ms * MS / 2 };
            let at = self.rng.u64(0..=span);
            self.send(at, Message::Boot(worker));
        }
        self.send(0, Message::Disturb);
    }

    fn leave_a_past(&mut self) {
        let (worker, nonce) = (self.rng.usize(0..=self.setup.workers), Nonce(self.rng.u64(..)));
        let dead = MemberRecord { nonce, incarnation: None, state: MemberState::Joined, settled: true };
        self.land(CONFIG, Record::Config(ConfigRecord::Worker(worker, Some(dead))));
        while self.truth.all_wanted().len() + 2 * (1 + MAX_TASKS as usize) <= self.setup.units {
            let connector = self.names.add();
            let tasks = self.rng.u32(1..=MAX_TASKS);
            self.outside.insert(connector, tasks);
            self.accepted.insert(connector, 0);
            let made_for = self.config.end() as i64;
            self.land(CONFIG, Record::Config(ConfigRecord::Connector(connector, Some(0))));
            if self.rng.u8(0..4) > 0 {
                let set = TaskSet { count: self.rng.u32(1..=MAX_TASKS), made_for };
                self.land(CONFIG, Record::Config(ConfigRecord::Tasks(connector, set)));
            }
            if self.rng.u8(0..8) == 0 {
                self.land(CONFIG, Record::Config(ConfigRecord::Stopped(connector, true)));
            }
        }
        // One that is not there any more has left statuses.
        self.names.add();
        for unit in 0..=task_unit(self.names.connectors() - 1, MAX_TASKS - 1) {
            self.leave_a_status(unit);
        }
    }

    fn leave_a_status(&mut self, unit: UnitNumber) {
        let (set, at) = (self.truth.wanted(unit).unwrap_or(NO_SET), self.config.end() as i64 - 1);
        let fields = RegisterFields { incarnation: Incarnation(0), claim: unit as u64 + 1, held: true, at, set };
        let register = match self.rng.u8(0..5) {
            0 => Register::Ours(fields),
            1 => Register::Ours(RegisterFields { held: false, ..fields }),
            2 => Register::Foreign,
            _ => return,
        };
        self.land(1 + partition_of(unit), Record::Status(StatusRecord { unit, register }));
    }

    /// A process that runs.
    pub(super) fn some_process(&mut self) -> Option<Who> {
        let up: Vec<usize> = (0..self.places.len()).filter(|place| self.places[*place].plane.is_some()).collect();
        let place = *up.get(self.rng.usize(0..up.len().max(1)))?;
        Some(Who { place, life: self.places[place].life })
    }

    /// A connector that is there as far as this process has read.
    fn some_connector(&mut self, who: Who) -> Option<usize> {
        let there = self.places[who.place].fold.connectors.iter().filter(|(_, state)| state.config.is_some());
        let there: Vec<usize> = there.map(|(connector, _)| *connector).collect();
        there.get(self.rng.usize(0..there.len().max(1))).copied()
    }

    /// A unit that runs in this process.
    fn some_running(&mut self, who: Who) -> Option<UnitNumber> {
        let running: Vec<UnitNumber> = self.places[who.place].running.keys().copied().collect();
        running.get(self.rng.usize(0..running.len().max(1))).copied()
    }

    /// Up to so many fence times, and now and then much longer.
    fn for_a_while(&mut self, fences: u64) -> Micros {
        let longest = if self.rng.u8(0..8) == 0 { 10 } else { fences };
        self.now + self.rng.u64(0..longest * self.fence())
    }

    pub(super) fn disturb(&mut self) {
        if self.now >= self.setup.faults_ms * MS {
            return self.heal();
        }
        let next = self.now + self.rng.u64(0..2 * self.weather.every);
        self.send(next, Message::Disturb);
        let all: u32 = self.weather.weights.iter().sum();
        let mut pick = self.rng.u32(0..all.max(1));
        let fault = FAULTS.iter().zip(self.weather.weights).find_map(|((fault, _), weight)| {
            let here = pick < weight;
            pick = pick.saturating_sub(weight);
            here.then_some(*fault)
        });
        let (Some(fault), Some(who)) = (fault, self.some_process()) else { return };
        self.figures.faults += 1;
        let worker = self.places[who.place].worker;
        self.note(|_| format!("-- {fault:?} (w{worker})"));
        self.strike(fault, who);
    }

    fn strike(&mut self, fault: Fault, who: Who) {
        match fault {
            Fault::Crash => self.down(who.place, "crashes"),
            Fault::CrashAll => {
                for place in 0..self.places.len() {
                    if self.places[place].plane.is_some() {
                        self.down(place, "crashes");
                    }
                }
            }
            Fault::Freeze => self.freeze(who),
            Fault::Stall => {
                let slot = self.rng.usize(0..SLOTS);
                self.places[who.place].stalled_until[slot] = self.for_a_while(4);
            }
            Fault::Cut => {
                let (one, other) = (self.places[who.place].worker, self.rng.usize(0..self.setup.workers));
                let until = self.for_a_while(8);
                self.cuts.insert((one, other), until);
            }
            Fault::NoLeader => {
                let slot = self.rng.usize(0..SLOTS);
                self.without_leader[slot] = self.for_a_while(3);
            }
            Fault::Disconnect => {
                let plane = self.places[who.place].plane.as_ref();
                if let Some(life) = plane.and_then(|plane| plane.incarnation()) {
                    self.lose_connections(life);
                }
            }
            Fault::Leave => {
                let wait = self.rng.u64(1_000..8_000);
                self.shut_down(who, wait);
            }
            Fault::Compact => self.compact(),
            Fault::SecondProcess => {
                let worker = self.places[who.place].worker;
                let up = self.places.iter().filter(|process| process.plane.is_some() && process.worker == worker);
                if up.count() == 1 {
                    self.freeze(who);
                    self.start_process(worker);
                }
            }
            Fault::Java => {
                let unit = self.rng.usize(0..=task_unit(self.names.connectors() - 1, MAX_TASKS - 1));
                let register = Register::Foreign;
                self.land(1 + partition_of(unit), Record::Status(StatusRecord { unit, register }));
            }
            Fault::Status => {
                if let Some(unit) = self.some_running(who) {
                    self.write_own_status(who, unit);
                }
            }
            Fault::Ends => self.end_unit(who),
            Fault::Create => self.create(who),
            Fault::Delete => self.change(who, Write::Delete),
            Fault::Put => self.put(who),
            Fault::Outside => {
                if let Some(connector) = self.some_connector(who) {
                    self.change_outside(connector);
                }
            }
            Fault::Squeeze => self.squeeze(who),
            Fault::Stop => self.change(who, Write::Stop),
            Fault::Resume => self.resume(),
        }
    }

    fn freeze(&mut self, who: Who) {
        self.places[who.place].frozen_until = self.for_a_while(4);
    }

    /// Asks a process to leave in an orderly way within some time of its own clock.
    pub(super) fn shut_down(&mut self, who: Who, wait_ms: u64) {
        let process = &mut self.places[who.place];
        process.leaving = true;
        let deadline = process.local(self.now).plus(wait_ms);
        self.send(self.now, Message::To(who, Letter::Event(Event::Shutdown { deadline })));
    }

    fn compact(&mut self) {
        let (slot, lag) = (self.rng.usize(0..SLOTS), self.setup.compaction_lag());
        let up = self.places.iter().filter(|process| process.plane.is_some());
        let read_by_all = up.map(|process| process.positions[slot]).min().unwrap_or(0);
        self.figures.compacted += match slot {
            CONFIG => self.config.compact(self.now, lag, read_by_all),
            _ => self.status[slot - 1].compact(self.now, lag, read_by_all),
        };
    }

    fn end_unit(&mut self, who: Who) {
        let Some(unit) = self.some_running(who) else { return };
        let Some(running) = self.places[who.place].running.get_mut(&unit).filter(|running| !running.stopping) else {
            return;
        };
        (running.stopping, running.ended, running.revoked) = (true, true, true);
        let claim = running.claim;
        self.send(self.now, Message::To(who, Letter::Stopped(unit, claim)));
    }

    pub(super) fn request(&mut self, who: Who, write: Write) {
        self.send(self.now, Message::To(who, Letter::Begin(Transaction::new(who, write))));
    }

    fn change(&mut self, who: Who, write: impl Fn(usize) -> Write) {
        if let Some(connector) = self.some_connector(who) {
            self.request(who, write(connector));
        }
    }

    /// Creates a connector, under a new name or under one that is free again.
    pub(super) fn create(&mut self, who: Who) {
        if self.truth.all_wanted().len() + 1 + MAX_TASKS as usize > self.setup.units {
            return;
        }
        let free = (0..self.names.connectors()).filter(|connector| self.truth.connector(*connector).config.is_none());
        let free: Vec<usize> = free.collect();
        let again = free.get(self.rng.usize(0..free.len().max(1))).copied().filter(|_| self.rng.bool());
        let connector = again.unwrap_or_else(|| self.names.add());
        self.change_outside(connector);
        self.request(who, Write::Create(connector));
    }

    /// Reads a configuration and writes it, provided that it is still the one that was read.
    pub(super) fn put(&mut self, who: Who) {
        let Some(connector) = self.some_connector(who) else { return };
        let Some((seen, value)) = self.places[who.place].fold.connector(connector).config else { return };
        if self.rng.bool() {
            self.change_outside(connector);
        }
        self.request(who, Write::Put { connector, seen, value });
        // Somebody else does the same.
        if let Some(other) = self.some_process().filter(|_| self.faulty() && self.rng.u8(0..3) == 0)
            && let Some((seen, value)) = self.places[other.place].fold.connector(connector).config
        {
            self.request(other, Write::Put { connector, seen, value });
        }
    }

    /// A connector needs another number of tasks.
    fn change_outside(&mut self, connector: usize) {
        let tasks = self.rng.u32(1..=MAX_TASKS);
        self.outside.insert(connector, tasks);
        self.outside_changed(connector);
    }

    /// Who runs the connector notices that it needs another number of tasks.
    pub(super) fn outside_changed(&mut self, connector: usize) {
        for place in 0..self.places.len() {
            let process = &self.places[place];
            if let Some(running) = process.running.get(&connector_unit(connector)) {
                let (who, claim) = (Who { place, life: process.life }, running.claim);
                self.speak(who, connector, claim);
            }
        }
    }

    fn squeeze(&mut self, who: Who) {
        let Some(connector) = self.some_connector(who) else { return };
        let unit = connector_unit(connector);
        let Some(holder) = self.places.iter().position(|process| process.running.contains_key(&unit)) else { return };
        let count = self.rng.u32(1..=MAX_TASKS);
        self.say_set(holder, connector, count);
        self.change_outside(connector);
        if holder != who.place {
            self.places[who.place].stalled_until[CONFIG] = self.now + self.rng.u64(0..self.fence());
        }
        let others = (0..self.places.len()).filter(|place| ![holder, who.place].contains(place));
        let other = others.rev().find(|place| self.places[*place].plane.is_some());
        if let Some(place) = other {
            let worker = self.places[place].worker;
            self.down(place, "crashes");
            let at = self.now + self.rng.u64(0..=self.fence() / 4);
            self.send(at, Message::Boot(worker));
        }
    }

    fn resume(&mut self) {
        let stopped: Vec<usize> =
            self.truth.connectors.iter().filter(|(_, state)| state.stopped).map(|(connector, _)| *connector).collect();
        if let Some(connector) = stopped.get(self.rng.usize(0..stopped.len().max(1))) {
            let at = self.soon();
            self.send(at, Message::Append(Record::Config(ConfigRecord::Stopped(*connector, false)), None));
        }
    }
}
