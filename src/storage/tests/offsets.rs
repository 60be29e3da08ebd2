use connect_api::{ErrorKind, FieldMap, OffsetStorageReader, SourceOffset, SourcePartition, Value};

use super::super::offset_store::{ConnectorOffsets, OffsetError, OffsetStore, TopicOffsetStore};
use super::*;
use crate::backend::ProducerRecord;

async fn open(cluster: &Cluster) -> TopicOffsetStore {
    let settings = log_settings(Isolation::ReadUncommitted);
    TopicOffsetStore::open(cluster.backend.clone(), "offsets", settings).await.unwrap()
}

fn partition(shard: i32) -> SourcePartition {
    Arc::new(FieldMap::new().with("zeta", shard).with("alpha", "x"))
}

fn offset(position: i64) -> SourceOffset {
    Arc::new(FieldMap::new().with("n", position))
}

/// Writes a record as somebody else does.
async fn foreign(store: &TopicOffsetStore, key: &'static str, value: Option<&'static str>) {
    let record = ProducerRecord::keyed("offsets", key, value.map(Into::into));
    store.log().append(vec![record], LIMIT).await.unwrap();
    store.log().read_to_end(LIMIT).await.unwrap();
}

fn keys(store: &TopicOffsetStore, partition: SourcePartition, offset: Option<SourceOffset>) -> Vec<String> {
    let records = store.records("c", &[(partition, offset)]).unwrap();
    records.into_iter().map(|record| String::from_utf8(record.key.unwrap().to_vec()).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_anywhere() {
    let cluster = Cluster::new().await;
    let (store, other) = (open(&cluster).await, open(&cluster).await);
    let entries = [(partition(0), Some(offset(5))), (partition(1), Some(offset(6)))];
    store.write("c", &entries, LIMIT).await.unwrap();
    let reader = ConnectorOffsets::new(Arc::new(other), "c");
    let asked = [partition(1), partition(2), partition(0)];
    assert_eq!(reader.offsets(&asked).await.unwrap(), [Some(offset(6)), None, Some(offset(5))]);
    assert_eq!(store.read("d", &asked).await.unwrap(), [None, None, None]);
    assert_eq!(open(&cluster).await.all("c").await.unwrap().len(), 2);
    store.write("c", &[(partition(1), None)], LIMIT).await.unwrap();
    assert_eq!(reader.offset(&partition(1)).await.unwrap(), None);
    assert_eq!(store.all("c").await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_known_partition_is_used_again() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    assert_eq!(keys(&store, partition(0), Some(offset(1))), [r#"["c",{"zeta":0,"alpha":"x"}]"#]);
    foreign(&store, r#"["c",{"alpha":"x","zeta":0}]"#, Some(r#"{"n":3}"#)).await;
    assert_eq!(keys(&store, partition(0), Some(offset(1))), [r#"["c",{"alpha":"x","zeta":0}]"#]);
    assert_eq!(store.read("c", &[partition(0)]).await.unwrap(), [Some(offset(3))]);
    // Where the very key is there as well, it counts, as for Java.
    foreign(&store, r#"["c",{"zeta":0,"alpha":"x"}]"#, Some(r#"{"n":2}"#)).await;
    foreign(&store, r#"["c",{"alpha":"x","zeta":0}]"#, Some(r#"{"n":4}"#)).await;
    assert_eq!(store.read("c", &[partition(0)]).await.unwrap(), [Some(offset(2))]);
    assert_eq!(keys(&store, partition(0), Some(offset(1))), [r#"["c",{"zeta":0,"alpha":"x"}]"#]);
    // To forget a partition is to forget it under all its keys.
    assert_eq!(keys(&store, partition(0), None).len(), 2);
    store.write("c", &[(partition(0), None)], LIMIT).await.unwrap();
    assert_eq!(store.read("c", &[partition(0)]).await.unwrap(), [None]);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_no_offsets_are_passed_over() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    for key in ["\"x\"", "{}", r#"["c",{},1]"#, r#"["c",null]"#, r#"[1,{}]"#, "[", ""] {
        foreign(&store, key, Some(r#"{"n":1}"#)).await;
    }
    foreign(&store, r#"["c",{"zeta":0,"alpha":"x"}]"#, Some("7")).await;
    assert!(store.all("c").await.unwrap().is_empty());
    foreign(&store, r#"["c",{}]"#, Some(r#"{"n":1}"#)).await;
    assert_eq!(store.all("c").await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_has_no_json_form_is_refused_and_nothing_written() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    let odd: SourcePartition = Arc::new(FieldMap::new().with("day", Value::Date(3)));
    let entries = [(partition(0), Some(offset(5))), (odd.clone(), Some(offset(5)))];
    let error = store.write("c", &entries, LIMIT).await.unwrap_err();
    assert!(matches!(error, OffsetError::Unstorable { .. }), "{error}");
    assert!(store.all("c").await.unwrap().is_empty());
    let error = ConnectorOffsets::new(Arc::new(store), "c").offset(&odd).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_a_retriable_error() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    cluster.faults().set_down(true);
    let error = store.write("c", &[(partition(0), Some(offset(5)))], LIMIT).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    let error = ConnectorOffsets::new(Arc::new(store), "c").offset(&partition(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retriable);
}

/// Brokers take a second for each answer; one after the other, these would take minutes.
#[tokio::test(start_paused = true)]
async fn offsets_of_many_connectors_are_written_together() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    cluster.faults().delay_acks(Duration::from_secs(1));
    let began = tokio::time::Instant::now();
    let names: Vec<String> = (0..200).map(|number| format!("c-{number}")).collect();
    let entries = [(partition(0), Some(offset(5)))];
    for written in futures_util::future::join_all(names.iter().map(|name| store.write(name, &entries, LIMIT))).await {
        written.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
