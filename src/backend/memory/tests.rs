//! Faults and hooks; what both implementations do is in the contract (tests/it/backend.rs).

use std::time::Duration;

use bytes::Bytes;
use connect_api::TopicPartition;
use tokio::time::Instant;

use super::*;
use crate::backend::{Ack, BackendError, ProducerRecord, ReadBatch, StartOffset};

const SECOND: Duration = Duration::from_secs(1);

fn record(key: &'static str, value: &'static str) -> ProducerRecord {
    ProducerRecord::keyed("topic", key, Some(Bytes::from_static(value.as_bytes())))
}

fn writer(backend: &Arc<dyn Backend>) -> Arc<dyn RecordWriter> {
    backend.writer(&ClientSettings::new(), 1000).unwrap()
}

fn reader(backend: &Arc<dyn Backend>) -> Box<dyn RecordReader> {
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition::new("topic", 0), StartOffset::Beginning)]).unwrap();
    reader
}

fn acks(writer: &Arc<dyn RecordWriter>) -> Vec<Ack> {
    let mut acks = Vec::new();
    writer.take_acks(&mut acks);
    acks
}

/// The values that come within a second.
async fn values(reader: &mut Box<dyn RecordReader>) -> Vec<String> {
    let (mut batch, mut values) = (ReadBatch::default(), Vec::new());
    let deadline = Instant::now() + SECOND;
    while Instant::now() < deadline {
        reader.read(&mut batch, 100, deadline - Instant::now()).await.unwrap();
        let texts =
            batch.records.iter().map(|record| String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned());
        values.extend(texts);
    }
    values
}

#[tokio::test(start_paused = true)]
async fn held_appends_are_purged_and_held_acks_are_not() {
    let backend = open("held");
    let writer = writer(&backend);
    faults("held").hold_appends(true);
    writer.send(&[record("a", "1"), record("a", "2")]).unwrap();
    assert_eq!((acks(&writer).len(), writer.in_flight()), (0, 2));
    writer.purge();
    assert!(matches!(
        acks(&writer)[..],
        [
            Ack::Failed { sequence: 0, error: BackendError::Purged },
            Ack::Failed { sequence: 1, error: BackendError::Purged },
        ]
    ));
    faults("held").hold_appends(false);
    faults("held").hold_acks(true);
    writer.send(&[record("a", "3")]).unwrap();
    writer.purge();
    assert_eq!((acks(&writer).len(), writer.in_flight()), (0, 1));
    assert_eq!(values(&mut reader(&backend)).await, ["3"]);
    faults("held").hold_acks(false);
    assert!(matches!(acks(&writer)[..], [Ack::Delivered { first: 2, count: 1, partition: 0, offset: 0 }]));
}

#[tokio::test(start_paused = true)]
async fn delays_are_delays() {
    let backend = open("delays");
    let writer = writer(&backend);
    let begun = Instant::now();
    faults("delays").delay_appends(SECOND);
    faults("delays").delay_acks(2 * SECOND);
    writer.send(&[record("a", "1")]).unwrap();
    writer.send(&[record("a", "2")]).unwrap();
    let mut reader = reader(&backend);
    let mut batch = ReadBatch::default();
    while batch.records.is_empty() {
        // The topic's end at 0 is reported before.
        reader.read(&mut batch, 100, 10 * SECOND).await.unwrap();
    }
    assert!(begun.elapsed() >= SECOND && begun.elapsed() < SECOND + SECOND / 2, "{:?}", begun.elapsed());
    writer.flush(10 * SECOND).await.unwrap();
    assert!(begun.elapsed() >= 3 * SECOND && begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    assert!(matches!(acks(&writer)[..], [Ack::Delivered { first: 0, count: 2, .. }]));
}

#[tokio::test(start_paused = true)]
async fn refused_and_lost() {
    let backend = open("refused");
    let writer = writer(&backend);
    faults("refused").refuse_appends(1, BackendError::Refused("no".into()));
    faults("refused").lose_acks(1);
    writer.send(&[record("a", "1"), record("a", "2"), record("a", "3")]).unwrap();
    let acks = acks(&writer);
    assert!(
        matches!(
            acks[..],
            [
                Ack::Failed { sequence: 0, error: BackendError::Refused(_) },
                Ack::Failed { sequence: 1, error: BackendError::Retriable(_) },
                Ack::Delivered { first: 2, count: 1, offset: 1, .. },
            ]
        ),
        "{acks:?}"
    );
    assert_eq!(values(&mut reader(&backend)).await, ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_fatal_refusal_breaks_the_client_and_the_next_writer_has_a_new_one() {
    let backend = open("fatal");
    let [broken, shared] = [(); 2].map(|()| writer(&backend));
    faults("fatal").hold_appends(true);
    faults("fatal").refuse_appends(1, BackendError::Fatal("broken".into()));
    broken.send(&[record("a", "1")]).unwrap();
    shared.send(&[record("a", "2")]).unwrap();
    faults("fatal").hold_appends(false);
    for writer in [&broken, &shared] {
        assert!(matches!(acks(writer)[..], [Ack::Failed { sequence: 0, error: BackendError::Fatal(_) }]));
        assert!(matches!(writer.send(&[record("a", "3")]), Err(BackendError::Fatal(_))));
    }
    assert_eq!(writer(&backend).send(&[record("a", "4")]).unwrap(), 1);
    assert_eq!(values(&mut reader(&backend)).await, ["4"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_down_answers_nothing_and_forgets_nothing() {
    let backend = open("down");
    let writer = writer(&backend);
    writer.send(&[record("a", "1")]).unwrap();
    let mut reader = reader(&backend);
    faults("down").set_down(true);
    writer.send(&[record("a", "2")]).unwrap();
    assert!(matches!(writer.flush(SECOND).await, Err(BackendError::Retriable(_))));
    assert_eq!(values(&mut reader).await, [""; 0]);
    let begun = Instant::now();
    let asked = reader.end_offsets(&[TopicPartition::new("topic", 0)], SECOND).await;
    assert!(matches!(asked, Err(BackendError::Retriable(_))), "{asked:?}");
    assert!(begun.elapsed() >= SECOND && begun.elapsed() < 2 * SECOND);
    assert!(matches!(backend.admin().cluster_id().await, Err(BackendError::Retriable(_))));
    let coming = tokio::spawn(async move { values(&mut reader).await });
    tokio::task::yield_now().await;
    faults("down").set_down(false);
    writer.flush(SECOND).await.unwrap();
    assert_eq!(coming.await.unwrap(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_offsets_and_the_last_records() {
    let backend = open("compaction");
    writer(&backend).send(&[record("a", "1"), record("b", "1"), record("a", "2")]).unwrap();
    let tombstone = ProducerRecord::keyed("topic", "b", None);
    writer(&backend).send(&[tombstone, record("c", "1")]).unwrap();
    hooks("compaction").compact_tombstones("topic");
    let mut reader = reader(&backend);
    let mut batch = ReadBatch::default();
    reader.read(&mut batch, 100, SECOND).await.unwrap();
    assert_eq!(batch.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(batch.ends, [(TopicPartition::new("topic", 0), 5)]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_notices_that_its_log_was_cut_or_made_anew() {
    let backend = open("anew");
    let write = || writer(&backend).send(&[record("a", "1"), record("a", "2")]).unwrap();
    write();
    let mut cut = reader(&backend);
    assert_eq!(values(&mut cut).await.len(), 2);
    hooks("anew").lose_from("topic", 0, 1);
    let error = cut.read(&mut ReadBatch::default(), 10, SECOND).await;
    assert!(matches!(error, Err(BackendError::OffsetOutOfRange(_))), "{error:?}");
    let mut anew = reader(&backend);
    assert_eq!(values(&mut anew).await.len(), 1);
    backend.admin().delete_topic("topic").await.unwrap();
    write();
    let error = anew.read(&mut ReadBatch::default(), 10, SECOND).await;
    assert!(matches!(error, Err(BackendError::OffsetOutOfRange(_))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_with_members_keeps_its_offsets() {
    let backend = open("members");
    let stable = GroupDescription { state: "Stable".into(), protocol_type: "connect".into(), members: 2 };
    hooks("members").set_group("group", Some(stable.clone()));
    let offsets = [(TopicPartition::new("topic", 0), 1)];
    let committed = backend.committed_offsets().commit("group", &offsets).await;
    assert!(matches!(committed, Err(BackendError::Refused(_))), "{committed:?}");
    assert_eq!(backend.admin().describe_group("group").await.unwrap(), Some(stable));
}
