//! Logins that the brokers refuse.
//!
//! The library tries again for ever, so a task whose login is wrong would look as if it ran. But a broker that has just come up may not know its
//! users yet: who was let in before is given some time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use crate::backend::BackendError;

/// How long the brokers may refuse a client that they let in before. The library says it again after 30 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client knows of its logins.
#[derive(Default)]
pub(super) struct Logins {
    /// The brokers have answered since the last refusal.
    let_in: AtomicBool,
    /// Failures so far.
    count: AtomicU64,
    refused: Mutex<Refused>,
}

#[derive(Default)]
struct Refused {
    /// Since when, without an answer in between; `None` where the brokers have not refused it, or have never let it in.
    since: Option<Instant>,
    failure: Option<BackendError>,
}

/// Whether an error of the client says that a broker does not take its login. A connection that was lost in the middle of one has the same code,
/// and the library's word for its own errors in its text.
pub(super) fn is_refusal(code: Code, text: &str) -> bool {
    code == Code::RD_KAFKA_RESP_ERR__AUTHENTICATION && !text.contains("Local: ")
}

impl Logins {
    /// The brokers have answered.
    pub(super) fn let_in(&self) {
        self.let_in.store(true, Ordering::Release);
    }

    /// A broker did not take the login.
    pub(super) fn refused(&self, text: &str, now: Instant) {
        let mut refused = self.lock();
        if self.let_in.swap(false, Ordering::AcqRel) {
            refused.since = Some(now);
        }
        if refused.since.is_none_or(|since| now.duration_since(since) >= PATIENCE) {
            self.note(&mut refused, BackendError::Refused(text.to_owned()));
        }
    }

    /// Something else that concerns all who use the client.
    pub(super) fn failed(&self, error: BackendError) {
        self.note(&mut self.lock(), error);
    }

    fn note(&self, refused: &mut Refused, failure: BackendError) {
        refused.failure = Some(failure);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How many failures there were.
    pub(super) fn failures(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The last failure, if it is newer than the `seen` first ones.
    pub(super) fn failure_since(&self, seen: u64) -> Option<BackendError> {
        if self.failures() == seen { None } else { self.lock().failure.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_login_that_was_never_taken_fails_at_once_and_each_time() {
        let (logins, begin) = (Logins::default(), Instant::now());
        logins.refused("no", begin);
        assert!(matches!(logins.failure_since(0), Some(BackendError::Refused(text)) if text == "no"));
        assert!(logins.failure_since(1).is_none());
        logins.refused("no", later(begin, 1));
        assert!(logins.failure_since(1).is_some());
    }

    #[test]
    fn one_that_was_taken_before_is_given_some_time() {
        let (logins, begin) = (Logins::default(), Instant::now());
        logins.let_in();
        for seconds in [0, 1, 19] {
            logins.refused("not yet", later(begin, seconds));
        }
        assert_eq!(logins.failures(), 0);
        logins.let_in();
        logins.refused("again", later(begin, 30));
        assert_eq!(logins.failures(), 0, "it was let in in between");
        logins.refused("again", later(begin, 50));
        assert_eq!(logins.failures(), 1);
    }

    #[test]
    fn a_lost_connection_is_no_refusal() {
        let code = Code::RD_KAFKA_RESP_ERR__AUTHENTICATION;
        assert!(is_refusal(code, "SASL authentication error: Authentication failed"));
        assert!(is_refusal(code, "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: ..."));
        assert!(!is_refusal(code, "SASL PLAIN mechanism handshake failed: Local: Broker transport failure: ..."));
        assert!(!is_refusal(Code::RD_KAFKA_RESP_ERR__TRANSPORT, "Connect failed: Connection refused"));
    }
}
