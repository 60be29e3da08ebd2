//! What readers ask the leaders of partitions: where these begin and end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connect_api::TopicPartition;
use tokio::sync::Semaphore;

use super::AdminClient;
use super::native::{Client, Edge, Offsets};
use crate::backend::{BackendError, Result};

/// How many readers of a backend that share clients, as the thousands of sinks of a worker do, are asking at a time. Each takes a thread meanwhile;
/// the others wait, and that is a part of their time.
pub(super) const SHARED_ASKS: usize = 8;

/// Asks with the client of one isolation.
pub(super) struct Asker {
    client: Arc<AdminClient>,
    turns: Arc<Semaphore>,
}

impl Asker {
    /// As many questions as there are permits in `turns` are on their way at a time.
    pub(super) fn new(client: Arc<AdminClient>, turns: Arc<Semaphore>) -> Asker {
        Asker { client, turns }
    }

    /// The offsets of all these partitions, in their order.
    pub(super) async fn ask(&self, partitions: &[TopicPartition], edge: Edge, timeout: Duration) -> Result<Vec<i64>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + timeout;
        let turn = tokio::time::timeout(timeout, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(BackendError::Retriable("asking for offsets: too many are asking".into()));
        };
        let partitions = partitions.to_vec();
        let ask = move |client: &Client| {
            // The turn is over with the call, also where nobody waits for its answer any more.
            let _turn = turn;
            ask_blocking(client, &partitions, edge, deadline)
        };
        self.client.blocking(ask).await
    }
}

/// Asks the leaders; where they are not where they were, finds them and asks once more.
fn ask_blocking(client: &Client, partitions: &[TopicPartition], edge: Edge, deadline: Instant) -> Result<Vec<i64>> {
    let left = || deadline.saturating_duration_since(Instant::now());
    // A request to a leader that is gone is held back until its time is over, and who leads now is not looked for meanwhile: so it has not all of it.
    if let Offsets::Found(offsets) = client.list_offsets_blocking(partitions, edge, left() / 2)? {
        return Ok(offsets);
    }
    client.list_topics_blocking(left())?;
    match client.list_offsets_blocking(partitions, edge, left())? {
        Offsets::Found(offsets) => Ok(offsets),
        Offsets::Stale(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::rd_kafka_resp_err_t::{
        RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH, RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    };
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::RDKafkaApiKey;

    use super::*;
    use crate::backend::{ClientSettings, Isolation};

    /// For what has to succeed.
    const PATIENCE: Duration = Duration::from_secs(60);
    /// For what has to fail.
    const SHORT: Duration = Duration::from_millis(500);

    type Cluster = MockCluster<'static, DefaultProducerContext>;

    /// A cluster with a topic `t` of one partition, which its first broker leads, and who asks one question at a time.
    fn cluster(brokers: i32) -> (Cluster, Asker) {
        let cluster = MockCluster::new(brokers).unwrap();
        cluster.create_topic("t", 1, brokers).unwrap();
        cluster.partition_leader("t", 0, Some(1)).unwrap();
        let settings = ClientSettings::from([("bootstrap.servers".into(), cluster.bootstrap_servers())]);
        let client = AdminClient::new(&settings, Isolation::ReadCommitted);
        (cluster, Asker::new(client, Arc::new(Semaphore::new(1))))
    }

    /// Within [`PATIENCE`] whatever the time-out.
    async fn end(asker: &Asker, timeout: Duration) -> Result<Vec<i64>> {
        let partition = TopicPartition::new("t", 0);
        tokio::time::timeout(PATIENCE * 2, asker.ask(&[partition], Edge::End, timeout))
            .await
            .expect("there is an answer")
    }

    #[tokio::test]
    async fn a_leader_that_moves_is_found_again() {
        let (cluster, asker) = cluster(3);
        for leader in [1, 2, 3, 1] {
            cluster.partition_leader("t", 0, Some(leader)).unwrap();
            assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
        }
    }

    #[tokio::test]
    async fn a_leader_that_went_away_is_replaced() {
        let (cluster, asker) = cluster(2);
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
        cluster.broker_down(1).unwrap();
        cluster.partition_leader("t", 0, Some(2)).unwrap();
        // The first half of the time is what the request to the old leader may take.
        assert_eq!(end(&asker, Duration::from_secs(10)).await.unwrap(), [0]);
    }

    /// More often than the client tries by itself.
    #[tokio::test]
    async fn an_older_epoch_is_asked_with_once_more() {
        let (cluster, asker) = cluster(1);
        cluster.request_errors(RDKafkaApiKey::ListOffsets, &[RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH; 3]);
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
    }

    #[tokio::test]
    async fn a_topic_that_is_gone_and_comes_back_is_seen() {
        let (cluster, asker) = cluster(1);
        cluster.topic_error("t", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
        let asked = end(&asker, PATIENCE).await;
        assert!(matches!(asked, Err(BackendError::UnknownPartition(_))), "{asked:?}");
        cluster.topic_error("t", RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
    }

    #[tokio::test]
    async fn a_partition_without_a_leader_may_get_one() {
        let (cluster, asker) = cluster(1);
        cluster.partition_leader("t", 0, None).unwrap();
        let asked = end(&asker, SHORT).await;
        assert!(matches!(asked, Err(BackendError::Retriable(_))), "{asked:?}");
        cluster.partition_leader("t", 0, Some(1)).unwrap();
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
    }

    #[tokio::test]
    async fn brokers_that_are_down_fail_a_question_within_its_time() {
        let (cluster, asker) = cluster(1);
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
        cluster.broker_down(1).unwrap();
        for timeout in [SHORT, SHORT, Duration::ZERO] {
            let asked = end(&asker, timeout).await;
            assert!(matches!(asked, Err(BackendError::Retriable(_))), "{asked:?}");
        }
        cluster.broker_up(1).unwrap();
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
    }

    /// Threads are bounded by turns, so a turn must last as long as its thread does.
    #[tokio::test]
    async fn a_turn_is_held_until_the_call_is_over_and_the_next_one_waits_for_no_longer_than_its_time() {
        let (cluster, asker) = cluster(1);
        cluster.broker_down(1).unwrap();
        let (turns, asker) = (Arc::clone(&asker.turns), Arc::new(asker));
        let first = tokio::spawn({
            let asker = Arc::clone(&asker);
            async move { end(&asker, 4 * SHORT).await }
        });
        while turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(turns.available_permits(), 0);
        let asked = end(&asker, Duration::from_millis(1)).await;
        assert!(matches!(asked, Err(BackendError::Retriable(_))), "{asked:?}");
        let free = tokio::time::timeout(PATIENCE, turns.acquire()).await.expect("the call ends by itself");
        drop(free.unwrap());
        cluster.broker_up(1).unwrap();
        assert_eq!(end(&asker, PATIENCE).await.unwrap(), [0]);
    }
}
