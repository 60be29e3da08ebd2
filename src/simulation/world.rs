//! The world of one history: true time, what is under way, the topics, and the processes. Deterministic: the seed is the only source of chance.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::clock::{Clock, MS, Micros};
use super::faults::Weather;
use super::fold::Fold;
use super::history::{Figures, History};
use super::log::{ConfigRecord, Log, StatusRecord};
use super::names::{Names, PARTITIONS, UnitNumber, partition_of, worker_id};
use super::phases::Phase;
use super::process::Process;
use super::rules::Switches;
use super::transactions::Transaction;
use super::{Failure, Setup};
use crate::cluster::{Event, Incarnation, Member, Nonce, Peer, ProbeAnswer, Register, Token, WorkerId};

/// The slot of the config topic; partition `p` of the status topic is slot `p + 1`.
pub(super) const CONFIG: usize = 0;

/// Topic partitions.
pub(super) const SLOTS: usize = PARTITIONS + 1;

/// Steps of one history: far more than any takes, so that one that spins ends.
const MAX_STEPS: u64 = 20_000_000;

/// A process: where it runs, and which one of those that ran there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) place: usize,
    pub(super) life: u64,
}

/// A record on its way to its partition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Record {
    Config(ConfigRecord),
    Status(StatusRecord),
}

/// What comes to a process. One that stands still gets it when it goes on.
#[derive(Debug, Clone)]
pub(super) enum Letter {
    Event(Event),
    /// The reader of a partition has something.
    Read(usize),
    /// The timer of this number went off.
    Tick(u64),
    /// A status write of the process's own is over.
    Written(UnitNumber, u64),
    /// The oldest write of its own may be another one now.
    OldestAppend,
    /// The code of a unit may have ended.
    Stopped(UnitNumber, u64),
    /// A connector says its tasks: its number, the claim it runs under and how many times it has spoken.
    Say(usize, u64, u64),
    /// It is time to gossip.
    Gossip,
    /// What another one has said, and when.
    Heard(Micros, Peer),
    Begin(Transaction),
    Commit(Transaction),
}

/// What is under way.
#[derive(Debug, Clone)]
pub(super) enum Message {
    To(Who, Letter),
    /// An append, and how its writer hears of it: `None` when it does not.
    Append(Record, Option<(Who, Letter)>),
    /// A question for ends.
    Ask(Who, Token),
    /// A question whether the process with this nonce lives.
    Probe {
        from: Who,
        worker: WorkerId,
        incarnation: Incarnation,
        nonce: Nonce,
        via: Option<WorkerId>,
    },
    /// A commit that has left its process.
    Commit(Transaction),
    /// The worker with this number is started, unless it runs.
    Boot(usize),
    /// Chance.
    Disturb,
    /// The invariants that are looked at from time to time.
    Look,
}

struct Queued {
    at: Micros,
    number: u64,
    /// In a box: the queue moves its entries about.
    message: Box<Message>,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    /// The next one is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// See the module.
pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) switches: Switches,
    pub(super) rng: fastrand::Rng,
    pub(super) weather: Weather,
    pub(super) now: Micros,
    queue: BinaryHeap<Queued>,
    queued: u64,
    pub(super) names: Names,
    pub(super) config: Log<ConfigRecord>,
    pub(super) status: [Log<StatusRecord>; PARTITIONS],
    /// The config topic, folded as it was written.
    pub(super) truth: Fold,
    /// The last record of each unit.
    pub(super) registers: BTreeMap<UnitNumber, Register>,
    pub(super) places: Vec<Process>,
    /// Processes so far.
    pub(super) lives: u64,
    /// Status writes of processes' own so far.
    pub(super) own_writes: u64,
    /// The clocks of the workers' machines.
    pub(super) clocks: Vec<Clock>,
    /// Workers that are to run, by number.
    pub(super) workers: Vec<bool>,
    /// Who holds the transactional id: each takeover has a new number.
    pub(super) epoch: u64,
    /// How many tasks each connector has to have, by what it sees outside.
    pub(super) outside: BTreeMap<usize, u32>,
    /// How many writes of each connector's configuration were accepted since it was created.
    pub(super) accepted: BTreeMap<usize, u64>,
    /// Until when partitions have no leader.
    pub(super) without_leader: [Micros; SLOTS],
    /// Until when nothing gets from one worker to another.
    pub(super) cuts: BTreeMap<(usize, usize), Micros>,
    pub(super) phase: Phase,
    /// When a control plane last did something that others see.
    pub(super) acted_at: Micros,
    /// Units that were started or told to stop since the last change, and how often they were started.
    pub(super) touched: BTreeMap<UnitNumber, u32>,
    /// Lives that others have declared over.
    pub(super) evicted: BTreeSet<Incarnation>,
    /// Lives that ended, also when a late record of them has made them members again.
    pub(super) ended: BTreeSet<Incarnation>,
    pub(super) figures: Figures,
    pub(super) history: Option<History>,
    failure: Option<Failure>,
}

impl World {
    pub(super) fn new(seed: u64, setup: Setup, switches: Switches, history: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let weather = Weather::random(&mut rng, &setup);
        // One worker more, who comes when all is calm.
        let clocks = (0..=setup.workers).map(|_| Clock::random(&mut rng)).collect();
        // Two processes may run under one id for a while.
        let places = (0..2 * setup.workers + 1).map(|_| Process::default()).collect();
        World {
            setup,
            switches,
            rng,
            weather,
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            names: Names::default(),
            config: Log::new(),
            status: std::array::from_fn(|_| Log::new()),
            truth: Fold::default(),
            registers: BTreeMap::new(),
            places,
            lives: 0,
            own_writes: 0,
            clocks,
            workers: vec![true; setup.workers],
            epoch: 0,
            outside: BTreeMap::new(),
            accepted: BTreeMap::new(),
            without_leader: [0; SLOTS],
            cuts: BTreeMap::new(),
            phase: Phase::Faults,
            acted_at: 0,
            touched: BTreeMap::new(),
            evicted: BTreeSet::new(),
            ended: BTreeSet::new(),
            figures: Figures::default(),
            history: history.then(History::default),
            failure: None,
        }
    }

    /// Runs to the end, or to the first thing that must not happen.
    pub(super) fn run(&mut self) -> Result<(), Failure> {
        self.begin();
        while self.phase != Phase::Over {
            let Some(queued) = self.queue.pop() else { break };
            self.now = queued.at;
            self.deliver(*queued.message);
            self.look_at_reasons();
            if self.figures.steps > MAX_STEPS {
                self.fail(|_| format!("does not end: {MAX_STEPS} steps"));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Notes that something happened that must not happen; the first one counts.
    pub(super) fn fail(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.failure.is_none() {
            let text = what(self);
            self.note(|_| format!("FAILS: {text}"));
            self.failure = Some(Failure { at_ms: self.now / MS, text });
        }
    }

    /// Adds a line to the history, if one is kept.
    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.history.is_some() {
            let line = line(self);
            if let Some(history) = &mut self.history {
                history.add(self.now, line);
            }
        }
    }

    pub(super) fn send(&mut self, at: Micros, message: Message) {
        self.queued += 1;
        let at = at.max(self.now);
        self.queue.push(Queued { at, number: self.queued, message: Box::new(message) });
    }

    pub(super) fn faulty(&self) -> bool {
        self.phase == Phase::Faults
    }

    pub(super) fn fence(&self) -> Micros {
        self.setup.fence_ms * MS
    }

    /// True in so many of a thousand cases, as long as there are faults.
    pub(super) fn chance(&mut self, of_thousand: u32) -> bool {
        self.faulty() && self.rng.u32(0..1000) < of_thousand
    }

    /// When something that is sent now arrives.
    pub(super) fn soon(&mut self) -> Micros {
        let longest = match self.chance(self.weather.slow) {
            true => 3 * self.fence(),
            false => self.weather.usual,
        };
        self.now + self.rng.u64(0..=longest)
    }

    pub(super) fn is_up(&self, who: Who) -> bool {
        let process = &self.places[who.place];
        process.life == who.life && process.plane.is_some()
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::To(who, letter) => self.hand_over(who, letter),
            Message::Append(record, answer) => {
                let slot = match record {
                    Record::Config(_) => CONFIG,
                    Record::Status(record) => 1 + partition_of(record.unit),
                };
                if self.without_leader[slot] > self.now {
                    // The client tries again.
                    let at = self.without_leader[slot] + self.rng.u64(0..=self.weather.usual);
                    return self.send(at, Message::Append(record, answer));
                }
                self.land(slot, record);
                if let Some((who, letter)) = answer {
                    let at = self.soon();
                    self.send(at, Message::To(who, letter));
                }
            }
            Message::Ask(who, ask) => {
                let at = self.soon();
                let event = match self.without_leader.iter().any(|until| *until > self.now) {
                    true => Event::EndsFailed { ask },
                    false => {
                        let status = self.status.iter().map(|log| log.end() as i64).collect();
                        Event::Ends { ask, config: self.config.end() as i64, status }
                    }
                };
                self.send(at, Message::To(who, Letter::Event(event)));
            }
            Message::Probe { from, worker, incarnation, nonce, via } => {
                let answer = self.probe(from, nonce, via.as_ref());
                self.answer_probe(from, worker, incarnation, answer);
            }
            Message::Commit(transaction) => self.commit(transaction),
            Message::Boot(worker) => self.boot(worker),
            Message::Disturb => self.disturb(),
            Message::Look => self.look(),
        }
    }

    fn hand_over(&mut self, who: Who, letter: Letter) {
        if !self.is_up(who) {
            return;
        }
        let frozen_until = self.places[who.place].frozen_until;
        if frozen_until > self.now {
            // In any order, but each reader keeps its own.
            let at = frozen_until + self.rng.u64(0..2 * MS);
            return self.send(at, Message::To(who, letter));
        }
        match letter {
            Letter::Event(event) => self.step(who.place, event),
            Letter::Read(slot) => self.read(who, slot),
            Letter::Tick(number) => self.tick(who.place, number),
            Letter::Written(unit, write) => self.own_write_over(who, unit, write),
            Letter::OldestAppend => self.tell_oldest_append(who.place),
            Letter::Stopped(unit, claim) => self.unit_stopped(who, unit, claim),
            Letter::Say(connector, claim, said) => self.say_tasks(who, connector, claim, said),
            Letter::Gossip => self.gossip(who),
            Letter::Heard(said_at, peer) => self.hear(who.place, said_at, peer),
            Letter::Begin(transaction) => self.begin_transaction(transaction),
            Letter::Commit(transaction) => self.commit(transaction),
        }
    }

    /// A record is there for everybody to read.
    pub(super) fn land(&mut self, slot: usize, record: Record) {
        let now = self.now;
        self.figures.records += 1;
        match record {
            Record::Config(record) => {
                let offset = self.config.append(record, now);
                let before: Vec<Incarnation> = self.truth.members.values().map(|member| member.incarnation).collect();
                self.truth.apply(offset, record);
                self.ended.extend(before.into_iter().filter(|life| !self.truth.lives(*life)));
                // A record of its own that came late makes an evicted life a member again, which may leave in order.
                self.evicted.retain(|life| !self.truth.lives(*life));
                self.note(|_| format!("config @{offset}: {record:?}"));
            }
            Record::Status(record) => {
                let offset = self.status[slot - 1].append(record, now);
                self.registers.insert(record.unit, record.register);
                self.note(|world| {
                    let name = world.names.name(record.unit);
                    format!("status-{} @{offset}: {name} {:?}", slot - 1, record.register)
                });
            }
        }
        for place in 0..self.places.len() {
            self.wake_reader(place, slot);
        }
    }

    /// Something is there to be read by this reader.
    pub(super) fn wake_reader(&mut self, place: usize, slot: usize) {
        let process = &mut self.places[place];
        if process.plane.is_none() || std::mem::replace(&mut process.reading[slot], true) {
            return;
        }
        let who = Who { place, life: process.life };
        let at = self.soon();
        self.send(at, Message::To(who, Letter::Read(slot)));
    }

    /// Whether something sent by one worker does not reach the other.
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    /// The worker of this place answers another one.
    fn answers(&self, asker: usize, place: usize) -> bool {
        let process = &self.places[place];
        let worker = process.worker;
        process.frozen_until <= self.now && !self.is_cut(asker, worker) && !self.is_cut(worker, asker)
    }

    /// What comes of asking the process with this nonce, or a member about it.
    fn probe(&self, from: Who, nonce: Nonce, via: Option<&WorkerId>) -> ProbeAnswer {
        let up = |process: &Process| process.plane.is_some();
        let asked = self.places.iter().position(|process| up(process) && process.nonces.contains(&nonce));
        let asker = self.places[from.place].worker;
        let reaches = |asker| asked.is_some_and(|asked| self.answers(asker, asked));
        let Some(via) = via else {
            return if reaches(asker) { ProbeAnswer::Alive } else { ProbeAnswer::Silence };
        };
        let via = self.places.iter().position(|process| up(process) && worker_id(process.worker) == *via);
        match via.filter(|via| self.answers(asker, *via)) {
            None => ProbeAnswer::Silence,
            Some(via) if reaches(self.places[via].worker) => ProbeAnswer::Alive,
            Some(_) => ProbeAnswer::NotReached,
        }
    }

    fn answer_probe(&mut self, from: Who, worker: WorkerId, incarnation: Incarnation, mut answer: ProbeAnswer) {
        if self.chance(self.weather.lies) {
            answer = ProbeAnswer::Silence;
        }
        // What is lost says nothing at all; who asked gives up some time.
        if !self.is_up(from) || answer == ProbeAnswer::Silence && self.chance(self.weather.silences) {
            return;
        }
        let at = self.soon();
        self.send(at, Message::To(from, Letter::Event(Event::ProbeAnswered { worker, incarnation, answer })));
    }

    /// The members of a fold, as the control plane takes them.
    pub(super) fn members_of(fold: &Fold) -> Arc<[Member]> {
        fold.members.values().cloned().collect()
    }
}
