//! Topics, groups and their committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connect_api::TopicPartition;
use tokio::time::Instant;

use super::AdminClient;
use crate::backend::{
    BackendError, CommittedOffsets, FoundTopic, GroupDescription, NewTopic, Result, TopicAdmin, TopicDescription,
};

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first request of all may take, which is made again until the brokers answer: its error says why they do not.
const GREETING_TIMEOUT: Duration = Duration::from_secs(4);
/// How often it is asked whether a new topic can be seen, or offsets are stable. The brokers send no word of it.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A broker that is spoken to in another protocol says nothing: it closes the connection. (librdkafka 2.12.1 has words for this, and does not find
/// them any more.)
fn explained(trouble: &str) -> String {
    if trouble.contains("Disconnected") && !trouble.contains("security.protocol") {
        return format!("{trouble}; does security.protocol fit this listener?");
    }
    trouble.to_owned()
}

/// Requests to a cluster.
pub(super) struct KafkaAdmin {
    pub client: Arc<AdminClient>,
}

impl KafkaAdmin {
    /// Offsets of a group, as soon as no open transaction will change them.
    async fn stable(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let found = self.client.get()?.list_group_offsets(group, partitions, REQUEST_TIMEOUT).await;
            let found = found.and_then(|found| {
                let known = found.into_iter().map(|(partition, offset)| Ok((partition, offset?)));
                known.collect::<Result<Vec<_>>>()
            });
            match found {
                // The client has a negative offset where there is none.
                Ok(found) => {
                    return Ok(found.into_iter().map(|(it, offset)| (it, (offset >= 0).then_some(offset))).collect());
                }
                Err(BackendError::Retriable(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl CommittedOffsets for KafkaAdmin {
    async fn committed(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let found: BTreeMap<_, _> = self.stable(group, Some(partitions)).await?.into_iter().collect();
        Ok(partitions.iter().map(|partition| found.get(partition).copied().flatten()).collect())
    }

    async fn all(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>> {
        let found = self.stable(group, None).await?;
        Ok(found.into_iter().filter_map(|(partition, offset)| Some((partition, offset?))).collect())
    }

    async fn commit(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.client.get()?.alter_group_offsets(group, offsets, REQUEST_TIMEOUT).await
    }

    async fn delete(&self, group: &str, partitions: &[TopicPartition]) -> Result<()> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.client.get()?.delete_group_offsets(group, partitions, REQUEST_TIMEOUT).await
    }
}

#[async_trait]
impl TopicAdmin for KafkaAdmin {
    async fn cluster_id(&self) -> Result<String> {
        let client = self.client.get()?;
        match client.describe_cluster(GREETING_TIMEOUT).await {
            Ok(id) => {
                client.forget_trouble();
                Ok(id)
            }
            // The request knows that it timed out; why, the connection knows.
            Err(BackendError::Retriable(text)) => Err(BackendError::Retriable(match client.trouble() {
                Some(trouble) => format!("{text} ({})", explained(&trouble)),
                None => text,
            })),
            Err(error) => Err(error),
        }
    }

    async fn describe_topic(&self, name: &str) -> Result<Option<TopicDescription>> {
        let client = self.client.get()?;
        let Some(found) = client.describe_topic(name, REQUEST_TIMEOUT).await? else { return Ok(None) };
        let settings = match client.topic_settings(name, REQUEST_TIMEOUT).await {
            Ok(settings) => Some(settings),
            // Another broker answers, which has not heard of a new topic yet.
            Err(BackendError::UnknownPartition(_)) => return Ok(None),
            Err(BackendError::Refused(reason)) => {
                tracing::debug!("the settings of topic {name} cannot be read: {reason}");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Some(TopicDescription { name: name.to_owned(), partitions: found.partitions, settings }))
    }

    async fn find_topics(&self, names: &[String]) -> Result<BTreeMap<String, FoundTopic>> {
        self.client.get()?.describe_topics(names, REQUEST_TIMEOUT).await
    }

    async fn list_topics(&self) -> Result<BTreeMap<String, i32>> {
        self.client.blocking(|client| client.list_topics_blocking(REQUEST_TIMEOUT)).await
    }

    async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let client = self.client.get()?;
        client.create_topic(topic, REQUEST_TIMEOUT).await?;
        // The controller has answered; the brokers hear of it a moment later.
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        while client.describe_topic(&topic.name, REQUEST_TIMEOUT).await?.is_none() {
            if Instant::now() > deadline {
                return Err(BackendError::Retriable(format!("topic {} was created and cannot be seen", topic.name)));
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        Ok(())
    }

    async fn set_topic_setting(&self, name: &str, setting: &str, value: &str) -> Result<()> {
        self.client.get()?.set_topic_setting(name, setting, value, REQUEST_TIMEOUT).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.client.get()?.delete_topic(name, REQUEST_TIMEOUT).await?;
        Ok(())
    }

    async fn describe_group(&self, group: &str) -> Result<Option<GroupDescription>> {
        let group = group.to_owned();
        self.client.blocking(move |client| client.describe_group_blocking(&group, REQUEST_TIMEOUT)).await
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::RDKafkaApiKey;

    use super::*;
    use crate::backend::{ClientSettings, kafka};

    /// See `client_config::admin`. As long as this is broken, it ends the tests by a signal.
    #[tokio::test]
    async fn a_coordinator_that_moves_does_not_end_the_process() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[RD_KAFKA_RESP_ERR_NOT_COORDINATOR]);
        let backend = kafka::open(&cluster.bootstrap_servers(), &ClientSettings::new()).unwrap();
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        let found = backend.committed_offsets().committed("g", &[partition]).await.unwrap();
        assert_eq!(found, [None]);
    }

    #[test]
    fn a_closed_connection_asks_for_the_protocol() {
        assert!(explained("a:1/bootstrap: Disconnected: connection closed by peer").ends_with("fit this listener?"));
        assert_eq!(explained("a:1/bootstrap: SSL handshake failed"), "a:1/bootstrap: SSL handshake failed");
    }
}
