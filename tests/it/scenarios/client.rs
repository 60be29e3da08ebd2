//! An HTTP client: one connection for each request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longer than the 90 s that an endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of an answer. The largest known one, a validation, has some 100 KiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What a scenario looks at in an answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    /// Without parameters, in lower case.
    pub content_type: Option<String>,
    pub location: Option<String>,
    pub allow: Option<String>,
    pub etag: Option<String>,
    pub body: Body,
}

/// The kinds of body that a scenario tells apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Body {
    #[default]
    Empty,
    Json(Value),
    /// As text.
    Other(String),
}

impl Body {
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Empty => "empty",
            Body::Json(_) => "json",
            Body::Other(_) => "other",
        }
    }

    /// The JSON value; null where there is none.
    pub fn json(&self) -> &Value {
        match self {
            Body::Json(value) => value,
            Body::Empty | Body::Other(_) => &Value::Null,
        }
    }
}

/// Sends one request. Errors are texts: a scenario only reports them.
pub async fn call(
    base_url: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Option<String>,
) -> Result<Reply, String> {
    let exchange = exchange(base_url, method, path, headers, body);
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(format!("{method} {path} got no answer: {error}")),
        Err(_) => Err(format!("{method} {path} got no answer within {} s", TIMEOUT.as_secs())),
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    base_url: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Option<String>,
) -> Result<Reply, Error> {
    let rest = base_url.strip_prefix("http://").ok_or("the base URL must begin with http://")?;
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(method).uri(format!("{}{path}", prefix.trim_end_matches('/')));
    request = request.header(header::HOST, host).header(header::CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let header = |name: header::HeaderName| {
            response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let mut reply = Reply {
            status: response.status().as_u16(),
            content_type: header(header::CONTENT_TYPE)
                .map(|kind| kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase()),
            location: header(header::LOCATION),
            allow: header(header::ALLOW),
            etag: header(header::ETAG),
            body: Body::Empty,
        };
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        if !bytes.is_empty() {
            reply.body = serde_json::from_slice(&bytes)
                .map_or_else(|_| Body::Other(String::from_utf8_lossy(&bytes).into_owned()), Body::Json);
        }
        Ok(reply)
    };
    let (reply, _) = tokio::join!(exchange, connection);
    reply
}
