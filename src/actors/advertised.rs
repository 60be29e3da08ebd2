//! Looks once, at the start, whether the address under which others will ask for this worker leads to it.
//!
//! A wrong one is not noticed by the worker itself: it joins and runs, the others find nobody there and evict it, it joins again, and so on.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::herder::Identity;
use super::probe;

/// How long is tried before something is said.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Between two attempts.
const INTERVAL: Duration = Duration::from_millis(250);

/// Asks the advertised address who is there until the own process answers, and warns if it does not within [`PATIENCE`].
pub async fn check(identity: &Identity) {
    let url = &identity.rest_url;
    match not_reached(identity, PATIENCE).await {
        None => tracing::debug!(url, "the advertised address leads to this worker"),
        Some(reason) => tracing::warn!(
            "the advertised address of this worker does not lead back to it: GET {}{}: {reason}. Other workers ask there whether this one lives. \
             Those that get no other answer take it for dead and evict it, time and again, and what it runs moves to and fro. Set \
             rest.advertised.host.name and rest.advertised.port to where other workers reach its listener",
            url.trim_end_matches('/'),
            probe::IDENTITY_PATH,
        ),
    }
}

/// Why the own process did not answer; `None` once it did.
async fn not_reached(identity: &Identity, patience: Duration) -> Option<String> {
    let deadline = Instant::now() + patience;
    let mut reason = format!("no answer within {} s", patience.as_secs_f32());
    loop {
        match timeout_at(deadline, probe::ask(&identity.rest_url)).await {
            Ok(Ok(answer)) if answer.process == identity.process => return None,
            Ok(Ok(answer)) => reason = format!("another process answers, the worker {}", answer.worker_id),
            Ok(Err(error)) => reason = format!("{error:#}"),
            // What earlier attempts met says more.
            Err(_) => return Some(reason),
        }
        if Instant::now() + INTERVAL >= deadline {
            return Some(reason);
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::probe::test_worker::{self, STEADY, Script, TestWorker, Then};

    fn at(url: &str) -> Identity {
        Identity { worker_id: "w:1".into(), rest_url: url.into(), gossip: None, process: "own".into() }
    }

    async fn reason(process: &str, script: Script) -> Option<String> {
        let worker = TestWorker::start(test_worker::identity(7, process), script).await;
        not_reached(&at(&worker.url), PATIENCE).await
    }

    #[tokio::test]
    async fn only_the_own_process_is_reached() {
        let refused = at("http://127.0.0.1:1/");
        let (own, late, other, silent, refused) = tokio::join!(
            reason("own", STEADY),
            reason("own", |number| (number, Then::CloseOnRequest)),
            reason("other", STEADY),
            reason("own", |_| (0, Then::Silence)),
            not_reached(&refused, PATIENCE),
        );
        assert_eq!((own, late), (None, None));
        assert_eq!(other.as_deref(), Some("another process answers, the worker x:1"));
        assert_eq!(silent.as_deref(), Some("no answer within 3 s"));
        assert!(refused.as_deref().is_some_and(|reason| reason.starts_with("no connection: ")), "{refused:?}");
    }
}
