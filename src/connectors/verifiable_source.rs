//! Numbers for tests of whole clusters (Java: `VerifiableSourceConnector` and its task, of Kafka's system tests).
//!
//! Each task counts from 0, prints every number before it is sent and again when its offset is durable, and goes on behind the
//! last durable number after a restart. Who reads the lines knows what must be in the topic. Settings, partitions, offsets,
//! records and lines are Java's:
//!
//! * `topic`; `throughput` in records a second of one task, without bound when negative, one record and no more when 0;
//!   `complete.record.data`, whether the value is the content of the line rather than the number. `id` is set by the connector.
//! * partition `{"id": task}`, offset `{"seqno": number}`, key the task as INT32, value the number as INT64.
//! * `{"task":0,"seqno":17,"time_ms":1700000000000,"name":"source","topic":"numbers"}`, and the same with `"committed":true` in
//!   front.
//!
//! As in Java the settings are not declared, so validation does not know them; what is wrong with them fails the tasks. Records
//! come in batches where Java sends one by one. With `complete.record.data` Java prints a complaint in the place of the second
//! line.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use connect_api::{
    ByteString, ConfigDef, ConnectError, Connector, ConnectorContext, FieldMap, Props, Record, RecordMetadata, Result,
    SchemaAndValue, SchemaBuilder, SchemaRef, SourceConnector, SourcePartition, SourceRecord, SourceTask,
    SourceTaskContext, Struct, Value, async_trait, schema,
};
use tokio::time::Instant;

use super::verifiable_json::{append_line, integer, now_ms, print};

/// The class name in configurations.
pub const CLASS: &str = "org.apache.kafka.connect.tools.VerifiableSourceConnector";
/// The class name of the task.
pub const TASK_CLASS: &str = "org.apache.kafka.connect.tools.VerifiableSourceTask";

const NAME: &str = "name";
const ID: &str = "id";
const TOPIC: &str = "topic";
const THROUGHPUT: &str = "throughput";
const COMPLETE_RECORD_DATA: &str = "complete.record.data";
const SEQNO: &str = "seqno";

/// The most records of one batch.
const MAX_BATCH: u64 = 500;
/// The shortest wait for more records to be due: fewer would be in a batch than it costs.
const MIN_WAIT: Duration = Duration::from_millis(5);
/// The longest wait within one `poll`.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// So many bytes of lines about durable records are printed before the flush is over.
const MAX_KEPT_LINES_BYTES: usize = 256 << 10;

/// The content of the line as a record.
static COMPLETE: LazyLock<SchemaRef> = LazyLock::new(|| {
    SchemaBuilder::new_struct()
        .field(NAME, schema::STRING.clone())
        .field("task", schema::INT32.clone())
        .field(TOPIC, schema::STRING.clone())
        .field("time_ms", schema::INT64.clone())
        .field(SEQNO, schema::INT64.clone())
        .build()
});

/// Has as many tasks as `tasks.max` says; each counts for itself.
#[derive(Default)]
pub struct VerifiableSourceConnector {
    props: Props,
}

#[async_trait]
impl Connector for VerifiableSourceConnector {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }

    async fn start(&mut self, _context: ConnectorContext, props: Props) -> Result<()> {
        self.props = props;
        Ok(())
    }

    async fn task_configs(&mut self, tasks_max: usize) -> Result<Vec<Props>> {
        Ok(super::numbered(&self.props, ID, tasks_max))
    }

    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

impl SourceConnector for VerifiableSourceConnector {}

/// Counts and prints.
#[derive(Default)]
pub struct VerifiableSourceTask {
    context: Option<SourceTaskContext>,
    running: Option<Running>,
}

struct Running {
    name: Value,
    id: Value,
    topic: ByteString,
    partition: SourcePartition,
    complete_record_data: bool,
    /// Records a second.
    throughput: i64,
    started: Instant,
    sent: u64,
    /// The next number.
    seqno: i64,
    /// Lines about durable records that are not printed yet.
    committed: String,
}

#[async_trait]
impl SourceTask for VerifiableSourceTask {
    fn wants_commit_record(&self) -> bool {
        true
    }

    async fn initialize(&mut self, context: SourceTaskContext) -> Result<()> {
        self.context = Some(context);
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        let text = |name: &str| {
            let text = props.get(name).map(|text| ByteString::from(text.as_str()));
            text.ok_or_else(|| ConnectError::config(format!("{name} must be set")))
        };
        let (id, throughput): (i32, i64) = (integer(&props, ID)?, integer(&props, THROUGHPUT)?);
        let partition: SourcePartition = Arc::new(FieldMap::new().with(ID, id));
        let context = self.context.as_ref();
        let context = context.ok_or_else(|| ConnectError::fatal("the task was started before it was initialized"))?;
        let seqno = match context.offset_storage_reader().offset(&partition).await? {
            None => 0,
            Some(offset) => {
                let last = offset.get(SEQNO).and_then(Value::as_i64).and_then(|last| last.checked_add(1));
                last.ok_or_else(|| ConnectError::fatal(format!("the committed offset needs an integer {SEQNO}")))?
            }
        };
        let (name, topic) = (text(NAME)?, text(TOPIC)?);
        tracing::info!(%name, id, %topic, seqno, "counting");
        self.running = Some(Running {
            name: name.into(),
            id: id.into(),
            topic,
            partition,
            complete_record_data: props.get(COMPLETE_RECORD_DATA).is_some_and(|text| text.eq_ignore_ascii_case("true")),
            throughput,
            started: Instant::now(),
            sent: 0,
            seqno,
            committed: String::new(),
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let (records, lines) = self.running()?.due_records().await?;
        print(lines).await?;
        Ok(records)
    }

    /// It waits within `poll`.
    fn poll_interval(&self) -> Duration {
        Duration::ZERO
    }

    async fn commit(&mut self) -> Result<()> {
        print(std::mem::take(&mut self.running()?.committed)).await
    }

    async fn commit_record(&mut self, record: &SourceRecord, _metadata: Option<RecordMetadata>) -> Result<()> {
        let running = self.running()?;
        let seqno = record.source_offset.get(SEQNO).unwrap_or(&Value::Null);
        append_line(
            &mut running.committed,
            &[
                ("committed", &true.into()),
                ("task", &running.id),
                (SEQNO, seqno),
                ("time_ms", &now_ms()),
                (NAME, &running.name),
                (TOPIC, &running.topic.clone().into()),
            ],
        );
        if running.committed.len() < MAX_KEPT_LINES_BYTES {
            return Ok(());
        }
        print(std::mem::take(&mut running.committed)).await
    }

    async fn stop(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => print(running.committed).await,
            None => Ok(()),
        }
    }
}

impl VerifiableSourceTask {
    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().ok_or_else(|| ConnectError::fatal("the task was called before it was started"))
    }
}

impl Running {
    /// What is due, with the lines to print; waits for it if that takes no more than [`MAX_WAIT`].
    async fn due_records(&mut self) -> Result<(Vec<SourceRecord>, String)> {
        let mut now = due(self.started.elapsed(), self.sent, self.throughput);
        if let Due::In(wait) = now {
            tokio::time::sleep(wait).await;
            now = due(self.started.elapsed(), self.sent, self.throughput);
        }
        let Due::Now(count) = now else { return Ok(Default::default()) };
        let mut lines = String::new();
        let records = (0..count).map(|_| self.next(&mut lines)).collect::<Result<_>>()?;
        Ok((records, lines))
    }

    /// The next record, and its line.
    fn next(&mut self, lines: &mut String) -> Result<SourceRecord> {
        let (seqno, time, topic) = (Value::Int64(self.seqno), now_ms(), Value::String(self.topic.clone()));
        append_line(
            lines,
            &[("task", &self.id), (SEQNO, &seqno), ("time_ms", &time), (NAME, &self.name), (TOPIC, &topic)],
        );
        let value = if self.complete_record_data {
            let values = vec![self.name.clone(), self.id.clone(), topic, time, seqno.clone()];
            let complete = Struct::from_values(LazyLock::force(&COMPLETE).clone(), values)?;
            SchemaAndValue::new(LazyLock::force(&COMPLETE).clone(), complete)
        } else {
            SchemaAndValue::new(schema::INT64.clone(), seqno.clone())
        };
        let record = SourceRecord {
            source_partition: self.partition.clone(),
            source_offset: Arc::new(FieldMap::new().with(SEQNO, seqno)),
            record: Record {
                key: SchemaAndValue::new(schema::INT32.clone(), self.id.clone()),
                ..Record::new(self.topic.clone(), value)
            },
        };
        self.sent += 1;
        self.seqno = self.seqno.wrapping_add(1);
        Ok(record)
    }
}

/// What the throughput allows.
#[derive(Debug, PartialEq)]
enum Due {
    /// So many records, at least one.
    Now(u64),
    /// Nothing before this time is over; it may still be nothing then.
    In(Duration),
}

/// Java's rule: as long as the average since the start is not above the throughput, one more may be sent.
fn due(elapsed: Duration, sent: u64, throughput: i64) -> Due {
    let Ok(per_second) = u64::try_from(throughput) else { return Due::Now(MAX_BATCH) };
    let allowed = elapsed.as_nanos().saturating_mul(per_second.into()) / Duration::from_secs(1).as_nanos() + 1;
    match u64::try_from(allowed).unwrap_or(u64::MAX).saturating_sub(sent) {
        0 if per_second == 0 => Due::In(MAX_WAIT),
        0 => {
            let next = Duration::try_from_secs_f64(sent as f64 / per_second as f64).unwrap_or(Duration::MAX);
            Due::In(next.saturating_sub(elapsed).clamp(MIN_WAIT, MAX_WAIT))
        }
        count => Due::Now(count.min(MAX_BATCH)),
    }
}

#[cfg(test)]
mod tests {
    use connect_api::{OffsetStorageReader, SourceOffset};

    use super::*;

    struct Stored(Option<i64>);

    #[async_trait]
    impl OffsetStorageReader for Stored {
        async fn offsets(&self, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>> {
            assert_eq!(*partitions[0], FieldMap::new().with("id", 3i32));
            let offset = self.0.map(|last| Arc::new(FieldMap::new().with("seqno", last)));
            Ok(vec![offset; partitions.len()])
        }
    }

    fn props(settings: &[(&str, &str)]) -> Props {
        let common = [("name", "source"), ("id", "3"), ("topic", "numbers"), ("throughput", "-1")];
        let all = common.iter().chain(settings);
        all.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    async fn started(stored: Option<i64>, settings: &[(&str, &str)]) -> Result<VerifiableSourceTask> {
        let mut task = VerifiableSourceTask::default();
        task.initialize(SourceTaskContext::new(Arc::new(Stored(stored)))).await?;
        task.start(props(settings)).await?;
        Ok(task)
    }

    #[tokio::test]
    async fn each_task_has_its_number() {
        let mut connector = VerifiableSourceConnector { props: props(&[]) };
        let configs = connector.task_configs(2).await.unwrap();
        assert_eq!(configs.iter().map(|config| &*config["id"]).collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!(configs[1]["topic"], "numbers");
    }

    #[tokio::test]
    async fn records_and_lines_are_those_of_java() {
        let mut task = started(Some(16), &[]).await.unwrap();
        let mut lines = String::new();
        let record = task.running().unwrap().next(&mut lines).unwrap();
        assert_eq!(*record.source_partition, FieldMap::new().with("id", 3i32));
        assert_eq!(*record.source_offset, FieldMap::new().with("seqno", 17i64));
        assert_eq!(record.key, SchemaAndValue::new(schema::INT32.clone(), 3i32));
        assert_eq!(record.value, SchemaAndValue::new(schema::INT64.clone(), 17i64));
        assert_eq!((record.timestamp, record.kafka_partition), (None, None));
        let (front, rest) = lines.split_once(",\"time_ms\":").unwrap();
        assert_eq!(front, r#"{"task":3,"seqno":17"#);
        assert!(rest.ends_with(",\"name\":\"source\",\"topic\":\"numbers\"}\n"), "{rest}");

        task.commit_record(&record, None).await.unwrap();
        let committed = &task.running().unwrap().committed;
        assert!(committed.starts_with(r#"{"committed":true,"task":3,"seqno":17,"time_ms":"#), "{committed}");
        assert!(committed.ends_with(",\"name\":\"source\",\"topic\":\"numbers\"}\n"), "{committed}");
    }

    #[tokio::test]
    async fn complete_records_carry_the_line() {
        let mut task = started(None, &[("complete.record.data", "True")]).await.unwrap();
        let record = task.running().unwrap().next(&mut String::new()).unwrap();
        let Value::Struct(data) = &record.value.value else { panic!("{record:?}") };
        assert_eq!(record.value.schema.as_ref(), Some(data.schema()));
        let names: Vec<&str> = data.schema().fields().iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["name", "task", "topic", "time_ms", "seqno"]);
        assert_eq!(data.get("seqno"), Some(&Value::Int64(0)));
        let mut again = task.running().unwrap().next(&mut String::new()).unwrap();
        assert_eq!(again.source_offset.get("seqno"), Some(&Value::Int64(1)));
        again.record.value = SchemaAndValue::NULL;
        task.commit_record(&again, None).await.unwrap();
        assert!(task.running().unwrap().committed.contains("\"seqno\":1,"), "the number, not the value");
    }

    #[tokio::test]
    async fn settings_that_are_wrong_fail_the_task() {
        for settings in [&[("throughput", "fast")][..], &[("id", "")], &[("throughput", "")]] {
            assert!(started(None, settings).await.is_err(), "{settings:?}");
        }
        let mut task = VerifiableSourceTask::default();
        task.initialize(SourceTaskContext::new(Arc::new(Stored(None)))).await.unwrap();
        let mut without = props(&[]);
        without.remove("topic");
        assert_eq!(task.start(without).await.unwrap_err().message(), "topic must be set");
        assert!(task.poll().await.is_err());
    }

    #[test]
    fn throughput_is_an_average_since_the_start() {
        for (elapsed, sent, throughput, expected) in [
            (ms(0), 0, 100, Due::Now(1)),
            (ms(0), 1, 100, Due::In(ms(10))),
            (ms(10), 1, 100, Due::Now(1)),
            (ms(1000), 1, 100, Due::Now(100)),
            (ms(60_000), 1, 100, Due::Now(MAX_BATCH)),
            (ms(0), 1, 100_000, Due::In(MIN_WAIT)),
            (ms(0), 1_000_000, 1, Due::In(MAX_WAIT)),
            (ms(0), 0, 0, Due::Now(1)),
            (ms(1_000_000), 1, 0, Due::In(MAX_WAIT)),
            (ms(0), 1_000_000, -1, Due::Now(MAX_BATCH)),
            (ms(0), u64::MAX, 1, Due::In(MAX_WAIT)),
            (Duration::MAX, u64::MAX - 7, i64::MAX, Due::Now(7)),
        ] {
            assert_eq!(due(elapsed, sent, throughput), expected, "{elapsed:?} {sent} {throughput}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_task_waits_and_a_silent_one_returns() {
        let mut slow = started(None, &[("throughput", "10")]).await.unwrap();
        let began = Instant::now();
        let mut count = 0;
        while count < 21 {
            count += slow.running().unwrap().due_records().await.unwrap().0.len();
        }
        assert_eq!(count, 21);
        assert!((ms(1990)..=ms(2100)).contains(&began.elapsed()), "{:?}", began.elapsed());
        let mut silent = started(None, &[("throughput", "0")]).await.unwrap();
        let silent = silent.running().unwrap();
        assert_eq!(silent.due_records().await.unwrap().0.len(), 1);
        assert_eq!(silent.due_records().await.unwrap().0.len(), 0);
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
