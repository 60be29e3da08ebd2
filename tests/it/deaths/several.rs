//! More than one worker that dies, and one that dies young.

use crate::support::group::{Group, id, moved};

use super::pairs::{PAIRS, Pairs, UNITS, check_one_runner, numbers, sink, source};
use super::{COMMITS, three};

/// How often a worker dies young.
const ROUNDS: usize = 2;

/// Two that stand side by side in the ring of worker ids: so one of the others watches both, and asks one about the other.
fn neighbours(group: &Group) -> [usize; 2] {
    let mut ring = group.all();
    ring.sort_by_key(|worker| id(&group.workers[*worker]));
    [ring[0], ring[1]]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_four_that_are_killed_at_once_lose_nothing() {
    let (mut pairs, before) = Pairs::start(Group::start_with(&vec![vec![COMMITS]; 4]).await).await;
    let victims = neighbours(&pairs.group);
    let (others, starts) = (pairs.group.others(&victims), pairs.group.starts());
    let mut lives = pairs.group.lives(others[0]).await;
    let [one, other] = pairs.group.workers.get_disjoint_mut(victims).expect("they are two of the workers");
    tokio::join!(one.kill(), other.kill());
    let taken_over_at = pairs.lines.begun();

    let after = pairs.group.settled(others[0], UNITS, &others).await;
    let held: usize = victims.iter().map(|victim| pairs.group.loads(&before)[*victim]).sum();
    assert_eq!(moved(&before, &after), held, "exactly what they held");
    assert_eq!(pairs.group.starts() - starts, held, "what was not moved was not touched");
    victims.iter().for_each(|victim| lives[*victim] = None);
    let gone = async || pairs.group.lives(others[0]).await == lives;
    pairs.group.workers[others[0]].eventually("they alone are evicted", gone).await;
    pairs.flows(others[0], 0..PAIRS).await;
    let (_, written) = pairs.finish(others[0]).await;
    for (pair, written) in written.iter().enumerate() {
        check_one_runner(&source(pair), &written.topic, taken_over_at);
        check_one_runner(&sink(pair), &numbers(&written.file), taken_over_at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_as_soon_as_it_has_joined_loses_nothing() {
    let (mut pairs, _) = Pairs::start(three().await).await;
    let lives = pairs.group.lives(0).await;
    let young = pairs.group.launch();
    for round in 0..ROUNDS {
        if round > 0 {
            pairs.group.workers[young].start();
        }
        let group = &pairs.group;
        // First when its record is there, then when it holds something.
        let joined = async || group.lives(0).await[young].is_some();
        group.workers[young].eventually("it has joined", joined).await;
        let has_a_unit = async || group.places(0).await.values().any(|(at, _)| at == id(&group.workers[young]));
        if round > 0 {
            group.workers[young].eventually("it holds a unit", has_a_unit).await;
        }
        pairs.group.workers[young].kill().await;

        let evicted = async || pairs.group.lives(0).await[young].is_none();
        pairs.group.workers[0].eventually("it is evicted", evicted).await;
        pairs.group.settled(0, UNITS, &[0, 1, 2]).await;
        pairs.flows(0, 0..PAIRS).await;
    }
    assert_eq!(pairs.group.lives(0).await[..3], lives, "nobody else was evicted");
    let taken_over_at = pairs.lines.begun();
    let (_, written) = pairs.finish(0).await;
    for (pair, written) in written.iter().enumerate() {
        check_one_runner(&source(pair), &written.topic, taken_over_at);
        check_one_runner(&sink(pair), &numbers(&written.file), taken_over_at);
    }
}
