//! What is in the topics and files, and what that has to look like.

use std::sync::Arc;

use connect_node::backend::{
    Backend, ClientSettings, ConsumerRecord, Isolation, ReadBatch, RecordReader, StartOffset, TopicPartition, open,
};
use serde_json::Value;

use crate::support::process::{OFFSET_PARTITIONS, PATIENCE, Worker, holds_within};

/// Bytes of a line with its end. All have the same length, so a position in bytes is a number of lines.
pub const LINE_BYTES: usize = 64;

/// A line of a transfer.
pub fn line(number: usize) -> String {
    let line = format!("{number:010} goes through a topic from one file into another.");
    format!("{line:.<width$}\n", width = LINE_BYTES - 1)
}

/// The number of a line, without its end.
pub fn number(line: &[u8]) -> usize {
    let text = String::from_utf8_lossy(line);
    let found = text.get(..10).and_then(|digits| digits.parse().ok());
    match found {
        Some(number) if self::line(number).trim_end() == text => number,
        _ => panic!("this is no line of the transfer: {text:?}"),
    }
}

pub fn backend(bootstrap: &str) -> Arc<dyn Backend> {
    open(bootstrap, &ClientSettings::new()).unwrap()
}

/// Reads a topic, each time from where it stopped to the end at that time.
pub struct Tail {
    reader: Box<dyn RecordReader>,
    partitions: Vec<TopicPartition>,
    batch: ReadBatch,
}

impl Tail {
    pub fn new(backend: &Arc<dyn Backend>, topic: &str, partitions: i32) -> Tail {
        let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
        let partitions: Vec<_> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
        let starts: Vec<_> = partitions.iter().map(|partition| (partition.clone(), StartOffset::Beginning)).collect();
        reader.assign(&starts).unwrap();
        Tail { reader, partitions, batch: ReadBatch::default() }
    }

    pub async fn read(&mut self, mut each: impl FnMut(&ConsumerRecord)) {
        let mut ends = Vec::new();
        // A topic that was made a moment ago may have no leader yet.
        let known = async || match self.reader.end_offsets(&self.partitions, PATIENCE).await {
            Err(error) if error.is_retriable() => false,
            found => {
                ends = found.unwrap();
                true
            }
        };
        assert!(holds_within(PATIENCE, known).await, "the ends of the topic are not known");
        let behind = |reader: &dyn RecordReader| {
            self.partitions.iter().zip(&ends).any(|(at, end)| reader.position(at).unwrap_or(0) < *end)
        };
        while behind(&*self.reader) {
            let read = self.reader.read(&mut self.batch, 10_000, PATIENCE);
            tokio::time::timeout(PATIENCE, read).await.expect("the topic can be read").unwrap();
            self.batch.records.iter().for_each(&mut each);
        }
    }
}

/// The committed offset of a source connector with one source partition, as its offset topic has it.
pub struct SourceOffset {
    tail: Tail,
    connector: String,
    field: &'static str,
    last: u64,
}

impl SourceOffset {
    pub fn new(backend: &Arc<dyn Backend>, worker: &Worker, connector: &str, field: &'static str) -> SourceOffset {
        let tail = Tail::new(backend, &worker.setting("offset.storage.topic"), OFFSET_PARTITIONS);
        SourceOffset { tail, connector: connector.to_owned(), field, last: 0 }
    }

    /// What is durable now; 0 where nothing is.
    pub async fn read(&mut self) -> u64 {
        let SourceOffset { tail, connector, field, last } = self;
        tail.read(|record| {
            let key: Value = serde_json::from_slice(record.key.as_deref().unwrap()).unwrap();
            let value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            if key[0] == connector.as_str() {
                let offset = value[&**field].as_u64().unwrap();
                assert!(offset >= *last, "the committed offset went back from {last} to {offset}");
                *last = offset;
            }
        })
        .await;
        *last
    }
}

/// What was known after a kill.
#[derive(Debug, Clone, Default)]
pub struct Kill {
    /// Records below were committed by the source.
    pub committed: usize,
    /// Length of the topic, as far as it was known: a request on the wire may still arrive.
    pub topic: usize,
    /// Length of the sink's file in bytes.
    pub file: usize,
    /// The committed offset of the sink's group.
    pub group: usize,
}

/// Checks what a source wrote: everything once in order, but for repetitions that begin no further back than behind the last
/// commit before a kill. Returns how many came again.
pub fn check_topic(numbers: &[usize], total: usize, kills: &[Kill]) -> usize {
    let mut kills = kills.iter().filter(|kill| kill.topic < numbers.len()).peekable();
    let (mut expected, mut again) = (0, 0);
    // The last kill that may be the reason of a repetition here.
    let mut last: Option<&Kill> = None;
    for (at, &number) in numbers.iter().enumerate() {
        while let Some(kill) = kills.next_if(|kill| kill.topic <= at) {
            last = Some(kill);
        }
        if number != expected {
            assert!(number < expected, "record {at} of the topic is {number}: lost are those from {expected} on");
            let Some(kill) = last.take() else {
                panic!("record {at} of the topic is {number} after {}, and no kill explains it", expected - 1);
            };
            let committed = kill.committed;
            assert!(number >= committed, "{number} came again though everything before {committed} was committed");
            again += expected - number;
        }
        expected = number + 1;
    }
    assert_eq!(expected, total, "the end is missing");
    again
}

/// Checks what a sink wrote: what the topic has, in order, but for repetitions that begin no further back than at the group's
/// offset at a kill. Returns how many came again.
pub fn check_file(file: &[u8], topic: &[usize], kills: &[Kill]) -> usize {
    let starts = std::iter::once(Kill::default()).chain(kills.iter().cloned());
    let ends = kills.iter().map(|kill| kill.file).chain([file.len()]);
    let (mut reached, mut again) = (0, 0);
    for (life, (start, end)) in starts.zip(ends).enumerate() {
        assert!(start.group <= reached, "life {life}: {} is committed, but {reached} records were put", start.group);
        let (numbers, torn) = lines_of_life(file, start.file, end);
        let Some(first) = numbers.first().copied().or(torn.map(number_of_torn)) else { continue };
        let fits = |from: &usize| {
            let rest = &topic[*from..];
            rest.starts_with(&numbers)
                && torn
                    .is_none_or(|torn| rest.get(numbers.len()).is_some_and(|n| line(*n).as_bytes().starts_with(torn)))
        };
        let from =
            (start.group..=reached).filter(|&at| topic.get(at) == Some(&first) || first == usize::MAX).find(fits);
        let from = from.unwrap_or_else(|| {
            panic!(
                "life {life} wrote {} lines from {first} on; they are not what is in the topic from a record between {} and {reached}",
                numbers.len(),
                start.group
            )
        });
        again += reached - from;
        reached = from + numbers.len();
    }
    assert_eq!(reached, topic.len(), "the end is missing in the file");
    again
}

/// The whole lines that one life wrote, and the beginning of one that a kill broke off.
fn lines_of_life(file: &[u8], start: usize, end: usize) -> (Vec<usize>, Option<&[u8]>) {
    let mut written = &file[start..end];
    if start > 0 && file[start - 1] != b'\n' {
        // The earlier life broke off within a line; the sink ends that line before it writes.
        written = match written.split_first() {
            Some((b'\n', rest)) => rest,
            None => written,
            Some(_) => panic!("the line that a kill broke off was gone on with"),
        };
    }
    let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let numbers = written[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(number).collect();
    (numbers, Some(&written[whole..]).filter(|torn| !torn.is_empty()))
}

/// The number of a broken line; `usize::MAX` where too little is left to tell.
fn number_of_torn(torn: &[u8]) -> usize {
    let digits = torn.get(..10).map(|digits| String::from_utf8_lossy(digits).into_owned());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(committed: usize, topic: usize) -> Kill {
        Kill { committed, topic, ..Kill::default() }
    }

    fn refused(check: impl FnOnce() -> usize) -> String {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn the_topic_may_repeat_what_was_not_committed() {
        assert_eq!(check_topic(&[0, 1, 2, 1, 2, 3], 4, &[kill(1, 3)]), 2);
        // A request that was on the wire arrived after the kill.
        assert_eq!(check_topic(&[0, 1, 2, 1, 2, 3], 4, &[kill(1, 2)]), 2);
        assert!(refused(|| check_topic(&[0, 1, 2, 1, 2, 3], 4, &[kill(2, 3)])).contains("was committed"));
        assert!(refused(|| check_topic(&[0, 1, 2, 1, 2, 3], 4, &[])).contains("no kill"));
        assert!(refused(|| check_topic(&[0, 1, 3], 4, &[kill(2, 2)])).contains("lost"));
        assert!(refused(|| check_topic(&[0, 1, 0, 1, 0, 1], 2, &[kill(0, 1)])).contains("no kill"));
    }

    fn written(numbers: &[usize]) -> Vec<u8> {
        numbers.iter().flat_map(|number| line(*number).into_bytes()).collect()
    }

    #[test]
    fn the_file_may_repeat_what_was_not_committed() {
        let at = |group, file| Kill { group, file, ..Kill::default() };
        let file = written(&[0, 1, 2, 1, 2, 3]);
        assert_eq!(check_file(&file, &[0, 1, 2, 3], &[at(1, 3 * LINE_BYTES)]), 2);
        assert!(refused(|| check_file(&file, &[0, 1, 2, 3], &[at(2, 3 * LINE_BYTES)])).contains("between 2 and 3"));
        assert!(refused(|| check_file(&file, &[0, 1, 2, 3], &[at(4, 3 * LINE_BYTES)])).contains("4 is committed"));
        assert!(refused(|| check_file(&file, &[0, 1, 2, 3], &[])).contains("life 0"));
        assert!(refused(|| check_file(&written(&[0, 2]), &[0, 1, 2], &[at(0, LINE_BYTES)])).contains("life 1"));
        // The topic repeats, the sink does not.
        assert_eq!(check_file(&file, &[0, 1, 2, 1, 2, 3], &[at(1, 3 * LINE_BYTES)]), 0);
    }

    #[test]
    fn a_kill_may_break_a_line_off() {
        let torn = |bytes: usize| [&written(&[0])[..], &written(&[1])[..bytes], b"\n", &written(&[1, 2])].concat();
        for bytes in [1, 9, 10, 30] {
            let kills = [Kill { file: LINE_BYTES + bytes, ..Kill::default() }, Kill::default()];
            assert_eq!(check_file(&torn(bytes), &[0, 1, 2], &[Kill { group: 1, ..kills[0].clone() }]), 0);
        }
    }
}
