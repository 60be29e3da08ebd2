//! What error codes mean for a caller.

use std::ffi::CStr;

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::bindings::rd_kafka_resp_err_t::*;

use super::copied;
use crate::backend::BackendError;

/// Codes after which the same call may succeed. Java's `RetriableException`s that can reach us, and the client's own.
const RETRIABLE: [Code; 41] = [
    RD_KAFKA_RESP_ERR__TRANSPORT,
    RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
    RD_KAFKA_RESP_ERR__RESOLVE,
    RD_KAFKA_RESP_ERR__TIMED_OUT,
    RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
    RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE,
    RD_KAFKA_RESP_ERR__WAIT_COORD,
    RD_KAFKA_RESP_ERR__WAIT_CACHE,
    RD_KAFKA_RESP_ERR__IN_PROGRESS,
    RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS,
    RD_KAFKA_RESP_ERR__INTR,
    RD_KAFKA_RESP_ERR__RETRY,
    RD_KAFKA_RESP_ERR__QUEUE_FULL,
    RD_KAFKA_RESP_ERR__PURGE_INFLIGHT,
    RD_KAFKA_RESP_ERR__DESTROY,
    RD_KAFKA_RESP_ERR__PARTIAL,
    RD_KAFKA_RESP_ERR__BAD_MSG,
    RD_KAFKA_RESP_ERR_INVALID_MSG,
    RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
    RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    RD_KAFKA_RESP_ERR_NOT_CONTROLLER,
    RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
    RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
    RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
    RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT,
    RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
    RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
];

/// The error of a code. `what` says what was attempted; `detail`, where not empty, replaces the code's own text.
pub(super) fn error_of(code: Code, what: &str, detail: &str) -> BackendError {
    // SAFETY: the call takes any code and returns a static string.
    let text = unsafe { CStr::from_ptr(rd::rd_kafka_err2str(code)) }.to_string_lossy();
    let detail = if detail.is_empty() { &*text } else { detail };
    let message = format!("{what}: {detail}");
    match code {
        RD_KAFKA_RESP_ERR__PURGE_QUEUE => BackendError::Purged,
        RD_KAFKA_RESP_ERR__FATAL => BackendError::Fatal(message),
        RD_KAFKA_RESP_ERR__FENCED
        | RD_KAFKA_RESP_ERR_PRODUCER_FENCED
        | RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
        | RD_KAFKA_RESP_ERR_TRANSACTION_COORDINATOR_FENCED => BackendError::Fenced(message),
        RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
        | RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
        | RD_KAFKA_RESP_ERR__LOG_TRUNCATION => BackendError::OffsetOutOfRange(message),
        code if RETRIABLE.contains(&code) => BackendError::Retriable(message),
        _ => BackendError::Refused(message),
    }
}

/// As [`error_of`], where partitions are read: there a topic that is gone is no error of the request.
pub(super) fn error_of_read(code: Code, what: &str, detail: &str) -> BackendError {
    match (code, error_of(code, what, detail)) {
        (
            RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
            | RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
            BackendError::Refused(message) | BackendError::Retriable(message),
        ) => BackendError::UnknownPartition(message),
        (_, error) => error,
    }
}

/// Takes an error object; `None` where there is none.
///
/// # Safety
/// `error` is null or an error object that nobody else frees.
pub(super) unsafe fn take_error(error: *mut rd::rd_kafka_error_t, what: &str) -> Option<BackendError> {
    if error.is_null() {
        return None;
    }
    // SAFETY: it is a living error object until the last line; its string is copied before.
    unsafe {
        let code = rd::rd_kafka_error_code(error);
        let detail = copied(rd::rd_kafka_error_string(error));
        let (fatal, retriable) = (rd::rd_kafka_error_is_fatal(error) != 0, rd::rd_kafka_error_is_retriable(error) != 0);
        rd::rd_kafka_error_destroy(error);
        Some(match error_of(code, what, &detail) {
            fenced @ BackendError::Fenced(_) => fenced,
            _ if fatal => BackendError::Fatal(format!("{what}: {detail}")),
            // A broker that met an exception of its own, as a coordinator does that two writers of one id ask at the same moment. It may have
            // done what it was asked for or not, so a commit is in doubt.
            _ if retriable || code == RD_KAFKA_RESP_ERR_UNKNOWN => BackendError::Retriable(format!("{what}: {detail}")),
            other => other,
        })
    }
}

/// `Ok` or the error of a code.
pub(super) fn check(code: Code, what: &str) -> Result<(), BackendError> {
    match code {
        RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(error_of(code, what, "")),
    }
}
