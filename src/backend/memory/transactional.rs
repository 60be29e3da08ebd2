//! Writers in transactions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::TopicPartition;

use super::cluster::{Cluster, OpenTransaction, State};
use crate::backend::rules::defect;
use crate::backend::transaction::Transaction;
use crate::backend::{BackendError, ProducerRecord, Result, TransactionalWriter};

/// How long `send` and `send_offsets` wait for a broker, as Java's `delivery.timeout.ms`.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);

/// A writer of a transactional id.
pub(super) struct MemoryTransactionalWriter {
    cluster: Arc<Cluster>,
    transaction: Transaction,
    epoch: u64,
    max_record_bytes: usize,
}

impl MemoryTransactionalWriter {
    /// Takes the id over: the transaction of an earlier writer is aborted.
    pub(super) async fn open(
        cluster: Arc<Cluster>,
        id: &str,
        max_record_bytes: usize,
        timeout: Duration,
    ) -> Result<MemoryTransactionalWriter> {
        let take_over = |state: &mut State| {
            state.end_transaction(id, false);
            let known = state.transactional_ids.entry(id.to_owned()).or_default();
            known.epoch += 1;
            Some(known.epoch)
        };
        let epoch = cluster.wait_for(timeout, "taking over a transactional id", take_over).await?;
        cluster.changed.notify_waiters();
        Ok(MemoryTransactionalWriter { cluster, transaction: Transaction::new(id), epoch, max_record_bytes })
    }

    /// The open transaction, which the first use registers; an error where another writer has the id.
    fn open_transaction<'a>(&self, state: &'a mut State) -> Result<&'a mut OpenTransaction> {
        let new_id = state.next_id();
        match state.transactional_ids.get_mut(self.transaction.id()) {
            Some(known) if known.epoch == self.epoch => Ok(known.open.get_or_insert_with(|| OpenTransaction {
                id: new_id,
                partitions: Vec::new(),
                offsets: Vec::new(),
            })),
            _ => Err(BackendError::Fenced(self.transaction.id().to_owned())),
        }
    }

    fn append(&self, state: &mut State, record: &ProducerRecord) -> Result<(i32, i64)> {
        if let Some(error) = defect(record, self.max_record_bytes) {
            return Err(error);
        }
        let partition = state.place(record)?;
        let transaction = self.open_transaction(state)?.id;
        let placed = state.append(record, partition, Some(transaction))?;
        let open = self.open_transaction(state)?;
        let partition = TopicPartition::new(&*record.topic, partition);
        if !open.partitions.contains(&partition) {
            open.partitions.push(partition);
        }
        Ok(placed)
    }

    async fn end(&self, commit: bool, timeout: Duration) -> Result<()> {
        let finish = |state: &mut State| {
            let known = state.transactional_ids.entry(self.transaction.id().to_owned()).or_default();
            // As with Kafka, a transaction without content never reaches the broker: nobody says there that it is fenced.
            if known.epoch == self.epoch {
                state.end_transaction(self.transaction.id(), commit);
                return Some(Ok(()));
            }
            Some(Err(BackendError::Fenced(self.transaction.id().to_owned())))
        };
        let ended = self.cluster.wait_for(timeout, "ending a transaction", finish).await.and_then(|ended| ended);
        self.transaction.note_end(ended)?;
        self.cluster.changed.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl TransactionalWriter for MemoryTransactionalWriter {
    fn begin(&self) -> Result<()> {
        self.transaction.begin(|| Ok(()))
    }

    async fn send(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        self.transaction.check_begun()?;
        let (append_delay, ack_delay) = {
            let state = self.cluster.lock();
            (state.faults.append_delay, state.faults.ack_delay)
        };
        if !append_delay.is_zero() {
            tokio::time::sleep(append_delay).await;
        }
        let append_all = |state: &mut State| {
            if state.faults.hold_appends {
                return None;
            }
            Some(records.iter().map(|record| self.append(state, record)).collect::<Result<Vec<_>>>())
        };
        let sent = self.cluster.wait_for(SEND_TIMEOUT, "an append", append_all).await.and_then(|sent| sent);
        let sent = self.transaction.note(sent)?;
        if !ack_delay.is_zero() {
            tokio::time::sleep(ack_delay).await;
        }
        let answered =
            self.cluster.wait_for(SEND_TIMEOUT, "an append", |state| (!state.faults.hold_acks).then_some(()));
        self.transaction.note(answered.await)?;
        Ok(sent)
    }

    async fn send_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.transaction.check_begun()?;
        let add = |state: &mut State| {
            Some(self.open_transaction(state).map(|open| {
                open.offsets.extend(offsets.iter().map(|(partition, at)| (group.to_owned(), partition.clone(), *at)));
            }))
        };
        let added = self.cluster.wait_for(SEND_TIMEOUT, "adding offsets", add).await.and_then(|added| added);
        self.transaction.note(added)
    }

    async fn commit(&self, timeout: Duration) -> Result<()> {
        self.transaction.check_begun()?;
        self.end(true, timeout).await
    }

    async fn abort(&self, timeout: Duration) -> Result<()> {
        if self.transaction.check_open()? {
            self.end(false, timeout).await?;
        }
        Ok(())
    }
}
