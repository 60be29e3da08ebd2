//! Prints what arrives, for tests of whole clusters (Java: `VerifiableSinkConnector` and its task, of Kafka's system tests).
//!
//! Each record is printed when it arrives, and again when its offset is about to be committed:
//! `{"task":0,"seqno":17,"offset":42,"time_ms":1700000000000,"name":"sink","topic":"numbers","sinkTask":1}`, and the same with
//! `"flushed":true` at its end. `task` is the key and `seqno` the value of the record, whatever they are. The connector sets `id`,
//! the number of the task; as in Java it is not declared.
//!
//! Java keeps the second lines by the topic that transformations gave to a record, and never prints those of a renamed topic;
//! this keeps them by the topic that was read.

use std::collections::BTreeMap;

use connect_api::sink::Offsets;
use connect_api::{
    ConfigDef, ConnectError, Connector, ConnectorContext, Props, Result, SinkConnector, SinkRecord, SinkTask,
    SinkTaskContext, TopicPartition, Value, async_trait,
};

use super::verifiable_json::{append_line, integer, now_ms, print};

/// The class name in configurations.
pub const CLASS: &str = "org.apache.kafka.connect.tools.VerifiableSinkConnector";
/// The class name of the task.
pub const TASK_CLASS: &str = "org.apache.kafka.connect.tools.VerifiableSinkTask";

const NAME: &str = "name";
const ID: &str = "id";

/// Records that may wait for their second line before a commit is asked for.
const MAX_UNFLUSHED: usize = 50_000;

/// Has as many tasks as `tasks.max` says.
#[derive(Default)]
pub struct VerifiableSinkConnector {
    props: Props,
}

#[async_trait]
impl Connector for VerifiableSinkConnector {
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

impl SinkConnector for VerifiableSinkConnector {}

/// Prints.
#[derive(Default)]
pub struct VerifiableSinkTask {
    context: SinkTaskContext,
    running: Option<Running>,
    unflushed: BTreeMap<TopicPartition, Vec<Arrived>>,
}

struct Running {
    name: Value,
    id: Value,
}

/// What a line says of a record.
struct Arrived {
    task: Value,
    seqno: Value,
    offset: Value,
    topic: Value,
}

#[async_trait]
impl SinkTask for VerifiableSinkTask {
    async fn initialize(&mut self, context: SinkTaskContext) -> Result<()> {
        self.context = context;
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        let id: i32 = integer(&props, ID)?;
        self.running = Some(Running { name: props.get(NAME).cloned().into(), id: id.into() });
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        print(self.arrive(records, &now_ms())?).await
    }

    async fn flush(&mut self, offsets: &Offsets) -> Result<()> {
        print(self.flushed(offsets, &now_ms())?).await
    }

    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

impl VerifiableSinkTask {
    fn running(&self) -> Result<&Running> {
        self.running.as_ref().ok_or_else(|| ConnectError::fatal("the task was called before it was started"))
    }

    /// The lines of records that came.
    fn arrive(&mut self, records: &[SinkRecord], now: &Value) -> Result<String> {
        let mut lines = String::new();
        for record in records {
            let arrived = Arrived {
                task: record.key.value.clone(),
                seqno: record.value.value.clone(),
                offset: record.kafka_offset.into(),
                topic: Value::String(record.topic.clone()),
            };
            self.running()?.append(&mut lines, &arrived, now, false);
            match self.unflushed.get_mut(&record.original) {
                Some(waiting) => waiting.push(arrived),
                None => drop(self.unflushed.insert(record.original.clone(), vec![arrived])),
            }
        }
        if self.unflushed.values().map(Vec::len).sum::<usize>() > MAX_UNFLUSHED {
            self.context.request_commit();
        }
        Ok(lines)
    }

    /// The lines of records whose offsets are about to be committed.
    fn flushed(&mut self, offsets: &Offsets, now: &Value) -> Result<String> {
        let mut lines = String::new();
        for partition in offsets.keys() {
            for arrived in self.unflushed.remove(partition).unwrap_or_default() {
                self.running()?.append(&mut lines, &arrived, now, true);
            }
        }
        Ok(lines)
    }
}

impl Running {
    fn append(&self, lines: &mut String, arrived: &Arrived, now: &Value, flushed: bool) {
        let fields = [
            ("task", &arrived.task),
            ("seqno", &arrived.seqno),
            ("offset", &arrived.offset),
            ("time_ms", now),
            (NAME, &self.name),
            ("topic", &arrived.topic),
            ("sinkTask", &self.id),
            ("flushed", &Value::Boolean(true)),
        ];
        append_line(lines, if flushed { &fields } else { &fields[..fields.len() - 1] });
    }
}

#[cfg(test)]
mod tests {
    use connect_api::{Record, SchemaAndValue, TimestampType, schema};

    use super::*;

    fn record(original: &str, offset: i64, value: i64) -> SinkRecord {
        let mut record = Record::new("numbers", SchemaAndValue::new(schema::INT64.clone(), value));
        record.key = SchemaAndValue::new(None, 5i64);
        (record.kafka_partition, record.kafka_offset) = (Some(0), Some(offset));
        let original = TopicPartition::new(original, 0);
        SinkRecord { record, timestamp_type: TimestampType::CreateTime, original, original_offset: offset }
    }

    async fn started() -> VerifiableSinkTask {
        let mut task = VerifiableSinkTask::default();
        let props = [("name", "sink"), ("id", "1")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        task.initialize(SinkTaskContext::default()).await.unwrap();
        task.start(props.into()).await.unwrap();
        task
    }

    #[tokio::test]
    async fn lines_are_those_of_java() {
        let mut task = started().await;
        let lines = task.arrive(&[record("old", 42, 17)], &Value::Int64(9)).unwrap();
        let line = r#"{"task":5,"seqno":17,"offset":42,"time_ms":9,"name":"sink","topic":"numbers","sinkTask":1"#;
        assert_eq!(lines, format!("{line}}}\n"));
        let partition = TopicPartition::new("old", 0);
        let other = Offsets::from([(TopicPartition::new("numbers", 0), 43)]);
        assert_eq!(task.flushed(&other, &Value::Int64(10)).unwrap(), "");
        let lines = task.flushed(&Offsets::from([(partition.clone(), 43)]), &Value::Int64(10)).unwrap();
        let line = line.replace("\"time_ms\":9", "\"time_ms\":10");
        assert_eq!(lines, format!("{line},\"flushed\":true}}\n"));
        assert_eq!(task.flushed(&Offsets::from([(partition, 43)]), &Value::Int64(11)).unwrap(), "", "once");
    }

    #[tokio::test]
    async fn a_commit_is_asked_for_before_too_many_wait() {
        let mut task = started().await;
        let records: Vec<SinkRecord> = (0..MAX_UNFLUSHED as i64).map(|at| record("numbers", at, at)).collect();
        task.arrive(&records, &Value::Null).unwrap();
        assert!(!task.context.take_requests().commit);
        task.arrive(&records[..1], &Value::Null).unwrap();
        assert!(task.context.take_requests().commit);
    }

    #[tokio::test]
    async fn a_task_without_a_number_fails() {
        let mut task = VerifiableSinkTask::default();
        assert!(task.start(Props::new()).await.unwrap_err().message().contains("id"));
        assert!(task.put(&[record("numbers", 1, 1)]).await.is_err());
    }
}
