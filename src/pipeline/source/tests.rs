//! The pump of a source over the cluster in memory, with paused time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use connect_api::converter::RawHeader;
use connect_api::{
    ConfigDef, Converter, FieldMap, Header, HeaderConverter, Record, Schema, SchemaAndValue, SourceOffset,
    SourcePartition, TopicPartition, Value,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::backend::memory::{self, Faults};
use crate::backend::{Backend, ClientSettings, Isolation};
use crate::metrics::{Metrics, TaskKind};
use crate::pipeline::transform_chain::TransformChain;
use crate::pipeline::{Converters, PhaseCell};
use crate::storage::offset_store::{OffsetEntry, OffsetStore};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(600);

/// Hands out what it has, then waits for ever.
struct Scripted(VecDeque<Vec<SourceRecord>>);

#[async_trait]
impl SourceTask for Scripted {
    async fn initialize(&mut self, _: SourceTaskContext) -> connect_api::Result<()> {
        Ok(())
    }
    async fn start(&mut self, _: Props) -> connect_api::Result<()> {
        Ok(())
    }
    async fn poll(&mut self) -> connect_api::Result<Vec<SourceRecord>> {
        match self.0.pop_front() {
            Some(records) => Ok(records),
            None => std::future::pending().await,
        }
    }
    async fn stop(&mut self) -> connect_api::Result<()> {
        Ok(())
    }
}

struct Plain;

impl Converter for Plain {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }
    fn configure(&mut self, _: &Props, _: bool) -> connect_api::Result<()> {
        Ok(())
    }
    fn from_connect_data(
        &mut self,
        _: &str,
        _: &[Header],
        _: Option<&Schema>,
        _: &Value,
    ) -> connect_api::Result<Option<Bytes>> {
        Ok(Some(Bytes::from_static(b"v")))
    }
    fn to_connect_data(&mut self, _: &str, _: &[RawHeader], _: Option<&Bytes>) -> connect_api::Result<SchemaAndValue> {
        Ok(SchemaAndValue::NULL)
    }
}

impl HeaderConverter for Plain {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }
    fn configure(&mut self, _: &Props) -> connect_api::Result<()> {
        Ok(())
    }
    fn from_connect_header(&mut self, _: &str, _: &str, _: &SchemaAndValue) -> connect_api::Result<Option<Bytes>> {
        Ok(None)
    }
    fn to_connect_header(&mut self, _: &str, _: &str, _: Option<&Bytes>) -> connect_api::Result<SchemaAndValue> {
        Ok(SchemaAndValue::NULL)
    }
}

/// Keeps what is written.
#[derive(Default)]
struct Offsets(Mutex<Vec<OffsetEntry>>);

#[async_trait]
impl OffsetStore for Offsets {
    async fn write(&self, _: &str, entries: &[OffsetEntry], _: Duration) -> Result<(), OffsetError> {
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
        let converters = Converters { key: Box::new(Plain), value: Box::new(Plain), header: Box::new(Plain) };
        let pump = SourcePump {
            task: Box::new(Scripted([batch(records)].into())),
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
        Rig { backend, faults, offsets, directive, leased, delivery, pump: tokio::spawn(pump.run()) }
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
    sleep(SECOND).await;
    rig.faults.hold_appends(false);
    sleep(SECOND).await;
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
    sleep(SECOND).await;
    rig.faults.hold_appends(false);
    rig.until("they are sent again", async || rig.stored().await == 3).await;
    rig.directive.send_replace(Directive::Stop { deadline: Instant::now() + 2 * SECOND, commit: true });
    rig.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_end_sends_nothing_after_the_lease() {
    let rig = Rig::start(3, |faults| faults.hold_appends(true));
    rig.until("records are queued", async || !rig.delivery.is_idle()).await;
    let began = Instant::now();
    rig.directive.send_replace(Directive::Stop { deadline: began + 20 * SECOND, commit: true });
    sleep(SECOND).await;
    rig.lease(false);
    sleep(SECOND).await;
    rig.faults.hold_appends(false);
    sleep(SECOND).await;
    assert_eq!(rig.stored().await, 0, "another worker may run the task by now");
    let offsets = rig.offsets.clone();
    rig.end().await.unwrap();
    assert!(began.elapsed() < 5 * SECOND, "there is nothing left to wait for: {:?}", began.elapsed());
    assert!(offsets.0.lock().unwrap().is_empty());
}
