//! Committed offsets, topics and groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::TopicPartition;

use super::cluster::{Cluster, Group, State};
use super::faults::{HeldCommit, Request};
use crate::backend::rules::with_defaults;
use crate::backend::{
    BackendError, CommittedOffsets, FoundTopic, GroupDescription, NewTopic, Result, TopicAdmin, TopicDescription,
};

/// How long a request waits for a broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests to a cluster.
pub(super) struct MemoryAdmin {
    pub cluster: Arc<Cluster>,
}

impl MemoryAdmin {
    async fn request<T>(&self, what: &str, act: impl FnMut(&mut State) -> Option<Result<T>>) -> Result<T> {
        self.cluster.wait_for(REQUEST_TIMEOUT, what, act).await?
    }

    /// A request that a test may let fail.
    async fn failing_request<T>(
        &self,
        request: Request,
        what: &str,
        mut act: impl FnMut(&mut State) -> Option<Result<T>>,
    ) -> Result<T> {
        self.request(what, |state| {
            state.faults.failure_of(request).map_or_else(|| act(state), |error| Some(Err(error)))
        })
        .await
    }

    /// A commit that a test keeps at the broker.
    async fn held_commit(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let number = {
            let mut state = self.cluster.lock();
            let number = state.next_id();
            let (group, offsets) = (group.to_owned(), offsets.to_vec());
            state.faults.held_commits.push(HeldCommit { number, group, offsets });
            number
        };
        let waits = |state: &State| state.faults.held_commits.iter().any(|held| held.number == number);
        self.request("committing offsets", |state| (!waits(state)).then_some(Ok(()))).await
    }
}

fn check_no_members(name: &str, group: &Group) -> Result<()> {
    match &group.members {
        Some(description) if description.members > 0 => {
            let count = description.members;
            Err(BackendError::Refused(format!("group {name} has {count} members; its offsets are theirs")))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl CommittedOffsets for MemoryAdmin {
    async fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        let look = |state: &mut State| {
            if state.offsets_pending(group) {
                return None;
            }
            let offsets = state.groups.get(group).map(|group| &group.offsets);
            Some(Ok(partitions.iter().map(|partition| offsets?.get(partition).copied()).collect()))
        };
        self.failing_request(Request::Committed, "reading committed offsets", look).await
    }

    async fn all(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>> {
        let look = |state: &mut State| {
            if state.offsets_pending(group) {
                return None;
            }
            let offsets = state.groups.get(group).map(|group| group.offsets.clone());
            Some(Ok(offsets.unwrap_or_default().into_iter().collect()))
        };
        self.request("reading committed offsets", look).await
    }

    async fn commit(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        if self.cluster.lock().faults.hold_commits {
            return self.held_commit(group, offsets).await;
        }
        let act = |state: &mut State| {
            if offsets.is_empty() {
                return Some(Ok(()));
            }
            let known = state.groups.entry(group.to_owned()).or_default();
            Some(check_no_members(group, known).map(|()| known.offsets.extend(offsets.iter().cloned())))
        };
        self.failing_request(Request::Commit, "committing offsets", act).await
    }

    async fn delete(&self, group: &str, partitions: &[TopicPartition]) -> Result<()> {
        let act = |state: &mut State| {
            let Some(known) = state.groups.get_mut(group) else { return Some(Ok(())) };
            Some(check_no_members(group, known).map(|()| {
                known.offsets.retain(|partition, _| !partitions.contains(partition));
            }))
        };
        self.request("deleting offsets", act).await
    }
}

#[async_trait]
impl TopicAdmin for MemoryAdmin {
    async fn cluster_id(&self) -> Result<String> {
        let name = self.cluster.name.clone();
        self.request("asking for the cluster id", |_| Some(Ok(format!("memory-{name}")))).await
    }

    async fn describe_topic(&self, name: &str) -> Result<Option<TopicDescription>> {
        let look = |state: &mut State| {
            Some(Ok(state.topics.get(name).map(|topic| TopicDescription {
                name: name.to_owned(),
                partitions: topic.partitions.len() as i32,
                settings: Some(with_defaults(&topic.config)),
            })))
        };
        self.request("describing a topic", look).await
    }

    async fn find_topics(&self, names: &[String]) -> Result<BTreeMap<String, FoundTopic>> {
        let look = |state: &mut State| {
            let found = names.iter().filter_map(|name| {
                let topic = state.topics.get(name.as_str())?;
                let (id, partitions) = (topic.id.into(), topic.partitions.len() as i32);
                Some((name.clone(), FoundTopic { id, partitions }))
            });
            Some(Ok(found.collect()))
        };
        self.failing_request(Request::Topics, "finding topics", look).await
    }

    async fn list_topics(&self) -> Result<BTreeMap<String, i32>> {
        let look = |state: &mut State| {
            let topics = state.topics.iter();
            Some(Ok(topics.map(|(name, topic)| (name.to_string(), topic.partitions.len() as i32)).collect()))
        };
        self.failing_request(Request::Topics, "listing topics", look).await
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let act = |state: &mut State| Some(state.create_topic(&topic.name, topic.partitions, topic.config.clone()));
        self.request("creating a topic", act).await?;
        self.cluster.lock().wake_all();
        Ok(())
    }

    async fn set_topic_setting(&self, name: &str, setting: &str, value: &str) -> Result<()> {
        let act = |state: &mut State| {
            Some(match state.topics.get_mut(name) {
                Some(topic) => {
                    topic.config.insert(setting.to_owned(), value.to_owned());
                    Ok(())
                }
                None => Err(BackendError::Refused(format!("there is no topic {name}"))),
            })
        };
        self.request("setting a topic's setting", act).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let act = |state: &mut State| {
            state.topics.remove(name);
            // The group coordinator does the same.
            state.groups.values_mut().for_each(|group| group.offsets.retain(|partition, _| &*partition.topic != name));
            for open in state.transactional_ids.values_mut().filter_map(|known| known.open.as_mut()) {
                open.offsets.retain(|(_, partition, _)| &*partition.topic != name);
            }
            state.wake_all();
            Some(Ok(()))
        };
        self.request("deleting a topic", act).await
    }

    async fn describe_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        let look = |state: &mut State| {
            let empty = || GroupDescription { state: "Empty".into(), protocol_type: String::new(), members: 0 };
            Some(Ok(state.groups.get(group).map(|group| group.members.clone().unwrap_or_else(empty))))
        };
        self.request("describing a group", look).await
    }
}
