//! The pump of a source over the cluster in memory, with paused time.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use connect_api::{FieldMap, Record, RecordMetadata, SchemaAndValue, SourceOffset, SourcePartition, TopicPartition};
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::backend::memory::{self, Faults};
use crate::backend::{Backend, BackendError, ClientSettings, Isolation};
use crate::metrics::{Metrics, TaskKind};
use crate::pipeline::transform_chain::TransformChain;
use crate::pipeline::{PhaseCell, plain};
use crate::storage::offset_store::{OffsetEntry, OffsetStore};
use crate::storage::topic_log::LogError;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(600);

/// What the task hands out, and what it was told.
#[derive(Default)]
struct World {
    batches: Mutex<VecDeque<Vec<SourceRecord>>>,
    more: Notify,
    /// For how many records `commit_record` was called.
    told: AtomicUsize,
    /// Whether the next `poll` panics.
    broken: AtomicBool,
    stopped: AtomicBool,
}

/// Hands out what it has, then waits for more.
struct Scripted(Arc<World>);

#[async_trait]
impl SourceTask for Scripted {
    async fn initialize(&mut self, _: SourceTaskContext) -> connect_api::Result<()> {
        Ok(())
    }
    async fn start(&mut self, _: Props) -> connect_api::Result<()> {
        Ok(())
    }
    async fn poll(&mut self) -> connect_api::Result<Vec<SourceRecord>> {
        loop {
            let next = self.0.batches.lock().unwrap().pop_front();
            match next {
                Some(records) => return Ok(records),
                None => self.0.more.notified().await,
            }
            assert!(!self.0.broken.load(Ordering::SeqCst), "broken on purpose");
        }
    }
    fn wants_commit_record(&self) -> bool {
        true
    }
    async fn commit_record(&mut self, _: &SourceRecord, _: Option<RecordMetadata>) -> connect_api::Result<()> {
        self.0.told.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    async fn stop(&mut self) -> connect_api::Result<()> {
        self.0.stopped.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Keeps what is written, unless it is told to fail.
#[derive(Default)]
struct Offsets(Mutex<Vec<OffsetEntry>>, AtomicBool);

#[async_trait]
impl OffsetStore for Offsets {
    async fn write(&self, _: &str, entries: &[OffsetEntry], _: Duration) -> Result<(), OffsetError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(LogError::Backend {
                topic: "offsets".into(),
                error: BackendError::Retriable("no answer".into()),
            }
            .into());
        }
        self.0.lock().unwrap().extend_from_slice(entries);
        Ok(())
    }
    async fn read(&self, _: &str, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>, OffsetError> {
        Ok(vec![None; partitions.len()])
    }
    async fn all(&self, _: &str) -> Result<Vec<(SourcePartition, SourceOffset)>, OffsetError> {
        Ok(Vec::new())
    }
}

struct Rig {
    backend: Arc<dyn Backend>,
    faults: Faults,
    offsets: Arc<Offsets>,
    directive: watch::Sender<Directive>,
    leased: Arc<AtomicBool>,
    delivery: Arc<Delivery>,
    world: Arc<World>,
    connector_offsets: Arc<ConnectorOffsets>,
    pump: JoinHandle<Result<(), Failure>>,
}

impl Rig {
    /// A pump whose task has one batch of so many records.
    fn start(records: usize, faults: impl FnOnce(&Faults)) -> Rig {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("source-rig-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let backend = memory::open(&name);
        faults(&memory::faults(&name));
        let metrics = Metrics::new().register_task("rig", 0, TaskKind::Source).metrics();
        let writers = backend.clone();
        let make_writer = Box::new(move || writers.writer(&ClientSettings::new(), usize::MAX));
        let delivery = Delivery::new(make_writer, metrics.clone()).unwrap();
        let directive = watch::channel(Directive::Run).0;
        let leased = Arc::new(AtomicBool::new(true));
        let looked = leased.clone();
        let control = Control::new(
            directive.subscribe(),
            Arc::<PhaseCell>::default(),
            // As a lease is: it has to be looked at again soon.
            Box::new(move || if looked.load(Ordering::SeqCst) { SECOND / 4 } else { Duration::ZERO }),
            Box::new(|_| ()),
        );
        let offsets = Arc::new(Offsets::default());
        let connector_offsets = Arc::new(ConnectorOffsets::new(offsets.clone(), "rig"));
        let converters = plain::converters();
        let world = Arc::<World>::default();
        world.batches.lock().unwrap().push_back(batch(records));
        let flushed = connector_offsets.clone();
        let mut pump = SourcePump {
            task: Box::new(Scripted(world.clone())),
            context: SourceTaskContext::new(connector_offsets.clone()),
            props: Props::new(),
            converter: SourceConverter::new(TransformChain::new(Vec::new()), converters),
            topics: TopicTracker::off(),
            delivery: delivery.clone(),
            offsets: connector_offsets,
            flush_timeout: 5 * SECOND,
            control,
            metrics,
        };
        let faults = memory::faults(&name);
        let connector_offsets = flushed;
        let pump = tokio::spawn(async move {
            match AssertUnwindSafe(pump.work()).catch_unwind().await {
                Ok(worked) => pump.finish(worked, false).await,
                Err(_) => pump.finish(Err(Failure::text(Phase::Poll, "panic")), true).await,
            }
        });
        Rig { backend, faults, offsets, directive, leased, delivery, world, connector_offsets, pump }
    }

    /// The task gets further records to hand out.
    fn hand_out(&self, records: usize) {
        self.world.batches.lock().unwrap().push_back(batch(records));
        self.world.more.notify_one();
    }

    /// What the offset committer does at its interval.
    async fn flush(&self) -> Result<usize, OffsetError> {
        flush_offsets(&self.delivery, &self.connector_offsets, SECOND).await
    }

    /// How many offsets were written.
    fn written(&self) -> usize {
        self.offsets.0.lock().unwrap().len()
    }

    fn lease(&self, holds: bool) {
        self.leased.store(holds, Ordering::SeqCst);
    }

    /// How many records are in the topic.
    async fn stored(&self) -> i64 {
        let reader = self.backend.reader(&ClientSettings::new(), Isolation::ReadUncommitted).unwrap();
        reader.end_offsets(&[TopicPartition::new("t", 0)], SECOND).await.map_or(0, |ends| ends[0])
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let waits = async {
            while !condition().await {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Lets so much paused time go by.
    async fn pass(&self, time: Duration) {
        sleep(time).await;
    }

    async fn end(self) -> Result<(), Failure> {
        timeout(PATIENCE, self.pump).await.expect("the pump does not end").unwrap()
    }
}

fn batch(records: usize) -> Vec<SourceRecord> {
    let partition: SourcePartition = Arc::new(FieldMap::new().with("file", "f"));
    let record = |seq: usize| SourceRecord {
        source_partition: partition.clone(),
        source_offset: Arc::new(FieldMap::new().with("seq", seq as i64)),
        record: Record::new("t", SchemaAndValue::NULL),
    };
    (0..records).map(record).collect()
}

/// Nobody tells the pump: its herder hangs, and its task waits for data.
#[tokio::test(start_paused = true)]
async fn nothing_queued_is_sent_after_the_lease_however_long_poll_takes() {
    let rig = Rig::start(3, |faults| faults.hold_appends(true));
    rig.until("records are queued", async || !rig.delivery.is_idle()).await;
    rig.lease(false);
    rig.pass(SECOND).await;
    rig.faults.hold_appends(false);
    rig.pass(SECOND).await;
    assert_eq!(rig.stored().await, 0, "another worker may run the task by now");
    rig.lease(true);
    rig.until("they are sent when the lease is back", async || rig.stored().await == 3).await;
    rig.until("their acknowledgements are taken in", async || rig.delivery.is_idle()).await;
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 2 * SECOND, commit: true });
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert_eq!(offsets.0.lock().unwrap().len(), 1);
}

/// Another task of the same client lost its lease and purged the client.
#[tokio::test(start_paused = true)]
async fn purged_records_are_sent_again_while_poll_waits() {
    let rig = Rig::start(3, |faults| faults.hold_appends(true));
    rig.until("records are queued", async || !rig.delivery.is_idle()).await;
    rig.delivery.purge();
    rig.pass(SECOND).await;
    rig.faults.hold_appends(false);
    rig.until("they are sent again", async || rig.stored().await == 3).await;
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 2 * SECOND, commit: true });
    rig.end().await.unwrap();
}

/// An orderly stop, and brokers that stall for longer than a lease lasts. Returns when that began.
async fn stopped_without_a_lease() -> (Rig, Instant) {
    let rig = Rig::start(3, |faults| faults.hold_appends(true));
    rig.until("records are queued", async || !rig.delivery.is_idle()).await;
    let began = Instant::now();
    rig.directive.send_replace(Directive::Stop { deadline: began + 20 * SECOND, commit: true });
    rig.pass(SECOND).await;
    rig.lease(false);
    rig.pass(SECOND).await;
    rig.faults.hold_appends(false);
    rig.pass(SECOND).await;
    assert_eq!(rig.stored().await, 0, "another worker may run the task by now");
    (rig, began)
}

#[tokio::test(start_paused = true)]
async fn the_end_sends_nothing_without_the_lease() {
    let (rig, began) = stopped_without_a_lease().await;
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert!(began.elapsed() < 21 * SECOND, "it takes no more time than it was given: {:?}", began.elapsed());
    assert!(offsets.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_a_lease_that_comes_back_and_repeats_nothing() {
    let (rig, began) = stopped_without_a_lease().await;
    rig.lease(true);
    rig.until("what was taken back is sent", async || rig.stored().await == 3).await;
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert!(began.elapsed() < 5 * SECOND, "there is nothing left to wait for: {:?}", began.elapsed());
    assert_eq!(offsets.0.lock().unwrap().len(), 1, "the next owner begins behind them");
}

/// The lease had run out when the stop came.
#[tokio::test(start_paused = true)]
async fn a_stop_without_a_lease_waits_for_it() {
    let rig = Rig::start(3, |_| ());
    rig.until("the records are stored", async || rig.stored().await == 3 && rig.delivery.is_idle()).await;
    rig.lease(false);
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 20 * SECOND, commit: true });
    rig.pass(SECOND).await;
    assert!(rig.offsets.0.lock().unwrap().is_empty());
    rig.lease(true);
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert_eq!(offsets.0.lock().unwrap().len(), 1);
}

/// It lost its unit: there is nothing to wait for.
#[tokio::test(start_paused = true)]
async fn a_hard_stop_waits_for_nothing() {
    let (rig, began) = stopped_without_a_lease().await;
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now(), commit: false });
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
    assert!(offsets.0.lock().unwrap().is_empty());
}

/// Acknowledged before, but not written yet: the next owner has read where to begin.
#[tokio::test(start_paused = true)]
async fn the_end_writes_no_offset_after_the_lease() {
    let rig = Rig::start(3, |_| ());
    rig.until("the first records are stored", async || rig.stored().await == 3 && rig.delivery.is_idle()).await;
    rig.faults.hold_appends(true);
    rig.hand_out(1);
    rig.until("one more is queued", async || !rig.delivery.is_idle()).await;
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 20 * SECOND, commit: true });
    rig.pass(SECOND).await;
    rig.lease(false);
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert!(offsets.0.lock().unwrap().is_empty(), "the next owner began without them");
}

#[tokio::test(start_paused = true)]
async fn the_upstream_hears_of_a_record_when_its_offset_is_durable() {
    let rig = Rig::start(3, |_| ());
    let told = || rig.world.told.load(Ordering::SeqCst);
    rig.until("the records are stored", async || rig.stored().await == 3 && rig.delivery.is_idle()).await;
    rig.offsets.1.store(true, Ordering::SeqCst);
    rig.flush().await.unwrap_err();
    // The pump looks whether it has to tell the task before each batch.
    rig.hand_out(1);
    rig.until("one more is stored", async || rig.stored().await == 4).await;
    rig.hand_out(1);
    rig.until("and another one", async || rig.stored().await == 5 && rig.delivery.is_idle()).await;
    assert_eq!((rig.written(), told()), (0, 0), "nothing is durable");
    rig.faults.hold_appends(true);
    rig.hand_out(1);
    rig.until("one is on its way", async || !rig.delivery.is_idle()).await;
    rig.offsets.1.store(false, Ordering::SeqCst);
    rig.flush().await.unwrap();
    rig.hand_out(1);
    rig.until("the task hears of it", async || told() > 0).await;
    rig.pass(SECOND).await;
    assert_eq!((rig.written(), told()), (1, 5), "the sixth is still on its way");
    rig.faults.hold_appends(false);
    let world = rig.world.clone();
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 2 * SECOND, commit: true });
    rig.end().await.unwrap();
    assert_eq!(world.told.load(Ordering::SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_fails_the_task_and_no_offset_passes_it() {
    let rig = Rig::start(3, |faults| faults.refuse_appends(1, BackendError::Refused("too large".into())));
    let offsets = rig.offsets.clone();
    let failure = rig.end().await.unwrap_err();
    assert!(failure.message.contains("too large"), "{failure:?}");
    assert!(offsets.0.lock().unwrap().is_empty(), "the first record is not in Kafka");
}

/// As Java's worker does: a source that cannot read again what it has handed out loses nothing by an orderly stop.
#[tokio::test(start_paused = true)]
async fn what_poll_returned_when_a_stop_came_is_sent_and_committed() {
    let rig = Rig::start(3, |_| ());
    rig.until("the first records are stored", async || rig.stored().await == 3 && rig.delivery.is_idle()).await;
    rig.hand_out(2);
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 2 * SECOND, commit: true });
    rig.until("the pump ends", async || rig.pump.is_finished()).await;
    assert_eq!(rig.stored().await, 5);
    assert_eq!(rig.world.told.load(Ordering::SeqCst), 5);
    rig.end().await.unwrap();
}

/// The records are on their way, and nothing is wrong with them.
#[tokio::test(start_paused = true)]
async fn a_panic_takes_nothing_from_the_records_before_it() {
    let rig = Rig::start(3, |faults| faults.hold_appends(true));
    rig.until("records are queued", async || !rig.delivery.is_idle()).await;
    rig.world.broken.store(true, Ordering::SeqCst);
    rig.world.more.notify_one();
    rig.pass(SECOND).await;
    rig.faults.hold_appends(false);
    let (world, offsets) = (rig.world.clone(), rig.offsets.clone());
    assert_eq!(rig.end().await.unwrap_err().message, "panic");
    assert_eq!(offsets.0.lock().unwrap().len(), 1, "their offset is written");
    assert!(!world.stopped.load(Ordering::SeqCst), "what panicked is not called again");
    assert_eq!(world.told.load(Ordering::SeqCst), 0);
}

/// What its code still does after it was given up reaches nobody.
#[tokio::test(start_paused = true)]
async fn an_abandoned_task_writes_neither_records_nor_offsets() {
    let rig = Rig::start(3, |_| ());
    rig.until("the first records are stored", async || rig.stored().await == 3 && rig.delivery.is_idle()).await;
    rig.faults.hold_appends(true);
    rig.hand_out(2);
    rig.until("more are queued", async || !rig.delivery.is_idle()).await;
    rig.delivery.revoke();
    rig.faults.hold_appends(false);
    assert_eq!(rig.flush().await.unwrap(), 0);
    rig.hand_out(1);
    rig.pass(SECOND).await;
    assert_eq!((rig.stored().await, rig.written()), (3, 0));
    let failure = rig.end().await.unwrap_err();
    assert_eq!(failure.phase, Phase::Send, "{failure:?}");
}

/// What waits for `commit_record` waits for its offset, which an outage of the offset store keeps from being durable.
#[tokio::test(start_paused = true)]
async fn records_that_wait_for_their_offsets_are_bounded() {
    const BATCH: usize = 10_000;
    let rig = Rig::start(BATCH, |_| ());
    rig.offsets.1.store(true, Ordering::SeqCst);
    rig.world.batches.lock().unwrap().extend((0..9).map(|_| batch(BATCH)));
    rig.world.more.notify_one();
    rig.pass(120 * SECOND).await;
    let left = rig.world.batches.lock().unwrap().len();
    assert_eq!(left, 3, "seven batches are more than may wait");
    rig.offsets.1.store(false, Ordering::SeqCst);
    rig.until("the rest is read, without any interval", async || rig.world.batches.lock().unwrap().is_empty()).await;
}

#[test]
fn idle_tasks_wake_together_and_none_too_late() {
    let now = Instant::now();
    let mut deadlines = std::collections::BTreeSet::new();
    for offset in (0..1000).map(Duration::from_millis) {
        let wait = idle_deadline(now + offset, SECOND) - (now + offset);
        assert!(wait <= SECOND && wait > SECOND - IDLE_GRID, "{wait:?}");
        deadlines.insert(idle_deadline(now + offset, SECOND));
    }
    assert!(deadlines.len() <= 11, "{} times to wake up in a second", deadlines.len());
    assert_eq!(idle_deadline(now, SECOND / 2), now + SECOND / 2);
}
