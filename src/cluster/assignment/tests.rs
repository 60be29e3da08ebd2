mod plain;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::member::Nonce;
use super::*;

fn member(number: usize, settled: bool, state: MemberState) -> Member {
    let id = WorkerId::from(format!("connect-{number}.example:8083").as_str());
    Member {
        id,
        incarnation: Incarnation(1000 + number as i64),
        nonce: Nonce(0),
        state,
        settled,
        fence_ms: None,
        group_id: None,
    }
}

fn members(count: usize, settled: bool) -> Vec<Member> {
    (0..count).map(|number| member(number, settled, MemberState::Joined)).collect()
}

/// Units of connectors with so many tasks each, and who holds them.
#[derive(Debug, Clone, Default)]
struct Cluster {
    units: Vec<(String, Option<Arc<str>>, Option<Incarnation>)>,
}

impl Cluster {
    fn add(&mut self, connector: usize, tasks: usize) {
        let group: Arc<str> = format!("c{connector}").as_str().into();
        self.units.push((format!("connector-{group}"), None, None));
        let task = |task| (format!("task-{group}-{task}"), Some(group.clone()), None);
        self.units.extend((0..tasks).map(task));
    }

    fn of(connectors: usize, tasks: usize) -> Self {
        let mut cluster = Cluster::default();
        (0..connectors).for_each(|connector| cluster.add(connector, tasks));
        cluster
    }

    fn owners(&self, members: &[Member]) -> Vec<Option<Incarnation>> {
        let placeable = |(name, group, holder): &'_ (String, Option<Arc<str>>, Option<Incarnation>)| {
            (name.clone(), group.clone(), *holder)
        };
        let units: Vec<_> = self.units.iter().map(placeable).collect();
        let units: Vec<Placeable<'_>> = units
            .iter()
            .map(|(name, group, holder)| Placeable { name, group: group.as_ref(), holder: *holder })
            .collect();
        assign(members, &units, Rules::ALL).into_iter().map(|owner| owner.map(|owner| owner.life)).collect()
    }

    /// Hands everything over; how many units that had a holder among the members changed it.
    fn settle(&mut self, members: &[Member]) -> usize {
        let lives: BTreeSet<Incarnation> = members.iter().map(|member| member.incarnation).collect();
        let owners = self.owners(members);
        let mut moved = 0;
        for ((_, _, holder), owner) in self.units.iter_mut().zip(owners) {
            moved += usize::from(holder.is_some_and(|holder| lives.contains(&holder)) && *holder != owner);
            *holder = owner;
        }
        moved
    }

    fn loads(&self, members: &[Member]) -> Vec<usize> {
        let load = |member: &Member| self.units.iter().filter(|unit| unit.2 == Some(member.incarnation)).count();
        members.iter().map(load).collect()
    }
}

/// Workers of different versions have to agree on these.
#[test]
fn scores_are_frozen() {
    let seed = seed(&"connect-0.example:8083".into());
    assert_eq!(
        (seed, score("task-orders-0", seed), score("task-orders-0", 0)),
        (10205077493722466069, 16821845765258223382, 15801650369797473146)
    );
    let mut cluster = Cluster::of(4, 2);
    cluster.settle(&members(3, true));
    let owners: Vec<i64> = cluster.units.iter().map(|unit| unit.2.unwrap().0).collect();
    assert_eq!(owners, [1000, 1001, 1002, 1000, 1000, 1001, 1002, 1000, 1001, 1001, 1002, 1000]);
}

#[test]
fn nobody_owns_without_members_that_take_units() {
    let cluster = Cluster::of(2, 1);
    assert_eq!(cluster.owners(&[]), [None; 4]);
    assert_eq!(cluster.owners(&[member(0, true, MemberState::Draining)]), [None; 4]);
    assert_eq!(highest(&[], "task-c0-0"), None);
}

#[test]
fn tasks_of_one_connector_are_spread_first() {
    let members = members(4, true);
    let mut cluster = Cluster::of(20, 4);
    cluster.settle(&members);
    for connector in 0..20 {
        let group = format!("c{connector}");
        let holders: BTreeSet<_> =
            cluster.units.iter().filter(|unit| unit.1.as_deref() == Some(&group)).map(|unit| unit.2).collect();
        assert!(holders.len() >= 3, "{group} is on {holders:?}");
    }
}

#[test]
fn left_overs_go_to_one_that_takes_units() {
    let (one, other) = (member(0, true, MemberState::Draining), member(1, true, MemberState::Joined));
    assert_eq!(highest(&[one, other.clone()], "x"), Some(other.incarnation));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_balanced_and_a_fixed_point(count in 1usize..20, connectors in 0usize..60, tasks in 0usize..4, settled: bool) {
        let members = members(count, settled);
        let mut cluster = Cluster::of(connectors, tasks);
        cluster.settle(&members);
        let most = (11 * cluster.units.len()).div_ceil(10 * count);
        prop_assert!(cluster.loads(&members).into_iter().all(|load| load <= most));
        prop_assert_eq!(cluster.settle(&members), 0);
    }

    /// Holders that are members, that are over, or none; members that are settled, new or leaving; connectors of any width.
    #[test]
    fn it_equals_the_plain_one(
        states in prop::collection::vec(0u8..4, 0..9),
        tasks in prop::collection::vec(0usize..7, 0..20),
        holders in prop::collection::vec(0usize..12, 140),
        keep: bool,
        level: bool,
    ) {
        let state = |state: u8| if state == 0 { MemberState::Draining } else { MemberState::Joined };
        let members: Vec<Member> = (states.iter().enumerate())
            .map(|(number, chosen)| member(number, *chosen > 1, state(*chosen)))
            .rev()
            .collect();
        let mut cluster = Cluster::default();
        tasks.iter().enumerate().for_each(|(connector, tasks)| cluster.add(connector, *tasks));
        for ((_, _, holder), chosen) in cluster.units.iter_mut().zip(holders) {
            *holder = (chosen < 10).then_some(Incarnation(1000 + chosen as i64));
        }
        let units: Vec<Placeable<'_>> = (cluster.units.iter())
            .map(|(name, group, holder)| Placeable { name, group: group.as_ref(), holder: *holder })
            .collect();
        let rules = Rules { keep, level, ..Rules::ALL };
        prop_assert_eq!(assign(&members, &units, rules), plain::assign_plainly(&members, &units, rules));
    }

    #[test]
    fn an_addition_or_a_deletion_moves_nothing_else(count in 1usize..12, connectors in 1usize..40, tasks in 0usize..4, gone in 0usize..40) {
        let members = members(count, true);
        let mut cluster = Cluster::of(connectors, tasks);
        cluster.settle(&members);
        cluster.add(connectors, tasks);
        prop_assert_eq!(cluster.settle(&members), 0);
        let gone = format!("c{}", gone % connectors);
        cluster.units.retain(|unit| unit.1.as_deref() != Some(&gone) && unit.0 != format!("connector-{gone}"));
        prop_assert_eq!(cluster.settle(&members), 0);
    }

    #[test]
    fn a_lost_or_draining_member_moves_what_it_held(count in 2usize..12, connectors in 1usize..40, tasks in 0usize..4, lost in 0usize..12, drains: bool) {
        let mut members = members(count, true);
        let mut cluster = Cluster::of(connectors, tasks);
        cluster.settle(&members);
        let lost = lost % count;
        let held = cluster.loads(&members)[lost];
        let mut left = members.clone();
        left.remove(lost);
        if drains {
            members[lost].state = MemberState::Draining;
            prop_assert_eq!(cluster.settle(&members), held);
        } else {
            // The others keep all they had.
            prop_assert_eq!(cluster.settle(&left), 0);
        }
        prop_assert_eq!(cluster.loads(&left).into_iter().sum::<usize>(), cluster.units.len());
    }

    #[test]
    fn a_new_member_takes_its_share_and_no_more(count in 1usize..12, connectors in 1usize..60, tasks in 0usize..4) {
        let mut members = members(count, true);
        let mut cluster = Cluster::of(connectors, tasks);
        cluster.settle(&members);
        members.push(member(count, false, MemberState::Joined));
        let share = share(&members, cluster.units.len());
        prop_assert_eq!(cluster.settle(&members), share);
        prop_assert_eq!(cluster.loads(&members)[count], share);
        prop_assert_eq!(cluster.settle(&members), 0, "it has what it was to have");
    }

    /// What is taken from a member is free for a moment, and must not go elsewhere then.
    #[test]
    fn what_is_on_its_way_to_a_new_member_stays_on_its_way(count in 1usize..8, connectors in 1usize..30, tasks in 0usize..3, step in 0usize..100) {
        let mut members = members(count, true);
        let mut cluster = Cluster::of(connectors, tasks);
        cluster.settle(&members);
        members.push(member(count, false, MemberState::Joined));
        let planned = cluster.owners(&members);
        let moving: Vec<usize> = (0..planned.len()).filter(|unit| planned[*unit] != cluster.units[*unit].2).collect();
        for (at, unit) in moving.iter().enumerate() {
            // Some of them have arrived, some are free, some have not moved yet.
            match (at * 7 + step) % 3 {
                0 => cluster.units[*unit].2 = None,
                1 => cluster.units[*unit].2 = planned[*unit],
                _ => {}
            }
        }
        prop_assert_eq!(cluster.owners(&members), planned);
    }
}

/// `cargo test --release --lib -- --ignored --nocapture balance_and_moves_in_figures`
#[test]
#[ignore = "prints a table for the docs"]
fn balance_and_moves_in_figures() {
    println!(
        "| members | units | most, by the mean | moved by an addition | by a deletion | by a lost member, beside its own | by a new one, beside its share | ms |"
    );
    for count in [1, 2, 3, 5, 10, 50, 200] {
        for units in [1, 10, 100, 1_000, 10_000, 50_000] {
            let mut members = members(count, true);
            let mut cluster = Cluster::of(units / 2 + units % 2, 1);
            cluster.units.truncate(units);
            cluster.settle(&members);
            let mean = units as f64 / count as f64;
            let most = cluster.loads(&members).into_iter().max().unwrap_or(0) as f64 / mean;
            let mut more = cluster.clone();
            more.add(units, 1);
            let added = more.settle(&members);
            more.units.drain(..1);
            let deleted = more.settle(&members);
            let mut less = cluster.clone();
            let lost = if count > 1 { less.settle(&members[1..]) } else { 0 };
            members.push(member(count, false, MemberState::Joined));
            let begin = std::time::Instant::now();
            let taken = cluster.settle(&members) - share(&members, units);
            let ms = begin.elapsed().as_secs_f64() * 1e3;
            println!("| {count} | {units} | {most:.2} | {added} | {deleted} | {lost} | {taken} | {ms:.1} |");
        }
    }
}
