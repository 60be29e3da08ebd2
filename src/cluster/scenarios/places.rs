//! How many units a worker claims.

use super::*;
use crate::cluster::assignment::highest;

/// Another worker takes one of its units at the same time, and a third one seems to find room here.
#[test]
fn claims_under_way_count_against_the_room_that_there_is() {
    let mut worker = Scenario::joined();
    worker.members.push(member("other", 30, Nonce(99)));
    let best = |name: &String| highest(&worker.members, name) == Some(Incarnation(LIFE));
    let names: Vec<String> = (0..).map(|number| format!("connector-{number}")).filter(best).take(3).collect();
    worker.wanted = names.iter().map(|name| unit(name, NO_SET)).collect();
    let said = worker.fold();
    let is_claimed = |name: &&String| said.iter().any(|said| said.starts_with(&format!("claim {name} #")));
    let claimed: Vec<&String> = names.iter().filter(is_claimed).collect();
    let [taken, kept] = claimed[..] else { panic!("two of three: {said:?}") };
    assert_eq!(worker.read(taken, held(30, 1)), NOTHING, "the own claims lie behind that one");
    for (number, name) in [(1, taken), (2, kept)] {
        worker.ack(&format!("claim {name} #{number}"));
        worker.read(name, held(LIFE, number));
    }
    assert_eq!(worker.plane.report(None, Millis(worker.now)).loads[&Incarnation(LIFE)], 2);
}
