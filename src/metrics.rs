//! Counters and gauges of this worker, rendered at `GET /metrics` in Prometheus' text form.
//!
//! Names are those of Kafka Connect's JMX groups in Prometheus' spelling, as JMX exporters write them: group
//! `source-task-metrics`, attribute `source-record-write-total` becomes
//! `kafka_connect_source_task_source_record_write_total`. Where Kafka has a rate or a percentage there are only the
//! counters behind it, since Prometheus computes rates itself. A `total` at the front of an attribute moves to the end.
//!
//! A task counts into plain atomics of its own ([`TaskMetrics`]): no lock and no label lookup happens per record. The
//! labels come into play when a scraper asks. A task's series exist as long as its [`TaskRegistration`].

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

mod restarts;
mod series;

pub use restarts::UnitsByRestart;

use restarts::Restarts;
use series::{
    AUTOMATIC_RESTARTS, CONNECTOR_TASKS, GOSSIP_DATAGRAMS, OPEN_BREAKERS, RESTARTS_WAITING, TASK_SERIES, TASK_STATUS,
    TaskSeries, WORKER_SERIES, WorkerSeries,
};

/// All metrics of a worker. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    shared: Arc<Shared>,
}

struct Shared {
    worker: WorkerMetrics,
    tasks: Mutex<BTreeMap<TaskKey, Arc<TaskMetrics>>>,
    gossip: Mutex<Option<Box<GossipCounts>>>,
    restarts: Restarts,
}

/// Connector and number of a task.
type TaskKey = (String, u32);

/// Of which kind a task is; it decides under which names its values appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// It writes to Kafka.
    Source,
    /// It reads from Kafka.
    Sink,
}

/// What a task does at the moment, as the label `state` or `status` in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TaskState {
    /// It has not started yet.
    Unassigned,
    /// It moves records.
    Running,
    /// An operator paused it.
    Paused,
    /// It waits for the worker's lease. Kafka Connect has no such state.
    Suspended,
    /// It gave up.
    Failed,
    /// It is being started again.
    Restarting,
}

impl TaskState {
    const ALL: [TaskState; 6] = [
        TaskState::Unassigned,
        TaskState::Running,
        TaskState::Paused,
        TaskState::Suspended,
        TaskState::Failed,
        TaskState::Restarting,
    ];

    fn label(self) -> &'static str {
        match self {
            TaskState::Unassigned => "unassigned",
            TaskState::Running => "running",
            TaskState::Paused => "paused",
            TaskState::Suspended => "suspended",
            TaskState::Failed => "failed",
            TaskState::Restarting => "restarting",
        }
    }
}

/// Values of one task. Everything is updated without a lock and without order between the values.
#[derive(Debug)]
pub struct TaskMetrics {
    kind: TaskKind,
    state: AtomicU8,
    /// Records that a source polled, or that a sink consumed from Kafka.
    pub records_read: AtomicU64,
    /// Serialized bytes (key and value) that a sink consumed. A source does not know what it reads in bytes.
    pub bytes_read: AtomicU64,
    /// Records that Kafka acknowledged to a source, or that a sink's `put` took.
    pub records_written: AtomicU64,
    /// Serialized bytes (key and value) that Kafka acknowledged to a source.
    pub bytes_written: AtomicU64,
    /// Records on their way: read, but not yet acknowledged (source) or not yet covered by a commit (sink).
    pub records_active: AtomicU64,
    /// Offset commits that succeeded.
    pub offset_commits_succeeded: AtomicU64,
    /// Offset commits that failed or ran out of time.
    pub offset_commits_failed: AtomicU64,
    /// How long the last offset commit took, in ms, whether it succeeded or not.
    pub offset_commit_last_ms: AtomicU64,
    /// Attempts at one step of one record that failed.
    pub record_errors: AtomicU64,
    /// Records whose processing failed for good.
    pub record_failures: AtomicU64,
    /// Records left out under `errors.tolerance=all`.
    pub records_skipped: AtomicU64,
    /// Attempts that were made again.
    pub retries: AtomicU64,
    /// Records sent to the dead letter queue.
    pub dead_letter_requests: AtomicU64,
    /// Records that the dead letter queue did not take.
    pub dead_letter_failures: AtomicU64,
    last_error_ms: AtomicU64,
}

impl TaskMetrics {
    fn new(kind: TaskKind) -> Self {
        TaskMetrics {
            kind,
            state: AtomicU8::new(TaskState::Unassigned as u8),
            records_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            records_written: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            records_active: AtomicU64::new(0),
            offset_commits_succeeded: AtomicU64::new(0),
            offset_commits_failed: AtomicU64::new(0),
            offset_commit_last_ms: AtomicU64::new(0),
            record_errors: AtomicU64::new(0),
            record_failures: AtomicU64::new(0),
            records_skipped: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            dead_letter_requests: AtomicU64::new(0),
            dead_letter_failures: AtomicU64::new(0),
            last_error_ms: AtomicU64::new(0),
        }
    }

    /// A batch was read. `bytes` is 0 for a source.
    pub fn read(&self, records: u64, bytes: u64) {
        self.records_read.fetch_add(records, Relaxed);
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    /// A batch was acknowledged (source) or put (sink; `bytes` is 0).
    pub fn written(&self, records: u64, bytes: u64) {
        self.records_written.fetch_add(records, Relaxed);
        self.bytes_written.fetch_add(bytes, Relaxed);
    }

    /// An attempt to commit offsets ended after `took`.
    pub fn offset_commit(&self, success: bool, took: Duration) {
        let counter = if success { &self.offset_commits_succeeded } else { &self.offset_commits_failed };
        counter.fetch_add(1, Relaxed);
        self.offset_commit_last_ms.store(millis(took), Relaxed);
    }

    /// One step of one record failed, now.
    pub fn record_error(&self) {
        self.record_errors.fetch_add(1, Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        self.last_error_ms.store(now, Relaxed);
    }

    /// What the task does from now on.
    pub fn set_state(&self, state: TaskState) {
        self.state.store(state as u8, Relaxed);
    }

    fn state(&self) -> TaskState {
        let state = self.state.load(Relaxed);
        TaskState::ALL.into_iter().find(|known| *known as u8 == state).unwrap_or(TaskState::Unassigned)
    }
}

/// How often something was started.
#[derive(Debug, Default)]
pub struct Starts {
    /// All attempts.
    pub attempts: AtomicU64,
    /// Those that failed before it ran.
    pub failures: AtomicU64,
    /// Those of what had been started before, by request or by supervision.
    pub restarts: AtomicU64,
}

/// Values of the worker itself.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// Connectors that run here.
    pub connectors: AtomicU64,
    /// Starts of connectors.
    pub connector_starts: Starts,
    /// Starts of tasks.
    pub task_starts: Starts,
    /// Whether the worker is without a lease and its tasks are suspended.
    pub suspended: AtomicBool,
    /// Threads that the code of abandoned plug-ins holds at this moment.
    pub zombie_threads: AtomicU64,
    /// Requests that wait for the herder; set when a scraper asks.
    pub herder_queue_length: AtomicU64,
    born: Instant,
    /// ms from `born` to the last renewal, plus one; 0 = never
    lease_renewed: AtomicU64,
}

impl WorkerMetrics {
    fn new() -> Self {
        WorkerMetrics {
            connectors: AtomicU64::new(0),
            connector_starts: Starts::default(),
            task_starts: Starts::default(),
            suspended: AtomicBool::new(false),
            zombie_threads: AtomicU64::new(0),
            herder_queue_length: AtomicU64::new(0),
            born: Instant::now(),
            lease_renewed: AtomicU64::new(0),
        }
    }

    /// The lease was renewed just now. Its age is computed when a scraper asks, so that it also grows while the herder
    /// hangs.
    pub fn lease_renewed(&self) {
        self.lease_renewed.store(millis(self.born.elapsed()) + 1, Relaxed);
    }

    /// ms since the last renewal; `None` before the first.
    fn lease_age_ms(&self, now: Instant) -> Option<u64> {
        let renewed = self.lease_renewed.load(Relaxed).checked_sub(1)?;
        Some(millis(now.saturating_duration_since(self.born)).saturating_sub(renewed))
    }
}

/// Keeps the series of a task; they end when it is dropped.
pub struct TaskRegistration {
    key: TaskKey,
    metrics: Arc<TaskMetrics>,
    shared: Arc<Shared>,
}

impl TaskRegistration {
    /// The values, to be shared with those who count. Counting after the registration has ended is harmless.
    pub fn metrics(&self) -> Arc<TaskMetrics> {
        self.metrics.clone()
    }
}

impl Deref for TaskRegistration {
    type Target = TaskMetrics;

    fn deref(&self) -> &TaskMetrics {
        &self.metrics
    }
}

impl Drop for TaskRegistration {
    fn drop(&mut self) {
        let mut tasks = self.shared.tasks();
        // a restarted task may have registered before its predecessor was dropped
        if tasks.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.metrics)) {
            tasks.remove(&self.key);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Everything at 0, and no task.
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            worker: WorkerMetrics::new(),
            tasks: Mutex::default(),
            gossip: Mutex::default(),
            restarts: Restarts::default(),
        });
        let registry = Registry::new();
        let collector = WorkerCollector { shared: shared.clone(), descriptions: descriptions() };
        registry.register(Box::new(collector)).expect(
            "a new registry holds nothing to collide with, and the names are constants that every test registers",
        );
        Metrics { registry, shared }
    }

    /// The values of the worker itself.
    pub fn worker(&self) -> &WorkerMetrics {
        &self.shared.worker
    }

    /// Where the counts of datagrams of gossip are, by what became of them.
    pub fn set_gossip(&self, counts: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static) {
        *self.shared.gossip.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(counts));
    }

    /// Begins the series of a task. A task of the same name that is still registered gives up its series.
    pub fn register_task(&self, connector: &str, task: u32, kind: TaskKind) -> TaskRegistration {
        let key = (connector.to_owned(), task);
        let metrics = Arc::new(TaskMetrics::new(kind));
        self.shared.tasks().insert(key.clone(), metrics.clone());
        TaskRegistration { key, metrics, shared: self.shared.clone() }
    }

    /// The registry, for further collectors.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All values in Prometheus' text form. Fails only when a further collector breaks the format.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl Shared {
    /// Empty without gossip.
    fn gossip(&self) -> Vec<(&'static str, u64)> {
        self.gossip.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|counts| counts()).unwrap_or_default()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<TaskKey, Arc<TaskMetrics>>> {
        // the map is whole after each of its operations, so a panic elsewhere does not spoil it
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type GossipCounts = dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync;

struct WorkerCollector {
    shared: Arc<Shared>,
    descriptions: Vec<Desc>,
}

impl Collector for WorkerCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let tasks = self.shared.tasks().clone();
        let mut families = families(&self.shared.worker, &tasks, Instant::now());
        let gossip = self.shared.gossip().into_iter();
        let gossip = gossip.map(|(outcome, count)| metric(MetricType::COUNTER, vec![label("outcome", outcome)], count));
        families.push(family(GOSSIP_DATAGRAMS.0, GOSSIP_DATAGRAMS.1, MetricType::COUNTER, gossip.collect()));
        families.extend(self.shared.restarts.families());
        families
    }
}

fn descriptions() -> Vec<Desc> {
    let task = || vec!["connector".to_owned(), "task".to_owned()];
    let rows = WORKER_SERIES
        .iter()
        .map(|series| (series.name, series.help, vec![]))
        .chain(TASK_SERIES.iter().map(|series| (series.name, series.help, task())))
        .chain([
            (GOSSIP_DATAGRAMS.0, GOSSIP_DATAGRAMS.1, vec!["outcome".to_owned()]),
            (CONNECTOR_TASKS.0, CONNECTOR_TASKS.1, vec!["connector".to_owned(), "state".to_owned()]),
            (TASK_STATUS.0, TASK_STATUS.1, [task(), vec!["status".to_owned()]].concat()),
            (AUTOMATIC_RESTARTS.0, AUTOMATIC_RESTARTS.1, vec!["connector".to_owned(), "phase".to_owned()]),
            (RESTARTS_WAITING.0, RESTARTS_WAITING.1, vec!["connector".to_owned()]),
            (OPEN_BREAKERS.0, OPEN_BREAKERS.1, vec!["connector".to_owned()]),
        ]);
    rows.map(|(name, help, labels)| {
        Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
            .expect("names, help texts and labels are constants in Prometheus' alphabet; every test builds them")
    })
    .collect()
}

/// Everything as it is now. Pure but for reading the atomics.
fn families(worker: &WorkerMetrics, tasks: &BTreeMap<TaskKey, Arc<TaskMetrics>>, now: Instant) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    for WorkerSeries { name, help, kind, value } in WORKER_SERIES {
        let metrics = value(worker, tasks.len(), now).map(|value| metric(*kind, vec![], value));
        families.push(family(name, help, *kind, metrics.into_iter().collect()));
    }
    for TaskSeries { name, help, kind, of, value } in TASK_SERIES {
        let fitting = tasks.iter().filter(|(_, task)| of.is_none_or(|of| of == task.kind));
        let metrics = fitting.map(|(key, task)| metric(*kind, task_labels(key), value(task))).collect();
        families.push(family(name, help, *kind, metrics));
    }
    let mut counts: BTreeMap<(&str, TaskState), u64> = BTreeMap::new();
    for ((connector, _), task) in tasks {
        for state in TaskState::ALL {
            *counts.entry((connector, state)).or_default() += u64::from(task.state() == state);
        }
    }
    let counted = counts.into_iter().map(|((connector, state), count)| {
        metric(MetricType::GAUGE, vec![label("connector", connector), label("state", state.label())], count)
    });
    families.push(family(CONNECTOR_TASKS.0, CONNECTOR_TASKS.1, MetricType::GAUGE, counted.collect()));
    let statuses = tasks.iter().map(|(key, task)| {
        let labels = [task_labels(key), vec![label("status", task.state().label())]].concat();
        metric(MetricType::GAUGE, labels, 1)
    });
    families.push(family(TASK_STATUS.0, TASK_STATUS.1, MetricType::GAUGE, statuses.collect()));
    families
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn metric(kind: MetricType, labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut metric = Metric::from_label(labels);
    // exact up to 2^53, which is all that Prometheus' numbers hold
    let value = value as f64;
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn task_labels((connector, task): &TaskKey) -> Vec<LabelPair> {
    vec![label("connector", connector), label("task", &task.to_string())]
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
