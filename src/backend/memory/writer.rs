//! Writers outside of transactions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::cluster::{Client, Cluster, Queued};
use crate::backend::inbox::Inbox;
use crate::backend::{Ack, BackendError, ProducerRecord, RecordWriter, Result};

/// Bytes that one record may have where `message.max.bytes` does not say otherwise: Java's `max.request.size`.
pub(super) const MAX_RECORD_BYTES: usize = 1_048_576;

/// A handle to a client.
pub(super) struct MemoryWriter {
    pub cluster: Arc<Cluster>,
    pub client: Arc<Client>,
    pub inbox: Arc<Inbox>,
    pub max_record_bytes: usize,
}

/// What is wrong with a record itself.
pub(super) fn defect(record: &ProducerRecord, max_record_bytes: usize) -> Option<BackendError> {
    let (size, topic) = (record.size(), &record.topic);
    if size > max_record_bytes {
        return Some(BackendError::Refused(format!(
            "a record of {size} bytes for {topic} is larger than message.max.bytes, {max_record_bytes}"
        )));
    }
    record
        .timestamp
        .filter(|timestamp| *timestamp < 0)
        .map(|timestamp| BackendError::Refused(format!("a record for {topic} has the negative timestamp {timestamp}")))
}

#[async_trait]
impl RecordWriter for MemoryWriter {
    fn send(&self, records: &[ProducerRecord]) -> Result<usize> {
        let mut taken = 0;
        let mut refused = None;
        {
            let mut state = self.cluster.lock();
            let mut inbox = self.inbox.lock();
            if inbox.revoked() {
                return Err(BackendError::Revoked);
            }
            if self.client.broken.load(Ordering::SeqCst) {
                return Err(BackendError::Fatal("an earlier append failed for good".into()));
            }
            let due = Instant::now() + state.faults.append_delay;
            for record in records {
                if let Some(error) = defect(record, self.max_record_bytes) {
                    refused = Some(error);
                    break;
                }
                if !inbox.has_room(record.size(), self.inbox.max_bytes()) {
                    break;
                }
                let partition = match state.place(record) {
                    Ok(partition) => partition,
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                };
                state.queue.push_back(Queued {
                    client: Arc::clone(&self.client),
                    inbox: Arc::clone(&self.inbox),
                    sequence: inbox.take(record.size()),
                    partition,
                    record: record.clone(),
                    due,
                });
                taken += 1;
            }
        }
        self.cluster.work_off();
        match refused {
            Some(error) if taken == 0 => Err(error),
            _ => Ok(taken),
        }
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

    async fn flush(&self, timeout: Duration) -> Result<()> {
        self.inbox.drained(timeout).await
    }

    fn purge(&self) {
        let mut state = self.cluster.lock();
        state.drop_queued(|queued| Arc::ptr_eq(&queued.client, &self.client), &BackendError::Purged);
    }

    fn revoke(&self) {
        self.inbox.revoke();
        self.purge();
    }
}
