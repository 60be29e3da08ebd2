//! Which frames of which sessions were seen. Asked before a frame is opened and told after it was, so that only who has the key
//! makes entries.

use std::collections::HashMap;

use super::wire::Session;

/// How far behind the newest frame of its session one may come, in frames.
pub const WINDOW_FRAMES: u64 = 1024;
/// Sessions that are remembered; beyond them the one is forgotten that was silent for longest. Eight times
/// [`NODES_MAX`](super::NODES_MAX), since each start of a worker is a session.
pub const SESSIONS_MAX: usize = 1024;

const WORD_BITS: u64 = u64::BITS as u64;

/// The newest frame of a session, and which of those before it were seen.
#[derive(Debug, Clone, Default)]
struct Window {
    highest: u64,
    /// The bit of a frame is that of its counter modulo the width.
    seen: [u64; (WINDOW_FRAMES / WORD_BITS) as usize],
    /// When it was last used.
    used: u64,
}

impl Window {
    fn place(counter: u64) -> (usize, u64) {
        let at = counter % WINDOW_FRAMES;
        ((at / WORD_BITS) as usize, 1 << (at % WORD_BITS))
    }

    fn is_new(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let (word, bit) = Self::place(counter);
        self.highest - counter < WINDOW_FRAMES && self.seen[word] & bit == 0
    }

    fn note(&mut self, counter: u64) {
        if counter > self.highest {
            // Those in between were not seen. One turn of the ring clears it all.
            let first = (self.highest + 1).max(counter.saturating_sub(WINDOW_FRAMES - 1));
            for passed in first..=counter {
                let (word, bit) = Self::place(passed);
                self.seen[word] &= !bit;
            }
            self.highest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }
}

/// The windows of all sessions.
#[derive(Debug, Default)]
pub struct Windows {
    sessions: HashMap<Session, Window>,
    clock: u64,
}

impl Windows {
    /// Whether this frame was not seen yet and is not too old to know.
    pub fn is_new(&self, session: &Session, counter: u64) -> bool {
        self.sessions.get(session).is_none_or(|window| window.is_new(counter))
    }

    /// Remembers a frame that was opened.
    pub fn note(&mut self, session: Session, counter: u64) {
        self.clock += 1;
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&session) {
            let oldest = self.sessions.iter().min_by_key(|(_, window)| window.used).map(|(session, _)| *session);
            oldest.and_then(|oldest| self.sessions.remove(&oldest));
        }
        let window = self.sessions.entry(session).or_default();
        window.used = self.clock;
        window.note(counter);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SESSION: Session = [1; 16];

    #[test]
    fn a_frame_is_new_once_and_while_it_is_in_the_window() {
        let mut windows = Windows::default();
        for counter in [5, 3, 4, 2000, 2000 - WINDOW_FRAMES + 1] {
            assert!(windows.is_new(&SESSION, counter), "{counter}");
            windows.note(SESSION, counter);
            assert!(!windows.is_new(&SESSION, counter), "{counter}");
        }
        assert!(!windows.is_new(&SESSION, 2000 - WINDOW_FRAMES), "too old to know");
        assert!(windows.is_new(&SESSION, 1999));
        assert!(windows.is_new(&[2; 16], 5), "another session");
        windows.note(SESSION, u64::MAX);
        assert!(!windows.is_new(&SESSION, u64::MAX) && windows.is_new(&SESSION, u64::MAX - 1));
    }

    #[test]
    fn the_session_that_was_silent_for_longest_is_forgotten() {
        let session = |number: usize| (number as u128).to_le_bytes();
        let mut windows = Windows::default();
        for number in 0..SESSIONS_MAX {
            windows.note(session(number), 1);
        }
        windows.note(session(0), 2);
        windows.note(session(SESSIONS_MAX), 1);
        assert_eq!(windows.sessions.len(), SESSIONS_MAX);
        assert!(!windows.is_new(&session(0), 1), "it was used since");
        assert!(windows.is_new(&session(1), 1), "it was silent for longest");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(counters in proptest::collection::vec(0u64..5000, 1..200)) {
            let mut windows = Windows::default();
            let mut seen = BTreeSet::new();
            for counter in counters {
                let highest = seen.last().copied().unwrap_or(0);
                let expected = !seen.contains(&counter) && counter + WINDOW_FRAMES > highest;
                prop_assert_eq!(windows.is_new(&SESSION, counter), expected);
                if expected {
                    windows.note(SESSION, counter);
                    seen.insert(counter);
                }
            }
        }
    }
}
