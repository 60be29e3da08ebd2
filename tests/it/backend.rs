//! The contract of the backend: one suite, run on every implementation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connect_node::backend::partitioner::partition_for_key;
use connect_node::backend::{
    Ack, Backend, BackendError, ClientSettings, Isolation, NewTopic, ProducerRecord, ReadBatch, RecordReader,
    RecordWriter, StartOffset, TopicPartition,
};

use crate::support::unique;

/// Long enough for a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that a handle may have in flight where a test does not care.
const ROOM: usize = 8 << 20;

type Subject = Arc<dyn Backend>;

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    super::$case(connect_node::backend::memory::open(stringify!($case))).await;
                }
            )*
        }

        mod embedded {
            $(
                #[tokio::test]
                async fn $case() {
                    let directory = tempfile::tempdir().unwrap();
                    super::$case(connect_node::backend::embedded::open(directory.path()).unwrap()).await;
                }
            )*
        }

        mod kafka {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let bootstrap = crate::support::broker().await.bootstrap();
                    let settings = connect_node::backend::ClientSettings::new();
                    let backend = connect_node::backend::kafka::open(bootstrap, &settings).unwrap();
                    super::$case(backend).await;
                }
            )*
        }
    };
}

/// Runs the cases that are about reading, and more, by one of the macros here.
macro_rules! reading_and {
    ($run:ident: $($more:ident),* $(,)?) => {
        $run!(
            keeps_order_and_reports_offsets,
            keeps_headers_timestamps_and_nulls,
            starts_where_it_is_told,
            reports_every_arrival_at_the_end,
            a_read_without_records_ends_in_time,
            a_dropped_read_loses_nothing,
            pauses_and_resumes,
            pauses_at_the_end_and_skips_nothing,
            seeks_also_where_paused,
            adds_and_removes_partitions,
            reads_in_bounded_batches,
            says_when_an_offset_is_out_of_range,
            reads_on_beside_a_lost_position,
            reads_on_beside_a_deleted_topic,
            isolates_open_and_aborted_transactions,
            $($more,)*
        );
    };
}

mod admin;
mod shared;

use admin::*;

reading_and!(contract:
    places_keys_as_java,
    refuses_what_cannot_be_stored,
    stops_at_the_bound_and_says_when_there_is_room,
    a_record_larger_than_the_bound_goes_alone,
    handles_of_one_client_see_their_own_acks_only,
    a_revoked_handle_writes_no_more,
    flushes_an_empty_writer_at_once,
    fences_an_older_writer,
    a_transaction_needs_a_beginning,
    commits_offsets_in_a_transaction,
    an_abort_forgets_what_is_open,
    commits_offsets_without_being_a_member,
    deletes_offsets,
    forgets_offsets_of_a_deleted_topic,
    creates_describes_and_deletes_topics,
    describes_groups,
    compacted_topics_take_no_record_without_a_key,
);

// ---- helpers ----

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn record(topic: &str, key: &str, value: &str) -> ProducerRecord {
    ProducerRecord::keyed(topic, key.to_owned(), Some(Bytes::from(value.to_owned())))
}

fn numbered(topic: &str, count: usize) -> Vec<ProducerRecord> {
    (0..count).map(|i| ProducerRecord { partition: Some(0), ..record(topic, "k", &i.to_string()) }).collect()
}

async fn new_topic(backend: &Subject, partitions: i32) -> String {
    new_topic_with(backend, partitions, &[]).await
}

async fn new_topic_with(backend: &Subject, partitions: i32, config: &[(&str, &str)]) -> String {
    let name = unique("contract");
    let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let topic = NewTopic { name: name.clone(), partitions, replication_factor: 1, config };
    backend.admin().create_topic(&topic).await.unwrap();
    name
}

fn writer(backend: &Subject) -> Arc<dyn RecordWriter> {
    backend.writer(&ClientSettings::new(), ROOM).unwrap()
}

/// Sends all, waiting for room, and returns partition and offset of each record in order of sending.
async fn write(writer: &Arc<dyn RecordWriter>, records: &[ProducerRecord]) -> Vec<(i32, i64)> {
    let mut rest = records;
    let mut acks = Vec::new();
    while !rest.is_empty() {
        let taken = writer.send(rest).unwrap();
        rest = &rest[taken..];
        if taken == 0 {
            tokio::time::timeout(PATIENCE, writer.changed()).await.expect("room comes up");
        }
        writer.take_acks(&mut acks);
    }
    writer.flush(PATIENCE).await.unwrap();
    writer.take_acks(&mut acks);
    let mut places = BTreeMap::new();
    for ack in acks {
        match ack {
            Ack::Delivered { first, count, partition, offset } => {
                for i in 0..count {
                    assert_eq!(places.insert(first + i, (partition, offset + i as i64)), None, "acknowledged twice");
                }
            }
            Ack::Failed { sequence, error } => panic!("record {sequence}: {error}"),
        }
    }
    assert_eq!(places.len(), records.len());
    places.into_values().collect()
}

async fn write_one(backend: &Subject, record: ProducerRecord) -> (i32, i64) {
    write(&writer(backend), &[record]).await[0]
}

fn reader(backend: &Subject, isolation: Isolation, from: &[(TopicPartition, StartOffset)]) -> Box<dyn RecordReader> {
    let mut reader = backend.reader(&ClientSettings::new(), isolation).unwrap();
    reader.assign(from).unwrap();
    reader
}

fn from_start(backend: &Subject, topic: &str) -> Box<dyn RecordReader> {
    reader(backend, Isolation::ReadUncommitted, &[(at(topic, 0), StartOffset::Beginning)])
}

fn text(bytes: &Option<Bytes>) -> String {
    bytes.as_ref().map_or("-".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Reads until `count` records are there; offset and value of each.
async fn take(reader: &mut Box<dyn RecordReader>, count: usize) -> Vec<(i64, String)> {
    let mut batch = ReadBatch::default();
    let mut all = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while all.len() < count {
        assert!(tokio::time::Instant::now() < deadline, "only {} of {count} records came: {all:?}", all.len());
        reader.read(&mut batch, count - all.len(), PATIENCE).await.unwrap();
        all.extend(batch.records.iter().map(|record| (record.offset, text(&record.value))));
    }
    all
}

/// Reads until every one of `partitions` reported its end; values, and the position at each end.
async fn take_to_end(
    reader: &mut Box<dyn RecordReader>,
    partitions: usize,
) -> (Vec<String>, BTreeMap<TopicPartition, i64>) {
    let (mut batch, mut values, mut ends) = (ReadBatch::default(), Vec::new(), BTreeMap::new());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ends.len() < partitions {
        assert!(tokio::time::Instant::now() < deadline, "no end came, only {values:?}");
        reader.read(&mut batch, 1000, PATIENCE).await.unwrap();
        values.extend(batch.records.iter().map(|record| text(&record.value)));
        ends.extend(batch.ends.drain(..));
    }
    (values, ends)
}

/// That nothing comes for a while.
async fn nothing_comes(reader: &mut Box<dyn RecordReader>) {
    let mut batch = ReadBatch::default();
    reader.read(&mut batch, 1000, Duration::from_millis(400)).await.unwrap();
    assert_eq!(batch.records, []);
}

// ---- writing ----

async fn keeps_order_and_reports_offsets(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let records = numbered(&topic, 3000);
    let places = write(&writer(&backend), &records).await;
    assert_eq!(places, (0..3000).map(|i| (0, i)).collect::<Vec<_>>());
    let read = take(&mut from_start(&backend, &topic), 3000).await;
    assert_eq!(read, (0..3000).map(|i| (i, i.to_string())).collect::<Vec<_>>());
}

async fn keeps_headers_timestamps_and_nulls(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let headers = vec![
        ("h".into(), Some(Bytes::from_static(b"1"))),
        ("h".into(), None),
        ("".into(), Some(Bytes::new())),
        ("ü".into(), Some(Bytes::from_static(&[0, 255]))),
    ];
    let full = ProducerRecord {
        topic: topic.as_str().into(),
        partition: Some(0),
        key: Some(Bytes::new()),
        value: Some(Bytes::new()),
        headers,
        timestamp: Some(1_700_000_000_123),
    };
    let tombstone = ProducerRecord { value: None, headers: Vec::new(), timestamp: None, ..full.clone() };
    let bare = ProducerRecord { key: None, timestamp: Some(1), headers: Vec::new(), ..full.clone() };
    let sent = [full, tombstone, bare];
    write(&writer(&backend), &sent).await;
    let mut reader = from_start(&backend, &topic);
    let mut batch = ReadBatch::default();
    let mut read = Vec::new();
    while read.len() < 3 {
        reader.read(&mut batch, 10, PATIENCE).await.unwrap();
        assert!(batch.records.iter().all(|record| batch.partition(record) == &at(&topic, 0)));
        read.append(&mut batch.records);
    }
    for (read, sent) in read.iter().zip(&sent) {
        assert_eq!((&read.key, &read.value, &read.headers), (&sent.key, &sent.value, &sent.headers));
        assert_eq!(read.timestamp_type, connect_api::TimestampType::CreateTime);
    }
    assert_eq!(read[0].timestamp, 1_700_000_000_123);
    assert!(read[1].timestamp > 1_700_000_000_000, "stamped by the client: {}", read[1].timestamp);
    assert_eq!(read[2].timestamp, 1);
}

async fn places_keys_as_java(backend: Subject) {
    let topic = new_topic(&backend, 5).await;
    let records: Vec<_> = (0..100).map(|i| record(&topic, &format!("key-{i}"), "v")).collect();
    let places = write(&writer(&backend), &records).await;
    for (record, (partition, _)) in records.iter().zip(places) {
        assert_eq!(partition, partition_for_key(record.key.as_ref().unwrap(), 5));
    }
}

async fn refuses_what_cannot_be_stored(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let large = ProducerRecord { value: Some(vec![b'x'; 2_000_000].into()), ..record(&topic, "k", "") };
    let writer = writer(&backend);
    let good = record(&topic, "k", "v");
    // The records before the bad one are taken, and the error comes with the next call.
    assert_eq!(writer.send(&[good.clone(), large.clone(), good.clone()]).unwrap(), 1);
    let error = writer.send(&[large, good.clone()]).unwrap_err();
    assert!(matches!(error, BackendError::Refused(_)), "{error:?}");
    assert_eq!(write_after(&writer, &[good]).await, 2);
    assert_eq!(take(&mut from_start(&backend, &topic), 2).await.len(), 2);
}

/// Sends, flushes and counts all acknowledged records since the last `take_acks`.
async fn write_after(writer: &Arc<dyn RecordWriter>, records: &[ProducerRecord]) -> u64 {
    assert_eq!(writer.send(records).unwrap(), records.len());
    writer.flush(PATIENCE).await.unwrap();
    let mut acks = Vec::new();
    writer.take_acks(&mut acks);
    let counts = acks.iter().map(|ack| match ack {
        Ack::Delivered { count, .. } => *count,
        Ack::Failed { sequence, error } => panic!("record {sequence}: {error}"),
    });
    counts.sum()
}

async fn stops_at_the_bound_and_says_when_there_is_room(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let writer = backend.writer(&ClientSettings::new(), 1000).unwrap();
    let records: Vec<_> =
        (0..50).map(|_| ProducerRecord { value: Some(vec![b'x'; 99].into()), ..record(&topic, "k", "") }).collect();
    let mut sent = 0;
    let mut most = 0;
    while sent < records.len() {
        let taken = writer.send(&records[sent..]).unwrap();
        assert!(taken <= 10, "{taken} records of 100 bytes fit into 1000");
        sent += taken;
        most = most.max(writer.in_flight());
        if taken == 0 {
            tokio::time::timeout(PATIENCE, writer.changed()).await.expect("room comes up");
            writer.take_acks(&mut Vec::new());
        }
    }
    assert!(most <= 10);
    writer.flush(PATIENCE).await.unwrap();
    assert_eq!(take(&mut from_start(&backend, &topic), 50).await.len(), 50);
}

async fn a_record_larger_than_the_bound_goes_alone(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let writer = backend.writer(&ClientSettings::new(), 10).unwrap();
    let records = [record(&topic, "k", "more than ten bytes"), record(&topic, "k", "another one of those")];
    assert_eq!(write(&writer, &records).await, [(0, 0), (0, 1)]);
}

async fn handles_of_one_client_see_their_own_acks_only(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let (one, two) = (writer(&backend), writer(&backend));
    assert_eq!(one.send(&numbered(&topic, 3)).unwrap(), 3);
    assert_eq!(two.send(&numbered(&topic, 5)).unwrap(), 5);
    one.flush(PATIENCE).await.unwrap();
    two.flush(PATIENCE).await.unwrap();
    for (writer, expected) in [(one, 3), (two, 5)] {
        let mut acks = Vec::new();
        writer.take_acks(&mut acks);
        let mut sequences: Vec<u64> = acks
            .iter()
            .flat_map(|ack| match ack {
                Ack::Delivered { first, count, .. } => *first..*first + *count,
                Ack::Failed { error, .. } => panic!("{error}"),
            })
            .collect();
        sequences.sort_unstable();
        assert_eq!(sequences, (0..expected).collect::<Vec<_>>());
        assert_eq!(writer.in_flight(), 0);
    }
}

async fn a_revoked_handle_writes_no_more(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let (revoked, other) = (writer(&backend), writer(&backend));
    write_after(&revoked, &numbered(&topic, 1)).await;
    revoked.revoke();
    assert!(matches!(revoked.send(&numbered(&topic, 1)), Err(BackendError::Revoked)));
    // The purge of the shared client may still reach what is sent right behind it.
    let mut acks = Vec::new();
    loop {
        other.send(&numbered(&topic, 1)).unwrap();
        other.flush(PATIENCE).await.unwrap();
        other.take_acks(&mut acks);
        match acks.pop() {
            Some(Ack::Failed { error: BackendError::Purged, .. }) => continue,
            Some(Ack::Delivered { count: 1, .. }) => break,
            ack => panic!("{ack:?}"),
        }
    }
}

async fn flushes_an_empty_writer_at_once(backend: Subject) {
    let writer = writer(&backend);
    writer.flush(Duration::from_millis(100)).await.unwrap();
    assert_eq!(writer.send(&[]).unwrap(), 0);
}

// ---- reading ----

async fn starts_where_it_is_told(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 5)).await;
    let mut middle = reader(&backend, Isolation::ReadUncommitted, &[(at(&topic, 0), StartOffset::At(3))]);
    assert_eq!(take(&mut middle, 2).await, [(3, "3".into()), (4, "4".into())]);
    assert_eq!(middle.position(&at(&topic, 0)), Some(5));
    let mut end = reader(&backend, Isolation::ReadUncommitted, &[(at(&topic, 0), StartOffset::End)]);
    let (values, ends) = take_to_end(&mut end, 1).await;
    assert_eq!((values.len(), ends[&at(&topic, 0)]), (0, 5));
    write_one(&backend, record(&topic, "k", "new")).await;
    assert_eq!(take(&mut end, 1).await, [(5, "new".into())]);
    let partition = [at(&topic, 0)];
    assert_eq!(end.end_offsets(&partition, PATIENCE).await.unwrap(), [6]);
    assert_eq!(end.beginning_offsets(&partition, PATIENCE).await.unwrap(), [0]);
}

async fn reports_every_arrival_at_the_end(backend: Subject) {
    let topic = new_topic(&backend, 2).await;
    let both = [(at(&topic, 0), StartOffset::Beginning), (at(&topic, 1), StartOffset::Beginning)];
    let mut reader = reader(&backend, Isolation::ReadUncommitted, &both);
    let (values, ends) = take_to_end(&mut reader, 2).await;
    assert_eq!((values.len(), ends), (0, BTreeMap::from([(at(&topic, 0), 0), (at(&topic, 1), 0)])));
    let writer = writer(&backend);
    for round in 1..4 {
        write(&writer, &[ProducerRecord { partition: Some(1), ..record(&topic, "k", "v") }]).await;
        let (values, ends) = take_to_end(&mut reader, 1).await;
        assert_eq!((values.len(), ends), (1, BTreeMap::from([(at(&topic, 1), round)])));
    }
}

async fn a_read_without_records_ends_in_time(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let mut reader = from_start(&backend, &topic);
    take_to_end(&mut reader, 1).await;
    let before = tokio::time::Instant::now();
    nothing_comes(&mut reader).await;
    let waited = before.elapsed();
    assert!(waited >= Duration::from_millis(395) && waited < PATIENCE, "{waited:?}");
}

async fn a_dropped_read_loses_nothing(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let mut reader = from_start(&backend, &topic);
    let writing = tokio::spawn({
        let (writer, topic) = (writer(&backend), topic.clone());
        async move {
            for i in 0..20 {
                write(&writer, &[record(&topic, "k", &i.to_string())]).await;
            }
        }
    });
    let (mut batch, mut values) = (ReadBatch::default(), Vec::new());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while values.len() < 20 && tokio::time::Instant::now() < deadline {
        let read = reader.read(&mut batch, 3, PATIENCE);
        if tokio::time::timeout(Duration::from_millis(1), read).await.is_ok() {
            values.extend(batch.records.iter().map(|record| text(&record.value)));
        }
    }
    writing.await.unwrap();
    assert_eq!(values, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
}

async fn pauses_and_resumes(backend: Subject) {
    let topic = new_topic(&backend, 2).await;
    let both = [(at(&topic, 0), StartOffset::Beginning), (at(&topic, 1), StartOffset::Beginning)];
    let writer = writer(&backend);
    let to = |partition, value: &str| ProducerRecord { partition: Some(partition), ..record(&topic, "k", value) };
    write(&writer, &[to(0, "a"), to(0, "b"), to(1, "x")]).await;
    let mut reader = reader(&backend, Isolation::ReadUncommitted, &both);
    take(&mut reader, 3).await;
    reader.pause(&[at(&topic, 0)]).unwrap();
    write(&writer, &[to(0, "c"), to(1, "y")]).await;
    assert_eq!(take(&mut reader, 1).await, [(1, "y".into())]);
    nothing_comes(&mut reader).await;
    assert_eq!(reader.position(&at(&topic, 0)), Some(2));
    reader.resume(&[at(&topic, 0)]).unwrap();
    assert_eq!(take(&mut reader, 1).await, [(2, "c".into())]);
}

async fn pauses_at_the_end_and_skips_nothing(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let mut reader = from_start(&backend, &topic);
    // That of the empty log, which would come in front of the first record or not.
    take_to_end(&mut reader, 1).await;
    for round in 0..3 {
        write(&writer(&backend), &numbered(&topic, 1)).await;
        assert_eq!(take_to_end(&mut reader, 1).await.0.len(), 1);
        reader.pause(&[at(&topic, 0)]).unwrap();
        if round == 1 {
            // Also where nothing was written meanwhile.
            reader.resume(&[at(&topic, 0)]).unwrap();
            nothing_comes(&mut reader).await;
            reader.pause(&[at(&topic, 0)]).unwrap();
        }
        write(&writer(&backend), &numbered(&topic, 1)).await;
        nothing_comes(&mut reader).await;
        reader.resume(&[at(&topic, 0)]).unwrap();
        assert_eq!(take_to_end(&mut reader, 1).await.0, ["0"], "round {round}");
    }
}

async fn seeks_also_where_paused(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 10)).await;
    let mut reader = from_start(&backend, &topic);
    take(&mut reader, 4).await;
    reader.seek(&[(at(&topic, 0), 1)]).await.unwrap();
    assert_eq!(reader.position(&at(&topic, 0)), Some(1));
    assert_eq!(take(&mut reader, 3).await, [(1, "1".into()), (2, "2".into()), (3, "3".into())]);
    reader.pause(&[at(&topic, 0)]).unwrap();
    reader.seek(&[(at(&topic, 0), 8)]).await.unwrap();
    nothing_comes(&mut reader).await;
    reader.resume(&[at(&topic, 0)]).unwrap();
    assert_eq!(take(&mut reader, 2).await, [(8, "8".into()), (9, "9".into())]);
    // Again to the very end of the log, which is an arrival of its own.
    reader.seek(&[(at(&topic, 0), 10)]).await.unwrap();
    let (values, ends) = take_to_end(&mut reader, 1).await;
    assert_eq!((values.len(), ends[&at(&topic, 0)]), (0, 10));
    let unassigned = reader.seek(&[(at("elsewhere", 0), 10)]).await;
    assert!(matches!(unassigned, Err(BackendError::Refused(_))), "{unassigned:?}");
}

async fn adds_and_removes_partitions(backend: Subject) {
    let (one, two) = (new_topic(&backend, 1).await, new_topic(&backend, 1).await);
    let writer = writer(&backend);
    write(&writer, &numbered(&one, 2)).await;
    write(&writer, &numbered(&two, 3)).await;
    let mut reader = from_start(&backend, &one);
    take(&mut reader, 2).await;
    reader.add(&[(at(&two, 0), StartOffset::At(1))]).unwrap();
    assert_eq!(take(&mut reader, 2).await, [(1, "1".into()), (2, "2".into())]);
    reader.remove(&[at(&one, 0)]).unwrap();
    assert_eq!((reader.position(&at(&one, 0)), reader.position(&at(&two, 0))), (None, Some(3)));
    write(&writer, &[record(&one, "k", "unseen"), record(&two, "k", "seen")]).await;
    assert_eq!(take(&mut reader, 1).await, [(3, "seen".into())]);
    nothing_comes(&mut reader).await;
    reader.assign(&[(at(&one, 0), StartOffset::At(2))]).unwrap();
    assert_eq!(take(&mut reader, 1).await, [(2, "unseen".into())]);
    nothing_comes(&mut reader).await;
}

async fn reads_in_bounded_batches(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 100)).await;
    let mut reader = from_start(&backend, &topic);
    let (mut batch, mut read) = (ReadBatch::default(), 0);
    while read < 100 {
        reader.read(&mut batch, 7, PATIENCE).await.unwrap();
        assert!(batch.records.len() <= 7);
        if let Some((_, end)) = batch.ends.first() {
            assert_eq!(*end, read + batch.records.len() as i64);
        }
        for record in &batch.records {
            assert_eq!(record.offset, read);
            read += 1;
        }
        assert_eq!(reader.position(&at(&topic, 0)), Some(read));
    }
}

async fn says_when_an_offset_is_out_of_range(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 2)).await;
    let mut reader = reader(&backend, Isolation::ReadUncommitted, &[(at(&topic, 0), StartOffset::At(50))]);
    let mut batch = ReadBatch::default();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let error = loop {
        assert!(tokio::time::Instant::now() < deadline, "no error came");
        match reader.read(&mut batch, 10, PATIENCE).await {
            Ok(()) => assert_eq!(batch.records, [], "a silent reset"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BackendError::OffsetOutOfRange(_)), "{error:?}");
    assert!(error.to_string().contains(&topic), "{error}");
    reader.seek(&[(at(&topic, 0), 1)]).await.unwrap();
    assert_eq!(take(&mut reader, 1).await, [(1, "1".into())]);
}

/// The position is reported once and rests there, until a seek; what it waits for may then be lost again.
async fn reads_on_beside_a_lost_position(backend: Subject) {
    let topic = new_topic(&backend, 2).await;
    let to = |partition, value: &str| ProducerRecord { partition: Some(partition), ..record(&topic, "k", value) };
    write(&writer(&backend), &[to(0, "a"), to(1, "x"), to(1, "y")]).await;
    let from = [(at(&topic, 0), StartOffset::At(50)), (at(&topic, 1), StartOffset::Beginning)];
    let mut reader = reader(&backend, Isolation::ReadUncommitted, &from);
    let mut batch = ReadBatch::default();
    for lost in [50, 60] {
        let (mut read, mut reports) = (0, 0);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while read < 2 || reports == 0 {
            assert!(tokio::time::Instant::now() < deadline, "{read} records and {reports} reports came");
            match reader.read(&mut batch, 10, PATIENCE).await {
                Ok(()) => read += batch.records.len(),
                Err(BackendError::OffsetOutOfRange(reason)) => {
                    assert!(reason.contains(&topic), "{reason}");
                    reports += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        nothing_comes(&mut reader).await;
        assert_eq!((read, reports), (2, 1), "lost at {lost}");
        reader.seek(&[(at(&topic, 0), 60), (at(&topic, 1), 0)]).await.unwrap();
    }
    reader.seek(&[(at(&topic, 0), 0), (at(&topic, 1), 2)]).await.unwrap();
    assert_eq!(take(&mut reader, 1).await, [(0, "a".into())]);
}

/// Waits until nobody sees a topic that was deleted.
async fn until_gone(backend: &Subject, topic: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while backend.admin().describe_topic(topic).await.unwrap().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "{topic} is never gone");
    }
}

async fn reads_on_beside_a_deleted_topic(backend: Subject) {
    let (gone, topic) = (new_topic(&backend, 1).await, new_topic(&backend, 1).await);
    write(&writer(&backend), &numbered(&gone, 2)).await;
    let from = [(at(&gone, 0), StartOffset::Beginning), (at(&topic, 0), StartOffset::Beginning)];
    let mut reader = reader(&backend, Isolation::ReadUncommitted, &from);
    assert_eq!(take(&mut reader, 2).await.len(), 2);
    backend.admin().delete_topic(&gone).await.unwrap();
    until_gone(&backend, &gone).await;
    write(&writer(&backend), &numbered(&topic, 3)).await;
    let (mut batch, mut read) = (ReadBatch::default(), 0);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while read < 3 {
        assert!(tokio::time::Instant::now() < deadline, "the other topic is read on");
        match reader.read(&mut batch, 10, PATIENCE).await {
            Ok(()) => read += batch.records.len(),
            Err(BackendError::UnknownPartition(reason)) => assert!(reason.contains(&gone), "{reason}"),
            Err(error) => panic!("{error:?}"),
        }
    }
    let asked = reader.beginning_offsets(&[at(&gone, 0)], PATIENCE).await;
    assert!(matches!(asked, Err(BackendError::UnknownPartition(_) | BackendError::Retriable(_))), "{asked:?}");
    reader.remove(&[at(&gone, 0)]).unwrap();
}

// ---- transactions ----

async fn isolates_open_and_aborted_transactions(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let id = unique("transaction");
    let writer = backend.transactional_writer(&ClientSettings::new(), &id, PATIENCE).await.unwrap();
    let from = [(at(&topic, 0), StartOffset::Beginning)];
    let mut committed = reader(&backend, Isolation::ReadCommitted, &from);
    let mut all = reader(&backend, Isolation::ReadUncommitted, &from);
    writer.begin().unwrap();
    assert_eq!(writer.send(&numbered(&topic, 2)).await.unwrap(), [(0, 0), (0, 1)]);
    assert_eq!(take(&mut all, 2).await.len(), 2);
    nothing_comes(&mut committed).await;
    let partition = [at(&topic, 0)];
    assert_eq!(committed.end_offsets(&partition, PATIENCE).await.unwrap(), [0]);
    assert_eq!(all.end_offsets(&partition, PATIENCE).await.unwrap(), [2]);
    writer.abort(PATIENCE).await.unwrap();
    writer.begin().unwrap();
    assert_eq!(writer.send(&[record(&topic, "k", "kept")]).await.unwrap(), [(0, 3)]);
    writer.commit(PATIENCE).await.unwrap();
    assert_eq!(take(&mut committed, 1).await, [(3, "kept".into())]);
    // The marker behind it is passed with the end of the partition only.
    while committed.position(&partition[0]) != Some(5) {
        take_to_end(&mut committed, 1).await;
    }
    assert_eq!(committed.end_offsets(&partition, PATIENCE).await.unwrap(), [5]);
}

async fn fences_an_older_writer(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let id = unique("fence");
    let settings = ClientSettings::new();
    let older = backend.transactional_writer(&settings, &id, PATIENCE).await.unwrap();
    older.begin().unwrap();
    older.send(&[record(&topic, "k", "lost")]).await.unwrap();
    let newer = backend.transactional_writer(&settings, &id, PATIENCE).await.unwrap();
    let error = older.commit(PATIENCE).await.unwrap_err();
    assert!(matches!(error, BackendError::Fenced(_)), "{error:?}");
    newer.begin().unwrap();
    newer.send(&[record(&topic, "k", "kept")]).await.unwrap();
    newer.commit(PATIENCE).await.unwrap();
    let mut committed = reader(&backend, Isolation::ReadCommitted, &[(at(&topic, 0), StartOffset::Beginning)]);
    assert_eq!(take(&mut committed, 1).await, [(2, "kept".into())]);
    let sent = match older.begin() {
        Ok(()) => older.send(&[record(&topic, "k", "zombie")]).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(sent, Err(BackendError::Fenced(_))), "{sent:?}");
}

async fn a_transaction_needs_a_beginning(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let id = unique("beginning");
    let writer = backend.transactional_writer(&ClientSettings::new(), &id, PATIENCE).await.unwrap();
    let sent = writer.send(&[record(&topic, "k", "v")]).await;
    assert!(matches!(sent, Err(BackendError::Refused(_))), "{sent:?}");
    writer.begin().unwrap();
    assert!(matches!(writer.begin(), Err(BackendError::Refused(_))));
    writer.commit(PATIENCE).await.unwrap();
    writer.begin().unwrap();
    writer.send(&[record(&topic, "k", "v")]).await.unwrap();
    writer.commit(PATIENCE).await.unwrap();
}

async fn commits_offsets_in_a_transaction(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let (id, group) = (unique("offsets"), unique("group"));
    let offsets = backend.committed_offsets();
    let writer = backend.transactional_writer(&ClientSettings::new(), &id, PATIENCE).await.unwrap();
    writer.begin().unwrap();
    writer.send(&[record(&topic, "k", "v")]).await.unwrap();
    writer.send_offsets(&group, &[(at(&topic, 0), 17)]).await.unwrap();
    writer.commit(PATIENCE).await.unwrap();
    assert_eq!(offsets.committed(&group, &[at(&topic, 0)]).await.unwrap(), [Some(17)]);
    writer.begin().unwrap();
    writer.send_offsets(&group, &[(at(&topic, 0), 99)]).await.unwrap();
    writer.abort(PATIENCE).await.unwrap();
    assert_eq!(offsets.committed(&group, &[at(&topic, 0)]).await.unwrap(), [Some(17)]);
}

async fn an_abort_forgets_what_is_open(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let id = unique("abort");
    let writer = backend.transactional_writer(&ClientSettings::new(), &id, PATIENCE).await.unwrap();
    writer.begin().unwrap();
    let large = ProducerRecord { value: Some(vec![b'x'; 2_000_000].into()), ..record(&topic, "k", "") };
    let sent = writer.send(&[record(&topic, "k", "gone"), large]).await;
    assert!(matches!(sent, Err(BackendError::Refused(_))), "{sent:?}");
    assert!(writer.commit(PATIENCE).await.is_err(), "half of a batch may not be committed");
    writer.abort(PATIENCE).await.unwrap();
    writer.begin().unwrap();
    writer.send(&[record(&topic, "k", "kept")]).await.unwrap();
    writer.commit(PATIENCE).await.unwrap();
    let mut committed = reader(&backend, Isolation::ReadCommitted, &[(at(&topic, 0), StartOffset::Beginning)]);
    assert_eq!(take(&mut committed, 1).await[0].1, "kept");
}
