//! A sink pump over the cluster in memory, with a task that does what a test says and writes down what it is asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connect_api::sink::Offsets;
use connect_api::{ConnectError, Props, SinkRecord, SinkTask, SinkTaskContext, TopicPartition};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::super::*;
use crate::backend::memory::{self, Faults, Hooks};
use crate::backend::{Backend, ClientSettings, Isolation, NewTopic, ProducerRecord};
use crate::metrics::{Metrics, TaskKind};
use crate::pipeline::transform_chain::TransformChain;
use crate::pipeline::{PhaseCell, Topics, plain};

/// Paused time goes by at once; a condition that takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(600);
const GROUP: &str = "connect-rig";

pub fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub fn offsets(list: &[(&str, i32, i64)]) -> Offsets {
    list.iter().map(|(topic, partition, offset)| (at(topic, *partition), *offset)).collect()
}

pub fn retriable() -> BackendError {
    BackendError::Retriable("no answer".into())
}

/// What the task does next, and what it was asked.
#[derive(Default)]
pub struct World {
    pub start_rewinds: Offsets,
    pub open_rewinds: Offsets,
    /// Rewinds asked for by the next `put` with records.
    pub put_rewinds: Offsets,
    /// Results of the next `put`s with records.
    pub put: VecDeque<Result<(), ConnectError>>,
    /// Waits asked for by failing `put`s, and by empty ones.
    pub put_timeout: Option<Duration>,
    pub pre_commit: VecDeque<Result<(), ConnectError>>,
    /// How long the next `pre_commit` takes.
    pub pre_commit_takes: Option<Duration>,
    /// What the next `pre_commit` allows, in place of what it was asked for.
    pub allowed: Option<Offsets>,
    pub stop_hangs: bool,
    /// Every call that is worth it: `open t-0`, `close t-0`, `flush t-0=3`.
    pub events: Vec<String>,
    /// Records of `put`s that succeeded, in order.
    pub puts: Vec<(TopicPartition, i64)>,
    /// Calls of `put` with records.
    pub put_calls: usize,
    /// When `put` was called without records.
    pub empty_puts: Vec<Instant>,
}

impl World {
    /// Offsets that came from one partition, in order.
    pub fn offsets_of(&self, topic: &str, partition: i32) -> Vec<i64> {
        let partition = at(topic, partition);
        self.puts.iter().filter(|(from, _)| *from == partition).map(|(_, offset)| *offset).collect()
    }

    pub fn saw(&self, event: &str) -> bool {
        self.events.iter().any(|seen| seen == event)
    }
}

struct Scripted {
    world: Arc<Mutex<World>>,
    context: SinkTaskContext,
}

impl Scripted {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

#[async_trait]
impl SinkTask for Scripted {
    async fn initialize(&mut self, context: SinkTaskContext) -> connect_api::Result<()> {
        self.context = context;
        Ok(())
    }

    async fn start(&mut self, _props: Props) -> connect_api::Result<()> {
        self.context.offset(std::mem::take(&mut self.world().start_rewinds));
        Ok(())
    }

    async fn open(&mut self, partitions: &[TopicPartition]) -> connect_api::Result<()> {
        let mut world = self.world();
        world.events.extend(partitions.iter().map(|partition| format!("open {partition}")));
        self.context.offset(std::mem::take(&mut world.open_rewinds));
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> connect_api::Result<()> {
        let mut world = self.world();
        if records.is_empty() {
            world.empty_puts.push(Instant::now());
            if let Some(timeout) = world.put_timeout {
                self.context.timeout(timeout);
            }
            return Ok(());
        }
        world.put_calls += 1;
        self.context.offset(std::mem::take(&mut world.put_rewinds));
        if let Some(Err(error)) = world.put.pop_front() {
            if let Some(timeout) = world.put_timeout {
                self.context.timeout(timeout);
            }
            return Err(error);
        }
        world.puts.extend(records.iter().map(|record| (record.original.clone(), record.original_offset)));
        Ok(())
    }

    async fn pre_commit(&mut self, offsets: &Offsets) -> connect_api::Result<Offsets> {
        let takes = {
            let mut world = self.world();
            world.events.extend(offsets.iter().map(|(partition, offset)| format!("flush {partition}={offset}")));
            world.pre_commit_takes.take()
        };
        if let Some(takes) = takes {
            sleep(takes).await;
        }
        let mut world = self.world();
        let allowed = world.allowed.take().unwrap_or_else(|| offsets.clone());
        world.pre_commit.pop_front().unwrap_or(Ok(())).map(|()| allowed)
    }

    async fn close(&mut self, partitions: &[TopicPartition]) -> connect_api::Result<()> {
        self.world().events.extend(partitions.iter().map(|partition| format!("close {partition}")));
        Ok(())
    }

    async fn stop(&mut self) -> connect_api::Result<()> {
        let hangs = {
            let mut world = self.world();
            world.events.push("stop".into());
            world.stop_hangs
        };
        if hangs { std::future::pending().await } else { Ok(()) }
    }
}

/// A pump and all that it sees.
pub struct Rig {
    pub backend: Arc<dyn Backend>,
    pub faults: Faults,
    pub hooks: Hooks,
    pub world: Arc<Mutex<World>>,
    pub commit: Arc<CommitSignal>,
    pub phase: Arc<PhaseCell>,
    directive: watch::Sender<Directive>,
    leased: Arc<AtomicBool>,
    topics: Vec<String>,
    pump: Option<JoinHandle<Result<(), Failure>>>,
}

impl Rig {
    /// A cluster of its own, for a sink of these topics, which need not exist.
    pub fn new(topics: &[&str]) -> Rig {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sink-rig-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Rig {
            backend: memory::open(&name),
            faults: memory::faults(&name),
            hooks: memory::hooks(&name),
            world: Arc::default(),
            commit: Arc::default(),
            phase: Arc::default(),
            directive: watch::channel(Directive::Run).0,
            leased: Arc::new(AtomicBool::new(true)),
            topics: topics.iter().map(ToString::to_string).collect(),
            pump: None,
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub async fn topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic { name: name.into(), partitions, replication_factor: 1, config: Default::default() };
        self.backend.admin().create_topic(&topic).await.unwrap();
    }

    pub async fn delete(&self, topic: &str) {
        self.backend.admin().delete_topic(topic).await.unwrap();
    }

    pub fn write(&self, topic: &str, partition: i32, count: usize) {
        let writer = self.backend.writer(&ClientSettings::new(), usize::MAX).unwrap();
        let record = ProducerRecord {
            partition: Some(partition),
            ..ProducerRecord::keyed(topic.to_owned(), vec![0], Some(Bytes::from_static(b"v")))
        };
        assert_eq!(writer.send(&vec![record; count]).unwrap(), count);
    }

    pub async fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        self.backend.committed_offsets().committed(GROUP, &[at(topic, partition)]).await.unwrap()[0]
    }

    /// Starts the pump.
    pub fn start(&mut self) {
        let leased = self.leased.clone();
        let control = Control::new(
            self.directive.subscribe(),
            self.phase.clone(),
            Box::new(move || if leased.load(Ordering::SeqCst) { Duration::MAX } else { Duration::ZERO }),
            Box::new(|_| ()),
        );
        let converters = plain::converters();
        let topics = self.topics.clone();
        let metrics = Metrics::new().register_task("rig", 0, TaskKind::Sink).metrics();
        let pump = SinkPump {
            task: Box::new(Scripted { world: self.world.clone(), context: SinkTaskContext::default() }),
            props: Props::new(),
            converter: SinkConverter::new(TransformChain::new(Vec::new()), converters),
            topics: TopicTracker::off(),
            reader: self.backend.reader(&ClientSettings::new(), Isolation::ReadUncommitted).unwrap(),
            committed: self.backend.committed_offsets(),
            group: GROUP.into(),
            reset: Reset::Earliest,
            max_poll_records: 500,
            admin: self.backend.admin(),
            selection: Arc::new(Selection::new(Topics::Listed(topics), 0, 1)),
            refresh_interval: Duration::from_secs(30),
            commit: self.commit.clone(),
            commit_timeout: Duration::from_secs(5),
            control,
            metrics,
            state: SinkState::default(),
        };
        self.pump = Some(tokio::spawn(pump.run()));
    }

    /// Lets the lease end or begin.
    pub fn lease(&self, holds: bool) {
        self.leased.store(holds, Ordering::SeqCst);
        // As a herder that works says it at once.
        self.directive.send_modify(|_| ());
    }

    /// Lets the lease end without a word, as under a herder that hangs.
    pub fn lapse(&self) {
        self.leased.store(false, Ordering::SeqCst);
    }

    pub fn steer(&self, directive: Directive) {
        self.directive.send_replace(directive);
    }

    /// Waits for a condition.
    pub async fn until(&self, what: &str, condition: impl Fn(&World) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.world()) {
            if let Some(pump) = &self.pump {
                assert!(!pump.is_finished(), "the pump ended before {what}; it saw {:?}", self.world().events);
            }
            assert!(Instant::now() < deadline, "never: {what}; {:?}", self.world().events);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until an offset is committed.
    pub async fn until_committed(&self, topic: &str, partition: i32, offset: i64) {
        let deadline = Instant::now() + PATIENCE;
        while self.committed(topic, partition).await != Some(offset) {
            assert!(Instant::now() < deadline, "{topic}-{partition} was never committed at {offset}");
            self.commit.raise();
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets so much paused time go by.
    pub async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    /// How the pump ended by itself.
    pub async fn end(&mut self) -> Result<(), Failure> {
        let pump = self.pump.take().expect("it was started before");
        timeout(PATIENCE, pump).await.expect("the pump does not end").unwrap()
    }

    /// Stops the pump and says how long that took.
    pub async fn stop(&mut self) -> Duration {
        let began = Instant::now();
        self.steer(Directive::Stop { deadline: began + Duration::from_secs(2), commit: true });
        self.end().await.unwrap();
        began.elapsed()
    }
}
