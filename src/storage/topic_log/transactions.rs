//! Compare-and-append: what was checked against the whole log is written before anybody else can write to it, or not at all.
//!
//! All writers share one transactional id. Who takes it over fences every other one, whose commit then fails; so nothing can have been
//! written between the check and the commit that the check did not see.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{LogError, TopicLog, TurnTaker};
use crate::backend::{
    Backend, BackendError, ClientSettings, Isolation, ProducerRecord, RecordReader, TransactionalWriter,
};

/// How long a compare-and-append may take once its worker's turn has come.
pub const COMPARE_AND_APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it may take with the turns of others.
const RACE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long it may wait for its turn among those of this worker.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts of one compare-and-append: each fenced one means that another worker was at it.
const MAX_ATTEMPTS: u32 = 100;

/// Longest wait after the first lost race; it doubles with each further one, up to [`MAX_BACKOFF`]. The wait itself is random.
const MIN_BACKOFF: Duration = Duration::from_millis(50);

/// Longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_millis(800);

/// How long the open transaction of another writer is waited for before it is aborted. One that lives needs some ten milliseconds; to fence
/// it would only make it begin again.
const COURTESY: Duration = Duration::from_millis(500);

/// Wait between two looks at an open transaction, at most; random.
const COURTESY_LOOK: Duration = Duration::from_millis(40);

/// Least time that is given to an abort, also when the time of the whole is over.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why nothing was written, or why it is not known whether.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompareError<E> {
    /// The check said no. Nothing was written.
    #[error("{0}")]
    Rejected(E),
    /// Nothing was written.
    #[error("nothing was written: {0}")]
    NotWritten(LogError),
    /// The commit was under way when the time was over.
    #[error("it is not known whether it was written: {0}")]
    Unknown(LogError),
    /// It is written; only this reader has not seen it yet.
    #[error("it was written, but reading it back failed: {0}")]
    Unseen(LogError),
}

impl CompareError<Infallible> {
    /// The same error where a check can say no.
    pub fn widen<E>(self) -> CompareError<E> {
        match self {
            CompareError::Rejected(never) => match never {},
            CompareError::NotWritten(error) => CompareError::NotWritten(error),
            CompareError::Unknown(error) => CompareError::Unknown(error),
            CompareError::Unseen(error) => CompareError::Unseen(error),
        }
    }
}

/// The shared transactional id and this worker's writer for it.
pub struct Transactions {
    backend: Arc<dyn Backend>,
    settings: ClientSettings,
    id: String,
    /// Asks for the high watermark, which a reader of committed records does not see.
    high_watermark: tokio::sync::Mutex<Box<dyn RecordReader>>,
    /// Kept between calls. Taken out while it is at work, so that a call that is dropped half-way does not leave an open transaction to the next.
    writer: tokio::sync::Mutex<Option<Holder>>,
    /// Counts how often a transaction may have been aborted: by taking the id over, and own ones.
    aborts: watch::Sender<u64>,
    /// Why this worker may not write under the id, as far as it knows.
    refusal: Mutex<Option<Arc<str>>>,
}

/// The writer that holds the id, as far as this worker knows.
struct Holder {
    writer: Arc<dyn TransactionalWriter>,
    /// Everything was read that was written under the id before this writer took it over, or by it. So as long as no other one takes it over, which the
    /// next commit shows, nothing is missing.
    caught_up: bool,
}

/// What one attempt came to.
enum Attempt<E> {
    Done(Vec<(i32, i64)>),
    /// Another writer took the id over, or the call may succeed when repeated: nothing was written.
    Again(BackendError),
    /// The commit may have happened.
    InDoubt(Vec<(i32, i64)>, BackendError),
    Failed(CompareError<E>),
}

impl Transactions {
    /// `id` is `connect-cluster-<group.id>`, as that of Java's leader. The writer is opened at the first use. `writer` and `reader` are the settings of clients.
    pub fn new(
        backend: Arc<dyn Backend>,
        writer: ClientSettings,
        reader: &ClientSettings,
        id: impl Into<String>,
    ) -> Result<Transactions, BackendError> {
        let high_watermark = tokio::sync::Mutex::new(backend.reader(reader, Isolation::ReadUncommitted)?);
        let writers = tokio::sync::Mutex::default();
        let (aborts, refusal) = (watch::Sender::default(), Mutex::default());
        Ok(Transactions { backend, settings: writer, id: id.into(), high_watermark, writer: writers, aborts, refusal })
    }

    /// Why this worker may not write under the id; `None`: it may, or has not tried yet.
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.lock_refusal().clone()
    }

    fn lock_refusal(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the id over, and notes whether that is allowed. What is missing is logged once, not with each attempt.
    async fn open_writer(&self, limit: Duration) -> Result<Arc<dyn TransactionalWriter>, BackendError> {
        let opened = self.backend.transactional_writer(&self.settings, &self.id, limit).await;
        match opened {
            Ok(writer) => {
                if self.lock_refusal().take().is_some() {
                    tracing::info!(transactional_id = self.id, "the principal of this worker may write under it now");
                }
                Ok(writer)
            }
            Err(BackendError::TransactionalIdAuthorization(reason)) => {
                let text: Arc<str> = missing_acl(&self.id, &reason).into();
                if self.lock_refusal().replace(text.clone()).is_none() {
                    tracing::error!(transactional_id = self.id, "{text}");
                }
                Err(BackendError::TransactionalIdAuthorization(text.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes each time when a transaction may have been aborted.
    pub fn aborts(&self) -> watch::Receiver<u64> {
        self.aborts.subscribe()
    }

    fn may_have_aborted(&self) {
        self.aborts.send_modify(|aborts| *aborts += 1);
    }

    /// Takes the id over, whoever has it: the transaction of a writer that died is aborted, and readers get to see what stands behind it.
    pub async fn take_over(&self, limit: Duration) -> Result<(), BackendError> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.writer.lock()).await;
        let busy = |_| BackendError::Retriable("other writes of this worker take too long".into());
        let mut writer = turn.map_err(busy)?;
        *writer = None;
        self.may_have_aborted();
        let deadline = Instant::now() + limit;
        loop {
            match self.open_writer(remaining(deadline)).await {
                // While the broker ends the older transaction it asks for patience.
                Err(BackendError::Retriable(_) | BackendError::Fenced(_))
                    if Instant::now() + MIN_BACKOFF < deadline => {}
                opened => {
                    *writer = Some(Holder { writer: opened?, caught_up: false });
                    return Ok(());
                }
            }
            tokio::time::sleep(MIN_BACKOFF).await;
        }
    }
}

impl TopicLog {
    /// Calls `check` when this reader has folded everything, and writes what it returns in one transaction; when another writer came
    /// between, again. Returns when this reader has folded the records, with partition and offset of each. `check` may be called several
    /// times; an empty answer means that there is nothing to write. Behind what it returns, the records of `turn` are written. With `takes_id`, the
    /// id is taken also for nothing.
    pub async fn compare_and_append<E>(
        &self,
        transactions: &Transactions,
        turn: &mut TurnTaker,
        takes_id: bool,
        mut check: impl FnMut() -> Result<Vec<ProducerRecord>, E>,
    ) -> Result<Vec<(i32, i64)>, CompareError<E>> {
        let timeout = |limit| self.shared.timeout("a compare-and-append", limit);
        let slot = tokio::time::timeout(TURN_TIMEOUT, transactions.writer.lock()).await;
        let mut slot = slot.map_err(|_| CompareError::NotWritten(timeout(TURN_TIMEOUT)))?;
        let begun = Instant::now();
        let (mut deadline, mut doubt) = (begun + COMPARE_AND_APPEND_TIMEOUT, None);
        // Brokers that answer are waited for longer than those that do not.
        let mut waits_for_others = true;
        slot.take_if(|_| !turn.may_go_on());
        for attempt in 1..=MAX_ATTEMPTS {
            if let Some(offsets) = self.settle_doubt(&mut doubt, deadline).await {
                turn.done(self, true).await;
                return self.seen(offsets, deadline).await;
            }
            if slot.is_none() {
                turn.wait(self).await;
                if waits_for_others {
                    deadline = (Instant::now() + COMPARE_AND_APPEND_TIMEOUT).min(begun + RACE_TIMEOUT);
                }
                let may_be_settled = !takes_id && !turn.ends().is_empty() && doubt.is_none();
                if may_be_settled && let Some(settled) = self.settled(&mut check, deadline).await {
                    turn.give_back(self).await;
                    return settled.map(|()| Vec::new()).map_err(CompareError::Rejected);
                }
            }
            let ends: Vec<_> = turn.ends().iter().map(|record| record.encode(self.topic())).collect();
            let mut check = || check().map(|records| followed_by(records, &ends));
            let outcome = self.once(transactions, &mut slot, &mut check, &mut doubt, deadline).await;
            let error = match outcome {
                Attempt::Done(offsets) => {
                    turn.done(self, !offsets.is_empty()).await;
                    let offsets = self.seen(offsets, deadline).await?;
                    if let Some(holder) = &mut *slot {
                        holder.caught_up = true;
                    }
                    return Ok(offsets);
                }
                Attempt::Failed(error) => {
                    // Nobody is to wait for a worker that does not write.
                    turn.give_back(self).await;
                    return Err(error);
                }
                Attempt::Again(error) => error,
                Attempt::InDoubt(offsets, error) => {
                    doubt = Some(offsets);
                    error
                }
            };
            waits_for_others = matches!(error, BackendError::Fenced(_));
            let backoff = (MIN_BACKOFF * (1 << (attempt - 1).min(10))).min(MAX_BACKOFF).mul_f64(fastrand::f64());
            if Instant::now() + backoff >= deadline || attempt == MAX_ATTEMPTS {
                let error = self.shared.backend_error(error);
                return Err(if doubt.is_some() {
                    CompareError::Unknown(error)
                } else {
                    CompareError::NotWritten(error)
                });
            }
            tracing::debug!(topic = %self.shared.topic, %error, attempt, "compare-and-append again");
            tokio::time::sleep(backoff).await;
        }
        Err(CompareError::NotWritten(timeout(COMPARE_AND_APPEND_TIMEOUT)))
    }

    /// Ends a doubt where the log tells by now, and returns the offsets of what was committed after all. A reader of committed records passes an offset when it is
    /// known what became of it; to take the id over for that would disturb those who write.
    async fn settle_doubt(&self, doubt: &mut Option<Vec<(i32, i64)>>, deadline: Instant) -> Option<Vec<(i32, i64)>> {
        let (partition, offset) = *doubt.as_ref()?.first()?;
        self.read_to_end(remaining(deadline)).await.ok()?;
        if self.position(partition) <= offset {
            return None;
        }
        doubt.take().filter(|_| self.delivered_lately((partition, offset)))
    }

    /// What `check` says when everything is read, where what others wrote meanwhile leaves nothing to write. It is not asked again behind that: by then
    /// there may be something to write, and nobody would.
    async fn settled<E>(
        &self,
        check: &mut impl FnMut() -> Result<Vec<ProducerRecord>, E>,
        deadline: Instant,
    ) -> Option<Result<(), E>> {
        let mut nothing = || check().map(|records| records.is_empty().then_some(())).transpose();
        // Looked at first without: reading to the end takes as long as a transaction.
        if nothing().is_none() || self.read_to_end(remaining(deadline)).await.is_err() {
            return None;
        }
        nothing()
    }

    /// One attempt, which settles a doubt where it gets so far. The id is kept where it is still this worker's.
    async fn once<E>(
        &self,
        transactions: &Transactions,
        slot: &mut Option<Holder>,
        check: &mut impl FnMut() -> Result<Vec<ProducerRecord>, E>,
        doubt: &mut Option<Vec<(i32, i64)>>,
        deadline: Instant,
    ) -> Attempt<E> {
        let outcome = match self.holder(transactions, slot.take(), deadline).await {
            Err(error @ (BackendError::Refused(_) | BackendError::TransactionalIdAuthorization(_))) => {
                Attempt::Failed(CompareError::NotWritten(self.shared.backend_error(error)))
            }
            Err(error) => Attempt::Again(error),
            Ok(holder) => {
                let outcome = self.attempt(&holder, check, doubt.take(), deadline).await;
                let caught_up = matches!(outcome, Attempt::Failed(CompareError::Rejected(_)));
                if caught_up || matches!(outcome, Attempt::Done(_)) {
                    *slot = Some(Holder { caught_up, ..holder });
                }
                outcome
            }
        };
        if !matches!(outcome, Attempt::Done(_) | Attempt::Failed(CompareError::Rejected(_))) {
            transactions.may_have_aborted();
        }
        outcome
    }

    async fn holder(
        &self,
        transactions: &Transactions,
        kept: Option<Holder>,
        deadline: Instant,
    ) -> Result<Holder, BackendError> {
        match kept {
            Some(holder) => Ok(holder),
            None => {
                self.let_finish(transactions, deadline).await?;
                transactions.may_have_aborted();
                let writer = transactions.open_writer(remaining(deadline)).await?;
                Ok(Holder { writer, caught_up: false })
            }
        }
    }

    /// Where an open transaction keeps this reader below the high watermark: the offset of its first record.
    pub(in crate::storage) async fn blocked_at(
        &self,
        transactions: &Transactions,
        limit: Duration,
    ) -> Result<Option<i64>, BackendError> {
        let partitions = &self.partitions[..];
        let stable = self.asker.lock().await.end_offsets(partitions, limit).await?;
        let high = transactions.high_watermark.lock().await.end_offsets(partitions, limit).await?;
        Ok(stable.iter().zip(&high).find(|(stable, high)| stable < high).map(|(stable, _)| *stable))
    }

    /// Lets the transaction of another writer end, for a while.
    async fn let_finish(&self, transactions: &Transactions, deadline: Instant) -> Result<(), BackendError> {
        let patience = Instant::now() + COURTESY;
        while Instant::now() < patience.min(deadline)
            && self.blocked_at(transactions, remaining(deadline)).await?.is_some()
        {
            tokio::time::sleep(COURTESY_LOOK.mul_f64(fastrand::f64())).await;
        }
        Ok(())
    }

    /// Reads to the end, checks, writes. With `doubt`, the offsets of an earlier attempt whose commit may have happened: the id was taken over
    /// since, which ended that transaction one way or the other, and what was read shows which.
    ///
    /// Who has caught up checks first: an end is known about 50 ms after the last transaction, and the commit shows whether anything was missing. Only
    /// where there is nothing to commit, reading has to show it.
    async fn attempt<E>(
        &self,
        holder: &Holder,
        check: &mut impl FnMut() -> Result<Vec<ProducerRecord>, E>,
        doubt: Option<Vec<(i32, i64)>>,
        deadline: Instant,
    ) -> Attempt<E> {
        if holder.caught_up
            && let Ok(records) = check()
            && !records.is_empty()
        {
            return self.write(&*holder.writer, &records, deadline).await;
        }
        if let Err(error) = self.read_to_end(remaining(deadline)).await {
            return match (doubt, error) {
                (Some(offsets), LogError::Backend { error, .. }) => Attempt::InDoubt(offsets, error),
                (Some(_), error) => Attempt::Failed(CompareError::Unknown(error)),
                (None, LogError::Backend { error, .. }) if error.is_retriable() => Attempt::Again(error),
                (None, error) => Attempt::Failed(CompareError::NotWritten(error)),
            };
        }
        if let Some(offsets) = doubt
            && offsets.first().is_some_and(|at| self.delivered_lately(*at))
        {
            return Attempt::Done(offsets);
        }
        match check() {
            Err(rejection) => Attempt::Failed(CompareError::Rejected(rejection)),
            Ok(records) if records.is_empty() => Attempt::Done(Vec::new()),
            Ok(records) => self.write(&*holder.writer, &records, deadline).await,
        }
    }

    async fn write<E>(
        &self,
        writer: &dyn TransactionalWriter,
        records: &[ProducerRecord],
        deadline: Instant,
    ) -> Attempt<E> {
        let sent = match writer.begin() {
            Ok(()) => match tokio::time::timeout(remaining(deadline), writer.send(records)).await {
                Ok(sent) => sent,
                Err(_) => Err(BackendError::Retriable("the records were not acknowledged in time".into())),
            },
            Err(error) => return self.give_up(writer, error, deadline).await,
        };
        match sent {
            Ok(offsets) => self.commit(writer, offsets, deadline).await,
            Err(error) => self.give_up(writer, error, deadline).await,
        }
    }

    async fn commit<E>(
        &self,
        writer: &dyn TransactionalWriter,
        offsets: Vec<(i32, i64)>,
        deadline: Instant,
    ) -> Attempt<E> {
        match writer.commit(remaining(deadline)).await {
            Ok(()) => Attempt::Done(offsets),
            Err(error @ BackendError::Refused(_)) => self.give_up(writer, error, deadline).await,
            // Also where another writer has the id by now: the client asks again when an answer was lost, and only that question was fenced.
            Err(error) => Attempt::InDoubt(offsets, error),
        }
    }

    /// Aborts where that is possible. Where it is not, the next one to take the id over does it.
    async fn give_up<E>(&self, writer: &dyn TransactionalWriter, error: BackendError, deadline: Instant) -> Attempt<E> {
        if !matches!(error, BackendError::Fenced(_) | BackendError::Fatal(_))
            && let Err(error) = writer.abort(remaining(deadline).max(ABORT_TIMEOUT)).await
        {
            tracing::debug!(topic = %self.shared.topic, %error, "the transaction could not be aborted; the next writer does it");
        }
        match error {
            BackendError::Refused(_) => Attempt::Failed(CompareError::NotWritten(self.shared.backend_error(error))),
            error => Attempt::Again(error),
        }
    }

    async fn seen<E>(&self, offsets: Vec<(i32, i64)>, deadline: Instant) -> Result<Vec<(i32, i64)>, CompareError<E>> {
        for (partition, offset) in &offsets {
            let waited = self.wait_until_seen(*partition, *offset, remaining(deadline).max(ABORT_TIMEOUT)).await;
            waited.map_err(CompareError::Unseen)?;
        }
        Ok(offsets)
    }
}

/// The records with these behind them, where there are any.
fn followed_by(mut records: Vec<ProducerRecord>, ends: &[ProducerRecord]) -> Vec<ProducerRecord> {
    if !records.is_empty() {
        records.extend_from_slice(ends);
    }
    records
}

/// What an operator has to know of a principal that may not use the id.
fn missing_acl(id: &str, reason: &str) -> String {
    format!(
        "the principal of this worker may not write under the transactional id {id}: it needs an ACL that allows Write and Describe on \
         TransactionalId {id}. Until then this worker cannot create, change, stop or delete connectors, write task configurations, or remove \
         workers that died; what runs goes on ({reason})"
    )
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
