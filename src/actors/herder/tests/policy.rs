//! Restarts by policy. Waits are of an hour: what is to be seen behind them, the herder is told that they are over.

use connect_api::TimestampType;

use super::*;
use crate::actors::handle::Precondition;
use crate::backend::ConsumerRecord;
use crate::pipeline::{Failure, Phase};
use crate::storage::fold::fold;
use crate::storage::plan;
use crate::storage::status_records::RestartStatus;

const CONNECTOR: &str = "status-connector-a";

/// Longer than any test lasts.
const WAIT_MS: u64 = 3_600_000;

/// The settings of a connector whose failed units wait for so long.
const WAITS: &[(&str, &str)] = &[
    ("restart.policy", "on-failure"),
    ("restart.backoff.initial.ms", "3600000"),
    ("restart.backoff.max.ms", "3600000"),
    ("restart.window.ms", "36000000"),
];

fn folded(state: &ClusterState, record: &ConfigRecord) -> ClusterState {
    let (key, value, offset) = (Some(record.key()), record.value(), state.next_offset());
    let (timestamp, timestamp_type) = (-1, TimestampType::CreateTime);
    let record = ConsumerRecord { source: 0, offset, timestamp, timestamp_type, key, value, headers: Vec::new() };
    fold(state.clone(), &record).0
}

/// What is to be seen of a unit under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: Option<UnitState>,
    restart: Option<RestartStatus>,
    /// Whether it waits.
    waits: bool,
}

fn seen(herder: &Herder, unit: &UnitId) -> Seen {
    let status = herder.statuses.unit(unit).map(|status| &status.shown);
    Seen {
        state: status.map(|status| status.state),
        restart: status.and_then(|status| status.restart.clone()),
        waits: herder.restart_waits.contains(unit),
    }
}

impl Rig {
    /// Creates or changes a source that has nothing to read.
    async fn configure(&self, settings: &[(&str, &str)]) {
        let source =
            [("name", "a"), ("connector.class", "FileStreamSource"), ("topic", "t"), ("file", "/nothing/to/read")];
        let config = source.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        let (name, config, precondition) = ("a".to_owned(), config.collect(), Precondition::default());
        self.handle.ask(|reply| HerderRequest::PutConfig { name, config, precondition, reply }).await.unwrap();
    }

    /// A source with this policy whose connector and task run.
    async fn running_with(&self, settings: &[(&str, &str)]) {
        self.joined().await;
        self.configure(settings).await;
        self.running(CONNECTOR).await;
        self.running(TASK).await;
    }

    /// The present run of a unit fails.
    async fn fails(&self, unit: &'static str) {
        self.fails_of(unit, Failure::text(Phase::Poll, "on purpose")).await;
    }

    async fn fails_of(&self, unit: &'static str, failure: Failure) {
        let run = self.run_of(unit).await;
        let event = UnitEvent::Failed(failure);
        self.herder().await.send(UnitReport { run, event }).await.unwrap();
    }

    /// Waits until the status topic and the herder agree on something.
    async fn seen(&self, what: &str, unit: &'static str, is: impl Fn(&Seen) -> bool + Copy + Send + 'static) -> Seen {
        self.until(what, move |herder| is(&seen(herder, &units::parse(unit)))).await;
        within(&self.herder().await, move |herder, _| seen(herder, &units::parse(unit))).await.unwrap()
    }

    /// The unit is FAILED in the topic and waits.
    async fn waits(&self, unit: &'static str) -> RestartStatus {
        let waits = |seen: &Seen| seen.state == Some(UnitState::Failed) && seen.waits && seen.restart.is_some();
        self.seen("it waits", unit, waits).await.restart.expect("it was waited for")
    }

    /// All waits are over.
    async fn time_passes(&self) {
        let passes = |herder: &mut Herder, _: &mut Context<Herder>| herder.restart_due(lease::now().plus(WAIT_MS));
        within(&self.herder().await, passes).await.unwrap();
    }

    async fn wants(&self, target: TargetState) {
        self.handle.ask(|reply| HerderRequest::SetTargetState("a".into(), target, reply)).await.unwrap();
    }

    /// What runs under the claim of a run, once it is the next one.
    async fn next_run(&self, before: RunId) {
        let name = before.unit.clone();
        self.until("it is started again under its claim", move |herder| {
            let runs = |running: &Running| running.run.start > 0 && running.outcome.is_some();
            herder.running.get(&units::parse(TASK)).is_some_and(runs)
        })
        .await;
        let run = within(&self.herder().await, move |herder, _| herder.running[&name].run.clone()).await.unwrap();
        assert_eq!(run, RunId { start: before.start + 1, ..before });
    }

    /// This connector hands on all its settings, so a changed one makes a new set of tasks.
    async fn runs_in_a_newer_set(&self, before: RunId) -> RunId {
        self.until("a task of the new set runs", move |herder| {
            let running = herder.running.get(&units::parse(TASK));
            let newer = running.filter(|running| running.run.claim > before.claim);
            newer.is_some_and(|running| running.state.0 == UnitState::Running)
        })
        .await;
        self.run_of(TASK).await
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.render().unwrap().lines().any(|found| found == line)
    }
}

#[test]
fn without_a_policy_what_failed_stays_failed() {
    in_a_worker(async |rig| {
        rig.running_with(&[]).await;
        for unit in [CONNECTOR, TASK] {
            rig.fails(unit).await;
            let failed = rig.seen("it is failed", unit, |seen| seen.state == Some(UnitState::Failed)).await;
            assert_eq!((failed.restart, failed.waits), (None, false));
        }
        assert!(!rig.metrics.render().unwrap().contains("restart_waiting"), "no series of restarts");
    });
}

#[test]
fn a_failed_unit_waits_and_is_started_again_under_its_claim() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        let before = rig.run_of(TASK).await;
        rig.fails(TASK).await;
        let waits = rig.waits(TASK).await;
        assert_eq!((waits.breaker_open, waits.attempt), (false, 1));
        let wait_ms = waits.next_at_ms.expect("it waits") - waits.since_ms;
        assert!((WAIT_MS as i64 / 2..=WAIT_MS as i64 + 10_000).contains(&wait_ms), "{waits:?}");
        assert!(waits.reason.contains("failed in poll: on purpose"), "{waits:?}");
        assert!(rig.metric(r#"kafka_connect_worker_connector_restart_waiting_count{connector="a"} 1"#));
        let held = |herder: &mut Herder, _: &mut Context<Herder>| herder.plane.register_fields(TASK).is_some();
        assert_eq!(within(&rig.herder().await, held).await, Some(true), "it holds its register while it waits");
        rig.time_passes().await;
        rig.next_run(before).await;
        let runs = rig.seen("it runs", TASK, |seen| seen.state == Some(UnitState::Running)).await;
        assert_eq!(runs.restart, Some(RestartStatus { next_at_ms: None, ..waits }), "it says that it failed lately");
        assert!(rig.metric(r#"kafka_connect_worker_connector_automatic_restart_total{connector="a",phase="poll"} 1"#));
        assert!(rig.metric(r#"kafka_connect_worker_connector_restart_waiting_count{connector="a"} 0"#));
        rig.fails(TASK).await;
        assert_eq!(rig.waits(TASK).await.attempt, 2);
        // Of one run nothing is decided twice.
        rig.fails(TASK).await;
        assert_eq!(rig.waits(TASK).await.attempt, 2);
    });
}

#[test]
fn a_connector_is_started_again_beside_its_tasks() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        let task = rig.run_of(TASK).await;
        rig.fails(CONNECTOR).await;
        rig.waits(CONNECTOR).await;
        rig.time_passes().await;
        rig.running(CONNECTOR).await;
        assert_eq!((rig.run_of(CONNECTOR).await.start, rig.run_of(TASK).await), (1, task));
    });
}

#[test]
fn with_too_many_failures_the_breaker_opens_until_somebody_restarts_it() {
    in_a_worker(async |rig| {
        rig.running_with(&[WAITS, &[("restart.max.attempts", "1")]].concat()).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        rig.time_passes().await;
        rig.running(TASK).await;
        rig.fails(TASK).await;
        let is_open = |seen: &Seen| seen.restart.as_ref().is_some_and(|restart| restart.breaker_open);
        let open = rig.seen("the breaker opens", TASK, is_open).await;
        let restart = open.restart.unwrap();
        assert_eq!((open.state, open.waits, restart.attempt), (Some(UnitState::Failed), false, 2));
        assert!(restart.reason.contains("POST /connectors/a/tasks/0/restart"), "{restart:?}");
        assert!(rig.metric(r#"kafka_connect_worker_connector_restart_breaker_open_count{connector="a"} 1"#));
        rig.time_passes().await;
        assert_eq!(rig.run_of(TASK).await.start, 1, "nothing starts it");
        rig.handle.ask(|reply| HerderRequest::RestartTask("a".into(), 0, reply)).await.unwrap();
        let runs = rig.seen("it runs", TASK, |seen| seen.state == Some(UnitState::Running)).await;
        assert_eq!(runs.restart, None);
        assert!(rig.metric(r#"kafka_connect_worker_connector_restart_breaker_open_count{connector="a"} 0"#));
        rig.fails(TASK).await;
        assert_eq!(rig.waits(TASK).await.attempt, 1, "what was before does not count");
    });
}

#[test]
fn a_restart_that_somebody_asks_for_ends_the_wait() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        let before = rig.run_of(TASK).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        rig.handle.ask(|reply| HerderRequest::RestartTask("a".into(), 0, reply)).await.unwrap();
        rig.next_run(before.clone()).await;
        rig.seen("it runs", TASK, |seen| seen.state == Some(UnitState::Running) && !seen.waits).await;
        rig.time_passes().await;
        assert_eq!(rig.run_of(TASK).await.start, before.start + 1, "it is started once");
    });
}

#[test]
fn a_pause_ends_the_wait_and_what_is_resumed_begins_anew() {
    in_a_worker(async |rig| {
        rig.joined().await;
        // It fails by itself, since its file is a directory.
        rig.configure(&[WAITS, &[("file", "/")]].concat()).await;
        rig.waits(TASK).await;
        rig.wants(TargetState::Paused).await;
        let paused = |seen: &Seen| seen.state == Some(UnitState::Failed) && seen.restart.is_none() && !seen.waits;
        rig.seen("it stays failed", TASK, paused).await;
        rig.wants(TargetState::Started).await;
        assert_eq!(rig.waits(TASK).await.attempt, 1);
    });
}

/// A connector whose task configurations cannot be stored is FAILED, and runs on. When it says that it runs, there is nothing to restart.
#[test]
fn what_runs_again_by_itself_is_not_started_again() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails(CONNECTOR).await;
        rig.waits(CONNECTOR).await;
        rig.wants(TargetState::Paused).await;
        rig.seen("it is paused", CONNECTOR, |seen| seen.state == Some(UnitState::Paused)).await;
        rig.wants(TargetState::Started).await;
        rig.seen("it runs", CONNECTOR, |seen| seen.state == Some(UnitState::Running) && !seen.waits).await;
        rig.time_passes().await;
        assert_eq!(rig.run_of(CONNECTOR).await.start, 0);
        assert!(rig.metric(r#"kafka_connect_worker_connector_restart_waiting_count{connector="a"} 0"#));
    });
}

#[test]
fn a_stop_and_a_deletion_end_the_wait() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        rig.wants(TargetState::Stopped).await;
        let gone = |herder: &mut Herder| {
            herder.statuses.unit(&units::parse(TASK)).is_none() && herder.restart_waits.is_empty()
        };
        rig.until("the task is gone", gone).await;
        rig.wants(TargetState::Started).await;
        rig.running(TASK).await;
        rig.fails(CONNECTOR).await;
        rig.waits(CONNECTOR).await;
        rig.handle.ask(|reply| HerderRequest::Delete("a".into(), Precondition::default(), reply)).await.unwrap();
        rig.until("nothing is left", |herder| herder.running.is_empty() && herder.restart_waits.is_empty()).await;
        assert!(!rig.metrics.render().unwrap().contains("restart_waiting"), "its series have ended");
    });
}

#[test]
fn another_configuration_begins_anew_and_another_policy_is_followed() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails(CONNECTOR).await;
        rig.waits(CONNECTOR).await;
        let before = rig.run_of(TASK).await;
        rig.configure(&[WAITS, &[("tasks.max", "1")]].concat()).await;
        rig.seen("it is started at once", CONNECTOR, |seen| {
            (seen.state, seen.waits, seen.restart.is_none()) == (Some(UnitState::Running), false, true)
        })
        .await;
        let before = rig.runs_in_a_newer_set(before).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        rig.configure(&[]).await;
        rig.until("the wait has ended", |herder| herder.restart_waits.is_empty()).await;
        rig.runs_in_a_newer_set(before).await;
        rig.fails(TASK).await;
        let failed = rig.seen("it fails", TASK, |seen| seen.state == Some(UnitState::Failed)).await;
        assert_eq!((failed.restart, failed.waits), (None, false));
    });
}

/// Of a connector whose tasks stay as they are, the policy is followed all the same.
#[test]
fn a_policy_that_comes_later_is_for_what_has_failed_before() {
    in_a_worker(async |rig| {
        rig.running_with(&[]).await;
        rig.fails(TASK).await;
        rig.seen("it fails", TASK, |seen| seen.state == Some(UnitState::Failed)).await;
        let anew = |herder: &mut Herder, settings: &[(&str, &str)]| {
            let (before, name) = (herder.state.clone(), "a");
            let mut config = before.connector(name).expect("it is there").config.clone();
            config.retain(|name, _| !name.starts_with("restart."));
            config.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))));
            for record in plan::put_connector(&before, name, config, None) {
                herder.state = folded(&herder.state, &record);
            }
            herder.supervise_anew(&units::parse(TASK));
            herder.state = before;
        };
        within(&rig.herder().await, move |herder, _| anew(herder, WAITS)).await.unwrap();
        assert_eq!(rig.waits(TASK).await.attempt, 1);
        within(&rig.herder().await, move |herder, _| anew(herder, &[])).await.unwrap();
        rig.seen("it stays failed", TASK, |seen| seen.restart.is_none() && !seen.waits).await;
    });
}

#[test]
fn a_worker_that_leaves_waits_for_no_restart() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails(TASK).await;
        rig.fails(CONNECTOR).await;
        rig.waits(TASK).await;
        rig.shutdown.ask();
        assert_eq!(rig.end().await, Some(Stop::Asked));
    });
}

/// As it would a unit without a policy. It knows of no failures, so that an open breaker is closed.
#[test]
fn whoever_takes_a_unit_over_starts_it_at_once() {
    in_a_worker(async |rig| {
        rig.running_with(&[WAITS, &[("restart.max.attempts", "1")]].concat()).await;
        rig.fails(CONNECTOR).await;
        rig.waits(CONNECTOR).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        rig.crash_herder().await;
        rig.until("the next herder is leased", |herder| herder.number == 2 && herder.plane.is_leased(lease::now()))
            .await;
        for unit in [CONNECTOR, TASK] {
            let runs = |seen: &Seen| seen.state == Some(UnitState::Running) && seen.restart.is_none() && !seen.waits;
            rig.seen("it runs", unit, runs).await;
        }
        assert!(!rig.metrics.render().unwrap().contains("restart_waiting"), "series of the herder before have ended");
        rig.fails(TASK).await;
        assert_eq!(rig.waits(TASK).await.attempt, 1);
    });
}

#[test]
fn what_another_worker_may_hold_is_not_started_again() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        let claim = rig.run_of(TASK).await.claim;
        let herder = rig.herder().await;
        let stopped = within(&herder, move |herder, context| {
            herder.stop_unit(units::parse(TASK), claim, true, context);
            herder.restart_due(lease::now().plus(WAIT_MS));
            (herder.restart_waits.is_empty(), herder.running[&units::parse(TASK)].restart)
        });
        assert_eq!(stopped.await, Some((true, false)));
    });
}

#[test]
fn a_unit_without_a_lease_is_started_suspended() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails(TASK).await;
        rig.waits(TASK).await;
        let before = rig.run_of(TASK).await;
        let claim = before.claim;
        within(&rig.herder().await, move |herder, _| herder.suspend_unit(&units::parse(TASK), claim, true)).await;
        rig.time_passes().await;
        rig.until("it is started again", move |herder| {
            herder.running.get(&units::parse(TASK)).is_some_and(|running| running.run.start == before.start + 1)
        })
        .await;
        let suspended = |herder: &mut Herder, _: &mut Context<Herder>| herder.suspended.contains(&units::parse(TASK));
        assert_eq!(within(&rig.herder().await, suspended).await, Some(true));
        within(&rig.herder().await, move |herder, _| herder.suspend_unit(&units::parse(TASK), claim, false)).await;
        rig.running(TASK).await;
    });
}

/// Each hang may hold a thread for ever.
#[test]
fn a_unit_that_hung_waits_while_too_many_threads_hang() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        rig.fails_of(TASK, Failure { hung: true, ..Failure::text(Phase::Poll, "on purpose") }).await;
        rig.fails(CONNECTOR).await;
        rig.waits(TASK).await;
        rig.waits(CONNECTOR).await;
        let threads = &rig.metrics.worker().zombie_threads;
        threads.store(32, Ordering::Relaxed);
        rig.time_passes().await;
        rig.running(CONNECTOR).await;
        assert_eq!((rig.run_of(CONNECTOR).await.start, rig.run_of(TASK).await.start), (1, 0));
        rig.waits(TASK).await;
        threads.store(31, Ordering::Relaxed);
        within(&rig.herder().await, |herder, _| herder.restart_due(lease::now().plus(3 * WAIT_MS))).await.unwrap();
        rig.running(TASK).await;
    });
}

/// One timer is for all waits, and is set to the first of them.
#[test]
fn the_timer_follows_the_first_wait() {
    in_a_worker(async |rig| {
        rig.running_with(WAITS).await;
        let agrees =
            |herder: &mut Herder, _: &mut Context<Herder>| herder.restart_waits.armed() == herder.restart_waits.next();
        for unit in [CONNECTOR, TASK] {
            rig.fails(unit).await;
            rig.waits(unit).await;
            assert_eq!(within(&rig.herder().await, agrees).await, Some(true));
        }
        rig.handle.ask(|reply| HerderRequest::RestartTask("a".into(), 0, reply)).await.unwrap();
        rig.running(TASK).await;
        assert_eq!(within(&rig.herder().await, agrees).await, Some(true));
        rig.handle.ask(|reply| HerderRequest::RestartConnector("a".into(), reply)).await.unwrap();
        rig.until("nothing waits", |herder| herder.restart_waits.is_empty()).await;
        assert_eq!(within(&rig.herder().await, agrees).await, Some(true));
    });
}
