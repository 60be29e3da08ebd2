//! Who is told of every update, in order, without missing one.

use tokio::sync::mpsc;

/// Updates that may wait for a subscriber. Then the reader waits: what was not taken into account must not count as read.
const UPDATE_QUEUE: usize = 64;

/// The queues of all subscribers of a store.
pub struct Subscribers<T>(Vec<mpsc::Sender<T>>);

impl<T> Default for Subscribers<T> {
    fn default() -> Self {
        Subscribers(Vec::new())
    }
}

impl<T: Clone> Subscribers<T> {
    /// One more. It gets what is given to [`Subscribers::current`] from now on.
    pub fn add(&mut self) -> mpsc::Receiver<T> {
        let (sender, updates) = mpsc::channel(UPDATE_QUEUE);
        self.0.push(sender);
        updates
    }

    /// Whether there are any.
    pub fn any(&mut self) -> bool {
        self.0.retain(|sender| !sender.is_closed());
        !self.0.is_empty()
    }

    /// The queues of those there are now, to be sent to with [`send_to_all`] when no lock is held.
    pub fn current(&self) -> Vec<mpsc::Sender<T>> {
        self.0.clone()
    }
}

/// Sends to all; waits where a queue is full. One whose receiver was dropped is passed over.
pub async fn send_to_all<T: Clone>(senders: &[mpsc::Sender<T>], update: T) {
    for sender in senders {
        _ = sender.send(update.clone()).await;
    }
}
