//! Many writes of one worker in one transaction: the checked writes that wait while a transaction is under way go into the next one together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connect_api::TimestampType;
use tokio::sync::{mpsc, oneshot, watch};

use super::cluster_state::ClusterState;
use super::fold::fold;
use super::topic_log::{CompareError, LogError, TopicLog, Transactions, TurnTaker};
use crate::backend::{BackendError, ConsumerRecord, ProducerRecord};

/// Writes that may wait. Further ones wait for room.
const WRITE_QUEUE: usize = 1024;

/// Writes of one transaction.
const BATCH_WRITES: usize = 64;

/// How long a write may take, with those in front of it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the check of a write against a state. `None` says no; why is kept by whoever made it.
type Check = Box<dyn FnMut(&ClusterState) -> Option<Vec<ProducerRecord>> + Send>;

/// What became of a write.
enum Outcome {
    Rejected,
    Failed(CompareError<std::convert::Infallible>),
    Written(Vec<i64>),
}

/// A write that waits.
struct Write {
    check: Check,
    /// Whether the id is to be taken also where there is nothing to write.
    takes_id: bool,
    reply: oneshot::Sender<Outcome>,
}

/// The queue of checked writes.
#[derive(Clone)]
pub(super) struct Writes(mpsc::Sender<Write>);

/// Carries writes out until its queue is closed.
pub(super) struct Committer {
    log: Arc<TopicLog>,
    transactions: Arc<Transactions>,
    state: watch::Receiver<ClusterState>,
    queue: mpsc::Receiver<Write>,
    turn: TurnTaker,
}

impl Writes {
    /// Waits until the write is carried out and read, together with others perhaps.
    pub async fn put<E: Send + 'static>(
        &self,
        log: &TopicLog,
        takes_id: bool,
        mut check: impl FnMut(&ClusterState) -> Result<Vec<ProducerRecord>, E> + Send + 'static,
    ) -> Result<Vec<i64>, CompareError<E>> {
        let rejection = Arc::new(Mutex::new(None));
        let kept = rejection.clone();
        let check = move |state: &ClusterState| {
            let checked = check(state);
            let mut kept = lock(&kept);
            *kept = None;
            checked.map_err(|error| *kept = Some(error)).ok()
        };
        let (reply, outcome) = oneshot::channel();
        let write = Write { check: Box::new(check), takes_id, reply };
        let timeout = || log.timeout("a write among many others", WRITE_TIMEOUT);
        let deadline = tokio::time::Instant::now() + WRITE_TIMEOUT;
        match tokio::time::timeout_at(deadline, self.0.send(write)).await {
            Err(_) => return Err(CompareError::NotWritten(timeout())),
            // The committer runs as long as the store that has this handle.
            Ok(Err(_)) => return Err(CompareError::NotWritten(log.writer_ended())),
            Ok(Ok(())) => {}
        }
        match tokio::time::timeout_at(deadline, outcome).await {
            Err(_) => Err(CompareError::Unknown(timeout())),
            Ok(Err(_)) => Err(CompareError::Unknown(log.writer_ended())),
            Ok(Ok(Outcome::Written(offsets))) => Ok(offsets),
            Ok(Ok(Outcome::Failed(error))) => Err(error.widen()),
            Ok(Ok(Outcome::Rejected)) => match lock(&rejection).take() {
                Some(rejection) => Err(CompareError::Rejected(rejection)),
                // It is set whenever a check says no, which alone makes this outcome.
                None => Err(CompareError::NotWritten(log.writer_ended())),
            },
        }
    }
}

/// The lock is held for an assignment only.
fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Committer {
    pub fn new(
        log: Arc<TopicLog>,
        transactions: Arc<Transactions>,
        state: watch::Receiver<ClusterState>,
        writer: Option<String>,
    ) -> (Writes, Committer) {
        let (writes, queue) = mpsc::channel(WRITE_QUEUE);
        let turn = TurnTaker::new(writer, state.clone());
        (Writes(writes), Committer { log, transactions, state, queue, turn })
    }

    pub async fn run(mut self) {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                count = self.queue.recv_many(&mut waiting, BATCH_WRITES) => if count == 0 { return },
                () = self.turn.watch() => {}
            }
            // Whoever has given up is told that nothing was written, or nothing at all.
            let mut batch: Vec<_> = waiting.drain(..).filter(|write| !write.reply.is_closed()).collect();
            let outcomes = self.commit(&mut batch).await;
            for (write, outcome) in batch.into_iter().zip(outcomes) {
                _ = write.reply.send(outcome);
            }
        }
    }

    /// All in one transaction; one by one, where the topic refuses a record of one of them.
    async fn commit(&mut self, batch: &mut [Write]) -> Vec<Outcome> {
        match self.commit_together(batch).await {
            Ok(outcomes) => outcomes,
            Err(CompareError::NotWritten(LogError::Backend { error: BackendError::Refused(_), .. }))
                if batch.len() > 1 =>
            {
                let mut outcomes = Vec::with_capacity(batch.len());
                for write in batch.chunks_mut(1) {
                    match self.commit_together(write).await {
                        Ok(outcome) => outcomes.extend(outcome),
                        Err(error) => outcomes.push(Outcome::Failed(error)),
                    }
                }
                outcomes
            }
            Err(error) => batch.iter().map(|_| Outcome::Failed(error.clone())).collect(),
        }
    }

    async fn commit_together(
        &mut self,
        batch: &mut [Write],
    ) -> Result<Vec<Outcome>, CompareError<std::convert::Infallible>> {
        // How many records each write has; `None` where its check said no.
        let mut counts = Vec::new();
        let takes_id = batch.iter().any(|write| write.takes_id);
        let check = || {
            let mut state = self.state.borrow().clone();
            let mut records = Vec::new();
            counts.clear();
            for write in batch.iter_mut() {
                let written = (write.check)(&state);
                counts.push(written.as_ref().map(Vec::len));
                for record in written.into_iter().flatten() {
                    state = expect(state, &record);
                    records.push(record);
                }
            }
            Ok(records)
        };
        let stored = self.log.compare_and_append(&self.transactions, &mut self.turn, takes_id, check).await?;
        let mut offsets = stored.into_iter().map(|(_, offset)| offset);
        let outcome = |count: Option<usize>| match count {
            None => Outcome::Rejected,
            Some(count) => Outcome::Written(offsets.by_ref().take(count).collect()),
        };
        Ok(counts.into_iter().map(outcome).collect())
    }
}

/// The state that the next write of the same transaction is checked against. The offset is the least that the record can get.
fn expect(state: ClusterState, record: &ProducerRecord) -> ClusterState {
    let read = ConsumerRecord {
        source: 0,
        offset: state.next_offset(),
        timestamp: -1,
        timestamp_type: TimestampType::CreateTime,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: Vec::new(),
    };
    fold(state, &read).0
}
