//! That the process is to end. A state and no message: a message can be lost in a full queue, or with the herder that crashed with
//! it in its hands. Whoever is there looks at the state, also a herder that was built after it was set.

use std::sync::Arc;

use tokio::sync::watch;

use super::lease;
use crate::cluster::Millis;

/// What a worker that does not leave in an orderly way leaves behind, for whoever ended it.
pub const LEFT_BEHIND: &str = "Left behind is the record of this worker in the config topic, which does no harm: the next start \
                               replaces it. Records whose offsets were not committed are sent or delivered again";

/// Whether the process was asked to end, and when. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<watch::Sender<Option<Millis>>>);

impl Shutdown {
    /// Asks for the end. The first time counts, so that asking again gives nobody more time.
    pub fn ask(&self) {
        let now = lease::now();
        self.0.send_if_modified(|asked| asked.is_none() && asked.replace(now).is_none());
    }

    /// When it was asked for, if it was.
    pub fn asked_at(&self) -> Option<Millis> {
        *self.0.borrow()
    }

    /// Waits until it is asked for; at once where it was.
    pub async fn asked(&self) {
        // The sender lives as long as `self`, so the wait ends only with the state.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_seen_by_those_who_come_later_and_keeps_its_first_time() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.asked_at(), None);
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.asked().await }
        });
        shutdown.ask();
        let first = shutdown.asked_at();
        assert!(first.is_some());
        shutdown.clone().ask();
        assert_eq!(shutdown.asked_at(), first);
        waiting.await.unwrap();
        shutdown.asked().await;
    }
}
