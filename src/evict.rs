//! Removes a worker from its group for an operator: asks a living worker, which does it. Knows no topic and no rule of its own.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::actors::handle::REQUEST_TIMEOUT;
use crate::actors::probe;

/// Longer than the worker takes to answer in any case.
const TIMEOUT: Duration = Duration::from_secs(REQUEST_TIMEOUT.as_secs() + 10);

/// Largest answer in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// `connect-node evict`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The worker to remove, as statuses and GET /cluster name it: its advertised host:port.
    worker: String,
    /// The REST address of any other worker of the group that lives, for example http://localhost:8083.
    #[arg(long)]
    url: String,
}

/// The answer of a worker that did it.
#[derive(Deserialize)]
struct Evicted {
    worker_id: String,
    incarnation: i64,
}

/// The answer of one that did not.
#[derive(Deserialize)]
struct Refused {
    message: String,
}

/// Asks for it. Returns a sentence that says what was done; an error says why nothing was, or that it is not known.
pub async fn run(arguments: &Arguments) -> Result<String> {
    let Arguments { worker, url } = arguments;
    ensure!(!url.starts_with("https://"), "workers of connect-node have no HTTPS: give an address with http://");
    let path = format!("/cluster/members/{}/evict", utf8_percent_encode(worker, NON_ALPHANUMERIC));
    let asked = tokio::time::timeout(TIMEOUT, probe::request(Method::POST, url, &path, ANSWER_MAX)).await;
    let late = || anyhow!("not within {} s", TIMEOUT.as_secs());
    let unknown =
        || format!("{url} gave no answer; GET /cluster of any worker shows whether {worker} is a member still");
    let (status, body) = asked.map_err(|_| late()).flatten().with_context(unknown)?;
    if status == StatusCode::OK {
        let Evicted { worker_id, incarnation } = serde_json::from_slice(&body)
            .with_context(|| format!("{url} gave an answer that is none of connect-node"))?;
        return Ok(format!(
            "worker {worker_id} (incarnation {incarnation}) was evicted: the others take its units over, and if it lives it joins again"
        ));
    }
    let refused: Result<Refused, _> = serde_json::from_slice(&body);
    let reason = refused.map_or_else(|_| "it is no worker of connect-node, or an older one".into(), |it| it.message);
    Err(anyhow!("worker {worker} was not evicted: {url} answered {}: {reason}", status.as_u16()))
}
