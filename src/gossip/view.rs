//! Who else lives, as this worker sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use chitchat::{ChitchatId, NodeState};
use tokio::time::Instant;

use super::facts::{self, Facts};

/// A task that was not run for so long shows that this process had no CPU; then it has not read what others sent meanwhile.
const STALL: Duration = Duration::from_millis(400);
/// How long after a stall nobody is taken to be dead. Within it each living worker was heard several times.
const RECOVERY: Duration = Duration::from_millis(1_000);

/// The other workers that live.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// By worker id, without this one and without those that are leaving.
    pub peers: BTreeMap<String, Facts>,
}

/// Which node states the live ones are read from, and how many facts could not be read. Of one worker that was started anew the last
/// start counts.
pub fn view_of(live: &BTreeMap<ChitchatId, NodeState>, own: &str) -> (View, u64) {
    let mut view = View::default();
    let mut unreadable = 0;
    // Ids are ordered by worker and then by generation.
    for (id, state) in live.iter().filter(|(id, _)| *id.node_id != *own) {
        let (facts, count) = facts::read(|name| state.get(name));
        unreadable += count;
        match facts {
            Some(facts) if !facts.leaving => drop(view.peers.insert(id.node_id.to_string(), facts)),
            Some(_) => drop(view.peers.remove(&*id.node_id)),
            None => {}
        }
    }
    (view, unreadable)
}

/// Notices that this process had no CPU.
#[derive(Debug)]
pub struct Stalls {
    last: Instant,
    lenient_until: Option<Instant>,
}

impl Stalls {
    pub fn new(now: Instant) -> Self {
        Stalls { last: now, lenient_until: None }
    }

    /// To be called each few tens of milliseconds.
    pub fn tick(&mut self, now: Instant) {
        if now.duration_since(self.last) >= STALL {
            self.lenient_until = Some(now + RECOVERY);
        }
        self.last = now;
    }

    /// What to show: after a stall nobody vanishes.
    pub fn shown(&self, mut seen: View, shown: &View, now: Instant) -> View {
        if now.duration_since(self.last) >= STALL || self.lenient_until.is_some_and(|until| now < until) {
            for (id, facts) in &shown.peers {
                seen.peers.entry(id.clone()).or_insert_with(|| facts.clone());
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(ids: &[&str]) -> View {
        View { peers: ids.iter().map(|id| ((*id).to_owned(), Facts::default())).collect() }
    }

    #[test]
    fn after_a_stall_nobody_vanishes_for_a_while() {
        let start = Instant::now();
        let mut stalls = Stalls::new(start);
        let (before, after) = (view(&["a", "b"]), view(&["b", "c"]));
        let both = view(&["a", "b", "c"]);
        let just = start + STALL - Duration::from_millis(1);
        stalls.tick(just);
        assert_eq!(stalls.shown(after.clone(), &before, just), after);
        let late = just + STALL;
        assert_eq!(stalls.shown(after.clone(), &before, late), both, "the tick is late itself");
        stalls.tick(late);
        let mut now = late;
        while now < late + RECOVERY {
            stalls.tick(now);
            assert_eq!(stalls.shown(after.clone(), &before, now), both);
            now += STALL / 2;
        }
        stalls.tick(now);
        assert_eq!(stalls.shown(after.clone(), &before, now), after);
    }
}
