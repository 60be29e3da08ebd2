//! The one thread that writes: it takes all that is queued, stores it in one transaction with one fsync, and answers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::in_hand::InHand;
use super::meta::Meta;
use super::plan::{Answer, Command, Planner, Reply};
use super::store::Store;
use super::view::View;
use super::writer::{Batch, Queue, give_back};
use crate::backend::inbox::lock;
use crate::backend::{BackendError, Result};

/// Commands that may wait for the writer thread; who asks for more waits for room.
pub(super) const MAX_COMMANDS: usize = 1024;
/// Bytes of records after which no further writer handle is taken into a group. One handle alone is bounded by its own `max_bytes`.
const GROUP_BYTES: usize = 8 << 20;
/// How long a group that could not be stored waits for its answer: who writes it again at once must neither spin nor fill the log. After the same
/// time the store is opened again where nobody writes. Tests meet many errors.
const ERROR_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 1000 });

/// What waits for the writer thread.
#[derive(Default)]
struct Waiting {
    /// Handles with something to append, each once.
    queues: VecDeque<Arc<Queue>>,
    /// With the room that they take, where there is a bound for them.
    commands: VecDeque<(Command, Option<OwnedSemaphorePermit>)>,
    stopping: bool,
    /// The thread has ended.
    ended: bool,
}

/// What the writer thread, handles and readers share.
pub(super) struct Engine {
    pub store: Store,
    view: Mutex<View>,
    /// Something that waits for the end of a transaction may look again.
    pub changed: Notify,
    /// What readers have taken of the store and not delivered yet.
    pub in_hand: Arc<InHand>,
    waiting: Mutex<Waiting>,
    /// Room for commands.
    room: Arc<Semaphore>,
    arrived: Condvar,
}

/// The group that is written next.
#[derive(Default)]
struct Group {
    /// Those that the batches are from, each once.
    queues: Vec<Arc<Queue>>,
    batches: Vec<Batch>,
    commands: VecDeque<Command>,
}

/// What was planned of a group.
struct Planned {
    /// Batches with the offsets that they get.
    appended: Vec<(Batch, i64)>,
    /// Batches that have no room.
    unwritten: Vec<Batch>,
    answers: Vec<Answer>,
    /// Whether all that brings rows has room.
    room: Result<()>,
}

impl Engine {
    pub(super) fn new(store: Store, meta: Meta) -> Engine {
        Engine {
            store,
            view: Mutex::new(View::new(meta)),
            changed: Notify::new(),
            in_hand: Arc::default(),
            waiting: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_COMMANDS)),
            arrived: Condvar::new(),
        }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    /// Tells the writer thread that a handle has something to append.
    pub(super) fn announce(&self, queue: &Arc<Queue>) -> Result<()> {
        let mut waiting = lock(&self.waiting);
        if waiting.ended {
            return Err(ended());
        }
        waiting.queues.push_back(Arc::clone(queue));
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Reads the store. Where that met an error of the disk, the writer thread opens it again after a pause.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        let was_open = self.store.is_open();
        let read = read(&self.store);
        if read.is_err() && was_open && !self.store.is_open() {
            // With the lock, or the thread could have looked and not wait yet.
            let waiting = lock(&self.waiting);
            self.arrived.notify_one();
            drop(waiting);
        }
        read
    }

    /// Queues a command of one who has no other one queued; the answer comes by `make`'s reply.
    pub(super) fn command<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<oneshot::Receiver<Result<T>>> {
        self.push(make, None)
    }

    fn push<T>(
        &self,
        make: impl FnOnce(Reply<T>) -> Command,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.ended {
            return Err(ended());
        }
        waiting.commands.push_back((make(reply), room));
        drop(waiting);
        self.arrived.notify_one();
        Ok(answer)
    }

    /// Asks as soon as there is room and waits for the answer, not longer than `timeout` for both.
    pub(super) async fn ask<T>(
        &self,
        timeout: Duration,
        what: &str,
        make: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T> {
        let answer = async {
            let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| ended())?;
            self.push(make, Some(room))?.await.map_err(|_| ended())?
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.late(what, timeout)),
        }
    }

    fn late(&self, what: &str, timeout: Duration) -> BackendError {
        let (path, ms) = (self.store.path().display(), timeout.as_millis());
        BackendError::Retriable(format!("the store {path}: {what} got no answer in {ms} ms"))
    }

    /// Waits until the view gives an answer, or the time is over.
    pub(super) async fn wait_for<T>(
        &self,
        timeout: Duration,
        what: &str,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&self.view()) {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| self.late(what, timeout))
    }

    /// Lets the writer thread end when it has written what is queued.
    pub(super) fn stop(&self) {
        lock(&self.waiting).stopping = true;
        self.arrived.notify_one();
    }

    /// The life of the writer thread.
    pub(super) fn run(&self) {
        let _ending = Ending(self);
        let mut planner = Planner::new(self.view().meta.clone());
        let mut group = Group::default();
        loop {
            self.write(&mut planner, group);
            group = match self.next_group() {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// Waits for something to do, which may be an empty group. `None` where nothing is left and nothing more will come.
    fn next_group(&self) -> Option<Group> {
        let mut waiting = lock(&self.waiting);
        while waiting.queues.is_empty() && waiting.commands.is_empty() {
            if waiting.stopping {
                return None;
            }
            if self.store.is_open() {
                waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            } else {
                let waited = self.arrived.wait_timeout(waiting, ERROR_PAUSE);
                let (after, result) = waited.unwrap_or_else(PoisonError::into_inner);
                waiting = after;
                if result.timed_out() {
                    break;
                }
            }
        }
        let commands = waiting.commands.drain(..).map(|(command, _)| command).collect();
        let mut group = Group { commands, ..Group::default() };
        let mut bytes = 0;
        while bytes < GROUP_BYTES
            && let Some(queue) = waiting.queues.pop_front()
        {
            bytes += queue.take(&mut group.batches);
            group.queues.push(queue);
        }
        Some(group)
    }

    /// Opens the store again where a group met an error of the disk. That group may be stored all the same, since an error can come behind the
    /// write that decides. Then it is published now, although its writers were told that it failed: as with a broker, they write it again.
    fn settle(&self, planner: &mut Planner) -> Result<()> {
        let is_stored = self.store.reopen()?;
        let doubtful = std::mem::take(&mut planner.doubtful);
        if is_stored {
            tracing::warn!("what the store {} met an error with is there all the same", self.store.path().display());
            let mut view = self.view();
            view.apply(&doubtful);
            planner.meta = view.meta.clone();
            planner.orphaned = false;
        }
        Ok(())
    }

    /// Lets `ERROR_PAUSE` pass, unless the store is to be closed.
    fn pause(&self) {
        let paused = self.arrived.wait_timeout_while(lock(&self.waiting), ERROR_PAUSE, |waiting| !waiting.stopping);
        drop(paused);
    }

    /// Plans a group. What has no room is left out by itself: what makes room is among the commands.
    fn plan(&self, planner: &mut Planner, batches: Vec<Batch>, commands: VecDeque<Command>) -> Planned {
        let mut row_bytes: usize = batches.iter().map(Batch::bytes).sum();
        let mut room = self.store.check_room(row_bytes, &planner.meta);
        let (batches, unwritten) = if room.is_ok() { (batches, Vec::new()) } else { (Vec::new(), batches) };
        if room.is_err() {
            row_bytes = 0;
        }
        // Before anything is planned, since what is planned counts as used and is not in the file yet.
        let room_of = |command: &Command| {
            let wanted = command.row_bytes();
            let found = if wanted == 0 { Ok(()) } else { self.store.check_room(row_bytes + wanted, &planner.meta) };
            row_bytes += if found.is_ok() { wanted } else { 0 };
            found
        };
        let rooms: Vec<Result<()>> = commands.iter().map(room_of).collect();
        let mut appended = Vec::with_capacity(batches.len());
        for mut batch in batches {
            match planner.append(batch.take_row()) {
                Ok(base) => appended.push((batch, base)),
                Err(error) => batch.failed(&error),
            }
        }
        let mut answers = Vec::with_capacity(commands.len());
        for (command, found) in commands.into_iter().zip(rooms) {
            answers.push(planner.plan(command, found.clone()));
            room = room.and(found);
        }
        Planned { appended, unwritten, answers, room }
    }

    /// Plans, stores, publishes and answers a group.
    fn write(&self, planner: &mut Planner, group: Group) {
        let settled = self.settle(planner);
        planner.abort_orphans();
        let Planned { appended, mut unwritten, answers, room } = self.plan(planner, group.batches, group.commands);
        let effects = std::mem::take(&mut planner.effects);
        let stored = match effects.is_empty() {
            true => Ok(()),
            false => settled.clone().and_then(|()| {
                let committed = self.store.commit(&effects, &planner.meta);
                committed.inspect_err(|_| planner.doubtful.clone_from(&effects))
            }),
        };
        match &stored {
            Ok(()) => {
                self.view().apply(&effects);
                planner.orphaned = false;
                appended.into_iter().for_each(|(batch, base)| batch.delivered(base));
            }
            Err(_) => {
                // Nothing of the group is visible: what is visible is what is known to be durable.
                planner.meta = self.view().meta.clone();
                unwritten.extend(appended.into_iter().map(|(batch, _)| batch));
            }
        }
        answers.into_iter().for_each(|answer| answer(&stored));
        self.changed.notify_waiters();
        if let Err(error) = stored.and(room) {
            tracing::warn!("{error}; {} batches were not stored", unwritten.len());
            self.pause();
            if !unwritten.is_empty() {
                give_back(&group.queues, unwritten.into_iter(), &error);
            }
        } else if let Err(error) = settled {
            tracing::warn!("{error}");
        }
    }
}

fn ended() -> BackendError {
    BackendError::Fatal("the writer thread of the store has ended".into())
}

/// When the thread ends, also by a panic, nobody waits for it any more.
struct Ending<'a>(&'a Engine);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.ended = true;
        // Commands are dropped with their replies, which tells who waits; batches tell their handles when they are dropped.
        waiting.commands.clear();
        let mut batches = Vec::new();
        for queue in waiting.queues.drain(..) {
            queue.take(&mut batches);
        }
        drop(waiting);
        drop(batches);
    }
}
