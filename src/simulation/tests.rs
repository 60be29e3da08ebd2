//! That the rules hold in many histories, and that each of them is needed: without it some history fails, and how.

use super::*;

/// Three workers and a dozen units: small enough for coincidences.
const SMALL: Setup = Setup::new(3, 12);

/// The same, where little but the change of task sets is disturbed.
const SQUEEZED: Setup = Setup { squeezed: true, ..SMALL };

/// Threads of a search: other tests run beside this one.
const THREADS: usize = 2;

fn check_all(first: u64, seeds: u64, setup: Setup, switches: Switches) -> Figures {
    // The thousands run beside each other.
    let (figures, result) = simulate_many(first, seeds, 1, setup, switches, |_| true);
    if let Err((seed, failure)) = result {
        panic!("{}\nseed {seed}: {failure}", tell(seed, setup, switches));
    }
    figures
}

/// Ten thousand, in ten tests, so that they share all cores. Of each thousand the last hundred are squeezed.
macro_rules! thousands {
    ($($name:ident: $first:literal,)*) => { $(
        #[test]
        fn $name() {
            let mut figures = check_all($first, 900, SMALL, Switches::ALL);
            figures.add(&check_all($first + 900, 100, SQUEEZED, Switches::ALL));
            println!("{figures}");
            assert!(figures.starts > 35_000 && figures.evictions > 2_000, "{figures}: the simulation does not do much");
            assert!(figures.waits > 100_000, "{figures}: not many units were seen to wait");
        }
    )* };
}

thousands! {
    a_thousand_histories_hold: 0,
    a_second_thousand_holds: 1_000,
    a_third_thousand_holds: 2_000,
    a_fourth_thousand_holds: 3_000,
    a_fifth_thousand_holds: 4_000,
    a_sixth_thousand_holds: 5_000,
    a_seventh_thousand_holds: 6_000,
    an_eighth_thousand_holds: 7_000,
    a_ninth_thousand_holds: 8_000,
    a_tenth_thousand_holds: 9_000,
}

#[test]
fn histories_of_more_workers_and_units_hold() {
    check_all(0, 40, Setup::new(6, 60), Switches::ALL);
    check_all(0, 100, Setup::new(1, 8), Switches::ALL);
    check_all(0, 200, Setup::new(2, 6), Switches::ALL);
}

#[test]
fn only_what_is_due_has_to_be_compared() {
    check_all(20_000, 300, SMALL, Switches { thorough: true, ..Switches::ALL });
}

#[test]
fn a_seed_is_a_history() {
    let history = tell(7, SMALL, Switches::ALL);
    assert_eq!(history, tell(7, SMALL, Switches::ALL));
    assert_ne!(history, tell(8, SMALL, Switches::ALL));
    assert!(history.contains("StartUnit") && history.contains("-- no more faults"), "{history}");
}

/// Taking a rule away must show within this many seeds, and as this; it may show otherwise before.
#[track_caller]
fn check_needed(seeds: u64, symptom: &str, without: impl Fn(&mut Switches)) {
    let mut switches = Switches::ALL;
    without(&mut switches);
    let shows = |failure: &Failure| failure.text.contains(symptom);
    match simulate_many(0, seeds, THREADS, SMALL, switches, shows).1 {
        Ok(()) => panic!("{seeds} seeds do not miss the rule"),
        Err((seed, failure)) => println!("seed {seed}: {failure}"),
    }
}

#[test]
fn without_the_lease_two_run() {
    check_needed(50, "two runners", |switches| switches.rules.lease = false);
}

#[test]
fn without_ageing_two_run() {
    check_needed(500, "two runners", |switches| switches.rules.age = false);
}

#[test]
fn without_reading_back_two_run() {
    check_needed(50, "two runners", |switches| switches.rules.read_back = false);
}

#[test]
fn without_waiting_for_the_release_living_holders_lose_units() {
    check_needed(50, "of a living holder", |switches| switches.rules.wait_release = false);
}

#[test]
fn without_waiting_for_the_fold_living_holders_lose_units() {
    check_needed(100, "of a living holder", |switches| switches.rules.causal = false);
}

#[test]
fn without_the_barrier_two_sets_run() {
    check_needed(50, "two sets", |switches| switches.rules.barrier = false);
}

#[test]
fn without_the_wait_of_the_barrier_two_sets_run() {
    check_needed(5_000, "two sets", |switches| switches.rules.barrier_age = false);
}

#[test]
fn without_releasing_own_claims_of_the_older_set_nothing_of_the_new_one_runs() {
    check_needed(50, "does not run", |switches| switches.rules.release_own = false);
}

#[test]
fn without_saying_a_release_again_nobody_runs_the_unit() {
    check_needed(500, "does not heal", |switches| switches.repeated_release = false);
}

#[test]
fn without_their_removal_left_overs_stay() {
    check_needed(50, "left-over", |switches| switches.rules.left_overs = false);
}

#[test]
fn without_keeping_units_that_nobody_touched_move() {
    check_needed(50, "which nobody touched", |switches| switches.rules.keep = false);
}

#[test]
fn without_levelling_a_new_member_never_gets_its_share() {
    check_needed(50, "is not a settled member", |switches| switches.rules.level = false);
}

#[test]
fn without_the_fence_of_the_transaction_accepted_writes_are_lost() {
    check_needed(500, "is lost", |switches| switches.transaction = false);
}

#[test]
fn without_the_check_of_the_owner_zombies_write_tasks() {
    check_needed(100, "tasks of a zombie", |switches| switches.owner_check = false);
}

#[test]
fn without_waiting_for_the_fold_two_sets_run() {
    check_needed(5_000, "two sets", |switches| switches.rules.causal = false);
}

#[test]
fn without_looking_again_at_a_claim_nothing_keeps_a_unit() {
    check_needed(50, "gives a wrong reason", |switches| switches.rules.reached_due = false);
}

/// Each of the reasons is met, and would be missed; and each is told from another one.
#[test]
fn without_a_reason_or_with_a_wrong_one_it_is_noticed() {
    let reasons = [
        "no member",
        "its last holder vanished",
        "held by",
        "not claimed yet",
        "an older claim",
        "an older run",
        "a write to its register is not",
        "a write to its register failed",
        "a better worker",
        "claim not read",
        "this worker has no lease",
        "contested",
        "this worker has not read",
        "barrier",
        "this worker leaves",
    ];
    for untold in reasons {
        for quiet in [true, false] {
            check_needed(1000, "gives a wrong reason", |switches| switches.untold = Some((untold, quiet)));
        }
    }
}
