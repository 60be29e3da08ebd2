//! Consumers that readers of equal settings share.
//!
//! A client can hold a partition once. Where two readers want the same one, the second gets it from another client of the pool. So there are as
//! many clients as readers of the partition that most of them read, and one where no two read the same.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, Weak};

use connect_api::TopicPartition;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::closing::Closing;
use super::native::{Consumer, Messages, What};
use crate::backend::inbox::lock;
use crate::backend::{BackendError, ClientSettings, Result};

/// Readers of one pool that may have a client of their own while they catch up. Where more of them do, the shared client is never idle, and
/// holds nobody up.
const MAX_ALONE: usize = 8;
/// What a client says of no partition, and is looked at by one read. It says little: that it has no connection.
const MAX_SAID: usize = 100;

/// The consumers of equal settings.
pub(super) struct Pool {
    settings: ClientSettings,
    clients: Mutex<Vec<Entry>>,
    alone: Arc<Semaphore>,
}

/// A client of the pool, and what of it is in use.
struct Entry {
    client: Weak<SharedConsumer>,
    taken: HashSet<TopicPartition>,
}

/// A client of several readers. Freed with the last of them.
pub(super) struct SharedConsumer {
    open: Closing<Open>,
    /// Held by a client that is not in the pool.
    _alone: Option<OwnedSemaphorePermit>,
}

struct Open {
    /// What the client says that is of no partition.
    said: Mutex<Messages>,
    consumer: Consumer,
}

/// Which client each partition goes to: the first one where it is free. A number behind the last one stands for a client that is still to be made.
fn places(partitions: &[TopicPartition], taken: &[&HashSet<TopicPartition>]) -> Vec<usize> {
    let place = |partition| taken.iter().position(|taken| !taken.contains(partition)).unwrap_or(taken.len());
    partitions.iter().map(place).collect()
}

impl Pool {
    pub(super) fn new(settings: ClientSettings) -> Pool {
        Pool { settings, clients: Mutex::default(), alone: Arc::new(Semaphore::new(MAX_ALONE)) }
    }

    fn open(&self, alone: Option<OwnedSemaphorePermit>) -> Result<Arc<SharedConsumer>> {
        let consumer = Consumer::new(&self.settings)?;
        let said = Mutex::new(consumer.messages()?);
        let open = Closing::new(Open { said, consumer });
        Ok(Arc::new(SharedConsumer { open, _alone: alone }))
    }

    /// Any client of the pool, which is made where there is none.
    pub(super) fn any(&self) -> Result<Arc<SharedConsumer>> {
        let mut clients = lock(&self.clients);
        match clients.iter().find_map(|entry| entry.client.upgrade()) {
            Some(client) => Ok(client),
            None => self.open_in(&mut clients),
        }
    }

    fn open_in(&self, clients: &mut Vec<Entry>) -> Result<Arc<SharedConsumer>> {
        let client = self.open(None)?;
        clients.retain(|entry| entry.client.strong_count() > 0);
        clients.push(Entry { client: Arc::downgrade(&client), taken: HashSet::new() });
        Ok(client)
    }

    /// A client for one reader, if not too many have one.
    pub(super) fn alone(&self) -> Result<Arc<SharedConsumer>> {
        let permit = Arc::clone(&self.alone).try_acquire_owned();
        let permit =
            permit.map_err(|_| BackendError::Retriable(format!("{MAX_ALONE} readers have a client already")))?;
        self.open(Some(permit))
    }

    /// Takes partitions of one reader, of which none is named twice: clients, and what is to be assigned on each.
    pub(super) fn take(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(Arc<SharedConsumer>, Vec<TopicPartition>)>> {
        let mut clients = lock(&self.clients);
        // Kept alive until their partitions are in the hands of the caller.
        let mut alive: Vec<Arc<SharedConsumer>> = Vec::new();
        clients.retain(|entry| entry.client.upgrade().map(|client| alive.push(client)).is_some());
        let taken: Vec<_> = clients.iter().map(|entry| &entry.taken).collect();
        let places = places(partitions, &taken);
        if places.contains(&alive.len()) {
            alive.push(self.open_in(&mut clients)?);
        }
        let mut found = Vec::new();
        for (at, client) in alive.into_iter().enumerate() {
            let here = partitions.iter().zip(&places).filter(|(_, place)| **place == at);
            let here: Vec<TopicPartition> = here.map(|(partition, _)| partition.clone()).collect();
            if !here.is_empty() {
                clients[at].taken.extend(here.iter().cloned());
                found.push((client, here));
            }
        }
        Ok(found)
    }

    /// Others may have these partitions of the client from now on.
    pub(super) fn release(&self, client: &Arc<SharedConsumer>, partitions: &[TopicPartition]) {
        let mut clients = lock(&self.clients);
        if let Some(entry) = clients.iter_mut().find(|entry| entry.client.as_ptr() == Arc::as_ptr(client)) {
            entry.taken.retain(|partition| !partitions.contains(partition));
        }
    }

    /// Whether a client of the pool has more partitions than those `mine` of one reader.
    pub(super) fn is_shared(&self, client: &Arc<SharedConsumer>, mine: usize) -> bool {
        let clients = lock(&self.clients);
        clients.iter().any(|entry| entry.client.as_ptr() == Arc::as_ptr(client) && entry.taken.len() > mine)
    }
}

impl SharedConsumer {
    pub(super) fn consumer(&self) -> &Consumer {
        &self.open.consumer
    }

    /// Looks at what the client said of no partition, since nobody else does. An error that concerns all readers, and that is newer than the
    /// `seen` first ones.
    pub(super) fn listen(&self, seen: &mut u64) -> Option<BackendError> {
        let client = self.consumer().client();
        // Where somebody else looks already, that is enough.
        if let Ok(mut said) = self.open.said.try_lock()
            && !said.is_empty()
        {
            said.take(MAX_SAID, |messages| {
                for message in messages {
                    match message.what() {
                        // Of connections: the client goes on by itself.
                        What::Error(BackendError::Retriable(reason)) => tracing::debug!("{reason}"),
                        // Of a partition that nobody reads any more.
                        What::Error(error) if message.partition().is_some() => tracing::debug!("{error}"),
                        What::Error(error) => client.note_failure(error),
                        What::Record | What::EndOfPartition => {}
                    }
                }
            });
        }
        let known = std::mem::replace(seen, client.failures());
        client.failure_since(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(partitions: &[i32]) -> HashSet<TopicPartition> {
        partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
    }

    #[test]
    fn a_partition_goes_where_it_is_free() {
        let wanted: Vec<_> = (0..3).map(|partition| TopicPartition::new("t", partition)).collect();
        assert_eq!(places(&wanted, &[]), [0, 0, 0]);
        assert_eq!(places(&wanted, &[&set(&[1])]), [0, 1, 0]);
        assert_eq!(places(&wanted, &[&set(&[0, 1]), &set(&[1])]), [1, 2, 0]);
        assert_eq!(places(&wanted, &[&set(&[0, 1, 2]), &set(&[])]), [1, 1, 1]);
    }
}
