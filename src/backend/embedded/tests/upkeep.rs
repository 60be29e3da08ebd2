//! Retention, compaction, deleted topics.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::reader::{EmbeddedReader, Look};
use super::super::upkeep::Thoroughness;
use super::*;
use crate::backend::RecordReader;

/// The moment at which upkeep runs.
pub const NOW: i64 = 1_000_000;

pub async fn try_upkeep(backend: &EmbeddedBackend, now: i64) -> Result<()> {
    let store = Arc::clone(&backend.store);
    let run = move || store.upkeep.run(&store, now, Thoroughness::All);
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn run_upkeep(backend: &EmbeddedBackend, now: i64) {
    try_upkeep(backend, now).await.unwrap();
}

fn offsets(records: &[(i64, String, Option<String>)]) -> Vec<i64> {
    records.iter().map(|(offset, ..)| *offset).collect()
}

#[tokio::test]
async fn retention_by_time_and_by_size_removes_from_the_beginning() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    create(&backend, &[("retention.ms", "1000")]).await;
    for (value, timestamp) in [("old", 1), ("young", NOW), ("old but behind", 2)] {
        send(&writer(&backend), &[keyed("k", Some(value), timestamp)]).await;
    }
    run_upkeep(&backend, NOW).await;
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["young", "old but behind"]);
    let reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    let at = [TopicPartition::new(TOPIC, 0)];
    assert_eq!(reader.beginning_offsets(&at, PATIENCE).await.unwrap(), [1]);
    backend.admin().set_topic_setting(TOPIC, "retention.ms", "-1").await.unwrap();
    let bytes = backend.store.view().meta.partition(&at[0]).unwrap().bytes;
    backend.admin().set_topic_setting(TOPIC, "retention.bytes", &(bytes / 3).to_string()).await.unwrap();
    run_upkeep(&backend, NOW).await;
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["old but behind"]);
    backend.admin().set_topic_setting(TOPIC, "retention.bytes", "0").await.unwrap();
    run_upkeep(&backend, NOW).await;
    assert_eq!(reader.beginning_offsets(&at, PATIENCE).await.unwrap(), [3]);
    assert_eq!(backend.store.view().meta.partition(&at[0]).unwrap().bytes, 0);
}

#[tokio::test]
async fn a_reader_behind_retention_is_out_of_range() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    create(&backend, &[("retention.ms", "1000")]).await;
    send(&writer(&backend), &[keyed("k", Some("old"), 1)]).await;
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition::new(TOPIC, 0), StartOffset::Beginning)]).unwrap();
    run_upkeep(&backend, NOW).await;
    let error = reader.read(&mut ReadBatch::default(), 10, PATIENCE).await;
    assert!(matches!(error, Err(crate::backend::BackendError::OffsetOutOfRange(_))), "{error:?}");
}

#[tokio::test]
async fn tombstones_stay_for_their_time_and_aborted_records_go() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    create(&backend, &[("cleanup.policy", "compact"), ("delete.retention.ms", "500")]).await;
    let aborted = backend.transactional_writer(&ClientSettings::new(), "id", PATIENCE).await.unwrap();
    aborted.begin().unwrap();
    aborted.send(&[keyed("a", Some("aborted"), 1)]).await.unwrap();
    aborted.abort(PATIENCE).await.unwrap();
    let writer = writer(&backend);
    send(&writer, &[keyed("a", Some("1"), 1), keyed("b", Some("2"), 1), keyed("a", None, 1)]).await;
    run_upkeep(&backend, NOW).await;
    let left = all(&backend, Isolation::ReadUncommitted).await;
    assert_eq!(offsets(&left), [3, 4]);
    assert!(backend.store.view().meta.partition(&TopicPartition::new(TOPIC, 0)).unwrap().aborted.is_empty());
    // There is something to do again, but the tombstone's time is not over.
    send(&writer, &[keyed("c", Some("3"), 1)]).await;
    run_upkeep(&backend, NOW + 499).await;
    assert_eq!(offsets(&all(&backend, Isolation::ReadCommitted).await), [3, 4, 5]);
    send(&writer, &[keyed("c", Some("4"), 1)]).await;
    run_upkeep(&backend, NOW + 500).await;
    let left = all(&backend, Isolation::ReadCommitted).await;
    assert_eq!(left, [(3, "b".into(), Some("2".into())), (6, "c".into(), Some("4".into()))]);
}

#[tokio::test]
async fn aborted_records_stay_hidden_where_compaction_takes_them_while_they_are_read() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    create(&backend, &[("cleanup.policy", "compact")]).await;
    let aborted = backend.transactional_writer(&ClientSettings::new(), "id", PATIENCE).await.unwrap();
    aborted.begin().unwrap();
    aborted.send(&[keyed("a", Some("aborted"), 1)]).await.unwrap();
    aborted.abort(PATIENCE).await.unwrap();
    send(&writer(&backend), &[keyed("b", Some("kept"), 1)]).await;
    drop((aborted, backend));
    // Opened anew it has nothing in memory to read from.
    let backend = start(&disk).unwrap();
    let mut reader = EmbeddedReader::new(Arc::clone(&backend.store), Isolation::ReadCommitted);
    reader.assign(&[(TopicPartition::new(TOPIC, 0), StartOffset::Beginning)]).unwrap();
    let mut batch = ReadBatch::default();
    let (at, look) = reader.fill(&mut batch, 10).unwrap()[0];
    let Look::Store { id, from, to, .. } = look else { panic!("it looks into the store: {look:?}") };
    let rows = backend.store.read(|store| store.rows(id, 0, from, to, usize::MAX)).unwrap();
    run_upkeep(&backend, NOW).await;
    reader.accept(at, look, rows);
    reader.read(&mut batch, 10, PATIENCE).await.unwrap();
    assert_eq!(batch.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn an_open_transaction_is_not_compacted() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    create(&backend, &[("cleanup.policy", "compact")]).await;
    let writer = writer(&backend);
    send(&writer, &[keyed("a", Some("1"), 1), keyed("a", Some("2"), 1)]).await;
    let open = backend.transactional_writer(&ClientSettings::new(), "id", PATIENCE).await.unwrap();
    open.begin().unwrap();
    open.send(&[keyed("a", Some("3"), 1)]).await.unwrap();
    send(&writer, &[keyed("a", Some("4"), 1)]).await;
    run_upkeep(&backend, NOW).await;
    assert_eq!(offsets(&all(&backend, Isolation::ReadUncommitted).await), [1, 2, 3]);
    open.commit(PATIENCE).await.unwrap();
    run_upkeep(&backend, NOW).await;
    assert_eq!(offsets(&all(&backend, Isolation::ReadUncommitted).await), [3]);
}

#[tokio::test]
async fn the_rows_of_a_deleted_topic_are_removed() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    for _ in 0..3 {
        send(&writer(&backend), &[keyed("k", Some("v"), NOW)]).await;
    }
    let id = backend.store.view().meta.topics[TOPIC].id;
    backend.admin().delete_topic(TOPIC).await.unwrap();
    assert_eq!(backend.store.engine.store.rows_left(id, 10).unwrap().0.len(), 3);
    run_upkeep(&backend, NOW).await;
    assert_eq!(backend.store.engine.store.rows_left(id, 10).unwrap(), (Vec::new(), 0));
    assert!(backend.store.view().meta.deleted.is_empty());
}

#[tokio::test]
async fn what_was_forgotten_is_not_remembered_by_its_age() {
    let backend = start(&SimulatedDisk::new()).unwrap();
    create(&backend, &[("retention.ms", "1000")]).await;
    for round in 0..30 {
        let writer = writer(&backend);
        for at in 0..100 {
            send(&writer, &[keyed("k", Some("v"), at)]).await;
        }
        run_upkeep(&backend, NOW).await;
        assert!(backend.store.view().ages() < 2000, "round {round}: {} ages are kept", backend.store.view().ages());
    }
}

/// A record to write: key, age in milliseconds, whether it is a tombstone, whether a new row begins.
type Draw = (u8, i64, bool, bool);

async fn check_compaction(draws: Vec<Draw>, lag: i64) -> Result<(), TestCaseError> {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    create(&backend, &[("cleanup.policy", "compact"), ("min.compaction.lag.ms", &lag.to_string())]).await;
    let writer = writer(&backend);
    let mut written = Vec::new();
    let (mut row, mut rows): (Vec<ProducerRecord>, _) = (Vec::new(), 0);
    for (key, age, is_tombstone, begins) in draws {
        let (key, value) = (key.to_string(), (!is_tombstone).then(|| written.len().to_string()));
        if begins && !row.is_empty() {
            send(&writer, &std::mem::take(&mut row)).await;
            rows += 1;
            if rows % 4 == 3 {
                run_upkeep(&backend, NOW).await;
            }
        }
        row.push(keyed(&key, value.as_deref(), NOW - age));
        written.push((written.len() as i64, key, value, age));
    }
    send(&writer, &row).await;
    run_upkeep(&backend, NOW).await;
    let (found, count) = (all(&backend, Isolation::ReadCommitted).await, written.len() as i64);
    let last: BTreeMap<&String, i64> = written.iter().map(|(offset, key, ..)| (key, *offset)).collect();
    let kept: BTreeSet<i64> = found.iter().map(|(offset, ..)| *offset).collect();
    prop_assert!(last.values().all(|offset| kept.contains(offset)), "the last record of a key is gone");
    prop_assert!(
        written.iter().all(|(offset, .., age)| *age >= lag || kept.contains(offset)),
        "a young record is gone"
    );
    prop_assert!(found.is_sorted_by(|one, two| one.0 < two.0));
    for (offset, key, value) in &found {
        let (_, key_written, value_written, _) = &written[*offset as usize];
        prop_assert_eq!((key, value), (key_written, value_written));
    }
    if lag == 0 {
        prop_assert_eq!(kept, last.into_values().collect::<BTreeSet<_>>());
    }
    let acks = send(&writer, &[keyed("end", Some(""), NOW)]).await;
    prop_assert!(matches!(acks[..], [Ack::Delivered { offset, .. }] if offset == count), "offsets keep their gaps");
    // The same after the store was opened anew, without what readers saw a moment ago.
    let again = start(&disk.cut(|_| false)).unwrap();
    prop_assert_eq!(&all(&again, Isolation::ReadCommitted).await[..found.len()], &found[..]);
    prop_assert_eq!(&again.store.view().meta.topics, &backend.store.view().meta.topics);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn compaction_keeps_the_last_record_of_each_key_and_all_young_ones(
        draws in proptest::collection::vec((0..6u8, 0..200i64, prop::bool::weighted(0.2), prop::bool::weighted(0.4)), 1..60),
        lag in prop_oneof![Just(0i64), Just(100)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_compaction(draws, lag))?;
    }
}
