//! What a reader of shared consumers stands on.
//!
//! Each leg is a client with a queue of this reader's own, which all that comes of its partitions goes to. The client's bounds of what is read ahead
//! hold for that queue, so a reader that does not read holds up its own partitions only. Most readers have one leg.

use std::collections::HashSet;
use std::sync::Arc;

use connect_api::TopicPartition;
use tokio::sync::Notify;

use super::intake::{list_of, plain_list};
use super::native::{Message, Messages};
use super::pool::{Pool, SharedConsumer};
use crate::backend::{BackendError, Result};

/// The partitions of one reader on the clients of a pool.
pub(super) struct Legs {
    /// At least one, also without partitions: it keeps the client.
    legs: Vec<Leg>,
    /// Where the next look begins, so that no leg starves another one.
    next: usize,
    wake: Arc<Notify>,
    pool: Arc<Pool>,
    /// The one leg is a client that no other reader uses.
    alone: bool,
}

struct Leg {
    /// Freed before the client.
    messages: Messages,
    partitions: HashSet<TopicPartition>,
    /// Failures of the client that this reader knows of.
    seen: u64,
    client: Arc<SharedConsumer>,
}

impl Leg {
    fn new(client: Arc<SharedConsumer>, wake: &Arc<Notify>) -> Result<Leg> {
        let mut messages = client.consumer().new_messages()?;
        messages.enable_wake(wake);
        Ok(Leg { messages, partitions: HashSet::new(), seen: client.consumer().client().failures(), client })
    }

    /// Begins to read these partitions, whose topics the client may not know.
    fn add(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        let topics = partitions.iter().map(|(partition, _)| &*partition.topic).collect();
        // In front: once they are assigned it takes them for known.
        let _asked = self.client.consumer().ask_about(&topics)?;
        self.add_known(partitions)
    }

    fn add_known(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.client.consumer().add_into(&list_of(partitions)?, &self.messages)?;
        self.partitions.extend(partitions.iter().map(|(partition, _)| partition.clone()));
        Ok(())
    }

    fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.client.consumer().remove(&plain_list(partitions)?)?;
        self.partitions.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    /// Those of `partitions` that stand on this leg.
    fn mine(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        partitions.iter().filter(|partition| self.partitions.contains(*partition)).cloned().collect()
    }
}

/// The elements of `all` whose partition is one of `some`.
fn of(all: &[(TopicPartition, i64)], some: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
    all.iter().filter(|(partition, _)| some.contains(partition)).cloned().collect()
}

impl Legs {
    /// A place at a client of the pool, without partitions.
    pub(super) fn new(pool: Arc<Pool>, wake: &Arc<Notify>) -> Result<Legs> {
        let leg = Leg::new(pool.any()?, wake)?;
        Ok(Legs { legs: vec![leg], next: 0, wake: Arc::clone(wake), pool, alone: false })
    }

    /// Reads these partitions and no others.
    pub(super) fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        let all: Vec<TopicPartition> = self.legs.iter().flat_map(|leg| leg.partitions.iter().cloned()).collect();
        self.remove(&all)?;
        self.add(partitions)
    }

    pub(super) fn add(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        if self.alone {
            return self.legs.iter_mut().try_for_each(|leg| leg.add(partitions));
        }
        let names: Vec<TopicPartition> = partitions.iter().map(|(partition, _)| partition.clone()).collect();
        let places = self.pool.take(&names)?;
        let mut outcome = Ok(());
        for (client, here) in places {
            if outcome.is_ok() {
                outcome = self.add_at(&client, &of(partitions, &here));
            }
            if outcome.is_err() {
                self.pool.release(&client, &here);
            }
        }
        self.forget_empty_legs();
        outcome
    }

    fn add_at(&mut self, client: &Arc<SharedConsumer>, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        match self.legs.iter_mut().find(|leg| Arc::ptr_eq(&leg.client, client)) {
            Some(leg) => leg.add(partitions),
            None => {
                let mut leg = Leg::new(Arc::clone(client), &self.wake)?;
                leg.add(partitions)?;
                self.legs.push(leg);
                Ok(())
            }
        }
    }

    /// Keeps the clients that are of use, and one in any case.
    fn forget_empty_legs(&mut self) {
        if self.legs.iter().any(|leg| !leg.partitions.is_empty()) {
            self.legs.retain(|leg| !leg.partitions.is_empty());
        } else {
            self.legs.truncate(1);
        }
    }

    /// None of them may be paused: whoever gets them next would not know of it.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.legs.iter_mut().try_for_each(|leg| {
            let mine = leg.mine(partitions);
            leg.remove(&mine)?;
            self.pool.release(&leg.client, &mine);
            Ok(())
        })
    }

    /// Goes on at these offsets, without giving the partitions out of hands.
    pub(super) fn replace(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let names: Vec<TopicPartition> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        self.legs.iter_mut().try_for_each(|leg| {
            let mine = leg.mine(&names);
            leg.remove(&mine)?;
            leg.add_known(&of(offsets, &mine)).inspect_err(|_| self.pool.release(&leg.client, &mine))
        })
    }

    pub(super) fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.legs.iter().try_for_each(|leg| leg.client.consumer().pause(&plain_list(&leg.mine(partitions))?))
    }

    pub(super) fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.legs.iter().try_for_each(|leg| leg.client.consumer().resume(&plain_list(&leg.mine(partitions))?))
    }

    /// Hands over what is there, at most `max` messages, without waiting; how many there were.
    pub(super) fn take(&mut self, max: usize, mut each: impl FnMut(&[Message<'_>])) -> usize {
        let mut taken = 0;
        for at in 0..self.legs.len() {
            let at = (self.next + at) % self.legs.len();
            if taken < max {
                let Leg { messages, client, .. } = &mut self.legs[at];
                let came = messages.take(max - taken, &mut each);
                if came > 0 {
                    client.consumer().client().note_answer();
                }
                taken += came;
            }
        }
        self.next = self.next.wrapping_add(1);
        taken
    }

    /// An error of a client that concerns all its readers.
    pub(super) fn listen(&mut self) -> Option<BackendError> {
        self.legs.iter_mut().find_map(|leg| leg.client.listen(&mut leg.seen))
    }

    /// Whether it has a client of its own.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether other readers have partitions at the clients of this one.
    pub(super) fn is_crowded(&self) -> bool {
        self.legs.iter().any(|leg| self.pool.is_shared(&leg.client, leg.partitions.len()))
    }

    /// Goes on, at these offsets of all its partitions, on a client of its own.
    pub(super) fn move_out(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let client = self.pool.alone()?;
        let mut leg = Leg::new(client, &self.wake)?;
        leg.add(offsets)?;
        self.leave();
        (self.legs, self.alone) = (vec![leg], true);
        Ok(())
    }

    /// Goes on, at these offsets of all its partitions, on the clients that all share.
    pub(super) fn move_back(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let mut shared = Legs::new(Arc::clone(&self.pool), &self.wake)?;
        shared.add(offsets)?;
        *self = shared;
        Ok(())
    }

    /// Gives up all partitions.
    fn leave(&mut self) {
        for leg in &mut self.legs {
            let all: Vec<TopicPartition> = leg.partitions.iter().cloned().collect();
            match leg.remove(&all) {
                Ok(()) => self.pool.release(&leg.client, &all),
                // They stay taken, since the client still has them.
                Err(error) => tracing::warn!(%error, "partitions of a shared consumer could not be given back"),
            }
        }
    }
}

impl Drop for Legs {
    fn drop(&mut self) {
        if !self.alone {
            self.leave();
        }
    }
}
