//! Follows many files that grow, with few of them open.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use connect_api::{ConnectError, Result};
use tracing::{info, warn};

use crate::connectors::file_source::lines::{LineSplitter, Lines, MAX_LINE_BYTES};

/// How much one read asks for, and about how much one round gives. Records keep the block alive that they were read in.
const BLOCK_BYTES: usize = 256 << 10;
/// The most files that a task keeps open; the one that was not visited for longest is closed first.
pub const MAX_OPEN_FILES: usize = 64;
/// The longest beginning of an incomplete line that is kept; a longer one is read again when its file has grown.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Some files, and how far each was read.
pub struct Files {
    files: Vec<Followed>,
    /// The next one to visit.
    turn: usize,
    /// Indices of open files, the last visited one behind.
    open: VecDeque<usize>,
}

struct Followed {
    path: PathBuf,
    file: Option<File>,
    splitter: LineSplitter,
    /// The file that the position belongs to, once it was seen.
    identity: Option<Identity>,
    /// How long it was when it was closed without a complete line behind the position.
    searched: u64,
    /// What keeps it from being read was said in the log.
    complained: bool,
}

/// Names are reused, and so are inodes; the time of birth tells the latter apart, where the file system keeps it.
#[derive(Debug, PartialEq)]
struct Identity(u64, u64, Option<SystemTime>);

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity(metadata.dev(), metadata.ino(), metadata.created().ok())
    }
}

impl Files {
    /// Paths, each with the position behind the last line that is done.
    pub fn new(files: impl IntoIterator<Item = (PathBuf, u64)>) -> Files {
        let followed = |(path, position)| Followed {
            path,
            file: None,
            splitter: LineSplitter::new(position),
            identity: None,
            searched: 0,
            complained: false,
        };
        Files { files: files.into_iter().map(followed).collect(), turn: 0, open: VecDeque::new() }
    }

    /// The next complete lines, each portion with the index of its file. Every file has its turn: a long one does not keep the
    /// others waiting. Nothing when no file has a new one.
    pub fn read(&mut self) -> Result<Vec<(usize, Lines)>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for _ in 0..self.files.len() {
            let index = self.turn;
            self.turn = (index + 1) % self.files.len();
            let lines = self.files[index].next_lines()?;
            self.bound_open_files(index);
            if lines.is_empty() {
                continue;
            }
            bytes += lines.at_most();
            found.push((index, lines));
            if bytes >= BLOCK_BYTES {
                break;
            }
        }
        Ok(found)
    }

    fn bound_open_files(&mut self, visited: usize) {
        self.open.retain(|index| *index != visited && self.files[*index].file.is_some());
        if self.files[visited].file.is_some() {
            self.open.push_back(visited);
        }
        if self.open.len() > MAX_OPEN_FILES
            && let Some(index) = self.open.pop_front()
        {
            self.files[index].close();
        }
    }
}

impl Followed {
    /// Complete lines, at most a block of them, if there are any.
    fn next_lines(&mut self) -> Result<Lines> {
        let named = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => Some(metadata),
            Ok(_) => return self.cannot_be_read("it is no regular file any more"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return self.cannot_be_read(&error.to_string());
            }
            Err(error) => return Err(self.failed("examine", &error)),
        };
        // An open file is read to its end, whatever its name leads to by now.
        if self.file.is_none() {
            let Some(named) = &named else { return Ok(Lines::default()) };
            if !self.has_news(named)? || !self.open()? {
                return Ok(Lines::default());
            }
        } else if named.as_ref().is_some_and(|named| self.is_same(named) && named.len() == self.end_of_read()) {
            return Ok(Lines::default());
        }
        while let Some(lines) = self.read_block()? {
            if !lines.is_empty() {
                return Ok(lines);
            }
            // The middle of a long line: go on until it is complete or the file ends.
        }
        self.at_end(named.as_ref())?;
        Ok(Lines::default())
    }

    /// Whether a file that is not open is worth it.
    fn has_news(&mut self, named: &Metadata) -> Result<bool> {
        if self.identity.is_some() && !self.is_same(named) {
            self.start_over();
        }
        self.ensure_not_shorter(named)?;
        Ok(named.len() > self.end_of_read() && named.len() != self.searched)
    }

    /// False when it cannot be read, which the log says.
    fn open(&mut self) -> Result<bool> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return self.cannot_be_read(&error.to_string()).map(|_| false);
            }
            Err(error) => return Err(self.failed("open", &error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed("examine", &error))?;
        self.ensure_not_shorter(&metadata)?;
        let position = self.splitter.position();
        file.seek(SeekFrom::Start(position)).map_err(|error| self.failed("seek in", &error))?;
        if self.complained {
            info!(file = %self.path.display(), position, "the file can be read now");
        }
        self.complained = false;
        self.splitter = LineSplitter::new(position);
        self.identity = Some(Identity::of(&metadata));
        self.file = Some(file);
        Ok(true)
    }

    /// `None` at the end of the file.
    fn read_block(&mut self) -> Result<Option<Lines>> {
        let Some(file) = &self.file else { return Ok(None) };
        let mut buffer = self.splitter.take_buffer();
        let before = buffer.len();
        buffer.reserve(BLOCK_BYTES);
        let read = file.take(BLOCK_BYTES as u64).read_to_end(&mut buffer);
        let is_end = buffer.len() == before;
        let lines = self.splitter.split(buffer).map_err(|error| {
            let (position, file) = (error.position, self.path.display());
            ConnectError::fatal(format!("the line at byte {position} of {file} has more than {MAX_LINE_BYTES} bytes"))
        })?;
        read.map_err(|error| self.failed("read", &error))?;
        Ok(if is_end { None } else { Some(lines) })
    }

    /// All that there is was read: was the file cut, removed or replaced?
    fn at_end(&mut self, named: Option<&Metadata>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let opened = file.metadata().map_err(|error| self.failed("examine", &error))?;
        self.ensure_not_shorter(&opened)?;
        if opened.len() > self.end_of_read() {
            // It grew just now.
            return Ok(());
        }
        match named {
            Some(named) if self.is_same(named) && self.splitter.pending_bytes() > MAX_KEPT_BYTES => self.close(),
            Some(named) if self.is_same(named) => {}
            Some(_) => self.start_over(),
            None => self.close(),
        }
        Ok(())
    }

    /// Keeps the position; what was read of an incomplete line is read again.
    fn close(&mut self) {
        self.searched = self.end_of_read();
        self.splitter = LineSplitter::new(self.splitter.position());
        self.file = None;
    }

    fn start_over(&mut self) {
        let (position, dropped) = (self.splitter.position(), self.splitter.pending_bytes());
        info!(file = %self.path.display(), position, incomplete_line_bytes = dropped,
            "the file was replaced; reading the new one from its start");
        self.file = None;
        self.identity = None;
        self.searched = 0;
        self.splitter = LineSplitter::new(0);
    }

    fn cannot_be_read(&mut self, why: &str) -> Result<Lines> {
        if !self.complained {
            warn!(file = %self.path.display(), position = self.splitter.position(), why,
                "cannot read the file; trying again, and going on with the others");
        }
        self.complained = true;
        Ok(Lines::default())
    }

    fn is_same(&self, metadata: &Metadata) -> bool {
        self.identity.as_ref() == Some(&Identity::of(metadata))
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
            "{} has {size} bytes, but was read up to byte {position} already; it was cut, or its name was used again. \
             Restore it, give the new file another name, or change the offset of the connector",
            self.path.display()
        )))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> ConnectError {
        let (file, position) = (self.path.display(), self.splitter.position());
        ConnectError::fatal(format!("cannot {doing} {file} (at byte {position}): {error}"))
    }
}

#[cfg(test)]
mod tests;
