//! What a source task shares between its pump, which sends, and its offset committer, which writes offsets.
//!
//! The lock is taken once per batch or flush and never held across a wait. Everything that may be lost with the process
//! lives in here: dropping it loses at most records whose offset is not durable, and those are read again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connect_api::{RecordMetadata, SourceOffset, SourcePartition, SourceRecord};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::outbox::Outbox;
use super::phase::{Failure, Phase};
use super::submitted_records::{Committable, SubmittedRecords, Ticket};
use crate::backend::{Ack, BackendError, ProducerRecord, RecordWriter};
use crate::metrics::TaskMetrics;

/// Makes a writer handle: at the start, and again when the client broke.
pub type MakeWriter = Box<dyn Fn() -> Result<Arc<dyn RecordWriter>, BackendError> + Send + Sync>;

/// How often a broken client is replaced without one acknowledgement in between before the task fails.
const REPLACEMENTS_MAX: u32 = 5;

/// How long a wait for acknowledgements lasts before they are looked for again: the other holder of the lock may have taken the wake-up.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Records that may wait for `commit_record`. They wait for their offsets to be durable, which an outage of the offset store keeps them from: then
/// nothing more is read.
pub const RETAINED_MAX: usize = 65_536;

/// A record on its way out, with where it was read.
pub struct Outgoing {
    /// What goes to Kafka.
    pub record: ProducerRecord,
    /// Where it was read.
    pub source_partition: SourcePartition,
    /// Where to go on after it.
    pub source_offset: SourceOffset,
}

/// A record that waits for `commit_record`: with its ticket, or without where it was dropped.
struct Retained {
    ticket: Option<Ticket>,
    record: SourceRecord,
}

struct Inner {
    writer: Arc<dyn RecordWriter>,
    outbox: Outbox,
    submitted: SubmittedRecords,
    /// Records for `commit_record` in order; stays empty unless the task asked for it.
    retained: VecDeque<Retained>,
    /// Where Kafka stored them.
    stored: HashMap<Ticket, RecordMetadata>,
    refused: Option<BackendError>,
    /// Clients that broke since the last acknowledgement.
    replacements: u32,
    acks: Vec<Ack>,
    /// The task was abandoned: nothing may be written any more.
    revoked: bool,
    /// A flush finished since the pump last looked: `commit` of the task is due.
    upstream_commit_due: bool,
}

/// See the module.
pub struct Delivery {
    make_writer: MakeWriter,
    metrics: Arc<TaskMetrics>,
    inner: Mutex<Inner>,
    flushed: Notify,
    flushing: tokio::sync::Mutex<()>,
}

impl Delivery {
    /// Opens a writer.
    pub fn new(make_writer: MakeWriter, metrics: Arc<TaskMetrics>) -> Result<Arc<Self>, BackendError> {
        let inner = Inner {
            writer: make_writer()?,
            outbox: Outbox::default(),
            submitted: SubmittedRecords::default(),
            retained: VecDeque::new(),
            stored: HashMap::new(),
            refused: None,
            replacements: 0,
            acks: Vec::new(),
            revoked: false,
            upstream_commit_due: false,
        };
        Ok(Arc::new(Delivery {
            make_writer,
            metrics,
            inner: Mutex::new(inner),
            flushed: Notify::new(),
            flushing: Default::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held can only come from a broken invariant of this room; the task fails then, and the
        // final flush must still see which offsets are behind acknowledged records.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch in order and sends what the writer has room for.
    pub fn submit(&self, batch: impl Iterator<Item = Outgoing>) -> Result<(), Failure> {
        let mut inner = self.lock();
        for outgoing in batch {
            let ticket = inner.submitted.submit(&outgoing.source_partition, outgoing.source_offset);
            inner.outbox.push(outgoing.record, ticket);
        }
        self.advance(&mut inner)
    }

    /// As [`Delivery::submit`], and keeps the records for `commit_record`. `None`: the record was dropped on the way.
    pub fn submit_retaining(
        &self,
        batch: impl Iterator<Item = (SourceRecord, Option<Outgoing>)>,
    ) -> Result<(), Failure> {
        let mut inner = self.lock();
        for (record, outgoing) in batch {
            let ticket = outgoing.map(|outgoing| {
                let ticket = inner.submitted.submit(&outgoing.source_partition, outgoing.source_offset);
                inner.outbox.push(outgoing.record, ticket);
                ticket
            });
            inner.retained.push_back(Retained { ticket, record });
        }
        self.advance(&mut inner)
    }

    /// Takes in acknowledgements and sends what has room now. Returns how many records still wait for room.
    pub fn progress(&self) -> Result<usize, Failure> {
        let mut inner = self.lock();
        self.advance(&mut inner)?;
        Ok(inner.outbox.waiting())
    }

    fn advance(&self, inner: &mut Inner) -> Result<(), Failure> {
        if inner.revoked {
            return Err(Failure::text(Phase::Send, BackendError::Revoked.to_string()));
        }
        self.absorb(inner)?;
        if let Some(error) = &inner.refused {
            let message = format!("Kafka refused a record: {error}");
            return Err(Failure::text(Phase::Send, message));
        }
        let Inner { writer, outbox, refused, .. } = inner;
        if let Some(error) = writer.refused_login().filter(|_| !outbox.is_empty()) {
            return Err(Failure::text(Phase::Send, format!("records cannot be sent: {error}")));
        }
        match outbox.send(&**writer) {
            Ok(()) => Ok(()),
            // The client itself is broken: its acknowledgements say so as well, and the next round gets a new one.
            Err(BackendError::Fatal(_) | BackendError::Fenced(_)) => self.replace_writer(inner),
            Err(BackendError::Retriable(_)) => Ok(()),
            Err(error) => {
                let failure = Failure::text(Phase::Send, format!("a record could not be sent: {error}"));
                *refused = Some(error);
                Err(failure)
            }
        }
    }

    fn absorb(&self, inner: &mut Inner) -> Result<(), Failure> {
        loop {
            // Asked before the acknowledgements are taken: a zero means that all of them are among those taken.
            let in_flight = inner.writer.in_flight();
            let mut acks = std::mem::take(&mut inner.acks);
            inner.writer.take_acks(&mut acks);
            let Inner { outbox, submitted, retained, stored, .. } = &mut *inner;
            let keep_metadata = !retained.is_empty();
            let absorbed = outbox.absorb(&acks, |ticket, metadata| {
                submitted.acknowledge(ticket);
                if keep_metadata {
                    stored.insert(ticket, metadata);
                }
            });
            self.metrics.written(absorbed.records, absorbed.bytes);
            if absorbed.records > 0 {
                inner.replacements = 0;
            }
            acks.clear();
            inner.acks = acks;
            if let Some(error) = absorbed.refused {
                inner.refused.get_or_insert(error);
            }
            if absorbed.client_lost {
                return self.replace_writer(inner);
            }
            inner.outbox.resume_when_settled(in_flight);
            // The last answer may have come between the question and the taking; nothing would wake us for it again.
            if !inner.outbox.is_settling() || inner.writer.in_flight() > 0 {
                return Ok(());
            }
        }
    }

    fn replace_writer(&self, inner: &mut Inner) -> Result<(), Failure> {
        inner.replacements += 1;
        if inner.replacements > REPLACEMENTS_MAX {
            let message = format!("{REPLACEMENTS_MAX} producers broke one after the other without storing a record");
            return Err(Failure::text(Phase::Send, message));
        }
        let writer = (self.make_writer)().map_err(|error| {
            Failure::text(Phase::Send, format!("the client broke and a new one cannot be made: {error}"))
        })?;
        inner.writer.revoke();
        inner.writer = writer;
        inner.outbox.restart(0);
        Ok(())
    }

    /// Whether every record is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.lock().outbox.is_empty()
    }

    /// Whether as many records as may wait for `commit_record` do so.
    pub fn is_full(&self) -> bool {
        self.lock().retained.len() >= RETAINED_MAX
    }

    /// Waits until acknowledgements or room may be there.
    pub async fn changed(&self) {
        let writer = self.lock().writer.clone();
        writer.changed().await;
    }

    /// Waits until everything is acknowledged, at most until `deadline`. Returns whether it is. When a record was
    /// refused, waits for those that are under way and sends no more.
    pub async fn settle(&self, deadline: Instant) -> Result<bool, Failure> {
        loop {
            let progress = self.progress();
            let (quiet, empty) = {
                let inner = self.lock();
                (inner.writer.in_flight() == 0, inner.outbox.is_empty())
            };
            match progress {
                Err(failure) if quiet => return Err(failure),
                Ok(_) if empty => return Ok(true),
                _ => {}
            }
            if timeout_at(deadline, timeout(LOOK_AGAIN, self.changed())).await.is_err() {
                return Ok(false);
            }
        }
    }

    /// No lease: gives back what the client has queued and not sent. It is sent again, in order, by later calls of
    /// [`Delivery::progress`].
    pub fn purge(&self) {
        self.lock().writer.purge();
    }

    /// The task was abandoned: whoever still holds this can write no more, neither records nor offsets.
    pub fn revoke(&self) {
        let mut inner = self.lock();
        inner.revoked = true;
        inner.writer.revoke();
    }

    /// Takes in acknowledgements and returns the offsets that may be written; `None` when the task was abandoned.
    pub fn committable(&self) -> Option<Committable> {
        let mut inner = self.lock();
        if inner.revoked {
            return None;
        }
        if let Err(failure) = self.absorb(&mut inner) {
            // The pump meets the same failure at its next round and reports it; the acknowledged prefix stays valid.
            tracing::debug!(failure = failure.message, "acknowledgements could not all be taken in");
        }
        Some(inner.submitted.committable())
    }

    /// Waits for the turn to write offsets: the committer and the end of the pump may want to at once.
    pub async fn flush_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.flushing.lock().await
    }

    /// These offsets are durable; the upstream may be told.
    pub fn flushed(&self, written: &Committable) {
        let mut inner = self.lock();
        inner.submitted.durable(written);
        inner.upstream_commit_due = true;
        drop(inner);
        self.flushed.notify_one();
    }

    /// Waits until a flush finished.
    pub async fn flush_finished(&self) {
        self.flushed.notified().await;
    }

    /// Whether `commit` is due, and the records whose offsets became durable, for `commit_record`.
    pub fn take_upstream_commit(&self) -> Option<Vec<(SourceRecord, Option<RecordMetadata>)>> {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.upstream_commit_due) {
            return None;
        }
        let Inner { submitted, retained, stored, .. } = &mut *inner;
        let is_done = |entry: &Retained| entry.ticket.is_none_or(|ticket| submitted.is_durable(ticket));
        let done = retained.iter().take_while(|entry| is_done(entry)).count();
        let with_metadata = |entry: Retained| {
            let metadata = entry.ticket.and_then(|ticket| stored.remove(&ticket));
            (entry.record, metadata)
        };
        Some(retained.drain(..done).map(with_metadata).collect())
    }
}

/// Waits for `future`, but not longer than until `deadline`; `None` when it was not ready by then.
pub(super) async fn until<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    timeout_at(deadline, future).await.ok()
}

/// The time that is left until `deadline`.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
