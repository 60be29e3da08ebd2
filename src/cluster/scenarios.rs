//! One worker, step by step: what it says after each event. The rules that the simulation cannot miss by chance stand here, too.

mod doubts;
mod places;
mod report;
mod returns;
mod watching;

use std::sync::Arc;

use super::control_plane::{ControlPlane, Page, Settings};
use super::member::*;
use super::protocol::{Action, AppendFailure, Event, ProbeAnswer, Token, WantedChange};
use super::rules::Rules;

/// Own life in most scenarios.
const LIFE: i64 = 7;
const NOTHING: [&str; 0] = [];

struct Scenario {
    plane: ControlPlane,
    now: u64,
    nonce: Nonce,
    members: Vec<Member>,
    wanted: Vec<Unit>,
    /// Those that the control plane was told of.
    told: Vec<Unit>,
    config: i64,
    status: i64,
    ask: Option<Token>,
    /// What was asked for and not answered, with its token.
    open: Vec<(String, Token)>,
}

fn unit(name: &str, set: i64) -> Unit {
    let group = name.starts_with("task").then(|| Arc::from("c"));
    Unit { name: name.into(), group, set, status_partition: 0 }
}

fn member(id: &str, incarnation: i64, nonce: Nonce) -> Member {
    let state = MemberState::Joined;
    Member {
        id: id.into(),
        incarnation: Incarnation(incarnation),
        nonce,
        state,
        settled: true,
        fence_ms: None,
        group_id: None,
    }
}

fn record(incarnation: i64, claim: u64, held: bool, at: i64, set: i64) -> Register {
    Register::Ours(RegisterFields { incarnation: Incarnation(incarnation), claim, held, at, set })
}

fn held(incarnation: i64, claim: u64) -> Register {
    record(incarnation, claim, true, 0, NO_SET)
}

fn released(incarnation: i64, claim: u64) -> Register {
    record(incarnation, claim, false, 0, NO_SET)
}

/// What leads from one to the other.
fn changes(before: &[Unit], after: &[Unit]) -> Vec<WantedChange> {
    let gone = before.iter().filter(|unit| after.iter().all(|other| other.name != unit.name));
    let new = after.iter().filter(|unit| !before.contains(unit));
    let gone = gone.map(|unit| WantedChange::Unwanted(unit.name.clone()));
    gone.chain(new.map(|unit| WantedChange::Wanted(unit.clone()))).collect()
}

impl Scenario {
    fn new() -> Self {
        Self::with_rules(Rules::ALL)
    }

    fn with_rules(rules: Rules) -> Self {
        Self::with(0, rules)
    }

    fn with_delay(return_delay_ms: u64) -> Self {
        Self::with(return_delay_ms, Rules::ALL)
    }

    fn with(return_delay_ms: u64, rules: Rules) -> Self {
        let settings = Settings {
            worker_id: "me".into(),
            group_id: "ours".into(),
            fence_ms: 1000,
            return_delay_ms,
            members_max: 5,
            nonce_seed: 1,
        };
        let mut scenario = Scenario {
            plane: ControlPlane::with_rules(settings, rules),
            now: 0,
            nonce: Nonce(0),
            members: Vec::new(),
            wanted: Vec::new(),
            told: Vec::new(),
            config: 0,
            status: 0,
            ask: None,
            open: Vec::new(),
        };
        assert_eq!(scenario.give(Event::Start), NOTHING);
        scenario
    }

    /// A member with nothing to do.
    fn joined() -> Self {
        Self::new().join()
    }

    fn join(mut self) -> Self {
        assert_eq!(self.java(false), NOTHING);
        assert_eq!(self.catch_up(), ["join"]);
        assert_eq!(self.ack("join"), NOTHING);
        assert_eq!(self.fold_own(LIFE), ["joined 7"]);
        self
    }

    fn fold_own(&mut self, incarnation: i64) -> Vec<String> {
        let nonce = self.nonce;
        self.members.retain(|member| member.id != "me".into());
        self.members.push(member("me", incarnation, nonce));
        self.config = incarnation;
        self.fold()
    }

    /// A member that runs one unit under claim 1.
    fn running(name: &str, set: i64) -> Self {
        let mut scenario = Self::joined();
        scenario.wanted = vec![unit(name, set)];
        scenario.fold();
        scenario.ack(&format!("claim {name} #1"));
        let mut said = scenario.read(name, record(LIFE, 1, true, 8, set));
        said.extend(scenario.wait(1250));
        assert_eq!(said, [format!("start {name} #1")]);
        scenario
    }

    fn give(&mut self, event: Event) -> Vec<String> {
        let mut actions = Vec::new();
        self.plane.step(event, Millis(self.now), &mut actions);
        actions.into_iter().filter_map(|action| self.say(action)).collect()
    }

    fn say(&mut self, action: Action) -> Option<String> {
        let (said, token) = match action {
            Action::AskEnds { ask } => {
                self.ask = Some(ask);
                return None;
            }
            Action::AskJavaGroup => return None,
            Action::Probe { worker, incarnation, via, .. } => {
                let via = via.map(|via| format!(" via {via}")).unwrap_or_default();
                (format!("probe {worker} {incarnation}{via}"), None)
            }
            Action::AppendJoined { token, nonce } => {
                self.nonce = nonce;
                ("join".into(), Some(token))
            }
            Action::AppendDraining { token, .. } => ("draining".into(), Some(token)),
            Action::AppendSettled { token, .. } => ("settled".into(), Some(token)),
            Action::AppendNothing { token, partition } => {
                let place = partition.map(|partition| format!(" in {partition}")).unwrap_or_default();
                (format!("nothing{place}"), Some(token))
            }
            Action::ForeignRegisters { unit, at, units } => (format!("foreign {unit} @{at} of {units}"), None),
            Action::AppendGone { token } => ("gone".into(), Some(token)),
            Action::CompareAndTombstone { token, worker, incarnation } => {
                (format!("tombstone {worker} {incarnation}"), Some(token))
            }
            Action::Joined { incarnation } => (format!("joined {incarnation}"), None),
            Action::WriteClaim { token, unit, fields, .. } => {
                assert!(fields.held);
                (format!("claim {unit} #{}", fields.claim), Some(token))
            }
            Action::WriteRelease { token, unit, fields, .. } => {
                assert!(!fields.held);
                (format!("release {unit} #{} at {}", fields.claim, fields.at), Some(token))
            }
            Action::WriteTombstone { token, unit, .. } => (format!("forget {unit}"), Some(token)),
            Action::StartUnit { unit, claim } => (format!("start {} #{claim}", unit.name), None),
            Action::StopUnit { unit, claim, hard } => {
                (format!("{} {unit} #{claim}", if hard { "kill" } else { "stop" }), None)
            }
            Action::SuspendUnit { unit, claim } => (format!("suspend {unit} #{claim}"), None),
            Action::ResumeUnit { unit, claim } => (format!("resume {unit} #{claim}"), None),
            Action::Left => ("left".into(), None),
            Action::Exit { reason } => (format!("exit: {reason}"), None),
        };
        self.open.extend(token.map(|token| (said.clone(), token)));
        Some(said)
    }

    fn token(&mut self, said: &str) -> Token {
        let index = self.open.iter().position(|(open, _)| open == said);
        self.open.remove(index.unwrap_or_else(|| panic!("{said} is not open: {:?}", self.open))).1
    }

    fn ack(&mut self, said: &str) -> Vec<String> {
        let token = self.token(said);
        self.give(Event::Appended { token })
    }

    fn fail(&mut self, said: &str, retriable: bool) -> Vec<String> {
        let token = self.token(said);
        let failure = if retriable { AppendFailure::Unacknowledged } else { AppendFailure::Fatal };
        self.give(Event::AppendFailed { token, failure, error: "no leader".into() })
    }

    fn java(&mut self, live: bool) -> Vec<String> {
        self.give(Event::JavaGroup { live })
    }

    fn probed(&mut self, worker: &str, incarnation: i64, alive: bool) -> Vec<String> {
        let answer = if alive { ProbeAnswer::Alive } else { ProbeAnswer::Silence };
        self.give(Event::ProbeAnswered { worker: worker.into(), incarnation: Incarnation(incarnation), answer })
    }

    /// The next record of the config topic.
    fn fold(&mut self) -> Vec<String> {
        self.config += 1;
        let changes = changes(&self.told, &self.wanted);
        self.told = self.wanted.clone();
        self.give(Event::Folded { position: self.config, members: self.members.clone().into(), changes })
    }

    /// The next record of the status topic, and the progress that comes with it.
    fn read(&mut self, name: &str, register: Register) -> Vec<String> {
        self.status += 1;
        let of = unit(name, NO_SET);
        let mut said = self.give(Event::StatusRead { unit: of.name, group: of.group, partition: 0, register });
        said.extend(self.give(Event::Progress { config: self.config, status: vec![self.status] }));
        said
    }

    /// The newest question for ends is answered, and they are reached.
    fn catch_up(&mut self) -> Vec<String> {
        let (config, status) = (self.config, vec![self.status]);
        let mut said = self.give(Event::Progress { config, status: status.clone() });
        let ask = self.ask.expect("a question for ends");
        said.extend(self.give(Event::Ends { ask, config, status }));
        said
    }

    /// Time passes and the lease is kept.
    fn wait(&mut self, ms: u64) -> Vec<String> {
        let until = self.now + ms;
        let mut said = Vec::new();
        while self.now < until {
            self.now = (self.now + 250).min(until);
            said.extend(self.give(Event::Tick));
            said.extend(self.catch_up());
        }
        said
    }

    fn stopped(&mut self, name: &str, claim: u64) -> Vec<String> {
        self.give(Event::UnitStopped { unit: name.into(), claim })
    }
}

#[test]
fn joins_after_reading_to_an_end_and_acts_when_its_record_is_folded() {
    let mut worker = Scenario::new();
    worker.wanted = vec![unit("connector-c", NO_SET)];
    assert_eq!(worker.fold(), NOTHING);
    assert_eq!(worker.catch_up(), NOTHING, "nobody knows yet whether Java workers live");
    assert_eq!(worker.java(false), ["join"]);
    assert_eq!(worker.ack("join"), NOTHING, "acknowledged is not folded");
    assert_eq!(worker.plane.incarnation(), None);
    assert_eq!(worker.fold_own(LIFE), ["joined 7", "claim connector-c #1"]);
    assert_eq!(worker.plane.incarnation(), Some(Incarnation(LIFE)));
}

#[test]
fn a_join_without_an_answer_is_tried_again_with_a_new_nonce() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.catch_up();
    let first = worker.nonce;
    assert_eq!(worker.fail("join", true), NOTHING);
    assert_eq!(worker.wait(1250), ["join"]);
    let second = worker.nonce;
    assert_ne!(first, second);
    assert_eq!(worker.fold_own(LIFE), ["joined 7"]);
    worker.nonce = first;
    assert_eq!(worker.fold_own(9), ["joined 9"], "the first one landed late, and the last record decides");
}

#[test]
fn refuses_java_workers() {
    let refused = "exit: Java workers of the same group.id are alive: \
                   stop all of them before this worker takes the group over";
    let mut worker = Scenario::new();
    worker.catch_up();
    assert_eq!(worker.java(true), [refused]);
    let mut worker = Scenario::running("connector-c", NO_SET);
    assert_eq!(worker.java(true), ["suspend connector-c #1"]);
    assert_eq!(worker.plane.lease_of(0), None);
    assert_eq!(worker.java(false), ["resume connector-c #1"]);
}

#[test]
fn refuses_a_living_holder_of_the_own_id() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = vec![member("me", 3, Nonce(99))];
    worker.fold();
    assert_eq!(worker.catch_up(), ["probe me 3"]);
    let said = worker.probed("me", 3, true);
    assert!(said.len() == 1 && said[0].starts_with("exit: another living process is worker me"), "{said:?}");
    assert_eq!(worker.wait(5000), NOTHING, "nothing is said after the end");
}

#[test]
fn waits_for_a_holder_of_the_own_id_that_is_draining() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = vec![Member { state: MemberState::Draining, ..member("me", 3, Nonce(99)) }];
    worker.fold();
    worker.catch_up();
    assert_eq!(worker.probed("me", 3, true), NOTHING);
    worker.members.clear();
    assert_eq!(worker.fold(), ["join"]);
}

/// A member with two units, one of which goes to a worker that joins.
fn with_a_new_member() -> (Scenario, &'static str) {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("connector-c", NO_SET), unit("connector-d", NO_SET)];
    assert_eq!(worker.fold(), ["claim connector-c #1", "claim connector-d #2"]);
    worker.ack("claim connector-c #1");
    worker.ack("claim connector-d #2");
    worker.read("connector-c", held(LIFE, 1));
    worker.read("connector-d", held(LIFE, 2));
    worker.members.push(Member { settled: false, ..member("other", 30, Nonce(99)) });
    let said = worker.fold();
    let [probe, stop] = &said[..] else { panic!("{said:?}") };
    assert_eq!(probe, "probe other 30");
    let gone = if stop.contains("connector-c") { "connector-c" } else { "connector-d" };
    (worker, gone)
}

#[test]
fn a_worker_that_joins_gets_its_share_in_an_orderly_way() {
    let (mut worker, gone) = with_a_new_member();
    let claim = if gone == "connector-c" { 1 } else { 2 };
    worker.wait(250);
    let release = format!("release {gone} #{claim} at {}", worker.config - 1);
    assert_eq!(worker.stopped(gone, claim), [&*release]);
    worker.ack(&release);
    assert_eq!(worker.read(gone, released(LIFE, claim)), NOTHING, "it is the other's");
    assert_eq!(worker.read(gone, held(30, 1)), NOTHING);
    worker.members[1].settled = true;
    assert_eq!(worker.fold(), NOTHING, "and nothing else moves");
}

#[test]
fn says_once_that_it_holds_its_share() {
    let mut worker = Scenario::joined();
    worker.members[0].settled = false;
    worker.members.push(member("other", 30, Nonce(99)));
    worker.wanted = vec![unit("connector-c", NO_SET), unit("connector-d", NO_SET)];
    worker.members[0].state = MemberState::Draining;
    assert_eq!(worker.fold(), ["probe other 30"]);
    worker.read("connector-c", held(30, 1));
    worker.read("connector-d", held(30, 2));
    worker.members[0].state = MemberState::Joined;
    assert_eq!(worker.fold(), NOTHING, "but not before");
    let said: Vec<String> = ["connector-c", "connector-d"]
        .into_iter()
        .zip([1, 2])
        .flat_map(|(name, claim)| worker.read(name, released(30, claim)))
        .collect();
    let [claim] = &said[..] else { panic!("only its share: {said:?}") };
    let name = claim.trim_start_matches("claim ").trim_end_matches(" #1").to_owned();
    worker.ack(&format!("claim {name} #1"));
    assert_eq!(worker.read(&name, held(LIFE, 1)), [format!("start {name} #1")]);
    assert_eq!(worker.wait(250), NOTHING, "others have to read the claim first");
    assert_eq!(worker.wait(250), ["settled"]);
    assert_eq!(worker.fail("settled", true), NOTHING);
    assert_eq!(worker.wait(500), ["settled"]);
    worker.ack("settled");
    assert_eq!(worker.wait(750), NOTHING);
    worker.members[0].settled = true;
    assert_eq!(worker.fold(), NOTHING);
}

#[test]
fn a_foreign_nonce_under_the_own_id_stops_everything() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.members = vec![member("me", 20, Nonce(99))];
    let said = worker.fold();
    assert_eq!(said[0], "kill connector-c #1");
    assert!(said[1].starts_with("exit: another living process is worker me"), "{said:?}");
}

#[test]
fn an_evicted_worker_stops_everything_and_joins_again_after_a_back_off() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.members.clear();
    assert_eq!(worker.fold(), ["kill connector-c #1"]);
    assert_eq!(worker.plane.register_fields("connector-c"), None);
    assert_eq!(worker.wait(999), NOTHING);
    assert_eq!(worker.wait(1), ["join"]);
    worker.ack("join");
    assert_eq!(worker.fold_own(20), ["joined 20"], "the unit has not stopped yet");
    assert_eq!(worker.stopped("connector-c", 1), ["claim connector-c #2"], "the own older life is over");
    worker.members.clear();
    worker.fold();
    assert_eq!(worker.wait(1999), NOTHING, "twice as long the second time");
    assert_eq!(worker.wait(1), ["join"]);
}

#[test]
fn a_claim_counts_when_it_was_read() {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("connector-c", NO_SET)];
    assert_eq!(worker.fold(), ["claim connector-c #1"]);
    assert_eq!(worker.ack("claim connector-c #1"), NOTHING);
    assert_eq!(worker.plane.register_fields("connector-c"), None);
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), ["start connector-c #1"]);
    let fields = worker.plane.register_fields("connector-c").unwrap();
    assert_eq!((fields.incarnation, fields.claim, fields.held, fields.set), (Incarnation(LIFE), 1, true, NO_SET));
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), NOTHING, "its own later statuses change nothing");
}

#[test]
fn a_living_holder_is_waited_for() {
    let mut worker = Scenario::joined();
    worker.members.push(member("other", 30, Nonce(99)));
    assert_eq!(worker.fold(), ["probe other 30"]);
    worker.read("connector-c", held(30, 1));
    worker.wanted = vec![unit("connector-c", NO_SET)];
    assert_eq!(worker.fold(), NOTHING);
    worker.members[1].state = MemberState::Draining;
    assert_eq!(worker.fold(), NOTHING, "it still runs there");
    assert_eq!(worker.read("connector-c", released(30, 1)), ["claim connector-c #1"]);
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), ["start connector-c #1"], "at once after a release");
}

/// A bug that the simulator found: a worker that lags took the units of one that had just joined.
#[test]
fn a_holder_whose_joining_was_not_folded_yet_is_waited_for() {
    let mut worker = Scenario::joined();
    worker.read("connector-c", record(30, 1, true, 30, NO_SET));
    worker.wanted = vec![unit("connector-c", NO_SET)];
    assert_eq!(worker.fold(), NOTHING);
    worker.members.push(member("other", 30, Nonce(99)));
    worker.config = 30;
    assert_eq!(worker.fold(), ["probe other 30"]);
    worker.members.pop();
    assert_eq!(worker.fold(), ["claim connector-c #1"], "its life is over");
}

/// A member that claims a unit whose register it found so.
fn finds(name: &str, register: Register) -> Scenario {
    let mut worker = Scenario::new();
    worker.read(name, register);
    worker.wanted = vec![unit(name, NO_SET)];
    worker.java(false);
    worker.catch_up();
    worker.ack("join");
    assert_eq!(worker.fold_own(LIFE), ["joined 7".to_string(), format!("claim {name} #1")]);
    worker
}

#[test]
fn the_claim_of_a_life_that_is_over_is_aged() {
    let mut worker = finds("connector-c", held(3, 1));
    worker.ack("claim connector-c #1");
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), NOTHING);
    assert_eq!(worker.wait(1099), NOTHING);
    assert_eq!(worker.wait(1), ["start connector-c #1"]);
}

#[test]
fn a_lost_register_stops_hard_and_is_claimed_again_when_it_is_free() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.members.push(Member { state: MemberState::Draining, ..member("other", 30, Nonce(99)) });
    worker.fold();
    assert_eq!(worker.read("connector-c", held(30, 1)), ["kill connector-c #1"]);
    assert_eq!(worker.plane.register_fields("connector-c"), None, "it may write no status any more");
    assert_eq!(worker.read("connector-c", released(30, 1)), NOTHING, "ours has not stopped yet");
    assert_eq!(worker.stopped("connector-c", 1), ["claim connector-c #2"]);
}

#[test]
fn a_record_of_java_takes_the_register() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    assert_eq!(worker.read("connector-c", Register::Foreign), ["kill connector-c #1"]);
    assert_eq!(worker.stopped("connector-c", 1), ["claim connector-c #2"]);
}

#[test]
fn suspends_without_a_lease_and_the_register_decides_when_it_is_back() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    let until = worker.plane.lease_of(0).unwrap();
    assert!(worker.plane.is_leased(Millis(until.0 - 1)) && !worker.plane.is_leased(until));
    worker.now = until.0 - 1;
    assert_eq!(worker.give(Event::Tick), NOTHING);
    worker.now += 1;
    assert_eq!(worker.give(Event::Tick), ["suspend connector-c #1"]);
    worker.now += 10_000;
    assert_eq!(worker.give(Event::Tick), NOTHING);
    assert_eq!(worker.catch_up(), ["resume connector-c #1"]);

    worker.now += 10_000;
    assert_eq!(worker.give(Event::Tick), ["suspend connector-c #1"]);
    assert_eq!(worker.read("connector-c", held(30, 1)), ["kill connector-c #1"]);
    assert_eq!(worker.catch_up(), NOTHING);
}

#[test]
fn an_append_without_an_answer_ends_the_lease() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    assert_eq!(worker.give(Event::OldestAppend(Some(Millis(worker.now)))), NOTHING);
    assert_eq!(worker.wait(4999), NOTHING);
    assert_eq!(worker.wait(1), ["suspend connector-c #1"]);
    assert_eq!(worker.give(Event::OldestAppend(None)), ["resume connector-c #1"]);
}

#[test]
fn an_unwanted_unit_is_stopped_released_and_forgotten() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.wanted.clear();
    assert_eq!(worker.fold(), ["stop connector-c #1"]);
    assert!(worker.plane.register_fields("connector-c").is_some(), "it still commits and writes statuses");
    assert_eq!(worker.stopped("connector-c", 0), NOTHING, "that was an older claim");
    assert_eq!(worker.stopped("connector-c", 1), ["release connector-c #1 at 9"]);
    worker.ack("release connector-c #1 at 9");
    assert_eq!(worker.read("connector-c", released(LIFE, 1)), ["claim connector-c #2"]);
    worker.ack("claim connector-c #2");
    assert_eq!(worker.read("connector-c", held(LIFE, 2)), NOTHING);
    assert_eq!(worker.wait(250), ["forget connector-c"]);
    worker.ack("forget connector-c");
    assert_eq!(worker.read("connector-c", Register::Empty), NOTHING);
    assert_eq!(worker.wait(5000), NOTHING);
}

#[test]
fn the_status_that_a_crash_left_over_is_claimed_aged_and_removed() {
    let mut worker = Scenario::new();
    worker.read("task-c-5", held(3, 1));
    worker.java(false);
    worker.catch_up();
    worker.ack("join");
    assert_eq!(worker.fold_own(LIFE), ["joined 7", "claim task-c-5 #1"]);
    worker.ack("claim task-c-5 #1");
    assert_eq!(worker.read("task-c-5", held(LIFE, 1)), NOTHING);
    assert_eq!(worker.wait(1099), NOTHING);
    assert_eq!(worker.wait(1), ["forget task-c-5"]);
}

#[test]
fn a_claim_of_an_older_set_is_released_before_it_runs() {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("task-c-0", 3)];
    assert_eq!(worker.fold(), ["claim task-c-0 #1"]);
    worker.wanted = vec![unit("task-c-0", 9)];
    worker.config = 9;
    assert_eq!(worker.fold(), NOTHING, "one status write at a time");
    worker.ack("claim task-c-0 #1");
    assert_eq!(worker.read("task-c-0", record(LIFE, 1, true, 8, 3)), NOTHING);
    assert_eq!(worker.wait(250), ["release task-c-0 #1 at 9"]);
    worker.ack("release task-c-0 #1 at 9");
    assert_eq!(worker.read("task-c-0", record(LIFE, 1, false, 9, 3)), ["claim task-c-0 #2"]);
    worker.ack("claim task-c-0 #2");
    assert_eq!(worker.read("task-c-0", record(LIFE, 2, true, 9, 9)), ["start task-c-0 #2"]);
}

#[test]
fn a_release_is_said_until_the_register_says_it() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.wanted.clear();
    worker.fold();
    worker.stopped("connector-c", 1);
    assert_eq!(worker.fail("release connector-c #1 at 9", true), NOTHING);
    assert_eq!(worker.wait(500), ["release connector-c #1 at 9"]);
    assert_eq!(worker.ack("release connector-c #1 at 9"), NOTHING);
    assert_eq!(worker.wait(250), ["release connector-c #1 at 9"], "acknowledged, overtaken by a late status");
}

#[test]
fn a_refused_write_ends_the_worker() {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    assert_eq!(worker.fail("claim connector-c #1", false), ["exit: cannot write to an internal topic: no leader"]);
}

#[test]
fn a_claim_that_was_replaced_before_it_was_read_is_made_again() {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    worker.ack("claim connector-c #1");
    let said = ["claim connector-c #2"];
    assert_eq!(worker.wait(250), said, "an end behind it was reached, and it was not there");
}

/// Who released the unit may know a member that takes it.
#[test]
fn a_claim_is_written_and_used_when_as_much_was_folded_as_by_its_rivals() {
    let mut worker = Scenario::joined();
    worker.read("connector-c", record(3, 1, false, 12, NO_SET));
    worker.wanted = vec![unit("connector-c", NO_SET)];
    assert_eq!(worker.fold(), NOTHING, "it may have been released for somebody else");
    worker.config = 12;
    assert_eq!(worker.fold(), ["claim connector-c #1"]);
    worker.ack("claim connector-c #1");
    assert_eq!(worker.read("connector-d", record(3, 1, false, 20, NO_SET)), NOTHING);
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), NOTHING);
    worker.config = 20;
    assert_eq!(worker.fold(), ["start connector-c #1", "claim connector-d #2"]);
}

#[test]
fn a_new_set_waits_until_the_older_one_is_quiet_and_no_longer() {
    let mut worker = Scenario::running("task-c-0", 3);
    worker.wanted = vec![unit("task-c-0", 9), unit("task-c-1", 9)];
    worker.config = 9;
    worker.wait(1200);
    assert_eq!(worker.fold(), ["stop task-c-0 #1", "claim task-c-1 #2"], "also though it will run here again");
    worker.ack("claim task-c-1 #2");
    assert_eq!(worker.read("task-c-1", record(LIFE, 2, true, 9, 9)), NOTHING, "the older one still runs");
    assert_eq!(worker.stopped("task-c-0", 1), ["release task-c-0 #1 at 9"]);
    worker.ack("release task-c-0 #1 at 9");
    assert_eq!(
        worker.read("task-c-0", record(LIFE, 1, false, 9, 3)),
        ["claim task-c-0 #3", "start task-c-1 #2"],
        "released by somebody who knew the new set: at once"
    );
    worker.ack("claim task-c-0 #3");
    assert_eq!(worker.read("task-c-0", record(LIFE, 3, true, 9, 9)), ["start task-c-0 #3"]);
}

/// Task 1 of the older set has no record; a worker that lags may still claim it.
fn commit_with_an_unclaimed_task(rules: Rules) -> Vec<String> {
    let mut worker = Scenario::with_rules(rules).join();
    worker.wait(1200);
    // Nobody takes units for a moment.
    worker.members[0].state = MemberState::Draining;
    worker.wanted = vec![unit("task-c-0", 3), unit("task-c-1", 3)];
    assert_eq!(worker.fold(), NOTHING);
    worker.members[0].state = MemberState::Joined;
    worker.wanted = vec![unit("task-c-0", 9)];
    worker.config = 9;
    assert_eq!(worker.fold(), ["claim task-c-0 #1"]);
    worker.ack("claim task-c-0 #1");
    let mut said = worker.read("task-c-0", record(LIFE, 1, true, 9, 9));
    said.extend(worker.wait(1000));
    assert_eq!(worker.open, []);
    if said.is_empty() {
        assert_eq!(worker.wait(250), ["start task-c-0 #1"]);
    }
    said
}

#[test]
fn an_empty_register_of_the_older_set_is_trusted_after_the_fence_time_only() {
    assert_eq!(commit_with_an_unclaimed_task(Rules::ALL), NOTHING);
    for rules in [Rules { barrier_age: false, ..Rules::ALL }, Rules { barrier: false, ..Rules::ALL }] {
        assert_eq!(commit_with_an_unclaimed_task(rules), ["start task-c-0 #1"]);
    }
}

#[test]
fn the_first_set_of_a_group_waits_for_nothing() {
    let mut worker = Scenario::joined();
    worker.wait(1200);
    worker.wanted = vec![unit("task-c-0", 9)];
    worker.config = 9;
    assert_eq!(worker.fold(), ["claim task-c-0 #1"]);
    worker.ack("claim task-c-0 #1");
    assert_eq!(worker.read("task-c-0", record(LIFE, 1, true, 9, 9)), ["start task-c-0 #1"]);
}

#[test]
fn leaves_when_everything_is_stopped_and_released() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    let deadline = Millis(worker.now + 5000);
    assert_eq!(worker.give(Event::Shutdown { deadline }), ["draining", "stop connector-c #1"]);
    assert_eq!(worker.ack("draining"), NOTHING);
    assert_eq!(worker.stopped("connector-c", 1), ["release connector-c #1 at 8"]);
    assert_eq!(worker.ack("release connector-c #1 at 8"), NOTHING, "acknowledged is not read");
    assert_eq!(worker.read("connector-c", released(LIFE, 1)), ["gone"]);
    assert_eq!(worker.ack("gone"), ["left"]);
    assert_eq!(worker.wait(10_000), NOTHING);
}

#[test]
fn leaves_hard_without_a_lease_at_the_last_moment_and_at_the_deadline_in_any_case() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.now += 2000;
    worker.give(Event::Tick);
    let deadline = Millis(worker.now + 5000);
    assert_eq!(worker.give(Event::Shutdown { deadline }), ["draining"]);
    worker.now += 3999;
    assert_eq!(worker.give(Event::Tick), NOTHING, "the lease may come back");
    worker.now += 1;
    assert_eq!(worker.give(Event::Tick), ["kill connector-c #1"]);
    worker.now += 1000;
    assert_eq!(worker.give(Event::Tick), ["exit: the worker could not leave in time; waited for: connector-c"]);
}

#[test]
fn a_worker_that_is_no_member_leaves_at_once() {
    let mut worker = Scenario::new();
    assert_eq!(worker.give(Event::Shutdown { deadline: Millis(5000) }), ["left"]);
}

#[test]
fn a_log_that_lost_records_ends_the_worker() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    let said = worker.give(Event::LogLost { error: "status-0 was made anew".into() });
    assert_eq!(said[0], "kill connector-c #1");
    assert!(said[1].ends_with("read it anew: status-0 was made anew"), "{said:?}");
}

/// How many comparisons the life of this many units takes: claimed, started, kept, one of them changed, all stopped and released.
fn comparisons_of_a_life(count: usize) -> [usize; 4] {
    let mut worker = Scenario::joined();
    let names: Vec<String> = (0..count).map(|number| format!("connector-{number}")).collect();
    let mut taken = 0;
    let mut phase =
        |worker: &Scenario| worker.plane.comparisons - std::mem::replace(&mut taken, worker.plane.comparisons);
    // Each comes with a record of its own.
    for (number, name) in names.iter().enumerate() {
        worker.wanted.push(unit(name, NO_SET));
        worker.fold();
        worker.wait(10);
        worker.ack(&format!("claim {name} #{}", number + 1));
        assert_eq!(worker.read(name, held(LIFE, number as u64 + 1)), [format!("start {name} #{}", number + 1)]);
    }
    let start = phase(&worker);
    for _ in 0..20 {
        assert_eq!(worker.wait(1000), NOTHING);
    }
    let idle = phase(&worker);
    worker.wanted.remove(0);
    assert_eq!(worker.fold(), [format!("stop {} #1", names[0])]);
    worker.stopped(&names[0], 1);
    let change = phase(&worker);
    worker.give(Event::Shutdown { deadline: Millis(worker.now + 60_000) });
    for (number, name) in names.iter().enumerate().skip(1) {
        let claim = number as u64 + 1;
        worker.stopped(name, claim);
        worker.ack(&format!("release {name} #{claim} at {}", worker.config - 1));
        worker.read(name, released(LIFE, claim));
    }
    [start, idle, change, phase(&worker)]
}

/// Counts instead of times: what an event costs must not grow with the number of units.
#[test]
fn an_event_costs_the_same_however_many_units_there_are() {
    let [start, idle, change, end] = comparisons_of_a_life(500);
    assert!(start <= 10 * 500, "{start} comparisons to start");
    assert!(idle <= 1, "{idle} comparisons while nothing happens, but for the one that started last");
    assert!(change <= 10, "{change} comparisons for one unit");
    assert!(end <= 10 * 500, "{end} comparisons to stop");
}
