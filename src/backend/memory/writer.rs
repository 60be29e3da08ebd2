//! Writers outside of transactions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::cluster::{Client, Cluster, Queued};
use crate::backend::inbox::Inbox;
use crate::backend::rules::defect;
use crate::backend::{Ack, BackendError, ProducerRecord, RecordWriter, Result};

/// A handle to a client.
pub(super) struct MemoryWriter {
    pub cluster: Arc<Cluster>,
    pub client: Arc<Client>,
    pub inbox: Arc<Inbox>,
    pub max_record_bytes: usize,
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
