//! Asks another process, at the REST address that its member record or an operator names: who it is, mostly.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::cluster::Nonce;

/// Where a worker says who it is.
pub const IDENTITY_PATH: &str = "/cluster/self";

/// How long it may take to learn whether a worker lives, over all.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// Largest answer in bytes.
const ANSWER_MAX: usize = 4096;

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerIdentity {
    /// Advertised host:port.
    pub worker_id: String,
    /// The random number of its last attempt to join; text, since JSON numbers are not exact.
    pub nonce: String,
}

/// Asks the worker at this URL. The caller bounds the time.
pub async fn ask(url: &str) -> anyhow::Result<WorkerIdentity> {
    let (status, body) = request(Method::GET, url, IDENTITY_PATH, ANSWER_MAX).await?;
    anyhow::ensure!(status.is_success(), "answered {status}");
    Ok(serde_json::from_slice(&body)?)
}

/// Whether the process that wrote the member record with this nonce answers at the URL. Another one at that address does not count.
pub async fn lives(url: &str, nonce: Nonce) -> bool {
    let answer = tokio::time::timeout(TIMEOUT, ask(url)).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|identity| identity.nonce == nonce.0.to_string()))
}

/// Sends a request without a body to the worker at this URL. A longer answer than `answer_max` bytes is an error. The caller bounds the time.
pub async fn request(method: Method, url: &str, path: &str, answer_max: usize) -> anyhow::Result<(StatusCode, Bytes)> {
    let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').to_owned();
    let stream = TcpStream::connect(&authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender; an error shows in the answer.
    let connection = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", authority).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), answer_max).collect().await.map_err(|error| anyhow::anyhow!(error))?;
    connection.abort();
    Ok((status, body.to_bytes()))
}
