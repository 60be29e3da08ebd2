//! Reads a request body within bounds and turns it into what an endpoint needs, or into a sentence that says what is
//! wrong and where.
//!
//! Java answers 500 to a body that it cannot read; ours are the client's errors, so they are 4xx.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use warp::http::{HeaderMap, StatusCode, header};

use super::Limits;
use super::error::ApiError;

/// A configuration as it was sent: texts as they are, numbers and booleans in the spelling of the request, `None` for
/// null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConnectorConfig(pub(super) BTreeMap<String, Option<String>>);

/// Body of `POST /connectors`. Unknown fields are refused, as in Java.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateRequest {
    pub(super) name: Option<String>,
    pub(super) config: ConnectorConfig,
    pub(super) initial_state: Option<String>,
}

/// The body of `POST /connectors`.
pub(super) fn create_request(body: &[u8]) -> Result<CreateRequest, ApiError> {
    object(body, r#"{"name": .., "config": {..}}"#)
}

/// The body of `PUT` and `PATCH /connectors/{connector}/config`.
pub(super) fn connector_config(body: &[u8]) -> Result<ConnectorConfig, ApiError> {
    object(body, "settings by name")
}

/// Reads the whole body. What is too large is read on and thrown away up to [`Limits::discarded_bytes`].
pub(super) async fn read(
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    headers: &HeaderMap,
    limits: &Limits,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than the {} bytes that are accepted", limits.body_bytes),
        )
    };
    if declared_length(headers) > limits.body_bytes {
        return Err(discard(body, headers, limits, too_large()).await);
    }
    let deadline = Instant::now() + limits.body_read;
    let mut body = pin!(body);
    let mut read = Vec::new();
    while let Some(mut chunk) = next(&mut body, deadline, limits).await? {
        if (read.len() + chunk.remaining()) as u64 > limits.body_bytes {
            return Err(discard(body, headers, limits, too_large()).await);
        }
        while chunk.has_remaining() {
            let part = chunk.chunk();
            read.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
    }
    Ok(read.into())
}

/// Reads the rest of a refused body, so that a client that is still sending comes to read the answer: closing a socket
/// with unread data makes the kernel reset the connection, and the answer is lost. Where the rest is too long, too slow
/// or not sent yet (`Expect: 100-continue`), the connection is closed after the answer.
pub(super) async fn discard(
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
    headers: &HeaderMap,
    limits: &Limits,
    refusal: ApiError,
) -> ApiError {
    if headers.contains_key(header::EXPECT) || declared_length(headers) > limits.discarded_bytes {
        return refusal.closing();
    }
    let deadline = Instant::now() + limits.body_read;
    let mut body = pin!(body);
    let mut discarded = 0;
    loop {
        match next(&mut body, deadline, limits).await {
            Ok(None) => return refusal,
            Ok(Some(chunk)) => discarded += chunk.remaining() as u64,
            Err(_) => return refusal.closing(),
        }
        if discarded > limits.discarded_bytes {
            return refusal.closing();
        }
    }
}

async fn next<B: Buf>(
    body: &mut (impl Stream<Item = Result<B, warp::Error>> + Unpin),
    deadline: Instant,
    limits: &Limits,
) -> Result<Option<B>, ApiError> {
    match timeout_at(deadline, body.next()).await {
        Ok(chunk) => chunk.transpose().map_err(|error| {
            ApiError::bad_request(format!(
                "the body cannot be read; it ends too early or its chunks are broken: {error}"
            ))
            .closing()
        }),
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", limits.body_read.as_millis());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message).closing())
        }
    }
}

/// What Content-Length says; 0 where it is missing (chunked bodies). The server has refused what is no number.
fn declared_length(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Parses a JSON object. Depth is bounded by serde_json (128) where values nest, and raw values do not recurse.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8], shape: &str) -> Result<T, ApiError> {
    let text = text(body)?;
    match text.trim_start_matches([' ', '\t', '\r', '\n']).chars().next() {
        None => return Err(ApiError::bad_request(format!("the body is empty; a JSON object is needed: {shape}"))),
        // serde would take an array for a struct
        Some('[') => {
            return Err(ApiError::bad_request(format!("the body is a JSON array; a JSON object is needed: {shape}")));
        }
        Some(_) => {}
    }
    serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() { "does not have the needed shape" } else { "is not valid JSON" };
        ApiError::bad_request(format!("the body {what}: {error}"))
    })
}

/// The body as text, or what it seems to be instead.
fn text(body: &[u8]) -> Result<&str, ApiError> {
    let hint = match body {
        [0x1f, 0x8b, ..] => "is compressed with gzip; send it uncompressed",
        [0xef, 0xbb, 0xbf, ..] => "begins with a byte order mark; send UTF-8 without one",
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, _, ..] | [_, 0, ..] => "is UTF-16 or UTF-32; send UTF-8",
        _ => {
            return std::str::from_utf8(body).map_err(|error| {
                let before = &body[..error.valid_up_to()];
                let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
                let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
                ApiError::bad_request(format!("the body is not valid UTF-8 at line {line} column {column}"))
            });
        }
    };
    Err(ApiError::bad_request(format!("the body {hint}")))
}

impl<'de> Deserialize<'de> for ConnectorConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Settings;
        impl<'de> Visitor<'de> for Settings {
            type Value = ConnectorConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with settings by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ConnectorConfig, A::Error> {
                let mut settings = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = setting(&key, map.next_value::<&RawValue>()?).map_err(A::Error::custom)?;
                    // of a repeated key the last value counts, as in Java
                    settings.insert(key, value);
                }
                Ok(ConnectorConfig(settings))
            }
        }
        deserializer.deserialize_map(Settings)
    }
}

/// The value of a setting as text.
fn setting(key: &str, value: &RawValue) -> Result<Option<String>, String> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'{') => Err(format!("the setting {key:?} is an object; text, number, boolean or null are possible")),
        Some(b'[') => Err(format!("the setting {key:?} is an array; text, number, boolean or null are possible")),
        Some(b'"') => match serde_json::from_str(raw) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(format!("the setting {key:?} cannot be read, {error} of its value")),
        },
        _ => Ok((raw != "null").then(|| raw.to_owned())),
    }
}

#[cfg(test)]
mod tests;
