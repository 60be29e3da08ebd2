//! What a worker does not take for granted: that the log takes records, that statuses speak of this config topic, that others wait as long as it does.

use super::*;

#[test]
fn a_write_that_was_given_up_ends_the_lease_until_another_one_is_acknowledged() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.wanted.push(unit("connector-d", NO_SET));
    assert_eq!(worker.fold(), ["claim connector-d #2"]);
    assert_eq!(worker.wait(5000), ["suspend connector-c #1"]);
    let said = worker.fail("claim connector-d #2", true);
    assert_eq!(said, ["nothing in 0"], "there is nothing else to write without a lease");
    assert_eq!(worker.wait(5000), NOTHING);
    assert_eq!(worker.fail("nothing in 0", true), ["nothing in 0"]);
    assert_eq!(worker.ack("nothing in 0"), ["resume connector-c #1", "claim connector-d #3"]);
}

/// Another partition may have another leader, which has been replaced.
#[test]
fn what_one_partition_takes_says_nothing_of_another() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.wait(250);
    let begun = Millis(worker.now);
    assert_eq!(worker.give(Event::GivenUp { partition: None, since: begun }), NOTHING);
    worker.wanted.push(unit("connector-d", NO_SET));
    assert_eq!(worker.fold(), ["claim connector-d #2"]);
    worker.ack("claim connector-d #2");
    worker.read("connector-d", record(LIFE, 2, true, 8, NO_SET));
    assert_eq!(worker.wait(4999), ["nothing"], "of the config topic");
    assert_eq!(worker.wait(1), ["suspend connector-c #1", "suspend connector-d #2"]);
    assert_eq!(worker.ack("nothing"), ["resume connector-c #1", "resume connector-d #2"]);
}

#[test]
fn a_comparison_that_says_no_was_answered_by_the_log() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.wanted.push(unit("connector-d", NO_SET));
    worker.fold();
    // Whatever was asked for: the control plane does not know which requests compare.
    let token = worker.token("claim connector-d #2");
    worker.give(Event::AppendFailed { token, failure: AppendFailure::Refused, error: "no".into() });
    let said = worker.wait(500);
    assert_eq!(said, ["claim connector-d #3"]);
    worker.ack("claim connector-d #3");
    worker.read("connector-d", record(LIFE, 3, true, 8, NO_SET));
    assert!(worker.wait(6000).iter().all(|said| !said.starts_with("suspend")));
}

/// One that takes no records, since it has too few replicas perhaps, would stop the units of all one after the other.
#[test]
fn a_partition_that_takes_no_records_stops_its_own_units_alone() {
    for (partition, suspends) in [(1, false), (0, true)] {
        let mut worker = Scenario::running("connector-c", NO_SET);
        worker.wait(250);
        worker.give(Event::GivenUp { partition: Some(partition), since: Millis(worker.now) });
        let said = [worker.wait(4999), worker.wait(1)].concat();
        let nothing = format!("nothing in {partition}");
        assert!(said.contains(&nothing), "{said:?}");
        assert_eq!(said.contains(&"suspend connector-c #1".to_owned()), suspends, "{said:?}");
        assert!(worker.plane.is_leased(Millis(worker.now)), "nobody is evicted for it");
        let again = [worker.fail(&nothing, true), worker.wait(2000)].concat();
        assert_eq!(again, [nothing.as_str()], "asked again, once");
        assert_eq!(worker.ack(&nothing).contains(&"resume connector-c #1".to_owned()), suspends);
    }
}

#[test]
fn statuses_that_name_another_config_topic_stop_nobody() {
    let mut worker = Scenario::joined();
    worker.read("connector-old", record(3, 1, false, 5000, NO_SET));
    worker.read("connector-c", record(3, 1, false, 4000, NO_SET));
    worker.wanted = vec![unit("connector-c", NO_SET), unit("connector-d", NO_SET)];
    assert_eq!(worker.fold(), ["claim connector-d #1"]);
    worker.ack("claim connector-d #1");
    assert_eq!(worker.read("connector-d", record(LIFE, 1, true, 8, NO_SET)), NOTHING, "this worker may lag");
    let said = worker.wait(1000);
    assert_eq!(said[0], "foreign connector-c @4000 of 2", "{said:?}");
    for expected in ["start connector-d #1", "claim connector-c #2"] {
        assert!(said.iter().any(|said| said == expected), "{expected}: {said:?}");
    }
}

/// Its claim has replaced that of a life that is over, and had this fence time; it may still run the unit.
fn contested(fence_ms: Option<u64>) -> Scenario {
    let mut worker = Scenario::joined();
    worker.members.push(Member { fence_ms, ..member("other", 3, Nonce(99)) });
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    worker.read("connector-c", held(3, 1));
    worker.members.pop();
    assert_eq!(worker.fold(), ["claim connector-c #1"]);
    worker.ack("claim connector-c #1");
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), NOTHING);
    worker
}

#[test]
fn a_claim_is_released_when_nobody_can_run_the_unit_that_it_replaced() {
    let mut worker = contested(None);
    assert_eq!(worker.give(Event::Shutdown { deadline: Millis(worker.now + 20_000) }), ["draining"]);
    worker.ack("draining");
    worker.members[0].state = MemberState::Draining;
    worker.fold();
    assert_eq!(worker.wait(1099), NOTHING, "the other one may run it");
    let release = format!("release connector-c #1 at {}", worker.config - 1);
    assert_eq!(worker.wait(1), [release.as_str()]);
}

#[test]
fn who_has_another_fence_time_is_not_joined() {
    let joins = |theirs: Option<u64>| {
        let mut worker = Scenario::new();
        worker.java(false);
        worker.members = vec![Member { fence_ms: theirs, ..member("other", 3, Nonce(99)) }];
        worker.fold();
        worker.catch_up();
        let mut said = worker.probed("other", 3, true);
        said.extend(worker.wait(1250));
        said
    };
    assert!(joins(Some(1000)).contains(&"join".to_owned()));
    assert!(joins(None).contains(&"join".to_owned()), "a version that does not say");
    let said = joins(Some(5000));
    let refused = "exit: worker other of this group has worker.fence.timeout.ms=5000, and this one 1000";
    assert!(said.len() == 1 && said[0].starts_with(refused), "{said:?}");
}

fn stranger(id: &str, incarnation: i64) -> Member {
    Member { group_id: Some("theirs".into()), ..member(id, incarnation, Nonce(99)) }
}

const STRANGER: &str =
    "exit: config.storage.topic is used by group.id=theirs: its worker other is there. This worker has group.id=ours";

#[test]
fn a_living_worker_of_another_group_is_not_joined() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = vec![stranger("other", 3)];
    worker.fold();
    worker.catch_up();
    let said = worker.probed("other", 3, true);
    assert!(said.len() == 1 && said[0].starts_with(STRANGER), "{said:?}");
}

#[test]
fn the_topics_of_a_group_that_has_died_go_to_another_one() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = vec![stranger("other", 3)];
    worker.fold();
    worker.catch_up();
    for _ in 0..3 {
        worker.probed("other", 3, false);
        worker.wait(100);
    }
    let said: Vec<String> = (0..6).flat_map(|_| worker.wait(250)).collect();
    assert!(said.contains(&"join".to_owned()), "{said:?}");
    assert!(worker.fold_own(LIFE).contains(&"joined 7".to_owned()));
}

/// Neither has read of the other when it joins.
#[test]
fn of_two_groups_that_begin_at_once_the_later_one_gives_way() {
    let mut worker = Scenario::joined();
    worker.members.push(stranger("other", LIFE + 1));
    assert_eq!(worker.fold(), ["probe other 8"]);
    let mut worker = Scenario::joined();
    worker.members.push(stranger("other", LIFE - 1));
    let said = worker.fold();
    assert!(said.len() == 1 && said[0].starts_with(STRANGER), "{said:?}");
}

/// One that is dead may have had a longer one, and act that long.
#[test]
fn the_longest_fence_time_is_waited_for() {
    let mut worker = contested(Some(5000));
    assert_eq!(worker.wait(5299), NOTHING);
    assert_eq!(worker.wait(1), ["start connector-c #1"]);
}
