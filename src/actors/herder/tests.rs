//! Herders that crash, and what happens between two of them. A whole worker in memory, without REST, whose actors can be reached.

mod cluster;
mod configs;
mod many;
mod policy;
mod stale_views;
mod task_sets;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};

use connect_api::Props;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::actors::handle::HerderHandle;
use crate::actors::messages::{RunId, UnitEvent, UnitReport};
use crate::actors::pump::{Pumps, pump_runtime};
use crate::actors::shutdown::Shutdown;
use crate::actors::status::{Purpose, SealUnit, WriteStatus};
use crate::backend::{self, BackendError, ClientSettings, memory};
use crate::cluster::{NO_SET, RegisterFields};
use crate::config::WorkerConfig;
use crate::metrics::Metrics;
use crate::plugins::Registry;
use crate::storage::config_records::{Commit, ConfigRecord, TargetState};
use crate::storage::status_records::UnitState;

/// Long enough for a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

type Work<A> = Box<dyn FnOnce(&mut A, &mut Context<A>) + Send>;

/// Runs in an actor, in between its messages.
#[derive(Message)]
#[rtype(result = "()")]
struct Do<A: Actor<Context = Context<A>>>(Work<A>);

macro_rules! can_be_reached {
    ($($actor:ty),*) => {$(
        impl Handler<Do<$actor>> for $actor {
            type Result = ();
            fn handle(&mut self, Do(what): Do<$actor>, context: &mut Context<Self>) {
                what(self, context);
            }
        }
    )*};
}

can_be_reached!(Herder, Worker, StatusActor);

/// Runs something in an actor and returns what it gave; `None` where the actor is gone or crashed by it.
async fn within<A, T>(actor: &Addr<A>, what: impl FnOnce(&mut A, &mut Context<A>) -> T + Send + 'static) -> Option<T>
where
    A: Actor<Context = Context<A>> + Handler<Do<A>>,
    T: Send + 'static,
{
    let (answers, answer) = oneshot::channel();
    actor.do_send(Do(Box::new(move |actor, context| drop(answers.send(what(actor, context))))));
    timeout(PATIENCE, answer).await.expect("an actor answers in time").ok()
}

/// Waits for what only looking can tell.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

struct Rig {
    worker: Addr<Worker>,
    handle: HerderHandle,
    shutdown: Shutdown,
    stopped: Stopped,
    ended: oneshot::Receiver<()>,
    cluster: String,
    metrics: Metrics,
}

fn config(cluster: &str) -> WorkerConfig {
    let settings = [
        ("bootstrap.servers", format!("memory:{cluster}").as_str()),
        ("group.id", "g"),
        ("config.storage.topic", "configs"),
        ("offset.storage.topic", "offsets"),
        ("status.storage.topic", "statuses"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("status.storage.partitions", "2"),
        ("offset.storage.partitions", "2"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("task.shutdown.graceful.timeout.ms", "2000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    WorkerConfig::from_props(Props::from(settings)).unwrap()
}

/// A worker of a cluster of its own, for the time of a test; it is ended when the test has not.
fn in_a_worker(test: impl AsyncFnOnce(&mut Rig)) {
    in_a_worker_of(new_cluster(), test);
}

/// The name of a cluster that no other test has.
fn new_cluster() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("herder-tests-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The same in a cluster whose topics an earlier worker may have written.
fn in_a_worker_of(cluster: String, test: impl AsyncFnOnce(&mut Rig)) {
    supervision::install_panic_hook();
    let pumps = pump_runtime().unwrap();
    let config = config(&cluster);
    let backend = backend::open(&config.bootstrap_servers, &ClientSettings::new()).unwrap();
    let deps = Arc::new(Deps {
        backend: backend.clone(),
        internal: backend,
        offset_file: None,
        config,
        registry: Registry::built_in(),
        metrics: Metrics::new(),
        pumps: Pumps::new(pumps.handle().clone()),
    });
    let metrics = deps.metrics.clone();
    actix::System::new().block_on(async move {
        let (handle, requests) = HerderHandle::channel();
        let (shutdown, stopped) = (Shutdown::default(), Stopped::default());
        let parts = HerderParts {
            identity: Identity {
                worker_id: "w:1".into(),
                rest_url: "http://w:1/".into(),
                gossip: None,
                process: "p".into(),
            },
            requests: Arc::new(tokio::sync::Mutex::new(requests)),
            shutdown: shutdown.clone(),
            stopped: stopped.clone(),
        };
        let (ends, ended) = oneshot::channel();
        let worker = supervision::start_watched(|_| Worker::new(deps, parts), move |_| drop(ends));
        let mut rig = Rig { worker, handle, shutdown, stopped, ended, cluster, metrics };
        test(&mut rig).await;
        rig.shutdown.ask();
        rig.end().await;
    });
    pumps.shutdown_background();
}

impl Rig {
    /// The herder of this moment.
    async fn herder(&self) -> Addr<Herder> {
        let look = async || within(&self.worker, |worker, _| worker.herder.clone()).await.flatten();
        let mut found = None;
        eventually("there is a herder", async || {
            found = look().await;
            found.is_some()
        })
        .await;
        found.expect("it was waited for")
    }

    /// Waits until something holds in the herder of then.
    async fn until(&self, what: &str, condition: impl Fn(&mut Herder) -> bool + Copy + Send + 'static) {
        let holds = async || within(&self.herder().await, move |herder, _| condition(herder)).await == Some(true);
        eventually(what, holds).await;
    }

    async fn joined(&self) {
        self.until("the worker is leased", |herder| herder.plane.is_leased(lease::now())).await;
    }

    async fn crash_herder(&self) {
        let crashed = within(&self.herder().await, |_, _| panic!("a crash on purpose")).await;
        assert_eq!(crashed, None::<()>);
    }

    /// Waits for the end and says how it came.
    async fn end(&mut self) -> Option<Stop> {
        if !self.ended.is_terminated() {
            let _: Result<(), _> = timeout(PATIENCE, &mut self.ended).await.expect("the worker ends in time");
        }
        self.stopped.get()
    }
}

#[test]
fn a_shutdown_needs_no_room_in_the_queue() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let handle = rig.handle.clone();
        let mut asks: Vec<_> = (0..2000).map(|_| Box::pin(handle.ask(HerderRequest::Connectors))).collect();
        let full = asks.iter_mut().filter_map(|ask| ask.now_or_never());
        assert!(full.filter(|answer| *answer == Err(HerderError::Busy)).count() > 500);
        rig.shutdown.ask();
        assert_eq!(rig.end().await, Some(Stop::Asked));
    });
}

#[test]
fn a_herder_that_crashes_while_it_leaves_does_not_lose_the_shutdown() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let herder = rig.herder().await;
        rig.shutdown.ask();
        within(&herder, |herder, _| assert!(herder.parts.shutdown.asked_at().is_some())).await;
        herder.do_send(Do(Box::new(|_, _| panic!("a crash on purpose"))));
        let Some(Stop::Failed(reason)) = rig.end().await else { panic!("{:?}", rig.stopped.get()) };
        assert!(reason.contains("crashed") && reason.contains("does no harm"), "{reason}");
    });
}

#[test]
fn a_shutdown_does_not_wait_for_the_next_herder() {
    in_a_worker(async |rig| {
        rig.joined().await;
        // The next herder is due in half a minute, which is longer than this test waits.
        within(&rig.worker, |worker, _| worker.herder_restarts.count = 16).await;
        rig.crash_herder().await;
        rig.shutdown.ask();
        assert!(matches!(rig.end().await, Some(Stop::Failed(_))));
    });
}

#[test]
fn a_crashed_herder_is_built_anew_and_joins_anew() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.crash_herder().await;
        rig.until("the next herder is leased", |herder| herder.number == 2 && herder.plane.is_leased(lease::now()))
            .await;
        rig.shutdown.ask();
        assert_eq!(rig.end().await, Some(Stop::Asked));
        memory::forget(&rig.cluster);
    });
}

impl Rig {
    /// The status actor of this moment.
    async fn status_actor(&self) -> Addr<StatusActor> {
        let writer =
            |herder: &mut Herder, _: &mut Context<Herder>| herder.logs.as_ref().map(|logs| logs.writer.clone());
        within(&self.herder().await, writer).await.flatten().expect("the logs are open")
    }

    async fn crash_status_actor(&self) {
        let crashed = within(&self.status_actor().await, |_, _| panic!("a crash on purpose")).await;
        assert_eq!(crashed, None::<()>);
    }

    /// Creates a source that has nothing to read.
    async fn create(&self, name: &str) {
        let settings = [
            ("name", name),
            ("connector.class", "FileStreamSource"),
            ("topic", "t"),
            ("file", "/nothing/to/read/for/a/test"),
        ];
        let config = settings.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let name = name.to_owned();
        let made = self.handle.ask(|reply| HerderRequest::Create { name, config, initial_state: None, reply }).await;
        made.unwrap();
    }

    /// Waits until the herder runs a unit under a claim and has said so in the log.
    async fn running(&self, unit: &'static str) {
        let state =
            move |herder: &mut Herder| herder.statuses.unit(&units::parse(unit)).map(|status| status.shown.state);
        self.until("the unit runs", move |herder| state(herder) == Some(UnitState::Running)).await;
    }
}

#[test]
fn a_crashed_status_actor_is_built_again_and_what_it_should_have_written_is_written() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.crash_status_actor().await;
        rig.create("a").await;
        rig.running("status-connector-a").await;
        rig.running("status-task-a-0").await;
        assert_eq!(within(&rig.herder().await, |herder, _| herder.number).await, Some(1));
    });
}

#[test]
fn a_status_actor_that_crashes_again_and_again_ends_the_process() {
    in_a_worker(async |rig| {
        rig.joined().await;
        within(&rig.herder().await, |herder, _| herder.status_restarts.count = supervision::STATUS_ACTOR_RESTARTS)
            .await;
        rig.crash_status_actor().await;
        let Some(Stop::Failed(reason)) = rig.end().await else { panic!("{:?}", rig.stopped.get()) };
        assert!(reason.contains("a crash on purpose"), "{reason}");
    });
}

/// What the status actor of a crashed herder has in its hands belongs to claims that are over.
#[test]
fn a_status_actor_without_its_herder_writes_nothing_more() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let orphan = rig.status_actor().await;
        let unit = || units::parse("status-connector-orphan");
        let record = within(&rig.herder().await, move |herder, _| {
            let incarnation = herder.plane.incarnation().expect("it has joined");
            let fields = RegisterFields { incarnation, claim: 77, held: true, at: 0, set: NO_SET };
            herder.status_record(UnitState::Running, None, &unit(), fields)
        })
        .await;
        let faults = memory::faults(&rig.cluster);
        faults.refuse_appends(1, BackendError::Retriable("on purpose".into()));
        let write = WriteStatus { unit: unit(), record, purpose: Purpose::State };
        orphan.send(write).await.unwrap();
        let failed = async || within(&orphan, move |actor, _| actor.has_failed(&unit())).await == Some(true);
        eventually("the write fails", failed).await;
        rig.crash_herder().await;
        eventually("the orphan ends", async || !orphan.connected()).await;
        rig.until("the next herder is leased", |herder| herder.number == 2 && herder.plane.is_leased(lease::now()))
            .await;
        rig.until("nothing was written", move |herder| herder.statuses.unit(&unit()).is_none()).await;
    });
}

impl Rig {
    /// What runs for the herder of this moment.
    async fn run_of(&self, unit: &'static str) -> RunId {
        let run = move |herder: &mut Herder, _: &mut Context<Herder>| herder.running[&units::parse(unit)].run.clone();
        within(&self.herder().await, run).await.expect("the herder is there")
    }

    /// Writes to the config topic past the herder.
    async fn append(&self, record: ConfigRecord) {
        let store = |herder: &mut Herder, _: &mut Context<Herder>| herder.logs.as_ref().map(|logs| logs.config.clone());
        let store = within(&self.herder().await, store).await.flatten().expect("the logs are open");
        store.append(&record, PATIENCE).await.unwrap();
    }
}

const TASK: &str = "status-task-a-0";

#[test]
fn a_run_of_one_herder_is_never_taken_for_one_of_the_next() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let before = rig.run_of(TASK).await;
        rig.crash_herder().await;
        rig.until("the next herder runs it", |herder| {
            herder.number == 2 && herder.running.contains_key(&units::parse(TASK))
        })
        .await;
        assert_ne!(rig.run_of(TASK).await, before);
    });
}

#[test]
fn a_task_that_is_about_to_start_is_not_said_to_run() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let run = rig.run_of(TASK).await;
        let herder = rig.herder().await;
        let said = within(&herder, move |herder, context| {
            let (sender, mut sent) = actix::dev::channel::channel(16);
            let logs = herder.logs.as_mut().expect("the logs are open");
            let writer = std::mem::replace(&mut logs.writer, Addr::new(sender));
            let mut said = |event| {
                Handler::<UnitReport>::handle(herder, UnitReport { run: run.clone(), event }, context);
                std::iter::from_fn(|| sent.next().now_or_never().flatten()).count()
            };
            let said = (said(UnitEvent::Starting), said(UnitEvent::Running));
            herder.logs.as_mut().expect("the logs are open").writer = writer;
            said
        });
        assert_eq!(said.await, Some((0, 1)));
    });
}

/// The register is released when a run has ended; while another one runs, that would let a second worker begin.
#[test]
fn the_end_of_an_older_run_releases_nothing() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let run = rig.run_of(TASK).await;
        let herder = rig.herder().await;
        let older = [RunId { herder: run.herder - 1, ..run.clone() }, RunId { claim: run.claim + 1, ..run.clone() }];
        for run in older {
            herder.send(UnitReport { run, event: UnitEvent::Ended }).await.unwrap();
        }
        let goes_on = within(&herder, move |herder, _| {
            let running = herder.running.get(&run.unit).is_some_and(|running| running.run == run);
            running && !herder.seals.contains(&(run.unit, run.claim))
        });
        assert_eq!(goes_on.await, Some(true));
    });
}

/// The lease of its partition goes on for others.
#[test]
fn what_is_stopped_hard_has_no_lease_any_more() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let claim = rig.run_of(TASK).await.claim;
        let herder = rig.herder().await;
        let held = within(&herder, move |herder, context| {
            let lease = herder.running[&units::parse(TASK)].lease.clone();
            let before = lease.holds();
            herder.stop_unit(units::parse(TASK), claim, true, context);
            herder.renew_leases();
            (before, lease.holds())
        });
        assert_eq!(held.await, Some((true, false)));
    });
}

/// It was for whoever ran then, and waits for nothing: not for the next change of its connector either.
#[test]
fn a_restart_request_of_an_earlier_time_never_acts() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        rig.handle.ask(|reply| HerderRequest::RestartConnector("a".into(), reply)).await.unwrap();
        rig.crash_herder().await;
        rig.until("the next herder runs it", |herder| {
            let runs = |running: &Running| running.outcome.is_some();
            herder.number == 2 && herder.running.get(&units::parse("status-connector-a")).is_some_and(runs)
        })
        .await;
        let before = rig.run_of("status-connector-a").await;
        rig.handle.ask(|reply| HerderRequest::SetTargetState("a".into(), TargetState::Paused, reply)).await.unwrap();
        let paused = |herder: &mut Herder| herder.state.target_state("a") == TargetState::Paused;
        rig.until("the change is known", paused).await;
        let goes_on = move |herder: &mut Herder, _: &mut Context<Herder>| {
            let running = &herder.running[&units::parse("status-connector-a")];
            running.run == before && !running.restart
        };
        assert_eq!(within(&rig.herder().await, goes_on).await, Some(true));
    });
}

/// The control plane releases a register only behind the last state.
#[test]
fn a_seal_waits_for_the_write_under_way() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let (writer, herder) = (rig.status_actor().await, rig.herder().await);
        let unit = || units::parse("status-connector-sealed");
        let record = within(&herder, move |herder, _| {
            let incarnation = herder.plane.incarnation().expect("it has joined");
            herder.seals.insert((unit(), 77));
            let fields = RegisterFields { incarnation, claim: 77, held: true, at: 0, set: NO_SET };
            herder.status_record(UnitState::Running, None, &unit(), fields)
        })
        .await;
        let faults = memory::faults(&rig.cluster);
        faults.hold_acks(true);
        writer.send(WriteStatus { unit: unit(), record, purpose: Purpose::State }).await.unwrap();
        writer.send(SealUnit { unit: unit(), claim: 77 }).await.unwrap();
        let sealed = move |herder: &mut Herder| !herder.seals.contains(&(unit(), 77));
        assert_eq!(within(&herder, move |herder, _| sealed(herder)).await, Some(false), "a write is under way");
        faults.hold_acks(false);
        rig.until("it is sealed afterwards", sealed).await;
    });
}

#[test]
fn nothing_is_suspended_when_what_was_suspended_has_ended() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let suspended = || rig.metrics.worker().suspended.load(Ordering::Relaxed);
        let claim = rig.run_of(TASK).await.claim;
        within(&rig.herder().await, move |herder, _| herder.suspend_unit(&units::parse(TASK), claim, true)).await;
        assert!(suspended());
        within(&rig.herder().await, move |herder, context| herder.sealed(units::parse(TASK), claim, context)).await;
        assert!(!suspended());
    });
}

#[test]
fn no_state_is_written_behind_a_seal() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let claim = rig.run_of(TASK).await.claim;
        let herder = rig.herder().await;
        let sent = within(&herder, move |herder, context| {
            let (sender, mut sent) = actix::dev::channel::channel(16);
            let logs = herder.logs.as_mut().expect("the logs are open");
            let writer = std::mem::replace(&mut logs.writer, Addr::new(sender));
            herder.publish(&units::parse(TASK));
            herder.seal(units::parse(TASK), claim, context);
            herder.publish(&units::parse(TASK));
            let count = std::iter::from_fn(|| sent.next().now_or_never().flatten()).count();
            herder.logs.as_mut().expect("the logs are open").writer = writer;
            herder.sealed(units::parse(TASK), claim, context);
            count
        });
        assert_eq!(sent.await, Some(2), "a state and a seal");
    });
}

/// A pause that was asked for while the connector was deleted comes behind the records of the deletion.
#[test]
fn a_connector_is_born_running_whatever_was_wanted_of_its_name_before() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.append(ConfigRecord::TargetState("a".into(), Some(TargetState::Paused))).await;
        rig.create("a").await;
        rig.running("status-connector-a").await;
        rig.running(TASK).await;
    });
}

/// A Java leader without exactly-once can leave a commit whose task records are not there.
#[test]
fn tasks_that_a_commit_has_lost_are_said_again_by_their_connector() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        rig.append(ConfigRecord::Commit("a".into(), Commit { tasks: 1, config: None })).await;
        rig.until("the set is whole again", |herder| {
            let set = herder.state.task_set("a");
            set.is_some_and(|set| !set.inconsistent && set.configs.len() == 1)
        })
        .await;
        rig.running(TASK).await;
    });
}

/// What a client is told while no broker answers.
#[test]
fn a_write_without_brokers_is_unavailable() {
    in_a_worker(async |rig| {
        rig.joined().await;
        memory::faults(&rig.cluster).set_down(true);
        let config = [("name", "a"), ("connector.class", "FileStreamSource"), ("topic", "t"), ("file", "/nothing")];
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let name = "a".to_owned();
        let made = rig.handle.ask(|reply| HerderRequest::Create { name, config, initial_state: None, reply }).await;
        memory::faults(&rig.cluster).set_down(false);
        assert!(matches!(made, Err(HerderError::Unavailable(_))), "{made:?}");
    });
}

/// An operator gives the status topic more partitions. What is created then runs all the same, until the worker has noticed and ends; the next one
/// goes on with everything.
#[test]
fn a_status_topic_that_got_more_partitions_is_read_anew() {
    let cluster = new_cluster();
    in_a_worker_of(cluster.clone(), async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        memory::hooks(&rig.cluster).grow("statuses", 8);
        for number in 0..6 {
            rig.create(&format!("g{number}")).await;
        }
        rig.until("all run", |herder| all_run(herder, 6)).await;
        within(&rig.herder().await, |herder, _| {
            // It would be looked for without being asked, in some seconds.
            herder.logs.as_ref().expect("they are open").status.log().look_at_partitions();
        })
        .await;
        let Some(Stop::Failed(reason)) = rig.end().await else { panic!("{:?}", rig.stopped.get()) };
        assert!(reason.contains("8 partitions now and had 2"), "{reason}");
    });
    in_a_worker_of(cluster, async |rig| {
        rig.joined().await;
        rig.until("all run again", |herder| all_run(herder, 6)).await;
        memory::forget(&rig.cluster);
    });
}

fn all_run(herder: &Herder, count: usize) -> bool {
    let mut names = (0..count).map(|number| UnitId::Connector(format!("g{number}")));
    names.all(|unit| {
        let state = herder.statuses.unit(&unit).map(|status| status.shown.state);
        herder.running.contains_key(&unit) && state == Some(UnitState::Running)
    })
}

#[test]
fn a_committer_that_crashes_ends_the_worker_with_the_reason() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let address = rig.herder().await;
        let config = within(&address, |herder, _| herder.logs.as_ref().map(|logs| logs.config.clone()));
        let config = config.await.flatten().unwrap();
        let written = config.put(|_| -> Result<Vec<ConfigRecord>, HerderError> { panic!("on purpose") }).await;
        assert!(written.is_err());
        let Some(Stop::Failed(reason)) = rig.end().await else { panic!("{:?}", rig.stopped.get()) };
        assert!(reason.contains("its committer crashed (on purpose)"), "{reason}");
    });
}
