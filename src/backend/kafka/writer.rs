//! Shared producers and their handles.
//!
//! A record costs no allocation on the way down: the client copies it once, and what comes back with its delivery report is one word, the number of
//! the handle and the record's sequence. One thread per producer takes the reports in batches and books them at the handles.
//!
//! A purge empties the queue, not the wire. Measured with an idempotent producer (tests/it/kafka_client.rs): the purged records leave a gap in the
//! client's numbers, so it waits for what is on the wire, takes a new epoch and goes on. Who then sends the purged records again, in order of
//! their sequences, finds each record once and in order in the log. The reports of a purge come in no order of their own. The client's threads
//! purge when they come to it: one that is late would take the first records of the next batch and let the later ones pass. And a batch on the
//! wire that fails, as the first one behind a gap does, comes back into the queue, where a purge takes it, while those behind it are still on
//! the wire, come back as well and would go out again before the purge is there once more. So a purge goes on until nothing is on the wire, and
//! meanwhile nobody sends: the handles are kept out, and the client's partitions are paused, as far as any report has named them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use connect_api::TopicPartition;

use super::native::{Client, Delivery, Kind, Outcome, PartitionList, Queue, Scratch, Topic};
use crate::backend::inbox::{Inbox, lock};
use crate::backend::{Ack, BackendError, ClientSettings, ProducerRecord, RecordWriter, Result};

/// Bits of a tag that hold the sequence: at a million records a second a handle lasts nine years.
const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
/// Handles of one producer at a time; the rest of a tag's bits.
const MAX_HANDLES: usize = 1 << (usize::BITS - SEQUENCE_BITS);
/// How long the thread waits for reports before it looks whether it is still needed. The end interrupts the wait.
const REPORT_WAIT: Duration = Duration::from_secs(1);
/// How often a purge takes what has come back from the wire.
const PURGE_AGAIN: Duration = Duration::from_millis(10);
/// How long one call of the client's blocking flush may take: so long it outlives the flush that asked for it.
const FLUSH_SLICE: Duration = Duration::from_millis(100);
/// Topics that a handle remembers. Beyond that it forgets all of them, and opens them anew.
const MAX_CACHED_TOPICS: usize = 1000;

/// What the report thread and the handles share.
struct Shared {
    client: Client,
    handles: RwLock<Handles>,
    /// Some handle found the client's own queue full, or the gate closed.
    starved: AtomicBool,
    /// Held by those who send, and by a purge alone.
    gate: RwLock<()>,
    /// Where records have gone, by topic; the client remembers these partitions as well.
    partitions: Mutex<HashMap<String, HashSet<i32>>>,
    /// Purges that were asked for since none was going on.
    purges: AtomicUsize,
    /// No more reports are wanted.
    ended: AtomicBool,
    fatal: OnceLock<BackendError>,
}

/// Partitions that the client sends nothing to.
#[derive(Default)]
struct Paused {
    /// A longer list holds all that a shorter one held.
    list: Option<PartitionList>,
    count: usize,
}

/// The handles by number.
#[derive(Default)]
struct Handles {
    inboxes: Vec<Option<Arc<Inbox>>>,
    /// Numbers whose handle was dropped while records were in flight. They are not given out before the last report.
    orphans: Vec<usize>,
}

/// A client that handles of equal settings share.
pub(super) struct Producer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    max_record_bytes: usize,
}

impl Producer {
    pub(super) fn start(settings: &ClientSettings) -> Result<Arc<Producer>> {
        let client = Client::new(Kind::Producer, settings)?;
        let queue = Arc::new(client.main_queue()?);
        let shared = Arc::new(Shared {
            client,
            handles: RwLock::default(),
            starved: AtomicBool::new(false),
            gate: RwLock::new(()),
            partitions: Mutex::default(),
            purges: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            fatal: OnceLock::new(),
        });
        let (thread_shared, thread_queue) = (Arc::clone(&shared), Arc::clone(&queue));
        std::thread::Builder::new()
            .name("kafka-reports".into())
            .spawn(move || thread_shared.run(thread_queue))
            .map_err(|error| BackendError::Retriable(format!("no thread for delivery reports: {error}")))?;
        // The client has checked that it is a number.
        let max_record_bytes = settings.get("message.max.bytes").and_then(|text| text.parse().ok());
        let max_record_bytes = max_record_bytes.unwrap_or(usize::MAX);
        Ok(Arc::new(Producer { shared, queue, max_record_bytes }))
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The error after which no record can be written any more.
    pub(super) fn fatal_error(&self) -> Option<BackendError> {
        if let Some(error) = self.shared.fatal.get() {
            return Some(error.clone());
        }
        let error = self.shared.client.fatal_error()?;
        Some(self.shared.fatal.get_or_init(|| error).clone())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The thread frees the client, which takes a moment that nobody here has.
        self.shared.ended.store(true, Ordering::SeqCst);
        self.queue.interrupt();
    }
}

impl Shared {
    fn run(self: Arc<Self>, queue: Arc<Queue>) {
        while !self.ended.load(Ordering::SeqCst) {
            queue.deliveries(REPORT_WAIT, |deliveries| self.book(deliveries));
            // Room comes up when the reports are freed, which is only now.
            self.feed_the_starved();
        }
    }

    fn feed_the_starved(&self) {
        if self.starved.swap(false, Ordering::SeqCst) {
            let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
            handles.inboxes.iter().flatten().for_each(|inbox| inbox.nudge());
        }
    }

    /// Purges apart from the caller: the client's threads may be busy, for as long as a name server does not answer.
    fn purge(self: &Arc<Self>) {
        // One that waits for its beginning is enough for all who ask for it.
        if self.purges.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("kafka-purge".into()).spawn(move || shared.purge_blocking());
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread for a purge, so it is waited for");
            self.purge_blocking();
        }
    }

    fn purge_blocking(&self) {
        loop {
            let asked = self.purges.load(Ordering::SeqCst);
            {
                let _closed = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                let mut paused = Paused::default();
                self.pause(&mut paused);
                self.client.purge_queue();
                while self.is_busy() && !self.ended.load(Ordering::SeqCst) {
                    std::thread::sleep(PURGE_AGAIN);
                    // Reports may have named further partitions.
                    self.pause(&mut paused);
                    self.client.purge_queue();
                }
                // What is left when the producer ends is not to be sent any more.
                if !self.ended.load(Ordering::SeqCst) {
                    self.resume(&paused);
                }
            }
            self.feed_the_starved();
            if self.purges.compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return;
            }
        }
    }

    /// Keeps the client from sending to all partitions that were named so far.
    fn pause(&self, paused: &mut Paused) {
        let partitions: Vec<TopicPartition> = {
            let partitions = lock(&self.partitions);
            let of = |(topic, numbers): (&String, &HashSet<i32>)| {
                numbers.iter().map(|at| TopicPartition::new(topic.as_str(), *at)).collect::<Vec<_>>()
            };
            partitions.iter().flat_map(of).collect()
        };
        if partitions.len() == paused.count {
            return;
        }
        paused.count = partitions.len();
        let list = PartitionList::new(partitions.iter().map(|partition| (partition, 0)))
            .and_then(|list| self.client.pause_sending(&list).map(|()| list));
        match list {
            Ok(list) => paused.list = Some(list),
            Err(error) => tracing::warn!(%error, "what is sent again may come behind later records"),
        }
    }

    fn resume(&self, paused: &Paused) {
        let Some(list) = &paused.list else { return };
        if let Err(error) = self.client.resume_sending(list) {
            tracing::error!(%error, "the client does not send any more; restart the worker");
        }
    }

    /// Notes where records went. A report is mostly of one partition.
    fn note_partitions(&self, deliveries: &[Delivery<'_>]) {
        for run in deliveries.chunk_by(|one, next| one.partition() == next.partition()) {
            let (topic, partition) = (run[0].topic(), run[0].partition());
            let mut partitions = lock(&self.partitions);
            match partitions.get_mut(&*topic) {
                _ if partition < 0 => {}
                Some(numbers) => _ = numbers.insert(partition),
                None => _ = partitions.insert(topic.into_owned(), HashSet::from([partition])),
            }
        }
    }

    /// Whether any record has no report yet.
    fn is_busy(&self) -> bool {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        handles.inboxes.iter().flatten().any(|inbox| inbox.in_flight() > 0)
    }

    /// For as long as records are handed to the client; `None` while a purge is going on.
    fn enter(&self) -> Option<RwLockReadGuard<'_, ()>> {
        match self.gate.try_read() {
            Ok(entered) => Some(entered),
            Err(TryLockError::Poisoned(entered)) => Some(entered.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Books reports at their handles, each run of one handle under one lock.
    fn book(&self, deliveries: &[Delivery<'_>]) {
        self.note_partitions(deliveries);
        let mut finished = false;
        {
            let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
            for run in deliveries.chunk_by(|one, next| slot_of(one.tag()) == slot_of(next.tag())) {
                let slot = slot_of(run[0].tag());
                let Some(inbox) = &handles.inboxes[slot] else { continue };
                if run[0].error().is_none() {
                    self.client.note_answer();
                }
                inbox.update(|state| {
                    for delivery in run {
                        let sequence = delivery.tag() as u64 & SEQUENCE_MASK;
                        match delivery.error() {
                            None => {
                                state.delivered(sequence, delivery.size(), delivery.partition(), delivery.offset());
                            }
                            Some(error) => state.failed(sequence, delivery.size(), self.reason(error)),
                        }
                    }
                });
                finished |= handles.orphans.contains(&slot);
            }
        }
        if finished {
            self.forget_orphans();
        }
    }

    /// A broken client purges its queue by itself: its records did not fail because somebody asked for that.
    fn reason(&self, error: BackendError) -> BackendError {
        self.client.fatal_error().unwrap_or(error)
    }

    fn forget_orphans(&self) {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        let Handles { inboxes, orphans } = &mut *handles;
        orphans.retain(|slot| {
            let pending = inboxes[*slot].as_ref().is_some_and(|inbox| inbox.in_flight() > 0);
            if !pending {
                inboxes[*slot] = None;
            }
            pending
        });
    }

    fn add_handle(&self, inbox: &Arc<Inbox>) -> Result<usize> {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        let slot = handles.inboxes.iter().position(Option::is_none).unwrap_or(handles.inboxes.len());
        if slot >= MAX_HANDLES {
            return Err(BackendError::Retriable(format!("{MAX_HANDLES} handles of one producer are open")));
        }
        if slot == handles.inboxes.len() {
            handles.inboxes.push(None);
        }
        handles.inboxes[slot] = Some(Arc::clone(inbox));
        Ok(slot)
    }
}

fn slot_of(tag: usize) -> usize {
    tag >> SEQUENCE_BITS
}

/// A handle. Dropped, it leaves its records to the client, which delivers them as long as other handles keep it.
pub(super) struct KafkaWriter {
    producer: Arc<Producer>,
    inbox: Arc<Inbox>,
    slot: usize,
    sending: Mutex<Sending>,
    /// Failures of the client that are older than this handle.
    failures: u64,
}

/// What one `send` at a time uses.
#[derive(Default)]
struct Sending {
    topics: HashMap<ByteString, Arc<Topic>>,
    scratch: Scratch,
}

impl KafkaWriter {
    pub(super) fn new(producer: Arc<Producer>, max_bytes: usize) -> Result<KafkaWriter> {
        let inbox = Arc::new(Inbox::new(max_bytes));
        let slot = producer.shared.add_handle(&inbox)?;
        let failures = producer.client().failures();
        Ok(KafkaWriter { producer, inbox, slot, sending: Mutex::default(), failures })
    }

    pub(super) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The sequence of the next record.
    pub(super) fn next_sequence(&self) -> u64 {
        self.inbox.lock().next_sequence()
    }

    /// Sends records of one topic; how many were taken, and what stopped it.
    fn send_run(&self, sending: &mut Sending, records: &[ProducerRecord]) -> (usize, Stop) {
        let topic = match sending.topic(self.producer.client(), &records[0].topic) {
            Ok(topic) => topic,
            Err(error) => return (0, Stop::Refused(error)),
        };
        let Some(_entered) = self.producer.shared.enter() else { return (0, Stop::ClientFull) };
        let (first, count, refused) = match self.reserve(records) {
            Ok(reserved) => reserved,
            Err(error) => return (0, Stop::Refused(error)),
        };
        let tag = |at: usize| (self.slot << SEQUENCE_BITS) | ((first + at as u64) & SEQUENCE_MASK) as usize;
        let (taken, stop) = match topic.produce(&records[..count], &mut sending.scratch, tag) {
            Outcome::Taken => match refused {
                Some(error) => (count, Stop::Refused(error)),
                None if count < records.len() => (count, Stop::Full),
                None => (count, Stop::No),
            },
            Outcome::Full(taken) => (taken, Stop::ClientFull),
            Outcome::Refused(taken, error) => (taken, Stop::Refused(error)),
        };
        if taken < count {
            let bytes = records[taken..count].iter().map(ProducerRecord::size).sum();
            self.inbox.update(|state| state.untake(count - taken, bytes));
        }
        (taken, stop)
    }

    /// Books as many records as fit: the first one's sequence, how many, and why the next one can never be taken.
    fn reserve(&self, records: &[ProducerRecord]) -> Result<(u64, usize, Option<BackendError>)> {
        let mut state = self.inbox.lock();
        if state.revoked() {
            return Err(BackendError::Revoked);
        }
        let first = state.next_sequence();
        for (at, record) in records.iter().enumerate() {
            let size = record.size();
            if let Some(error) = self.check(record, size) {
                return Ok((first, at, Some(error)));
            }
            if !state.has_room(size, self.inbox.max_bytes()) {
                return Ok((first, at, None));
            }
            state.take(size);
        }
        Ok((first, records.len(), None))
    }

    fn check(&self, record: &ProducerRecord, size: usize) -> Option<BackendError> {
        let max = self.producer.max_record_bytes;
        let topic = &record.topic;
        if size > max {
            let message = format!("a record of {size} bytes for {topic} is larger than message.max.bytes, {max}");
            return Some(BackendError::Refused(message));
        }
        if let Some(timestamp) = record.timestamp.filter(|timestamp| *timestamp < 0) {
            let message = format!("a record for {topic} has the negative timestamp {timestamp}");
            return Some(BackendError::Refused(message));
        }
        None
    }
}

/// Why a run of records ended.
enum Stop {
    No,
    /// The handle's bound.
    Full,
    /// The client's bound, or a purge is going on.
    ClientFull,
    Refused(BackendError),
}

impl Sending {
    fn topic(&mut self, client: &Client, name: &ByteString) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        if self.topics.len() >= MAX_CACHED_TOPICS {
            self.topics.clear();
        }
        let topic = Arc::new(Topic::new(client, name)?);
        // Copied: the name may be a slice of a large block.
        self.topics.insert(ByteString::from(name.to_string()), Arc::clone(&topic));
        Ok(topic)
    }
}

#[async_trait]
impl RecordWriter for KafkaWriter {
    fn send(&self, records: &[ProducerRecord]) -> Result<usize> {
        let mut sending = lock(&self.sending);
        let mut taken = 0;
        for run in records.chunk_by(|one, next| one.topic == next.topic) {
            let (mut more, mut stop) = self.send_run(&mut sending, run);
            if let Stop::ClientFull = stop {
                // Said first and tried once more, so that room which came up in between is either found or told of.
                self.producer.shared.starved.store(true, Ordering::SeqCst);
                let (again, last) = self.send_run(&mut sending, &run[more..]);
                (more, stop) = (more + again, last);
            }
            taken += more;
            match stop {
                Stop::No => {}
                Stop::Full | Stop::ClientFull => break,
                Stop::Refused(error) if taken == 0 => {
                    return Err(match error {
                        BackendError::Revoked => error,
                        // A broken client gives the reason that broke it.
                        error => self.producer.fatal_error().unwrap_or(error),
                    });
                }
                Stop::Refused(_) => break,
            }
        }
        Ok(taken)
    }

    fn take_acks(&self, acks: &mut Vec<Ack>) {
        self.inbox.take_acks(acks);
    }

    async fn changed(&self) {
        self.inbox.changed().await;
    }

    fn in_flight(&self) -> usize {
        self.inbox.in_flight()
    }

    fn refused_login(&self) -> Option<BackendError> {
        // A client that broke is replaced; that is no refusal.
        self.producer.client().failure_since(self.failures).filter(|error| matches!(error, BackendError::Refused(_)))
    }

    async fn flush(&self, timeout: Duration) -> Result<()> {
        if self.in_flight() == 0 {
            return Ok(());
        }
        let drained = self.inbox.drained(timeout);
        tokio::pin!(drained);
        loop {
            let client = self.producer.client().clone();
            let hurry = tokio::task::spawn_blocking(move || client.flush_blocking(FLUSH_SLICE));
            tokio::select! {
                drained = &mut drained => return drained,
                // Also where the runtime shuts down: then `drained` decides.
                _ = hurry => {}
            }
        }
    }

    fn purge(&self) {
        self.producer.shared.purge();
    }

    fn revoke(&self) {
        self.inbox.revoke();
        // Others share the client: their records are not disturbed for nothing.
        if self.inbox.in_flight() > 0 {
            self.purge();
        }
    }
}

impl Drop for KafkaWriter {
    fn drop(&mut self) {
        let mut handles = self.producer.shared.handles.write().unwrap_or_else(PoisonError::into_inner);
        if self.inbox.in_flight() == 0 {
            handles.inboxes[self.slot] = None;
        } else {
            handles.orphans.push(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::kafka::{client_config, open};
    use crate::backend::{Backend, BackendError};

    /// Nobody listens there.
    const NOWHERE: &str = "127.0.0.1:1";

    #[tokio::test]
    async fn a_broken_client_fails_its_records_and_is_replaced() {
        let settings = ClientSettings::from([("bootstrap.servers".to_owned(), NOWHERE.to_owned())]);
        let producer = Producer::start(&client_config::producer(&settings)).unwrap();
        let writer = KafkaWriter::new(Arc::clone(&producer), 1000).unwrap();
        let record = ProducerRecord::keyed("topic", "key", None);
        assert_eq!(writer.send(std::slice::from_ref(&record)).unwrap(), 1);
        producer.client().break_for_test();
        tokio::time::timeout(Duration::from_secs(10), writer.changed()).await.expect("the record fails");
        let mut acks = Vec::new();
        writer.take_acks(&mut acks);
        assert!(matches!(acks[..], [Ack::Failed { sequence: 0, error: BackendError::Fatal(_) }]), "{acks:?}");
        let sent = writer.send(&[record]);
        assert!(matches!(sent, Err(BackendError::Fatal(_))), "{sent:?}");
        assert!(producer.fatal_error().is_some());
    }

    /// A task of a client that broke gets a new one instead of failing.
    #[tokio::test]
    async fn a_broken_client_is_no_refused_login() {
        let settings = ClientSettings::from([("bootstrap.servers".to_owned(), NOWHERE.to_owned())]);
        let producer = Producer::start(&client_config::producer(&settings)).unwrap();
        let older = KafkaWriter::new(Arc::clone(&producer), 1000).unwrap();
        producer.client().note_failure(BackendError::Fatal("broken".into()));
        assert!(older.refused_login().is_none());
        producer.client().note_failure(BackendError::Refused("not you".into()));
        assert!(older.refused_login().is_some());
        assert!(KafkaWriter::new(producer, 1000).unwrap().refused_login().is_none(), "it has tried nothing yet");
    }

    #[tokio::test]
    async fn handles_of_equal_settings_share_a_client_until_it_breaks() {
        let backend = crate::backend::kafka::KafkaBackend::new(NOWHERE, &ClientSettings::new());
        let linger = ClientSettings::from([("linger.ms".to_owned(), "1".to_owned())]);
        let effective = |settings: &ClientSettings| client_config::producer(&backend.merged(settings));
        let one = backend.producer(effective(&linger)).unwrap();
        let same = backend.producer(effective(&linger)).unwrap();
        let other = backend.producer(effective(&ClientSettings::new())).unwrap();
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        one.client().break_for_test();
        let anew = backend.producer(effective(&linger)).unwrap();
        assert!(!Arc::ptr_eq(&one, &anew));
    }

    #[tokio::test]
    async fn records_that_cannot_be_stored_are_refused_before_the_client_sees_them() {
        let backend: Arc<dyn Backend> = open(NOWHERE, &ClientSettings::new()).unwrap();
        let writer = backend.writer(&ClientSettings::new(), 1000).unwrap();
        let negative = ProducerRecord { timestamp: Some(-1), ..ProducerRecord::keyed("topic", "key", None) };
        let header = ("a\0b".into(), None);
        let zero = ProducerRecord { headers: vec![header], ..ProducerRecord::keyed("topic", "key", None) };
        for record in [negative, zero] {
            let sent = writer.send(&[record]);
            assert!(matches!(sent, Err(BackendError::Refused(_))), "{sent:?}");
        }
        assert_eq!(writer.in_flight(), 0);
        let mut acks = Vec::new();
        writer.take_acks(&mut acks);
        assert!(acks.is_empty());
    }
}
