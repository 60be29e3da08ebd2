//! Gossip beats on behalf of its owner. When the owner is stuck, the gossip falls silent, and the others see it dead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long the owner may say nothing before nothing is sent any more. It speaks at least each second, so this allows for a
/// machine that is slow.
pub const SILENCE_MS: u64 = 3_000;

/// When the owner spoke last.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    /// Milliseconds since the start.
    spoke_ms: AtomicU64,
}

impl Pulse {
    /// The owner has just spoken.
    pub fn new() -> Self {
        Pulse { start: Instant::now(), spoke_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The owner speaks.
    pub fn beat(&self) {
        self.spoke_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Whether the owner has been silent for too long.
    pub fn is_silent(&self) -> bool {
        Duration::from_millis(self.now_ms().saturating_sub(self.spoke_ms.load(Ordering::Relaxed)))
            > Duration::from_millis(SILENCE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_silent_after_a_while_and_until_the_owner_speaks() {
        let pulse = Pulse::new();
        tokio::time::advance(Duration::from_millis(SILENCE_MS)).await;
        assert!(!pulse.is_silent());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(pulse.is_silent());
        pulse.beat();
        assert!(!pulse.is_silent());
    }
}
