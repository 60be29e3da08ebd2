//! Follows a file that grows, vanishes, comes back or is replaced.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use connect_api::{ConnectError, Result};
use tracing::{info, warn};

use super::lines::{LineSplitter, LineTooLong, Lines, MAX_LINE_BYTES};

/// How much one read asks for. Records keep the block alive that they were read in.
pub const BLOCK_BYTES: u64 = 256 << 10;

/// Reads complete lines from a path, from a position on. Only regular files, and on the caller's thread: of a thousand files few grow, and handing
/// a look or a block out of the page cache to another thread would cost more than it takes.
pub struct FileFollower {
    path: PathBuf,
    file: Option<File>,
    splitter: LineSplitter,
    /// The path does not lead to a file at the moment; said once in the log, not at each read.
    missing: bool,
}

impl FileFollower {
    /// Nothing is opened yet.
    pub fn new(path: PathBuf, position: u64) -> Self {
        FileFollower { path, file: None, splitter: LineSplitter::new(position), missing: false }
    }

    /// The next complete lines, at most a block of them; none at the end of the file and while there is no file.
    pub fn read(&mut self) -> Result<Lines> {
        if self.is_unchanged() || !self.open()? {
            return Ok(Lines::default());
        }
        let mut lines = self.read_block()?;
        // A block without a line end is the middle of a long line: go on until the line is complete or the file ends.
        while lines.as_ref().is_some_and(Lines::is_empty) {
            lines = self.read_block()?;
        }
        match lines {
            Some(lines) => Ok(lines),
            None => self.at_end().map(|()| Lines::default()),
        }
    }

    /// Whether the file ends where the last read did, and is still the one that its path leads to.
    fn is_unchanged(&self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| !self.missing) else { return false };
        let (Ok(opened), Ok(named)) = (file.metadata(), std::fs::metadata(&self.path)) else { return false };
        opened.len() == self.end_of_read() && same_file(&named, &opened)
    }

    /// `None` at the end of the file.
    fn read_block(&mut self) -> Result<Option<Lines>> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut buffer = self.splitter.take_buffer();
        let before = buffer.len();
        buffer.reserve(BLOCK_BYTES as usize);
        let result = file.take(BLOCK_BYTES).read_to_end(&mut buffer);
        if buffer.len() > before {
            let split = self.splitter.split(buffer);
            result.map_err(|error| self.failed("read", &error))?;
            return split.map(Some).map_err(|error| self.too_long(&error));
        }
        // Nothing new: hand the beginning of the incomplete line back.
        self.splitter.split(buffer).map_err(|error| self.too_long(&error))?;
        result.map(|_| None).map_err(|error| self.failed("read", &error))
    }

    /// Whether there is an open file. At the start of a task it shows what is wrong with the file; that it is missing is fine.
    pub fn open(&mut self) -> Result<bool> {
        if self.file.is_some() {
            return Ok(true);
        }
        // Looked at before it is opened: opening a pipe without a writer would block.
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.set_missing(true);
                return Ok(false);
            }
            Err(error) => return Err(self.failed("open", &error)),
        };
        if !metadata.is_file() {
            let what = if metadata.is_dir() { "a directory" } else { "no regular file" };
            return Err(ConnectError::fatal(format!("cannot read lines from {}: it is {what}", self.path.display())));
        }
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.failed("open", &error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed("examine", &error))?;
        self.ensure_not_shorter(&metadata)?;
        let position = self.splitter.position();
        file.seek(SeekFrom::Start(position)).map_err(|error| self.failed("seek in", &error))?;
        // Lines are cut anew from the position.
        self.splitter = LineSplitter::new(position);
        self.set_missing(false);
        self.file = Some(file);
        Ok(true)
    }

    /// Nothing more to read for now: was the file cut, removed or replaced?
    fn at_end(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let opened = file.metadata().map_err(|error| self.failed("examine", &error))?;
        self.ensure_not_shorter(&opened)?;
        match std::fs::metadata(&self.path) {
            Ok(named) if same_file(&named, &opened) => self.set_missing(false),
            // Read to its end just now, but bytes may have come since: only an end that is still the end is left behind.
            Ok(_) if opened.len() > self.end_of_read() => {}
            Ok(_) => self.follow_replacement(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.set_missing(true),
            Err(error) => return Err(self.failed("examine", &error)),
        }
        Ok(())
    }

    fn follow_replacement(&mut self) {
        let (position, dropped) = (self.splitter.position(), self.splitter.pending_bytes());
        info!(file = %self.path.display(), position, incomplete_line_bytes = dropped,
            "the file was replaced; reading the new one from its start");
        self.file = None;
        self.splitter = LineSplitter::new(0);
    }

    fn set_missing(&mut self, missing: bool) {
        if missing && !self.missing {
            warn!(file = %self.path.display(), position = self.splitter.position(),
                "the file does not exist; waiting for it");
        } else if self.missing && !missing {
            info!(file = %self.path.display(), position = self.splitter.position(), "the file exists now");
        }
        self.missing = missing;
    }

    fn end_of_read(&self) -> u64 {
        self.splitter.position() + self.splitter.pending_bytes() as u64
    }

    fn ensure_not_shorter(&self, metadata: &Metadata) -> Result<()> {
        let (size, position) = (metadata.len(), self.end_of_read());
        if size >= position {
            return Ok(());
        }
        Err(ConnectError::fatal(format!(
            "{} has {size} bytes, but was read up to byte {position} already; it was cut or replaced. \
             Restore it, or change the offset of the connector",
            self.path.display()
        )))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> ConnectError {
        let (file, position) = (self.path.display(), self.splitter.position());
        ConnectError::fatal(format!("cannot {doing} {file} (at byte {position}): {error}"))
    }

    fn too_long(&self, error: &LineTooLong) -> ConnectError {
        line_too_long(&self.path, error)
    }
}

fn line_too_long(path: &Path, error: &LineTooLong) -> ConnectError {
    ConnectError::fatal(format!(
        "the line at byte {} of {} has more than {MAX_LINE_BYTES} bytes",
        error.position,
        path.display()
    ))
}

fn same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
