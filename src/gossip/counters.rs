//! What happened to datagrams, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::seal::Refusal;

/// Counters since the start. All but `received`, `sent` and `silenced` should stand still in a healthy network.
#[derive(Debug, Default)]
pub struct GossipCounters {
    /// Datagrams that came in, whatever they were.
    pub received: AtomicU64,
    /// Datagrams that went out.
    pub sent: AtomicU64,
    /// Datagrams that the system did not take.
    pub send_failed: AtomicU64,
    /// Messages that were not sent since the owner was silent.
    pub silenced: AtomicU64,
    /// Longer than a datagram of ours can be.
    pub oversized: AtomicU64,
    /// Shorter than its header or its own length.
    pub truncated: AtomicU64,
    /// Of an unknown version.
    pub foreign_version: AtomicU64,
    /// No frame at all.
    pub malformed: AtomicU64,
    /// Of a cluster with another group id.
    pub foreign_cluster: AtomicU64,
    /// Of this cluster, with another key.
    pub wrong_key: AtomicU64,
    /// With a broken seal.
    pub forged: AtomicU64,
    /// Seen before, or too old to know.
    pub replayed: AtomicU64,
    /// Sent by this process: a seed is another name for it, or somebody throws them back.
    pub own: AtomicU64,
    /// Of this cluster and with its key, but chitchat cannot read it; or lost on the way through the loopback.
    pub undecodable: AtomicU64,
    /// Messages of our own that were lost on the way through the loopback, or were too large.
    pub unencodable: AtomicU64,
    /// Messages for which there was no room in the queue.
    pub overflowed: AtomicU64,
    /// Facts of peers that could not be read.
    pub unreadable_facts: AtomicU64,
}

impl GossipCounters {
    /// All of them with their names, for the metrics.
    pub fn all(&self) -> [(&'static str, u64); 17] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("received", get(&self.received)),
            ("sent", get(&self.sent)),
            ("send_failed", get(&self.send_failed)),
            ("silenced", get(&self.silenced)),
            ("oversized", get(&self.oversized)),
            ("truncated", get(&self.truncated)),
            ("foreign_version", get(&self.foreign_version)),
            ("malformed", get(&self.malformed)),
            ("foreign_cluster", get(&self.foreign_cluster)),
            ("wrong_key", get(&self.wrong_key)),
            ("forged", get(&self.forged)),
            ("replayed", get(&self.replayed)),
            ("own", get(&self.own)),
            ("undecodable", get(&self.undecodable)),
            ("unencodable", get(&self.unencodable)),
            ("overflowed", get(&self.overflowed)),
            ("unreadable_facts", get(&self.unreadable_facts)),
        ]
    }

    /// Datagrams that were dropped for what they are.
    pub fn dropped(&self) -> u64 {
        let refused = ["oversized", "truncated", "foreign_version", "malformed", "foreign_cluster", "wrong_key"];
        let refused = [&refused[..], &["forged", "replayed", "own", "undecodable"]].concat();
        self.all().iter().filter(|(name, _)| refused.contains(name)).map(|(_, count)| count).sum()
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        increment(match refusal {
            Refusal::Oversized => &self.oversized,
            Refusal::Truncated => &self.truncated,
            Refusal::ForeignVersion(_) => &self.foreign_version,
            Refusal::Malformed => &self.malformed,
            Refusal::ForeignCluster => &self.foreign_cluster,
            Refusal::WrongKey => &self.wrong_key,
            Refusal::Forged => &self.forged,
            Refusal::Replayed => &self.replayed,
            Refusal::Own => &self.own,
        });
    }
}

pub(super) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
