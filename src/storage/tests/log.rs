use std::sync::Mutex;

use async_trait::async_trait;

use super::super::topic_log::{Fold, LogError, PARTITIONS_LOOK_INTERVAL, TopicLog};
use super::*;
use crate::backend::{BackendError, ProducerRecord, ReadBatch};

/// Keeps the offsets that it was given, by partition.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(i32, i64)>>>);

#[async_trait]
impl Fold for Seen {
    async fn fold(&mut self, batch: &ReadBatch, _positions: &[i64]) {
        let offsets = batch.records.iter().map(|record| (batch.partition(record).partition, record.offset));
        self.0.lock().unwrap().extend(offsets);
    }
}

impl Seen {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

async fn open(cluster: &Cluster, topic: &str) -> (TopicLog, Seen) {
    let seen = Seen::default();
    let settings = log_settings(Isolation::ReadCommitted);
    (TopicLog::open(cluster.backend.clone(), topic, settings, seen.clone()).await.unwrap(), seen)
}

fn record(key: usize) -> ProducerRecord {
    ProducerRecord::keyed("status", key.to_string(), Some("v".into()))
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_before_open_returns_and_followed_afterwards() {
    let cluster = Cluster::new().await;
    let (first, _) = open(&cluster, "status").await;
    let stored = first.append((0..5000).map(record).collect(), LIMIT).await.unwrap();
    assert_eq!(stored.len(), 5000);
    let (second, seen) = open(&cluster, "status").await;
    assert_eq!(seen.count(), 5000);
    let (partition, offset) = first.append(vec![record(1)], LIMIT).await.unwrap()[0];
    second.wait_until_seen(partition, offset, LIMIT).await.unwrap();
    assert_eq!(seen.count(), 5001);
    assert_eq!(second.positions(), second.ends(LIMIT).await.unwrap().offsets);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_marker_at_the_end_is_reached() {
    let cluster = Cluster::new().await;
    let writer = cluster.backend.transactional_writer(&ClientSettings::new(), "t", LIMIT).await.unwrap();
    for commit in [true, false] {
        writer.begin().unwrap();
        writer.send(&[ProducerRecord::keyed("configs", "epoch", None)]).await.unwrap();
        if commit {
            writer.commit(LIMIT).await.unwrap()
        } else {
            writer.abort(LIMIT).await.unwrap()
        }
        let (log, seen) = open(&cluster, "configs").await;
        assert_eq!(seen.count(), 1);
        assert_eq!(log.positions(), log.ends(LIMIT).await.unwrap().offsets);
    }
}

#[tokio::test(start_paused = true)]
async fn appends_of_many_callers_each_get_their_own_answer() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    let log = Arc::new(log);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..100 {
        let log = log.clone();
        callers.spawn(async move { log.append(vec![record(caller), record(caller)], LIMIT).await.unwrap() });
    }
    let mut all: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_fails_its_own_append_only() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    let without_key = ProducerRecord { key: None, ..record(0) };
    let error = log.append(vec![without_key], LIMIT).await.unwrap_err();
    assert!(matches!(error, LogError::Backend { error: BackendError::Refused(_), .. }), "{error}");
    let large = ProducerRecord { value: Some(vec![0; 64 << 20].into()), ..record(0) };
    let error = log.append(vec![large], LIMIT).await.unwrap_err();
    assert!(matches!(error, LogError::Backend { error: BackendError::Refused(_), .. }), "{error}");
    log.append(vec![record(1)], LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broken_writer_is_replaced() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    cluster.faults().refuse_appends(1, BackendError::Fatal("broken".into()));
    log.append(vec![record(1)], LIMIT).await.unwrap_err();
    log.append(vec![record(1)], LIMIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waits_are_bounded() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    let short = Duration::from_secs(1);
    cluster.faults().hold_acks(true);
    let error = log.append(vec![record(1)], short).await.unwrap_err();
    assert!(matches!(error, LogError::Timeout { .. }), "{error}");
    cluster.faults().hold_acks(false);
    let error = log.wait_until_seen(0, 1 << 40, short).await.unwrap_err();
    assert!(matches!(error, LogError::Timeout { .. }), "{error}");
    cluster.faults().set_down(true);
    log.ends(short).await.unwrap_err();
    cluster.faults().set_down(false);
    log.read_to_end(short).await.unwrap();
    log.wait_until_seen(7, 0, short).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn reading_survives_an_outage() {
    let cluster = Cluster::new().await;
    let (log, seen) = open(&cluster, "status").await;
    cluster.faults().set_down(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.faults().set_down(false);
    log.append(vec![record(1)], LIMIT).await.unwrap();
    log.read_to_end(LIMIT).await.unwrap();
    assert_eq!(seen.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_records_is_reported() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "configs").await;
    let keyed = |key: &'static str| ProducerRecord::keyed("configs", key, Some("{}".into()));
    log.append(vec![keyed("a"), keyed("b")], LIMIT).await.unwrap();
    log.read_to_end(LIMIT).await.unwrap();
    cluster.hooks().lose_from("configs", 0, 1);
    // Whichever notices first: the reader, or who asks for the ends.
    let error = match log.ends(LIMIT).await {
        Err(error) => error,
        Ok(ends) => panic!("{ends:?}"),
    };
    assert!(matches!(error, LogError::Lost { .. }), "{error}");
    let lost = tokio::time::timeout(LIMIT, log.lost()).await.unwrap();
    assert!(matches!(lost, LogError::Lost { .. }), "{lost}");
    log.read_to_end(LIMIT).await.unwrap_err();
}

/// As with several brokers, of which one has not heard of a new topic yet.
#[tokio::test(start_paused = true)]
async fn a_topic_that_shows_up_late_is_waited_for() {
    let cluster = Cluster::new().await;
    let settings = log_settings(Isolation::ReadCommitted);
    let open = TopicLog::open(cluster.backend.clone(), "late", settings, Seen::default());
    let late = internal(TopicPurpose::Status, "late", 3);
    let admin = cluster.backend.admin();
    let (log, created) = tokio::join!(biased; open, create_or_check(&*admin, &late));
    created.unwrap();
    assert_eq!(log.unwrap().partition_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_absent_topic_is_an_error() {
    let cluster = Cluster::new().await;
    let settings = log_settings(Isolation::ReadCommitted);
    let error = TopicLog::open(cluster.backend.clone(), "nowhere", settings, Seen::default()).await.err().unwrap();
    assert!(matches!(error, LogError::Unusable { .. }), "{error}");
}

async fn lost(log: &TopicLog) -> String {
    tokio::time::timeout(2 * PARTITIONS_LOOK_INTERVAL, log.lost()).await.expect("it is noticed").to_string()
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_got_more_partitions_is_noticed_by_a_look_and_by_an_answer() {
    for topic in ["status", "configs", "offsets"] {
        let cluster = Cluster::new().await;
        let (log, _) = open(&cluster, topic).await;
        let before = log.partition_count();
        cluster.hooks().grow(topic, 30);
        let reason = lost(&log).await;
        assert!(reason.contains(&format!("30 partitions now and had {before}")), "{reason}");
    }
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    cluster.hooks().grow("status", 8);
    let elsewhere = ProducerRecord { partition: Some(6), ..record(1) };
    let error = log.append(vec![record(1), elsewhere], LIMIT).await.unwrap_err();
    assert!(matches!(error, LogError::Lost { .. }), "{error}");
    log.read_to_end(LIMIT).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn partitions_are_counted_at_once_when_it_is_asked_for() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    cluster.hooks().grow("status", 8);
    let began = tokio::time::Instant::now();
    log.look_at_partitions();
    lost(&log).await;
    assert!(began.elapsed() < PARTITIONS_LOOK_INTERVAL / 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_reason_to_read_a_topic_anew() {
    let cluster = Cluster::new().await;
    let (log, _) = open(&cluster, "status").await;
    cluster.faults().set_down(true);
    tokio::time::timeout(10 * PARTITIONS_LOOK_INTERVAL, log.lost()).await.unwrap_err();
    cluster.faults().set_down(false);
    tokio::time::timeout(10 * PARTITIONS_LOOK_INTERVAL, log.lost()).await.unwrap_err();
    log.read_to_end(LIMIT).await.unwrap();
}

/// Crashes when it is given a record.
struct Crashes;

#[async_trait]
impl Fold for Crashes {
    async fn fold(&mut self, batch: &ReadBatch, _positions: &[i64]) {
        assert!(batch.records.is_empty(), "on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_crashes_is_the_end_of_the_log() {
    let cluster = Cluster::new().await;
    let settings = log_settings(Isolation::ReadCommitted);
    let log = TopicLog::open(cluster.backend.clone(), "status", settings, Crashes).await.unwrap();
    log.append(vec![record(1)], LIMIT).await.unwrap();
    let reason = lost(&log).await;
    assert!(reason.contains("its reader crashed (on purpose)"), "{reason}");
}
