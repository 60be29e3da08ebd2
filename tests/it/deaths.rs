//! Workers that are killed, frozen and cut off, from each other, from gossip or from Kafka, while files go through topics into files: nothing is
//! lost, nothing has two runners, and what did not have to move is not touched. bench/workers measures the same, and more, with release builds.

mod gossip;
mod kafka;
mod pairs;
mod several;

use crate::kills::oracle::{Kill, check_file, check_topic};
use crate::support::group::{Group, moved};
use crate::support::relay::Relay;

use pairs::{Pairs, UNITS, busiest, check_one_runner, held_by, numbers, sink, source};

/// Short, so that a test sees commits.
const COMMITS: (&str, &str) = ("offset.flush.interval.ms", "200");
/// Connections in vain after which a worker on its own would have evicted the other one: three are enough for that.
const HELD: usize = 6;

async fn three() -> Group {
    Group::start_with(&vec![vec![COMMITS]; 3]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_nothing_and_repeats_only_what_was_not_committed() {
    let (mut pairs, before) = Pairs::start(three().await).await;
    let victim = busiest(&pairs.group, &before);
    let (others, (sources, sinks)) = (pairs.group.others(&[victim]), held_by(&pairs.group.workers[victim], &before));
    let (starts, held) = (pairs.group.starts(), pairs.group.loads(&before)[victim]);
    let mut kills = Vec::new();
    for pair in 0..pairs::PAIRS {
        kills.push(pairs.look(pair).await);
    }
    pairs.group.workers[victim].kill().await;
    let taken_over_at = pairs.lines.begun();
    kills.iter_mut().enumerate().for_each(|(pair, kill)| kill.file = pairs.length(pair));

    let after = pairs.group.settled(others[0], UNITS, &others).await;
    assert_eq!(moved(&before, &after), held, "exactly what it held");
    assert_eq!(pairs.group.starts() - starts, held, "what was not moved was not touched");
    pairs.flows(others[0], 0..pairs::PAIRS).await;
    let (count, written) = pairs.finish(others[0]).await;
    for (pair, written) in written.iter().enumerate() {
        let of =
            |held: &[usize]| -> Vec<Kill> { held.contains(&pair).then(|| kills[pair].clone()).into_iter().collect() };
        check_topic(&written.topic, count, &of(&sources));
        check_file(&written.file, &written.topic, &of(&sinks));
        check_one_runner(&source(pair), &written.topic, taken_over_at);
        check_one_runner(&sink(pair), &numbers(&written.file), taken_over_at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_wakes_after_its_work_went_on_elsewhere_writes_nothing_more_and_joins_again() {
    let (pairs, before) = Pairs::start(three().await).await;
    let victim = busiest(&pairs.group, &before);
    let (others, (sources, sinks)) = (pairs.group.others(&[victim]), held_by(&pairs.group.workers[victim], &before));
    let life = pairs.group.lives(others[0]).await[victim];
    pairs.group.workers[victim].signal("STOP").await;
    let taken_over_at = pairs.lines.begun();
    let after = pairs.group.settled(others[0], UNITS, &others).await;
    assert_eq!(moved(&before, &after), pairs.group.loads(&before)[victim], "exactly what it held");
    // The later runners are at work when it wakes.
    pairs.flows(others[0], sources.into_iter().chain(sinks)).await;
    pairs.group.workers[victim].signal("CONT").await;

    let joined_again = async || {
        let now = pairs.group.lives(others[0]).await[victim];
        now.is_some() && now != life
    };
    pairs.group.workers[victim].eventually("it has joined again", joined_again).await;
    pairs.group.workers[victim].ready().await;
    pairs.group.settled(victim, UNITS, &[0, 1, 2]).await;
    pairs.flows(victim, 0..pairs::PAIRS).await;
    let (_, written) = pairs.finish(victim).await;
    for (pair, written) in written.iter().enumerate() {
        check_one_runner(&source(pair), &written.topic, taken_over_at);
        check_one_runner(&sink(pair), &numbers(&written.file), taken_over_at);
    }
}

/// Of three workers one does not reach another one for a while. How many were evicted for that; nothing may be lost.
async fn cut_between_two() -> usize {
    let relays = [Relay::start().await, Relay::start().await, Relay::start().await];
    let ports = relays.each_ref().map(|relay| relay.port().to_string());
    let settings = |port| vec![COMMITS, ("rest.advertised.host.name", "127.0.0.1"), ("rest.advertised.port", port)];
    // The relays know where to pass on to before anybody is a neighbour of anybody.
    let group = Group::start_behind(&ports.each_ref().map(|port| settings(port)), &relays).await;
    let (pairs, _) = Pairs::start(group).await;
    let lives = pairs.group.lives(2).await;
    assert!(lives.iter().all(Option::is_some), "{lives:?}");
    relays[1].cut_from(pairs.group.workers[0].process());
    let in_vain = async || relays[1].held() >= HELD;
    pairs.group.workers[0].eventually("it has asked the other one in vain", in_vain).await;
    let evicted = async || pairs.group.lives(2).await.iter().zip(&lives).filter(|(now, then)| now != then).count();
    let count = evicted().await;
    relays[1].heal();
    for worker in &pairs.group.workers {
        worker.ready().await;
    }
    pairs.group.settled(2, UNITS, &[0, 1, 2]).await;
    pairs.flows(2, 0..pairs::PAIRS).await;
    pairs.finish(2).await;
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_two_workers_loses_nothing() {
    cut_between_two().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_two_workers_evicts_nobody_whom_a_third_one_reaches() {
    assert_eq!(cut_between_two().await, 0, "evicted");
}
