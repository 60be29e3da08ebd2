//! Many partitions and many readers: what they keep in memory, and whom a change wakes.

use std::collections::BTreeMap;
use std::pin::pin;

use tokio::sync::Notify;

use super::*;
use crate::backend::embedded::in_hand::MAX_IN_HAND_BYTES;
use crate::backend::embedded::meta::{Effect, Meta};
use crate::backend::embedded::view::View;

const PARTITIONS: i32 = 16;
/// Records of each partition, and their bytes: all partitions together have a multiple of what may be in hand.
const RECORDS: i64 = 10;
const RECORD_BYTES: usize = 100_000;
/// What one read of the store takes, and what one that is under way counts beside it.
const SLACK_BYTES: usize = 3 << 20;

async fn filled(disk: &SimulatedDisk) -> EmbeddedBackend {
    let backend = start(disk).unwrap();
    let topic = NewTopic { name: TOPIC.into(), partitions: PARTITIONS, replication_factor: 1, config: BTreeMap::new() };
    backend.admin().create_topic(&topic).await.unwrap();
    let (writer, value) = (writer(&backend), "v".repeat(RECORD_BYTES));
    for partition in 0..PARTITIONS {
        let record = ProducerRecord { partition: Some(partition), ..keyed("k", Some(&value), i64::MAX >> 1) };
        send(&writer, &vec![record; RECORDS as usize]).await;
    }
    backend
}

/// Reads all, few at a time, with pauses of what was read, and expects all in order.
async fn check_all(backend: &EmbeddedBackend) {
    let before = backend.store.in_hand.bytes();
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    let all: Vec<_> = (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
    let from: Vec<_> = all.iter().map(|at| (at.clone(), StartOffset::Beginning)).collect();
    reader.assign(&from).unwrap();
    let (mut batch, mut next) = (ReadBatch::default(), BTreeMap::new());
    while all.iter().any(|at| reader.position(at) != Some(RECORDS)) {
        reader.read(&mut batch, 3, PATIENCE).await.unwrap();
        assert!(!batch.records.is_empty() || !batch.ends.is_empty(), "nothing came, at {next:?}");
        let mut read = Vec::new();
        for record in &batch.records {
            let at = batch.partition(record).clone();
            let next = next.entry(at.partition).or_insert(0);
            assert_eq!(record.offset, *next, "{at:?}");
            *next += 1;
            read.push(at);
        }
        let in_hand = backend.store.in_hand.bytes();
        assert!(in_hand <= MAX_IN_HAND_BYTES + SLACK_BYTES, "{in_hand} bytes are in hand");
        reader.resume(&all).unwrap();
        // Until each had its turn, those that had it are put aside.
        if next.len() < all.len() {
            reader.pause(&read).unwrap();
        }
    }
    drop(reader);
    assert_eq!(backend.store.in_hand.bytes(), before);
}

#[tokio::test]
async fn rows_in_hand_have_a_bound_for_all_partitions_together() {
    let disk = SimulatedDisk::new();
    let backend = filled(&disk).await;
    check_all(&backend).await;
    drop(backend);
    // Opened anew it has nothing in memory: all comes from the store.
    check_all(&start(&disk).unwrap()).await;
}

#[tokio::test]
async fn a_reader_without_rows_goes_on_where_others_have_all_that_there_is() {
    let disk = SimulatedDisk::new();
    drop(filled(&disk).await);
    let backend = start(&disk).unwrap();
    let _others = backend.store.in_hand.share(MAX_IN_HAND_BYTES);
    check_all(&backend).await;
}

fn is_woken(notify: &Notify) -> bool {
    let notified = pin!(notify.notified());
    notified.enable()
}

#[test]
fn a_topic_that_comes_or_goes_wakes_those_that_read_it() {
    let mut view = View::new(Meta::default());
    let (waits, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    view.watch(&TopicPartition::new(TOPIC, 0), &waits);
    view.watch(&TopicPartition::new("other", 0), &other);
    let created = Effect::TopicCreated { name: TOPIC.into(), id: 1, partitions: 1, config: BTreeMap::new() };
    view.apply(&[created]);
    assert_eq!((is_woken(&waits), is_woken(&other)), (true, false));
    view.apply(&[Effect::TopicDeleted { name: TOPIC.into(), id: 1 }]);
    assert_eq!((is_woken(&waits), is_woken(&other)), (true, false));
}

#[tokio::test]
async fn nobody_is_woken_who_reads_no_more() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    let at = |partition| (TopicPartition::new(TOPIC, partition), StartOffset::Beginning);
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[at(0), at(1), at(2)]).unwrap();
    reader.remove(&[at(1).0]).unwrap();
    assert_eq!(backend.store.view().watchers(), 2);
    reader.assign(&[at(7)]).unwrap();
    assert_eq!(backend.store.view().watchers(), 1);
    drop(reader);
    assert_eq!(backend.store.view().watchers(), 0);
}
