//! How many clients readers cost, and what only a broker of its own shows of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connect_node::backend::{
    Backend, ClientSettings, Isolation, ProducerRecord, ReadBatch, RecordReader, StartOffset, TopicPartition, kafka,
};

use crate::support::broker::Broker;
use crate::support::unique;

const PATIENCE: Duration = Duration::from_secs(60);
const ROOM: usize = 8 << 20;
/// Readers that share.
const READERS: usize = 50;
/// Connections that a client has to one broker: those of the bootstrap and of the broker, and for a moment an older one.
const CONNECTIONS: usize = 3;

/// Connections of this process, or of others on this machine, to the broker.
fn connections(broker: &Broker) -> usize {
    let port = broker.bootstrap().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let (remote, established) = (format!(":{port:04X}"), "01");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.len() > 3 && fields[2].ends_with(&remote) && fields[3] == established).count()
}

fn open(broker: &Broker) -> Arc<dyn Backend> {
    kafka::open(broker.bootstrap(), &ClientSettings::new()).unwrap()
}

async fn write(backend: &Arc<dyn Backend>, topic: &str, numbers: std::ops::Range<usize>) {
    let writer = backend.writer(&ClientSettings::new(), ROOM).unwrap();
    let record = |number: usize| ProducerRecord {
        partition: Some(0),
        ..ProducerRecord::keyed(topic.to_owned(), "k", Some(Bytes::from(format!("{number:0100}"))))
    };
    let records: Vec<_> = numbers.map(record).collect();
    let mut sent = 0;
    while sent < records.len() {
        sent += writer.send(&records[sent..]).unwrap();
        if sent < records.len() {
            tokio::time::timeout(PATIENCE, writer.changed()).await.expect("room comes up");
        }
        writer.take_acks(&mut Vec::new());
    }
    writer.flush(PATIENCE).await.unwrap();
}

fn reader(backend: &Arc<dyn Backend>, settings: &ClientSettings, topic: &str) -> Box<dyn RecordReader> {
    reader_from(StartOffset::Beginning, backend, settings, topic)
}

fn reader_from(
    start: StartOffset,
    backend: &Arc<dyn Backend>,
    settings: &ClientSettings,
    topic: &str,
) -> Box<dyn RecordReader> {
    let mut reader = backend.shared_reader(settings, Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition::new(topic, 0), start)]).unwrap();
    reader
}

/// Reads once, and expects the numbers from `next` on.
async fn read(reader: &mut Box<dyn RecordReader>, batch: &mut ReadBatch, next: &mut usize) {
    reader.read(batch, 10_000, Duration::from_secs(1)).await.unwrap();
    for record in &batch.records {
        let text = record.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!((record.offset as usize, text), (*next, Some(format!("{next:0100}"))));
        *next += 1;
    }
}

async fn read_to(reader: &mut Box<dyn RecordReader>, from: usize, to: usize) {
    let (mut batch, mut next, deadline) = (ReadBatch::default(), from, Instant::now() + PATIENCE);
    while next < to {
        assert!(Instant::now() < deadline, "only {next} of {to} records came");
        read(reader, &mut batch, &mut next).await;
    }
}

/// Also over a restart of the broker, which all of them come back from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_readers_make_one_client() {
    let broker = Broker::start().await;
    let backend = open(&broker);
    let topics: Vec<String> = (0..READERS).map(|_| unique("shared")).collect();
    for topic in &topics {
        write(&backend, topic, 0..2).await;
    }
    let before = connections(&broker);
    let mut readers: Vec<_> = topics.iter().map(|topic| reader(&backend, &ClientSettings::new(), topic)).collect();
    for reader in &mut readers {
        read_to(reader, 0, 2).await;
    }
    let more = connections(&broker) - before;
    assert!((1..=CONNECTIONS).contains(&more), "{more} connections of {READERS} readers");

    tokio::task::block_in_place(|| broker.stop());
    let mut batch = ReadBatch::default();
    readers[0].read(&mut batch, 10, Duration::from_millis(300)).await.unwrap();
    assert_eq!(batch.records, []);
    broker.restart().await;
    for (topic, reader) in topics.iter().zip(&mut readers) {
        write(&backend, topic, 2..4).await;
        read_to(reader, 2, 4).await;
    }
    let now = connections(&broker);
    drop(readers);
    let deadline = Instant::now() + PATIENCE;
    while connections(&broker) >= now {
        assert!(Instant::now() < deadline, "the client of dropped readers is never freed");
        tokio::task::yield_now().await;
    }
}

/// The number of connections, when none was opened or closed for two seconds: a client connects to the coordinator of its group up to a second later.
async fn settled(broker: &Broker, idle: &mut Box<dyn RecordReader>) -> usize {
    let (mut batch, mut same, deadline) = (ReadBatch::default(), 0, Instant::now() + PATIENCE);
    let mut count = connections(broker);
    while same < 2 {
        assert!(Instant::now() < deadline, "connections come and go");
        idle.read(&mut batch, 1, Duration::from_secs(1)).await.unwrap();
        let now = connections(broker);
        same = if now == count { same + 1 } else { 0 };
        count = now;
    }
    count
}

/// A reader that catches up beside idle ones gets a client of its own, gives it back when it is calm, and loses and doubles nothing on both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_catches_up_has_a_client_for_a_while() {
    let broker = Broker::start().await;
    let backend = open(&broker);
    let (busy, idle) = (unique("busy"), unique("idle"));
    let count = 200_000;
    write(&backend, &busy, 0..count).await;
    write(&backend, &idle, 0..1).await;
    // The less is read ahead, the more often the reader has to wait.
    let settings = ClientSettings::from([("queued.min.messages".to_owned(), "1000".to_owned())]);
    let mut other = reader(&backend, &settings, &idle);
    read_to(&mut other, 0, 1).await;
    let mut calm = settled(&broker, &mut other).await;
    let mut reader = reader(&backend, &settings, &busy);
    let (mut batch, mut next, deadline) = (ReadBatch::default(), 0, Instant::now() + PATIENCE);
    while connections(&broker) <= calm {
        assert!(Instant::now() < deadline, "it never gets a client");
        if next == count {
            reader.seek(&[(TopicPartition::new(&*busy, 0), 0)]).await.unwrap();
            next = 0;
        }
        read(&mut reader, &mut batch, &mut next).await;
        if next < 20_000 {
            // Where the pool itself opened a connection late.
            calm = calm.max(connections(&broker));
        }
    }
    calm = connections(&broker);
    let deadline = Instant::now() + PATIENCE;
    while connections(&broker) >= calm {
        assert!(Instant::now() < deadline, "it never gives its client back");
        read(&mut reader, &mut batch, &mut next).await;
    }
    read_to(&mut reader, next, count).await;
    write(&backend, &busy, count..count + 10).await;
    read_to(&mut reader, count, count + 10).await;
    write(&backend, &idle, 1..2).await;
    read_to(&mut other, 1, 2).await;
}

/// Less than a start takes where the client asks about new topics once a second, and has just done so: 760 to 1,020 ms. Where it
/// asks at once a start takes 250 to 530 ms, since beside an idle reader the question waits for a request for records, and the first record for the next one.
const WITHOUT_ASKING: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_new_to_its_client_is_asked_about_at_once() {
    let broker = Broker::start().await;
    let backend = open(&broker);
    let idle = unique("idle");
    write(&backend, &idle, 0..1).await;
    let mut readers = vec![reader(&backend, &ClientSettings::new(), &idle)];
    read_to(&mut readers[0], 0, 1).await;
    let deadline = Instant::now() + PATIENCE;
    // One is enough: the machine may be busy with other things. Each is begun as soon as the one before has a record, which is when the client has just asked.
    let mut took = Duration::MAX;
    while took >= WITHOUT_ASKING {
        assert!(Instant::now() < deadline, "no start is fast, the last one took {took:?}");
        let topic = unique("new");
        write(&backend, &topic, 0..1).await;
        let begun = Instant::now();
        // As sinks do. To begin at the beginning the client would ask for the offset first.
        let mut reader = reader_from(StartOffset::At(0), &backend, &ClientSettings::new(), &topic);
        read_to(&mut reader, 0, 1).await;
        took = begun.elapsed();
        readers.push(reader);
    }
}
