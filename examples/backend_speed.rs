//! What a record costs on the way through `connect_node::backend`, beside the plain loop over the client crate's own producer and
//! consumer. Those allocate for each record, so they are no measure of the C library alone.
//!
//!     cargo run --release --example backend_speed -- 127.0.0.1:9092 [records] [bytes]
//!
//! Prints records per second and CPU seconds of this process per million records: ours and librdkafka's threads together. Wall-clock
//! figures depend on the broker beside; judge a change by the CPU, over several runs: on a small virtual machine the same code varied by
//! a factor of two.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use connect_node::backend::{
    Ack, Backend, ClientSettings, Isolation, NewTopic, ProducerRecord, ReadBatch, StartOffset, TopicPartition, kafka,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

/// Records of one `send`, as a task's pump has them.
const BATCH: usize = 1000;
/// Bytes of a handle.
const MAX_BYTES: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Ticks of /proc/self/stat, on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may contain spaces; user and system time are the 12th and 13th field behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

struct Measure {
    begun: Instant,
    cpu: f64,
}

impl Measure {
    fn begin() -> Measure {
        Measure { begun: Instant::now(), cpu: cpu_seconds() }
    }

    fn end(self, what: &str, records: usize) {
        let (seconds, cpu) = (self.begun.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let (rate, per_million) = (records as f64 / seconds, cpu * 1e6 / records as f64);
        println!("{what:<52} {rate:>10.0} records/s   {per_million:.2} CPU-s per million");
    }
}

async fn write(backend: &dyn Backend, topic: &str, records: usize, batch: &[ProducerRecord], what: &str) -> Result<()> {
    let writer = backend.writer(&ClientSettings::new(), MAX_BYTES)?;
    let (mut acks, mut sent, mut acked) = (Vec::new(), 0, 0);
    let measure = Measure::begin();
    while acked < records {
        let rest = batch.len().min(records - sent);
        let mut from = 0;
        while from < rest {
            match writer.send(&batch[from..rest])? {
                0 => break,
                taken => from += taken,
            }
        }
        sent += from;
        if from < rest || sent == records {
            writer.changed().await;
        }
        writer.take_acks(&mut acks);
        for ack in acks.drain(..) {
            match ack {
                Ack::Delivered { count, .. } => acked += count as usize,
                Ack::Failed { error, .. } => return Err(error).context(format!("writing to {topic}")),
            }
        }
    }
    measure.end(what, records);
    Ok(())
}

async fn read(backend: &dyn Backend, topic: &str, records: usize) -> Result<()> {
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted)?;
    reader.assign(&[(TopicPartition::new(topic, 0), StartOffset::Beginning)])?;
    let (mut batch, mut count, mut bytes, mut reads) = (ReadBatch::default(), 0, 0, 0);
    let measure = Measure::begin();
    while count < records {
        reader.read(&mut batch, BATCH, PATIENCE).await?;
        count += batch.records.len();
        bytes += batch.records.iter().filter_map(|record| record.value.as_ref()).map(Bytes::len).sum::<usize>();
        reads += 1;
    }
    measure.end(&format!("reader: {reads} reads, {} MB", bytes / 1_000_000), records);
    Ok(())
}

fn raw_write(bootstrap: &str, topic: &str, records: usize, value: &[u8]) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").set("linger.ms", "5");
    config.set("batch.num.messages", "100000").set("queue.buffering.max.messages", "0");
    config.set("queue.buffering.max.kbytes", "16384");
    let producer: BaseProducer = config.create()?;
    let measure = Measure::begin();
    for at in 0..records {
        let mut record =
            BaseRecord::<[u8], [u8]>::to(topic).partition(0).key(b"key").payload(value).timestamp(1 + at as i64);
        while let Err((error, back)) = producer.send(record) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => producer.poll(Duration::from_millis(1)),
                error => return Err(error.into()),
            };
            record = back;
        }
        if at % BATCH == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE)?;
    measure.end("BaseProducer of the client crate", records);
    Ok(())
}

fn raw_read(bootstrap: &str, topic: &str, records: usize) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "backend-speed").set("enable.auto.commit", "false");
    config.set("fetch.queue.backoff.ms", "10").set("queued.max.messages.kbytes", "16384");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&list)?;
    let (mut count, mut bytes) = (0, 0);
    let measure = Measure::begin();
    while count < records {
        let message = consumer.poll(PATIENCE).context("no record came")??;
        bytes += message.payload().map_or(0, <[u8]>::len);
        count += 1;
    }
    measure.end(&format!("BaseConsumer of the client crate, {} MB", bytes / 1_000_000), records);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().context("usage: backend_speed BOOTSTRAP [RECORDS] [BYTES]")?;
    let records: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse()).context("RECORDS")?;
    let size: usize = arguments.next().map_or(Ok(100), |text| text.parse()).context("BYTES")?;
    let backend = kafka::open(&bootstrap, &ClientSettings::new())?;
    let topic = format!("backend-speed-{}", std::process::id());
    let config = [("retention.ms".to_owned(), "600000".to_owned())].into();
    let topics = ["stamped", "plain", "raw"].map(|kind| format!("{topic}-{kind}"));
    for name in &topics {
        let new = NewTopic { name: name.clone(), partitions: 1, replication_factor: 1, config: Clone::clone(&config) };
        backend.admin().create_topic(&new).await?;
    }
    println!("{records} records of {size} bytes, one partition");
    let value = Bytes::from(vec![b'x'; size]);
    let record = |topic: &str, timestamp| ProducerRecord {
        partition: Some(0),
        timestamp,
        ..ProducerRecord::keyed(topic.to_owned(), Bytes::from_static(b"key"), Some(value.clone()))
    };
    let stamped: Vec<_> = (0..BATCH).map(|at| record(&topics[0], Some(1_700_000_000_000 + at as i64))).collect();
    write(&*backend, &topics[0], records, &stamped, "writer, explicit timestamps").await?;
    let plain: Vec<_> = (0..BATCH).map(|_| record(&topics[1], None)).collect();
    write(&*backend, &topics[1], records, &plain, "writer, stamped by the client").await?;
    let (raw_bootstrap, raw_topic) = (bootstrap.clone(), topics[2].clone());
    tokio::task::spawn_blocking(move || raw_write(&raw_bootstrap, &raw_topic, records, &value)).await??;
    read(&*backend, &topics[0], records).await?;
    let raw_topic = topics[0].clone();
    tokio::task::spawn_blocking(move || raw_read(&bootstrap, &raw_topic, records)).await??;
    for name in &topics {
        backend.admin().delete_topic(name).await?;
    }
    Ok(())
}
