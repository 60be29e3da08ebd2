//! Reads a file, or standard input, line by line (Java: `FileStreamSourceConnector` and its task).
//!
//! Each complete line is one record: a STRING without key, with the present time. The source partition is
//! `{"filename": file}`, the offset `{"position": n}` where `n` is the byte behind the end of the line. What the file does
//! meanwhile is answered like this:
//!
//! * missing, or removed later: the task waits for it and keeps its position;
//! * replaced by another file (rotated): the old one was read to its end, the new one is read from its start;
//! * shorter than the position: the task fails, since it cannot know which lines are new;
//! * unreadable, or no regular file: the task fails;
//! * bytes that are no UTF-8: each broken sequence becomes U+FFFD;
//! * a line longer than [`MAX_LINE_BYTES`]: the task fails.
//!
//! Java counts characters where this counts bytes, so positions that a Java worker stored for a file with characters beyond ASCII
//! are too small: after a takeover, lines are read twice.

mod follow;
pub(super) mod lines;
mod stdin;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connect_api::{
    ByteString, ConfigDef, ConfigKey, ConnectError, Connector, ConnectorContext, ExactlyOnceSupport, FieldMap,
    Importance, ParsedConfig, Props, Record, Result, SchemaAndValue, SchemaRef, SourceConnector, SourceOffset,
    SourceOffsetChange, SourcePartition, SourceRecord, SourceTask, SourceTaskContext, Type, Validator, Value,
    async_trait, schema,
};

use follow::FileFollower;
use lines::{Line, Lines};
use stdin::Stdin;

pub use lines::MAX_LINE_BYTES;

/// The class name in configurations.
pub const CLASS: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
/// The class name of the task.
pub const TASK_CLASS: &str = "org.apache.kafka.connect.file.FileStreamSourceTask";

const FILE: &str = "file";
const TOPIC: &str = "topic";
const BATCH_SIZE: &str = "batch.size";
pub(super) const FILENAME: &str = "filename";
pub(super) const POSITION: &str = "position";
const DEFAULT_BATCH_SIZE: i32 = 2000;

/// Between a poll that found nothing and the next one: first, doubled each time up to the last, which is Java's.
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(100);
const LAST_POLL_INTERVAL: Duration = Duration::from_secs(1);

fn definition() -> ConfigDef {
    ConfigDef::new()
        .define(
            ConfigKey::new(
                FILE,
                Type::String,
                Importance::High,
                "The file to read; standard input when it is not set.",
            )
            .optional(),
        )
        .define(
            ConfigKey::new(TOPIC, Type::String, Importance::High, "The topic that the lines go to.")
                .validator(Validator::non_empty()),
        )
        .define(
            ConfigKey::new(BATCH_SIZE, Type::Int, Importance::Low, "How many lines one batch has at most.")
                .default_value(DEFAULT_BATCH_SIZE),
        )
}

/// The file of a configuration; `None` for standard input.
fn file_of(config: &ParsedConfig) -> Option<&str> {
    config.opt_string(FILE).filter(|file| !file.is_empty())
}

/// Always has one task: lines of one file have one order.
#[derive(Default)]
pub struct FileStreamSourceConnector {
    props: Props,
}

#[async_trait]
impl Connector for FileStreamSourceConnector {
    fn config(&self) -> ConfigDef {
        definition()
    }

    async fn start(&mut self, _context: ConnectorContext, props: Props) -> Result<()> {
        definition().parse(&props)?;
        self.props = props;
        Ok(())
    }

    async fn task_configs(&mut self, _tasks_max: usize) -> Result<Vec<Props>> {
        Ok(vec![self.props.clone()])
    }

    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SourceConnector for FileStreamSourceConnector {
    fn exactly_once_support(&self, props: &Props) -> ExactlyOnceSupport {
        match definition().parse(props) {
            Ok(config) if file_of(&config).is_some() => ExactlyOnceSupport::Supported,
            _ => ExactlyOnceSupport::Unsupported,
        }
    }

    /// As in Java, anything may be removed, and partitions that the present configuration does not read may be set.
    async fn alter_offsets(&mut self, props: &Props, offsets: &[SourceOffsetChange]) -> Result<bool> {
        if file_of(&definition().parse(props)?).is_none() {
            return Err(ConnectError::fatal("standard input has no offsets: the setting file is not set"));
        }
        check_changed_offsets(offsets)?;
        Ok(true)
    }
}

/// An error unless every offset that is set has a position, and its partition a file.
pub(super) fn check_changed_offsets(offsets: &[SourceOffsetChange]) -> Result<()> {
    for (partition, offset) in offsets {
        let Some(offset) = offset else { continue };
        position_of(offset)?.ok_or_else(|| ConnectError::fatal(format!("an offset needs a {POSITION}")))?;
        if partition.as_ref().is_none_or(|partition| partition.get(FILENAME).is_none()) {
            return Err(ConnectError::fatal(format!("a partition needs a {FILENAME}")));
        }
    }
    Ok(())
}

/// The position of a stored offset, `None` when it holds none.
pub(super) fn position_of(offset: &FieldMap) -> Result<Option<u64>> {
    let Some(value) = offset.get(POSITION).filter(|value| !value.is_null()) else { return Ok(None) };
    let position = value.as_i64().and_then(|position| u64::try_from(position).ok());
    position.map(Some).ok_or_else(|| {
        ConnectError::fatal(format!("the {POSITION} of an offset must be a number of bytes, but is {value}"))
    })
}

/// A thousand files that do not grow are looked at less often than one that does.
fn poll_interval(empty_polls: u32) -> Duration {
    (FIRST_POLL_INTERVAL * (1 << empty_polls.saturating_sub(1).min(10))).min(LAST_POLL_INTERVAL)
}

enum Input {
    File(FileFollower),
    Stdin(Stdin),
}

/// Reads the lines.
#[derive(Default)]
pub struct FileStreamSourceTask {
    context: Option<SourceTaskContext>,
    running: Option<Running>,
    /// Polls in a row that found nothing.
    empty_polls: u32,
}

struct Running {
    input: Input,
    batch_size: usize,
    partition: SourcePartition,
    topic: ByteString,
    schema: SchemaRef,
    /// Complete lines that were read, but not returned.
    lines: Lines,
}

#[async_trait]
impl SourceTask for FileStreamSourceTask {
    async fn initialize(&mut self, context: SourceTaskContext) -> Result<()> {
        self.context = Some(context);
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        let config = definition().parse(&props)?;
        let filename = file_of(&config).map(ByteString::from);
        let partition: SourcePartition = Arc::new(FieldMap::new().with(FILENAME, filename.clone()));
        let input = match &filename {
            None => Input::Stdin(Stdin::new()),
            Some(name) => {
                let position = self.committed_position(&partition).await?;
                let mut follower = FileFollower::new(PathBuf::from(&**name), position);
                follower.open()?;
                Input::File(follower)
            }
        };
        self.running = Some(Running {
            input,
            // Java returns one line even for 0 or less.
            batch_size: usize::try_from(config.int(BATCH_SIZE)).unwrap_or(0).max(1),
            partition,
            topic: config.string(TOPIC).into(),
            schema: schema::STRING.clone(),
            lines: Lines::default(),
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let Some(running) = &mut self.running else {
            return Err(ConnectError::fatal("the task was polled before it was started"));
        };
        if running.lines.is_empty() {
            running.lines = match &mut running.input {
                Input::File(file) => file.read()?,
                Input::Stdin(stdin) => stdin.read().await?,
            };
        }
        let records = running.next_batch();
        self.empty_polls = if records.is_empty() { self.empty_polls.saturating_add(1) } else { 0 };
        Ok(records)
    }

    fn poll_interval(&self) -> Duration {
        poll_interval(self.empty_polls)
    }

    async fn stop(&mut self) -> Result<()> {
        self.running = None;
        Ok(())
    }
}

impl FileStreamSourceTask {
    async fn committed_position(&self, partition: &SourcePartition) -> Result<u64> {
        let Some(context) = &self.context else {
            return Err(ConnectError::fatal("the task was started before it was initialized"));
        };
        let offset = context.offset_storage_reader().offset(partition).await?;
        Ok(offset.map(|offset| position_of(&offset)).transpose()?.flatten().unwrap_or(0))
    }
}

impl Running {
    fn next_batch(&mut self) -> Vec<SourceRecord> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        let mut records = Vec::with_capacity(self.batch_size.min(self.lines.at_most()));
        while records.len() < self.batch_size
            && let Some(line) = self.lines.next()
        {
            records.push(self.record(line, timestamp));
        }
        records
    }

    fn record(&self, line: Line, timestamp: i64) -> SourceRecord {
        let position = match self.input {
            Input::File(_) => Value::Int64(i64::try_from(line.end).unwrap_or(i64::MAX)),
            Input::Stdin(_) => Value::Null,
        };
        let value = SchemaAndValue { schema: Some(self.schema.clone()), value: Value::String(line.text) };
        let source_offset: SourceOffset = Arc::new(FieldMap::new().with(ByteString::from_static(POSITION), position));
        SourceRecord {
            source_partition: self.partition.clone(),
            source_offset,
            record: Record { timestamp: Some(timestamp), ..Record::new(self.topic.clone(), value) },
        }
    }
}
