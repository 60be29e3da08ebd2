//! The floor under bench/side-by-side: what the Kafka client alone costs for the same records, without any Connect around it.
//!
//! `produce` sends generated records of 100 bytes, `consume` reads them by the batch call; both print seconds and CPU seconds as JSON.
//! `create`, `end-offset` and `await-end` are the harness's own tools: a topic of one partition, and its end. `feed` is what sinks read
//! while workers die: numbered lines, each with the time at which it was made, until standard input ends.

use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const USAGE: &str = "usage: bench_floor (create|end-offset) BROKERS TOPIC | (produce|consume|await-end) BROKERS TOPIC COUNT \
                     | feed BROKERS PREFIX TOPICS LINES_PER_SECOND";
const RECORD_BYTES: usize = 100;
const BATCH: usize = 2000;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// No record or end offset for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(300);
const END_OFFSET_INTERVAL: Duration = Duration::from_millis(10);
/// Between two looks at which lines of a feed are due.
const FEED_INTERVAL: Duration = Duration::from_millis(5);
/// Lines of a feed that wait for a broker that is away.
const FEED_WAITING: &str = "2000000";

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["create", brokers, topic] => create(brokers, topic),
        ["end-offset", brokers, topic] => {
            println!("{}", end_offset(&consumer(brokers)?, topic)?);
            Ok(())
        }
        ["produce", brokers, topic, count] => measure(|| produce(brokers, topic, count.parse()?)),
        ["consume", brokers, topic, count] => measure(|| consume(brokers, topic, count.parse()?)),
        ["await-end", brokers, topic, count] => await_end(brokers, topic, count.parse()?),
        ["feed", brokers, prefix, topics, rate] => feed(brokers, prefix, topics.parse()?, rate.parse()?),
        _ => Err(USAGE.into()),
    }
}

/// Runs it and prints what it took.
fn measure(run: impl FnOnce() -> Outcome) -> Outcome {
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    run()?;
    println!("{{\"seconds\": {:.4}, \"cpu_seconds\": {:.2}}}", start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    Ok(())
}

/// User and system time of this process so far, in steps of 10 ms.
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").ok_or("no command name in /proc/self/stat")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

fn create(brokers: &str, topic: &str) -> Outcome {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics = [NewTopic::new(topic, 1, TopicReplication::Fixed(1))];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    for result in runtime.block_on(admin.create_topics(&topics, &options))? {
        result.map_err(|(topic, code)| format!("topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Acknowledged by all in-sync replicas and idempotent, as a source task's producer is.
fn produce(brokers: &str, topic: &str, count: u64) -> Outcome {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()?;
    let mut line = [b'x'; RECORD_BYTES];
    for number in 0..count {
        line[..20].copy_from_slice(format!("{number:020}").as_bytes());
        while let Err((error, _)) = producer.send(BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&line)) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(1));
        }
        if number % BATCH as u64 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(FLUSH_TIMEOUT)?;
    Ok(())
}

fn consumer(brokers: &str) -> Outcome<BaseConsumer> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "bench-floor").create()?)
}

/// Reads whole batches and touches every payload.
fn consume(brokers: &str, topic: &str, count: u64) -> Outcome {
    let consumer = consumer(brokers)?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    let mut messages = vec![std::ptr::null_mut(); BATCH];
    let (mut records, mut bytes, start) = (0, 0, Instant::now());
    // SAFETY: the client outlives the queue, which is destroyed below and holds a reference of its own.
    let queue = unsafe { bindings::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    while records < count && start.elapsed() < PATIENCE {
        // SAFETY: `messages` has room for BATCH pointers; the call fills the first `filled` of them.
        let filled = unsafe { bindings::rd_kafka_consume_batch_queue(queue, 100, messages.as_mut_ptr(), BATCH) };
        for &message in messages.iter().take(usize::try_from(filled).unwrap_or(0)) {
            // SAFETY: a pointer that the call filled is a valid message until it is destroyed, once, here.
            unsafe {
                if (*message).err == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    records += 1;
                    bytes += (*message).len;
                }
                bindings::rd_kafka_message_destroy(message);
            }
        }
    }
    // SAFETY: the queue is not used any more.
    unsafe { bindings::rd_kafka_queue_destroy(queue) };
    if records < count || bytes != records as usize * RECORD_BYTES {
        return Err(format!("read {records} records of {bytes} bytes in all, wanted {count} of {RECORD_BYTES}").into());
    }
    Ok(())
}

fn end_offset(consumer: &BaseConsumer, topic: &str) -> Outcome<i64> {
    Ok(consumer.fetch_watermarks(topic, 0, REQUEST_TIMEOUT)?.1)
}

/// Returns as soon as the partition holds `count` records.
fn await_end(brokers: &str, topic: &str, count: i64) -> Outcome {
    let (consumer, start) = (consumer(brokers)?, Instant::now());
    while start.elapsed() < PATIENCE {
        if end_offset(&consumer, topic)? >= count {
            return Ok(());
        }
        std::thread::sleep(END_OFFSET_INTERVAL);
    }
    Err(format!("{topic} holds {} of {count} records after {} s", end_offset(&consumer, topic)?, PATIENCE.as_secs())
        .into())
}

/// Writes lines to PREFIX-0, PREFIX-1 and so on until standard input ends, and prints how many each has. Each is in its topic
/// exactly once, which is checked, so that what a sink lacks or has twice is the sink's.
fn feed(brokers: &str, prefix: &str, topics: usize, rate: u64) -> Outcome {
    let names: Vec<String> = (0..topics).map(|number| format!("{prefix}-{number}")).collect();
    for name in &names {
        create(brokers, name)?;
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.messages", FEED_WAITING)
        // By default it might wait for 10 s after a broker has come back.
        .set("reconnect.backoff.max.ms", "100")
        .create()?;
    println!("ready");
    let (ended, start, mut number) = (end_of_input(), Instant::now(), 0);
    while !ended.load(Ordering::Relaxed) {
        while number < start.elapsed().as_millis() as u64 * rate / 1000 {
            let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
            let line = format!("{{\"seqno\":{number},\"time_ms\":{time}}}");
            for name in &names {
                producer.send(BaseRecord::<(), [u8]>::to(name).payload(line.as_bytes())).map_err(|(error, _)| error)?;
            }
            number += 1;
        }
        producer.poll(FEED_INTERVAL);
        std::thread::sleep(FEED_INTERVAL);
    }
    producer.flush(FLUSH_TIMEOUT)?;
    let consumer = consumer(brokers)?;
    for name in &names {
        let end = end_offset(&consumer, name)?;
        if end != number as i64 {
            return Err(format!("{name} holds {end} of {number} lines").into());
        }
    }
    println!("{number}");
    Ok(())
}

/// Becomes true when standard input ends.
fn end_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let tell = ended.clone();
    std::thread::spawn(move || {
        // An error is an end as well.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        tell.store(true, Ordering::Relaxed);
    });
    ended
}
