//! How many bytes of rows the readers of a store have in hand, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of rows in hand from which on a reader takes further ones only where it has none, and one at a time.
pub(super) const MAX_IN_HAND_BYTES: usize = if cfg!(test) { 4 << 20 } else { 64 << 20 };

/// The count of one store.
#[derive(Debug, Default)]
pub(super) struct InHand {
    bytes: AtomicUsize,
}

impl InHand {
    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= MAX_IN_HAND_BYTES
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts so many bytes until the share is dropped.
    pub(super) fn share(self: &Arc<InHand>, bytes: usize) -> Share {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Share { of: Arc::clone(self), bytes }
    }
}

/// What one partition of one reader has in hand.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<InHand>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
