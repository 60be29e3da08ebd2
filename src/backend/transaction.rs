//! What a transactional writer itself knows of its transaction. Both implementations keep it.

use std::sync::Mutex;

use super::inbox::lock;
use super::{BackendError, Result};

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Begun,
    /// A record or an offset was not stored: only an abort is left.
    Failed,
    /// Another writer has the id.
    Fenced,
}

/// The phase of the writer of one transactional id.
pub(super) struct Transaction {
    id: String,
    phase: Mutex<Phase>,
}

impl Transaction {
    pub(super) fn new(id: &str) -> Transaction {
        Transaction { id: id.to_owned(), phase: Mutex::new(Phase::Idle) }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    fn refuse(&self, phase: Phase) -> BackendError {
        let id = &self.id;
        match phase {
            Phase::Idle => BackendError::Refused(format!("no transaction of {id} was begun")),
            Phase::Begun => BackendError::Refused(format!("a transaction of {id} is under way already")),
            Phase::Failed => BackendError::Refused(format!("the transaction of {id} failed and can only be aborted")),
            Phase::Fenced => BackendError::Fenced(id.clone()),
        }
    }

    /// Begins: `start` tells the client, where it has to know.
    pub(super) fn begin(&self, start: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut phase = lock(&self.phase);
        if *phase != Phase::Idle {
            return Err(self.refuse(*phase));
        }
        start()?;
        *phase = Phase::Begun;
        Ok(())
    }

    /// An error unless records may be sent and the transaction may be committed.
    pub(super) fn check_begun(&self) -> Result<()> {
        match *lock(&self.phase) {
            Phase::Begun => Ok(()),
            phase => Err(self.refuse(phase)),
        }
    }

    /// An error where another writer is known to have the id; `false` where there is nothing to abort.
    pub(super) fn check_open(&self) -> Result<bool> {
        match *lock(&self.phase) {
            Phase::Fenced => Err(self.refuse(Phase::Fenced)),
            phase => Ok(phase != Phase::Idle),
        }
    }

    /// Notes what became of something inside the transaction.
    pub(super) fn note<T>(&self, result: Result<T>) -> Result<T> {
        match &result {
            Ok(_) => {}
            Err(BackendError::Fenced(_)) => *lock(&self.phase) = Phase::Fenced,
            Err(_) => *lock(&self.phase) = Phase::Failed,
        }
        result
    }

    /// Notes the end. After [`BackendError::Retriable`] the same call may be made again.
    pub(super) fn note_end(&self, result: Result<()>) -> Result<()> {
        match &result {
            Ok(()) => *lock(&self.phase) = Phase::Idle,
            Err(BackendError::Retriable(_)) => {}
            Err(_) => return self.note(result),
        }
        result
    }
}
