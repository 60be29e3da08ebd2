//! The offset file on the disk: who may use it, and how it is replaced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::OffsetFileError;

/// Longest process id that is read from a lock file.
const PROCESS_ID_MAX_BYTES: u64 = 20;

/// An offset file that this process alone uses, as long as this lives.
pub struct OwnedFile {
    /// The file, with symbolic links followed: what is replaced is the file and not the link to it.
    path: PathBuf,
    /// Released with this handle, also when the process is killed.
    _lock: File,
}

impl OwnedFile {
    /// Takes the file for this process. It need not be there yet, but its directory has to be.
    pub fn own(path: &Path) -> Result<OwnedFile, OffsetFileError> {
        let failed = |doing| move |error: io::Error| OffsetFileError::io(doing, path, &error);
        let path = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => in_its_directory(path).map_err(failed("find"))?,
            found => found.map_err(failed("find"))?,
        };
        let beside = with_suffix(&path, ".lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&beside)
            .map_err(|error| OffsetFileError::io("make the lock of", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OffsetFileError::InUse { path, process: process_in(&lock) }),
            Err(TryLockError::Error(error)) => return Err(OffsetFileError::io("lock", &path, &error)),
        }
        // For the message of the next process only, so a disk that is full does no harm here.
        drop(lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes())));
        Ok(OwnedFile { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; nothing when it is absent. At most `max_bytes`.
    pub fn read(&self, max_bytes: usize) -> Result<Bytes, OffsetFileError> {
        let failed = |error: io::Error| OffsetFileError::io("read", &self.path, &error);
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bytes::new()),
            file => file.map_err(failed)?,
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let mut content = Vec::new();
        file.take(max_bytes as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() > max_bytes {
            return Err(failed(io::Error::other(format!("it has more than {max_bytes} bytes"))));
        }
        Ok(Bytes::from(content))
    }

    /// Replaces the content. Whenever the process or the machine ends, the file holds the old or the new content as a whole; when this
    /// returns, the new one is on the disk.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        let new = with_suffix(&self.path, ".new");
        let mut file = File::create(&new)?;
        if let Ok(metadata) = fs::metadata(&self.path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, &self.path)?;
        File::open(directory(&self.path))?.sync_all()
    }
}

fn in_its_directory(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    Ok(directory(path).canonicalize()?.join(name))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn process_in(lock: &File) -> String {
    let mut text = String::new();
    match lock.take(PROCESS_ID_MAX_BYTES).read_to_string(&mut text) {
        Ok(_) if text.parse::<u32>().is_ok() => text,
        _ => "unknown".to_owned(),
    }
}
