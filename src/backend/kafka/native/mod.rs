//! Safe wrappers around the C calls that the Rust layer of the client lacks or pays for with an allocation per record. The only
//! code of the project that is `unsafe`; nothing in here decides anything.
//!
//! `client`: a client and its queues. `errors`: what error codes mean for a caller. `logins`: those that were
//! refused. `produce` and `consume`: records. `transactions`.
//! `requests`: answers of admin requests, awaited. `offsets`: where partitions begin and end. `partitions`: lists of partitions.

mod client;
mod consume;
mod errors;
mod logins;
mod offsets;
mod partitions;
mod produce;
mod requests;
mod transactions;

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

pub(super) use self::client::{Client, Kind, Queue};
pub(super) use self::consume::{Consumer, Message, Messages, What};
pub(super) use self::offsets::{Edge, Offsets};
pub(super) use self::partitions::PartitionList;
pub(super) use self::produce::{Delivery, Outcome, Scratch, Topic};
use crate::backend::{BackendError, Result};

/// Room for a message of the client.
const ERROR_TEXT_BYTES: usize = 512;

/// A string for C.
fn c_string(what: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| BackendError::Refused(format!("{what} contains a zero byte")))
}

/// Copies a string of C; empty where there is none.
///
/// # Safety
/// `text` is null or points to a string that ends with a zero byte.
unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The text in a buffer that C wrote to.
fn text_of(buffer: &[c_char; ERROR_TEXT_BYTES]) -> String {
    let bytes: Vec<u8> = buffer.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A wait for C, at least 1 where there is any: 0 would not wait at all and -1 for ever.
fn milliseconds(wait: Duration) -> c_int {
    let ms = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
    if wait.is_zero() { 0 } else { ms.max(1) }
}
