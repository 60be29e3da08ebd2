//! Connections that are held to the workers that this one watches.
//!
//! A process that dies closes its sockets, however it dies, and so does its kernel for it: who holds a connection hears of that within
//! milliseconds, and the next probe can be made at once instead of when it is due. The end of a connection is no more than a *suspicion*: a
//! proxy that was restarted, or a full table of a firewall, ends connections as well. Only probes give a verdict.
//!
//! Each probe goes over the held connection, so that a path that is lost without a word is noticed too, and an idle one never looks unused to
//! what stands in between. A held connection that breaks under a probe is no verdict: the probe goes on over a new one.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::probe::{self, Connection};
use crate::cluster::Nonce;

/// Connections that are held at most. A worker watches its ring neighbours, and asks a few more while it joins; of more than these the one that
/// was used longest ago is dropped.
pub const HELD_MAX: usize = 16;

/// A worker that was not probed for this time is not watched any more, and its connection is dropped. Less than the 30 s after which the server
/// of the other side ends an idle connection, which would be a suspicion without a reason.
pub const UNUSED_MAX: Duration = Duration::from_secs(10);

/// How long a probe over a held connection waits for the answer before it connects anew as well. The first answer counts.
pub const SECOND_WAY_AFTER: Duration = Duration::from_millis(500);

/// Between two suspicions of one worker. Whatever ends each connection as soon as it is idle must not cause one probe after the other.
pub const SUSPICION_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds. Tests have others; a worker takes the default.
#[derive(Debug, Clone, Copy)]
struct Limits {
    held: usize,
    probe: Duration,
    second_way_after: Duration,
    suspicion_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            held: HELD_MAX,
            probe: probe::TIMEOUT,
            second_way_after: SECOND_WAY_AFTER,
            suspicion_interval: SUSPICION_INTERVAL,
        }
    }
}

/// Probes workers over connections that it holds. When it is dropped, they end.
pub struct Peers(Arc<Shared>);

struct Shared {
    limits: Limits,
    peers: Mutex<BTreeMap<Nonce, Peer>>,
    suspect: Box<dyn Fn(Nonce) + Send + Sync>,
}

/// A worker that was probed, known by the nonce with which it joined.
struct Peer {
    /// The connection with its number, while no probe has it in hand.
    idle: Option<(u64, Connection)>,
    used_at: Instant,
    suspected_at: Option<Instant>,
}

impl Peers {
    /// Holds nothing yet. `suspect` is called, on any thread and at most once a second for each worker, when a held connection ends while nothing
    /// is asked over it: the process that joined with this nonce has probably ended.
    pub fn new(suspect: impl Fn(Nonce) + Send + Sync + 'static) -> Peers {
        Peers::with_limits(Limits::default(), suspect)
    }

    fn with_limits(limits: Limits, suspect: impl Fn(Nonce) + Send + Sync + 'static) -> Peers {
        Peers(Arc::new(Shared { limits, peers: Mutex::default(), suspect: Box::new(suspect) }))
    }

    /// Whether the process that wrote the member record with this nonce answers at the URL, within 1.5 s. Another one at that address does not
    /// count. Needs a tokio runtime, and may outlive the keeper.
    pub fn probe(&self, url: String, nonce: Nonce) -> impl Future<Output = bool> + Send + use<> {
        let (shared, limits) = (Arc::downgrade(&self.0), self.0.limits);
        let probe = Probe { shared, limits, url, nonce };
        async move {
            match tokio::time::timeout(limits.probe, probe.ask()).await {
                Ok(Ok(alive)) => alive,
                Ok(Err(error)) => {
                    tracing::debug!(url = probe.url, error = format!("{error:#}"), "a worker could not be asked");
                    false
                }
                Err(_) => {
                    tracing::debug!(url = probe.url, "a worker did not answer in time");
                    false
                }
            }
        }
    }
}

/// One probe.
struct Probe {
    shared: Weak<Shared>,
    limits: Limits,
    url: String,
    nonce: Nonce,
}

impl Probe {
    /// Whether the worker lives; an error is that nobody answered.
    async fn ask(&self) -> anyhow::Result<bool> {
        let held = self.shared.upgrade().and_then(|shared| shared.take(self.nonce));
        let Some((number, held)) = held else { return self.ask_anew().await };
        let mut over_held = pin!(self.ask_over(number, held));
        match tokio::time::timeout(self.limits.second_way_after, &mut over_held).await {
            Ok(Ok(alive)) => return Ok(alive),
            Ok(Err(error)) => {
                tracing::debug!(url = self.url, %error, "the held connection to a worker broke; connecting anew");
                return self.ask_anew().await;
            }
            Err(_) => {}
        }
        // Either the worker is slow, and a new connection does not help, or only the old one is lost.
        let mut anew = pin!(self.ask_anew());
        tokio::select! {
            Ok(alive) = over_held => Ok(alive),
            Ok(alive) = &mut anew => Ok(alive),
            else => anyhow::bail!("neither the held connection nor a new one was answered"),
        }
    }

    async fn ask_anew(&self) -> anyhow::Result<bool> {
        let number = fastrand::u64(..);
        let (shared, nonce) = (self.shared.clone(), self.nonce);
        let ended = move || {
            if let Some(shared) = shared.upgrade() {
                shared.ended(nonce, number);
            }
        };
        let connection = Connection::open(&self.url, ended).await?;
        self.ask_over(number, connection).await
    }

    /// Keeps the connection if the worker lives.
    async fn ask_over(&self, number: u64, mut connection: Connection) -> anyhow::Result<bool> {
        let alive = connection.identity().await?.is_ok_and(|identity| identity.joined_as(self.nonce));
        if alive && let Some(shared) = self.shared.upgrade() {
            shared.keep(self.nonce, number, connection);
        }
        Ok(alive)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Nonce, Peer>> {
        // No step below leaves the map half changed.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, nonce: Nonce) -> Option<(u64, Connection)> {
        let now = Instant::now();
        let mut peers = self.lock();
        let found = peers.get_mut(&nonce).and_then(|peer| {
            peer.used_at = now;
            peer.idle.take()
        });
        // Nobody tells that a worker is not watched any more: it shows here.
        peers.retain(|_, peer| now.saturating_duration_since(peer.used_at) < UNUSED_MAX);
        found
    }

    fn keep(&self, nonce: Nonce, number: u64, connection: Connection) {
        let now = Instant::now();
        let suspected = {
            let mut peers = self.lock();
            let peer = peers.entry(nonce).or_insert(Peer { idle: None, used_at: now, suspected_at: None });
            peer.used_at = now;
            // Its end was not noted if it came before this; what comes later finds it here.
            let ended = connection.is_closed();
            peer.idle = (!ended).then_some((number, connection));
            let suspected = ended && peer.suspect(now, self.limits.suspicion_interval);
            while peers.len() > self.limits.held {
                let oldest = peers.iter().min_by_key(|(_, peer)| peer.used_at).map(|(nonce, _)| *nonce);
                oldest.and_then(|oldest| peers.remove(&oldest));
            }
            suspected
        };
        if suspected {
            (self.suspect)(nonce);
        }
    }

    /// The connection with this number has ended. What a probe has in hand is the business of that probe.
    fn ended(&self, nonce: Nonce, number: u64) {
        let suspected = self.lock().get_mut(&nonce).is_some_and(|peer| {
            let idle = peer.idle.take_if(|(idle, _)| *idle == number);
            idle.is_some() && peer.suspect(Instant::now(), self.limits.suspicion_interval)
        });
        if suspected {
            (self.suspect)(nonce);
        }
    }
}

impl Peer {
    /// Whether this is to be said.
    fn suspect(&mut self, now: Instant, interval: Duration) -> bool {
        let due = self.suspected_at.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        if due {
            self.suspected_at = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests;
