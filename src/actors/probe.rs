//! Asks another process, at the REST address that its member record or an operator names: who it is, mostly.

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::cluster::{Nonce, WorkerId};

/// Where a worker says who it is.
pub const IDENTITY_PATH: &str = "/cluster/self";

/// Where a worker says whether it reaches another one.
const REACHES_PATH: &str = "/cluster/reaches";

/// How long it may take to learn whether a worker lives, over all.
pub(super) const TIMEOUT: Duration = Duration::from_millis(1500);

/// How long it may take to learn what another worker says of a third one: it needs the time of a probe, and that of the way there and back.
const REACHES_TIMEOUT: Duration = Duration::from_millis(2500);

/// Largest answer in bytes.
const ANSWER_MAX: usize = 4096;

/// Who a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerIdentity {
    /// Advertised host:port.
    pub worker_id: String,
    /// The random number of its last attempt to join; text, since JSON numbers are not exact. Empty while it is no member.
    pub nonce: String,
    /// What the process made up when it began, so that it knows itself before it has joined. Empty where an older version answers.
    #[serde(default)]
    pub process: String,
}

/// What a worker says of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaches {
    /// Whether it has just answered.
    pub reaches: bool,
}

/// Asks the worker at this URL. The caller bounds the time.
pub async fn ask(url: &str) -> anyhow::Result<WorkerIdentity> {
    Connection::open(url, || {}).await?.identity().await?
}

/// Whether the process that wrote the member record with this nonce answers at the URL, within 1.5 s. Another one at that address does not count.
pub async fn lives(url: &str, nonce: Nonce) -> bool {
    let answer = tokio::time::timeout(TIMEOUT, ask(url)).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|identity| identity.joined_as(nonce)))
}

/// Asks the worker at `via_url` whether it reaches the worker that joined with this nonce. `None`: there was no answer within 2.5 s, or that
/// worker does not know the other one, has too many such questions at once, or is of a version that is not asked so.
pub async fn reaches(via_url: &str, worker: &WorkerId, nonce: Nonce) -> Option<bool> {
    let worker_id = utf8_percent_encode(&worker.0, NON_ALPHANUMERIC);
    let path = format!("{REACHES_PATH}?worker_id={worker_id}&nonce={}", nonce.0);
    let asked = tokio::time::timeout(REACHES_TIMEOUT, request(Method::GET, via_url, &path, ANSWER_MAX)).await;
    let answer = asked.map_err(anyhow::Error::from).flatten().and_then(|(status, body)| {
        anyhow::ensure!(status == StatusCode::OK, "answered {status}");
        Ok(serde_json::from_slice::<Reaches>(&body)?)
    });
    match answer {
        Ok(Reaches { reaches }) => Some(reaches),
        Err(error) => {
            tracing::debug!(via_url, %worker, error = format!("{error:#}"), "nothing was learned of a worker from another one");
            None
        }
    }
}

/// Sends a request without a body to the worker at this URL. A longer answer than `answer_max` bytes is an error. The caller bounds the time.
pub async fn request(method: Method, url: &str, path: &str, answer_max: usize) -> anyhow::Result<(StatusCode, Bytes)> {
    Connection::open(url, || {}).await?.request(method, path, answer_max).await
}

impl WorkerIdentity {
    /// Whether this is the process that wrote the member record with this nonce.
    pub(super) fn joined_as(&self, nonce: Nonce) -> bool {
        self.nonce == nonce.0.to_string()
    }
}

/// A connection to a worker, over which one request after the other is sent. It ends when it is dropped.
pub(super) struct Connection {
    requests: http1::SendRequest<Empty<Bytes>>,
    authority: String,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects. `ended` is called once when the connection ends by itself, and never once it was dropped.
    pub(super) async fn open(url: &str, ended: impl FnOnce() + Send + 'static) -> anyhow::Result<Connection> {
        let authority = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&authority).await.context("no connection")?;
        // Requests are small and sent at once; waiting for more would only delay them.
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // An error shows in the answer of a request that is under way; without one it is an end like any other.
            let ended_with = connection.await;
            tracing::trace!(?ended_with, "a connection to a worker ended");
            ended();
        });
        Ok(Connection { requests, authority, driver })
    }

    /// Sends a request without a body. An error: there was no answer, or one of more than `answer_max` bytes. The caller bounds the time.
    pub(super) async fn request(
        &mut self,
        method: Method,
        path: &str,
        answer_max: usize,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        self.requests.ready().await?;
        let request = Request::builder().method(method).uri(path).header("host", &self.authority);
        let answer = self.requests.send_request(request.body(Empty::new())?).await?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), answer_max).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        Ok((status, body.to_bytes()))
    }

    /// Asks who is there. The outer error: there was no answer; the inner one: the answer was none of a worker. The caller bounds the time.
    pub(super) async fn identity(&mut self) -> anyhow::Result<anyhow::Result<WorkerIdentity>> {
        let (status, body) = self.request(Method::GET, IDENTITY_PATH, ANSWER_MAX).await?;
        if !status.is_success() {
            return Ok(Err(anyhow::anyhow!("answered {status}")));
        }
        Ok(serde_json::from_slice(&body).context("the answer is none of a worker of connect-node"))
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
pub(super) mod test_worker;

#[cfg(test)]
mod tests {
    use super::test_worker::{STEADY, TestWorker, Then};
    use super::*;

    async fn asked(body: &str) -> Option<bool> {
        let worker = TestWorker::start(body.to_owned(), STEADY).await;
        reaches(&worker.url, &WorkerId::from("a b:1"), Nonce(7)).await
    }

    #[tokio::test]
    async fn what_another_worker_says_of_a_third() {
        assert_eq!(asked(r#"{"reaches":true}"#).await, Some(true));
        assert_eq!(asked(r#"{"reaches":false,"later":1}"#).await, Some(false));
        assert_eq!(asked("{}").await, None);
        assert_eq!(asked(&" ".repeat(ANSWER_MAX + 1)).await, None);
        let gone = TestWorker::start(String::new(), |_| (0, Then::Close)).await;
        assert_eq!(reaches(&gone.url, &WorkerId::from("x:1"), Nonce(7)).await, None);
    }
}
