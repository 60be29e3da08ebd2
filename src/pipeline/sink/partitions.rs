//! Which partitions are read, and from where.
//!
//! There is no rebalance. A search says which topics there are; what is new is opened and what is gone is closed, and the
//! reader goes on with all others. A search never holds up reading: it is awaited beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use connect_api::TopicPartition;
use connect_api::sink::Offsets;
use tokio::time::{Instant, timeout};

use super::{Lost, Reset, SinkPump};
use crate::backend::{BackendError, FoundTopic, StartOffset, TopicAdmin};
use crate::pipeline::control::{Control, Directive};
use crate::pipeline::delivery::left;
use crate::pipeline::phase::{Failure, Phase};
use crate::pipeline::task_partitions::Selection;

/// How often a topic is looked for that is named and not there, or any topic where none matches.
const MISSING_TOPIC_SEARCH: Duration = Duration::from_secs(1);

/// Topics by name.
pub(super) type Found = BTreeMap<String, FoundTopic>;

impl SinkPump {
    /// Brings the reader to where it has to be before records are read. `false`: look at the directive again.
    pub(super) async fn settle_partitions(&mut self) -> Result<bool, Failure> {
        self.search_if_due();
        if let Some(found) = self.state.found.take()
            && !self.follow(found).await?
        {
            return Ok(false);
        }
        self.take_requests()?;
        let due = |lost: &Lost| lost.look_at.is_none_or(|at| Instant::now() >= at);
        if self.state.lost.as_ref().is_some_and(due) && !self.reset_lost_positions().await? {
            return Ok(false);
        }
        if self.state.seeks.is_empty() {
            return Ok(true);
        }
        self.drop_held();
        self.seek().await
    }

    fn search_if_due(&mut self) {
        let state = &mut self.state;
        let due = state.search_at.is_none_or(|at| Instant::now() >= at);
        if due && state.search.is_none() && state.found.is_none() {
            state.search = Some(Box::pin(search(self.admin.clone(), self.selection.clone())));
        }
    }

    /// Takes in what a search found, and says when the next one is due.
    pub(super) fn take_found(&mut self, found: Result<Found, BackendError>) -> Result<(), Failure> {
        let wait = match found {
            Ok(found) => {
                self.state.unanswered = 0;
                let complete = self.selection.is_complete(&found);
                self.state.found = Some(found);
                if complete { self.refresh_interval } else { self.refresh_interval.min(MISSING_TOPIC_SEARCH) }
            }
            Err(BackendError::Retriable(reason) | BackendError::UnknownPartition(reason)) => {
                tracing::warn!(reason, "topics could not be looked for; tried again");
                self.next_backoff()
            }
            Err(error) => return Err(Failure::new(Phase::Consume, &error)),
        };
        self.state.search_at = Some(Instant::now() + wait);
        Ok(())
    }

    /// Closes what is gone and opens what is new. `false`: the directive changed meanwhile; the search is repeated.
    async fn follow(&mut self, found: Found) -> Result<bool, Failure> {
        let mine = self.selection.partitions(&found);
        let known = &self.state.topics;
        let made_anew = |topic: &str| match (known.get(topic), found.get(topic)) {
            (Some(known), Some(found)) => known.id != found.id,
            _ => false,
        };
        let anew: BTreeSet<String> = found.keys().filter(|topic| made_anew(topic)).cloned().collect();
        let is_gone = |it: &&TopicPartition| anew.contains(&*it.topic) || !mine.contains(it);
        let gone: Vec<_> = self.state.current.keys().filter(is_gone).cloned().collect();
        if !gone.is_empty() {
            self.close(&gone).await?;
        }
        self.state.topics.retain(|topic, _| found.contains_key(topic));
        self.state.fresh.extend(mine.iter().filter(|it| anew.contains(&*it.topic)).cloned());
        self.state.fresh.retain(|partition| mine.contains(partition));
        // Also those of which this task reads nothing yet: a partition that it gets later must be of the same topic.
        self.state.topics.extend(found);
        let new: Vec<_> = mine.into_iter().filter(|it| !self.state.current.contains_key(it)).collect();
        if !self.open(new).await? {
            self.state.search_at = Some(Instant::now() + self.next_backoff().max(MISSING_TOPIC_SEARCH));
        }
        if let Some(lost) = &mut self.state.lost {
            lost.searched = true;
        }
        Ok(self.control.directive() == Directive::Run)
    }

    /// Takes leave of partitions that are not there any more. What was put of them is flushed, as before any other close;
    /// nothing is committed, since it would be a commit for whatever has that name next.
    async fn close(&mut self, gone: &[TopicPartition]) -> Result<(), Failure> {
        let names: Vec<String> = gone.iter().map(ToString::to_string).collect();
        tracing::warn!(partitions = names.join(","), "deleted, made anew or not visible any more: closed");
        self.reader.remove(gone).map_err(|error| Failure::new(Phase::Consume, &error))?;
        self.forget_held(gone);
        let mut unflushed = self.uncommitted();
        unflushed.retain(|partition, _| gone.contains(partition));
        if !unflushed.is_empty() {
            self.enter(Phase::Flush);
            if let Err(error) = self.task.pre_commit(&unflushed).await {
                tracing::warn!(%error, "the last flush of these partitions failed");
            }
        }
        self.enter(Phase::Close);
        self.task.close(gone).await.map_err(|error| Failure::new(Phase::Close, &error))?;
        for partition in gone {
            self.state.current.remove(partition);
            self.state.last_committed.remove(partition);
            self.state.seeks.remove(partition);
        }
        self.tell_assignment();
        Ok(())
    }

    /// Starts reading partitions: where the task asked for in advance, else behind their committed offsets, else as
    /// `auto.offset.reset` says. `false`: not all of them, since the brokers did not say where that is, or a commit of before they were closed is
    /// under way and would pass for one of what is there now.
    async fn open(&mut self, mut new: Vec<TopicPartition>) -> Result<bool, Failure> {
        let wanted = new.len();
        if new.iter().any(|partition| self.is_committing(partition)) {
            self.wait_for_commit(Instant::now()).await;
            new.retain(|partition| !self.is_committing(partition));
        }
        if new.is_empty() {
            return Ok(wanted == 0);
        }
        self.enter(Phase::Consume);
        // Offsets of a former topic of the same name mean nothing.
        let asked: Vec<_> = new.iter().filter(|partition| !self.state.fresh.contains(partition)).cloned().collect();
        let request = self.committed.committed(&self.group, &asked);
        let committed = match ask(&mut self.control, self.commit_timeout, request).await? {
            Ok(committed) => committed,
            Err(reason) => {
                tracing::warn!(reason, "committed offsets could not be read; tried again");
                return Ok(false);
            }
        };
        let known = asked.into_iter().zip(committed);
        let mut starts: BTreeMap<_, _> = known.filter_map(|(it, offset)| Some((it, offset?))).collect();
        let unset: Vec<_> = new.into_iter().filter(|partition| !starts.contains_key(partition)).collect();
        starts.extend(self.reset_offsets(unset).await?);
        if starts.is_empty() {
            return Ok(false);
        }
        self.state.unanswered = 0;
        let state = &mut self.state;
        for (partition, start) in &mut starts {
            state.fresh.remove(partition);
            // What a task would begin with anyway needs no commit.
            state.last_committed.insert(partition.clone(), *start);
            if let Some(wanted) = state.rewinds.remove(partition) {
                *start = wanted;
            }
            state.current.insert(partition.clone(), *start);
        }
        let opened: Vec<_> = starts.keys().cloned().collect();
        let starts: Vec<_> = starts.into_iter().map(|(partition, start)| (partition, StartOffset::At(start))).collect();
        self.reader.add(&starts).map_err(|error| Failure::new(Phase::Consume, &error))?;
        self.tell_assignment();
        self.enter(Phase::Open);
        self.task.open(&opened).await.map_err(|error| Failure::new(Phase::Open, &error))?;
        Ok(opened.len() == wanted)
    }

    fn tell_assignment(&self) {
        self.state.context.set_assignment(self.state.current.keys().cloned().collect());
    }

    /// Where partitions without a committed offset begin, as `auto.offset.reset` says; without those that no broker answers for.
    async fn reset_offsets(&mut self, partitions: Vec<TopicPartition>) -> Result<Offsets, Failure> {
        match (self.reset, partitions.first()) {
            (_, None) => Ok(Offsets::new()),
            (Reset::Earliest, _) => self.bounds(partitions, Bound::Beginning).await,
            (Reset::Latest, _) => self.bounds(partitions, Bound::End).await,
            (Reset::None, Some(partition)) => {
                let message = format!("{partition} has no committed offset, and auto.offset.reset is none");
                Err(Failure::text(Phase::Consume, message))
            }
        }
    }

    /// Beginnings or ends of partitions. One that has no leader fails the request for all of them: then halves are asked for, so that it
    /// keeps nobody else waiting. It is left out, and so is what there was no time for.
    async fn bounds(&mut self, partitions: Vec<TopicPartition>, bound: Bound) -> Result<Offsets, Failure> {
        let deadline = Instant::now() + self.commit_timeout;
        let mut known = Offsets::new();
        let (count, mut failed) = (partitions.len(), None);
        let mut waiting = vec![partitions];
        while let Some(mut some) = waiting.pop()
            && !left(deadline).is_zero()
            && self.control.directive() == Directive::Run
        {
            let request = match bound {
                Bound::Beginning => self.reader.beginning_offsets(&some, left(deadline)),
                Bound::End => self.reader.end_offsets(&some, left(deadline)),
            };
            match ask(&mut self.control, left(deadline), request).await? {
                Ok(offsets) => known.extend(some.into_iter().zip(offsets)),
                Err(reason) => {
                    failed = Some(reason);
                    if some.len() > 1 {
                        let half = some.split_off(some.len() / 2);
                        waiting.extend([half, some]);
                    }
                }
            }
        }
        if let Some(reason) = failed {
            let without = count - known.len();
            tracing::warn!(reason, without, of = count, "some partitions cannot be asked about; tried again");
        }
        Ok(known)
    }

    /// Partitions whose position is not in the log any more, or not yet, begin where `auto.offset.reset` says, as a Java
    /// consumer's do. Records that retention deleted before they were read are lost, so this is an error in the log.
    /// `false`: the brokers did not say; tried again.
    async fn reset_lost_positions(&mut self) -> Result<bool, Failure> {
        let Some(lost) = &self.state.lost else { return Ok(true) };
        if self.reset == Reset::None {
            return Err(Failure::text(Phase::Consume, format!("{}; auto.offset.reset is none", lost.reason)));
        }
        // A topic that was made anew is the other reason; that one is opened anew instead.
        if !lost.searched {
            self.wait_for_brokers().await?;
            return Ok(false);
        }
        self.enter(Phase::Consume);
        let partitions: Vec<_> = self.state.current.keys().cloned().collect();
        let begins = self.bounds(partitions.clone(), Bound::Beginning).await?;
        let ends = self.bounds(begins.keys().cloned().collect(), Bound::End).await?;
        if ends.is_empty() && !partitions.is_empty() {
            // They may be gone.
            self.state.search_at = None;
            self.wait_for_brokers().await?;
            return Ok(false);
        }
        self.state.unanswered = 0;
        let Some(mut lost) = self.state.lost.take() else { return Ok(true) };
        let reason = &lost.reason;
        for (partition, end) in &ends {
            let begin = begins.get(partition).copied().unwrap_or_default();
            let position = self.reader.position(partition).unwrap_or(begin);
            if !(begin..=*end).contains(&position) {
                let reset = if self.reset == Reset::Latest { *end } else { begin };
                tracing::error!(%partition, position, begin, end, reset, reason, "the position is not in the log; reading on elsewhere");
                self.state.current.insert(partition.clone(), reset);
                self.state.last_committed.insert(partition.clone(), reset);
                self.state.seeks.insert(partition.clone());
            }
        }
        if ends.len() < partitions.len() {
            // It may be one of those that nobody answers for; the others go on meanwhile.
            lost.look_at = Some(Instant::now() + MISSING_TOPIC_SEARCH);
            self.state.lost = Some(lost);
        } else if self.state.seeks.is_empty() {
            // Whatever was lost is there again, or was closed. The reader may rest at it until it is told where to go on.
            self.state.seeks.extend(partitions);
            self.pause_for(super::BROKER_BACKOFF.0).await?;
        }
        Ok(true)
    }

    /// Takes down what the task asked for. A rewind of a partition that is still to come waits for it.
    fn take_requests(&mut self) -> Result<(), Failure> {
        let requests = self.state.context.take_requests();
        for (partition, offset) in requests.rewinds {
            if offset < 0 {
                let message = format!("the task asked to read {partition} from offset {offset}; offsets begin at 0");
                return Err(Failure::text(Phase::Consume, message));
            }
            if let Some(current) = self.state.current.get_mut(&partition) {
                *current = offset;
                self.state.seeks.insert(partition);
            } else if self.selection.owns(&partition) {
                self.state.rewinds.insert(partition, offset);
            } else {
                let message =
                    format!("the task asked to read {partition} from offset {offset}, but it does not read it");
                return Err(Failure::text(Phase::Consume, message));
            }
        }
        let failed = |error: BackendError| Failure::new(Phase::Consume, &error);
        let pause = self.read_ones(requests.pause);
        if !pause.is_empty() {
            self.reader.pause(&pause).map_err(failed)?;
        }
        let resume = self.read_ones(requests.resume);
        if !resume.is_empty() {
            self.reader.resume(&resume).map_err(failed)?;
        }
        if requests.commit {
            self.commit.raise();
        }
        Ok(())
    }

    /// Those of these partitions that are read. Others may have been closed since the task asked.
    fn read_ones(&self, partitions: Vec<TopicPartition>) -> Vec<TopicPartition> {
        partitions.into_iter().filter(|partition| self.state.current.contains_key(partition)).collect()
    }

    /// Lets the reader go to the current offsets where it is elsewhere. `false`: it cannot yet; nothing is read before.
    async fn seek(&mut self) -> Result<bool, Failure> {
        let current = &self.state.current;
        let due = self.state.seeks.iter();
        let offsets: Vec<_> = due.filter_map(|it| Some((it.clone(), *current.get(it)?))).collect();
        match self.reader.seek(&offsets).await {
            Ok(()) => {
                self.state.seeks.clear();
                Ok(true)
            }
            Err(BackendError::Retriable(reason) | BackendError::UnknownPartition(reason)) => {
                tracing::warn!(reason, "the reader could not go back; tried again");
                self.state.search_at = None;
                self.wait_for_brokers().await?;
                Ok(false)
            }
            Err(error) => Err(Failure::new(Phase::Consume, &error)),
        }
    }
}

/// Asks which topics there are.
async fn search(admin: Arc<dyn TopicAdmin>, selection: Arc<Selection>) -> Result<Found, BackendError> {
    if let Some(names) = selection.listed() {
        return admin.find_topics(names).await;
    }
    let all = admin.list_topics().await?;
    let names: Vec<_> = all.into_keys().filter(|topic| selection.selects(topic)).collect();
    admin.find_topics(&names).await
}

/// Which end of a log.
#[derive(Clone, Copy)]
enum Bound {
    Beginning,
    End,
}

/// Waits for an answer of a broker, but not past a change of the directive, and not too long: other partitions wait as
/// well. `Ok(Err(_))`: why there is none; ask again later.
async fn ask<T>(
    control: &mut Control,
    time: Duration,
    request: impl Future<Output = Result<T, BackendError>>,
) -> Result<Result<T, String>, Failure> {
    let answer = tokio::select! {
        biased;
        answer = timeout(time, request) => answer,
        _ = control.changed_from(Directive::Run) => return Ok(Err("the task is not to run any more".into())),
    };
    match answer {
        Ok(Ok(answer)) => Ok(Ok(answer)),
        Ok(Err(BackendError::Retriable(reason) | BackendError::UnknownPartition(reason))) => Ok(Err(reason)),
        Ok(Err(error)) => Err(Failure::new(Phase::Consume, &error)),
        Err(_) => Ok(Err(format!("no broker answered within {} ms", time.as_millis()))),
    }
}
