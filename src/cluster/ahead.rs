//! Registers whose writers had folded more of the config topic than this worker.
//!
//! Usually that is a matter of milliseconds. Where the config topic was made anew or came from another cluster, while the statuses stayed, it would be for ever: so
//! an offset that lies beyond an end that was asked for after the register was read is no offset of this topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::member::Millis;

/// See the module.
#[derive(Default)]
pub(super) struct Ahead {
    /// For each unit the greatest offset that its registers name, and when the last of them was read.
    registers: BTreeMap<Arc<str>, (i64, Millis)>,
}

impl Ahead {
    /// A register was read whose writer had folded up to `at`.
    pub(super) fn read(&mut self, unit: &Arc<str>, at: i64, position: i64, now: Millis) {
        if at < position {
            return;
        }
        let (most, read_at) = self.registers.entry(unit.clone()).or_insert((at, now));
        (*most, *read_at) = (at.max(*most), now);
    }

    /// Whether all was folded that others had.
    pub(super) fn is_none(&self, position: i64) -> bool {
        self.registers.values().all(|(at, _)| *at < position)
    }

    /// Forgets those that this worker has caught up with. Takes out those that nobody can have written in this cluster: `reached` is when the newest
    /// question for the end of the config topic was asked whose answer was reached.
    pub(super) fn impossible(&mut self, position: i64, reached: Option<Millis>) -> Vec<(Arc<str>, i64)> {
        let mut impossible = Vec::new();
        self.registers.retain(|unit, (at, read_at)| {
            let is_ahead = *at >= position;
            let is_known = is_ahead && reached.is_some_and(|reached| reached > *read_at);
            if is_known {
                impossible.push((unit.clone(), *at));
            }
            is_ahead && !is_known
        });
        impossible
    }
}
