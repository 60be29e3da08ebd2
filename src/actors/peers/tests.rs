//! Held connections over real sockets, to workers that end theirs on purpose.

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::actors::probe::test_worker::{PATIENCE, STEADY, Script, TestWorker, Then, identity};

const NONCE: Nonce = Nonce(99);

/// Nothing happens for want of time, and a second suspicion of one worker is never said.
const LIMITS: Limits = Limits {
    held: HELD_MAX,
    probe: PATIENCE,
    second_way_after: PATIENCE,
    suspicion_interval: Duration::from_secs(3600),
};

fn peers(limits: Limits) -> (Peers, mpsc::UnboundedReceiver<Nonce>) {
    let (suspect, suspected) = mpsc::unbounded_channel();
    (Peers::with_limits(limits, move |nonce| suspect.send(nonce).expect("the test listens")), suspected)
}

async fn worker(script: Script) -> TestWorker {
    TestWorker::start(identity(NONCE.0, ""), script).await
}

/// All suspicions that were said, once no more can be.
async fn all(peers: Peers, mut suspected: mpsc::UnboundedReceiver<Nonce>) -> Vec<Nonce> {
    drop(peers);
    let mut found = Vec::new();
    while let Some(nonce) = timeout(PATIENCE, suspected.recv()).await.expect("what suspects is dropped") {
        found.push(nonce);
    }
    found
}

#[tokio::test]
async fn one_connection_serves_all_probes() {
    let (peers, suspected) = peers(LIMITS);
    let worker = worker(STEADY).await;
    for _ in 0..5 {
        assert!(peers.probe(worker.url.clone(), NONCE).await);
    }
    assert_eq!((worker.accepted(), worker.answered()), (1, 5));
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn a_process_that_ends_is_suspected_at_once_and_found_dead_by_the_next_probe() {
    let (peers, mut suspected) = peers(LIMITS);
    let worker = worker(STEADY).await;
    let url = worker.url.clone();
    assert!(peers.probe(url.clone(), NONCE).await);
    drop(worker);
    let nonce = timeout(PATIENCE, suspected.recv()).await.expect("it is suspected without a probe");
    assert_eq!(nonce, Some(NONCE));
    assert!(!peers.probe(url, NONCE).await);
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn a_held_connection_that_breaks_under_a_probe_is_no_verdict() {
    let (peers, suspected) = peers(LIMITS);
    let worker = worker(|number| if number == 0 { (1, Then::CloseOnRequest) } else { STEADY(number) }).await;
    assert!(peers.probe(worker.url.clone(), NONCE).await);
    assert!(peers.probe(worker.url.clone(), NONCE).await, "over a new one");
    assert!(peers.probe(worker.url.clone(), NONCE).await, "which is held in turn");
    assert_eq!((worker.accepted(), worker.answered()), (2, 3));
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn a_held_connection_that_is_lost_without_a_word_is_no_verdict() {
    let (peers, suspected) = peers(Limits { second_way_after: Duration::from_millis(1), ..LIMITS });
    let mut worker = worker(|number| if number == 0 { (1, Then::Silence) } else { STEADY(number) }).await;
    assert!(peers.probe(worker.url.clone(), NONCE).await);
    assert!(peers.probe(worker.url.clone(), NONCE).await, "over a new one");
    assert_eq!(worker.left().await, 0, "the silent one is dropped");
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn a_worker_that_says_nothing_is_not_reached_in_time() {
    let (peers, suspected) = peers(Limits { probe: Duration::from_millis(50), ..LIMITS });
    let mut worker = worker(|_| (0, Then::Silence)).await;
    assert!(!peers.probe(worker.url.clone(), NONCE).await);
    assert_eq!(worker.left().await, 0);
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn another_life_at_the_same_address_does_not_count() {
    let (peers, suspected) = peers(LIMITS);
    let mut worker = worker(STEADY).await;
    assert!(!peers.probe(worker.url.clone(), Nonce(98)).await);
    assert_eq!(worker.left().await, 0, "nothing is held to it");
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn what_ends_each_idle_connection_causes_one_suspicion_in_an_interval() {
    let (peers, mut suspected) = peers(LIMITS);
    let worker = worker(|_| (1, Then::Close)).await;
    assert!(peers.probe(worker.url.clone(), NONCE).await);
    assert_eq!(timeout(PATIENCE, suspected.recv()).await.expect("it is suspected"), Some(NONCE));
    for _ in 0..20 {
        assert!(peers.probe(worker.url.clone(), NONCE).await);
    }
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn of_too_many_connections_the_one_used_longest_ago_is_dropped() {
    let (peers, suspected) = peers(Limits { held: 2, ..LIMITS });
    let mut workers = Vec::new();
    for nonce in 0..3 {
        let worker = TestWorker::start(identity(nonce, ""), STEADY).await;
        assert!(peers.probe(worker.url.clone(), Nonce(nonce)).await);
        workers.push(worker);
    }
    assert_eq!(workers[0].left().await, 0);
    for (nonce, worker) in (1..).zip(&workers[1..]) {
        assert!(peers.probe(worker.url.clone(), Nonce(nonce)).await);
        assert_eq!(worker.accepted(), 1, "the others are held");
    }
    assert_eq!(all(peers, suspected).await, []);
}

#[tokio::test]
async fn connections_end_with_their_keeper() {
    let (peers, suspected) = peers(LIMITS);
    let mut worker = worker(STEADY).await;
    assert!(peers.probe(worker.url.clone(), NONCE).await);
    let late = peers.probe(worker.url.clone(), NONCE);
    assert_eq!(all(peers, suspected).await, []);
    assert_eq!(worker.left().await, 0);
    assert!(late.await, "a probe may outlive it, and holds nothing");
    assert_eq!(worker.left().await, 1);
}
