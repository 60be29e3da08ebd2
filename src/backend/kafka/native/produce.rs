//! Producing records and what became of them.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::bindings::rd_kafka_vtype_t as Type;

use super::client::{Client, Queue};
use super::errors::{check, error_of};
use super::partitions::PartitionList;
use super::{c_string, copied, milliseconds};
use crate::backend::{BackendError, Header, ProducerRecord, Result};

/// The client's sign for "any partition: by the key".
const ANY_PARTITION: i32 = -1;
/// Records that one call hands to the client at most.
const MAX_RUN: usize = 1000;

/// A topic of a producer, or one that a consumer asks about. Keeps its client.
pub(in crate::backend::kafka) struct Topic {
    topic: NonNull<rd::rd_kafka_topic_t>,
    client: Client,
}

// SAFETY: librdkafka's topics lock themselves.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: each `Topic` holds one reference.
        unsafe { rd::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

/// Memory that calls reuse.
#[derive(Default)]
pub(in crate::backend::kafka) struct Scratch(Vec<rd::rd_kafka_message_t>);

// SAFETY: between two calls its pointers are never followed.
unsafe impl Send for Scratch {}

/// What became of the records of one call.
pub(in crate::backend::kafka) enum Outcome {
    /// All were taken.
    Taken,
    /// So many from the front were taken; the queue is full.
    Full(usize),
    /// So many from the front were taken; the next one is refused.
    Refused(usize, BackendError),
}

/// A delivery report.
pub(in crate::backend::kafka) struct Delivery<'a>(&'a rd::rd_kafka_message_t);

impl Delivery<'_> {
    /// What was passed with the record.
    pub(in crate::backend::kafka) fn tag(&self) -> usize {
        self.0._private as usize
    }

    /// Negative where the client has not chosen one.
    pub(in crate::backend::kafka) fn partition(&self) -> i32 {
        self.0.partition
    }

    pub(in crate::backend::kafka) fn topic(&self) -> Cow<'_, str> {
        // SAFETY: a message of a delivery report has a topic, whose name lives as long.
        unsafe { CStr::from_ptr(rd::rd_kafka_topic_name(self.0.rkt)) }.to_string_lossy()
    }

    pub(in crate::backend::kafka) fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Bytes of key, value and headers.
    pub(in crate::backend::kafka) fn size(&self) -> usize {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives; without headers the call leaves the pointer alone and says so.
        let code = unsafe { rd::rd_kafka_message_headers(self.0, &mut headers) };
        let mut size = self.0.len + self.0.key_len;
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            // SAFETY: the headers belong to the message, which lives.
            unsafe { each_header(headers, |name, value| size += name.len() + value.map_or(0, <[u8]>::len)) };
        }
        size
    }

    pub(in crate::backend::kafka) fn error(&self) -> Option<BackendError> {
        (self.0.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| error_of(self.0.err, &format!("writing to {}-{}", self.topic(), self.0.partition), ""))
    }
}

/// Calls `each` with name and value of every header.
///
/// # Safety
/// `headers` are living headers.
pub(super) unsafe fn each_header<'a>(
    headers: *const rd::rd_kafka_headers_t,
    mut each: impl FnMut(&'a [u8], Option<&'a [u8]>),
) {
    for at in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live; name and value live as long as they do.
        unsafe {
            let code = rd::rd_kafka_header_get_all(headers, at, &mut name, &mut value, &mut size);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            let name = std::ffi::CStr::from_ptr(name).to_bytes();
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            each(name, value);
        }
    }
}

/// Headers that no record has taken over yet.
struct Headers(NonNull<rd::rd_kafka_headers_t>);

impl Headers {
    fn new(headers: &[Header]) -> Result<Headers> {
        // SAFETY: the call only allocates.
        let native = NonNull::new(unsafe { rd::rd_kafka_headers_new(headers.len()) })
            .ok_or_else(|| BackendError::Retriable("no memory for headers".into()))?;
        let native = Headers(native);
        for (name, value) in headers {
            if name.as_bytes().contains(&0) {
                return Err(BackendError::Refused("the client cannot send a header whose name has a zero byte".into()));
            }
            let (value, size) = raw(value.as_ref());
            // SAFETY: the headers live; name and value are copied, with the lengths given.
            let code = unsafe {
                let name_ptr = name.as_bytes().as_ptr().cast();
                rd::rd_kafka_header_add(native.0.as_ptr(), name_ptr, name.len() as isize, value, size as isize)
            };
            check(code, "adding a header")?;
        }
        Ok(native)
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: no record took them over, or this value was forgotten.
        unsafe { rd::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}

/// Pointer and length; null where there is no value.
fn raw(bytes: Option<&Bytes>) -> (*mut c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

fn vu(vtype: Type, u: rd::rd_kafka_vu_s__bindgen_ty_1) -> rd::rd_kafka_vu_t {
    rd::rd_kafka_vu_t { vtype, u }
}

fn vu_bytes(vtype: Type, bytes: Option<&Bytes>) -> rd::rd_kafka_vu_t {
    let (ptr, size) = raw(bytes);
    vu(vtype, rd::rd_kafka_vu_s__bindgen_ty_1 { mem: rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size } })
}

/// Whether the call for many records can carry this one: it knows neither headers nor timestamps.
fn is_plain(record: &ProducerRecord) -> bool {
    record.headers.is_empty() && record.timestamp.is_none()
}

impl Topic {
    pub(in crate::backend::kafka) fn new(client: &Client, name: &str) -> Result<Topic> {
        let c_name: CString = c_string("the name of a topic", name)?;
        // SAFETY: client and name live; without a configuration of its own the topic has the client's.
        let topic = unsafe { rd::rd_kafka_topic_new(client.ptr(), c_name.as_ptr(), ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| {
            // SAFETY: the call reads a variable of this thread, which the line above has set.
            error_of(unsafe { rd::rd_kafka_last_error() }, &format!("opening topic {name}"), "")
        })?;
        Ok(Topic { topic, client: client.clone() })
    }

    /// Queues records of this topic; record `i` is tagged `tag(i)`.
    pub(in crate::backend::kafka) fn produce(
        &self,
        records: &[ProducerRecord],
        scratch: &mut Scratch,
        tag: impl Fn(usize) -> usize,
    ) -> Outcome {
        let mut taken = 0;
        while let Some(record) = records.get(taken) {
            let alike = |other: &&ProducerRecord| is_plain(other) && other.partition == record.partition;
            let run = records[taken..].iter().take(MAX_RUN).take_while(alike).count();
            let outcome = if run > 1 {
                self.produce_run(&records[taken..taken + run], scratch, |i| tag(taken + i))
            } else {
                self.produce_one(record, tag(taken))
            };
            match outcome {
                Outcome::Taken => taken += run.max(1),
                Outcome::Full(more) => return Outcome::Full(taken + more),
                Outcome::Refused(more, error) => return Outcome::Refused(taken + more, error),
            }
        }
        Outcome::Taken
    }

    /// Plain records of one partition, or all of any partition, with one call.
    fn produce_run(&self, records: &[ProducerRecord], scratch: &mut Scratch, tag: impl Fn(usize) -> usize) -> Outcome {
        let partition = records[0].partition.unwrap_or(ANY_PARTITION);
        let messages = &mut scratch.0;
        messages.clear();
        messages.extend(records.iter().enumerate().map(|(at, record)| {
            let ((key, key_len), (payload, len)) = (raw(record.key.as_ref()), raw(record.value.as_ref()));
            let (err, rkt, offset) = (Code::RD_KAFKA_RESP_ERR_NO_ERROR, ptr::null_mut(), 0);
            rd::rd_kafka_message_t { err, rkt, partition, payload, len, key, key_len, offset, _private: tag(at) as _ }
        }));
        let count = messages.len() as i32;
        // SAFETY: topic and records live during the call, which copies keys and values (MSG_F_COPY); the count is that of the array.
        let taken = unsafe {
            let array = messages.as_mut_ptr();
            rd::rd_kafka_produce_batch(self.topic.as_ptr(), partition, rd::RD_KAFKA_MSG_F_COPY, array, count)
        };
        match messages.iter().position(|message| message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
            None => Outcome::Taken,
            Some(failed) => {
                // Sizes are checked before, so what is left holds for all that follow: a full queue, an unknown partition, a broken client.
                debug_assert_eq!(failed, taken as usize, "the client took a record behind one that it refused");
                refusal(failed, messages[failed].err, &records[failed])
            }
        }
    }

    /// One record, with all that it may carry.
    fn produce_one(&self, record: &ProducerRecord, tag: usize) -> Outcome {
        let headers = match (!record.headers.is_empty()).then(|| Headers::new(&record.headers)).transpose() {
            Ok(headers) => headers,
            Err(error) => return Outcome::Refused(0, error),
        };
        use rd::rd_kafka_vu_s__bindgen_ty_1 as Value;
        let end = vu(Type::RD_KAFKA_VTYPE_END, Value { i: 0 });
        let mut fields = [
            vu(Type::RD_KAFKA_VTYPE_RKT, Value { rkt: self.topic.as_ptr() }),
            vu(Type::RD_KAFKA_VTYPE_PARTITION, Value { i32_: record.partition.unwrap_or(ANY_PARTITION) }),
            vu(Type::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: rd::RD_KAFKA_MSG_F_COPY }),
            vu_bytes(Type::RD_KAFKA_VTYPE_KEY, record.key.as_ref()),
            vu_bytes(Type::RD_KAFKA_VTYPE_VALUE, record.value.as_ref()),
            vu(Type::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: tag as *mut c_void }),
            end,
            end,
        ];
        let mut count = 6;
        if let Some(timestamp) = record.timestamp {
            // The client takes 0 for "now"; one millisecond later is nearer to what was meant.
            fields[count] = vu(Type::RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: timestamp.max(1) });
            count += 1;
        }
        if let Some(headers) = &headers {
            fields[count] = vu(Type::RD_KAFKA_VTYPE_HEADERS, Value { headers: headers.0.as_ptr() });
            count += 1;
        }
        // SAFETY: client, topic, record and headers live during the call, which copies key and value (MSG_F_COPY).
        let error = unsafe { rd::rd_kafka_produceva(self.client.ptr(), fields.as_ptr(), count) };
        if error.is_null() {
            // The record has taken them over.
            std::mem::forget(headers);
            return Outcome::Taken;
        }
        // SAFETY: the error is ours, and freed once.
        let code = unsafe {
            let code = rd::rd_kafka_error_code(error);
            rd::rd_kafka_error_destroy(error);
            code
        };
        refusal(0, code, record)
    }
}

fn refusal(taken: usize, code: Code, record: &ProducerRecord) -> Outcome {
    if code == Code::RD_KAFKA_RESP_ERR__QUEUE_FULL {
        return Outcome::Full(taken);
    }
    let partition = record.partition.map_or(String::new(), |partition| format!("-{partition}"));
    Outcome::Refused(taken, error_of(code, &format!("writing to {}{partition}", record.topic), ""))
}

impl Client {
    /// Removes all queued records that are not on the wire. Their reports say so. Blocks until each of the client's threads has done its part;
    /// records that are produced meanwhile may be removed or not.
    pub(in crate::backend::kafka) fn purge_queue(&self) {
        // SAFETY: the client lives. The call fails for unknown flags and for consumers only.
        unsafe { rd::rd_kafka_purge(self.ptr(), rd::RD_KAFKA_PURGE_F_QUEUE) };
    }

    /// Keeps all records of these partitions in the queue until [`Client::resume_sending`], also those that come back from the wire. Each has to be known to the
    /// client, which makes up those that are not.
    pub(in crate::backend::kafka) fn pause_sending(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: client and list live.
        check(unsafe { rd::rd_kafka_pause_partitions(self.ptr(), list.ptr()) }, "holding records back")
    }

    /// Ends [`Client::pause_sending`].
    pub(in crate::backend::kafka) fn resume_sending(&self, list: &PartitionList) -> Result<()> {
        // SAFETY: as above.
        check(unsafe { rd::rd_kafka_resume_partitions(self.ptr(), list.ptr()) }, "going on with sending")
    }

    /// Sends what is queued without waiting for `linger.ms`, and blocks until nothing is in flight or the time is over.
    pub(in crate::backend::kafka) fn flush_blocking(&self, wait: Duration) {
        // SAFETY: the client lives. The result says whether records are left, which their reports say as well.
        unsafe { rd::rd_kafka_flush(self.ptr(), milliseconds(wait)) };
    }
}

impl Queue {
    /// Waits for delivery reports and hands them over in batches.
    pub(in crate::backend::kafka) fn deliveries(&self, wait: Duration, mut each: impl FnMut(&[Delivery<'_>])) {
        // SAFETY: the queue lives; an event is ours until it is destroyed.
        let Some(event) = NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.ptr(), milliseconds(wait)) }) else {
            return;
        };
        // SAFETY: the event, its messages and the references to them live to the end of the block.
        unsafe {
            if rd::rd_kafka_event_type(event.as_ptr()) == rd::RD_KAFKA_EVENT_DR {
                let mut deliveries = Vec::with_capacity(rd::rd_kafka_event_message_count(event.as_ptr()));
                while let Some(message) = rd::rd_kafka_event_message_next(event.as_ptr()).as_ref() {
                    deliveries.push(Delivery(message));
                }
                each(&deliveries);
            } else if rd::rd_kafka_event_type(event.as_ptr()) == rd::RD_KAFKA_EVENT_ERROR {
                let text = copied(rd::rd_kafka_event_error_string(event.as_ptr()));
                self.client().note_error(rd::rd_kafka_event_error(event.as_ptr()), &text);
            }
            rd::rd_kafka_event_destroy(event.as_ptr());
        }
    }
}
