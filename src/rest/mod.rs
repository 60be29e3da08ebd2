//! Kafka Connect's REST API over HTTP/1.1.
//!
//! This room turns bytes into requests to the herder and its answers into bytes. It holds no rule of the domain: what a
//! connector may be named or whether a configuration is valid is the herder's business ([`HerderHandle`]).
//!
//! `routes` is the whole API on one screen; `target`, `media`, `conditions` and `body` read a request; `error` is the one map from
//! errors to statuses; `server` owns sockets, timeouts and bounds. Absent on purpose: forwarding (any worker accepts
//! any write), TLS and HTTP/2.

mod body;
mod cluster;
mod conditions;
mod connectors;
mod error;
mod media;
mod plugins;
mod root;
mod routes;
mod server;
mod target;
mod tasks;

use std::time::Duration;

use crate::actors::handle::HerderHandle;
use crate::actors::peers::UNUSED_MAX;
use crate::metrics::Metrics;
use crate::plugins::Registry;

pub use server::serve;

/// Largest request body in bytes. Java has no bound; the largest configurations that users report are some 100 KiB.
pub const BODY_BYTES_MAX: u64 = 1 << 20;

/// How many bytes of a refused body are read and thrown away, so that a client that sends first and reads later still
/// gets the answer. Beyond it the connection is closed at once.
pub const DISCARDED_BYTES_MAX: u64 = 64 << 20;

/// How long the body of one request may take to arrive, in all.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a request may take to arrive, and how long a connection may idle (Jetty idles 30 s as well).
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

// Another worker holds a connection to this one, and would suspect it if the connection ended while it is in use.
const _: () = assert!(UNUSED_MAX.as_secs() < HEADER_READ_TIMEOUT.as_secs());

/// How long a client may leave an answer unread before its connection is dropped.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of one listener. More wait in the backlog of the socket until one ends. With [`BODY_BYTES_MAX`] this
/// bounds the memory that clients can take to 256 MiB; Jetty serves 200 requests at a time.
pub const CONNECTIONS_MAX: usize = 256;

/// Bounds of one listener. Tests make them smaller; the worker takes the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes: u64,
    /// See [`DISCARDED_BYTES_MAX`].
    pub discarded_bytes: u64,
    /// See [`BODY_READ_TIMEOUT`].
    pub body_read: Duration,
    /// See [`HEADER_READ_TIMEOUT`].
    pub header_read: Duration,
    /// See [`WRITE_TIMEOUT`].
    pub write: Duration,
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: BODY_BYTES_MAX,
            discarded_bytes: DISCARDED_BYTES_MAX,
            body_read: BODY_READ_TIMEOUT,
            header_read: HEADER_READ_TIMEOUT,
            write: WRITE_TIMEOUT,
            connections: CONNECTIONS_MAX,
        }
    }
}

/// What the endpoints need. Cheap to clone; several listeners may share one.
#[derive(Clone)]
pub struct RestState {
    /// Answers everything about connectors and the worker.
    pub herder: HerderHandle,
    /// Listed by `GET /connector-plugins`.
    pub registry: Registry,
    /// The URL under which clients reach this worker, without a trailing slash; `Location` headers begin with it.
    pub advertised_url: String,
    /// Rendered by `GET /metrics`.
    pub metrics: Metrics,
    /// Bounds on what a client may send.
    pub limits: Limits,
}

impl RestState {
    /// A state with the default [`Limits`].
    pub fn new(herder: HerderHandle, registry: Registry, advertised_url: impl Into<String>, metrics: Metrics) -> Self {
        let advertised_url = advertised_url.into().trim_end_matches('/').to_owned();
        RestState { herder, registry, advertised_url, metrics, limits: Limits::default() }
    }
}
