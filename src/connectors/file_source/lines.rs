//! Cuts blocks of bytes into lines without copying them: a line is a slice of the block that it was read in. Pure.

use connect_api::{ByteString, Bytes};
use memchr::{memchr2, memrchr2};

/// The longest line, in bytes. Kafka takes 1 MiB by default; the bound only keeps memory bounded when a file has no lines at all.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// One line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its text.
    pub text: ByteString,
    /// The byte behind its line end, counted from the start of the input.
    pub end: u64,
}

/// Collects bytes until there is a complete line. A line ends with `\n`, `\r\n` or `\r`; a `\r` at the very end of what was
/// read may be half of `\r\n`, so that line is complete only with the next byte.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The beginning of a line whose end was not read.
    pending: Vec<u8>,
    /// So many bytes of it are known to hold no line end.
    searched: usize,
    /// Where `pending` begins in the input.
    position: u64,
}

/// A line that is longer than [`MAX_LINE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineTooLong {
    /// Where it begins in the input.
    pub position: u64,
}

impl LineSplitter {
    /// Nothing read yet; the first byte will be the one at `position`.
    pub fn new(position: u64) -> Self {
        LineSplitter { position, ..LineSplitter::default() }
    }

    /// Where the first incomplete line begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes of an incomplete line are kept.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The buffer with the beginning of the incomplete line; the caller appends what it reads and hands it to
    /// [`LineSplitter::split`].
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// The complete lines of the buffer; the rest is kept.
    pub fn split(&mut self, buffer: Vec<u8>) -> Result<Lines, LineTooLong> {
        let Some(end) = self.end_of_lines(&buffer) else {
            if buffer.len() > MAX_LINE_BYTES {
                return Err(LineTooLong { position: self.position });
            }
            // A trailing \r has to be looked at again.
            self.searched = buffer.len() - usize::from(buffer.last() == Some(&b'\r'));
            self.pending = buffer;
            return Ok(Lines::default());
        };
        let block = Bytes::from(buffer);
        self.pending = block[end..].to_vec();
        self.searched = 0;
        let lines = Lines::new(block.slice(..end), self.position);
        self.position += end as u64;
        Ok(lines)
    }

    /// Behind the last complete line.
    fn end_of_lines(&self, buffer: &[u8]) -> Option<usize> {
        let searched = self.searched.min(buffer.len());
        let unsearched = &buffer[searched..];
        // The \r at the very end may be the first half of \r\n.
        let decided = unsearched.len() - usize::from(unsearched.last() == Some(&b'\r'));
        memrchr2(b'\n', b'\r', &unsearched[..decided]).map(|last| searched + last + 1)
    }
}

/// Complete lines, cut one by one.
#[derive(Debug, Default)]
pub struct Lines {
    block: Bytes,
    /// The block as text, if all of it is UTF-8; checking it once is much cheaper than line by line.
    text: Option<ByteString>,
    cursor: usize,
    position: u64,
}

impl Lines {
    fn new(block: Bytes, position: u64) -> Self {
        Lines { text: ByteString::try_from(block.clone()).ok(), block, cursor: 0, position }
    }

    /// Whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.cursor >= self.block.len()
    }

    /// A bound of the number of lines left: each has one byte at least.
    pub fn at_most(&self) -> usize {
        self.block.len() - self.cursor
    }
}

impl Iterator for Lines {
    type Item = Line;

    #[inline]
    fn next(&mut self) -> Option<Line> {
        let rest = self.block.get(self.cursor..)?;
        let length = memchr2(b'\n', b'\r', rest)?;
        let crlf = rest[length] == b'\r' && rest.get(length + 1) == Some(&b'\n');
        let range = self.cursor..self.cursor + length;
        let text = match &self.text {
            Some(text) => text.slice_ref(&text[range.clone()]),
            None => String::from_utf8_lossy(&self.block[range.clone()]).into_owned().into(),
        };
        self.cursor = range.end + if crlf { 2 } else { 1 };
        Some(Line { text, end: self.position + self.cursor as u64 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split_in(pieces: &[&[u8]]) -> (Vec<(String, u64)>, u64) {
        let mut splitter = LineSplitter::new(0);
        let mut found = Vec::new();
        for piece in pieces {
            let mut buffer = splitter.take_buffer();
            buffer.extend_from_slice(piece);
            let lines = splitter.split(buffer).expect("short lines");
            found.extend(lines.map(|line| (line.text.to_string(), line.end)));
        }
        (found, splitter.position())
    }

    fn check(pieces: &[&str], expected: &[(&str, u64)]) {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let expected: Vec<_> = expected.iter().map(|&(text, end)| (text.to_owned(), end)).collect();
        let last_end = expected.last().map_or(0, |(_, end)| *end);
        assert_eq!(split_in(&pieces), (expected, last_end), "{pieces:?}");
    }

    #[test]
    fn lines_end_as_in_java() {
        check(&["a\nb\n"], &[("a", 2), ("b", 4)]);
        check(&["a\r\nb\rc\n\n"], &[("a", 3), ("b", 5), ("c", 7), ("", 8)]);
        check(&["a\n\rb\n"], &[("a", 2), ("", 3), ("b", 5)]);
        check(&["a"], &[]);
        check(&["a", "b\nc"], &[("ab", 3)]);
        check(&["a\r"], &[]);
        check(&["a\r", "\nb"], &[("a", 3)]);
        check(&["a\r", "b"], &[("a", 2)]);
        check(&["a\nb\r"], &[("a", 2)]);
        check(&["a\r", "\r", "\n"], &[("a", 2), ("", 4)]);
        check(&["grün\nöl\n"], &[("grün", 6), ("öl", 10)]);
    }

    #[test]
    fn broken_text_is_replaced_line_by_line() {
        let (lines, _) = split_in(&[b"a\xffb\ngr\xc3\xbcn\n\xe2\x82\n"]);
        assert_eq!(lines, [("a\u{fffd}b".into(), 4), ("grün".into(), 10), ("\u{fffd}".into(), 13)]);
    }

    #[test]
    fn endless_lines_are_refused_where_they_begin() {
        let mut splitter = LineSplitter::new(7);
        assert!(splitter.split(b"a\n".iter().copied().chain(vec![b'x'; 10]).collect()).is_ok());
        let mut buffer = splitter.take_buffer();
        buffer.resize(MAX_LINE_BYTES, b'x');
        assert!(splitter.split(buffer).is_ok_and(|lines| lines.is_empty()));
        let mut buffer = splitter.take_buffer();
        buffer.push(b'x');
        assert_eq!(splitter.split(buffer).unwrap_err(), LineTooLong { position: 9 });
    }

    proptest! {
        #[test]
        fn cuts_of_the_input_do_not_change_the_lines(
            text in "[ab\r\nü]{0,40}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split_in(&pieces), split_in(&[bytes]));
        }
    }
}
