//! The file below the store, and its room to grow. A trait, so that tests can lose power, tear writes and fill the disk.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;

/// The unit in which the operating system counts what a file takes.
const STAT_BLOCK_BYTES: u64 = 512;

/// Opens the file of a store, as often as needed: after an error of the disk it is opened anew.
pub(super) trait Disk: Debug + Send + Sync {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Bytes that the file may grow by.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Bytes that the file takes on the disk.
    fn file_bytes(&self) -> io::Result<u64>;

    /// How messages name it.
    fn path(&self) -> &Path;
}

/// A file of the operating system. The lock of the directory keeps other processes away, so the file itself is not locked.
#[derive(Debug)]
pub(super) struct FileDisk {
    path: PathBuf,
}

impl FileDisk {
    pub(super) fn new(path: PathBuf) -> FileDisk {
        FileDisk { path }
    }
}

impl Disk for FileDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        if let Some(directory) = self.path.parent() {
            // The name of the file has to survive a power cut as well, also where the process that made it came no further.
            File::open(directory)?.sync_all()?;
        }
        Ok(Box::new(OpenFile { file }))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.path.metadata()?.blocks() * STAT_BLOCK_BYTES)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// What redb takes.
#[derive(Debug)]
pub(super) struct Boxed(pub Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
