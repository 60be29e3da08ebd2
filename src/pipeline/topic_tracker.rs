//! Notices when a task uses a topic for the first time (KIP-558: `topic.tracking.enable`). A set for each task, asked once for
//! each topic of a batch.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Topics that one task remembers. Beyond it they are forgotten, and told again when they are used again.
const TOPICS_MAX: usize = 10_000;

/// Tells of each topic once, and again after somebody had the topics of a connector forgotten.
#[derive(Clone, Default)]
pub struct TopicTracker {
    teller: Option<Teller>,
    told: HashSet<String>,
    resets_seen: u64,
}

#[derive(Clone)]
struct Teller {
    tell: Arc<dyn Fn(Vec<String>) + Send + Sync>,
    /// Counts how often topics were forgotten, of whatever connector.
    resets: Arc<AtomicU64>,
}

impl TopicTracker {
    /// Calls `tell` with the new topics of a batch; once more after each change of `resets`.
    pub fn new(tell: impl Fn(Vec<String>) + Send + Sync + 'static, resets: Arc<AtomicU64>) -> Self {
        TopicTracker { teller: Some(Teller { tell: Arc::new(tell), resets }), ..TopicTracker::default() }
    }

    /// Tracks nothing.
    pub fn off() -> Self {
        TopicTracker::default()
    }

    /// The topics of a batch, in any order, most often the same one again.
    pub fn used<'a>(&mut self, topics: impl Iterator<Item = &'a str>) {
        let Some(teller) = &self.teller else { return };
        let resets = teller.resets.load(Ordering::Relaxed);
        if resets != self.resets_seen || self.told.len() > TOPICS_MAX {
            self.resets_seen = resets;
            self.told.clear();
        }
        let (mut last, mut new) = ("", Vec::new());
        for topic in topics {
            // Mostly the very same text, shared by all records of a batch.
            if std::ptr::eq(last, topic) || last == topic {
                continue;
            }
            last = topic;
            if !self.told.contains(topic) {
                self.told.insert(topic.to_owned());
                new.push(topic.to_owned());
            }
        }
        if !new.is_empty() {
            (teller.tell)(new);
        }
    }
}

impl std::fmt::Debug for TopicTracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicTracker").field("told", &self.told).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_topic_is_told_once_until_it_is_forgotten() {
        let (told, resets) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(3)));
        let tell = {
            let told = told.clone();
            move |topics: Vec<String>| told.lock().unwrap().extend(topics)
        };
        let mut tracker = TopicTracker::new(tell, resets.clone());
        let take = || std::mem::take(&mut *told.lock().unwrap());
        tracker.used(["a", "a", "b", "a"].into_iter());
        assert_eq!(take(), ["a", "b"]);
        tracker.used(["b", "c"].into_iter());
        assert_eq!(take(), ["c"]);
        resets.store(4, Ordering::Relaxed);
        tracker.used(["b", "b"].into_iter());
        assert_eq!(take(), ["b"]);
        let names: Vec<String> = (0..=TOPICS_MAX).map(|number| number.to_string()).collect();
        tracker.used(names.iter().map(String::as_str));
        tracker.used(["b"].into_iter());
        assert_eq!(take().len(), TOPICS_MAX + 2, "what is remembered has a bound");
        TopicTracker::off().used(["a"].into_iter());
    }
}
