//! Writers in transactions. Fencing holds within the process: another one cannot open the directory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::TopicPartition;

use super::OpenStore;
use super::plan::{Command, NewRow};
use super::wire::RowBuilder;
use super::writer::{check, push};
use crate::backend::rules::{AUTO_CREATED_PARTITIONS, now_ms, partition_of};
use crate::backend::transaction::Transaction;
use crate::backend::{ProducerRecord, Result, TransactionalWriter};

/// How long `send` and `send_offsets` wait for the disk, as Java's `delivery.timeout.ms`.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);

/// A writer of a transactional id.
pub(super) struct EmbeddedTransactionalWriter {
    engine: Arc<OpenStore>,
    transaction: Transaction,
    epoch: u64,
    max_record_bytes: usize,
}

/// Records as rows, and where each record is: its row, and its place in it.
struct Rows {
    rows: Vec<NewRow>,
    places: Vec<(usize, i64)>,
}

impl EmbeddedTransactionalWriter {
    /// Takes the id over: the transaction of an earlier writer is aborted.
    pub(super) async fn open(
        engine: Arc<OpenStore>,
        id: &str,
        max_record_bytes: usize,
        timeout: Duration,
    ) -> Result<EmbeddedTransactionalWriter> {
        let take_over = |reply| Command::TakeOver { transactional_id: id.to_owned(), reply };
        let epoch = engine.ask(timeout, "taking over a transactional id", take_over).await?;
        Ok(EmbeddedTransactionalWriter { engine, transaction: Transaction::new(id), epoch, max_record_bytes })
    }

    fn id(&self) -> String {
        self.transaction.id().to_owned()
    }

    fn rows(&self, records: &[ProducerRecord]) -> Result<Rows> {
        let (mut rows, mut places): (Vec<NewRow>, Vec<_>) = (Vec::new(), Vec::with_capacity(records.len()));
        let mut open: HashMap<(&str, i32), usize> = HashMap::new();
        let (now, mut turn) = (now_ms(), 0);
        let view = self.engine.view();
        for record in records {
            check(record, self.max_record_bytes)?;
            let name: &str = &record.topic;
            let known = view.meta.topics.get_key_value(name);
            let count = known.map_or(AUTO_CREATED_PARTITIONS, |(_, topic)| topic.partitions.len() as i32);
            let partition = partition_of(record, count, &mut turn)?;
            let at = open.get(&(name, partition)).copied();
            let at = match at.filter(|at| !rows[*at].records.is_full_with(record.size())) {
                Some(at) => at,
                None => {
                    let topic = known.map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
                    rows.push(NewRow { topic, partition, keyless: false, records: RowBuilder::default() });
                    open.insert((name, partition), rows.len() - 1);
                    rows.len() - 1
                }
            };
            places.push((at, i64::from(rows[at].records.count())));
            rows[at].keyless |= record.key.is_none();
            push(&mut rows[at].records, record, now);
        }
        Ok(Rows { rows, places })
    }

    async fn append(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        let Rows { rows, places } = self.rows(records)?;
        let partitions: Vec<i32> = rows.iter().map(|row| row.partition).collect();
        let append =
            |reply| Command::AppendInTransaction { transactional_id: self.id(), epoch: self.epoch, rows, reply };
        let bases = self.engine.ask(SEND_TIMEOUT, "an append", append).await?;
        Ok(places.into_iter().map(|(row, place)| (partitions[row], bases[row] + place)).collect())
    }

    async fn end(&self, commit: bool, timeout: Duration) -> Result<()> {
        let end = |reply| Command::EndTransaction { transactional_id: self.id(), epoch: self.epoch, commit, reply };
        self.transaction.note_end(self.engine.ask(timeout, "ending a transaction", end).await)
    }
}

/// What nobody can end any more is aborted at once, where a broker would wait for `transaction.timeout.ms`.
impl Drop for EmbeddedTransactionalWriter {
    fn drop(&mut self) {
        if let Ok(true) = self.transaction.check_open() {
            let end = |reply| Command::EndTransaction {
                transactional_id: self.id(),
                epoch: self.epoch,
                commit: false,
                reply,
            };
            // Where the thread has ended already, the next opening of the store aborts it.
            drop(self.engine.command(end));
        }
    }
}

#[async_trait]
impl TransactionalWriter for EmbeddedTransactionalWriter {
    fn begin(&self) -> Result<()> {
        self.transaction.begin(|| Ok(()))
    }

    async fn send(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        self.transaction.check_begun()?;
        let sent = self.append(records).await;
        self.transaction.note(sent)
    }

    async fn send_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.transaction.check_begun()?;
        let add = |reply| Command::AddOffsets {
            transactional_id: self.id(),
            epoch: self.epoch,
            group: group.to_owned(),
            offsets: offsets.to_vec(),
            reply,
        };
        let added = self.engine.ask(SEND_TIMEOUT, "adding offsets", add).await;
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
