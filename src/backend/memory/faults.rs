//! What a test may let go wrong.

use std::sync::Arc;
use std::time::Duration;

use connect_api::TopicPartition;

use super::cluster::Cluster;
use crate::backend::BackendError;

/// What a request is about, for [`Faults::fail_requests`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Which topics there are.
    Topics,
    /// The beginning or the end of partitions.
    Bounds,
    /// Reading committed offsets.
    Committed,
    /// Committing offsets.
    Commit,
    /// A reader that goes elsewhere.
    Seek,
}

/// Faults that are switched on at the moment.
#[derive(Debug, Default)]
pub(super) struct FaultState {
    /// No request is answered.
    pub down: bool,
    /// Appends wait in the client's queue.
    pub hold_appends: bool,
    /// Records are stored and the answers wait.
    pub hold_acks: bool,
    /// How long an append stays in the client's queue.
    pub append_delay: Duration,
    /// How long a stored record is not answered.
    pub ack_delay: Duration,
    /// So many appends are refused with this error.
    pub refuse: Option<(usize, BackendError)>,
    /// So many records are stored and answered with a time-out.
    pub lose_acks: usize,
    /// So many requests of a kind are answered with this error.
    pub failing: Vec<(Request, usize, BackendError)>,
    /// The partition that has no leader.
    pub leaderless: Option<TopicPartition>,
    /// Commits wait at the broker.
    pub hold_commits: bool,
    /// Commits that wait.
    pub held_commits: Vec<HeldCommit>,
}

/// A commit that waits at the broker.
#[derive(Debug)]
pub(super) struct HeldCommit {
    /// Which one.
    pub number: u64,
    pub group: String,
    pub offsets: Vec<(TopicPartition, i64)>,
}

impl FaultState {
    /// The error that a request of this kind gets, if it is to fail.
    pub(super) fn failure_of(&mut self, request: Request) -> Option<BackendError> {
        let at = self.failing.iter().position(|(failing, ..)| *failing == request)?;
        let (_, left, error) = &mut self.failing[at];
        let error = error.clone();
        *left -= 1;
        if *left == 0 {
            self.failing.remove(at);
        }
        Some(error)
    }

    /// The error that a request for the bounds of these partitions gets, if it is to fail.
    pub(super) fn failure_of_bounds(&mut self, partitions: &[TopicPartition]) -> Option<BackendError> {
        let leaderless = self.leaderless.as_ref().filter(|partition| partitions.contains(partition));
        match leaderless {
            Some(partition) => Some(BackendError::Retriable(format!("{partition} has no leader"))),
            None => self.failure_of(Request::Bounds),
        }
    }
}

/// Switches faults of one cluster on and off. They concern all its clients, at once.
#[derive(Clone)]
pub struct Faults {
    pub(super) cluster: Arc<Cluster>,
}

impl Faults {
    fn set(&self, change: impl FnOnce(&mut FaultState)) {
        change(&mut self.cluster.lock().faults);
        self.cluster.work_off();
        self.cluster.changed.notify_waiters();
    }

    /// No broker answers (`true`): appends stay queued, readers get nothing, requests end with
    /// [`BackendError::Retriable`] when their time is over.
    pub fn set_down(&self, down: bool) {
        self.set(|faults| faults.down = down);
    }

    /// Appends stay in the client's queue, where a purge finds them, until this is switched off.
    pub fn hold_appends(&self, hold: bool) {
        self.set(|faults| faults.hold_appends = hold);
    }

    /// Records are stored, visible to readers and beyond any purge; their acknowledgements wait until this is switched off.
    pub fn hold_acks(&self, hold: bool) {
        self.set(|faults| faults.hold_acks = hold);
    }

    /// Every append from now on stays in the client's queue so long.
    pub fn delay_appends(&self, delay: Duration) {
        self.set(|faults| faults.append_delay = delay);
    }

    /// Every acknowledgement of an append from now on comes so much later than the record is stored.
    pub fn delay_acks(&self, delay: Duration) {
        self.set(|faults| faults.ack_delay = delay);
    }

    /// The next `count` appends are not stored and get an ack with this error. [`BackendError::Fatal`] breaks the client as
    /// well: all it has queued fails, and so does every later call on its handles.
    pub fn refuse_appends(&self, count: usize, error: BackendError) {
        self.set(|faults| faults.refuse = (count > 0).then_some((count, error)));
    }

    /// The next `count` records are stored, but their acks say [`BackendError::Retriable`].
    pub fn lose_acks(&self, count: usize) {
        self.set(|faults| faults.lose_acks = count);
    }

    /// The next `count` requests of this kind change nothing and are answered with this error.
    pub fn fail_requests(&self, request: Request, count: usize, error: BackendError) {
        self.set(|faults| {
            faults.failing.retain(|(failing, ..)| *failing != request);
            if count > 0 {
                faults.failing.push((request, count, error));
            }
        });
    }

    /// This partition has no leader: requests for its bounds fail, and those for others with it.
    pub fn set_leaderless(&self, partition: Option<TopicPartition>) {
        self.set(|faults| faults.leaderless = partition);
    }

    /// Commits of offsets reach the broker and wait there until this is switched off. Then all of them are carried out in
    /// their order, also those that nobody waits for any more.
    pub fn hold_commits(&self, hold: bool) {
        if !hold {
            self.cluster.lock().release_commits();
        }
        self.set(|faults| faults.hold_commits = hold);
    }

    /// How many commits wait at the broker.
    pub fn held_commits(&self) -> usize {
        self.cluster.lock().faults.held_commits.len()
    }
}
