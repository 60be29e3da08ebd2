//! Reads the files of a directory line by line, in several tasks. A connector of connect-node; Java has none like it.
//!
//! Every regular file of `directory` whose name fits `file.pattern` is a source partition `{"filename": path}` with the offset
//! `{"position": n}`, and every complete line a record: both as the file source has them. The files are divided evenly over at
//! most `tasks.max` tasks. The connector looks at the directory every `scan.interval.ms`; when files came or went, it has the
//! tasks configured anew, else never. Lines of one file keep their order.
//!
//! A file is known by its name. What happens to it is answered like this:
//!
//! * appended to: the new lines are read, also while tasks are configured anew;
//! * removed: what was not read of it is lost, and its offset stays: a file that comes back under the name goes on there;
//! * replaced by another file (renamed over it) while a task follows it: the old one is read to its end if it is open (a task
//!   keeps the [`MAX_OPEN_FILES`] that it read last open), the new one from its start. A replacement while no task runs cannot
//!   be seen: names should not be used again, and rotated files need a name that does not fit the pattern;
//! * renamed: it is another file, and read from its start;
//! * shorter than its position: the task fails and names it, since nobody can know which lines are new;
//! * not readable for lack of permission: the log says so once, it is tried again, and the other files go on;
//! * a symbolic link to a regular file: is read like one, under the name of the link;
//! * sub-directories, links to nowhere, pipes, devices: are ignored;
//! * a name that is no UTF-8: is ignored, and the log says how many there are, since an offset cannot name it;
//! * bytes that are no UTF-8: each broken sequence becomes U+FFFD;
//! * a line longer than [`MAX_LINE_BYTES`]: the task fails and names file and byte. A file without a line end gives nothing.
//!
//! A directory that is missing at the start fails the connector. One that cannot be listed later changes nothing: the log says
//! so once, and the files that were known stay in work.
//!
//! [`MAX_LINE_BYTES`]: super::file_source::MAX_LINE_BYTES

mod follow;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connect_api::connector_utils::group_partitions;
use connect_api::{
    ByteString, ConfigDef, ConfigKey, ConnectError, Connector, ConnectorContext, ExactlyOnceSupport, FieldMap,
    Importance, ParsedConfig, Props, Record, Result, SchemaAndValue, SchemaRef, SourceConnector, SourceOffsetChange,
    SourcePartition, SourceRecord, SourceTask, SourceTaskContext, Type, Validator, Value, async_trait, schema,
};
use tokio::task::JoinSet;

use super::file_source::lines::{Line, Lines};
use super::file_source::{FILENAME, POSITION, check_changed_offsets, position_of};
use follow::Files;
use scan::{Glob, Listing, scan};

pub use follow::MAX_OPEN_FILES;

/// The class name in configurations.
pub const CLASS: &str = "connect.node.DirectorySourceConnector";
/// The class name of the task.
pub const TASK_CLASS: &str = "connect.node.DirectorySourceTask";

const DIRECTORY: &str = "directory";
const FILE_PATTERN: &str = "file.pattern";
const TOPIC: &str = "topic";
const BATCH_SIZE: &str = "batch.size";
const SCAN_INTERVAL_MS: &str = "scan.interval.ms";
/// Names of the files of a task, as a JSON array; the connector sets it.
const TASK_FILES: &str = "task.files";

const DEFAULT_BATCH_SIZE: i32 = 2000;
const DEFAULT_SCAN_INTERVAL_MS: i64 = 5000;
const MIN_SCAN_INTERVAL_MS: i32 = 50;
/// The names of a task's files stand in one record of the config topic, which Kafka takes up to 1 MiB.
const MAX_TASK_FILES_BYTES: usize = 768 << 10;
/// Between two rounds over all files when nothing was new: each costs one look at each file.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

fn definition() -> ConfigDef {
    let key = ConfigKey::new;
    ConfigDef::new()
        .define(
            key(DIRECTORY, Type::String, Importance::High, "The directory whose files are read.")
                .validator(Validator::non_empty()),
        )
        .define(
            key(
                FILE_PATTERN,
                Type::String,
                Importance::Medium,
                "Which names are read: * ? [a-z] [!a-z] as in a shell.",
            )
            .default_value("*")
            .validator(Validator::text("a pattern of names, without /", |text| {
                !text.is_empty() && !text.contains('/')
            })),
        )
        .define(
            key(TOPIC, Type::String, Importance::High, "The topic that the lines go to.")
                .validator(Validator::non_empty()),
        )
        .define(
            key(BATCH_SIZE, Type::Int, Importance::Low, "How many lines one batch has at most.")
                .default_value(DEFAULT_BATCH_SIZE)
                .validator(Validator::at_least(1)),
        )
        .define(
            key(
                SCAN_INTERVAL_MS,
                Type::Long,
                Importance::Low,
                "How often new and removed files are looked for, in ms.",
            )
            .default_value(DEFAULT_SCAN_INTERVAL_MS)
            .validator(Validator::at_least(MIN_SCAN_INTERVAL_MS)),
        )
}

/// Watches the directory and divides its files.
#[derive(Default)]
pub struct DirectorySourceConnector {
    props: Props,
    /// What the tasks are to read, as the last look at the directory found it.
    names: Arc<Mutex<Vec<String>>>,
    /// Ends when it is dropped.
    watch: JoinSet<()>,
}

#[async_trait]
impl Connector for DirectorySourceConnector {
    fn config(&self) -> ConfigDef {
        definition()
    }

    async fn start(&mut self, context: ConnectorContext, props: Props) -> Result<()> {
        let config = definition().parse(&props)?;
        let directory = Directory::of(&config);
        let first = directory.scan().await.map_err(|error| directory.cannot_list(error))?;
        first.complain_if_more(0, &directory.path);
        let not_text = first.not_text;
        *locked(&self.names) = first.names;
        self.props = props;
        let interval = Duration::from_millis(u64::try_from(config.long(SCAN_INTERVAL_MS)).unwrap_or(u64::MAX));
        self.watch.spawn(watch(context, directory, interval, self.names.clone(), not_text));
        Ok(())
    }

    async fn task_configs(&mut self, tasks_max: usize) -> Result<Vec<Props>> {
        let names = locked(&self.names).clone();
        group_partitions(&names, tasks_max.max(1)).iter().map(|names| task_config(&self.props, names)).collect()
    }

    async fn stop(&mut self) -> Result<()> {
        self.watch.shutdown().await;
        Ok(())
    }
}

#[async_trait]
impl SourceConnector for DirectorySourceConnector {
    fn exactly_once_support(&self, _props: &Props) -> ExactlyOnceSupport {
        ExactlyOnceSupport::Supported
    }

    /// As with the file source, anything may be removed, and files that the present configuration does not read may be set.
    async fn alter_offsets(&mut self, _props: &Props, offsets: &[SourceOffsetChange]) -> Result<bool> {
        check_changed_offsets(offsets)?;
        Ok(true)
    }
}

/// A configuration that differs from another one only if its files do.
fn task_config(props: &Props, names: &[String]) -> Result<Props> {
    let files = serde_json::to_string(names)
        .map_err(|error| ConnectError::fatal("the names of the files have no JSON").caused_by(error))?;
    if files.len() > MAX_TASK_FILES_BYTES {
        return Err(ConnectError::fatal(format!(
            "a task would have {} files, whose names are longer than {MAX_TASK_FILES_BYTES} bytes together; raise \
             tasks.max, or narrow {FILE_PATTERN}",
            names.len()
        )));
    }
    let mut props = props.clone();
    props.insert(TASK_FILES.to_owned(), files);
    Ok(props)
}

/// Each write is one assignment, so a panic elsewhere leaves nothing half done.
fn locked(names: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where to look, and for what.
struct Directory {
    path: PathBuf,
    pattern: Glob,
}

impl Directory {
    fn of(config: &ParsedConfig) -> Directory {
        Directory { path: config.string(DIRECTORY).into(), pattern: Glob::new(config.string(FILE_PATTERN)) }
    }

    /// On a thread that may block.
    async fn scan(&self) -> std::io::Result<Listing> {
        let (path, pattern) = (self.path.clone(), self.pattern.clone());
        tokio::task::spawn_blocking(move || scan(&path, &pattern)).await.map_err(std::io::Error::other)?
    }

    fn cannot_list(&self, error: std::io::Error) -> ConnectError {
        ConnectError::fatal(format!("cannot list the directory {}: {error}", self.path.display())).caused_by(error)
    }
}

impl Listing {
    fn complain_if_more(&self, known: usize, directory: &Path) {
        if self.not_text > known {
            tracing::warn!(directory = %directory.display(), names = self.not_text,
                "ignoring files whose names are no UTF-8; rename them to have them read");
        }
    }
}

/// Looks again and again, and asks for new task configurations when files came or went.
async fn watch(
    context: ConnectorContext,
    directory: Directory,
    interval: Duration,
    names: Arc<Mutex<Vec<String>>>,
    mut not_text: usize,
) {
    let mut listed = true;
    loop {
        tokio::time::sleep(interval).await;
        let found = match directory.scan().await {
            Ok(found) => found,
            Err(error) => {
                if std::mem::replace(&mut listed, false) {
                    tracing::warn!(directory = %directory.path.display(), %error,
                        "cannot list the directory; the files that are known stay in work");
                }
                continue;
            }
        };
        if !std::mem::replace(&mut listed, true) {
            tracing::info!(directory = %directory.path.display(), "the directory can be listed again");
        }
        found.complain_if_more(not_text, &directory.path);
        not_text = found.not_text;
        if replace_if_changed(&names, found.names) {
            context.request_task_reconfiguration();
        }
    }
}

fn replace_if_changed(names: &Mutex<Vec<String>>, found: Vec<String>) -> bool {
    let mut names = locked(names);
    let changed = *names != found;
    if changed {
        *names = found;
    }
    changed
}

/// Reads some of the files.
#[derive(Default)]
pub struct DirectorySourceTask {
    context: Option<SourceTaskContext>,
    running: Option<Running>,
}

struct Running {
    /// Moves to a blocking thread for each read and comes back.
    files: Option<Files>,
    /// Of the files, by their index.
    partitions: Vec<SourcePartition>,
    /// Complete lines that were read, but not returned.
    lines: VecDeque<(usize, Lines)>,
    batch_size: usize,
    topic: ByteString,
    schema: SchemaRef,
}

#[async_trait]
impl SourceTask for DirectorySourceTask {
    async fn initialize(&mut self, context: SourceTaskContext) -> Result<()> {
        self.context = Some(context);
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        let config = definition().parse(&props)?;
        let names: Vec<String> = serde_json::from_str(props.get(TASK_FILES).map_or("", String::as_str))
            .map_err(|error| ConnectError::config(format!("{TASK_FILES} is no list of names")).caused_by(error))?;
        let paths: Vec<PathBuf> = names.iter().map(|name| Path::new(config.string(DIRECTORY)).join(name)).collect();
        // A path of two texts is a text.
        let partition = |path: &PathBuf| Arc::new(FieldMap::new().with(FILENAME, &*path.to_string_lossy()));
        let partitions: Vec<SourcePartition> = paths.iter().map(partition).collect();
        let Some(context) = &self.context else {
            return Err(ConnectError::fatal("the task was started before it was initialized"));
        };
        let offsets = context.offset_storage_reader().offsets(&partitions).await?;
        let position = |offset: Option<Arc<FieldMap>>| -> Result<u64> {
            Ok(offset.map(|offset| position_of(&offset)).transpose()?.flatten().unwrap_or(0))
        };
        let positions = offsets.into_iter().map(position).collect::<Result<Vec<u64>>>()?;
        self.running = Some(Running {
            files: Some(Files::new(paths.into_iter().zip(positions))),
            partitions,
            lines: VecDeque::new(),
            batch_size: usize::try_from(config.int(BATCH_SIZE)).unwrap_or(1).max(1),
            topic: config.string(TOPIC).into(),
            schema: schema::STRING.clone(),
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        let Some(running) = &mut self.running else {
            return Err(ConnectError::fatal("the task was polled before it was started"));
        };
        if running.lines.is_empty() {
            running.read().await?;
        }
        Ok(running.next_batch())
    }

    fn poll_interval(&self) -> Duration {
        POLL_INTERVAL
    }

    async fn stop(&mut self) -> Result<()> {
        self.running = None;
        Ok(())
    }
}

impl Running {
    async fn read(&mut self) -> Result<()> {
        let lost = || ConnectError::fatal("an earlier read was broken off; restart the task");
        let mut files = self.files.take().ok_or_else(lost)?;
        let done = tokio::task::spawn_blocking(move || {
            let found = files.read();
            (files, found)
        });
        let (files, found) = done.await.map_err(|error| lost().caused_by(error))?;
        self.files = Some(files);
        self.lines.extend(found?);
        Ok(())
    }

    fn next_batch(&mut self) -> Vec<SourceRecord> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
        let mut records = Vec::new();
        while records.len() < self.batch_size
            && let Some((index, lines)) = self.lines.front_mut()
        {
            let index = *index;
            match lines.next() {
                Some(line) => records.push(self.record(index, line, timestamp)),
                None => drop(self.lines.pop_front()),
            }
        }
        records
    }

    fn record(&self, index: usize, line: Line, timestamp: i64) -> SourceRecord {
        let position = Value::Int64(i64::try_from(line.end).unwrap_or(i64::MAX));
        let value = SchemaAndValue { schema: Some(self.schema.clone()), value: Value::String(line.text) };
        SourceRecord {
            source_partition: self.partitions[index].clone(),
            source_offset: Arc::new(FieldMap::new().with(ByteString::from_static(POSITION), position)),
            record: Record { timestamp: Some(timestamp), ..Record::new(self.topic.clone(), value) },
        }
    }
}
