//! What a control plane tells people, above all what a unit waits for.

use super::super::assignment::highest;
use super::super::control_plane::{Page, Report};
use super::*;

const ALL: Page<'_> = Page { after: None, limit: 100 };

fn report(worker: &Scenario) -> Report {
    worker.plane.report(Some(ALL), Millis(worker.now))
}

/// What a unit waits for; empty where it does not.
fn waiting(worker: &Scenario, name: &str) -> String {
    let units = report(worker).units;
    let unit = units.iter().find(|unit| &*unit.name == name).unwrap_or_else(|| panic!("no {name}: {units:?}"));
    unit.waiting.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_member_reports_its_lease_and_loads() {
    let mut worker = Scenario::running("connector-c", NO_SET);
    worker.now += 40;
    let before = report(&worker);
    assert_eq!((before.own, before.position), (Some(Incarnation(LIFE)), 9));
    // Asked for at the last quarter of the fence time.
    assert_eq!(before.lease_age_ms, Some(40));
    assert_eq!(before.loads.into_iter().collect::<Vec<_>>(), [(Incarnation(LIFE), 1)]);
    worker.now += 1000;
    worker.give(Event::Tick);
    assert_eq!(report(&worker).lease_age_ms, None);
    assert_eq!(waiting(&worker, "connector-c"), "this worker has no lease");
    assert_eq!(report(&Scenario::new()).own, None);
}

#[test]
fn units_come_in_pages() {
    let mut worker = Scenario::joined();
    worker.wanted = ["d", "a", "c", "b"].map(|name| unit(name, NO_SET)).into();
    worker.fold();
    let page = |after, limit| {
        let Report { units, more, .. } = worker.plane.report(Some(Page { after, limit }), Millis(worker.now));
        (units.iter().map(|unit| unit.name.to_string()).collect::<String>(), more)
    };
    assert_eq!(page(None, 3), ("abc".into(), true));
    assert_eq!(page(Some("c"), 3), ("d".into(), false));
    assert_eq!(page(Some("a"), 3), ("bcd".into(), false));
    assert_eq!(page(Some("bb"), 1), ("c".into(), true));
    assert_eq!(page(Some("d"), 3), (String::new(), false));
    assert_eq!(worker.plane.report(None, Millis(worker.now)).units, []);
}

#[test]
fn a_claim_waits_to_be_written_and_read() {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    assert_eq!(waiting(&worker, "connector-c"), "claim not read back");
    worker.fail("claim connector-c #1", true);
    worker.now += 100;
    assert_eq!(waiting(&worker, "connector-c"), "a write to its register failed, and is tried again in 400 ms");
    worker.wait(400);
    worker.ack("claim connector-c #2");
    assert_eq!(waiting(&worker, "connector-c"), "claim not read back");
    worker.read("connector-c", held(LIFE, 2));
    assert_eq!(waiting(&worker, "connector-c"), "");
    let unit = &report(&worker).units[0];
    assert_eq!((&unit.owner, &unit.holder), (&Some("me".into()), &Some((Incarnation(LIFE), Some("me".into())))));
}

#[test]
fn a_unit_waits_for_its_last_holder() {
    let mut worker = finds("connector-c", held(3, 1));
    let holder = |worker: &Scenario| report(worker).units[0].holder.clone();
    assert_eq!(holder(&worker), Some((Incarnation(3), None)), "that life is over");
    worker.ack("claim connector-c #1");
    worker.read("connector-c", held(LIFE, 1));
    worker.now += 100;
    let contested = "contested for another 1000 ms: its last holder may still run it";
    assert_eq!(waiting(&worker, "connector-c"), contested);

    let mut worker = Scenario::joined();
    worker.members.push(member("other", 30, Nonce(99)));
    worker.fold();
    worker.read("connector-c", held(30, 1));
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    assert_eq!(waiting(&worker, "connector-c"), "", "it is where it should be");
    assert_eq!(holder(&worker), Some((Incarnation(30), Some("other".into()))));
    worker.members[1].state = MemberState::Draining;
    worker.fold();
    assert_eq!(waiting(&worker, "connector-c"), "held by other, which has not released it");
    assert_eq!(report(&worker).units[0].owner, Some("me".into()));
}

#[test]
fn a_unit_waits_for_somebody_who_takes_it() {
    let mut worker = Scenario::joined();
    worker.members[0].state = MemberState::Draining;
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    assert_eq!(waiting(&worker, "connector-c"), "no member takes units");
    worker.members.push(member("other", 30, Nonce(99)));
    worker.fold();
    assert_eq!(waiting(&worker, "connector-c"), "not claimed yet by other");
}

#[test]
fn a_task_of_a_new_set_waits_for_the_barrier() {
    let mut worker = Scenario::running("task-c-0", 3);
    worker.wanted = vec![unit("task-c-0", 9), unit("task-c-1", 9)];
    worker.config = 9;
    worker.wait(1200);
    worker.fold();
    assert_eq!(waiting(&worker, "task-c-0"), "an older run on this worker has not ended yet");
    worker.ack("claim task-c-1 #2");
    worker.read("task-c-1", record(LIFE, 2, true, 9, 9));
    assert_eq!(waiting(&worker, "task-c-1"), "barrier: waits for task-c-0");
    worker.stopped("task-c-0", 1);
    assert_eq!(waiting(&worker, "task-c-0"), "an older claim of this worker is not released yet");
    worker.ack("release task-c-0 #1 at 9");
    worker.read("task-c-0", record(LIFE, 1, false, 9, 3));
    assert_eq!(waiting(&worker, "task-c-1"), "");
}

#[test]
fn a_claim_waits_for_the_fold_of_others_and_a_left_over_for_nothing() {
    let mut worker = Scenario::joined();
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    worker.ack("claim connector-c #1");
    worker.read("connector-d", record(3, 1, false, 12, NO_SET));
    assert_eq!(worker.read("connector-c", held(LIFE, 1)), NOTHING);
    assert_eq!(waiting(&worker, "connector-c"), "this worker has not read as much as one that wrote to a register");
    worker.wanted.clear();
    worker.fold();
    assert_eq!(waiting(&worker, "connector-c"), "");
    assert_eq!(report(&worker).units[0].owner, None);
}

#[test]
fn who_leaves_claims_nothing() {
    let mut worker = Scenario::joined();
    assert_eq!(worker.give(Event::Shutdown { deadline: Millis(9000) }), ["draining"]);
    worker.wanted = vec![unit("connector-c", NO_SET)];
    assert_eq!(worker.fold(), NOTHING);
    assert_eq!(report(&worker).units[0].owner, Some("me".into()), "what it wrote is not read yet");
    assert_eq!(waiting(&worker, "connector-c"), "this worker leaves, and no other one has it yet");
}

/// A member that owns a unit since the one with the higher score has no room, and the name of the unit.
fn second_choice() -> (Scenario, Arc<str>) {
    let mut worker = Scenario::joined();
    worker.members.push(member("other", 30, Nonce(99)));
    let members = worker.members.clone();
    let others = |name: &String| highest(&members, name) == Some(Incarnation(30));
    let names: Vec<_> = (0..).map(|number| format!("connector-{number}")).filter(others).take(3).collect();
    worker.wanted = names.iter().map(|name| unit(name, NO_SET)).collect();
    let said = worker.fold();
    assert!(said.iter().all(|said| !said.starts_with("claim")), "{said:?}");
    let units = report(&worker).units;
    let mine = units.iter().find(|unit| unit.owner == Some("me".into())).unwrap().name.clone();
    for name in names.iter().filter(|name| **name != *mine) {
        assert_eq!(worker.read(name, held(30, 1)), NOTHING);
    }
    (worker, mine)
}

/// How full a worker is, two that read at different times see differently.
#[test]
fn who_owns_a_unit_as_the_second_choice_claims_it_late() {
    for first_choice_claims in [true, false] {
        let (mut worker, mine) = second_choice();
        worker.now += 60;
        assert_eq!(waiting(&worker, &mine), "a better worker without room may claim it for another 40 ms");
        assert_eq!(worker.give(Event::Tick), NOTHING);
        if first_choice_claims {
            assert_eq!(worker.read(&mine, held(30, 2)), NOTHING);
        }
        worker.now += 40;
        let claim = format!("claim {mine} #1");
        let expected = if first_choice_claims { &[][..] } else { &[&*claim] };
        assert_eq!(worker.give(Event::Tick), expected);
    }
}

#[test]
fn the_second_choice_waits_for_nobody_when_the_first_is_gone() {
    let (mut worker, mine) = second_choice();
    worker.now += 60;
    worker.members.retain(|member| member.id == "me".into());
    let said = worker.fold();
    assert!(said.iter().any(|said| said.starts_with(&format!("claim {mine} "))), "{said:?}");
    assert_eq!(waiting(&worker, &mine), "claim not read back");
}

/// A claim is written by what its own register says: what others say keeps it from being used only.
#[test]
fn a_unit_that_is_not_claimed_does_not_wait_for_the_fold_of_others() {
    let (mut worker, mine) = second_choice();
    worker.read("connector-x", record(3, 1, false, 12, NO_SET));
    assert_eq!(waiting(&worker, &mine), "a better worker without room may claim it for another 100 ms");
    worker.read(&mine, record(3, 1, false, 12, NO_SET));
    worker.now += 100;
    assert_eq!(worker.give(Event::Tick), NOTHING);
    assert_eq!(waiting(&worker, &mine), "this worker has not read as much as one that wrote to a register");
}
