//! More requests than may wait for the writer thread.

use tokio::task::JoinSet;

use super::simulated_disk::Held;
use super::*;
use crate::backend::BackendError;
use crate::backend::embedded::engine::MAX_COMMANDS;

/// Requests beyond those that may wait.
const MORE: usize = 200;

/// So many commits of offsets, all asked for, while the writer thread waits for the disk.
async fn ask(backend: &EmbeddedBackend, disk: &SimulatedDisk, count: usize) -> (Held, JoinSet<Result<()>>) {
    let held = disk.hold_next_sync();
    let mut asked = JoinSet::new();
    let mut ask = |number: usize| {
        let offsets = backend.committed_offsets();
        asked.spawn(async move { offsets.commit("group", &[(TopicPartition::new(TOPIC, number as i32), 1)]).await })
    };
    ask(0);
    held.reached().await;
    (1..=count).for_each(|number| drop(ask(number)));
    // Each of them has its turn.
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
    (held, asked)
}

#[tokio::test]
async fn those_that_have_no_room_wait_for_it() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let (held, asked) = ask(&backend, &disk, MAX_COMMANDS + MORE).await;
    drop(held);
    let answers = asked.join_all().await;
    let refused = answers.iter().find(|answer| answer.is_err());
    assert!(refused.is_none(), "{refused:?}");
    assert_eq!(backend.committed_offsets().all("group").await.unwrap().len(), MAX_COMMANDS + MORE + 1);
}

#[tokio::test]
async fn who_waits_for_room_does_so_within_its_time() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let (held, asked) = ask(&backend, &disk, MAX_COMMANDS).await;
    let offsets = vec![(TopicPartition::new("late", 0), 1)];
    let commit = |reply| super::super::plan::Command::CommitOffsets { group: "group".into(), offsets, reply };
    let late = backend.store.ask(Duration::from_millis(20), "a late one", commit).await.unwrap_err();
    assert!(
        matches!(&late, BackendError::Retriable(text) if text.contains("a late one got no answer in 20 ms")),
        "{late:?}"
    );
    drop(held);
    assert!(asked.join_all().await.iter().all(Result::is_ok));
    let found = backend.committed_offsets().committed("group", &[TopicPartition::new("late", 0)]).await.unwrap();
    assert_eq!(found, [None], "it was given up before it had room");
}

/// Nobody would end it later.
#[tokio::test]
async fn the_transaction_of_a_dropped_writer_ends_also_where_there_is_no_room() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let open = backend.transactional_writer(&ClientSettings::new(), "id", PATIENCE).await.unwrap();
    open.begin().unwrap();
    open.send(&[keyed("k", Some("lost"), 1)]).await.unwrap();
    let (held, asked) = ask(&backend, &disk, MAX_COMMANDS).await;
    drop(open);
    drop(held);
    assert!(asked.join_all().await.iter().all(Result::is_ok));
    send(&writer(&backend), &[keyed("k", Some("kept"), 2)]).await;
    assert_eq!(values(&backend, Isolation::ReadCommitted).await, ["kept"]);
}
