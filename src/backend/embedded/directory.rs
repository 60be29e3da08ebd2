//! The directory of a store and its lock: one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::backend::{BackendError, Result};

/// The file that is locked as long as a process has the store open. It names that process.
const LOCK: &str = "lock";
/// The file of the store.
const STORE: &str = "store.redb";
/// Bytes of the lock file that are looked at.
const MAX_HOLDER_BYTES: u64 = 64;

/// A directory that this process holds, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

fn refused(path: &Path, what: &str, error: &std::io::Error) -> BackendError {
    BackendError::Refused(format!("the directory {} of embedded: {what}: {error}", path.display()))
}

/// Whether there is a store in this directory.
pub(super) fn holds_store(path: &Path) -> bool {
    path.join(STORE).is_file()
}

/// The directory as one path, made where it is missing, so that two spellings of it are one store.
pub(super) fn canonical(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(BackendError::Refused("embedded: names no directory; write embedded:DIR".into()));
    }
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(path).map_err(|error| refused(path, "cannot be made", &error))?;
    for made in missing {
        // A name is durable with the directory that it stands in.
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| refused(path, "cannot be made durable", &error))?;
    }
    path.canonicalize().map_err(|error| refused(path, "cannot be found", &error))
}

impl Directory {
    /// Locks the directory, or says who has it.
    pub(super) fn lock(path: PathBuf) -> Result<Directory> {
        let file = path.join(LOCK);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
        let mut lock = opened.map_err(|error| refused(&path, "cannot be locked", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(refused(&path, "cannot be locked", &error)),
        }
        let name_holder = lock
            .set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(lock, "{}", std::process::id()));
        name_holder.map_err(|error| refused(&path, "cannot be written", &error))?;
        Ok(Directory { path, _lock: lock })
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }
}

fn held(path: &Path, lock: &mut File) -> BackendError {
    let mut holder = String::new();
    let read = lock.take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
    let who = match (read, holder.trim()) {
        (Ok(_), pid) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".into(),
    };
    BackendError::Refused(format!(
        "the directory {} of embedded: is held by {who}; stop that one, or name another directory: one process works on it at a time",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_directory_is_refused_by_name_and_free_when_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = canonical(&root.path().join("new/below")).unwrap();
        let held = Directory::lock(path.clone()).unwrap();
        let error = Directory::lock(path.clone()).unwrap_err().to_string();
        let pid = format!("process {}", std::process::id());
        assert!(error.contains(&pid) && error.contains(&path.display().to_string()), "{error}");
        drop(held);
        Directory::lock(path).unwrap();
        assert!(matches!(canonical(Path::new("")), Err(BackendError::Refused(_))));
    }

    #[test]
    fn what_is_no_directory_is_said_to_be_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = canonical(file.path()).unwrap_err().to_string();
        assert!(error.contains("cannot be made") && error.contains(&file.path().display().to_string()), "{error}");
    }
}
