//! Where source tasks of a standalone worker got to: one file, in the form of Java's `FileOffsetBackingStore`.
//!
//! Keys and values are the bytes of the offset topic, so what a Java worker stored is found, and the other way round. Apart from
//! Java, the file is replaced as a whole and is on the disk before anybody hears that it was written; one process may use it; and a file
//! that cannot be read stops the start. Java takes one that is cut off as empty, and forgets every offset.
//!
//! One thread writes. What arrives while it waits for the disk is written together.

mod disk;
mod java_map;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connect_api::{SourceOffset, SourcePartition};
use tokio::sync::{mpsc, oneshot};

use self::disk::OwnedFile;
pub use self::java_map::MapError;
use super::offset_store::{Change, OFFSET_READ_TIMEOUT, OffsetEntry, OffsetError, OffsetStore, State, lock};

/// Longest file that is read or written. Each source partition needs some hundred bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024 * 1024;

/// Writes and reads that may wait for the thread; more wait for room.
const QUEUED_REQUESTS: usize = 1024;

/// Why the offset file cannot be used, or was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OffsetFileError {
    /// The system refused.
    #[error("cannot {doing} the offset file {}: {reason}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
    /// Another process has it.
    #[error(
        "the offset file {} is used by another process ({process}): only one worker may use it; \
         end that one, or set offset.storage.file.filename to another file",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// The id of that process, or `unknown`.
        process: String,
    },
    /// It is not what Java or we write.
    #[error(
        "the offset file {} is broken at {error}. It was left as it is: put a good copy in its place, or move it away \
         to begin without offsets",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        error: MapError,
    },
    /// It would become longer than [`MAX_FILE_BYTES`].
    #[error("the offset file {} would have {bytes} bytes; at most {MAX_FILE_BYTES} are written", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long.
        bytes: usize,
    },
    /// The disk did not answer in time. What was to be written may still be written.
    #[error("the offset file {} was not written or read within {} ms", path.display(), limit.as_millis())]
    Timeout {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
}

impl OffsetFileError {
    fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        OffsetFileError::Io { doing, path: path.to_owned(), reason: error.to_string() }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, OffsetFileError::Io { .. } | OffsetFileError::Timeout { .. })
    }
}

/// What the thread is asked for.
enum Request {
    /// To store changes, and to say when they are durable.
    Write(Vec<Change>, oneshot::Sender<Result<(), OffsetFileError>>),
    /// To say when everything that was asked for before is done.
    Barrier(oneshot::Sender<()>),
}

/// Offsets in a file. Dropping the last handle ends the thread and gives the file free.
pub struct FileOffsetStore {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    requests: mpsc::Sender<Request>,
}

impl FileOffsetStore {
    /// Takes the file for this process and reads it. An absent or empty one holds no offsets.
    pub fn open(path: &Path) -> Result<FileOffsetStore, OffsetFileError> {
        let file = OwnedFile::own(path)?;
        let path = file.path().to_owned();
        let entries = decode(&path, &file.read(MAX_FILE_BYTES)?)?;
        let mut state = State::default();
        for (key, value) in &entries {
            take_in(&mut state, &path, key, Some(value));
        }
        tracing::info!(path = %path.display(), entries = entries.len(), "offset file read");
        let state = Arc::new(Mutex::new(state));
        let (requests, queue) = mpsc::channel(QUEUED_REQUESTS);
        let writer = Writer { file, entries, state: state.clone() };
        let thread = thread::Builder::new().name("offset-file".into());
        thread
            .spawn(move || writer.run(queue))
            .map_err(|error| OffsetFileError::io("start the thread that writes", &path, &error))?;
        Ok(FileOffsetStore { path, state, requests })
    }

    /// Sends a request and waits for its answer.
    async fn ask<T>(
        &self,
        limit: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, OffsetFileError> {
        let (sender, answer) = oneshot::channel();
        let asked = async {
            // It ends with this store, or by a panic: then nothing is written any more, and nobody is told that it was.
            self.requests.send(request(sender)).await.map_err(|_| ())?;
            answer.await.map_err(|_| ())
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(())) => Err(OffsetFileError::Io {
                doing: "write",
                path: self.path.clone(),
                reason: "the thread that writes it has ended".to_owned(),
            }),
            Err(_) => Err(OffsetFileError::Timeout { path: self.path.clone(), limit }),
        }
    }

    /// Waits until what was asked for before is done, also if those who asked have gone.
    async fn settle(&self) -> Result<(), OffsetFileError> {
        self.ask(OFFSET_READ_TIMEOUT, Request::Barrier).await
    }
}

#[async_trait]
impl OffsetStore for FileOffsetStore {
    async fn write(&self, connector: &str, entries: &[OffsetEntry], limit: Duration) -> Result<(), OffsetError> {
        let changes = lock(&self.state).changes(connector, entries)?;
        self.ask(limit, |done| Request::Write(changes, done)).await??;
        Ok(())
    }

    async fn read(
        &self,
        connector: &str,
        partitions: &[SourcePartition],
    ) -> Result<Vec<Option<SourceOffset>>, OffsetError> {
        self.settle().await?;
        lock(&self.state).offsets(connector, partitions)
    }

    async fn all(&self, connector: &str) -> Result<Vec<(SourcePartition, SourceOffset)>, OffsetError> {
        self.settle().await?;
        Ok(lock(&self.state).all(connector))
    }
}

/// The keys and values of a file. A null value is what Java leaves of an offset that was removed; a null key belongs to nobody.
fn decode(path: &Path, content: &Bytes) -> Result<BTreeMap<Bytes, Bytes>, OffsetFileError> {
    if content.is_empty() {
        return Ok(BTreeMap::new());
    }
    let decoded = java_map::decode(content, MAX_FILE_BYTES);
    let decoded = decoded.map_err(|error| OffsetFileError::Broken { path: path.to_owned(), error })?;
    let mut entries = BTreeMap::new();
    for (key, value) in decoded {
        match (key, value) {
            (Some(key), Some(value)) => drop(entries.insert(key, value)),
            (Some(key), None) => drop(entries.remove(&key)),
            (None, _) => {}
        }
    }
    Ok(entries)
}

/// What is no offset is passed over, as in the topic; it stays in the file.
fn take_in(state: &mut State, path: &Path, key: &Bytes, value: Option<&Bytes>) {
    if let Err(error) = state.apply(0, key, value) {
        tracing::warn!(path = %path.display(), key = error.key, "an entry of the offset file is ignored: {}", error.reason);
    }
}

/// The thread that writes.
struct Writer {
    file: OwnedFile,
    /// What is on the disk.
    entries: BTreeMap<Bytes, Bytes>,
    state: Arc<Mutex<State>>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::new();
        while queue.blocking_recv_many(&mut requests, QUEUED_REQUESTS) > 0 {
            let (mut changes, mut waiting, mut barriers) = (Vec::new(), Vec::new(), Vec::new());
            for request in requests.drain(..) {
                match request {
                    // Who has given up was told that nothing was written.
                    Request::Write(_, done) if done.is_closed() => {}
                    Request::Write(wanted, done) => {
                        changes.extend(wanted);
                        waiting.push(done);
                    }
                    Request::Barrier(done) => barriers.push(done),
                }
            }
            let result = self.write(changes);
            // Who does not wait any more does not need the answer.
            for done in waiting {
                let _ = done.send(result.clone());
            }
            for done in barriers {
                let _ = done.send(());
            }
        }
    }

    /// All or nothing, as far as anybody is told.
    fn write(&mut self, changes: Vec<Change>) -> Result<(), OffsetFileError> {
        let mut entries = self.entries.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => drop(entries.insert(key.clone(), value.clone())),
                None => drop(entries.remove(key)),
            }
        }
        if entries != self.entries {
            let content = java_map::encode(entries.iter());
            if content.len() > MAX_FILE_BYTES {
                let path = self.file.path().to_owned();
                return Err(OffsetFileError::TooLong { path, bytes: content.len() });
            }
            self.file.replace(&content).map_err(|error| OffsetFileError::io("write", self.file.path(), &error))?;
            self.entries = entries;
        }
        let mut state = lock(&self.state);
        for (key, value) in &changes {
            take_in(&mut state, self.file.path(), key, value.as_ref());
        }
        Ok(())
    }
}
