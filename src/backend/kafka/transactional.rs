//! The producer of a transactional id.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use connect_api::TopicPartition;

use super::native::Client;
use super::writer::{KafkaWriter, Producer};
use crate::backend::transaction::Transaction;
use crate::backend::{Ack, BackendError, ClientSettings, ProducerRecord, RecordWriter, Result, TransactionalWriter};

/// Bytes of a transaction that are in flight at most.
const MAX_BYTES: usize = 16 << 20;
/// How long offsets may take to be added.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a single record may be without an answer. The client gives up on it after `transaction.timeout.ms`, a minute unless set.
const ACK_TIMEOUT: Duration = Duration::from_secs(900);

/// A writer in transactions.
pub(super) struct KafkaTransactionalWriter {
    writer: KafkaWriter,
    transaction: Transaction,
    /// One `send` at a time: they share the acknowledgements.
    sending: tokio::sync::Mutex<()>,
}

impl KafkaTransactionalWriter {
    pub(super) async fn open(
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<KafkaTransactionalWriter> {
        let writer = KafkaWriter::new(Producer::start(settings)?, MAX_BYTES)?;
        let opened = KafkaTransactionalWriter {
            writer,
            transaction: Transaction::new(transactional_id),
            sending: tokio::sync::Mutex::default(),
        };
        opened.blocking(move |client| init(client, timeout)).await?;
        Ok(opened)
    }

    /// Runs a call that blocks where it may.
    async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Client) -> Result<T> + Send + 'static) -> Result<T> {
        let client = self.writer.producer().client().clone();
        let done = tokio::task::spawn_blocking(move || call(&client)).await;
        done.map_err(|error| BackendError::Retriable(format!("a call of the client was cut short: {error}")))?
    }

    async fn send_all(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        let _sending = self.sending.lock().await;
        let base = self.writer.next_sequence();
        let mut places = vec![(-1, -1); records.len()];
        let (mut sent, mut acks, mut failed) = (0, Vec::new(), None);
        while sent < records.len() || self.writer.in_flight() > 0 {
            if sent < records.len() {
                match self.writer.send(&records[sent..]) {
                    Ok(taken) => sent += taken,
                    // Nothing more is sent; what was is waited for, so that an abort finds the client quiet.
                    Err(error) => (sent, failed) = (records.len(), Some(error)),
                }
            }
            if self.writer.in_flight() > 0 {
                let answered = tokio::time::timeout(ACK_TIMEOUT, self.writer.changed()).await;
                answered.map_err(|_| BackendError::Retriable("a record of a transaction got no answer".into()))?;
            }
            self.writer.take_acks(&mut acks);
            acks.drain(..).for_each(|ack| note_ack(ack, base, &mut places, &mut failed));
        }
        self.writer.take_acks(&mut acks);
        acks.drain(..).for_each(|ack| note_ack(ack, base, &mut places, &mut failed));
        match failed {
            Some(error) => Err(error),
            None => Ok(places),
        }
    }
}

/// Fences all others. The client asks for the coordinator at once, and where no broker is connected yet only again after 500 ms: so it gets
/// connected before. Where it fences the writer of an open transaction, the coordinator aborts that first and asks for patience, which the client has for
/// 500 ms.
fn init(client: &Client, timeout: Duration) -> Result<()> {
    let begun = Instant::now();
    client.await_brokers_blocking(timeout)?;
    client.init_transactions(timeout.saturating_sub(begun.elapsed()))
}

/// Notes where records lie, or why the first of them failed. What a dropped `send` of the same transaction left behind has a sequence
/// below `base`: only its failures count.
fn note_ack(ack: Ack, base: u64, places: &mut [(i32, i64)], failed: &mut Option<BackendError>) {
    match ack {
        Ack::Delivered { first, count, partition, offset } => {
            for i in 0..count {
                let at = (first + i).checked_sub(base).and_then(|at| places.get_mut(at as usize));
                if let Some(place) = at {
                    *place = (partition, offset + i as i64);
                }
            }
        }
        Ack::Failed { error, .. } => {
            failed.get_or_insert(error);
        }
    }
}

#[async_trait]
impl TransactionalWriter for KafkaTransactionalWriter {
    fn begin(&self) -> Result<()> {
        self.transaction.begin(|| self.writer.producer().client().begin_transaction())
    }

    async fn send(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        self.transaction.check_begun()?;
        let sent = self.send_all(records).await;
        self.transaction.note(sent)
    }

    async fn send_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.transaction.check_begun()?;
        if offsets.is_empty() {
            return Ok(());
        }
        let (group, offsets) = (group.to_owned(), offsets.to_vec());
        let added = self.blocking(move |client| client.send_offsets_to_transaction(&group, &offsets, OFFSETS_TIMEOUT));
        self.transaction.note(added.await)
    }

    async fn commit(&self, timeout: Duration) -> Result<()> {
        self.transaction.check_begun()?;
        let committed = self.blocking(move |client| client.commit_transaction(timeout)).await;
        self.transaction.note_end(committed)
    }

    async fn abort(&self, timeout: Duration) -> Result<()> {
        if !self.transaction.check_open()? {
            return Ok(());
        }
        let aborted = self.blocking(move |client| client.abort_transaction(timeout)).await;
        // What a dropped `send` left behind would be taken for an answer to the next one.
        self.writer.take_acks(&mut Vec::new());
        self.transaction.note_end(aborted)
    }
}
