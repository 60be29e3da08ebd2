//! What workers tell each other without the log, and what they make of silence: some of it is lost, late or wrong.

use std::collections::BTreeMap;

use super::clock::Micros;
use super::process::Process;
use super::world::{CONFIG, Letter, Message, Who, World};
use crate::cluster::{Event, Incarnation, Peer};

/// Between two rounds, of a fence time.
const ROUNDS_PER_FENCE: u64 = 2;

/// Fence times of silence after which a member counts as gone.
const SILENCE_FENCES: u64 = 2;

/// What a process has heard of a member.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    said_at: Micros,
    heard_at: Micros,
    peer: Peer,
}

impl World {
    /// A process tells the others what it knows, and its control plane who lives.
    pub(super) fn gossip(&mut self, who: Who) {
        let next = self.now + self.rng.u64(1..=2 * self.fence() / ROUNDS_PER_FENCE);
        self.send(next, Message::To(who, Letter::Gossip));
        if let Some(peer) = says(&self.places[who.place], self.now) {
            for place in 0..self.places.len() {
                self.tell(who, place, peer.clone());
            }
        }
        let oldest = self.now.saturating_sub(SILENCE_FENCES * self.fence());
        let process = &mut self.places[who.place];
        process.heard.retain(|_, heard| heard.heard_at >= oldest);
        let live: Vec<Peer> = process.heard.values().map(|heard| heard.peer.clone()).collect();
        if live != process.told_peers {
            process.told_peers = live.clone();
            self.step(who.place, Event::Peers(live.into()));
        }
    }

    fn tell(&mut self, from: Who, place: usize, peer: Peer) {
        let (asker, process) = (self.places[from.place].worker, &self.places[place]);
        let (worker, to) = (process.worker, Who { place, life: process.life });
        if place == from.place || process.plane.is_none() || self.is_cut(asker, worker) {
            return;
        }
        if !self.chance(self.weather.deaf) {
            let (at, said_at) = (self.soon(), self.now);
            self.send(at, Message::To(to, Letter::Heard(said_at, peer)));
        }
    }

    /// What was said later counts.
    pub(super) fn hear(&mut self, place: usize, said_at: Micros, peer: Peer) {
        let (heard_at, heard) = (self.now, &mut self.places[place].heard);
        if heard.get(&peer.incarnation).is_none_or(|before| before.said_at < said_at) {
            heard.insert(peer.incarnation, Heard { said_at, heard_at, peer });
        }
    }

    /// Others notice that connections to this process are gone, which may have ended.
    pub(super) fn lose_connections(&mut self, life: Incarnation) {
        for place in 0..self.places.len() {
            if self.places[place].plane.is_some() && self.rng.bool() {
                let (at, to) = (self.soon(), Who { place, life: self.places[place].life });
                self.send(at, Message::To(to, Letter::Event(Event::Suspected { incarnation: life })));
            }
        }
    }
}

/// Nothing while it is no member.
fn says(process: &Process, now: Micros) -> Option<Peer> {
    let plane = process.plane.as_ref()?;
    Some(Peer {
        incarnation: plane.incarnation()?,
        leased: plane.is_leased(process.local(now)),
        config: process.positions[CONFIG] as i64,
        status: process.positions[1..].iter().map(|position| *position as i64).collect(),
    })
}

/// By life.
pub(super) type Hearsay = BTreeMap<Incarnation, Heard>;
