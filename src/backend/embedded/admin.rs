//! Committed offsets, topics and groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::TopicPartition;

use super::OpenStore;
use super::plan::Command;
use crate::backend::rules::with_defaults;
use crate::backend::{CommittedOffsets, FoundTopic, GroupDescription, NewTopic, Result, TopicAdmin, TopicDescription};

/// How long a request waits for the disk, or for the end of a transaction.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests to a store.
pub(super) struct EmbeddedAdmin {
    pub engine: Arc<OpenStore>,
}

impl EmbeddedAdmin {
    async fn offsets<T>(&self, group: &str, look: impl Fn(Option<&BTreeMap<TopicPartition, i64>>) -> T) -> Result<T> {
        let settled = |view: &super::view::View| {
            let pending = view.meta.offsets_pending(group);
            (!pending).then(|| look(view.meta.groups.get(group)))
        };
        self.engine.wait_for(REQUEST_TIMEOUT, "reading committed offsets", settled).await
    }
}

#[async_trait]
impl CommittedOffsets for EmbeddedAdmin {
    async fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        let of = |offsets: Option<&BTreeMap<TopicPartition, i64>>| {
            partitions.iter().map(|partition| offsets?.get(partition).copied()).collect()
        };
        self.offsets(group, of).await
    }

    async fn all(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>> {
        self.offsets(group, |offsets| offsets.cloned().unwrap_or_default().into_iter().collect()).await
    }

    async fn commit(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let (group, offsets) = (group.to_owned(), offsets.to_vec());
        let commit = |reply| Command::CommitOffsets { group, offsets, reply };
        self.engine.ask(REQUEST_TIMEOUT, "committing offsets", commit).await
    }

    async fn delete(&self, group: &str, partitions: &[TopicPartition]) -> Result<()> {
        let (group, partitions) = (group.to_owned(), partitions.to_vec());
        let delete = |reply| Command::DeleteOffsets { group, partitions, reply };
        self.engine.ask(REQUEST_TIMEOUT, "deleting offsets", delete).await
    }
}

#[async_trait]
impl TopicAdmin for EmbeddedAdmin {
    async fn cluster_id(&self) -> Result<String> {
        Ok(self.engine.store.cluster_id())
    }

    async fn describe_topic(&self, name: &str) -> Result<Option<TopicDescription>> {
        let view = self.engine.view();
        Ok(view.meta.topics.get(name).map(|topic| TopicDescription {
            name: name.to_owned(),
            partitions: topic.partitions.len() as i32,
            settings: Some(with_defaults(&topic.config)),
        }))
    }

    async fn find_topics(&self, names: &[String]) -> Result<BTreeMap<String, FoundTopic>> {
        let view = self.engine.view();
        let found = names.iter().filter_map(|name| {
            let topic = view.meta.topics.get(name.as_str())?;
            Some((name.clone(), FoundTopic { id: topic.id.into(), partitions: topic.partitions.len() as i32 }))
        });
        Ok(found.collect())
    }

    async fn list_topics(&self) -> Result<BTreeMap<String, i32>> {
        let view = self.engine.view();
        let topics = view.meta.topics.iter();
        Ok(topics.map(|(name, topic)| (name.to_string(), topic.partitions.len() as i32)).collect())
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let NewTopic { name, partitions, config, .. } = topic.clone();
        let create = |reply| Command::CreateTopic { name, partitions, config, reply };
        self.engine.ask(REQUEST_TIMEOUT, "creating a topic", create).await
    }

    async fn set_topic_setting(&self, name: &str, setting: &str, value: &str) -> Result<()> {
        let (name, setting, value) = (name.to_owned(), setting.to_owned(), value.to_owned());
        let set = |reply| Command::SetTopicSetting { name, setting, value, reply };
        self.engine.ask(REQUEST_TIMEOUT, "setting a topic's setting", set).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        let delete = |reply| Command::DeleteTopic { name, reply };
        self.engine.ask(REQUEST_TIMEOUT, "deleting a topic", delete).await
    }

    async fn describe_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        let empty = |_| GroupDescription { state: "Empty".into(), protocol_type: String::new(), members: 0 };
        Ok(self.engine.view().meta.groups.get(group).map(empty))
    }
}
