//! Consuming: assignment and batches of messages.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use connect_api::{TimestampType, TopicPartition};
use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use tokio::sync::Notify;

use super::client::{Client, Kind, Queue};
use super::copied;
use super::errors::{check, error_of_read, take_error};
use super::partitions::PartitionList;
use super::produce::{Topic, each_header};
use crate::backend::inbox::lock;
use crate::backend::{BackendError, ClientSettings, Result};

/// Each question is about all topics that are without an answer, so many of them at a time would make it long: a bare client that gets 1,000 new topics
/// at once and asks for each had the first record after 1.6 to 2.2 s, and after 0.4 s with these bounds. The client repeats a question that leaves
/// topics open after 0.1 s, 0.2 s and so on, which is how those that came meanwhile get theirs.
const QUESTIONS_AT_ONCE: u32 = 10;
const QUESTION_EVERY: Duration = Duration::from_millis(50);

/// A consumer that is assigned by hand.
pub(in crate::backend::kafka) struct Consumer {
    client: Client,
    questions: Mutex<Questions>,
}

/// When a consumer may ask about topics out of turn: [`QUESTIONS_AT_ONCE`] times, and once more every [`QUESTION_EVERY`].
struct Questions {
    /// When as many as that would be free again.
    next: Instant,
}

impl Questions {
    fn take(&mut self, now: Instant) -> bool {
        let next = self.next.max(now);
        let free = next <= now + QUESTION_EVERY * (QUESTIONS_AT_ONCE - 1);
        if free {
            self.next = next + QUESTION_EVERY;
        }
        free
    }
}

/// A queue of messages, and room for those that are taken.
pub(in crate::backend::kafka) struct Messages {
    queue: Queue,
    buffer: Vec<*mut rd::rd_kafka_message_t>,
}

// SAFETY: the buffer is empty between two calls.
unsafe impl Send for Messages {}
// SAFETY: shared access never touches the buffer.
unsafe impl Sync for Messages {}

/// A message of a consumer: a record, the end of a partition or an error.
pub(in crate::backend::kafka) struct Message<'a> {
    message: *mut rd::rd_kafka_message_t,
    _batch: PhantomData<&'a ()>,
}

/// What a message is.
pub(in crate::backend::kafka) enum What {
    Record,
    EndOfPartition,
    Error(BackendError),
}

/// Messages that are freed when this is dropped.
struct Batch<'a>(&'a mut Vec<*mut rd::rd_kafka_message_t>);

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for message in self.0.drain(..) {
            // SAFETY: the messages are ours, and each is freed once.
            unsafe { rd::rd_kafka_message_destroy(message) };
        }
    }
}

impl Consumer {
    pub(in crate::backend::kafka) fn new(settings: &ClientSettings) -> Result<Consumer> {
        let client = Client::new(Kind::Consumer, settings)?;
        Ok(Consumer { client, questions: Mutex::new(Questions { next: Instant::now() }) })
    }

    pub(in crate::backend::kafka) fn client(&self) -> &Client {
        &self.client
    }

    /// What comes of all partitions that are in no other queue, and all that is of no partition.
    pub(in crate::backend::kafka) fn messages(&self) -> Result<Messages> {
        Ok(Messages { queue: self.client.consumer_queue()?, buffer: Vec::new() })
    }

    /// An empty queue, for [`Consumer::add_into`].
    pub(in crate::backend::kafka) fn new_messages(&self) -> Result<Messages> {
        Ok(Messages { queue: self.client.new_queue()?, buffer: Vec::new() })
    }

    /// Consumes these partitions and no others.
    pub(in crate::backend::kafka) fn assign(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: client and list live; the list is copied.
        check(unsafe { rd::rd_kafka_assign(self.client.ptr(), list.ptr()) }, "assigning partitions")
    }

    pub(in crate::backend::kafka) fn add(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: client and list live; the list is copied; the error is taken once.
        let error = unsafe { take_error(rd::rd_kafka_incremental_assign(self.client.ptr(), list.ptr()), "assigning") };
        error.map_or(Ok(()), Err)
    }

    /// Lets the client ask where the partitions of these topics are, if it does not know them yet and has not asked too often. To assign them does not:
    /// it looks for topics that it does not know once a second. To be kept until they are assigned.
    pub(in crate::backend::kafka) fn ask_about(&self, topics: &BTreeSet<&str>) -> Result<Vec<Topic>> {
        let mut questions = lock(&self.questions);
        let now = Instant::now();
        topics.iter().take_while(|_| questions.take(now)).map(|topic| Topic::new(&self.client, topic)).collect()
    }

    /// As [`Consumer::add`], with all that is of these partitions in a queue of their own.
    pub(in crate::backend::kafka) fn add_into(&self, list: &PartitionList, messages: &Messages) -> Result<()> {
        let queues = list.partitions().into_iter().map(|partition| self.client.partition_queue(&partition));
        let queues: Vec<Queue> = queues.collect::<Result<_>>()?;
        let forward = || queues.iter().for_each(|queue| queue.forward(&messages.queue));
        // In front: nothing may get into the common queue. The library keeps its hands off a queue that was forwarded once.
        forward();
        self.add(list)?;
        // And behind: where the partition was removed before, its end takes the forwarding away. That is worked off by the one thread
        // that answered the call above, behind the removal and before the addition. What came since waits in the partition's queue.
        forward();
        Ok(())
    }

    pub(in crate::backend::kafka) fn remove(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: client and list live; the list is copied; the error is taken once.
        let error =
            unsafe { take_error(rd::rd_kafka_incremental_unassign(self.client.ptr(), list.ptr()), "unassigning") };
        error.map_or(Ok(()), Err)
    }

    /// Delivers nothing of these partitions any more.
    pub(in crate::backend::kafka) fn pause(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: client and list live.
        check(unsafe { rd::rd_kafka_pause_partitions(self.client.ptr(), list.ptr()) }, "pausing")?;
        list.first_error("pausing")
    }

    pub(in crate::backend::kafka) fn resume(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: client and list live.
        check(unsafe { rd::rd_kafka_resume_partitions(self.client.ptr(), list.ptr()) }, "resuming")?;
        list.first_error("resuming")
    }
}

impl Messages {
    /// Notifies when something came into the empty queue.
    pub(in crate::backend::kafka) fn enable_wake(&mut self, notify: &Arc<Notify>) {
        self.queue.enable_wake(notify);
    }

    pub(in crate::backend::kafka) fn is_empty(&self) -> bool {
        // SAFETY: the queue lives.
        unsafe { rd::rd_kafka_queue_length(self.queue.ptr()) == 0 }
    }

    /// Hands over what is there, at most `max` messages, without waiting; how many there were.
    pub(in crate::backend::kafka) fn take(&mut self, max: usize, each: impl FnOnce(&[Message<'_>])) -> usize {
        self.buffer.resize(max, ptr::null_mut());
        // SAFETY: the queue lives; the count is that of the array.
        let count = unsafe { rd::rd_kafka_consume_batch_queue(self.queue.ptr(), 0, self.buffer.as_mut_ptr(), max) };
        self.buffer.truncate(usize::try_from(count).unwrap_or(0));
        let batch = Batch(&mut self.buffer);
        let message = |message: &*mut rd::rd_kafka_message_t| Message { message: *message, _batch: PhantomData };
        let messages: Vec<Message<'_>> = batch.0.iter().map(message).collect();
        each(&messages);
        messages.len()
    }
}

impl<'a> Message<'a> {
    fn get(&self) -> &'a rd::rd_kafka_message_t {
        // SAFETY: the message lives as long as its batch.
        unsafe { &*self.message }
    }

    pub(in crate::backend::kafka) fn what(&self) -> What {
        match self.get().err {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => What::Record,
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => What::EndOfPartition,
            code => {
                // SAFETY: the message lives; so does the text of its error.
                let text = unsafe { copied(rd::rd_kafka_message_errstr(self.message)) };
                let what = self.partition().map_or("consuming".into(), |partition| format!("consuming {partition}"));
                What::Error(error_of_read(code, &what, &text))
            }
        }
    }

    /// Equal for messages of one partition, within a batch.
    pub(in crate::backend::kafka) fn source(&self) -> (usize, i32) {
        (self.get().rkt as usize, self.get().partition)
    }

    pub(in crate::backend::kafka) fn partition(&self) -> Option<TopicPartition> {
        if self.get().rkt.is_null() {
            return None;
        }
        // SAFETY: the topic lives as long as the message.
        let topic = unsafe { copied(rd::rd_kafka_topic_name(self.get().rkt)) };
        Some(TopicPartition::new(topic, self.get().partition))
    }

    pub(in crate::backend::kafka) fn offset(&self) -> i64 {
        self.get().offset
    }

    pub(in crate::backend::kafka) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: the key lives as long as the message.
        unsafe { slice(self.get().key.cast(), self.get().key_len) }
    }

    pub(in crate::backend::kafka) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: the value lives as long as the message.
        unsafe { slice(self.get().payload.cast(), self.get().len) }
    }

    pub(in crate::backend::kafka) fn timestamp(&self) -> (TimestampType, i64) {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives.
        let timestamp = unsafe { rd::rd_kafka_message_timestamp(self.message, &mut kind) };
        match kind {
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (TimestampType::NoTimestamp, -1),
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => (TimestampType::CreateTime, timestamp),
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
                (TimestampType::LogAppendTime, timestamp)
            }
        }
    }

    /// Calls `each` with name and value of every header.
    pub(in crate::backend::kafka) fn headers(&self, each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives, and the headers as long as it does.
        unsafe {
            if rd::rd_kafka_message_headers(self.message, &mut headers) == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                each_header(headers, each);
            }
        }
    }
}

/// # Safety
/// `start` is null or points to `len` bytes that live for `'a`.
unsafe fn slice<'a>(start: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: promised by the caller.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_bounded_at_once_and_over_time() {
        let begun = Instant::now();
        let mut questions = Questions { next: begun };
        let free = |questions: &mut Questions, now| (0..100).filter(|_| questions.take(now)).count() as u32;
        assert_eq!(free(&mut questions, begun), QUESTIONS_AT_ONCE);
        assert_eq!(free(&mut questions, begun + QUESTION_EVERY * 3), 3);
        assert_eq!(free(&mut questions, begun + QUESTION_EVERY * 1000), QUESTIONS_AT_ONCE);
    }
}
