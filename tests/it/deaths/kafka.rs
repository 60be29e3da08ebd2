//! Kafka that one worker does not reach, and Kafka that nobody reaches, while the workers reach each other.

use crate::support::broker::{Broker, Security};
use crate::support::group::{Group, moved};
use crate::support::process::Worker;
use crate::support::relay::Relay;

use super::COMMITS;
use super::pairs::{PAIRS, Pairs, UNITS, busiest, check_one_runner, check_order, held_by, numbers, sink, source};

/// Listeners of the broker, one for each worker, that advertise the ports of relays.
const LISTENERS: [&str; 3] = ["ONE", "TWO", "THREE"];

/// Waits until the worker says that its tasks wait for Kafka.
async fn is_suspended(worker: &Worker) {
    let suspended = async || {
        let reply = worker.get("/health").await;
        reply.status == 503 && reply.body.json()["message"].as_str().is_some_and(|text| text.starts_with("suspended"))
    };
    worker.eventually("it has stopped by itself", suspended).await;
}

/// Three workers, each of which reaches Kafka through a relay.
async fn behind_relays(broker: &Broker, relays: &[Relay; 3]) -> Group {
    for (listener, relay) in LISTENERS.iter().zip(relays) {
        relay.pass_on_to(broker.listener_port(listener));
    }
    let servers = relays.each_ref().map(|relay| format!("127.0.0.1:{}", relay.port()));
    let settings = servers.each_ref().map(|servers| vec![COMMITS, ("bootstrap.servers", &**servers)]);
    Group::start_at(broker.bootstrap(), &settings, |_, _| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_kafka_stops_by_itself_and_joins_again_when_it_is_back() {
    let relays = [Relay::start().await, Relay::start().await, Relay::start().await];
    let broker = Broker::start_with(Security {
        listeners: LISTENERS.map(|name| (name, "PLAINTEXT")).into(),
        advertised: LISTENERS.into_iter().zip(&relays).map(|(name, relay)| (name, relay.port())).collect(),
        ..Security::default()
    });
    let broker = broker.await;
    let (pairs, before) = Pairs::start(behind_relays(&broker, &relays).await).await;
    let victim = busiest(&pairs.group, &before);
    let (others, (sources, sinks)) = (pairs.group.others(&[victim]), held_by(&pairs.group.workers[victim], &before));
    let (mut lives, starts) = (pairs.group.lives(others[0]).await, pairs.group.starts());
    let life = lives[victim].take();
    relays[victim].cut_from(pairs.group.workers[victim].process());
    is_suspended(&pairs.group.workers[victim]).await;

    let evicted = async || pairs.group.lives(others[0]).await[victim].is_none();
    pairs.group.workers[others[0]].eventually("it is evicted", evicted).await;
    let taken_over_at = pairs.lines.begun();
    let after = pairs.group.settled(others[0], UNITS, &others).await;
    let held = pairs.group.loads(&before)[victim];
    assert_eq!(moved(&before, &after), held, "exactly what it held");
    assert_eq!(pairs.group.starts() - starts, held, "what was not moved was not touched");
    assert_eq!(pairs.group.lives(others[0]).await, lives, "it alone was evicted");
    // The later runners are at work when it is back.
    pairs.flows(others[0], sources.into_iter().chain(sinks)).await;
    relays[victim].heal();

    let joined_again = async || {
        let now = pairs.group.lives(others[0]).await[victim];
        now.is_some() && now != life
    };
    pairs.group.workers[victim].eventually("it has joined again", joined_again).await;
    pairs.group.workers[victim].ready().await;
    pairs.group.settled(victim, UNITS, &[0, 1, 2]).await;
    pairs.flows(victim, 0..PAIRS).await;
    lives[victim] = pairs.group.lives(victim).await[victim];
    assert_eq!(pairs.group.lives(victim).await, lives, "nobody else was evicted");
    let (_, written) = pairs.finish(victim).await;
    for (pair, written) in written.iter().enumerate() {
        check_one_runner(&source(pair), &written.topic, taken_over_at);
        check_one_runner(&sink(pair), &numbers(&written.file), taken_over_at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_broker_costs_three_workers_nothing_but_time() {
    let broker = Broker::start().await;
    let group = Group::start_at(broker.bootstrap(), &vec![vec![COMMITS]; 3], |_, _| {}).await;
    let (pairs, _) = Pairs::start(group).await;
    let mut committed = Vec::new();
    for pair in 0..PAIRS {
        committed.push(pairs.look(pair).await);
    }
    tokio::task::block_in_place(|| broker.stop());
    for worker in &pairs.group.workers {
        is_suspended(worker).await;
    }
    broker.restart().await;
    for worker in &pairs.group.workers {
        worker.ready().await;
    }
    // Who came back late may have been evicted, and joins again.
    let all_are_members = async || pairs.group.lives(0).await.iter().all(Option::is_some);
    pairs.group.workers[0].eventually("all are members", all_are_members).await;
    pairs.group.settled(0, UNITS, &[0, 1, 2]).await;
    pairs.flows(0, 0..PAIRS).await;
    let (_, written) = pairs.finish(0).await;
    for (pair, written) in written.iter().enumerate() {
        let committed = &committed[pair];
        check_order(&source(pair), &written.topic, committed.committed);
        check_order(&sink(pair), &numbers(&written.file), written.topic[committed.group]);
    }
}
