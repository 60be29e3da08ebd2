//! When a log cannot be used any more although nobody says so: a part of it has crashed, or its topic got more partitions.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

use super::{Running, Shared};
use crate::backend::TopicAdmin;

/// How often the partitions are counted.
pub const PARTITIONS_LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// From one count to the next at least, however often it is asked for.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Runs a part of a log. When it panics the log is lost: what it did is not done any more. A part that returns has said why, or has nobody left
/// to work for.
pub(super) fn supervised(
    shared: &Arc<Shared>,
    part: &'static str,
    future: impl Future<Output = ()> + Send + 'static,
) -> Running {
    let shared = shared.clone();
    Running(tokio::spawn(async move {
        // What it touched is not used again: the log is lost.
        if let Err(payload) = AssertUnwindSafe(future).catch_unwind().await {
            shared.lose(&format!("its {part} crashed ({})", text_of(&*payload)));
        }
    }))
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// Counts the partitions of a topic from time to time. Nobody reads those that were added, and clients put keys there.
pub(super) struct PartitionsWatch {
    pub(super) admin: Arc<dyn TopicAdmin>,
    pub(super) shared: Arc<Shared>,
    /// How many there were when the topic was opened.
    pub(super) count: usize,
    /// Wakes for a count before its time.
    pub(super) asked: Arc<Notify>,
}

impl PartitionsWatch {
    /// Counts until there are more.
    pub(super) async fn run(self) {
        let topic = self.shared.topic.to_string();
        loop {
            // Either way it is time.
            _ = tokio::time::timeout(PARTITIONS_LOOK_INTERVAL, self.asked.notified()).await;
            match self.admin.find_topics(std::slice::from_ref(&topic)).await {
                // A broker that lags may know fewer. Those of a topic that was made anew are missed by the reader.
                Ok(found) => {
                    let count = found.get(&topic).map_or(0, |found| usize::try_from(found.partitions).unwrap_or(0));
                    if count > self.count {
                        return self.shared.lose(&grown(count, self.count));
                    }
                }
                Err(error) => tracing::debug!(topic, %error, "the partitions were not counted; counted again later"),
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// Why the log is lost when it has more partitions than are read.
pub(super) fn grown(now: usize, opened: usize) -> String {
    format!("it has {now} partitions now and had {opened} when it was opened")
}
