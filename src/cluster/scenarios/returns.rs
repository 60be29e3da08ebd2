//! `scheduled.rebalance.max.delay.ms`: what waits for a worker that has vanished, and for how long.

use super::*;

/// A member beside one that holds a unit, and vanishes.
fn vanishes(return_delay_ms: u64) -> (Scenario, Vec<String>) {
    let mut worker = Scenario::with_delay(return_delay_ms).join();
    worker.members.push(member("other", 30, Nonce(99)));
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.config = 30;
    worker.fold();
    worker.read("connector-c", held(30, 1));
    worker.probed("other", 30, true);
    worker.members.retain(|member| member.id == "me".into());
    let said = worker.fold();
    (worker, said)
}

fn waits(worker: &Scenario) -> Option<String> {
    let page = Page { after: None, limit: 1 };
    worker.plane.report(Some(page), Millis(worker.now)).units[0].waiting.as_ref().map(ToString::to_string)
}

#[test]
fn by_default_nobody_waits() {
    let (_, said) = vanishes(0);
    assert_eq!(said, ["claim connector-c #1"]);
}

#[test]
fn what_a_worker_held_waits_for_its_return() {
    let (mut worker, said) = vanishes(60_000);
    assert_eq!(said, NOTHING);
    let waiting = waits(&worker).unwrap_or_default();
    assert!(waiting.starts_with("its last holder vanished, and may come back for another 60000 ms"), "{waiting}");
    assert_eq!(worker.wait(59_999), NOTHING);
    assert_eq!(worker.wait(1), ["claim connector-c #1"]);
}

#[test]
fn a_worker_that_joins_takes_it() {
    let (mut worker, _) = vanishes(60_000);
    worker.members.push(Member { settled: false, ..member("third", 40, Nonce(99)) });
    worker.config = 40;
    assert_eq!(worker.fold(), ["probe third 40"]);
    assert_eq!(waits(&worker).as_deref(), Some("not claimed yet by third"));
    let (mut worker, _) = vanishes(60_000);
    worker.members.push(Member { state: MemberState::Draining, ..member("third", 40, Nonce(99)) });
    worker.config = 40;
    worker.fold();
    assert!(waits(&worker).is_some_and(|waiting| waiting.starts_with("its last holder vanished")), "it takes nothing");
}

#[test]
fn a_worker_that_begins_does_not_wait() {
    let mut worker = Scenario::with_delay(60_000);
    worker.java(false);
    worker.wanted = vec![unit("connector-c", NO_SET)];
    worker.fold();
    worker.read("connector-c", held(3, 1));
    worker.catch_up();
    worker.ack("join");
    assert_eq!(worker.fold_own(LIFE), ["joined 7", "claim connector-c #1"]);
}
