//! Workers that write to the config topic at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::topic_log::CompareError;
use super::super::turns::{GRACE, PATIENCE};
use super::transactions::Wrapped;
use super::*;

const WORKERS: usize = 5;

/// As with Kafka: a transaction takes some milliseconds, and to take the id over some hundred.
async fn busy_members(cluster: &Cluster, taken_over: &Arc<AtomicUsize>) -> Vec<Arc<ConfigStore>> {
    let mut stores = Vec::new();
    for number in 0..WORKERS {
        let slow = Wrapped {
            delay: Duration::from_millis(10),
            take_over_delay: Duration::from_millis(100),
            taken_over: taken_over.clone(),
            ..Wrapped::new(cluster.backend.clone())
        };
        stores.push(Arc::new(open_member(Arc::new(slow), &format!("w{number}")).await));
    }
    stores
}

#[tokio::test(start_paused = true)]
async fn workers_that_write_at_once_do_not_snatch_the_id_from_each_other() {
    const CLIENTS: usize = 4;
    const WRITES: usize = 25;
    let cluster = Cluster::new().await;
    let taken_over = Arc::<AtomicUsize>::default();
    let stores = busy_members(&cluster, &taken_over).await;
    let (before, turns) = (taken_over.load(Ordering::Relaxed), stores[0].snapshot().turns().ended());
    let mut clients = JoinSet::new();
    for client in 0..WORKERS * CLIENTS {
        let store = stores[client % WORKERS].clone();
        clients.spawn(async move {
            let mut longest = Duration::ZERO;
            for number in 0..WRITES {
                let begun = Instant::now();
                store.put(move |state| create(state, &format!("c-{client}-{number}"))).await.unwrap();
                longest = longest.max(begun.elapsed());
            }
            longest
        });
    }
    let longest = clients.join_all().await.into_iter().max().unwrap();
    let read_all = stores[0].log().read_to_end(LIMIT).await;
    read_all.unwrap();
    let state = stores[0].snapshot();
    assert_eq!(state.connectors().len(), WORKERS * CLIENTS * WRITES);
    let (taken_over, turns) = (taken_over.load(Ordering::Relaxed) - before, state.turns().ended() - turns);
    println!("{taken_over} times taken over in {turns} turns; the longest write took {longest:?}");
    assert!(taken_over as u64 <= turns, "taken over {taken_over} times in {turns} turns");
    // About a turn of each.
    assert!(longest < 2 * PATIENCE, "a write took {longest:?}");
    assert!(!state.turns_wait(), "{:?}", state.turns());
}

#[tokio::test(start_paused = true)]
async fn of_one_name_at_once_there_is_one_and_no_turn_is_left_over() {
    let cluster = Cluster::new().await;
    let taken_over = Arc::<AtomicUsize>::default();
    let stores = busy_members(&cluster, &taken_over).await;
    for round in 0..10 {
        let before = taken_over.load(Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for store in &stores {
            let store = store.clone();
            clients.spawn(async move { store.put(move |state| create(state, &format!("same-{round}"))).await });
        }
        let outcomes = clients.join_all().await;
        let taken = |outcome: &&Result<_, _>| matches!(outcome, Err(CompareError::Rejected(_)));
        assert_eq!(outcomes.iter().filter(taken).count(), WORKERS - 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let taken_over = taken_over.load(Ordering::Relaxed) - before;
        assert!(taken_over <= 1, "those who are too late need no transaction: taken over {taken_over} times");
    }
    stores[0].log().read_to_end(LIMIT).await.unwrap();
    assert!(!stores[0].snapshot().turns_wait());
}

/// A name comes free while the writer gives its turn back.
#[tokio::test(start_paused = true)]
async fn who_is_told_that_it_was_written_finds_it() {
    let cluster = Cluster::new().await;
    let [other, store] =
        [open_member(cluster.backend.clone(), "other").await, open_member(cluster.backend.clone(), "w").await];
    let mut refused = 0;
    for taken in 1..6 {
        let name = format!("c-{taken}");
        // The other one has the id.
        other.put(move |state| create(state, &format!("other-{taken}"))).await.unwrap();
        let (asked, wanted) = (AtomicUsize::new(0), name.clone());
        let check = move |state: &ClusterState| match asked.fetch_add(1, Ordering::Relaxed) < taken {
            true => Err("taken"),
            false => Ok(create(state, &wanted).unwrap()),
        };
        match store.put(check).await {
            Ok(_) => assert!(store.snapshot().connector(&name).is_some(), "after {taken} looks"),
            Err(CompareError::Rejected(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
}

#[tokio::test(start_paused = true)]
async fn who_ends_while_it_waits_is_waited_for_once_and_who_is_evicted_not_at_all() {
    let cluster = Cluster::new().await;
    for is_member in [true, false] {
        let dead = open_configs(cluster.backend.clone()).await;
        if is_member {
            dead.append(&plan::member_joined("dead", member(1)), LIMIT).await.unwrap();
        } else {
            dead.append(&plan::member_gone("dead"), LIMIT).await.unwrap();
        }
        dead.append(&ConfigRecord::Turn("dead".into(), true), LIMIT).await.unwrap();
        let store = open_member(cluster.backend.clone(), &format!("w-{is_member}")).await;
        assert!(store.snapshot().turns_wait());
        let begun = Instant::now();
        store.put(move |state| create(state, &format!("first-{is_member}"))).await.unwrap();
        let waited = begun.elapsed();
        assert_eq!(waited >= PATIENCE, is_member, "{waited:?}");
        assert!(waited >= GRACE, "{waited:?}");
        store.put(move |state| create(state, &format!("second-{is_member}"))).await.unwrap();
        assert!(begun.elapsed() < waited + GRACE, "the second write waits again");
        assert!(!store.snapshot().turns_wait());
    }
}

#[tokio::test(start_paused = true)]
async fn the_id_is_taken_for_nothing_once_and_without_a_transaction() {
    let cluster = Cluster::new().await;
    let taken_over = Arc::<AtomicUsize>::default();
    let counting = || Wrapped { taken_over: taken_over.clone(), ..Wrapped::new(cluster.backend.clone()) };
    let lonely = open_member(Arc::new(counting()), "lonely").await;
    let before = lonely.position();
    lonely.take_id().await.unwrap();
    assert_eq!((taken_over.load(Ordering::Relaxed), lonely.position()), (1, before));
    lonely.put(|state| create(state, "first")).await.unwrap();
    assert_eq!(taken_over.load(Ordering::Relaxed), 1, "the first write has a writer");

    let second = open_member(Arc::new(counting()), "second").await;
    let before = second.position();
    second.take_id().await.unwrap();
    assert_eq!(taken_over.load(Ordering::Relaxed), 2);
    // It said that it waits, and that it does not any more. A transaction would end in a marker.
    assert_eq!((second.position(), second.snapshot().turns_wait()), (before + 2, false));
    lonely.put(|state| create(state, "second")).await.unwrap();
    assert!(!lonely.snapshot().turns_wait());
}

#[tokio::test(start_paused = true)]
async fn who_may_not_use_the_id_says_so_until_it_may_and_keeps_nobody_waiting() {
    let cluster = Cluster::new().await;
    let refuses = Arc::new(AtomicBool::new(true));
    let refused = Wrapped { refuses: refuses.clone(), ..Wrapped::new(cluster.backend.clone()) };
    let (refused, other) =
        (open_member(Arc::new(refused), "refused").await, open_member(cluster.backend.clone(), "other").await);
    let begun = Instant::now();
    assert_eq!(refused.refusal(), None);
    let errors = [
        refused.take_id().await.unwrap_err().to_string(),
        refused.put(|state| create(state, "a")).await.unwrap_err().to_string(),
        refused.refusal().unwrap().to_string(),
    ];
    for error in errors {
        assert!(error.contains(TRANSACTIONAL_ID) && error.contains("Write and Describe"), "{error}");
    }
    other.put(|state| create(state, "b")).await.unwrap();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    refuses.store(false, Ordering::Relaxed);
    refused.put(|state| create(state, "a")).await.unwrap();
    assert_eq!(refused.refusal(), None);
    assert!(!refused.snapshot().turns_wait());
}
