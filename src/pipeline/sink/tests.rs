//! The pump of a sink over the cluster in memory, with paused time.

mod rig;

use std::time::Duration;

use connect_api::ConnectError;

use self::rig::{Rig, World, at, offsets, retriable};
use super::*;
use crate::backend::memory::Request;

const SECOND: Duration = Duration::from_secs(1);

// ---- brokers that do not answer ----

#[tokio::test(start_paused = true)]
async fn a_lost_position_is_reset_when_the_brokers_answer_again() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 2);
    rig.start();
    rig.until("the first records arrive", |world| world.puts.len() == 2).await;
    rig.lease(false);
    rig.pass(2 * SECOND).await;
    rig.write("t", 0, 5);
    rig.hooks.truncate_before("t", 0, 4);
    rig.faults.fail_requests(Request::Bounds, 5, retriable());
    rig.lease(true);
    rig.until("what is left arrives", |world| world.offsets_of("t", 0) == [0, 1, 4, 5, 6]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_broker() {
    let mut rig = Rig::new(&["t"]);
    rig.faults.set_down(true);
    rig.start();
    rig.pass(SECOND).await;
    assert!(rig.stop().await < 3 * SECOND, "it waited for the list of topics");

    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    let (settings, id) = (Default::default(), "open");
    let writer = rig.backend.transactional_writer(&settings, id, SECOND).await.unwrap();
    writer.begin().unwrap();
    writer.send_offsets("connect-rig", &[(at("t", 0), 0)]).await.unwrap();
    rig.start();
    rig.pass(SECOND).await;
    assert!(rig.stop().await < 3 * SECOND, "it waited for committed offsets");
}

#[tokio::test(start_paused = true)]
async fn an_outage_at_the_start_fails_no_task() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    for request in [Request::Topics, Request::Committed, Request::Bounds] {
        rig.faults.fail_requests(request, 4, retriable());
    }
    rig.start();
    rig.until("the record arrives", |world| world.puts.len() == 1).await;
    rig.stop().await;
}

// ---- topics that come and go ----

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_closed_and_the_others_go_on() {
    let mut rig = Rig::new(&["a", "b"]);
    rig.topic("a", 1).await;
    rig.topic("b", 2).await;
    rig.write("a", 0, 1);
    rig.write("b", 1, 1);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 2).await;
    rig.delete("b").await;
    rig.until("b is closed", |world| world.saw("close b-0") && world.saw("close b-1")).await;
    rig.write("a", 0, 1);
    rig.until("a goes on", |world| world.offsets_of("a", 0) == [0, 1]).await;
    let world = rig.world().events.clone();
    let place = |event: &str| world.iter().position(|seen| seen == event).unwrap();
    assert!(place("flush b-1=1") < place("close b-1"), "what was put is flushed before: {world:?}");
    rig.stop().await;
    assert_eq!(rig.world().events.iter().filter(|event| event.starts_with("close b")).count(), 2);
    assert_eq!(rig.committed("a", 0).await, Some(2));
    assert_eq!(rig.committed("b", 1).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_anew_is_read_from_its_beginning_also_with_fewer_partitions() {
    for (partitions, records) in [(3, 1), (1, 1), (1, 9)] {
        let mut rig = Rig::new(&["t", "other"]);
        rig.topic("t", 3).await;
        rig.topic("other", 1).await;
        for partition in 0..3 {
            rig.write("t", partition, 4);
        }
        rig.start();
        rig.until("records arrive", |world| world.puts.len() == 12).await;
        rig.until_committed("t", 0, 4).await;
        rig.delete("t").await;
        rig.topic("t", partitions).await;
        // A commit that was under way when the topic was deleted.
        rig.backend.committed_offsets().commit("connect-rig", &[(at("t", 0), 4)]).await.unwrap();
        rig.write("t", 0, records);
        let expected: Vec<i64> = (0..4).chain(0..records as i64).collect();
        rig.until("all new records arrive", |world| world.offsets_of("t", 0) == expected).await;
        rig.until_committed("t", 0, records as i64).await;
        assert!(rig.world().saw("close t-2"));
        rig.write("other", 0, 1);
        rig.until("the other goes on", |world| world.offsets_of("other", 0) == [0]).await;
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn new_topics_and_partitions_are_picked_up_and_move_no_other() {
    let mut rig = Rig::new(&["t", "late"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    rig.start();
    rig.until("the first record arrives", |world| world.puts.len() == 1).await;
    rig.topic("late", 1).await;
    rig.write("late", 0, 1);
    rig.until("the late topic is read", |world| world.offsets_of("late", 0) == [0]).await;
    rig.hooks.grow("t", 2);
    rig.write("t", 1, 1);
    rig.until("the new partition is read", |world| world.offsets_of("t", 1) == [0]).await;
    let opened: Vec<_> = rig.world().events.iter().filter(|event| event.starts_with("open")).cloned().collect();
    assert_eq!(opened, ["open t-0", "open late-0", "open t-1"]);
    rig.stop().await;
}

// ---- rewinds ----

#[tokio::test(start_paused = true)]
async fn rewinds_wait_for_their_partition() {
    for in_start in [true, false] {
        let mut rig = Rig::new(&["t", "late"]);
        rig.topic("t", 1).await;
        rig.write("t", 0, 4);
        let wanted = offsets(&[("t", 0, 2), ("late", 0, 1)]);
        match in_start {
            true => rig.world().start_rewinds = wanted,
            false => rig.world().open_rewinds = wanted,
        }
        rig.start();
        rig.until("records arrive", |world| !world.puts.is_empty()).await;
        assert_eq!(rig.world().offsets_of("t", 0), [2, 3]);
        rig.topic("late", 1).await;
        rig.write("late", 0, 3);
        rig.until("late records arrive", |world| !world.offsets_of("late", 0).is_empty()).await;
        assert_eq!(rig.world().offsets_of("late", 0), [1, 2]);
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rewind_to_where_nothing_is_falls_back_to_the_reset() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 2);
    rig.world().put_rewinds = offsets(&[("t", 0, 100)]);
    rig.start();
    rig.until("all records come again", |world| world.offsets_of("t", 0) == [0, 1, 0, 1]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rewind_that_the_broker_cannot_do_yet_is_tried_again() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 3);
    rig.world().put_rewinds = offsets(&[("t", 0, 1)]);
    rig.faults.fail_requests(Request::Seek, 3, retriable());
    rig.start();
    rig.until("the records come again", |world| world.offsets_of("t", 0) == [0, 1, 2, 1, 2]).await;
    rig.stop().await;
    assert_eq!(rig.committed("t", 0).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_rewind_that_is_refused_fails_the_task_and_commits_nothing_beyond() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 3);
    rig.world().put_rewinds = offsets(&[("t", 0, 1)]);
    rig.faults.fail_requests(Request::Seek, 1, BackendError::Refused("no".into()));
    rig.start();
    let failure = rig.end().await.unwrap_err();
    assert_eq!(failure.phase, Phase::Consume, "{failure:?}");
    assert!(rig.committed("t", 0).await <= Some(1), "what the task wanted again is not committed");
}

#[tokio::test(start_paused = true)]
async fn a_rewind_of_what_the_task_does_not_read_fails_it() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    rig.world().put_rewinds = offsets(&[("elsewhere", 7, 1)]);
    rig.start();
    let failure = rig.end().await.unwrap_err();
    assert!(failure.message.contains("elsewhere-7"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_flush_the_reader_goes_back_as_soon_as_it_can() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 2);
    rig.world().pre_commit.push_back(Err(ConnectError::fatal("disk full")));
    rig.faults.fail_requests(Request::Seek, 3, retriable());
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 2).await;
    rig.commit.raise();
    rig.until("they come again", |world| world.offsets_of("t", 0) == [0, 1, 0, 1]).await;
    rig.until_committed("t", 0, 2).await;
    rig.stop().await;
}

// ---- commits ----

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_is_tried_again_while_paused() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 3);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 3).await;
    rig.faults.fail_requests(Request::Commit, 2, retriable());
    rig.steer(Directive::Pause);
    rig.until_committed("t", 0, 3).await;
    assert_eq!(rig.world().puts.len(), 3);
    rig.steer(Directive::Run);
    rig.write("t", 0, 1);
    rig.until("it goes on", |world| world.puts.len() == 4).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_commit_is_under_way_at_a_time() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    rig.start();
    rig.until("a record arrives", |world| world.puts.len() == 1).await;
    rig.faults.hold_commits(true);
    for count in 2..4 {
        rig.commit.raise();
        // Longer than the pump waits for the answer.
        rig.pass(6 * SECOND).await;
        rig.write("t", 0, 1);
        rig.until("records go on", |world| world.puts.len() == count).await;
    }
    rig.commit.raise();
    rig.pass(6 * SECOND).await;
    assert_eq!(rig.faults.held_commits(), 1, "a later commit could land before it and be undone by it");
    rig.faults.hold_commits(false);
    rig.until_committed("t", 0, 3).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_commit_waits_for_the_one_under_way() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    rig.start();
    rig.until("a record arrives", |world| world.puts.len() == 1).await;
    rig.faults.hold_commits(true);
    rig.commit.raise();
    rig.pass(6 * SECOND).await;
    rig.write("t", 0, 1);
    rig.until("a record arrives", |world| world.puts.len() == 2).await;
    rig.steer(Directive::Stop { deadline: Instant::now() + 2 * SECOND, commit: true });
    rig.pass(SECOND).await;
    assert_eq!(rig.faults.held_commits(), 1);
    rig.faults.hold_commits(false);
    rig.end().await.unwrap();
    assert_eq!(rig.committed("t", 0).await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn only_what_pre_commit_allows_and_what_was_put_is_committed() {
    let mut rig = Rig::new(&["t", "u"]);
    rig.topic("t", 1).await;
    rig.topic("u", 1).await;
    rig.write("t", 0, 3);
    rig.write("u", 0, 3);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 6).await;
    rig.world().allowed = Some(offsets(&[("t", 0, 2), ("u", 0, 9), ("elsewhere", 7, 1)]));
    rig.commit.raise();
    rig.until("they are flushed", |world| world.saw("flush t-0=3")).await;
    rig.pass(SECOND).await;
    assert_eq!((rig.committed("t", 0).await, rig.committed("u", 0).await), (Some(2), None));
    rig.stop().await;
}

/// Another worker may run the task by the time its flush returns.
#[tokio::test(start_paused = true)]
async fn nothing_is_committed_when_the_lease_ends_during_a_flush() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 3);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 3).await;
    rig.world().pre_commit_takes = Some(2 * SECOND);
    rig.commit.raise();
    rig.until("they are flushed", |world| world.saw("flush t-0=3")).await;
    rig.lease(false);
    rig.pass(5 * SECOND).await;
    assert_eq!(rig.committed("t", 0).await, None);
    rig.lease(true);
    rig.until_committed("t", 0, 3).await;
    rig.stop().await;
}

/// Brokers stall while a task ends in order: what it has put is not delivered again for that.
#[tokio::test(start_paused = true)]
async fn the_last_commit_waits_for_a_lease_that_comes_back() {
    for during_flush in [false, true] {
        let mut rig = Rig::new(&["t"]);
        rig.topic("t", 1).await;
        rig.write("t", 0, 3);
        rig.start();
        rig.until("records arrive", |world| world.puts.len() == 3).await;
        if during_flush {
            rig.world().pre_commit_takes = Some(SECOND);
        } else {
            rig.lapse();
        }
        rig.steer(Directive::Stop { deadline: Instant::now() + 20 * SECOND, commit: true });
        if during_flush {
            rig.until("they are flushed", |world| world.saw("flush t-0=3")).await;
            rig.lapse();
        }
        rig.pass(5 * SECOND).await;
        assert_eq!(rig.committed("t", 0).await, None, "another worker may run the task by now");
        rig.lease(true);
        rig.end().await.unwrap();
        assert_eq!(rig.committed("t", 0).await, Some(3), "during the flush: {during_flush}");
    }
}

// ---- put ----

/// The lease ends while a read waits for records.
#[tokio::test(start_paused = true)]
async fn nothing_is_put_without_a_lease() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    rig.start();
    rig.until("the first record arrives", |world| world.puts.len() == 1).await;
    rig.lapse();
    rig.write("t", 0, 1);
    rig.pass(5 * SECOND).await;
    assert_eq!(rig.world().puts.len(), 1, "another worker may run the task by now");
    rig.lease(true);
    rig.until("it arrives when the lease is back", |world| world.puts.len() == 2).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_put_is_retried_with_the_same_batch_and_commits_go_on_meanwhile() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 2);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 2).await;
    {
        let mut world = rig.world();
        world.put_timeout = Some(10 * SECOND);
        world.put.extend([Err(ConnectError::retriable("busy")), Err(ConnectError::retriable("busy"))]);
    }
    rig.write("t", 0, 3);
    rig.until("put fails", |world| world.put_calls == 2).await;
    let began = Instant::now();
    rig.write("t", 0, 1);
    rig.commit.raise();
    rig.until("what was put before is flushed", |world| world.saw("flush t-0=2")).await;
    rig.until_committed("t", 0, 2).await;
    assert!(began.elapsed() < 10 * SECOND);
    assert_eq!(rig.world().puts.len(), 2, "nothing is read meanwhile");
    rig.until("it is given again", |world| world.offsets_of("t", 0) == [0, 1, 2, 3, 4, 5]).await;
    assert!(began.elapsed() > 19 * SECOND, "the task asked for more time: {:?}", began.elapsed());
    rig.stop().await;
    assert_eq!(rig.committed("t", 0).await, Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_loses_the_records_of_a_deleted_topic() {
    let mut rig = Rig::new(&["a", "b"]);
    rig.topic("a", 1).await;
    rig.topic("b", 1).await;
    rig.start();
    rig.until("both are open", |world| world.saw("open a-0") && world.saw("open b-0")).await;
    rig.lease(false);
    rig.pass(2 * SECOND).await;
    rig.write("a", 0, 1);
    rig.write("b", 0, 1);
    {
        let mut world = rig.world();
        world.put_timeout = Some(120 * SECOND);
        world.put.push_back(Err(ConnectError::retriable("busy")));
    }
    rig.lease(true);
    rig.until("put fails", |world| world.put_calls == 1).await;
    rig.delete("b").await;
    rig.until("b is closed", |world| world.saw("close b-0")).await;
    rig.until("the batch is given again", |world| !world.puts.is_empty()).await;
    assert_eq!(rig.world().puts, [(at("a", 0), 0)]);
    rig.stop().await;
}

// ---- idle ----

#[tokio::test(start_paused = true)]
async fn an_idle_task_gets_an_empty_batch_now_and_then_or_as_often_as_it_asks() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.start();
    rig.until("empty batches come", |world| world.empty_puts.len() >= 3).await;
    let gaps = |world: &World| world.empty_puts.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    let within = |gap: &Duration, least, most| *gap >= SECOND * least && *gap <= SECOND * most;
    assert!(gaps(&rig.world()).iter().all(|gap| within(gap, 10, 11)), "{:?}", gaps(&rig.world()));
    rig.world().put_timeout = Some(2 * SECOND);
    let before = rig.world().empty_puts.len() + 1;
    rig.until("more come", |world| world.empty_puts.len() >= before + 3).await;
    assert!(gaps(&rig.world())[before..].iter().all(|gap| within(gap, 2, 3)), "{:?}", gaps(&rig.world()));
    rig.stop().await;
}

// ---- the end ----

#[tokio::test(start_paused = true)]
async fn a_stop_that_hangs_hides_no_failure() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 1);
    rig.world().put.push_back(Err(ConnectError::fatal("the first failure")));
    rig.world().stop_hangs = true;
    rig.start();
    rig.until("it stops", |world| world.saw("stop")).await;
    assert_eq!(rig.phase.current().0, Phase::Stop);
    let failure = rig.phase.failure().expect("it is known before the end");
    assert_eq!((failure.phase, &*failure.message), (Phase::Put, "the first failure"));
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_keeps_no_other_waiting() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 5).await;
    for partition in 0..5 {
        rig.write("t", partition, 1);
    }
    rig.faults.set_leaderless(Some(at("t", 3)));
    rig.start();
    rig.until("all others arrive", |world| world.puts.len() == 4).await;
    assert!(!rig.world().saw("open t-3"));
    rig.faults.set_leaderless(None);
    rig.until("it arrives when it has one", |world| world.offsets_of("t", 3) == [0]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_that_nobody_answers_for_keeps_no_other_waiting() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 2).await;
    rig.write("t", 0, 4);
    rig.write("t", 1, 1);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 5).await;
    rig.faults.set_leaderless(Some(at("t", 0)));
    rig.hooks.lose_from("t", 0, 1);
    rig.pass(5 * SECOND).await;
    rig.write("t", 1, 1);
    rig.until("the other goes on", |world| world.offsets_of("t", 1) == [0, 1]).await;
    rig.faults.set_leaderless(None);
    rig.until("it begins anew", |world| world.offsets_of("t", 0) == [0, 1, 2, 3, 0]).await;
    rig.stop().await;
}

/// The commit of a former topic that is still under way would pass for one of the new topic, and records in front of it for committed.
#[tokio::test(start_paused = true)]
async fn a_late_commit_of_a_former_topic_does_not_count() {
    let mut rig = Rig::new(&["t"]);
    rig.topic("t", 1).await;
    rig.write("t", 0, 4);
    rig.start();
    rig.until("records arrive", |world| world.puts.len() == 4).await;
    rig.faults.hold_commits(true);
    rig.commit.raise();
    rig.pass(6 * SECOND).await;
    rig.delete("t").await;
    rig.topic("t", 1).await;
    // More than the former topic had: there is a record where the commit would go on.
    rig.write("t", 0, 6);
    rig.pass(40 * SECOND).await;
    rig.faults.hold_commits(false);
    let arrived = |times: usize| {
        let once = (0..4).chain((0..times).flat_map(|_| 0..6)).collect::<Vec<_>>();
        move |world: &World| world.offsets_of("t", 0) == once
    };
    rig.until("the new records arrive", arrived(1)).await;
    rig.world().pre_commit.push_back(Err(ConnectError::fatal("disk")));
    rig.commit.raise();
    rig.until("all of them come again, since their flush failed", arrived(2)).await;
    rig.stop().await;
}
