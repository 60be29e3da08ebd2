//! Whom a worker asks whether it lives, and whom it declares gone.

use super::*;
use crate::cluster::protocol::Peer;

/// Who sees nobody although somebody is there would evict all of them.
#[test]
fn joins_others_when_one_of_its_neighbours_answers() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = ["a", "n", "o", "z"].map(|id| member(id, 3 + i64::from(id.as_bytes()[0]), Nonce(99))).into();
    worker.fold();
    assert_eq!(worker.catch_up(), ["probe n 113", "probe o 114"], "the next ones in the ring");
    assert_eq!(worker.probed("n", 113, false), NOTHING);
    assert_eq!(worker.probed("o", 114, true), NOTHING, "somebody may be leased with an older view");
    let said = worker.wait(1250);
    assert!(said.contains(&"join".to_owned()), "{said:?}");
}

impl Scenario {
    /// Lets a probe that was asked for fail as often as it takes until others are asked.
    fn silent(&mut self, id: &str, incarnation: i64) -> Vec<String> {
        let probe = format!("probe {id} {incarnation}");
        for _ in 0..2 {
            assert_eq!(self.probed(id, incarnation, false), NOTHING);
            assert_eq!(self.wait(100), [probe.as_str()]);
        }
        self.probed(id, incarnation, false)
    }

    /// Fails what was asked for, until nothing is asked any more. Returns the rest of what was said.
    fn fail_probes(&mut self, mut said: Vec<String>, ids: &[(&str, i64)]) -> Vec<String> {
        let mut rest = Vec::new();
        for _ in 0..20 {
            let (probes, others) = said.into_iter().partition::<Vec<_>, _>(|said| said.starts_with("probe"));
            rest.extend(others);
            said = Vec::new();
            for (id, incarnation) in ids {
                if probes.iter().any(|probe| probe.starts_with(&format!("probe {id} "))) {
                    said.extend(self.probed(id, *incarnation, false));
                }
            }
            said.extend(self.wait(50));
        }
        rest
    }

    fn gossip(&mut self, peers: &[(i64, bool)]) -> Vec<String> {
        let peer = |(life, leased): &(i64, bool)| Peer {
            incarnation: Incarnation(*life),
            leased: *leased,
            config: 0,
            status: Vec::new(),
        };
        self.give(Event::Peers(peers.iter().map(peer).collect()))
    }

    /// A member beside others that all answer, and nothing is due.
    fn beside(ids: &[(&str, i64)]) -> Self {
        let mut worker = Scenario::joined();
        worker.members.extend(ids.iter().map(|(id, life)| member(id, *life, Nonce(99))));
        worker.fold();
        for (id, life) in ids {
            worker.probed(id, *life, true);
        }
        worker
    }
}

#[test]
fn replaces_a_dead_holder_of_the_own_id_by_its_own_record() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = vec![member("me", 3, Nonce(99))];
    worker.fold();
    worker.catch_up();
    assert_eq!(worker.silent("me", 3), ["join"]);
    assert_eq!(worker.fold_own(LIFE), ["joined 7"]);
}

#[test]
fn removes_a_dead_neighbour_by_compare_and_append_once_it_is_a_member() {
    let mut worker = Scenario::new();
    worker.java(false);
    worker.members = vec![member("other", 3, Nonce(99))];
    worker.fold();
    worker.catch_up();
    assert_eq!(worker.silent("other", 3), NOTHING, "nobody lives");
    assert_eq!(worker.wait(1250), ["probe other 3", "join"], "it may come back");
    worker.probed("other", 3, false);
    assert_eq!(
        worker.fold_own(LIFE),
        ["joined 7", "probe other 3"],
        "this worker may have been the one that was cut off"
    );
    assert_eq!(worker.silent("other", 3), ["tombstone other 3"]);
    assert_eq!(worker.fail("tombstone other 3", true), NOTHING);
    assert_eq!(worker.wait(1000), ["probe other 3"], "asked anew before the next attempt");
    assert_eq!(worker.silent("other", 3), ["tombstone other 3"]);
    assert_eq!(worker.ack("tombstone other 3"), NOTHING, "acknowledged is not folded");
    worker.members.retain(|member| member.id == "me".into());
    assert_eq!(worker.fold(), NOTHING);
}

#[test]
fn asks_others_before_it_declares_anybody_gone() {
    let mut worker = Scenario::beside(&[("n", 20), ("o", 21), ("p", 22)]);
    let about = |worker: &mut Scenario, answer| {
        worker.give(Event::ProbeAnswered { worker: "n".into(), incarnation: Incarnation(20), answer })
    };
    // The others are asked as well when it falls silent; they answer.
    let silent = |worker: &mut Scenario| {
        for _ in 0..2 {
            assert_eq!(about(worker, ProbeAnswer::Silence).iter().filter(|said| said.contains("probe n")).count(), 0);
            worker.probed("o", 21, true);
            assert!(worker.wait(100).contains(&"probe n 20".to_owned()));
        }
        about(worker, ProbeAnswer::Silence)
    };
    assert_eq!(worker.wait(1000), ["probe n 20", "probe o 21"]);
    worker.probed("o", 21, true);
    assert_eq!(silent(&mut worker), ["probe n 20 via o", "probe n 20 via p"]);
    assert_eq!(about(&mut worker, ProbeAnswer::NotReached), NOTHING);
    assert_eq!(about(&mut worker, ProbeAnswer::Alive), NOTHING, "the link is cut, not the worker");
    assert!(worker.wait(1000).contains(&"probe n 20".to_owned()), "and it is asked itself again");
    worker.probed("o", 21, true);
    assert_eq!(silent(&mut worker), ["probe n 20 via o", "probe n 20 via p"]);
    assert_eq!(about(&mut worker, ProbeAnswer::NotReached), NOTHING);
    assert_eq!(about(&mut worker, ProbeAnswer::Silence), ["tombstone n 20"]);
}

impl Scenario {
    fn about_n(&mut self, answer: ProbeAnswer) -> Vec<String> {
        self.give(Event::ProbeAnswered { worker: "n".into(), incarnation: Incarnation(20), answer })
    }
}

/// A machine that is silent lets each question run into its time-out.
#[test]
fn whom_gossip_has_lost_is_asked_by_all_at_once() {
    let others = ["probe n 20 via o", "probe n 20 via p"];
    for is_asked_already in [false, true] {
        let mut worker = Scenario::beside(&[("n", 20), ("o", 21), ("p", 22)]);
        worker.gossip(&[(20, true), (21, true), (22, true)]);
        let mut said = if is_asked_already { worker.wait(1000) } else { Vec::new() };
        said.extend(worker.gossip(&[(21, true), (22, true)]));
        assert_eq!(said.iter().filter(|said| *said == "probe n 20").count(), 1);
        assert!(others.iter().all(|other| said.iter().any(|said| said == other)), "{said:?}");
        worker.probed("o", 21, true);
        worker.probed("p", 22, true);
        worker.about_n(ProbeAnswer::NotReached);
        worker.about_n(ProbeAnswer::Silence);
        assert_eq!(worker.about_n(ProbeAnswer::NotReached), ["tombstone n 20"]);
    }
}

#[test]
fn one_that_reaches_it_is_enough() {
    let mut worker = Scenario::beside(&[("n", 20), ("o", 21), ("p", 22)]);
    worker.gossip(&[(20, true), (21, true), (22, true)]);
    worker.gossip(&[(21, true), (22, true)]);
    for answer in [ProbeAnswer::NotReached, ProbeAnswer::Alive, ProbeAnswer::Silence] {
        worker.about_n(answer);
        worker.probed("o", 21, true);
    }
    assert_eq!(worker.catch_up(), NOTHING);
    assert!(worker.wait(1000).contains(&"probe n 20".to_owned()), "not before the pause");
}

/// What is not answered at all counts as silence.
#[test]
fn questions_without_any_answer_are_given_up() {
    let mut worker = Scenario::beside(&[("n", 20), ("o", 21), ("p", 22)]);
    worker.gossip(&[(20, true), (21, true), (22, true)]);
    worker.gossip(&[(21, true), (22, true)]);
    worker.probed("o", 21, true);
    worker.about_n(ProbeAnswer::NotReached);
    worker.catch_up();
    let said: Vec<String> = (0..5).flat_map(|_| worker.wait(1000)).collect();
    assert!(said.contains(&"tombstone n 20".to_owned()), "{said:?}");
}

#[test]
fn where_nobody_else_is_heard_a_lost_one_is_asked_twice() {
    let mut worker = Scenario::beside(&[("n", 20)]);
    worker.gossip(&[(20, true)]);
    assert_eq!(worker.gossip(&[]), ["probe n 20"]);
    assert_eq!(worker.about_n(ProbeAnswer::Silence), NOTHING);
    assert_eq!(worker.wait(100), ["probe n 20"]);
    assert_eq!(worker.about_n(ProbeAnswer::Silence), ["tombstone n 20"]);
}

#[test]
fn when_one_falls_silent_the_others_are_asked() {
    let mut worker = Scenario::beside(&[("n", 20), ("o", 21)]);
    worker.now += 500;
    worker.give(Event::Suspected { incarnation: Incarnation(20) });
    assert_eq!(worker.probed("n", 20, false), ["probe o 21"]);
    assert_eq!(worker.probed("o", 21, true), NOTHING);
}

#[test]
fn who_is_suspected_is_asked_at_once() {
    let mut worker = Scenario::beside(&[("n", 20)]);
    worker.catch_up();
    assert_eq!(worker.give(Event::Suspected { incarnation: Incarnation(20) }), ["probe n 20"]);
    assert_eq!(worker.give(Event::Suspected { incarnation: Incarnation(20) }), NOTHING, "it is being asked");
    assert_eq!(worker.give(Event::Suspected { incarnation: Incarnation(99) }), NOTHING, "nobody knows it");
    assert_eq!(worker.probed("n", 20, true), NOTHING);
}

#[test]
fn whom_gossip_has_lost_is_watched_beside_the_neighbours() {
    let mut worker = Scenario::beside(&[("n", 20), ("o", 21), ("p", 22), ("q", 23)]);
    assert_eq!(worker.gossip(&[(20, true), (21, true), (22, true)]), NOTHING);
    let said = worker.gossip(&[(22, true)]);
    let direct: Vec<&String> = said.iter().filter(|said| !said.contains(" via ")).collect();
    assert_eq!(direct, ["probe n 20", "probe o 21", "probe p 22", "probe q 23"], "p and q live");
    for (id, life) in [("n", 20), ("o", 21), ("p", 22), ("q", 23)] {
        for _ in 0..3 {
            worker.probed(id, life, true);
        }
    }
    assert_eq!(worker.gossip(&[(20, true), (21, true)]), NOTHING);
    assert_eq!(worker.wait(1000), ["probe n 20", "probe o 21"]);
}

/// In a cluster at rest nobody says anything new when the record of a member is read.
#[test]
fn who_was_heard_before_its_record_was_read_is_missed_all_the_same() {
    let mut worker = Scenario::beside(&[("n", 20), ("o", 21)]);
    worker.gossip(&[(20, true), (21, true), (22, true)]);
    worker.members.push(member("p", 22, Nonce(99)));
    worker.fold();
    let said = worker.gossip(&[(20, true)]);
    assert!(said.contains(&"probe p 22".to_owned()), "beside o, which is lost as well: {said:?}");
}

#[test]
fn who_has_no_lease_for_long_is_evicted_by_one_that_has() {
    let mut worker = Scenario::beside(&[("n", 20)]);
    let alive = |worker: &mut Scenario, seconds| {
        let mut said = Vec::new();
        for _ in 0..seconds {
            said.extend(worker.wait(1000).into_iter().filter(|said| !said.starts_with("probe")));
            worker.probed("n", 20, true);
        }
        said
    };
    worker.gossip(&[(20, false)]);
    // Without a lease of its own it does not count: Kafka may be away for all.
    worker.now += 60_000;
    worker.gossip(&[(20, false)]);
    worker.catch_up();
    assert_eq!(alive(&mut worker, 4), NOTHING);
    worker.gossip(&[(20, true)]);
    worker.gossip(&[(20, false)]);
    assert_eq!(alive(&mut worker, 4), NOTHING, "it had one meanwhile");
    assert_eq!(alive(&mut worker, 1), ["tombstone n 20"]);
}

#[test]
fn who_reaches_nobody_waits_for_the_others_to_act() {
    let ids = [("n", 20), ("o", 21)];
    let mut worker = Scenario::beside(&ids);
    worker.catch_up();
    let said = worker.wait(1000);
    assert_eq!(worker.fail_probes(said, &ids), NOTHING);
    let said = worker.wait(1000);
    assert_eq!(worker.fail_probes(said, &ids), ["tombstone n 20"]);
}

#[test]
fn who_reaches_one_is_not_cut_off_and_evicts_one_each_second() {
    let ids = [("n", 20), ("o", 21), ("p", 22)];
    let mut worker = Scenario::beside(&ids);
    worker.gossip(&[(20, true), (21, true), (22, true)]);
    worker.gossip(&[(22, true)]);
    let mut said = worker.probed("p", 22, true);
    said.extend(worker.give(Event::Tick));
    for _ in 0..2 {
        worker.probed("n", 20, false);
        worker.probed("o", 21, false);
        worker.wait(100);
    }
    worker.probed("n", 20, false);
    worker.probed("o", 21, false);
    // Of the others, those that gossip has lost are asked last.
    let about = |worker: &mut Scenario, id: &str, life, answer| {
        worker.give(Event::ProbeAnswered { worker: id.into(), incarnation: Incarnation(life), answer })
    };
    for (id, life) in [("n", 20), ("o", 21)] {
        about(&mut worker, id, life, ProbeAnswer::NotReached);
        about(&mut worker, id, life, ProbeAnswer::Silence);
    }
    let tombstones = |worker: &Scenario| worker.open.iter().filter(|(said, _)| said.starts_with("tombstone")).count();
    assert_eq!(tombstones(&worker), 1, "one a second: {:?}", worker.open);
    assert!(worker.open.iter().any(|(said, _)| said == "tombstone n 20"), "{:?}", worker.open);
    let said = worker.wait(1_000);
    assert!(said.contains(&"tombstone o 21".to_owned()), "{said:?}");
}

#[test]
fn an_evicted_worker_that_reaches_nobody_waits_for_an_answer() {
    let mut worker = Scenario::beside(&[("n", 20)]);
    worker.members.retain(|member| member.id == "n".into());
    worker.fold();
    let ids = [("n", 20)];
    let mut said = Vec::new();
    for _ in 0..10 {
        let more = worker.wait(1000);
        said.extend(worker.fail_probes(more, &ids));
    }
    assert_eq!(said, NOTHING);
    let probe = (0..8).find_map(|_| worker.wait(250).pop());
    assert_eq!(probe.as_deref(), Some("probe n 20"));
    assert_eq!(worker.probed("n", 20, true), ["join"]);
}
