//! The book of one writer handle: what it has in flight and which acknowledgements nobody took yet. All implementations
//! keep it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Ack, BackendError, Result};

/// Locks also where a thread panicked while it held the lock: every critical section of this room leaves its data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Acknowledgements and bounds of one handle.
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    /// Wakes the one waiter of `changed`.
    acked: Notify,
    /// Wakes those who flush.
    drained: Notify,
    /// Bytes in flight at most, except for a single larger record.
    max_bytes: usize,
}

/// What the lock of an [`Inbox`] protects.
#[derive(Default)]
pub(super) struct InboxState {
    acks: Vec<Ack>,
    next_sequence: u64,
    in_flight: usize,
    bytes: usize,
    revoked: bool,
    waiting: bool,
    flushing: usize,
    /// Set where room may have come up without an acknowledgement of this handle.
    nudged: bool,
    /// Records were given back, and the handle's owner has not taken the acknowledgements that say so.
    gave_back: bool,
}

impl InboxState {
    /// Whether a record of `size` bytes fits. One that is larger than the bound fits when nothing else is in flight.
    pub(super) fn has_room(&self, size: usize, max_bytes: usize) -> bool {
        self.in_flight == 0 || self.bytes + size <= max_bytes
    }

    /// Books a record and gives it its sequence.
    pub(super) fn take(&mut self, size: usize) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.in_flight += 1;
        self.bytes += size;
        sequence
    }

    /// Undoes the last `take` calls: the client did not want these records after all.
    pub(super) fn untake(&mut self, count: usize, bytes: usize) {
        self.next_sequence -= count as u64;
        self.in_flight -= count;
        self.bytes -= bytes;
    }

    /// The sequence that the next record gets.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether the handle was revoked.
    pub(super) fn revoked(&self) -> bool {
        self.revoked
    }

    /// Whether records were given back that the owner does not know of yet: what it sends now would pass them.
    pub(super) fn gave_back(&self) -> bool {
        self.gave_back
    }

    /// Notes that records are given back.
    pub(super) fn give_back(&mut self) {
        self.gave_back = true;
    }

    /// Books an acknowledgement of a stored record.
    pub(super) fn delivered(&mut self, sequence: u64, size: usize, partition: i32, offset: i64) {
        self.delivered_run(sequence, 1, size, partition, offset);
    }

    /// Books acknowledgements of `run` stored records that follow each other, of `size` bytes together.
    pub(super) fn delivered_run(&mut self, sequence: u64, run: u64, size: usize, partition: i32, offset: i64) {
        self.in_flight -= run as usize;
        self.bytes -= size;
        if let Some(Ack::Delivered { first, count, partition: last_partition, offset: first_offset }) =
            self.acks.last_mut()
            && *last_partition == partition
            && *first + *count == sequence
            && *first_offset + *count as i64 == offset
        {
            *count += run;
            return;
        }
        self.acks.push(Ack::Delivered { first: sequence, count: run, partition, offset });
    }

    /// Books an acknowledgement of a record that was not stored.
    pub(super) fn failed(&mut self, sequence: u64, size: usize, error: BackendError) {
        self.failed_run(sequence, 1, size, &error);
    }

    /// Books acknowledgements of `run` records that were not stored and follow each other, of `size` bytes together.
    pub(super) fn failed_run(&mut self, sequence: u64, run: u64, size: usize, error: &BackendError) {
        self.in_flight -= run as usize;
        self.bytes -= size;
        let failed = |sequence| Ack::Failed { sequence, error: error.clone() };
        self.acks.extend((sequence..sequence + run).map(failed));
    }
}

impl Inbox {
    pub(super) fn new(max_bytes: usize) -> Inbox {
        Inbox { state: Mutex::default(), acked: Notify::new(), drained: Notify::new(), max_bytes }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, InboxState> {
        lock(&self.state)
    }

    /// Books acknowledgements under one lock and wakes who waits for them.
    pub(super) fn update(&self, book: impl FnOnce(&mut InboxState)) {
        let mut state = self.lock();
        book(&mut state);
        let wake = state.waiting && (!state.acks.is_empty() || state.nudged);
        state.waiting &= !wake;
        let drained = state.flushing > 0 && state.in_flight == 0;
        drop(state);
        if wake {
            self.acked.notify_one();
        }
        if drained {
            self.drained.notify_waiters();
        }
    }

    /// Ends the next wait in `changed` although nothing was acknowledged: another handle of the client made room.
    pub(super) fn nudge(&self) {
        self.update(|state| state.nudged = true);
    }

    pub(super) fn take_acks(&self, acks: &mut Vec<Ack>) {
        let mut state = self.lock();
        (state.nudged, state.gave_back) = (false, false);
        // An empty vector of the caller is swapped in, so that both keep their memory.
        if acks.is_empty() {
            std::mem::swap(acks, &mut state.acks);
        } else {
            acks.append(&mut state.acks);
        }
    }

    pub(super) async fn changed(&self) {
        loop {
            {
                let mut state = self.lock();
                if !state.acks.is_empty() || std::mem::take(&mut state.nudged) {
                    return;
                }
                state.waiting = true;
            }
            // `notify_one` leaves a permit where it comes before this line.
            self.acked.notified().await;
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    pub(super) fn revoke(&self) {
        self.lock().revoked = true;
    }

    /// Waits until nothing is in flight.
    pub(super) async fn drained(&self, timeout: Duration) -> Result<()> {
        let _flushing = Flushing::start(self);
        let wait = async {
            loop {
                let drained = self.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if self.in_flight() == 0 {
                    return;
                }
                drained.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| {
            let message = format!("{} records are not acknowledged after {} ms", self.in_flight(), timeout.as_millis());
            BackendError::Retriable(message)
        })
    }
}

/// Counts those who wait in `drained`, also when their future is dropped.
struct Flushing<'a>(&'a Inbox);

impl<'a> Flushing<'a> {
    fn start(inbox: &'a Inbox) -> Flushing<'a> {
        inbox.lock().flushing += 1;
        Flushing(inbox)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.lock().flushing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_range() {
        let inbox = Inbox::new(100);
        inbox.update(|state| {
            for _ in 0..6 {
                state.take(1);
            }
            state.delivered(0, 1, 0, 10);
            state.delivered(1, 1, 0, 11);
            state.delivered(2, 1, 0, 13); // a marker lies between
            state.delivered(3, 1, 1, 14); // another partition
            state.failed(4, 1, BackendError::Purged);
            state.delivered(5, 1, 1, 15);
        });
        let mut acks = Vec::new();
        inbox.take_acks(&mut acks);
        let ranges: Vec<_> = acks
            .iter()
            .map(|ack| match ack {
                Ack::Delivered { first, count, partition, offset } => (*first, *count, *partition, *offset),
                Ack::Failed { sequence, .. } => (*sequence, 0, -1, -1),
            })
            .collect();
        assert_eq!(ranges, [(0, 2, 0, 10), (2, 1, 0, 13), (3, 1, 1, 14), (4, 0, -1, -1), (5, 1, 1, 15)]);
        assert_eq!(inbox.in_flight(), 0);
    }

    #[test]
    fn a_record_larger_than_the_bound_goes_alone() {
        let mut state = InboxState::default();
        assert!(state.has_room(1000, 10));
        state.take(1000);
        assert!(!state.has_room(1, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ack_before_the_wait_ends_it_at_once() {
        let inbox = Inbox::new(100);
        inbox.update(|state| {
            state.take(1);
            state.failed(0, 1, BackendError::Purged);
        });
        inbox.changed().await;
        inbox.take_acks(&mut Vec::new());
        assert!(tokio::time::timeout(Duration::from_secs(1), inbox.changed()).await.is_err());
    }
}
