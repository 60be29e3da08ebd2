//! Appends records to a file, or writes them to standard output, one a line (Java: `FileStreamSinkConnector` and its task).
//!
//! A line is the value: texts and bytes as they are, null as `null`, everything else in Java's `toString` form. A batch is one
//! write. Offsets are committed only after `fdatasync`, so what Kafka counts as done survives a power cut; Java leaves
//! that to the system.
//!
//! * Disk or quota full: a retriable error. What was written of the batch is remembered, and the retry writes the rest, so
//!   that no line is torn or doubled. Lines of other tasks are never cut off again, as truncating back would do.
//! * Any other error, for example a read-only file system: the task fails; the error names the file and the reason.
//! * A file that was removed while it is written: the task fails at the next commit, and the restart writes to a new one what
//!   was not committed.
//! * A file that ends in the middle of a line, because a process died in the middle of a write, gets a line end first. The record
//!   itself is delivered again, whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use connect_api::{
    ConfigDef, ConfigKey, ConnectError, Connector, ConnectorContext, Importance, Props, Result, SinkConnector,
    SinkRecord, SinkTask, SinkTaskContext, TopicPartition, Type, Value, async_trait, sink::Offsets,
};

/// The class name in configurations.
pub const CLASS: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";
/// The class name of the task.
pub const TASK_CLASS: &str = "org.apache.kafka.connect.file.FileStreamSinkTask";

const FILE: &str = "file";

/// A buffer that grew beyond this many bytes for one batch is not kept for the next.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

fn definition() -> ConfigDef {
    ConfigDef::new().define(
        ConfigKey::new(FILE, Type::String, Importance::High, "The file to write; standard output when it is not set.")
            .optional(),
    )
}

/// Has as many tasks as `tasks.max` says; all append to the same file.
#[derive(Default)]
pub struct FileStreamSinkConnector {
    props: Props,
}

#[async_trait]
impl Connector for FileStreamSinkConnector {
    fn config(&self) -> ConfigDef {
        definition()
    }

    async fn start(&mut self, _context: ConnectorContext, props: Props) -> Result<()> {
        definition().parse(&props)?;
        self.props = props;
        Ok(())
    }

    async fn task_configs(&mut self, tasks_max: usize) -> Result<Vec<Props>> {
        Ok(vec![self.props.clone(); tasks_max])
    }

    async fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SinkConnector for FileStreamSinkConnector {
    /// All offsets are Kafka's; there is nothing to check.
    async fn alter_offsets(
        &mut self,
        _props: &Props,
        _offsets: &std::collections::BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<bool> {
        Ok(true)
    }
}

/// Writes the lines.
#[derive(Default)]
pub struct FileStreamSinkTask {
    /// Moves to a blocking thread for each call that may take long, and comes back.
    writer: Option<LineWriter>,
    buffer: Vec<u8>,
}

#[async_trait]
impl SinkTask for FileStreamSinkTask {
    async fn initialize(&mut self, _context: SinkTaskContext) -> Result<()> {
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        let config = definition().parse(&props)?;
        let file = config.opt_string(FILE).filter(|file| !file.is_empty()).map(PathBuf::from);
        self.writer = Some(match file {
            None => LineWriter::new(Output::Stdout),
            // A thousand sinks that start at once would take as many threads.
            Some(path) if opens_at_once(&path) => LineWriter::append_to(path)?,
            Some(path) => {
                let opened = tokio::task::spawn_blocking(move || LineWriter::append_to(path));
                opened.await.map_err(|error| ConnectError::fatal("the start broke off").caused_by(error))??
            }
        });
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let batch = Batch::of(records);
        // A retry only writes what is left of the first try; its lines need not be made again.
        let retry = self.writer.as_ref().is_some_and(|writer| writer.is_rest_of(&batch));
        if !retry {
            records.iter().for_each(|record| write_line(&mut buffer, &record.value.value));
        }
        let result = match &mut self.writer {
            // Into the page cache: handing it to another thread would cost more than the write.
            Some(writer) if writer.is_regular_file() => writer.write(batch, &buffer),
            _ => {
                let work = move |writer: &mut LineWriter| {
                    let result = writer.write(batch, &buffer);
                    (buffer, result)
                };
                let (returned, result) = self.on_blocking_thread(work).await?;
                buffer = returned;
                result
            }
        };
        if buffer.capacity() <= KEPT_BUFFER_BYTES {
            self.buffer = buffer;
        }
        result
    }

    async fn flush(&mut self, _offsets: &Offsets) -> Result<()> {
        match &self.writer {
            Some(writer) if writer.is_durable() => Ok(()),
            _ => self.on_blocking_thread(LineWriter::sync).await?,
        }
    }

    async fn stop(&mut self) -> Result<()> {
        self.writer = None;
        Ok(())
    }
}

impl FileStreamSinkTask {
    async fn on_blocking_thread<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut LineWriter) -> T + Send + 'static,
    ) -> Result<T> {
        let lost = || ConnectError::fatal("the task is not started, or an earlier write was broken off");
        let mut writer = self.writer.take().ok_or_else(lost)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut writer);
            (writer, result)
        });
        let (writer, result) = done.await.map_err(|error| lost().caused_by(error))?;
        self.writer = Some(writer);
        Ok(result)
    }
}

#[inline]
fn write_line(buffer: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => buffer.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => buffer.extend_from_slice(bytes),
        other => {
            // Writing to a vector cannot fail.
            let _ = write!(buffer, "{other}");
        }
    }
    buffer.push(b'\n');
}

/// Tells whether a batch is the one of a failed call: same first record, same number.
#[derive(Debug, Clone, PartialEq)]
struct Batch {
    first: Option<(TopicPartition, i64)>,
    records: usize,
}

impl Batch {
    fn of(records: &[SinkRecord]) -> Self {
        let first = records.first().map(|record| (record.original.clone(), record.original_offset));
        Batch { first, records: records.len() }
    }
}

enum Output {
    File {
        path: PathBuf,
        file: File,
        /// No pipe and no device, which nobody may read from or which may be slow.
        regular: bool,
    },
    Stdout,
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

struct LineWriter {
    output: Output,
    /// What a failed call left unwritten, and of which batch.
    rest: Option<(Batch, Vec<u8>)>,
    unsynced: bool,
}

impl LineWriter {
    fn new(output: Output) -> Self {
        LineWriter { output, rest: None, unsynced: false }
    }

    fn append_to(path: PathBuf) -> Result<Self> {
        let failed =
            |error: io::Error| ConnectError::fatal(format!("cannot open {} for appending: {error}", path.display()));
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let torn = ends_in_the_middle_of_a_line(&path).map_err(failed)?;
        let regular = file.metadata().map_err(failed)?.is_file();
        let mut writer = LineWriter::new(Output::File { path, file, regular });
        if torn {
            writer.write(Batch::of(&[]), b"\n")?;
        }
        Ok(writer)
    }

    fn is_regular_file(&self) -> bool {
        matches!(self.output, Output::File { regular: true, .. })
    }

    fn is_rest_of(&self, batch: &Batch) -> bool {
        self.rest.as_ref().is_some_and(|(failed, _)| failed == batch)
    }

    /// Writes a batch of lines in one go. After a retriable error the next call first writes what was left; if it is for
    /// the same batch, `lines` do not count.
    fn write(&mut self, batch: Batch, lines: &[u8]) -> Result<()> {
        if let Some((failed, rest)) = self.rest.take() {
            let retried = failed == batch;
            self.write_all(failed, &rest)?;
            if retried {
                return Ok(());
            }
        }
        self.write_all(batch, lines)
    }

    fn write_all(&mut self, batch: Batch, mut bytes: &[u8]) -> Result<()> {
        self.unsynced = true;
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(self.failed("write to", &io::ErrorKind::WriteZero.into())),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.rest = Some((batch, bytes.to_vec()));
                    return Err(self.failed("write to", &error));
                }
            }
        }
        Ok(())
    }

    /// Everything written is on the disk, or the reason why it is not.
    fn sync(&mut self) -> Result<()> {
        // A batch that was only begun may not be committed by anybody; the runtime does not flush before its retry.
        self.output.sync().map_err(|error| self.failed("make durable", &error))?;
        self.output.ensure_not_removed()?;
        self.unsynced = false;
        Ok(())
    }

    fn is_durable(&self) -> bool {
        !self.unsynced
    }

    fn failed(&self, doing: &str, error: &io::Error) -> ConnectError {
        let place = match &self.output {
            Output::File { path, .. } => path.display().to_string(),
            _ => "standard output".to_owned(),
        };
        let message = format!("cannot {doing} {place}: {error}");
        match error.kind() {
            // After a failed sync the kernel may have dropped pages: only delivery from the last commit helps.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if doing != "make durable" => {
                ConnectError::retriable(message)
            }
            _ => ConnectError::fatal(message),
        }
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::File { file, .. } => file.write(bytes),
            Output::Stdout => io::stdout().write(bytes),
            #[cfg(test)]
            Output::Test(output) => output.write(bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self {
            Output::File { file, .. } => match file.sync_data() {
                // Devices such as /dev/null have nothing to make durable.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                result => result,
            },
            Output::Stdout => io::stdout().flush(),
            #[cfg(test)]
            Output::Test(output) => output.flush(),
        }
    }
}

impl Output {
    /// A removed file takes all writes and nobody can read them.
    fn ensure_not_removed(&self) -> Result<()> {
        match self {
            Output::File { path, file, .. } if file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) => {
                Err(ConnectError::fatal(format!(
                    "{} was removed while it was written; restart the task to write everything since the last commit again",
                    path.display()
                )))
            }
            _ => Ok(()),
        }
    }
}

/// A pipe waits for its reader; a regular file, or one that is still to be made, for nobody.
fn opens_at_once(path: &Path) -> bool {
    std::fs::metadata(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |metadata| metadata.is_file())
}

fn ends_in_the_middle_of_a_line(path: &Path) -> io::Result<bool> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut file = match File::open(path) {
        // Writing without reading may be all that is allowed; then the end stays unknown.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        file => file?,
    };
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests;
