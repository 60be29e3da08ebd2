//! A client and its queues.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use connect_api::TopicPartition;
use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use tokio::sync::Notify;

use super::errors::{check, error_of};
use super::logins::{Logins, is_refusal};
use super::{ERROR_TEXT_BYTES, c_string, copied, text_of};
use crate::backend::{BackendError, ClientSettings, Result};

/// How a line of the client's log ends when it has no connection left.
const ALL_DOWN: &str = "brokers are down";

/// What lines of the client's log say of a transactional id that another client took over.
const FENCED: &str = "fenced by a newer instance";
const OLD_EPOCH: &str = "old epoch";

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::kafka) enum Kind {
    Producer,
    Consumer,
}

/// What a client says of itself, from threads of its own.
#[derive(Default)]
struct Said {
    /// Why it has no connection: the last line of its log that says so. Requests time out without a reason.
    trouble: Mutex<Option<String>>,
    logins: Logins,
}

/// What a line of the log is about when a connection was not made or was lost.
const CONNECTION_FAILED: &[u8] = b"FAIL";

/// The client itself; freed with its last user.
struct Handle {
    client: NonNull<rd::rd_kafka_t>,
    /// What the client has a pointer to; freed behind it.
    said: Box<Said>,
    /// See [`Client::is_stuck`].
    stuck: AtomicBool,
}

// SAFETY: librdkafka's clients may be used from several threads at once.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the last user is gone, and queues keep their client. Nothing of a group has to be left in order: none is ever joined.
        unsafe { rd::rd_kafka_destroy_flags(self.client.as_ptr(), rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    }
}

/// A client of the C library. Clones are the same client. Dropping the last one waits for its threads.
#[derive(Clone)]
pub(in crate::backend::kafka) struct Client(Arc<Handle>);

/// Passes a line of the client's log on. Settings never appear in these lines.
extern "C" fn log(client: *const rd::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: librdkafka passes two strings that live until this function returns.
    let (facility, line) =
        unsafe { (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(line).to_string_lossy()) };
    if facility.as_bytes() == CONNECTION_FAILED && !client.is_null() {
        // SAFETY: the client lives; its opaque is null or the `Said` that `Client::new` gave it, which outlives it.
        let said = unsafe { rd::rd_kafka_opaque(client).cast::<Said>().as_ref() };
        if let Some(said) = said {
            // Before the text stands the name of the thread.
            let text = line.split_once("]: ").map_or(&*line, |(_, text)| text);
            *said.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
        }
    }
    match level {
        // Writers of the config topic take its transactional id from each other; whom that concerns is told by an error.
        _ if line.contains(FENCED) || line.contains(OLD_EPOCH) => {
            tracing::debug!(target: "librdkafka", "{facility}: {line}")
        }
        // Said at each attempt to connect, many times a second; why the attempts fail stands in a line of its own, which the library
        // does not repeat, and who waits for an answer says so.
        _ if line.ends_with(ALL_DOWN) => tracing::debug!(target: "librdkafka", "{facility}: {line}"),
        0..=3 => tracing::error!(target: "librdkafka", "{facility}: {line}"),
        4 => tracing::warn!(target: "librdkafka", "{facility}: {line}"),
        5 | 6 => tracing::info!(target: "librdkafka", "{facility}: {line}"),
        _ => tracing::debug!(target: "librdkafka", "{facility}: {line}"),
    }
}

/// Takes an error of a consumer that is of no partition, from the thread that takes its messages. Those about connections are in its log as well.
unsafe extern "C" fn failed(_client: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: the text lives during the call; the opaque is the `Said` that `Client::new` gave the client, which outlives it.
    let (text, said) = unsafe { (copied(reason), opaque.cast::<Said>().as_ref()) };
    if let (Some(said), Ok(code)) = (said, Code::try_from(code)) {
        said.note(code, &text);
    }
}

impl Said {
    fn note(&self, code: Code, text: &str) {
        if is_refusal(code, text) {
            return self.logins.refused(text, Instant::now());
        }
        match error_of(code, "the client failed", text) {
            error @ (BackendError::Fatal(_) | BackendError::Fenced(_)) => self.logins.failed(error),
            error => tracing::debug!(%error, "of a Kafka client"),
        }
    }
}

/// Whether a value may not be shown.
fn is_secret(name: &str) -> bool {
    ["password", "secret", "key", "pem", "token", "jaas", "oauthbearer"].iter().any(|word| name.contains(word))
}

/// A configuration that is not handed to a client yet.
struct Config(NonNull<rd::rd_kafka_conf_t>);

impl Config {
    fn new(kind: Kind, settings: &ClientSettings) -> Result<Config> {
        // SAFETY: the call only allocates.
        let config = Config(NonNull::new(unsafe { rd::rd_kafka_conf_new() }).ok_or_else(out_of_memory)?);
        for (name, value) in settings {
            config.set(name, value)?;
        }
        // SAFETY: the configuration lives; `log` and `failed` fit their signatures and may be called from any thread.
        unsafe {
            rd::rd_kafka_conf_set_log_cb(config.0.as_ptr(), Some(log));
            match kind {
                Kind::Producer => {
                    let events = rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR;
                    rd::rd_kafka_conf_set_events(config.0.as_ptr(), events);
                }
                Kind::Consumer => rd::rd_kafka_conf_set_error_cb(config.0.as_ptr(), Some(failed)),
            }
        }
        Ok(config)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let (c_name, c_value) = (c_string("the name of a client setting", name)?, c_string(name, value)?);
        let mut text: [c_char; ERROR_TEXT_BYTES] = [0; ERROR_TEXT_BYTES];
        // SAFETY: the configuration and both strings live; the buffer is as long as said.
        let set = unsafe {
            let (config, buffer) = (self.0.as_ptr(), text.as_mut_ptr());
            rd::rd_kafka_conf_set(config, c_name.as_ptr(), c_value.as_ptr(), buffer, ERROR_TEXT_BYTES)
        };
        match set {
            rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ if is_secret(name) => Err(BackendError::Refused(format!("client setting {name} has no usable value"))),
            _ => Err(BackendError::Refused(format!("client setting {name}: {}", text_of(&text)))),
        }
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: no client took it over, or this value was forgotten.
        unsafe { rd::rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}

fn out_of_memory() -> BackendError {
    BackendError::Retriable("no memory for a Kafka client".into())
}

impl Client {
    /// Makes a client; it connects by itself, in the background.
    pub(in crate::backend::kafka) fn new(kind: Kind, settings: &ClientSettings) -> Result<Client> {
        let config = Config::new(kind, settings)?;
        let said = Box::<Said>::default();
        // SAFETY: the configuration lives, and what it points to is freed behind the client.
        unsafe { rd::rd_kafka_conf_set_opaque(config.0.as_ptr(), (&raw const *said).cast_mut().cast()) };
        let mut text: [c_char; ERROR_TEXT_BYTES] = [0; ERROR_TEXT_BYTES];
        let c_kind = match kind {
            Kind::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Kind::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        // SAFETY: the configuration lives; the buffer is as long as said.
        let client = unsafe { rd::rd_kafka_new(c_kind, config.0.as_ptr(), text.as_mut_ptr(), ERROR_TEXT_BYTES) };
        let client = NonNull::new(client)
            .ok_or_else(|| BackendError::Refused(format!("no Kafka client with these settings: {}", text_of(&text))))?;
        // The client has taken the configuration over.
        std::mem::forget(config);
        let client = Client(Arc::new(Handle { client, said, stuck: AtomicBool::new(false) }));
        if kind == Kind::Consumer {
            // SAFETY: the client lives. All that a consumer has to say comes through its one queue from now on.
            check(unsafe { rd::rd_kafka_poll_set_consumer(client.ptr()) }, "setting up a Kafka consumer")?;
        }
        Ok(client)
    }

    pub(super) fn ptr(&self) -> *mut rd::rd_kafka_t {
        self.0.client.as_ptr()
    }

    /// Whether a request for a group's coordinator was given up while the client still wants to send it. Such a client is to be replaced: what
    /// it sends late is of no use, and it must be gone before the request's own time-out.
    pub(in crate::backend::kafka) fn is_stuck(&self) -> bool {
        self.0.stuck.load(Ordering::Relaxed)
    }

    pub(super) fn set_stuck(&self) {
        self.0.stuck.store(true, Ordering::Relaxed);
    }

    /// Why the client last failed to connect, if [`Client::forget_trouble`] was not called since.
    pub(in crate::backend::kafka) fn trouble(&self) -> Option<String> {
        self.0.said.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The brokers have answered.
    pub(in crate::backend::kafka) fn forget_trouble(&self) {
        *self.0.said.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An event of the queue says that something of no record went wrong.
    pub(super) fn note_error(&self, code: Code, text: &str) {
        self.0.said.note(code, text);
    }

    /// Something that concerns all who use the client went wrong for good.
    pub(in crate::backend::kafka) fn note_failure(&self, error: BackendError) {
        self.0.said.logins.failed(error);
    }

    /// The brokers have answered, so they took the login.
    pub(in crate::backend::kafka) fn note_answer(&self) {
        self.0.said.logins.let_in();
    }

    /// How often it failed in a way that concerns all who use it.
    pub(in crate::backend::kafka) fn failures(&self) -> u64 {
        self.0.said.logins.failures()
    }

    /// The last of these failures, if it is newer than the `seen` first ones.
    pub(in crate::backend::kafka) fn failure_since(&self, seen: u64) -> Option<BackendError> {
        self.0.said.logins.failure_since(seen)
    }

    /// Logs what the client has to say where no thread waits at its main queue; otherwise it would pile up there.
    pub(super) fn serve(&self) {
        // SAFETY: the client lives. Without time the call only works off what is there.
        unsafe { rd::rd_kafka_poll(self.ptr(), 0) };
    }

    /// Breaks the client as a fatal error of a broker would.
    #[cfg(test)]
    pub(in crate::backend::kafka) fn break_for_test(&self) {
        let code = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client lives; the string is static.
        unsafe { rd::rd_kafka_test_fatal_error(self.ptr(), code, c"broken by a test".as_ptr()) };
    }

    /// The error that broke the client for good, if one did.
    pub(in crate::backend::kafka) fn fatal_error(&self) -> Option<BackendError> {
        let mut text: [c_char; ERROR_TEXT_BYTES] = [0; ERROR_TEXT_BYTES];
        // SAFETY: the client lives; the buffer is as long as said.
        let code = unsafe { rd::rd_kafka_fatal_error(self.ptr(), text.as_mut_ptr(), ERROR_TEXT_BYTES) };
        (code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
            match error_of(code, "the client failed", &text_of(&text)) {
                fenced @ BackendError::Fenced(_) => fenced,
                other => BackendError::Fatal(other.to_string()),
            }
        })
    }

    /// The queue of delivery reports.
    pub(in crate::backend::kafka) fn main_queue(&self) -> Result<Queue> {
        // SAFETY: the client lives.
        self.queue(unsafe { rd::rd_kafka_queue_get_main(self.ptr()) })
    }

    /// The queue of a consumer.
    pub(super) fn consumer_queue(&self) -> Result<Queue> {
        // SAFETY: the client lives.
        self.queue(unsafe { rd::rd_kafka_queue_get_consumer(self.ptr()) })
    }

    /// The queue of a partition of a consumer.
    pub(super) fn partition_queue(&self, partition: &TopicPartition) -> Result<Queue> {
        let topic = c_string("the name of a topic", &partition.topic)?;
        // SAFETY: client and name live; the name is copied.
        self.queue(unsafe { rd::rd_kafka_queue_get_partition(self.ptr(), topic.as_ptr(), partition.partition) })
    }

    /// A queue of its own: for the answer of one request, or for the messages of some partitions.
    pub(super) fn new_queue(&self) -> Result<Queue> {
        // SAFETY: the client lives.
        self.queue(unsafe { rd::rd_kafka_queue_new(self.ptr()) })
    }

    fn queue(&self, queue: *mut rd::rd_kafka_queue_t) -> Result<Queue> {
        let queue = NonNull::new(queue).ok_or_else(out_of_memory)?;
        Ok(Queue { queue, wake: None, client: self.clone() })
    }
}

/// A queue of events. It keeps its client.
pub(in crate::backend::kafka) struct Queue {
    queue: NonNull<rd::rd_kafka_queue_t>,
    /// What the callback below gets a pointer to.
    wake: Option<Arc<Notify>>,
    client: Client,
}

// SAFETY: librdkafka's queues lock themselves.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// Called by librdkafka under the queue's lock when the queue is not empty any more.
unsafe extern "C" fn wake(_client: *mut rd::rd_kafka_t, notify: *mut c_void) {
    // SAFETY: the pointer is that of `Queue::wake`, which outlives the callback: see `Queue::drop`.
    unsafe { &*notify.cast::<Notify>() }.notify_one();
}

impl Queue {
    pub(super) fn ptr(&self) -> *mut rd::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Notifies when something came into the empty queue.
    pub(super) fn enable_wake(&mut self, notify: &Arc<Notify>) {
        // SAFETY: the queue lives; the `Notify` lives until the callback is off again. A former one is kept until its callback is replaced.
        unsafe { rd::rd_kafka_queue_cb_event_enable(self.ptr(), Some(wake), Arc::as_ptr(notify).cast_mut().cast()) };
        self.wake = Some(Arc::clone(notify));
    }

    /// Sends all that comes into this queue, and what is in it, into another one.
    pub(super) fn forward(&self, to: &Queue) {
        // SAFETY: both queues live; the library counts its reference to the other one.
        unsafe { rd::rd_kafka_queue_forward(self.ptr(), to.ptr()) }
    }

    /// Lets a thread that waits at this queue return at once.
    pub(in crate::backend::kafka) fn interrupt(&self) {
        // SAFETY: the queue lives.
        unsafe { rd::rd_kafka_queue_yield(self.ptr()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue lives. Switching the callback off takes the lock under which it is called, so none runs behind this line.
        unsafe {
            if self.wake.is_some() {
                rd::rd_kafka_queue_cb_event_enable(self.ptr(), None, std::ptr::null_mut());
            }
            rd::rd_kafka_queue_destroy(self.ptr());
        }
    }
}
