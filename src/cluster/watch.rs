//! Whom this worker watches, and whom it declares gone.
//!
//! * *Watched* are the next ones in the ring of worker ids: so each member is watched by some, and none by all. Whom gossip has lost is watched beside them, so
//!   that several that are gone at once are not found one after the other.
//! * *Gone* is who answers neither here nor to others (see `probes`), and who says by gossip that it lives and has had no lease for
//!   [`UNLEASED_MS`]: it does nothing for its units.
//! * *Who reaches nobody* since that one is silent is more likely the one that is cut off. It waits before it declares anybody gone: the others, if they
//!   live, are faster.
//!
//! Time is looked at as often as the leaders are asked for ends; no deadline of its own is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::{Incarnation, Member, Millis, WorkerId};
use super::membership::Surroundings;
use super::probes::{Manner, Probes, Verdict};
use super::protocol::{Action, Peer, ProbeAnswer, Token};

/// Members that are watched by each member, and live by gossip.
const NEIGHBOURS: usize = 2;

/// Rounds of questions to a member that gossip has lost where there is nobody else whom gossip hears.
const ROUNDS_ALONE: u32 = 2;

/// How long a member may live without a lease, while this worker has one, until it is evicted.
const UNLEASED_MS: u64 = 5_000;

/// How much longer a worker that reaches none of several others waits until it evicts one: more than they need to evict it.
const ISOLATED_MS: u64 = 2_000;

/// What the watched members say to somebody who wants to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// It is not known yet.
    Unknown,
    /// One answers.
    Somebody,
    /// None does.
    Nobody,
    /// There is none.
    Alone,
}

/// See the module.
pub(super) struct Watch {
    id: WorkerId,
    /// All members but this one, in the order of the ring.
    ring: Arc<[Member]>,
    watched: Arc<[Member]>,
    /// Who can be asked about others: first those that gossip hears.
    askable: Vec<WorkerId>,
    heard: usize,
    probes: Probes,
    /// Who lives by gossip, whether or not its record was read, and since when without a lease. There are no more than gossip has room for.
    live: BTreeMap<Incarnation, Option<Millis>>,
    /// Members that lived by gossip, and do not any more.
    lost: BTreeSet<Incarnation>,
    /// Whether this worker could evict when it last looked.
    was_leased: bool,
    /// Since when it has a lease for everything.
    leased_since: Option<Millis>,
}

impl Watch {
    pub(super) fn new(id: WorkerId) -> Self {
        Watch {
            id,
            ring: Arc::new([]),
            watched: Arc::new([]),
            askable: Vec::new(),
            heard: 0,
            probes: Probes::default(),
            live: BTreeMap::new(),
            lost: BTreeSet::new(),
            was_leased: false,
            leased_since: None,
        }
    }

    pub(super) fn folded(&mut self, members: &[Member]) {
        self.probes.retain(members);
        self.lost.retain(|life| members.iter().any(|member| member.incarnation == *life));
        self.ring = ring(&self.id, members);
        self.arrange();
    }

    /// Who lives by gossip.
    pub(super) fn peers(&mut self, peers: &[Peer], now: Millis) {
        let before = std::mem::take(&mut self.live);
        for peer in peers {
            let unleased_since = before.get(&peer.incarnation).copied().flatten().unwrap_or(now);
            self.live.insert(peer.incarnation, (!peer.leased).then_some(unleased_since));
        }
        let is_member = |life: &&Incarnation| self.ring.iter().any(|member| member.incarnation == **life);
        for life in before.keys().filter(|life| !self.live.contains_key(life)).filter(is_member) {
            self.probes.suspect(*life, now);
            self.lost.insert(*life);
        }
        self.lost.retain(|life| !self.live.contains_key(life));
        self.arrange();
    }

    fn arrange(&mut self) {
        let is_lost = |member: &Member| self.lost.contains(&member.incarnation);
        let mut live = 0;
        let watched = self.ring.iter().take_while(|member| {
            let is_near = live < NEIGHBOURS;
            live += usize::from(!is_lost(member));
            is_near
        });
        self.watched = watched.cloned().collect();
        // Gossip may be what is broken, so those that it has lost are asked, too.
        let (lost, heard): (Vec<&Member>, Vec<&Member>) = self.ring.iter().partition(|member| is_lost(member));
        self.heard = heard.len();
        self.askable = heard.into_iter().chain(lost).map(|member| member.id.clone()).collect();
    }

    pub(super) fn answered(&mut self, incarnation: Incarnation, answer: ProbeAnswer, now: Millis) {
        self.probes.answered(incarnation, answer, now);
    }

    pub(super) fn suspect(&mut self, incarnation: Incarnation, now: Millis) {
        self.probes.suspect(incarnation, now);
    }

    /// What is known of this member; asks when that is due.
    pub(super) fn verdict(&mut self, member: &Member, now: Millis, actions: &mut Vec<Action>) -> Verdict {
        let is_lost = self.lost.contains(&member.incarnation);
        let hurry = is_lost.then_some(if self.heard > 0 { 1 } else { ROUNDS_ALONE });
        self.probes.verdict(member, Manner { others: &self.askable, hurry }, now, actions)
    }

    /// Asks whether anybody is there, for a worker that is no member.
    pub(super) fn answers(&mut self, now: Millis, actions: &mut Vec<Action>) -> Answers {
        self.was_leased = false;
        self.leased_since = None;
        let watched = self.watched.clone();
        if watched.is_empty() {
            return Answers::Alone;
        }
        let verdicts: Vec<Verdict> = watched.iter().map(|member| self.verdict(member, now, actions)).collect();
        if verdicts.contains(&Verdict::Alive) {
            Answers::Somebody
        } else if verdicts.contains(&Verdict::Unknown) {
            Answers::Unknown
        } else {
            Answers::Nobody
        }
    }

    /// Whether it answered when it was asked last.
    pub(super) fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.probes.is_alive(incarnation)
    }

    /// The watched members that answered when they were asked last.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Member> {
        self.watched.iter().filter(|member| self.probes.is_alive(member.incarnation))
    }

    /// Asks for the tombstone of who is gone. Only who has a lease evicts.
    pub(super) fn evict(
        &mut self,
        around: &Surroundings,
        now: Millis,
        tokens: &mut impl FnMut() -> Token,
        actions: &mut Vec<Action>,
    ) {
        if around.leased && !self.was_leased {
            // What was true when this worker could do nothing may not be any more: it may have been the one that was cut off.
            self.probes.forget_dead(now);
        }
        self.was_leased = around.leased;
        self.leased_since = around.all_leased.then(|| self.leased_since.unwrap_or(now));
        let watched = self.watched.clone();
        for member in &*watched {
            let verdict = self.verdict(member, now, actions);
            if around.leased && (self.is_unleased(member.incarnation, now) || self.is_dead(verdict, now)) {
                self.probes.tombstone(member, now, &mut *tokens, actions);
            }
        }
    }

    /// It lives and has had no lease for long, by one that had it for all partitions: if a partition stands still for all, nobody is to blame.
    fn is_unleased(&self, life: Incarnation, now: Millis) -> bool {
        let since = self.live.get(&life).copied().flatten().zip(self.leased_since);
        since.is_some_and(|(theirs, own)| now.since(theirs.max(own)) >= UNLEASED_MS)
    }

    fn is_dead(&self, verdict: Verdict, now: Millis) -> bool {
        let Verdict::Dead { since, silent_since } = verdict else { return false };
        let is_isolated = self.ring.len() > 1 && self.probes.contact().is_none_or(|at| at < silent_since);
        !is_isolated || now.since(since) >= ISOLATED_MS
    }

    /// A tombstone was refused or did not come through. Whether it was one of these.
    pub(super) fn tombstone_failed(&mut self, token: Token, now: Millis) -> bool {
        self.probes.tombstone_failed(token, now)
    }

    /// How much it remembers of others.
    pub(super) fn kept(&self) -> usize {
        self.probes.count().max(self.live.len() + self.lost.len())
    }

    /// When something is due.
    pub(super) fn next_deadline(&self, now: Millis) -> Option<Millis> {
        self.probes.next_deadline(now)
    }
}

/// The others, in the ring of worker ids.
fn ring(id: &WorkerId, members: &[Member]) -> Arc<[Member]> {
    let mut others: Vec<&Member> = members.iter().filter(|member| member.id != *id).collect();
    others.sort_by(|one, other| (one.id < *id, &one.id).cmp(&(other.id < *id, &other.id)));
    others.into_iter().cloned().collect()
}
