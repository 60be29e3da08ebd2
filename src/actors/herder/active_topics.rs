//! The topics that a connector used (KIP-558), kept in the status topic: noted when a task uses one for the first time,
//! forgotten when somebody asks for it or the connector is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::prelude::*;

use super::requests::log_error;
use super::units::answer;
use super::*;
use crate::actors::handle::HerderResult;
use crate::actors::messages::RunId;
use crate::pipeline::TopicTracker;
use crate::storage::status_records::TopicUse;
use crate::storage::topic_log::LogError;

/// How long noting or forgetting topics may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often noting topics is tried. After that they are noted when the task is started again and uses them.
const WRITES_MAX: u32 = 10;

/// A task uses topics, as far as it knows for the first time.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(super) struct TopicsUsed {
    run: RunId,
    topics: Vec<String>,
    attempt: u32,
}

impl Herder {
    /// What tells us of the topics of a task.
    pub(super) fn topic_tracker(&self, run: &RunId) -> TopicTracker {
        match (&self.logs, &self.address) {
            (Some(logs), Some(herder)) if self.deps.config.topic_tracking_enable => {
                let (herder, run) = (herder.clone(), run.clone());
                // At most one message for each batch, and each topic once, so the mailbox needs no bound of its own.
                let tell = move |topics| herder.do_send(TopicsUsed { run: run.clone(), topics, attempt: 0 });
                TopicTracker::new(tell, logs.status.topic_resets())
            }
            _ => TopicTracker::off(),
        }
    }

    /// Names of the topics, in their order; none for a connector that does not exist, as in Java.
    pub(super) fn active_topics(&self, connector: &str) -> HerderResult<Vec<String>> {
        self.check_tracking()?;
        let status = self.logs()?.status.snapshot();
        Ok(status.topics(connector).map(|(topic, _)| topic.to_owned()).collect())
    }

    pub(super) fn reset_active_topics(&self, connector: &str, reply: Reply<()>, context: &mut Context<Self>) {
        let allowed = self.check_tracking().and_then(|()| {
            if self.deps.config.topic_tracking_allow_reset {
                return Ok(());
            }
            Err(HerderError::Forbidden(
                "topics are not forgotten: topic.tracking.allow.reset is off in this worker".into(),
            ))
        });
        let status = match allowed.and_then(|()| self.logs()) {
            Ok(logs) => logs.status.clone(),
            Err(error) => return answer(reply, Err(error)),
        };
        let connector = connector.to_owned();
        let reset = async move { forget_topics(&status, &connector).await.map_err(|error| log_error(&error)) };
        context.spawn(reset.into_actor(self).map(move |result, _, _| answer(reply, result)));
    }

    fn check_tracking(&self) -> HerderResult<()> {
        if self.deps.config.topic_tracking_enable {
            return Ok(());
        }
        Err(HerderError::Forbidden("used topics are not recorded: topic.tracking.enable is off in this worker".into()))
    }

    /// Called whenever the status of a unit is removed: the last one of a connector goes after its tasks have ended, so nothing is
    /// noted behind it. What was noted while an earlier call was at work is forgotten after it.
    pub(super) fn forget_topics_of_deleted(&mut self, connector: &str, context: &mut Context<Self>) {
        let Some(logs) = &self.logs else { return };
        let status = logs.status.clone();
        let is_deleted = self.state.connector(connector).is_none();
        if !is_deleted
            || status.snapshot().topics(connector).next().is_none()
            || !self.forgetting.insert(connector.to_owned())
        {
            return;
        }
        let connector = connector.to_owned();
        let forget = async move {
            let forgotten = forget_topics(&status, &connector).await;
            (connector, forgotten)
        };
        context.spawn(forget.into_actor(self).map(|(connector, forgotten), herder, context| {
            herder.forgetting.remove(&connector);
            match forgotten {
                Ok(()) => herder.forget_topics_of_deleted(&connector, context),
                Err(error) => {
                    tracing::warn!(connector, %error, "the topics that a deleted connector used are still recorded");
                }
            }
        }));
    }
}

/// Writes the tombstones and waits until they are read, so that who asked does not see the topics any more.
async fn forget_topics(status: &StatusStore, connector: &str) -> Result<(), LogError> {
    let topics: Vec<String> = status.snapshot().topics(connector).map(|(topic, _)| topic.to_owned()).collect();
    for (partition, offset) in status.put_topic_uses(connector, &topics, None, WRITE_TIMEOUT).await? {
        status.log().wait_until_seen(partition, offset, WRITE_TIMEOUT).await?;
    }
    Ok(())
}

impl Handler<TopicsUsed> for Herder {
    type Result = ();
    fn handle(&mut self, used: TopicsUsed, context: &mut Context<Self>) {
        let runs = self.running.get(&used.run.unit).is_some_and(|running| running.run == used.run);
        let (true, Some(logs), UnitId::Task(connector, task)) = (runs, &self.logs, &used.run.unit) else { return };
        // Another task of the connector may have used them before.
        let statuses = logs.status.snapshot();
        let is_new = |topic: &String| !statuses.uses_topic(connector, topic);
        let topics: Vec<String> = used.topics.into_iter().filter(is_new).collect();
        if topics.is_empty() {
            return;
        }
        let discovered = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The clock passes 2^63 ms in 292 million years.
        let value = TopicUse { task: *task, discovered_at: i64::try_from(discovered.as_millis()).unwrap_or(i64::MAX) };
        let (status, connector) = (logs.status.clone(), connector.clone());
        let (run, attempt) = (used.run.clone(), used.attempt + 1);
        let note = async move {
            let noted = status.put_topic_uses(&connector, &topics, Some(value), WRITE_TIMEOUT).await;
            (topics, noted)
        };
        context.spawn(note.into_actor(self).map(move |(topics, noted), _, context| {
            let Err(error) = noted else { return };
            tracing::warn!(unit = %run.unit, topics = topics.len(), %error, attempt, "used topics were not recorded");
            if attempt < WRITES_MAX {
                context.notify_later(TopicsUsed { run, topics, attempt }, backoff(attempt));
            }
        }));
    }
}
