//! The one thread that writes: it takes all that is queued, stores it in one transaction with one fsync, and answers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::meta::Meta;
use super::plan::{Answer, Command, Planner, Reply};
use super::store::Store;
use super::view::View;
use super::writer::{Batch, Queue, give_back};
use crate::backend::inbox::lock;
use crate::backend::{BackendError, Result};

/// Commands that may wait for the writer thread.
const MAX_COMMANDS: usize = 1024;
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
    commands: VecDeque<Command>,
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
    waiting: Mutex<Waiting>,
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

impl Engine {
    pub(super) fn new(store: Store, meta: Meta) -> Engine {
        Engine {
            store,
            view: Mutex::new(View::new(meta)),
            changed: Notify::new(),
            waiting: Mutex::default(),
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

    /// Queues a command; the answer comes by `make`'s reply.
    pub(super) fn command<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<oneshot::Receiver<Result<T>>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.ended {
            return Err(ended());
        }
        if waiting.commands.len() >= MAX_COMMANDS {
            let message = format!("{MAX_COMMANDS} requests wait for the store {}", self.store.path().display());
            return Err(BackendError::Retriable(message));
        }
        waiting.commands.push_back(make(reply));
        drop(waiting);
        self.arrived.notify_one();
        Ok(answer)
    }

    /// Asks and waits for the answer, not longer than `timeout`.
    pub(super) async fn ask<T>(
        &self,
        timeout: Duration,
        what: &str,
        make: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T> {
        let answer = self.command(make)?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ended()),
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
        let commands = std::mem::take(&mut waiting.commands);
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

    /// Plans, stores, publishes and answers a group. Rows that have no room are given back alone: what makes room is among the commands.
    fn write(&self, planner: &mut Planner, mut group: Group) {
        let settled = self.settle(planner);
        planner.abort_orphans();
        // And once more with the rows of transactions, which are commands, in `commit`.
        let room = self.store.check_room(group.batches.iter().map(Batch::bytes).sum(), &planner.meta);
        let mut unwritten = if room.is_err() { std::mem::take(&mut group.batches) } else { Vec::new() };
        let mut appended = Vec::with_capacity(group.batches.len());
        for mut batch in group.batches {
            match planner.append(batch.take_row()) {
                Ok(base) => appended.push((batch, base)),
                Err(error) => batch.failed(&error),
            }
        }
        let answers: Vec<Answer> = group.commands.into_iter().map(|command| planner.plan(command)).collect();
        let effects = std::mem::take(&mut planner.effects);
        let row_bytes = std::mem::take(&mut planner.row_bytes);
        let stored = match effects.is_empty() {
            true => Ok(()),
            false => settled.and_then(|()| {
                let committed = self.store.commit(&effects, &planner.meta, row_bytes);
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
            give_back(&group.queues, unwritten.into_iter(), &error);
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
