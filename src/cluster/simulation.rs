//! Three workers over one simulated log, with slow, lost and late writes, wrong probes, pauses, crashes and restarts under the same id.
//!
//! At every moment no unit has two runners with a valid lease, and tasks of two sets never run together. When faults stop,
//! every unit of the newest set runs once. The same runs show that each rule is needed: without it some seed fails.
//!
//! Only one worker of a group may live for now, so moves come from probes that lie: a living worker is declared gone, and the next
//! one takes over while the first still believes in its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::control_plane::{ControlPlane, Settings};
use super::member::*;
use super::protocol::{Action, Event, Token, WantedChange};
use super::rules::Rules;

const STEP_MS: u64 = 20;
const FENCE_MS: u64 = 200;
/// A little more than the fence time; see [`World::compacted`].
const COMPACTION_LAG_MS: u64 = 260;
const FAULTS_UNTIL: Millis = Millis(9_000);
const END: Millis = Millis(45_000);
const WORKERS: usize = 3;
const PARTITIONS: usize = 2;

#[derive(Clone)]
enum ConfigRecord {
    Joined(Nonce),
    Draining(Incarnation, Nonce),
    Settled(Incarnation, Nonce),
    Gone,
    Commit(usize),
}

#[derive(Clone)]
enum Record {
    Config(ConfigRecord),
    Evict { victim: usize, incarnation: Incarnation },
    Status { unit: Arc<str>, partition: usize, register: Register },
}

enum Flying {
    /// To the log. `answer`: whether its writer hears of it.
    Append { by: (usize, u64), record: Record, token: Option<Token>, answer: bool },
    /// To the leaders.
    Ask { by: (usize, u64), ask: Token },
    /// To a worker; `None`: a status write of the caller's own is over.
    Answer { to: (usize, u64), event: Option<Event>, unit: Option<Arc<str>> },
}

struct Running {
    claim: u64,
    set: i64,
    partition: i32,
    lease_until: Option<Millis>,
    /// Stopped hard: it has no lease any more, whatever comes.
    revoked: bool,
    stop_at: Option<Millis>,
    writes: usize,
}

struct Worker {
    life: u64,
    plane: Option<ControlPlane>,
    /// Compares every unit after every event.
    thorough: Option<ControlPlane>,
    /// What `plane` was told to be wanted.
    wanted: Vec<Unit>,
    nonces: BTreeSet<Nonce>,
    config: usize,
    status: [usize; PARTITIONS],
    /// Until when the readers of the status partitions, and last that of the config topic, deliver nothing.
    stalled_until: [Millis; PARTITIONS + 1],
    running: BTreeMap<Arc<str>, Running>,
    paused_until: Millis,
    restart_at: Millis,
}

struct World {
    rng: fastrand::Rng,
    rules: Rules,
    now: Millis,
    config: Vec<(usize, ConfigRecord)>,
    status: [Vec<(Millis, Arc<str>, Register)>; PARTITIONS],
    flying: Vec<(Millis, Flying)>,
    workers: Vec<Worker>,
    starts: usize,
}

fn id(worker: usize) -> WorkerId {
    format!("w{worker}:8083").as_str().into()
}

fn partition_of(unit: &str) -> usize {
    unit.bytes().map(usize::from).sum::<usize>() % PARTITIONS
}

fn group_of(unit: &str) -> Option<Arc<str>> {
    unit.starts_with("task").then(|| "c".into())
}

/// What leads from one to the other.
pub(super) fn changes(before: &[Unit], after: &[Unit]) -> Vec<WantedChange> {
    let gone = before.iter().filter(|unit| after.iter().all(|other| other.name != unit.name));
    let new = after.iter().filter(|unit| !before.contains(unit));
    let gone = gone.map(|unit| WantedChange::Unwanted(unit.name.clone()));
    gone.chain(new.map(|unit| WantedChange::Wanted(unit.clone()))).collect()
}

impl World {
    fn new(seed: u64, rules: Rules) -> Self {
        let worker = |number: usize| Worker {
            life: 0,
            plane: None,
            thorough: None,
            wanted: Vec::new(),
            nonces: BTreeSet::new(),
            config: 0,
            status: [0; PARTITIONS],
            stalled_until: [Millis(0); PARTITIONS + 1],
            running: BTreeMap::new(),
            paused_until: Millis(0),
            restart_at: Millis(number as u64 * 700),
        };
        World {
            rng: fastrand::Rng::with_seed(seed),
            rules,
            now: Millis(10_000_000),
            config: vec![(0, ConfigRecord::Commit(2))],
            status: Default::default(),
            flying: Vec::new(),
            workers: (0..WORKERS).map(worker).collect(),
            starts: 0,
        }
    }

    fn faulty(&self) -> bool {
        self.now < FAULTS_UNTIL
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.faulty() && self.rng.u32(0..1000) < of_thousand
    }

    fn delay(&mut self) -> Millis {
        let longest = if self.faulty() && self.rng.u8(0..8) == 0 { 3 * FENCE_MS } else { 60 };
        self.now.plus(self.rng.u64(0..=longest))
    }

    fn run(&mut self) -> Result<(), String> {
        self.now = Millis(0);
        while self.now < END {
            self.disturb();
            self.deliver();
            for worker in 0..WORKERS {
                self.turn(worker);
                self.check()?;
            }
            self.now = self.now.plus(STEP_MS);
            self.check()?;
        }
        self.check_healed()
    }

    /// What happens to the world of itself.
    fn disturb(&mut self) {
        if self.chance(8) {
            let tasks = self.rng.usize(1..=3);
            self.config.push((0, ConfigRecord::Commit(tasks)));
        }
        for worker in 0..WORKERS {
            if self.workers[worker].plane.is_none() {
                let nobody = self.workers.iter().all(|other| other.plane.is_none());
                let due = self.now >= self.workers[worker].restart_at;
                if due && (self.faulty() || nobody) {
                    self.boot(worker);
                }
            } else if self.chance(2) {
                self.down(worker);
            } else if self.chance(8) {
                let pause = self.rng.u64(0..4 * FENCE_MS);
                self.workers[worker].paused_until = self.now.plus(pause);
            } else if self.chance(10) {
                let stall = self.rng.u64(0..4 * FENCE_MS);
                let reader = self.rng.usize(0..=PARTITIONS);
                self.workers[worker].stalled_until[reader] = self.now.plus(stall);
            } else if self.chance(2) {
                let deadline = self.now.plus(2_000);
                self.step(worker, Event::Shutdown { deadline });
            }
        }
    }

    fn boot(&mut self, number: usize) {
        let seed = self.rng.u64(..);
        let settings = Settings { worker_id: id(number), fence_ms: FENCE_MS, nonce_seed: seed };
        let worker = &mut self.workers[number];
        worker.life += 1;
        worker.thorough = Some(ControlPlane::with_rules(settings.clone(), Rules { only_due: false, ..self.rules }));
        worker.plane = Some(ControlPlane::with_rules(settings, self.rules));
        worker.wanted.clear();
        worker.nonces.clear();
        worker.config = 0;
        worker.status = [0; PARTITIONS];
        worker.paused_until = self.now;
        self.step(number, Event::Start);
    }

    fn down(&mut self, number: usize) {
        let wait = self.rng.u64(0..600);
        let worker = &mut self.workers[number];
        worker.plane = None;
        worker.running.clear();
        worker.restart_at = self.now.plus(wait);
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (mut due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flying).into_iter().partition(|(at, _)| *at <= now);
        self.flying = later;
        self.rng.shuffle(&mut due);
        for (_, message) in due {
            match message {
                Flying::Append { by, record, token, answer } => {
                    let unit = match &record {
                        Record::Status { unit, .. } => Some(unit.clone()),
                        _ => None,
                    };
                    let stored = self.land(by.0, record);
                    if answer {
                        let event = token.map(|token| match stored {
                            true => Event::Appended { token },
                            false => Event::AppendFailed { token, retriable: true, error: "compared".into() },
                        });
                        let at = self.delay();
                        self.flying.push((at, Flying::Answer { to: by, event, unit }));
                    }
                }
                Flying::Ask { by, ask } => {
                    let at = self.delay();
                    let status = self.status.iter().map(|log| log.len() as i64).collect();
                    let event = Some(Event::Ends { ask, config: self.config.len() as i64, status });
                    self.flying.push((at, Flying::Answer { to: by, event, unit: None }));
                }
                Flying::Answer { to, event, unit } => {
                    let worker = &mut self.workers[to.0];
                    if worker.life != to.1 || worker.plane.is_none() {
                        continue;
                    }
                    if worker.paused_until > now {
                        let at = worker.paused_until;
                        self.flying.push((at, Flying::Answer { to, event, unit }));
                        continue;
                    }
                    match event {
                        Some(event) => self.step(to.0, event),
                        None => {
                            if let Some(running) = unit.and_then(|unit| worker.running.get_mut(&unit)) {
                                running.writes = running.writes.saturating_sub(1);
                            }
                        }
                    }
                }
            }
        }
    }

    fn land(&mut self, by: usize, record: Record) -> bool {
        match record {
            Record::Config(record) => self.config.push((by, record)),
            Record::Evict { victim, incarnation } => {
                let (members, _) = self.fold(self.config.len());
                if !members.iter().any(|member| member.id == id(victim) && member.incarnation == incarnation) {
                    return false;
                }
                self.config.push((victim, ConfigRecord::Gone));
            }
            Record::Status { unit, partition, register } => self.status[partition].push((self.now, unit, register)),
        }
        true
    }

    fn fold(&self, position: usize) -> (Vec<Member>, Vec<Unit>) {
        let mut members: BTreeMap<usize, Member> = BTreeMap::new();
        let mut wanted = Vec::new();
        for (offset, (worker, record)) in self.config[..position].iter().enumerate() {
            let offset = offset as i64;
            let member = |incarnation, nonce, state, settled| {
                let id = id(*worker);
                Member { id, incarnation, nonce, state, settled }
            };
            match record {
                ConfigRecord::Joined(nonce) => {
                    members.insert(*worker, member(Incarnation(offset), *nonce, MemberState::Joined, false));
                }
                ConfigRecord::Draining(life, nonce) => {
                    members.insert(*worker, member(*life, *nonce, MemberState::Draining, true));
                }
                ConfigRecord::Settled(life, nonce) => {
                    members.insert(*worker, member(*life, *nonce, MemberState::Joined, true));
                }
                ConfigRecord::Gone => {
                    members.remove(worker);
                }
                ConfigRecord::Commit(tasks) => {
                    let unit = |name: String, set| Unit {
                        group: group_of(&name),
                        set,
                        status_partition: partition_of(&name) as i32,
                        name: name.as_str().into(),
                    };
                    wanted = (0..*tasks).map(|task| unit(format!("task-c-{task}"), offset)).collect();
                    wanted.push(unit("connector-c".into(), NO_SET));
                }
            }
        }
        (members.into_values().collect(), wanted)
    }

    /// A worker reads on, notices what stopped, and looks at the clock.
    fn turn(&mut self, number: usize) {
        if self.workers[number].plane.is_none() || self.workers[number].paused_until > self.now {
            return;
        }
        let lazy = self.faulty();
        let stalled = self.workers[number].stalled_until.map(|until| until > self.now);
        while !stalled[PARTITIONS]
            && self.workers[number].config < self.config.len()
            && !(lazy && self.rng.u8(0..3) == 0)
        {
            self.workers[number].config += 1;
            let position = self.workers[number].config;
            let (members, wanted) = self.fold(position);
            let changes = changes(&self.workers[number].wanted, &wanted);
            self.workers[number].wanted = wanted;
            self.step(number, Event::Folded { position: position as i64, members: members.into(), changes });
        }
        for (partition, stalled) in stalled.into_iter().take(PARTITIONS).enumerate() {
            while !stalled
                && self.workers[number].status[partition] < self.status[partition].len()
                && !(lazy && self.rng.u8(0..3) == 0)
            {
                let index = self.workers[number].status[partition];
                let (_, unit, register) = self.status[partition][index].clone();
                self.workers[number].status[partition] += 1;
                if self.compacted(partition, index) {
                    continue;
                }
                let group = group_of(&unit);
                self.step(number, Event::StatusRead { unit, group, partition: partition as i32, register });
            }
        }
        let worker = &self.workers[number];
        let status = worker.status.iter().map(|position| *position as i64).collect();
        let config = worker.config as i64;
        self.step(number, Event::Progress { config, status });
        let now = self.now;
        let stopped: Vec<(Arc<str>, u64)> = self.workers[number]
            .running
            .iter()
            .filter(|(_, running)| running.writes == 0 && running.stop_at.is_some_and(|at| at <= now))
            .map(|(unit, running)| (unit.clone(), running.claim))
            .collect();
        for (unit, claim) in stopped {
            self.workers[number].running.remove(&unit);
            self.step(number, Event::UnitStopped { unit, claim });
        }
        if self.workers[number].plane.as_ref().is_some_and(|plane| plane.next_deadline(now).is_some_and(|at| at <= now))
        {
            self.step(number, Event::Tick);
            let next = self.workers[number].plane.as_ref().and_then(|plane| plane.next_deadline(now));
            assert!(next.is_none_or(|at| at > now), "a tick that leaves the same deadline would spin");
        }
    }

    /// Whether the record may be gone: compaction removes a record when the one that replaced it is older than the fence time.
    fn compacted(&self, partition: usize, index: usize) -> bool {
        let (_, unit, _) = &self.status[partition][index];
        let mut behind = self.status[partition][index + 1..].iter();
        behind.any(|(at, other, _)| other == unit && self.now.since(*at) > COMPACTION_LAG_MS)
    }

    fn step(&mut self, number: usize, event: Event) {
        let now = self.now;
        let Some(plane) = &mut self.workers[number].plane else { return };
        let mut actions = Vec::new();
        plane.step(event.clone(), now, &mut actions);
        plane.check(now);
        if let Some(thorough) = &mut self.workers[number].thorough {
            let mut expected = Vec::new();
            thorough.step(event, now, &mut expected);
            assert_eq!(actions, expected, "what was not due had to be compared");
        }
        for action in actions {
            self.act(number, action);
        }
        let worker = &mut self.workers[number];
        let Some(plane) = &worker.plane else { return };
        for running in worker.running.values_mut() {
            running.lease_until = plane.lease_of(running.partition).filter(|_| !running.revoked);
        }
    }

    fn append(&mut self, number: usize, record: Record, token: Option<Token>) {
        let by = (number, self.workers[number].life);
        let unit = match &record {
            Record::Status { unit, .. } => Some(unit.clone()),
            _ => None,
        };
        let fails = self.chance(80);
        let lands = !fails || self.rng.bool();
        if fails {
            let at = self.delay();
            let event = token.map(|token| Event::AppendFailed { token, retriable: true, error: "lost".into() });
            self.flying.push((at, Flying::Answer { to: by, event, unit }));
        }
        if lands {
            let mut at = self.delay();
            if fails {
                at = at.plus(self.rng.u64(0..5 * FENCE_MS));
            }
            self.flying.push((at, Flying::Append { by, record, token, answer: !fails }));
        }
    }

    fn act(&mut self, number: usize, action: Action) {
        let to = (number, self.workers[number].life);
        let status =
            |unit: Arc<str>, partition: i32, register| Record::Status { unit, partition: partition as usize, register };
        match action {
            Action::AskEnds { ask } => {
                let at = self.delay();
                let message = match self.chance(50) {
                    true => Flying::Answer { to, event: Some(Event::EndsFailed { ask }), unit: None },
                    false => Flying::Ask { by: to, ask },
                };
                self.flying.push((at, message));
            }
            Action::AskJavaGroup => {
                let at = self.delay();
                let event = Some(Event::JavaGroup { live: false });
                self.flying.push((at, Flying::Answer { to, event, unit: None }));
            }
            Action::Probe { worker, incarnation, nonce } => {
                let lie = self.faulty() && self.rng.u8(0..10) < 9;
                let alive = self.workers.iter().any(|other| other.plane.is_some() && other.nonces.contains(&nonce));
                let event = Some(Event::ProbeAnswered { worker, incarnation, alive: alive && !lie });
                let at = self.delay();
                self.flying.push((at, Flying::Answer { to, event, unit: None }));
            }
            Action::AppendJoined { token, nonce } => {
                self.workers[number].nonces.insert(nonce);
                self.append(number, Record::Config(ConfigRecord::Joined(nonce)), Some(token));
            }
            Action::AppendDraining { token, incarnation, nonce } => {
                self.append(number, Record::Config(ConfigRecord::Draining(incarnation, nonce)), Some(token));
            }
            Action::AppendSettled { token, incarnation, nonce } => {
                self.append(number, Record::Config(ConfigRecord::Settled(incarnation, nonce)), Some(token));
            }
            Action::AppendGone { token } => {
                self.append(number, Record::Config(ConfigRecord::Gone), Some(token));
            }
            Action::CompareAndTombstone { token, worker, incarnation } => {
                let victim = (0..WORKERS).find(|other| id(*other) == worker).unwrap();
                self.append(number, Record::Evict { victim, incarnation }, Some(token));
            }
            Action::WriteClaim { token, unit, partition, fields }
            | Action::WriteRelease { token, unit, partition, fields } => {
                self.append(number, status(unit, partition, Register::Ours(fields)), Some(token));
            }
            Action::WriteTombstone { token, unit, partition } => {
                self.append(number, status(unit, partition, Register::Empty), Some(token));
            }
            Action::StartUnit { unit, claim } => {
                self.starts += 1;
                let fields = self.workers[number].plane.as_ref().and_then(|plane| plane.register_fields(&unit.name));
                let fields = fields.expect("a unit that was started has a claim");
                let partition = unit.status_partition;
                let (lease_until, revoked, stop_at) = (None, false, None);
                let running = Running { claim, set: unit.set, partition, lease_until, revoked, stop_at, writes: 1 };
                let before = self.workers[number].running.insert(unit.name.clone(), running);
                assert!(before.is_none(), "{} was started twice", unit.name);
                self.append(number, status(unit.name, unit.status_partition, Register::Ours(fields)), None);
            }
            Action::StopUnit { unit, claim, hard } => {
                let at = self.delay();
                let running = self.workers[number].running.get_mut(&unit).expect("only what runs is stopped");
                assert_eq!(running.claim, claim);
                running.revoked |= hard;
                running.stop_at = Some(running.stop_at.map_or(at, |before| before.min(at)));
            }
            Action::Left | Action::Exit { .. } => self.down(number),
            Action::Joined { .. } | Action::SuspendUnit { .. } | Action::ResumeUnit { .. } => {}
        }
    }

    /// Units that run and hold a lease: their worker, name and set.
    fn active(&self) -> Vec<(usize, &Arc<str>, i64)> {
        let now = self.now;
        self.workers
            .iter()
            .enumerate()
            .flat_map(|(number, worker)| {
                worker
                    .running
                    .iter()
                    .filter(move |(_, running)| running.lease_until.is_some_and(|at| now < at))
                    .map(move |(unit, running)| (number, unit, running.set))
            })
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let active = self.active();
        for (index, (worker, unit, set)) in active.iter().enumerate() {
            for (other, other_unit, other_set) in &active[index + 1..] {
                if unit == other_unit {
                    return Err(format!("two runners of {unit}: w{worker} and w{other} at {}", self.now.0));
                }
                if *set != NO_SET && *other_set != NO_SET && set != other_set {
                    return Err(format!("two sets: {unit} of {set}, {other_unit} of {other_set} at {}", self.now.0));
                }
            }
        }
        Ok(())
    }

    fn check_healed(&self) -> Result<(), String> {
        let (_, wanted) = self.fold(self.config.len());
        let mut expected: Vec<(&str, i64)> = wanted.iter().map(|unit| (&*unit.name, unit.set)).collect();
        let mut found: Vec<(&str, i64)> = self.active().iter().map(|(_, unit, set)| (&***unit, *set)).collect();
        expected.sort_unstable();
        found.sort_unstable();
        if expected != found {
            return Err(format!("does not heal: wanted {expected:?}, runs {found:?}"));
        }
        let left_overs =
            self.status.iter().flatten().map(|(_, unit, register)| (unit, *register)).collect::<BTreeMap<_, _>>();
        match left_overs
            .iter()
            .find(|(unit, last)| **last != Register::Empty && !wanted.iter().any(|wanted| wanted.name == ***unit))
        {
            Some((unit, last)) => Err(format!("does not heal: left-over {unit} {last:?}")),
            None => Ok(()),
        }
    }
}

fn simulate(seed: u64, rules: Rules) -> (usize, Result<(), String>) {
    let mut world = World::new(seed, rules);
    let result = world.run();
    (world.starts, result)
}

#[test]
fn one_runner_one_set_and_everything_runs_at_the_end() {
    let mut starts = 0;
    for seed in 0..30 {
        let (started, result) = simulate(seed, Rules::ALL);
        starts += started;
        if let Err(error) = result {
            panic!("seed {seed}: {error}");
        }
    }
    assert!(starts > 200, "only {starts} starts: the simulation does not do much");
}

/// The first seed that fails without a rule.
fn first_failure(seeds: u64, without: impl Fn(&mut Rules)) -> Option<(u64, String)> {
    let mut rules = Rules::ALL;
    without(&mut rules);
    (0..seeds).find_map(|seed| simulate(seed, rules).1.err().map(|error| (seed, error)))
}

/// Taking a rule away must show within this many seeds, and as this.
fn check_needed(seeds: u64, symptom: &str, without: impl Fn(&mut Rules)) {
    let (seed, error) = first_failure(seeds, without).unwrap_or_else(|| panic!("{seeds} seeds do not miss the rule"));
    assert!(error.contains(symptom), "seed {seed}: {error}");
}

#[test]
fn without_the_lease_two_run() {
    check_needed(50, "two runners", |rules| rules.lease = false);
}

#[test]
fn without_ageing_two_run() {
    check_needed(200, "two runners", |rules| rules.age = false);
}

#[test]
fn without_reading_back_two_run() {
    check_needed(50, "two runners", |rules| rules.read_back = false);
}

#[test]
fn without_the_barrier_two_sets_run() {
    check_needed(50, "two sets", |rules| rules.barrier = false);
}

#[test]
fn without_releasing_own_claims_of_the_older_set_nothing_of_the_new_one_runs() {
    check_needed(50, "does not heal", |rules| rules.release_own = false);
}

#[test]
#[ignore = "a minute: run it after a change of a rule"]
fn soak() {
    for seed in 1_000..5_000 {
        if let (_, Err(error)) = simulate(seed, Rules::ALL) {
            panic!("seed {seed}: {error}");
        }
    }
}
