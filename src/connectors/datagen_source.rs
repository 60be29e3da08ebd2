//! Makes records up, for tours and tests. A connector of connect-node; Java has none like it.
//!
//! A record is a struct of the fields that the configuration names, each of them a function of the seed, the number of the task,
//! and the number of the record within its task, from 0. So the same seed makes the same records, whenever and wherever; only
//! their timestamps are the present time. Each task is a source partition `{"task": n}`, and the offset `{"sequence": n}` is
//! the number of the next record, which is how many there are before it: a restart goes on there, without a gap.
//!
//! What is due is decided in [`pace`], what a record is in [`records`] and [`content`], and what a configuration means in
//! [`settings`]; nothing there waits, reads a clock or keeps a state.

mod content;
mod field_settings;
mod pace;
mod random;
mod records;
mod settings;
mod templates;
#[cfg(test)]
mod tests;
mod times;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connect_api::{
    ByteString, ConfigDef, ConfigValue, ConnectError, Connector, ConnectorContext, ExactlyOnceSupport, FieldMap, Props,
    Record, Result, SourceConnector, SourceOffsetChange, SourcePartition, SourceRecord, SourceTask, SourceTaskContext,
    Value, async_trait,
};
use tokio::time::Instant;

use pace::{Due, due};
use settings::Plan;

/// The class name in configurations.
pub const CLASS: &str = "connect.node.DatagenSourceConnector";
/// The class name of the task.
pub const TASK_CLASS: &str = "connect.node.DatagenSourceTask";

/// Of a source partition.
const TASK: &str = "task";
/// Of an offset.
const SEQUENCE: &str = "sequence";
/// The number of a task; the connector sets it.
const TASK_NUMBER: &str = "task.number";

/// Has as many tasks as `tasks.max` says; each counts for itself.
#[derive(Default)]
pub struct DatagenSourceConnector {
    props: Props,
}

#[async_trait]
impl Connector for DatagenSourceConnector {
    fn config(&self) -> ConfigDef {
        settings::definition()
    }

    /// Also the settings of fields, which have no definition: those that are wrong are returned.
    fn validate(&self, props: &Props) -> Vec<ConfigValue> {
        settings::validate(props)
    }

    async fn start(&mut self, _context: ConnectorContext, props: Props) -> Result<()> {
        settings::plan(&props)?;
        self.props = props;
        Ok(())
    }

    async fn task_configs(&mut self, tasks_max: usize) -> Result<Vec<Props>> {
        Ok(super::numbered(&self.props, TASK_NUMBER, tasks_max))
    }

    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SourceConnector for DatagenSourceConnector {
    fn exactly_once_support(&self, _props: &Props) -> ExactlyOnceSupport {
        ExactlyOnceSupport::Supported
    }

    /// As with the file source, anything may be removed, and tasks that the present configuration does not have may be set.
    async fn alter_offsets(&mut self, _props: &Props, offsets: &[SourceOffsetChange]) -> Result<bool> {
        for (partition, offset) in offsets {
            let Some(offset) = offset else { continue };
            sequence_of(offset)?;
            let partition = partition.as_ref().filter(|partition| partition.len() == 1);
            let task = partition.and_then(|partition| partition.get(TASK)).and_then(Value::as_i64);
            if task.is_none_or(|task| !(0..=i64::from(i32::MAX)).contains(&task)) {
                let message = format!("a partition needs {TASK}, the number of a task from 0 on, and nothing else");
                return Err(ConnectError::fatal(message));
            }
        }
        Ok(true)
    }
}

/// The number of the next record.
fn sequence_of(offset: &FieldMap) -> Result<i64> {
    let value = offset.get(SEQUENCE).unwrap_or(&Value::Null);
    value.as_i64().filter(|sequence| *sequence >= 0).ok_or_else(|| {
        ConnectError::fatal(format!("an offset needs {SEQUENCE}, the number of a record from 0 on, but has {value}"))
    })
}

/// Makes records.
#[derive(Default)]
pub struct DatagenSourceTask {
    context: Option<SourceTaskContext>,
    running: Option<Running>,
}

struct Running {
    plan: Plan,
    task: i32,
    partition: SourcePartition,
    /// Of the next record.
    sequence: i64,
    started: Instant,
    /// Since the start.
    made: u64,
}

#[async_trait]
impl SourceTask for DatagenSourceTask {
    async fn initialize(&mut self, context: SourceTaskContext) -> Result<()> {
        self.context = Some(context);
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        let plan = settings::plan(&props)?;
        let number = props.get(TASK_NUMBER).and_then(|number| number.parse().ok()).filter(|number| *number >= 0);
        let task: i32 = number.ok_or_else(|| ConnectError::config(format!("{TASK_NUMBER} is no number of a task")))?;
        let Some(context) = &self.context else {
            return Err(ConnectError::fatal("the task was started before it was initialized"));
        };
        let partition: SourcePartition = Arc::new(FieldMap::new().with(TASK, task));
        let offset = context.offset_storage_reader().offset(&partition).await?;
        let sequence = offset.map_or(Ok(0), |offset| sequence_of(&offset))?;
        tracing::info!(task, topic = %plan.topic, sequence, "making records");
        self.running = Some(Running { plan, task, partition, sequence, started: Instant::now(), made: 0 });
        Ok(())
    }

    /// Never waits: the runtime does, as long as [`SourceTask::poll_interval`] says.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let Some(running) = &mut self.running else {
            return Err(ConnectError::fatal("the task was polled before it was started"));
        };
        match running.due() {
            Due::Now(count) => running.next_batch(count),
            Due::In(_) => Ok(Vec::new()),
        }
    }

    /// Until the next record is due.
    fn poll_interval(&self) -> Duration {
        match self.running.as_ref().map(Running::due) {
            Some(Due::In(wait)) => wait,
            _ => Duration::ZERO,
        }
    }

    async fn stop(&mut self) -> Result<()> {
        self.running = None;
        Ok(())
    }
}

impl Running {
    fn due(&self) -> Due {
        let left = self.plan.count.unwrap_or(i64::MAX).saturating_sub(self.sequence);
        let at_most = u64::try_from(left).unwrap_or(0).min(self.plan.batch_size);
        due(self.started.elapsed(), self.made, self.plan.rate, at_most)
    }

    fn next_batch(&mut self, count: u64) -> Result<Vec<SourceRecord>> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        (0..count).map(|_| self.next(timestamp)).collect()
    }

    fn next(&mut self, timestamp: i64) -> Result<SourceRecord> {
        let made = self.plan.recipe.record(self.task, self.sequence)?;
        self.made += 1;
        self.sequence += 1;
        Ok(SourceRecord {
            source_partition: self.partition.clone(),
            source_offset: Arc::new(FieldMap::new().with(ByteString::from_static(SEQUENCE), self.sequence)),
            record: Record {
                key: made.key,
                timestamp: Some(timestamp),
                ..Record::new(self.plan.topic.clone(), made.value)
            },
        })
    }
}
