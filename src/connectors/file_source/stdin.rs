//! Lines of standard input.
//!
//! A read of standard input can neither be awaited nor broken off, so one thread of the process reads it for good and hands
//! blocks on through a bounded queue. What a stopped task had taken from the queue, but not returned, is lost, as in Java.

use std::io::{self, Read};
use std::sync::LazyLock;

use connect_api::{ConnectError, Result};
use tokio::sync::{Mutex, mpsc};

use super::lines::{LineSplitter, Lines, MAX_LINE_BYTES};

/// How much one read asks for.
const BLOCK_BYTES: usize = 64 << 10;

/// Blocks that wait for a task; then the thread stops reading, and the writer of a pipe waits.
const QUEUED_BLOCKS: usize = 4;

type Blocks = mpsc::Receiver<io::Result<Vec<u8>>>;

static BLOCKS: LazyLock<Mutex<Blocks>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel(QUEUED_BLOCKS);
    let failed = sender.clone();
    let thread = std::thread::Builder::new().name("stdin-reader".to_owned());
    if let Err(error) = thread.spawn(move || read_all(io::stdin().lock(), &sender)) {
        // The queue is empty, so there is room.
        let _ = failed.try_send(Err(error));
    }
    Mutex::new(receiver)
});

fn read_all(mut input: impl Read, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let item = match input.read(&mut block) {
            Ok(0) => return,
            Ok(read) => {
                block.truncate(read);
                Ok(block)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = item.is_err();
        if sender.blocking_send(item).is_err() || last {
            return;
        }
    }
}

/// Cuts standard input into lines.
pub struct Stdin {
    splitter: LineSplitter,
}

impl Stdin {
    /// From what is read next.
    pub fn new() -> Self {
        Stdin { splitter: LineSplitter::new(0) }
    }

    /// The next complete lines; none when nothing has arrived, and after the end.
    pub async fn read(&mut self) -> Result<Lines> {
        let item = BLOCKS.lock().await.try_recv();
        let block = match item {
            Ok(Ok(block)) => block,
            Ok(Err(error)) => return Err(ConnectError::fatal("cannot read standard input").caused_by(error)),
            Err(_) => return Ok(Lines::default()),
        };
        let mut buffer = self.splitter.take_buffer();
        buffer.extend_from_slice(&block);
        self.splitter
            .split(buffer)
            .map_err(|_| ConnectError::fatal(format!("a line of standard input has more than {MAX_LINE_BYTES} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocks_are_handed_on_until_the_end() {
        let (sender, mut receiver) = mpsc::channel(QUEUED_BLOCKS);
        let input = io::repeat(b'x').take(2 * BLOCK_BYTES as u64 + 1);
        let reader = tokio::task::spawn_blocking(move || read_all(input, &sender));
        let mut total = 0;
        while let Some(block) = receiver.recv().await {
            total += block.expect("no error").len();
        }
        reader.await.expect("no panic");
        assert_eq!(total, 2 * BLOCK_BYTES + 1);
    }
}
