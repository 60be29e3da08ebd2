//! A disk without room: nothing that was acknowledged is lost, and it goes on when there is room again.

use super::upkeep::{NOW, try_upkeep};
use super::*;
use crate::backend::BackendError;

fn refusal(acks: &[Ack]) -> String {
    match acks {
        [Ack::Failed { sequence: _, error: error @ BackendError::Retriable(_) }] => error.to_string(),
        acks => panic!("{acks:?}"),
    }
}

async fn fills_up(fill: impl Fn(&SimulatedDisk, bool), readable_while_full: bool) {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let writer = writer(&backend);
    send(&writer, &[keyed("k", Some("first"), 1)]).await;
    fill(&disk, true);
    for _ in 0..3 {
        let error = refusal(&send(&writer, &[keyed("k", Some("lost"), 2)]).await);
        assert!(error.contains("/simulated/store.redb"), "{error}");
        let commit = backend.committed_offsets().commit("group", &[(TopicPartition::new(TOPIC, 0), 1)]).await;
        assert_eq!(commit.is_ok(), readable_while_full, "{commit:?}");
    }
    // Recent rows are readable in any case.
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["first"]);
    fill(&disk, false);
    let acks = send(&writer, &[keyed("k", Some("second"), 3)]).await;
    assert!(matches!(acks[..], [Ack::Delivered { count: 1, offset: 1, .. }]), "{acks:?}");
    let commit = backend.committed_offsets().commit("group", &[(TopicPartition::new(TOPIC, 0), 2)]).await;
    commit.unwrap();
    let again = start(&disk.cut(|_| false)).unwrap();
    assert_eq!(values(&again, Isolation::ReadCommitted).await, ["first", "second"]);
    let at = [TopicPartition::new(TOPIC, 0)];
    assert_eq!(again.committed_offsets().committed("group", &at).await.unwrap(), [Some(2)]);
}

#[tokio::test]
async fn room_is_looked_at_before_records_are_written_and_offsets_still_fit() {
    fills_up(|disk, full| disk.set_free(if full { 1_000_000 } else { u64::MAX }), true).await;
}

#[tokio::test]
async fn a_write_that_fails_half_way_is_undone() {
    fills_up(SimulatedDisk::set_full, false).await;
}

/// What makes room is among the commands: it must not share the fate of records that come at the same time.
#[tokio::test]
async fn offsets_fit_beside_records_that_do_not() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let (one, two, offsets) = (writer(&backend), writer(&backend), backend.committed_offsets());
    send(&one, &[keyed("k", Some("first"), 1)]).await;
    disk.set_free(1_000_000);
    for offset in 0..3 {
        let (lost, at) = ([keyed("k", Some("lost"), 2)], [(TopicPartition::new(TOPIC, 0), offset)]);
        let (first, second, commit) = tokio::join!(send(&one, &lost), send(&two, &lost), offsets.commit("group", &at));
        assert!([first, second].iter().all(|acks| refusal(acks).contains("/simulated/store.redb")));
        commit.unwrap();
    }
    backend.admin().delete_topic(TOPIC).await.unwrap();
}

#[tokio::test]
async fn offsets_fit_beside_rows_of_transactions_that_do_not() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let (offsets, settings) = (backend.committed_offsets(), ClientSettings::new());
    let transaction = backend.transactional_writer(&settings, "id", PATIENCE).await.unwrap();
    transaction.begin().unwrap();
    disk.set_free(1_000_000);
    let (lost, at) = ([keyed("k", Some("lost"), 1)], [(TopicPartition::new(TOPIC, 0), 1)]);
    // The last two wait for the first, and become one group.
    let held = disk.hold_next_sync();
    let release = async {
        held.reached().await;
        drop(held);
    };
    let (first, sent, second, ()) =
        tokio::join!(offsets.commit("one", &at), transaction.send(&lost), offsets.commit("two", &at), release);
    assert!(matches!(&sent, Err(BackendError::Retriable(text)) if text.contains("cannot grow")), "{sent:?}");
    first.and(second).unwrap();
    transaction.abort(PATIENCE).await.unwrap();
    disk.set_free(u64::MAX);
    transaction.begin().unwrap();
    transaction.send(&lost).await.unwrap();
    transaction.commit(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn compaction_waits_for_room_as_well() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    create(&backend, &[("cleanup.policy", "compact")]).await;
    send(&writer(&backend), &[keyed("a", Some("1"), 1), keyed("a", Some("2"), 1)]).await;
    disk.set_free(1_000_000);
    let error = try_upkeep(&backend, NOW).await.unwrap_err().to_string();
    assert!(error.contains("cannot grow"), "{error}");
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["1", "2"]);
    disk.set_free(u64::MAX);
    try_upkeep(&backend, NOW).await.unwrap();
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["2"]);
}

/// Records of the topic that is deleted; they have more bytes than are left free.
const DELETED_RECORDS: usize = 160;

#[tokio::test]
async fn what_a_deleted_topic_left_is_no_room_before_it_is_removed() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let writer = writer(&backend);
    let record = [keyed("k", Some(&"v".repeat(LARGE_BYTES)), NOW)];
    for _ in 0..DELETED_RECORDS {
        send(&writer, &record).await;
    }
    disk.set_free(0);
    // What the file has beyond them.
    while matches!(send(&writer, &record).await[..], [Ack::Delivered { .. }]) {}
    let other = [ProducerRecord { topic: "other".into(), ..keyed("k", Some(&"v".repeat(LARGE_BYTES)), NOW) }];
    backend.admin().delete_topic(TOPIC).await.unwrap();
    refusal(&send(&writer, &other).await);
    let deleted = backend.store.view().meta.deleted.clone();
    assert!(deleted.values().all(|bytes| *bytes > (DELETED_RECORDS * LARGE_BYTES) as u64), "{deleted:?}");
    // It is known as well after the store was opened anew.
    let disk = disk.cut(|_| true);
    disk.set_free(0);
    let backend = start(&disk).unwrap();
    assert_eq!(backend.store.view().meta.deleted, deleted);
    try_upkeep(&backend, NOW).await.unwrap();
    let acks = send(&super::writer(&backend), &other).await;
    assert!(matches!(acks[..], [Ack::Delivered { .. }]), "{acks:?}");
}
