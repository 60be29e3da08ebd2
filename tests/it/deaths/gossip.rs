//! Gossip that is cut off or loses much, while the workers reach Kafka and each other by TCP.

use crate::support::broker;
use crate::support::datagrams::Datagrams;
use crate::support::group::{Group, Places, moved};
use crate::support::relay::Relay;

use super::COMMITS;
use super::pairs::{PAIRS, Pairs, UNITS, busiest, check_one_runner, numbers, sink, source};

/// Datagrams of a hundred that do not arrive where gossip is bad.
const LOSS: usize = 33;
/// Which ones.
const SEED: u64 = 2_024;
/// Lines of each pair while it is.
const LINES_UNDER_LOSS: usize = 250;
/// Datagrams that are lost meanwhile, at least: each worker sends thirty a second, and is answered.
const LOST_AT_LEAST: usize = 100;

/// Questions to a worker and answers, after it is missed, by which those who miss it have asked: each of two asks once a second.
const ASKED: usize = 8;

/// Three workers at work, each of which is reached through relays.
struct Gossiping {
    pairs: Pairs,
    relays: Datagrams,
    questions: [Relay; 3],
    places: Places,
    lives: Vec<Option<i64>>,
    starts: usize,
}

impl Gossiping {
    async fn start() -> Gossiping {
        let relays = Datagrams::start(3).await;
        let addresses = relays.addresses();
        let questions = [Relay::start().await, Relay::start().await, Relay::start().await];
        let ports = questions.each_ref().map(|relay| relay.port().to_string());
        let settings = |(address, port)| {
            let rest = [("rest.advertised.host.name", "127.0.0.1"), ("rest.advertised.port", port)];
            [&rest[..], &[COMMITS, ("cluster.advertised.listener", address)]].concat()
        };
        let settings: Vec<_> =
            addresses.iter().map(|it| &**it).zip(ports.iter().map(|it| &**it)).map(settings).collect();
        let group = Group::start_at(broker().await.bootstrap(), &settings, |number, worker| {
            relays.pass_on_to(number, worker.port());
            questions[number].pass_on_to(worker.port());
        })
        .await;
        let (pairs, places) = Pairs::start(group).await;
        let (lives, starts) = (pairs.group.lives(0).await, pairs.group.starts());
        assert!(lives.iter().all(Option::is_some), "{lives:?}");
        let gossiping = Gossiping { pairs, relays, questions, places, lives, starts };
        gossiping.all_are_heard().await;
        gossiping
    }

    /// Waits until one worker hears another one, or does not.
    async fn hears(&self, at: usize, whom: usize, is_heard: bool) {
        let group = &self.pairs.group;
        let what = format!("worker {at} hears worker {whom}: {is_heard}");
        group.workers[at].eventually(&what, async || group.heard(at).await[whom] == is_heard).await;
    }

    async fn all_are_heard(&self) {
        for (at, whom) in (0..3).flat_map(|at| (0..3).map(move |whom| (at, whom))) {
            self.hears(at, whom, true).await;
        }
    }

    /// Waits until those who miss a worker have asked it.
    async fn is_asked(&self, worker: usize) {
        let enough = self.questions[worker].passed() + ASKED;
        let asked = async || self.questions[worker].passed() >= enough;
        self.pairs.group.workers[worker].eventually("it is asked whether it lives", asked).await;
    }

    /// Checks that nobody was evicted, and that nothing moved or ran anew.
    async fn check_calm(&self, what: &str) {
        let group = &self.pairs.group;
        for at in 0..3 {
            assert_eq!(group.lives(at).await, self.lives, "{what}: the members as worker {at} sees them");
        }
        let places = group.settled(0, UNITS, &group.all()).await;
        assert_eq!(moved(&self.places, &places), 0, "{what}: moved");
        assert_eq!(group.starts(), self.starts, "{what}: units that have begun to run");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_only_gossip_misses_keeps_what_it_has() {
    let gossiping = Gossiping::start().await;
    let (pairs, relays) = (&gossiping.pairs, &gossiping.relays);
    let victim = busiest(&pairs.group, &gossiping.places);
    let others = pairs.group.others(&[victim]);
    for (what, mute, deaf) in
        [("cut both ways", true, true), ("nobody hears it", true, false), ("it hears nobody", false, true)]
    {
        if mute {
            relays.mute(victim);
        }
        if deaf {
            relays.deafen(victim);
        }
        for other in &others {
            if mute {
                gossiping.hears(*other, victim, false).await;
            }
            if deaf {
                gossiping.hears(victim, *other, false).await;
            }
        }
        gossiping.is_asked(if mute { victim } else { others[0] }).await;
        pairs.flows(victim, 0..PAIRS).await;
        gossiping.check_calm(what).await;
        relays.heal();
        gossiping.all_are_heard().await;
        gossiping.check_calm(&format!("{what}, healed")).await;
    }
    let (_, written) = gossiping.pairs.finish(victim).await;
    for (pair, written) in written.iter().enumerate() {
        assert_eq!(check_one_runner(&source(pair), &written.topic, 0), 0, "again in the topic");
        assert_eq!(check_one_runner(&sink(pair), &numbers(&written.file), 0), 0, "again in the file");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_that_loses_a_third_evicts_nobody_who_lives_and_finds_who_does_not() {
    let mut gossiping = Gossiping::start().await;
    gossiping.relays.lose(LOSS, SEED);
    let enough = gossiping.pairs.lines.begun() + LINES_UNDER_LOSS;
    gossiping.pairs.reaches(0, enough, 0..PAIRS).await;
    let bad = async || gossiping.relays.lost() >= LOST_AT_LEAST;
    gossiping.pairs.group.workers[0].eventually("gossip has lost much", bad).await;
    gossiping.check_calm("under load").await;

    let Gossiping { pairs, places, lives, .. } = &mut gossiping;
    let victim = busiest(&pairs.group, places);
    let others = pairs.group.others(&[victim]);
    let starts = pairs.group.starts();
    pairs.group.workers[victim].kill().await;
    let taken_over_at = pairs.lines.begun();
    let after = pairs.group.settled(others[0], UNITS, &others).await;
    let held = pairs.group.loads(places)[victim];
    assert_eq!(moved(places, &after), held, "exactly what it held");
    assert_eq!(pairs.group.starts() - starts, held, "what was not moved was not touched");
    lives[victim] = None;
    assert_eq!(pairs.group.lives(others[0]).await, *lives, "it alone was evicted");
    pairs.flows(others[0], 0..PAIRS).await;
    let (_, written) = gossiping.pairs.finish(others[0]).await;
    for (pair, written) in written.iter().enumerate() {
        check_one_runner(&source(pair), &written.topic, taken_over_at);
        check_one_runner(&sink(pair), &numbers(&written.file), taken_over_at);
    }
}
