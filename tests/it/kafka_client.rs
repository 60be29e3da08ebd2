//! What only a real broker shows: purges of an idempotent producer, a broker that goes away, clients that break.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connect_node::backend::{
    Ack, Backend, BackendError, ClientSettings, Isolation, ProducerRecord, ReadBatch, RecordWriter, StartOffset,
    TopicPartition, kafka,
};

use crate::support::broker::{Broker, broker};
use crate::support::unique;

const PATIENCE: Duration = Duration::from_secs(60);
const ROOM: usize = 8 << 20;

fn settings(pairs: &[(&str, &str)]) -> ClientSettings {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn open(broker: &Broker) -> Arc<dyn Backend> {
    kafka::open(broker.bootstrap(), &ClientSettings::new()).unwrap()
}

fn numbered(topic: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<ProducerRecord> {
    let record = |number: usize| ProducerRecord {
        partition: Some(0),
        ..ProducerRecord::keyed(topic, "k", Some(Bytes::from(number.to_string())))
    };
    numbers.into_iter().map(record).collect()
}

/// Takes acks until nothing is in flight; the sequences of the records that were purged, sorted, and how many were delivered.
async fn settle(writer: &Arc<dyn RecordWriter>) -> (Vec<u64>, u64) {
    let (mut acks, mut purged, mut delivered) = (Vec::new(), Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        writer.take_acks(&mut acks);
        for ack in acks.drain(..) {
            match ack {
                Ack::Delivered { count, .. } => delivered += count,
                Ack::Failed { sequence, error: BackendError::Purged } => purged.push(sequence),
                Ack::Failed { sequence, error } => panic!("record {sequence}: {error:?}"),
            }
        }
        if writer.in_flight() == 0 {
            writer.take_acks(&mut acks);
            if acks.is_empty() {
                purged.sort_unstable();
                return (purged, delivered);
            }
            continue;
        }
        assert!(Instant::now() < deadline, "{} records are still in flight", writer.in_flight());
        // A bound only: the wake-up comes with the acks.
        let _ = tokio::time::timeout(Duration::from_secs(1), writer.changed()).await;
    }
}

async fn send_all(writer: &Arc<dyn RecordWriter>, records: &[ProducerRecord]) {
    let (mut sent, deadline) = (0, Instant::now() + PATIENCE);
    loop {
        sent += writer.send(&records[sent..]).unwrap();
        if sent == records.len() {
            return;
        }
        assert!(Instant::now() < deadline, "{sent} of {} records are taken", records.len());
        // While a purge goes on, nothing is. A bound only: the wake-up comes with its end.
        let _ = tokio::time::timeout(Duration::from_secs(1), writer.changed()).await;
    }
}

async fn read_numbers(backend: &Arc<dyn Backend>, topic: &str, count: usize) -> Vec<usize> {
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition::new(topic, 0), StartOffset::Beginning)]).unwrap();
    let (mut batch, mut numbers, mut ended) = (ReadBatch::default(), Vec::new(), false);
    let deadline = Instant::now() + PATIENCE;
    while !(ended && numbers.len() >= count) {
        assert!(Instant::now() < deadline, "only {} of {count} records", numbers.len());
        reader.read(&mut batch, 10_000, Duration::from_secs(1)).await.unwrap();
        let text = |value: &Option<Bytes>| String::from_utf8(value.as_ref().unwrap().to_vec()).unwrap();
        numbers.extend(batch.records.iter().map(|record| text(&record.value).parse::<usize>().unwrap()));
        ended |= !batch.ends.is_empty();
    }
    numbers
}

/// A pump that purges and sends the purged records again, in order, loses nothing, doubles nothing and keeps the order: the client
/// drains what is on the wire and goes on with a new epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purged_records_can_be_sent_again_in_order() {
    let backend = open(broker().await);
    // Full batches go out at once, so that a purge finds some records on the wire and the last ones still queued.
    let writer = backend.writer(&settings(&[("linger.ms", "200"), ("batch.size", "4000")]), ROOM).unwrap();
    let purge = |last: bool| (!last).then(|| writer.purge());
    purge_between(&backend, &writer, 1000, purge).await;
}

/// Another handle of the client purges at any time, also in the middle of a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_passes_one_that_another_handle_purged() {
    let backend = open(broker().await);
    let shared = settings(&[("linger.ms", "1")]);
    let [writer, other] = [(); 2].map(|()| backend.writer(&shared, ROOM).unwrap());
    let purging = tokio::spawn(async move {
        let mut often = tokio::time::interval(Duration::from_millis(1));
        loop {
            often.tick().await;
            other.purge();
        }
    });
    let end = |last: bool| last.then(|| purging.abort());
    purge_between(&backend, &writer, 5000, end).await;
}

/// Sends numbers in batches of `size`, and what was purged again with the next one. `sent` hears of each batch, and whether nothing new
/// follows.
async fn purge_between(
    backend: &Arc<dyn Backend>,
    writer: &Arc<dyn RecordWriter>,
    size: usize,
    sent: impl Fn(bool) -> Option<()>,
) {
    let topic = unique("purge");
    let (mut purges, mut next, count) = (0, 0, 20 * size);
    // The numbers by sequence: each record that is sent has one.
    let mut numbers: Vec<usize> = Vec::new();
    let mut again: Vec<usize> = Vec::new();
    while next < count || !again.is_empty() {
        let fresh = next..(next + size).min(count);
        next = fresh.end;
        let batch: Vec<usize> = again.drain(..).chain(fresh).collect();
        send_all(writer, &numbered(&topic, batch.iter().copied())).await;
        numbers.extend(batch);
        sent(next == count);
        let (purged, _) = settle(writer).await;
        purges += usize::from(!purged.is_empty());
        again = purged.iter().map(|sequence| numbers[*sequence as usize]).collect();
    }
    assert!(purges > 5, "only {purges} purges hit anything");
    let read = read_numbers(backend, &topic, count).await;
    // The runs of numbers that follow each other.
    let runs: Vec<(usize, usize)> = read.chunk_by(|a, b| a + 1 == *b).map(|run| (run[0], run[run.len() - 1])).collect();
    assert_eq!(runs, [(0, count - 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_reaches_all_handles_of_a_client_and_no_other() {
    let backend = open(broker().await);
    let topic = unique("purge-shared");
    let slow = settings(&[("linger.ms", "60000")]);
    let [one, two] = [(); 2].map(|()| backend.writer(&slow, ROOM).unwrap());
    let other = backend.writer(&settings(&[("linger.ms", "1000")]), ROOM).unwrap();
    send_all(&other, &numbered(&topic, 0..10)).await;
    send_all(&one, &numbered(&topic, 0..10)).await;
    send_all(&two, &numbered(&topic, 0..10)).await;
    one.revoke();
    assert_eq!(settle(&one).await, ((0..10).collect(), 0));
    assert_eq!(settle(&two).await, ((0..10).collect(), 0));
    assert_eq!(settle(&other).await, (vec![], 10));
    assert!(matches!(one.send(&numbered(&topic, 0..1)), Err(BackendError::Revoked)));
    // The other handle goes on, and a flush does not wait for `linger.ms`.
    send_all(&two, &numbered(&topic, 0..10)).await;
    two.flush(Duration::from_secs(20)).await.unwrap();
    assert_eq!(settle(&two).await, (vec![], 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_handle_leaves_its_number_to_nobody_before_the_last_report() {
    let backend = open(broker().await);
    let topic = unique("dropped");
    let slow = settings(&[("linger.ms", "300")]);
    let kept = backend.writer(&slow, ROOM).unwrap();
    let dropped = backend.writer(&slow, ROOM).unwrap();
    send_all(&dropped, &numbered(&topic, 0..100)).await;
    drop(dropped);
    let late = backend.writer(&slow, ROOM).unwrap();
    send_all(&late, &numbered(&topic, 100..101)).await;
    assert_eq!(settle(&late).await, (vec![], 1));
    assert_eq!(settle(&kept).await, (vec![], 0));
    assert_eq!(read_numbers(&backend, &topic, 101).await, (0..101).collect::<Vec<_>>());
}

/// The client's own bound, filled by one handle, holds another one up that has nothing in flight; it hears of room all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_client_wakes_handles_without_records() {
    let backend = open(broker().await);
    let topic = unique("starved");
    let small = settings(&[("queue.buffering.max.messages", "10"), ("linger.ms", "500")]);
    let [greedy, starved] = [(); 2].map(|()| backend.writer(&small, ROOM).unwrap());
    assert_eq!(greedy.send(&numbered(&topic, 0..20)).unwrap(), 10);
    assert_eq!(starved.send(&numbered(&topic, 0..20)).unwrap(), 0);
    assert_eq!((greedy.in_flight(), starved.in_flight()), (10, 0));
    tokio::time::timeout(PATIENCE, starved.changed()).await.expect("room comes up");
    assert!(starved.send(&numbered(&topic, 0..5)).unwrap() > 0);
    settle(&greedy).await;
    settle(&starved).await;
}

/// A task waits for its broker however long it takes, a request does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_broker_delays_records_and_fails_requests() {
    let broker = Broker::start().await;
    let backend = open(&broker);
    let topic = unique("lost");
    let partition = TopicPartition::new(topic.as_str(), 0);
    let writer = backend.writer(&ClientSettings::new(), ROOM).unwrap();
    send_all(&writer, &numbered(&topic, 0..100)).await;
    assert_eq!(settle(&writer).await, (vec![], 100));
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(partition.clone(), StartOffset::Beginning)]).unwrap();
    let (mut batch, mut read) = (ReadBatch::default(), 0);
    while read < 100 {
        reader.read(&mut batch, 1000, PATIENCE).await.unwrap();
        read += batch.records.len();
    }

    tokio::task::block_in_place(|| broker.stop());
    send_all(&writer, &numbered(&topic, 100..200)).await;
    let begun = Instant::now();
    let asked = reader.end_offsets(std::slice::from_ref(&partition), Duration::from_millis(700)).await;
    assert!(matches!(asked, Err(BackendError::Retriable(_))), "{asked:?}");
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    assert!(matches!(writer.flush(Duration::from_millis(300)).await, Err(BackendError::Retriable(_))));
    reader.read(&mut batch, 1000, Duration::from_millis(300)).await.unwrap();
    assert_eq!((batch.records.len(), writer.in_flight()), (0, 100));

    broker.restart().await;
    assert_eq!(settle(&writer).await, (vec![], 100));
    let deadline = Instant::now() + PATIENCE;
    while read < 200 {
        assert!(Instant::now() < deadline, "only {read} records");
        reader.read(&mut batch, 1000, Duration::from_secs(1)).await.unwrap();
        read += batch.records.len();
    }
    assert_eq!(read_numbers(&backend, &topic, 200).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_wrong_setting_is_named_and_a_secret_is_not_shown() {
    let backend = kafka::open("127.0.0.1:1", &ClientSettings::new()).unwrap();
    let error = |pairs: &[(&str, &str)]| backend.writer(&settings(pairs), ROOM).err().unwrap().to_string();
    assert!(error(&[("no.such.setting", "1")]).contains("no.such.setting"));
    let secret = error(&[("ssl.key.pem", "tell-nobody"), ("security.protocol", "ssl")]);
    assert!(!secret.contains("tell-nobody"), "{secret}");
}
